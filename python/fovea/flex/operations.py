"""What a traced function may call, by the names PyTorch has for it, as operations of a graph.

Each entry of OPERATIONS takes the graph and its arguments: nodes, or Python's own values where an option is meant. `tracer` brings arguments here.
"""

import math

from .graph import BOOL, FLOAT, INT, CannotTrace

OPERATIONS = {}


def operation(*names):
    def add(function):
        for name in names:
            OPERATIONS[name] = function
        return function

    return add


def number_of(node, what):
    if node.op != "constant":
        raise CannotTrace(f"{what} must be a number known while tracing")
    return node.value


def _is_integer(*nodes):
    return all(n.kind != FLOAT for n in nodes)


# Arithmetic.


@operation("add")
def add(g, a, b, alpha=None):
    return g.arithmetic("add", a, b if alpha is None else g.arithmetic("mul", b, g.constant(alpha)))


@operation("sub", "subtract")
def sub(g, a, b, alpha=None):
    return g.arithmetic("sub", a, b if alpha is None else g.arithmetic("mul", b, g.constant(alpha)))


@operation("rsub")
def rsub(g, a, b, alpha=None):
    return sub(g, b, a, alpha)


@operation("mul", "multiply")
def mul(g, a, b):
    return g.both(a, b) if a.kind == b.kind == BOOL else g.arithmetic("mul", a, b)


@operation("div", "divide", "true_divide")
def div(g, a, b, rounding_mode=None):
    if rounding_mode == "floor":
        return floor_divide(g, a, b)
    if rounding_mode == "trunc":
        return _int_or_float(g, "trunc_div", lambda x, y: g.function("trunc", g.function("div", x, y)), a, b)
    return g.function("div", a, b)


@operation("floor_divide", "floordiv")
def floor_divide(g, a, b):
    return _int_or_float(g, "floor_div", lambda x, y: g.function("floor", g.function("div", x, y)), a, b)


@operation("remainder", "mod")
def remainder(g, a, b):
    return _int_or_float(g, "floor_mod", lambda x, y: g.arithmetic("sub", x, g.arithmetic("mul", floor_divide(g, x, y), y)), a, b)


@operation("fmod")
def fmod(g, a, b):
    def of_floats(x, y):
        whole = g.function("trunc", g.function("div", x, y))
        return g.arithmetic("sub", x, g.arithmetic("mul", whole, y))

    return _int_or_float(g, "trunc_mod", of_floats, a, b)


def _int_or_float(g, op, of_floats, a, b):
    if not _is_integer(a, b):
        return of_floats(*g.alike(a, b, least=FLOAT))
    if b.is_constant(0):
        raise CannotTrace("division by the integer 0")
    return g.arithmetic(op, a, b)


@operation("neg", "negative")
def neg(g, a):
    return g.arithmetic("neg", a)


@operation("abs", "absolute")
def absolute(g, a):
    return g.arithmetic("abs", a)


@operation("sign", "sgn")
def sign(g, a):
    zero, one = g.constant(0), g.constant(1)
    of_int = g.select(g.compare("gt", a, zero), one, g.select(g.compare("lt", a, zero), g.constant(-1), zero))
    return g.to(max(a.kind, INT), of_int)


@operation("square")
def square(g, a):
    return g.arithmetic("mul", a, a)


@operation("pow")
def power(g, a, b):
    if b.op == "constant" and float(b.value).is_integer() and abs(b.value) <= 16:
        exponent = int(b.value)
        if exponent < 0 and _is_integer(a, b):
            raise CannotTrace("an integer to a negative power")
        if b.kind == FLOAT:
            a = g.to(FLOAT, a)
        result = _whole_power(g, a, abs(exponent))
        return result if exponent >= 0 else g.function("div", g.constant(1.0), result)
    if _is_integer(a, b):
        raise CannotTrace("an integer to a power that isn't a small constant; convert it: x.float()")
    if b.is_constant(0.5):
        return g.function("sqrt", a)
    if a.op == "constant" and a.value > 0:
        return g.function("exp2", g.arithmetic("mul", b, g.constant(math.log2(a.value))))
    if b.op == "constant":
        return g.function("exp2", g.arithmetic("mul", b, g.function("log2", a)))
    return _power_of_any(g, g.to(FLOAT, a), b)


def _power_of_any(g, a, b):
    """An exponent that varies: a negative number has powers where it is whole, and everything to the 0 is 1."""
    size = g.function("exp2", g.arithmetic("mul", b, g.function("log2", g.arithmetic("abs", a))))
    odd = g.compare("eq", remainder(g, b, g.constant(2)), g.constant(1))
    of_negative = g.select(odd, neg(g, size), size)
    if b.kind == FLOAT:
        of_negative = g.select(g.compare("eq", g.function("floor", b), b), of_negative, g.constant(math.nan))
    result = g.select(g.compare("lt", a, g.constant(0.0)), of_negative, size)
    return g.select(g.compare("eq", b, g.constant(0)), g.constant(1.0), result)


def _whole_power(g, a, exponent):
    if exponent == 0:
        return g.to(max(a.kind, INT), g.constant(1))
    half = _whole_power(g, a, exponent // 2) if exponent > 1 else None
    if half is None:
        return g.to(max(a.kind, INT), a)
    whole = g.arithmetic("mul", half, half)
    return g.arithmetic("mul", whole, a) if exponent % 2 else whole


# Comparisons, truths, bits.

for _name, _others in {"lt": ["less"], "le": ["less_equal"], "gt": ["greater"], "ge": ["greater_equal"], "eq": [], "ne": ["not_equal"]}.items():
    operation(_name, *_others)(lambda g, a, b, op=_name: g.compare(op, a, b))

operation("logical_and")(lambda g, a, b: g.both(a, b))
operation("logical_or")(lambda g, a, b: g.either(a, b))
operation("logical_not")(lambda g, a: g.negated(a))
operation("logical_xor")(lambda g, a, b: g.compare("ne", g.to(BOOL, a), g.to(BOOL, b)))
operation("isnan")(lambda g, a: g.compare("ne", a, a))


def _bits(op, of_bools):
    def apply(g, a, b):
        if a.kind == b.kind == BOOL:
            return of_bools(g, a, b)
        if not _is_integer(a, b):
            raise CannotTrace("bits of a float")
        low = b.value + 1 if op == "and_bits" and b.op == "constant" else 0
        if low > 0 and low & (low - 1) == 0:  # the low bits alone: a remainder, which tiles are asked by
            return g.arithmetic("floor_mod", a, g.constant(low))
        return g.arithmetic(op, a, b)

    return apply


operation("and", "bitwise_and")(_bits("and_bits", lambda g, a, b: g.both(a, b)))
operation("or", "bitwise_or")(_bits("or_bits", lambda g, a, b: g.either(a, b)))
operation("xor", "bitwise_xor")(_bits("xor_bits", lambda g, a, b: g.compare("ne", a, b)))


@operation("invert", "bitwise_not")
def invert(g, a):
    if a.kind == BOOL:
        return g.negated(a)
    if a.kind == FLOAT:
        raise CannotTrace("bits of a float")
    return g.arithmetic("sub", g.constant(-1), a)  # two's complement


@operation("lshift", "bitwise_left_shift")
def left_shift(g, a, b):
    return g.arithmetic("mul", a, g.constant(1 << _shift(b)))


@operation("rshift", "bitwise_right_shift")
def right_shift(g, a, b):
    return g.arithmetic("floor_div", a, g.constant(1 << _shift(b)))


def _shift(b):
    count = number_of(b, "the number of bits of a shift")
    if not 0 <= count < 31:
        raise CannotTrace(f"a shift by {count} bits; integers have 32 bits here")
    return count


# Choices.


@operation("where")
def where(g, condition, a=None, b=None):
    if a is None or b is None:
        raise CannotTrace("torch.where of one argument; a variant looks at one pair, so write torch.where(condition, a, b)")
    if condition.kind != BOOL:
        raise CannotTrace("torch.where with a condition that is no bool; compare it with something")
    return g.select(condition, a, b)


@operation("masked_fill")
def masked_fill(g, a, mask, value):
    return g.select(mask, g.to(a.kind, value), a)


@operation("minimum", "min", "fmin")
def minimum(g, a, b=None):
    return _two("min", "minimum", g, a, b)


@operation("maximum", "max", "fmax")
def maximum(g, a, b=None):
    return _two("max", "maximum", g, a, b)


def _two(op, name, g, a, b):
    if b is None:
        raise CannotTrace(f"a reduction over one pair; torch.{name}(a, b) takes two")
    return g.arithmetic(op, a, b)


@operation("clamp", "clip")
def clamp(g, a, min=None, max=None):
    if min is not None:
        a = g.arithmetic("max", a, min)
    return a if max is None else g.arithmetic("min", a, max)


operation("clamp_min", "clamp_min_")(lambda g, a, min: clamp(g, a, min=min))
operation("clamp_max", "clamp_max_")(lambda g, a, max: clamp(g, a, max=max))


# Functions of floats.

for _name in ("exp", "exp2", "log", "log2", "tanh", "sqrt", "sin", "cos"):
    operation(_name)(lambda g, a, op=_name: g.function(op, a))
for _name, _others in {"floor": [], "ceil": [], "trunc": ["fix"], "round": []}.items():
    operation(_name, *_others)(lambda g, a, op=_name: a if _is_integer(a) else g.function(op, a))

operation("expm1")(lambda g, a: g.arithmetic("sub", g.function("exp", a), g.constant(1.0)))
operation("log1p")(lambda g, a: g.function("log", g.arithmetic("add", a, g.constant(1.0))))
operation("log10")(lambda g, a: g.arithmetic("mul", g.function("log2", a), g.constant(math.log10(2.0))))
operation("reciprocal")(lambda g, a: g.function("div", g.constant(1.0), a))
operation("rsqrt")(lambda g, a: g.function("div", g.constant(1.0), g.function("sqrt", a)))
operation("relu")(lambda g, a: g.arithmetic("max", a, g.constant(0)))


@operation("sigmoid", "expit")
def sigmoid(g, a):
    return g.function("div", g.constant(1.0), g.arithmetic("add", g.constant(1.0), g.function("exp", neg(g, g.to(FLOAT, a)))))


@operation("silu")
def silu(g, a):
    return g.arithmetic("mul", a, sigmoid(g, a))


@operation("softplus")
def softplus(g, a):
    """log(1 + exp(a)), of the side that doesn't overflow."""
    a = g.to(FLOAT, a)
    tail = g.function("log", g.arithmetic("add", g.constant(1.0), g.function("exp", neg(g, absolute(g, a)))))
    return g.arithmetic("add", g.arithmetic("max", a, g.constant(0.0)), tail)


@operation("logsigmoid", "log_sigmoid")
def logsigmoid(g, a):
    return neg(g, softplus(g, neg(g, a)))


@operation("sinh")
def sinh(g, a):
    return g.arithmetic("mul", g.arithmetic("sub", g.function("exp", a), g.function("exp", neg(g, a))), g.constant(0.5))


@operation("cosh")
def cosh(g, a):
    return g.arithmetic("mul", g.arithmetic("add", g.function("exp", a), g.function("exp", neg(g, a))), g.constant(0.5))
