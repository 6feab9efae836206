"""Which of the library's own variants a traced one is: those are compiled already, for CPUs and in cubins, so that standard masks compile nothing."""

from dataclasses import dataclass, field

from .graph import Captured
from .ranges import NOTHING, Linear, key_of, range_of

# Variants and compositions that the library brings compiled (variants/compositions.txt).
COMPILED = {
    "full", "causal", "sliding_window", "chunked_local", "prefix_lm", "soft_cap", "alibi", "causal+soft_cap", "sliding_window+soft_cap", "causal+alibi",
}  # fmt: skip


@dataclass
class Builtin:
    name: str
    mask: list = field(default_factory=list)
    params: list = field(default_factory=list)


def builtin_of(keep, score):
    """The built-in variant that is the same as these nodes (None: no mask, the score as it is), or None."""
    mask, logits = _mask(keep), _logits(score)
    if mask is None or logits is None:
        return None
    parts = [name for name in (mask[0], logits[0]) if name != "full"] or ["full"]
    name = "+".join(parts)
    return Builtin(name, mask[1], logits[1]) if name in COMPILED else None


def _mask(keep):
    if keep is None:
        return "full", []
    if keep.op == "or":
        return _prefix_lm(*keep.args) or _prefix_lm(*keep.args[::-1])
    found = range_of(keep)
    if not found.exact or found.right is None or key_of(found.right) != Linear().key():
        return None
    if found.chunk is not None:
        return ("chunked_local", [("chunk_size", found.chunk)]) if found.left is None else None
    if found.left is None:
        return "causal", []
    left, sink = _number(found.left), 0 if found.sink is None else _number(found.sink)
    if left is None or not 0 <= left < 1 << 30 or not 0 <= sink < 1 << 30:
        return None
    return "sliding_window", [("window_left", left), ("num_sink_tokens", sink)]


def _number(bound):
    """What a bound is, with the numbers that the function was traced with."""
    if bound is NOTHING:
        return None
    if isinstance(bound, tuple):
        numbers = [_number(b) for b in bound[1:]]
        return {"min": min, "max": max}[bound[0]](numbers)
    return bound.number + sum(factor * node.value for node, factor in bound.constants)


def _prefix_lm(causal, prefix):
    """kv <= q or kv < prefix_len[request]."""
    if causal.op != "le" or [a.op for a in causal.args] != ["kv", "q"] or prefix.op != "lt" or prefix.args[0].op != "kv":
        return None
    table = prefix.args[1]
    if table.op != "lookup" or len(table.args) != 1 or table.args[0].op != "request":
        return None
    return "prefix_lm", [("prefix_len", table.value)]


def _logits(score):
    if score is None:
        return "full", []
    return _soft_cap(score) or _alibi(score)


def _soft_cap(score):
    """cap * tanh(score / cap), in either order."""
    if score.op != "mul":
        return None
    for cap, inside in (score.args, score.args[::-1]):
        if cap.op == "constant" and cap.value > 0 and inside.op == "tanh" and inside.args[0].op == "div":
            logit, divisor = inside.args[0].args
            if logit.op == "score" and divisor.is_constant(cap.value):
                return "soft_cap", [("cap", cap.value)]
    return None


def _alibi(score):
    """score + slopes[head] * (kv - q), in any order."""
    if score.op != "add":
        return None
    for logit, bias in (score.args, score.args[::-1]):
        if logit.op != "score" or bias.op != "mul":
            continue
        for slope, distance in (bias.args, bias.args[::-1]):
            if slope.op != "lookup" or len(slope.args) != 1 or slope.args[0].op != "head" or distance.op != "to_float":
                continue
            if distance.args[0].op == "sub" and [a.op for a in distance.args[0].args] == ["kv", "q"]:
                return "alibi", [("slopes", slope.value)]
    return None


__all__ = ["Builtin", "Captured", "builtin_of"]
