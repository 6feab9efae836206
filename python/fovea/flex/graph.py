"""The expression that a traced function computes: nodes of three kinds of number, each made once.

Made by `tracer`, read by `bounds`, `ranges`, `text` and `evaluate`. A node is never changed; equal nodes of a graph are the same object.
"""

BOOL, INT, FLOAT = range(3)
KIND_NAMES = ("bool", "int", "float")

# Positions, heads and batch entries are below this (portable/kv_range.h, kUnbounded).
POSITION_END = 1 << 30

# Numbers that mean the operation, not a choice of its author: they stay in the text.
WRITTEN_OUT = {-2, -1, 0, 1, 2, 0.5}

# `score` is the logit; the others are integers from 0.
LEAVES = ("score", "request", "head", "q", "kv")


class CannotTrace(NotImplementedError):
    """A function does what a variant can't express. Says what, where, and the way out."""


class Captured:
    """A tensor that a function looks up. `name` is how the variant's text calls it."""

    __slots__ = ("tensor", "name", "kind", "shape", "source")

    def __init__(self, tensor, name, kind, shape, source=None):
        self.tensor, self.name, self.kind, self.shape = tensor, name, kind, shape
        self.source = tensor if source is None else source  # the caller's own object, of which `tensor` may be a view

    def __repr__(self):
        return f"Captured({self.name}, {KIND_NAMES[self.kind]}, {list(self.shape)})"


class Node:
    """One operation. `value` is the number of a constant, the Captured of a lookup or extent, else None."""

    __slots__ = ("op", "args", "kind", "value")

    def __init__(self, op, args, kind, value):
        self.op, self.args, self.kind, self.value = op, args, kind, value

    def is_constant(self, value=None):
        return self.op == "constant" and (value is None or self.value == value)

    def __repr__(self):
        if self.op in LEAVES:
            return self.op
        if self.op == "constant":
            return repr(self.value)
        named = [self.value.name] if isinstance(self.value, Captured) else []
        return f"{self.op}({', '.join(named + [repr(a) for a in self.args])})"


class Graph:
    """Makes nodes. What is known of constants is folded: bools and integers exactly, floats never (they are the variant's parameters)."""

    def __init__(self):
        self._nodes = {}
        self.captured = {}  # which memory -> Captured
        self.reads_tensors = False  # a function computed with tensors, whose numbers may be others the next time

    def node(self, op, *args, kind, value=None):
        key = (op, tuple(_key_of(a) for a in args), kind, value if op == "constant" else id(value))
        found = self._nodes.get(key)
        if found is None:
            found = self._nodes[key] = Node(op, args, kind, value)
        return found

    def leaf(self, name):
        return self.node(name, kind=FLOAT if name == "score" else INT)

    def constant(self, value):
        """A number: a node of its own each time, so that two that happen to be equal are still two fields of the variant."""
        if isinstance(value, bool):
            return self.node("constant", kind=BOOL, value=value)
        kind = INT if isinstance(value, int) else FLOAT
        return Node("constant", (), kind, value if kind == INT else float(value))

    # Numbers. Arguments of one operation are brought to one kind first.

    def to(self, kind, x):
        if x.kind == kind:
            return x
        if x.op == "constant" and kind == FLOAT:
            return self.constant(float(x.value))
        if x.op == "constant" and (kind == BOOL or x.kind == BOOL):
            return self.constant(bool(x.value) if kind == BOOL else int(x.value))
        if kind == BOOL:
            return self.node("ne", x, self.constant(0 if x.kind == INT else 0.0), kind=BOOL)
        if x.kind == BOOL:
            return self.select(x, self.constant(1 if kind == INT else 1.0), self.constant(0 if kind == INT else 0.0))
        return self.node("to_float" if kind == FLOAT else "to_int", x, kind=kind)

    def alike(self, *args, least=BOOL):
        kind = max(least, *(a.kind for a in args))
        return [self.to(kind, a) for a in args]

    def arithmetic(self, op, *args):
        """add, sub, mul, neg, abs, min, max and what integers alone have: in the kind of the arguments, at least INT."""
        args = self.alike(*args, least=INT)
        if args[0].kind == INT and all(a.op == "constant" for a in args):
            folded = FOLDS[op](*(a.value for a in args)) if op in FOLDS else None
            if folded is not None:
                return self.constant(folded)
        if op == "neg" and args[0].op == "constant":
            return self.constant(-args[0].value)
        return self.node(op, *args, kind=args[0].kind)

    def function(self, op, *args):
        """exp, tanh, div and their like: floats."""
        return self.node(op, *self.alike(*args, least=FLOAT), kind=FLOAT)

    def compare(self, op, a, b):
        a, b = self.alike(a, b)
        if a.kind == BOOL:
            same = self.either(self.both(a, b), self.both(self.negated(a), self.negated(b)))
            if op in ("eq", "ne"):
                return same if op == "eq" else self.negated(same)
            a, b = self.to(INT, a), self.to(INT, b)
        if op in ("gt", "ge"):
            op, a, b = "lt" if op == "gt" else "le", b, a
        if a.kind == INT and a.op == b.op == "constant":
            return self.constant({"lt": a.value < b.value, "le": a.value <= b.value, "eq": a.value == b.value, "ne": a.value != b.value}[op])
        return self.node(op, a, b, kind=BOOL)

    # Truths.

    def both(self, a, b):
        a, b = self.to(BOOL, a), self.to(BOOL, b)
        if a.is_constant() or b.is_constant():
            known, other = (a, b) if a.is_constant() else (b, a)
            return other if known.value else known
        return a if a is b else self.node("and", a, b, kind=BOOL)

    def either(self, a, b):
        a, b = self.to(BOOL, a), self.to(BOOL, b)
        if a.is_constant() or b.is_constant():
            known, other = (a, b) if a.is_constant() else (b, a)
            return known if known.value else other
        return a if a is b else self.node("or", a, b, kind=BOOL)

    def negated(self, a):
        a = self.to(BOOL, a)
        if a.is_constant():
            return self.constant(not a.value)
        return a.args[0] if a.op == "not" else self.node("not", a, kind=BOOL)

    def select(self, condition, a, b):
        condition = self.to(BOOL, condition)
        a, b = self.alike(a, b)
        if condition.is_constant():
            return a if condition.value else b
        if a is b:
            return a
        if a.kind == BOOL:
            return self.either(self.both(condition, a), self.both(self.negated(condition), b))
        return self.node("select", condition, a, b, kind=a.kind)

    def lookup(self, captured, *indices):
        kind = INT if captured.kind == BOOL else captured.kind
        found = self.node("lookup", *indices, kind=kind, value=captured)
        return self.compare("ne", found, self.constant(0)) if captured.kind == BOOL else found

    def extent(self, captured, axis):
        """How many entries an axis of a captured tensor has: read from the table, so that another length is the same variant."""
        return self.node("extent", self.constant(axis), kind=INT, value=captured)


def _key_of(node):
    """Numbers that stay in the text are the same wherever they stand."""
    return ("constant", node.kind, node.value) if node.op == "constant" and node.value in WRITTEN_OUT else id(node)


FOLDS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "abs": abs,
    "min": min,
    "max": max,
    "floor_div": lambda a, b: a // b if b != 0 else None,
    "floor_mod": lambda a, b: a % b if b != 0 else None,
}


def nodes_of(*roots):
    """All nodes below, arguments before what uses them."""
    order, seen = [], set()

    def visit(node):
        if id(node) not in seen:
            seen.add(id(node))
            for arg in node.args:
                visit(arg)
            order.append(node)

    for root in roots:
        visit(root)
    return order


def contains(root, op):
    return any(node.op == op for node in nodes_of(root))
