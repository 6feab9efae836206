"""Names for what a function captured: the caller's own words make a variant's text readable."""

import functools
import re

# Words that a variant's text or a call of Plan.run uses itself, and words of C++ that are also good names of tensors.
TAKEN = {
    "at", "kept", "tiles", "self", "q", "kv", "out", "lse", "sm_scale", "q_scale", "states", "lse_base2", "lse_with_extra", "mask_group", "stream", "keep", "range", "fields", "m", "p", "logit", "abs", "and", "auto", "bool", "break", "case", "char", "class", "const", "continue", "default",
    "delete", "do", "double", "else", "enum", "explicit", "extern", "false", "float", "for", "friend", "goto", "if", "inline", "int", "long", "mask",
    "math", "new", "not", "operator", "or", "private", "protected", "public", "register", "return", "select", "short", "signed", "sizeof", "static",
    "struct", "switch", "template", "this", "throw", "true", "try", "typedef", "typename", "union", "unsigned", "using", "virtual", "void", "volatile",
    "while", "xor", "concept", "requires", "export", "typeid", "catch", "namespace", "mutable", "nullptr", "noexcept", "alignas", "alignof", "asm",
}  # fmt: skip


def snake_case(text):
    """Letters, digits and single underscores, a letter first: what a variant or a field may be called."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()
    text = re.sub(r"[^a-z0-9]+", "_", text).strip("_")
    return re.sub(r"^(?=[0-9])", "t", text)


def name_of_tensor(function, tensor, used):
    """What the function calls the tensor, else table; another one of that name gets a number."""
    found = _search(function, tensor, depth=4)
    name = snake_case(found or "table") or "table"
    if name in TAKEN or re.fullmatch(r"[tnx][0-9]+|opaque[0-9]+", name):
        name += "_table"
    numbered, count = name, 2
    while numbered in used:
        numbered, count = f"{name}_{count}", count + 1
    return numbered


def _search(function, tensor, depth):
    """The variable that holds the tensor in the function's closure, defaults or globals, or in those of functions that it closes over."""
    if depth == 0:
        return None
    if isinstance(function, functools.partial):
        return next((k for k, v in function.keywords.items() if v is tensor), None) or _search(function.func, tensor, depth - 1)
    code = getattr(function, "__code__", None)
    if code is None:
        attributes = getattr(function, "__dict__", {})
        return next((k for k, v in attributes.items() if v is tensor), None)
    held = {}
    for name, cell in zip(code.co_freevars, function.__closure__ or ()):
        try:
            held[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    held.update({n: function.__globals__[n] for n in code.co_names if n in function.__globals__})
    for name, value in held.items():
        if value is tensor:
            return name
    inner = [v for v in held.values() if callable(v) and hasattr(v, "__code__")]
    inner += [f for v in held.values() if isinstance(v, (tuple, list)) for f in v if hasattr(f, "__code__")]
    return next((name for f in inner if (name := _search(f, tensor, depth - 1))), None)
