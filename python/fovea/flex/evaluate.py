"""Computes a graph with NumPy: what the text must compute, one pair at a time or many. For tests and for looking at masks; never while serving."""

import numpy as np

from .graph import BOOL, FLOAT


def evaluate(root, score=None, request=0, head=0, q=0, kv=0):
    """The value of `root`, broadcast over the arguments: integers or arrays of them, and floats for the score."""
    leaves = {"score": score, "request": request, "head": head, "q": q, "kv": kv}
    known = {}

    def value(node):
        if id(node) not in known:
            known[id(node)] = of_node(node)
        return known[id(node)]

    def of_node(node):
        if node.op in leaves:
            return np.asarray(leaves[node.op], np.float64 if node.op == "score" else np.int64)
        if node.op == "constant":
            return np.asarray(node.value, np.float64 if node.kind == FLOAT else None)
        if node.op == "extent":
            return np.asarray(node.value.shape[node.args[0].value])
        args = [value(a) for a in node.args]
        if node.op == "lookup":
            return _lookup(node, args)
        with np.errstate(all="ignore"):
            return FUNCTIONS[node.op](*args)

    return value(root)


def _lookup(node, indices):
    table = node.value.tensor
    if hasattr(table, "detach"):
        table = table.detach().cpu()
        table = (table.float() if node.kind == FLOAT else table).numpy()
    wrapped = [np.where(i < 0, i + n, i) for i, n in zip(indices, node.value.shape)]
    found = table[tuple(np.clip(i, 0, n - 1) for i, n in zip(wrapped, node.value.shape))]
    return found.astype(np.float64 if node.kind == FLOAT else np.int64)


def _floor_div(a, b):
    return np.where(b == 0, 0, np.floor_divide(a, np.where(b == 0, 1, b)))


def _trunc_div(a, b):
    return np.sign(a) * np.sign(b) * _floor_div(np.abs(a), np.abs(b))


FUNCTIONS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "abs": np.abs,
    "min": np.minimum,
    "max": np.maximum,
    "floor_div": _floor_div,
    "floor_mod": lambda a, b: a - _floor_div(a, b) * b,
    "trunc_div": _trunc_div,
    "trunc_mod": lambda a, b: a - _trunc_div(a, b) * b,
    "and_bits": np.bitwise_and,
    "or_bits": np.bitwise_or,
    "xor_bits": np.bitwise_xor,
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "select": np.where,
    "to_float": lambda a: np.asarray(a, np.float64),
    "to_int": lambda a: np.trunc(a).astype(np.int64),
    "div": np.divide,
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "log2": np.log2,
    "tanh": np.tanh,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round": np.round,
}

__all__ = ["BOOL", "evaluate"]
