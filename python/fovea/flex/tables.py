"""Captured tensors as a variant's fields take them: float or int32, rows of entries next to each other. Most are passed as they are."""

import weakref

from .graph import FLOAT
from .tracer import torch_if_loaded

_converted = {}  # (id of the tensor, kind) -> [weak reference to it, its version, the table]


def table_of(captured, device):
    """The tensor that a field is given. A copy is kept while the caller's tensor lives, and renewed in place when that was written to."""
    torch = torch_if_loaded()
    tensor = captured.tensor
    if tensor.device != device:
        raise ValueError(f"flex_attention: the captured tensor {captured.name} is on {tensor.device} and query on {device}; they must be on one device")
    if tensor.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            f"flex_attention: the captured tensor {captured.name} requires grad; fovea computes no gradients: call it under torch.no_grad(), or detach()"
        )
    dtype = torch.float32 if captured.kind == FLOAT else torch.int32
    if tensor.dtype == dtype and tensor.stride(-1) == 1 and not tensor.is_neg():
        flat = tensor.detach() if tensor.dim() <= 2 else _of_two_axes(tensor.detach())
        if flat is not None:
            return flat
    return _copy(tensor, dtype)


def _of_two_axes(tensor):
    """A view whose rows are all leading axes, or None."""
    try:
        return tensor.view(-1, tensor.shape[-1])
    except RuntimeError:
        return None


def version_of(tensor):
    """Counts writes to a tensor; None where nobody counts them (inference tensors)."""
    return None if tensor.is_inference() else tensor._version


def _copy(tensor, dtype):
    key = (id(tensor), dtype)
    known = _converted.get(key)
    version = version_of(tensor)
    if known is not None and known[0]() is tensor:
        if version is None or known[1] != version:
            known[2].copy_(_rows(tensor.detach()))
            known[1] = version
        return known[2]
    table = _rows(tensor.detach()).to(dtype).contiguous().clone()
    _converted[key] = [weakref.ref(tensor, lambda _: _converted.pop(key, None)), version, table]
    return table


def _rows(tensor):
    tensor = tensor.resolve_neg()
    return tensor if tensor.dim() <= 2 else tensor.reshape(-1, tensor.shape[-1])


def values_of(pairs, device):
    """Fields and what they are given, as Attention.plan and Plan.run take them."""
    return {name: table_of(value, device) if hasattr(value, "tensor") else value for name, value in pairs}
