"""From what a function wrote to what a variant can say: logits of -infinity become the mask, lookups tables of one or two axes, and numbers fit 32 bits."""

import math

from .bounds import never_negative
from .graph import BOOL, FLOAT, INT, POSITION_END, CannotTrace, contains


def without_masked_logits(graph, score):
    """(truth or None, score): where a score_mod says -infinity of pairs that indices alone decide, it is a mask, by which tiles are skipped."""
    if score.op == "select":
        condition, a, b = score.args
        if not contains(condition, "score"):
            for masked, kept, when in ((b, a, condition), (a, b, graph.negated(condition))):
                if masked.is_constant(-math.inf):
                    inner, rest = without_masked_logits(graph, kept)
                    return when if inner is None else graph.both(when, inner), rest
    if score.op in ("add", "sub"):
        a, b = score.args
        keep_a, rest_a = without_masked_logits(graph, a)
        keep_b, rest_b = without_masked_logits(graph, b) if score.op == "add" else (None, b)
        kept = [k for k in (keep_a, keep_b) if k is not None]
        if kept:
            rest = rest_a if rest_b.is_constant(0.0) else rest_b if rest_a.is_constant(0.0) and score.op == "add" else None
            if rest is None:
                rest = graph.arithmetic(score.op, rest_a, rest_b)
            return kept[0] if len(kept) == 1 else graph.both(*kept), rest
    return None, score


# Users of an integer that may be as far away as it likes: positions end before POSITION_END, so a bound beyond that means the same there.
COMPARING = {"lt", "le", "eq", "ne", "add", "sub", "neg", "min", "max", "select"}


def lowered(graph, root):
    done = {}

    def lower(node):
        if id(node) not in done:
            done[id(node)] = _rebuilt(graph, node, [lower(a) for a in node.args])
        return done[id(node)]

    return lower(root)


def _rebuilt(graph, node, args):
    if node.op in ("lookup", "table"):
        return _table(graph, node, args) if node.op == "lookup" else node
    args = [_near(graph, node, a) for a in args]
    if node.kind == FLOAT and node.op == "constant" and abs(node.value) > 3.4028234663852886e38 and math.isfinite(node.value):
        return graph.constant(math.copysign(math.inf, node.value))  # as a float reads it
    return graph.node(node.op, *args, kind=node.kind, value=node.value) if node.args else node


def _near(graph, user, node):
    """An integer constant that 32 bits and positions can be added to."""
    if node.op != "constant" or node.kind != INT or abs(node.value) <= POSITION_END:
        return node
    if user.op in COMPARING:
        return graph.constant(POSITION_END if node.value > 0 else -POSITION_END)
    raise CannotTrace(f"flex: {user.op} with {node.value}; integers have 32 bits here and positions 30")


def _table(graph, node, indices):
    """Python's negative indices count from the end; leading axes become one row. What lies outside is clamped when it is read."""
    captured = node.value
    shape = captured.shape

    def extent(axis):
        last = axis == len(shape) - 1
        return graph.extent(captured, axis) if len(shape) <= 2 or last else graph.constant(shape[axis])

    wrapped = []
    for axis, index in enumerate(indices):
        if not never_negative(index):
            index = graph.select(graph.compare("lt", index, graph.constant(0)), graph.arithmetic("add", index, extent(axis)), index)
        wrapped.append(index)
    row = None
    for axis, index in enumerate(wrapped[:-1]):
        row = index if row is None else graph.arithmetic("add", graph.arithmetic("mul", row, extent(axis)), index)
    return graph.node("table", *([] if row is None else [row]), wrapped[-1], kind=node.kind, value=captured)


__all__ = ["BOOL", "lowered", "without_masked_logits"]
