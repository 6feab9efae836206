"""Writes the C++ text of a variant from a mask and a score: fields for what the functions captured, `keep`, `range` and `transform_logit`.

`keep` is a template on the index type as far as the vocabulary of portable/interval.h reaches; a truth beyond it (floats, bits, divisors that vary)
becomes a function of its own that answers for pairs and says "mixed" of tiles. Numbers become fields, so that another window is no other text;
divisors stay in it, because a compiler makes multiplications of them.
"""

import math

from .bounds import never_negative
from .graph import BOOL, FLOAT, INT, KIND_NAMES, LEAVES, WRITTEN_OUT, CannotTrace, Captured, nodes_of
from .helpers import helpers_text
from .ranges import NOTHING, Linear, range_of

MAX_FIELDS = 16  # portable/fields.h, kMaxFields
LEAF_TEXT = {"score": "logit", "request": "at.request", "head": "at.qo_head", "q": "at.q_pos", "kv": "at.kv_pos"}
DIVISIONS = ("floor_div", "floor_mod", "trunc_div", "trunc_mod", "and_bits", "or_bits", "xor_bits")


class Fields:
    """The fields of Mask or of Params, in the order in which the text first needs them."""

    def __init__(self, where):
        self.where = where
        self.names = {}  # id of a constant or Captured -> name
        self.given = []  # (name, type, number or Captured)

    def of_captured(self, captured):
        if id(captured) not in self.names:
            element = "float" if captured.kind == FLOAT else "int32_t"
            self._add(captured.name, f"{'Table' if len(captured.shape) == 1 else 'Table2D'}<{element}>", captured)
        return self.names[id(captured)]

    def of_constant(self, node):
        """The name of the field that holds a number; None where it stays in the text."""
        if id(node) not in self.names:
            if len(self.given) >= MAX_FIELDS - self.tables_to_come or node.value in WRITTEN_OUT or not math.isfinite(node.value):
                return None
            prefix = "x" if node.kind == FLOAT else "n"
            count = sum(1 for name, _, value in self.given if name.startswith(prefix) and not isinstance(value, Captured))
            taken = {name for name, _, _ in self.given} | self.table_names
            while f"{prefix}{count}" in taken:
                count += 1
            self._add(f"{prefix}{count}", "float" if node.kind == FLOAT else "int32_t", node)
        return self.names[id(node)]

    tables_to_come = 0
    table_names = frozenset()

    def expect_tables(self, captured):
        """Tables have to be fields; numbers take what is left."""
        self.tables_to_come = len(captured)
        self.table_names = frozenset(c.name for c in captured)
        if len(captured) > MAX_FIELDS:
            raise CannotTrace(f"flex: the {self.where} looks up {len(captured)} tensors; a variant has {MAX_FIELDS} fields; join some of them into one")

    def _add(self, name, kind, value):
        if isinstance(value, Captured):
            self.tables_to_come -= 1
        self.names[id(value)] = name
        self.given.append((name, kind, value))

    def declarations(self):
        return [f"    {kind} {name};" for name, kind, _ in self.given]

    def listed(self, struct):
        return f"    FOVEA_FIELDS({', '.join([struct] + [f'FOVEA_REQUIRED({name})' for name, _, _ in self.given])})"

    def values(self):
        return [(name, value if isinstance(value, Captured) else value.value) for name, _, value in self.given]


class Writer:
    """The statements of one function. `tiles`: its integers may be intervals. `fields` are reached as `access` + name."""

    def __init__(self, fields, access, number, tiles):
        self.fields, self.access, self.number, self.tiles = fields, access, number, tiles
        self.statements, self.texts, self.helpers, self.opaque = [], {}, set(), []

    def root(self, node):
        self.uses = {}
        for n in nodes_of(node):
            for a in n.args:
                self.uses[id(a)] = self.uses.get(id(a), 0) + 1
        return self.text(node)

    def text(self, node):
        """An expression that needs no parentheses around it; named where it is used more than once."""
        if id(node) not in self.texts:
            written = self._opaque(node) if self.tiles and node.kind == BOOL and not answers_for_tiles(node) else self._written(node)
            if self.uses.get(id(node), 0) > 1 and node.args and node.op != "extent":
                kind = "auto" if self.tiles else ("bool", "int32_t", self.number)[node.kind]
                self.statements.append(f"const {kind} t{len(self.statements)} = {_bare(written)};")
                written = f"t{len(self.statements) - 1}"
            self.texts[id(node)] = written
        return self.texts[id(node)]

    def _opaque(self, node):
        if node.op in ("and", "or", "not") and any_answers_for_tiles(node):
            return self._written(node)
        self.opaque.append(node)
        return f"opaque{len(self.opaque) - 1}(at)"

    def _written(self, node):
        if node.op in LEAVES:
            return LEAF_TEXT[node.op]
        if node.op == "constant":
            return self.constant(node)
        if node.op == "extent":
            table = self.access + self.fields.of_captured(node.value)
            one_axis = len(node.value.shape) == 1
            return f"{table}.{'size' if one_axis else 'cols' if node.args[0].value == len(node.value.shape) - 1 else 'rows'}"
        if node.op == "table":
            table = self.access + self.fields.of_captured(node.value)
            indices = [_bare(self.text(a)) for a in node.args]
            found = f"{table}[{indices[0]}]" if len(indices) == 1 else f"{table}({', '.join(indices)})"
            return f"{self.number}({found})" if node.kind == FLOAT else found
        return getattr(self, f"_{KIND_NAMES[node.kind]}")(node)

    def constant(self, node, written_out=False):
        name = None if node.kind == BOOL or written_out else self.fields.of_constant(node)
        if name is not None:
            return f"{self.number}({self.access}{name})" if node.kind == FLOAT else self.access + name
        if node.kind == BOOL:
            return "true" if node.value else "false"
        if node.kind == INT:
            return str(node.value) if node.value >= 0 else f"({node.value})"
        if math.isnan(node.value):
            return f"(math::infinity<{self.number}>() - math::infinity<{self.number}>())"
        if math.isinf(node.value):
            return f"{'(-' if node.value < 0 else ''}math::infinity<{self.number}>(){')' if node.value < 0 else ''}"
        return f"{self.number}({node.value!r})"

    def call(self, function, *args):
        return f"{function}({', '.join(_bare(a) for a in args)})"

    def helper(self, name, *args):
        self.helpers.add(name)
        return self.call(name, *args)

    # By kind.

    def _bool(self, node):
        if node.op == "not":
            return f"(!{self.text(node.args[0])})"
        sign = {"and": "&", "or": "|", "lt": "<", "le": "<=", "eq": "==", "ne": "!="}[node.op]
        return f"({self.text(node.args[0])} {sign} {self.text(node.args[1])})"

    def _int(self, node):
        op, args = node.op, node.args
        if op in ("add", "sub", "mul"):
            return f"({self.text(args[0])} {dict(add='+', sub='-', mul='*')[op]} {self.text(args[1])})"
        if op == "neg":
            return f"(-{self.text(args[0])})"
        if op in ("min", "max", "abs"):
            return self.call(op + "_", *(self.text(a) for a in args))
        if op == "select":
            return self.call("select", *(self.text(a) for a in args))
        if op == "to_int":
            return self.call("static_cast<int32_t>", self.text(args[0]))
        return self._division(op, *args)

    def _division(self, op, a, b):
        x = self.text(a)
        y = self.constant(b, written_out=True) if b.op == "constant" else self.text(b)
        if op in ("and_bits", "or_bits", "xor_bits"):
            x = self.constant(a, written_out=True) if a.op == "constant" else x
            return f"({x} {dict(and_bits='&', or_bits='|', xor_bits='^')[op]} {y})"
        if not _positive(b):
            return self.helper(f"{op}_by_any", x, y)
        if op.startswith("trunc") or never_negative(a):
            return f"({x} {'/' if op.endswith('div') else '%'} {y})"
        return self.helper(op, x, y)

    def _float(self, node):
        op, args = node.op, node.args
        if op == "to_float":
            return self.call(self.number, self.text(args[0]))
        texts = [self.text(a) for a in args]
        if op in ("add", "sub", "mul", "div"):
            return f"({texts[0]} {dict(add='+', sub='-', mul='*', div='/')[op]} {texts[1]})"
        if op == "neg":
            return f"(-{texts[0]})"
        if op == "abs":
            return self.helper("absolute", *texts)
        if op in ("min", "max"):
            return self.call(op + "_", *texts)
        if op == "select":
            return f"({texts[0]} ? {texts[1]} : {texts[2]})"
        if op in ("exp", "exp2", "log", "log2", "tanh"):
            return self.call(f"math::{op}", *texts)
        return self.helper({"sqrt": "square_root", "sin": "sine", "cos": "cosine"}.get(op, f"{op}_of"), *texts)


def _positive(node):
    return node.op == "constant" and node.value >= 1


def _bare(text):
    """Without the parentheses around the whole."""
    if not text.startswith("("):
        return text
    depth = 0
    for i, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0:
            return text[1:-1] if i == len(text) - 1 else text
    return text


def answers_for_tiles(node):
    return all(_on_intervals(n) for n in nodes_of(node))


def any_answers_for_tiles(node):
    """Does some part of a truth bound what the whole may be?"""
    if node.op in ("and", "or", "not"):
        return any(any_answers_for_tiles(a) for a in node.args)
    return answers_for_tiles(node)


def _on_intervals(node):
    if node.kind == FLOAT or any(a.kind == FLOAT for a in node.args):
        return False
    if node.op in DIVISIONS:
        return not node.op.endswith("_bits") and _positive(node.args[1])
    return True


# The parts of the struct.


def bound_text(bound, writer):
    if isinstance(bound, tuple):
        return f"{bound[0]}_({bound_text(bound[1], writer)}, {bound_text(bound[2], writer)})"
    assert isinstance(bound, Linear) and bound.q == bound.kv == 0
    constants = [(writer.constant(n), n, f) for n, f in bound.constants]
    number = bound.number + sum(f * n.value for text, n, f in constants if text.strip("()-").isdigit())
    named = [(text, f) for text, n, f in constants if not text.strip("()-").isdigit()]
    text = ""
    for name, f in sorted(named, key=lambda part: -part[1]):
        sign = ("" if f > 0 else "-") if not text else (" + " if f > 0 else " - ")
        text += sign + (name if abs(f) == 1 else f"{abs(f)} * {name}")
    if number or not text:
        text += str(number) if not text else f" {'+' if number > 0 else '-'} {abs(number)}"
    return text


def range_text(mask, writer):
    """KvRange has no negative numbers: a bound that may be one is cut at 0, and then it isn't exact."""
    found = range_of(mask)
    parts, conditions = [], []

    def add(name, bound):
        text = bound_text(bound, writer)
        if not text.lstrip("-").isdigit():
            conditions.append(f"{text} >= 0")
            text = f"max_({text}, 0)"
        elif int(text) < 0:
            conditions.append("false")
            text = "0"
        parts.append(f".{name} = {text}")

    if found.left is NOTHING:
        parts.append(".left = 0")
        conditions.append("false")
    elif found.left is not None:
        add("left", found.left)
    if found.right is not None:
        add("right", found.right)
    if found.sink is not None:
        add("num_sink", found.sink)
    if found.exact and "false" not in conditions:
        parts.append(f".exact = {' && '.join(dict.fromkeys(conditions))}" if conditions else ".exact = 1")
    if found.chunk is not None:
        parts.append(f".chunk = {found.chunk}")
    return ", ".join(parts)


def mask_struct(mask, fields):
    """The lines of struct Mask, and whether tiles can't be asked at all."""
    fields.expect_tables({n.value.name: n.value for n in nodes_of(mask) if n.op == "table"}.values())
    opaque = not any_answers_for_tiles(mask)
    writer = Writer(fields, "", "float", tiles=not opaque)
    kept = _bare(writer.root(mask))
    keep = [f"      {s}" for s in writer.statements] + [f"      return {kept};"]
    helpers, pairs = set(writer.helpers), []
    for i, node in enumerate(writer.opaque):
        inner = Writer(fields, "", "float", tiles=False)
        result = _bare(inner.root(node))
        helpers |= inner.helpers
        pairs += [f"    FOVEA_FN Tri opaque{i}(const Position<Interval>&) const {{ return {{true, false}}; }}"]
        pairs += [f"    FOVEA_FN bool opaque{i}(const Position<>& at) const {{"] + [f"      {s}" for s in inner.statements] + [f"      return {result};", "    }"]
    found = range_text(mask, writer)
    head = ["    FOVEA_FN bool keep(const Position<>& at) const {"] if opaque else ["    template <class I>", "    FOVEA_FN auto keep(const Position<I>& at) const {"]
    lines = ["  struct Mask {"] + fields.declarations() + head + keep + ["    }"]
    lines += [f"    FOVEA_FN constexpr KvRange range() const {{ return {{{found}}}; }}"]
    return lines + pairs + helpers_text(helpers, "    ") + [fields.listed("Mask"), "  };"], opaque


def score_lines(score, fields):
    """The lines of struct Params and of the hook."""
    fields.expect_tables({n.value.name: n.value for n in nodes_of(score) if n.op == "table"}.values())
    writer = Writer(fields, "p.", "T", tiles=False)
    result = _bare(writer.root(score))
    params = ["  struct Params {"] + fields.declarations() + [fields.listed("Params"), "  };"] if fields.given else []
    used = any(n.op in LEAVES and n.op != "score" for n in nodes_of(score))
    hook = ["  template <class T>", f"  FOVEA_FN T transform_logit(T logit, const Position<>&{' at' if used else ''}) const {{"]
    hook += [f"    {s}" for s in writer.statements] + [f"    return {result};", "  }"]
    return params + hook + helpers_text(writer.helpers, "  ")
