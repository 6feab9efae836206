"""The closed form of a mask: the KvRange that planners count tiles by, read off the comparisons of its expression.

KvRange (portable/kv_range.h): position p may see k only if k <= p + right and (k >= p - left or k < num_sink) and, with a chunk, k / chunk == p / chunk.
What is found holds for all values of the mask's parameters, so bounds are expressions of constants, compared with each other only in the text.
"""

from dataclasses import dataclass

from .graph import INT


class Linear:
    """q * q_idx + kv * kv_idx + sum of constants, each a node times a factor, + number."""

    def __init__(self, q=0, kv=0, constants=(), number=0):
        self.q, self.kv, self.number = q, kv, number
        self.constants = tuple(sorted(((n, f) for n, f in constants if f != 0), key=lambda c: id(c[0])))

    def plus(self, other, factor=1):
        sums = dict(self.constants)
        for node, f in other.constants:
            sums[node] = sums.get(node, 0) + factor * f
        return Linear(self.q + factor * other.q, self.kv + factor * other.kv, sums.items(), self.number + factor * other.number)

    def scaled(self, factor):
        return Linear().plus(self, factor)

    def rest(self):
        return Linear(0, 0, self.constants, self.number)

    def key(self):
        return (self.q, self.kv, tuple((id(n), f) for n, f in self.constants), self.number)


def linear_of(node):
    """None where the node isn't linear."""
    if node.kind != INT:
        return None
    if node.op in ("q", "kv"):
        return Linear(**{node.op: 1})
    if node.op == "constant":
        return Linear(constants=[(node, 1)])
    parts = [linear_of(a) for a in node.args] if node.op in ("add", "sub", "neg", "mul") else [None]
    if any(p is None for p in parts):
        return None
    if node.op == "neg":
        return parts[0].scaled(-1)
    if node.op != "mul":
        return parts[0].plus(parts[1], 1 if node.op == "add" else -1)
    for factor, other in (node.args, node.args[::-1]):  # by a number alone: it becomes part of the text
        if factor.op == "constant" and factor.value in (-1, 0, 1):
            return linear_of(other).scaled(factor.value)
    return None


@dataclass(frozen=True)
class Range:
    """None: unbounded. `left` of NOTHING: no key but the sinks. Bounds are Linear, or ("min" | "max", bound, bound)."""

    left: object = None
    right: object = None
    sink: object = None
    chunk: object = None  # a number
    exact: bool = False


NOTHING = "nothing"
EVERYTHING = Range(exact=True)
SUPERSET = Range()  # of a condition that KvRange can't say


def key_of(bound):
    if isinstance(bound, Linear):
        return bound.key()
    return (bound[0], key_of(bound[1]), key_of(bound[2])) if isinstance(bound, tuple) else bound


def same(a, b):
    return key_of(a) == key_of(b)


def _lower(a, b):
    """The lower of two bounds, None: unbounded."""
    if a is None or b is None:
        return b if a is None else a
    return a if same(a, b) else ("min", a, b)


def _higher(a, b):
    if a is None or b is None:
        return None
    return a if same(a, b) else ("max", a, b)


def intersection(a, b):
    left, sink, left_exact = _both_lefts(a, b)
    chunks_differ = a.chunk is not None and b.chunk is not None and a.chunk != b.chunk
    chunk = a.chunk if a.chunk is not None else b.chunk
    return Range(left, _lower(a.right, b.right), sink, chunk, a.exact and b.exact and left_exact and not chunks_differ)


def _both_lefts(a, b):
    if a.left is None or b.left is None:
        bounded = b if a.left is None else a
        return bounded.left, bounded.sink, True
    if a.sink is None and b.sink is None:
        return _lower(a.left, b.left), None, True
    if NOTHING in (a.left, b.left):
        alone = a if a.left is NOTHING else b
        other = b if alone is a else a
        if other.left is NOTHING:
            return NOTHING, _lower(a.sink, b.sink), True
        return NOTHING, alone.sink, False  # keys before the sink's end alone, of which the other keeps some
    # Each side's sinks reach past the other's window: one side as a whole holds the intersection.
    return a.left, a.sink, same(a.left, b.left) and same(a.sink, b.sink)


def union(a, b):
    alike = same(a.right, b.right) and a.chunk == b.chunk
    right = a.right if same(a.right, b.right) else _higher(a.right, b.right)
    if a.left is None or b.left is None:
        left, sink = None, None
    elif NOTHING in (a.left, b.left):
        left = b.left if a.left is NOTHING else a.left
        sink = _of_those_given(a.sink, b.sink)
    else:
        left, sink = _higher(a.left, b.left), _of_those_given(a.sink, b.sink)
    return Range(left, right, sink, a.chunk if a.chunk == b.chunk else None, a.exact and b.exact and alike)


def _of_those_given(a, b):
    if a is None or b is None:
        return b if a is None else a
    return _higher(a, b)


def range_of(node, kept=True):
    """Of the pairs where the node is true, or where it is false."""
    if node.op == "not":
        return range_of(node.args[0], not kept)
    if node.op in ("and", "or"):
        join = intersection if (node.op == "and") == kept else union
        return join(range_of(node.args[0], kept), range_of(node.args[1], kept))
    if node.op == "constant":
        return EVERYTHING if node.value == kept else SUPERSET
    if node.op in ("lt", "le"):
        a, b = node.args
        return _of_less(a, b, node.op == "lt") if kept else _of_less(b, a, node.op == "le")
    if node.op in ("eq", "ne") and (node.op == "eq") == kept:
        return _of_equal(*node.args)
    return SUPERSET


def _of_less(a, b, strict):
    """a < b, or a <= b."""
    if a.op == "abs" and a.kind == INT:
        return _of_both_signs(a.args[0], b, strict)
    if a.op == "max" and a.kind == INT:
        return intersection(_of_less(a.args[0], b, strict), _of_less(a.args[1], b, strict))
    if b.op == "min" and b.kind == INT:
        return intersection(_of_less(a, b.args[0], strict), _of_less(a, b.args[1], strict))
    return _of_linear(_difference(a, b, strict))


def _of_both_signs(inside, b, strict):
    x, y = linear_of(inside), linear_of(b)
    if x is None or y is None:
        return SUPERSET
    one = Linear(number=1 if strict else 0)
    return intersection(_of_linear(x.plus(y, -1).plus(one)), _of_linear(x.scaled(-1).plus(y, -1).plus(one)))


def _difference(a, b, strict):
    x, y = linear_of(a), linear_of(b)
    return None if x is None or y is None else x.plus(y, -1).plus(Linear(number=1 if strict else 0))


def _of_linear(x):
    """x <= 0."""
    if x is None:
        return SUPERSET
    if (x.q, x.kv) == (-1, 1):
        return Range(right=x.rest().scaled(-1), exact=True)
    if (x.q, x.kv) == (1, -1):
        return Range(left=x.rest().scaled(-1), exact=True)
    if (x.q, x.kv) == (0, 1):
        return Range(left=NOTHING, sink=x.rest().scaled(-1).plus(Linear(number=1)), exact=True)
    return SUPERSET


def _of_equal(a, b):
    if a.op == b.op == "floor_div" and a.args[1].op == b.args[1].op == "constant":
        if a.args[1].value == b.args[1].value >= 1 and {a.args[0].op, b.args[0].op} == {"q", "kv"}:
            return Range(chunk=a.args[1].value, exact=True)
    x = _difference(a, b, False)
    if x is None or (x.q, x.kv) not in ((-1, 1), (1, -1)):
        return SUPERSET
    return intersection(_of_linear(x), _of_linear(x.scaled(-1)))


__all__ = ["EVERYTHING", "NOTHING", "Linear", "Range", "range_of"]
