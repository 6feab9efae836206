"""What a function's result depends on besides its arguments, as a key: while it is the same, tracing again would find the same.

A function has a key when all that it reads is numbers, tensors, other such functions and PyTorch itself. Others (attributes of objects, of classes, of
modules) are traced anew with every call. Tensors count by their memory: what they hold is read by kernels; a tensor of one number on the CPU, which becomes a
constant, counts by that number.
"""

import functools
import math
import operator
import types

from .tracer import is_tensor, memory_of, torch_if_loaded

PLAIN = (int, float, bool, str, type(None), complex, bytes, type(Ellipsis))


def key_of_function(function):
    """(key, tensors that it names), or None."""
    tensors = []
    key = _key(function, tensors, 6)
    return None if key is None else (key, tensors)


def _key(value, tensors, depth):
    if depth == 0:
        return None
    kind = type(value)
    if kind in PLAIN:
        return (kind, value)
    if kind is types.FunctionType:
        return _function(value, tensors, depth)
    if is_tensor(value):
        if value.requires_grad and value.numel() == 1:
            return None  # a number, which is refused while gradients are asked for
        tensors.append(value)
        return (memory_of(value), value.item() if value.numel() == 1 and value.device.type == "cpu" else value.device)
    if kind is types.ModuleType:
        return (id(value),) if value in (math, operator, torch_if_loaded()) or _of_torch(value.__name__) else None
    if kind in (tuple, list) or _of_torch(kind.__module__) and isinstance(value, tuple):  # torch.Size
        return _all(value, tensors, depth)
    if kind is type:
        return (value,) if value.__module__ == "builtins" or _of_torch(value.__module__) else None  # a caller's class has attributes that change
    if kind is types.BuiltinFunctionType:
        return (value,) if isinstance(value.__self__, (types.ModuleType, type, type(None))) else None  # torch.where; not a method of an object
    if _of_torch(kind.__module__):
        return (kind, value)  # a dtype, a device
    if kind is functools.partial:
        return _all((value.func, value.args, tuple(value.keywords.items())), tensors, depth)
    return None


def _of_torch(module):
    return isinstance(module, str) and (module == "torch" or module.startswith(("torch.nn.functional", "torch.special")))


def _all(values, tensors, depth):
    keys = []
    for value in values:
        key = _key(value, tensors, depth - 1)
        if key is None:
            return None
        keys.append(key)
    return tuple(keys)


@functools.lru_cache(maxsize=512)
def _global_names(code):
    """Names that the code, or a function inside it, may read from its module."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return tuple(dict.fromkeys([*code.co_names, *(n for c in inner for n in _global_names(c))]))


def _function(function, tensors, depth):
    code, known = function.__code__, function.__globals__
    held = [c.cell_contents for c in function.__closure__ or () if not _empty(c)]
    held += [known[n] for n in _global_names(code) if n in known]
    held += function.__defaults__ or ()
    held += (function.__kwdefaults__ or {}).values()
    inner = None if function.__dict__ else _all(held, tensors, depth)  # its attributes may be read, and change
    return None if inner is None else (code, inner)


def _empty(cell):
    try:
        return cell.cell_contents is None and False
    except ValueError:
        return True
