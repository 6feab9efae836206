"""Masks as flex_attention takes them: a mask_mod with the lengths it is for, PyTorch's BlockMask, and what joins mask_mods."""

from __future__ import annotations

import weakref
from typing import Any, Callable

from .tracer import torch_if_loaded


class Mask:
    """A mask_mod, and the lengths it was made for where it is for no other. What create_block_mask returns."""

    def __init__(self, mask_mod, seq_lengths=None):
        if not callable(mask_mod):
            raise TypeError(f"create_block_mask: mask_mod is {type(mask_mod).__name__}; it must be a function (b, h, q_idx, kv_idx) -> bool")
        self.mask_mod, self.seq_lengths = mask_mod, seq_lengths

    def __repr__(self):
        return f"Mask({getattr(self.mask_mod, '__name__', self.mask_mod)}, seq_lengths={self.seq_lengths})"


def create_block_mask(mask_mod: Callable[..., Any], B: int | None = None, H: int | None = None, Q_LEN: int | None = None, KV_LEN: int | None = None,
                      device: Any = None) -> Mask:
    """A mask from mask_mod(b, h, q_idx, kv_idx), by PyTorch's name for it. Nothing is computed: which tiles there are follows from the function.

    Q_LEN, KV_LEN: where given, flex_attention refuses other lengths, as PyTorch does. B, H and device say nothing that is needed.
    """
    if (Q_LEN is None) != (KV_LEN is None):
        raise ValueError(f"create_block_mask: Q_LEN is {Q_LEN} and KV_LEN {KV_LEN}; give both, or neither")
    return Mask(mask_mod, None if Q_LEN is None else (Q_LEN, KV_LEN))


def and_masks(*mask_mods):
    """The mask_mod that is true where all of them are."""
    return _joined("and_mask", lambda a, b: a & b, mask_mods)


def or_masks(*mask_mods):
    """The mask_mod that is true where one of them is."""
    return _joined("or_mask", lambda a, b: a | b, mask_mods)


def _joined(name, join, mask_mods):
    if not mask_mods or not all(callable(m) for m in mask_mods):
        raise ValueError(f"{name}s: got {mask_mods!r}; give functions (b, h, q_idx, kv_idx) -> bool, one at least")

    def joined(b, h, q_idx, kv_idx):
        result = mask_mods[0](b, h, q_idx, kv_idx)
        for mask_mod in mask_mods[1:]:
            result = join(result, mask_mod(b, h, q_idx, kv_idx))
        return result

    joined.__name__ = name
    return joined


def mask_mod_of(block_mask, q_len, kv_len):
    """The function of what was given as block_mask: None, a Mask, a BlockMask of PyTorch, or the function itself. Checks its lengths."""
    if block_mask is None or isinstance(block_mask, Mask):
        lengths = None if block_mask is None else block_mask.seq_lengths
        mask_mod = None if block_mask is None else block_mask.mask_mod
    elif hasattr(block_mask, "mask_mod"):
        lengths = None if min(block_mask.BLOCK_SIZE) >= 1 << 30 else tuple(block_mask.seq_lengths)
        mask_mod = _of_blocks(block_mask) if _is_noop(block_mask.mask_mod) else block_mask.mask_mod
    elif callable(block_mask):
        return block_mask
    else:
        raise TypeError(f"flex_attention: block_mask is {type(block_mask).__name__}; it must be a BlockMask, a Mask of create_block_mask, or a mask_mod")
    if lengths is not None and lengths != (q_len, kv_len):
        raise ValueError(
            f"flex_attention: block_mask was made for lengths {lengths} and is used with {(q_len, kv_len)}; make one for these, or pass the mask_mod itself"
        )
    return mask_mod


def _is_noop(mask_mod):
    torch = torch_if_loaded()
    return mask_mod is torch.nn.attention.flex_attention.noop_mask


_of_block_masks = weakref.WeakKeyDictionary()  # BlockMask -> mask_mod or None


def _of_blocks(block_mask):
    """A BlockMask without a mask_mod is the blocks it lists. Waits for the device, once for each."""
    if block_mask not in _of_block_masks:
        present = block_mask.to_dense()
        if present.dim() != 4:
            raise NotImplementedError(f"flex_attention: block_mask has {present.dim()} axes; it must have 4: batch, heads, blocks of queries and of keys")
        rows, columns = block_mask.BLOCK_SIZE
        whole = min(rows, columns) >= 1 << 30 or bool(present.all())
        _of_block_masks[block_mask] = None if whole else _lookup(present.int(), rows, columns)
    return _of_block_masks[block_mask]


def _lookup(present, rows, columns):
    of_batch, of_heads = present.shape[0] > 1, present.shape[1] > 1

    def listed_blocks(b, h, q_idx, kv_idx):
        return present[b if of_batch else b * 0, h if of_heads else h * 0, q_idx // rows, kv_idx // columns] != 0

    return listed_blocks
