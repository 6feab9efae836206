"""What values an integer of a graph may have, as far as its operations say: what the translation may leave out follows from it.

Positions, heads and batch entries are 0 .. POSITION_END - 1 whatever the batch, so that one text serves all lengths.
"""

from .graph import BOOL, POSITION_END

UNKNOWN = (None, None)  # None: no bound


def bounds_of(node, known=None):
    """(lowest, highest), each an int or None. `known` keeps what was found, by node."""
    known = {} if known is None else known
    if id(node) not in known:
        known[id(node)] = _bounds(node, known)
    return known[id(node)]


def never_negative(node, known=None):
    lowest = bounds_of(node, known)[0]
    return lowest is not None and lowest >= 0


def _bounds(node, known):
    if node.op in ("request", "head", "q", "kv"):
        return (0, POSITION_END - 1)
    if node.op == "constant" and node.kind != BOOL and float(node.value).is_integer():
        return (int(node.value), int(node.value))
    if node.op == "extent":
        return (1, POSITION_END)
    handler = HANDLERS.get(node.op)
    return handler(node, [bounds_of(a, known) for a in node.args]) if handler else UNKNOWN


def _sum(a, b):
    return None if a is None or b is None else a + b


def _minus(a):
    return None if a is None else -a


def _product(node, args):
    (a, b), (c, d) = args
    if a is not None and c is not None and a >= 0 and c >= 0:
        return (a * c, None if b is None or d is None else b * d)
    if None in (a, b, c, d):
        return UNKNOWN
    corners = [a * c, a * d, b * c, b * d]
    return (min(corners), max(corners))


def _floor_div(node, args):
    (a, b), (c, d) = args
    if c is None or c != d or c < 1:
        return (0, b) if a is not None and a >= 0 and c is not None and c >= 1 else UNKNOWN
    return (None if a is None else a // c, None if b is None else b // c)


def _floor_mod(node, args):
    (a, b), (c, d) = args
    return (0, None if d is None else d - 1) if c is not None and c >= 1 else UNKNOWN


def _abs(node, args):
    a, b = args[0]
    if a is not None and a >= 0:
        return (a, b)
    return (0, None if a is None or b is None else max(-a, b))


def _lowest(values):
    return None if None in values else min(values)


def _highest(values):
    return None if None in values else max(values)


def _min(node, args):
    (a, b), (c, d) = args
    highs = [x for x in (b, d) if x is not None]
    return (_lowest([a, c]), min(highs) if highs else None)


def _max(node, args):
    (a, b), (c, d) = args
    lows = [x for x in (a, c) if x is not None]
    return (max(lows) if lows else None, _highest([b, d]))


HANDLERS = {
    "add": lambda node, args: (_sum(args[0][0], args[1][0]), _sum(args[0][1], args[1][1])),
    "sub": lambda node, args: (_sum(args[0][0], _minus(args[1][1])), _sum(args[0][1], _minus(args[1][0]))),
    "neg": lambda node, args: (_minus(args[0][1]), _minus(args[0][0])),
    "mul": _product,
    "floor_div": _floor_div,
    "floor_mod": _floor_mod,
    "abs": _abs,
    "min": _min,
    "max": _max,
    "select": lambda node, args: (_lowest([args[1][0], args[2][0]]), _highest([args[1][1], args[2][1]])),
}
