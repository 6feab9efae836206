"""Runs a function once with symbols in place of numbers and keeps what it did as a graph.

A Symbol is no tensor: it has the operators and methods of one, and `__torch_function__`, by which PyTorch's functions come here with their names. Only
what PyTorch would not hand over, a tensor indexed by a symbol, needs a mode. Tracing costs tens of microseconds to some tenths of a millisecond;
`closed` says which functions need not be traced again.
"""

import functools
import sys

from .graph import BOOL, FLOAT, INT, KIND_NAMES, CannotTrace, Captured, Graph, Node
from .names import name_of_tensor
from .operations import OPERATIONS

WAY_OUT = "write it with torch.where, or as C++ text (docs/add-a-variant.md)"


def torch_if_loaded():
    """PyTorch, where the caller has imported it: functions that don't use it are traced without."""
    return sys.modules.get("torch")


def is_tensor(x):
    torch = torch_if_loaded()
    return torch is not None and isinstance(x, torch.Tensor)


class Symbol:
    """A number that a function will be given: a score, an index, or what was computed from them."""

    __slots__ = ("node", "trace")
    __array_ufunc__ = None  # NumPy leaves operators to us
    ndim = 0

    def __init__(self, node, trace):
        self.node, self.trace = node, trace

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return _trace_of(args, kwargs or {}).call(func, args, kwargs or {})

    def _refuse(self, what, hint):
        self.trace.refuse(what, hint)

    def __bool__(self):
        self._refuse(
            "a branch, `and`, `or`, `not` or min() depends on " + self.trace.described(self.node),
            "a variant is compiled once for all pairs: use torch.where(condition, a, b), & | ~ (with parentheses) and torch.minimum",
        )

    def __index__(self):
        self._refuse("Python needs the value of " + self.trace.described(self.node), "it is known inside the kernel alone: " + WAY_OUT)

    __int__ = __float__ = __complex__ = __iter__ = __len__ = __array__ = __index__

    def item(self):
        self.__index__()

    tolist = numpy = item

    def __getitem__(self, index):
        self._refuse("an index into " + self.trace.described(self.node) + ", which is one number", WAY_OUT)

    def __setitem__(self, index, value):
        self.__getitem__(index)

    def __hash__(self):
        return id(self)

    # What a 0-dimensional tensor says of itself.

    @property
    def dtype(self):
        torch = torch_if_loaded()
        return None if torch is None else (torch.bool, torch.int32, torch.float32)[self.node.kind]

    @property
    def device(self):
        return self.trace.device

    @property
    def shape(self):
        torch = torch_if_loaded()
        return () if torch is None else torch.Size(())

    def size(self, dim=None):
        return self.shape if dim is None else self.shape[dim]

    def dim(self):
        return 0

    def numel(self):
        return 1

    requires_grad = False

    def __getattr__(self, name):
        """Methods of tensors, by the names of OPERATIONS and CONVERSIONS; `x.add_(y)` changes the symbol, as it changes a tensor."""
        if name.startswith("__"):
            raise AttributeError(name)
        return functools.partial(self.trace.method, name, self)

    def __repr__(self):
        return f"Symbol({self.node!r})"


def _binary(name, reflected=False):
    def operator(self, other):
        return self.trace.apply(name, (other, self) if reflected else (self, other), {})

    return operator


for _name in ("add", "sub", "mul", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift"):
    setattr(Symbol, f"__{_name}__", _binary(_name))
    setattr(Symbol, f"__r{_name}__", _binary(_name, reflected=True))
Symbol.__truediv__, Symbol.__rtruediv__ = _binary("div"), _binary("div", reflected=True)
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Symbol, f"__{_name}__", _binary(_name))
for _name in ("neg", "abs", "invert"):
    setattr(Symbol, f"__{_name}__", lambda self, name=_name: self.trace.apply(name, (self,), {}))
Symbol.__pos__ = lambda self: self


class Table:
    """A NumPy array that a traced function may index, as it indexes captured tensors of PyTorch."""

    def __init__(self, array):
        self.array = array

    def __getitem__(self, index):
        indices = index if isinstance(index, tuple) else (index,)
        symbol = next((i for i in indices if isinstance(i, Symbol)), None)
        return self.array[index] if symbol is None else symbol.trace.looked_up(symbol.trace.captured(self.array, called=self), (), index)


class PartlyIndexed:
    """A captured tensor of which only the first axes have been indexed: bias[h], before [q_idx]."""

    __slots__ = ("captured", "indices", "trace")

    def __init__(self, captured, indices, trace):
        self.captured, self.indices, self.trace = captured, indices, trace

    def __getitem__(self, index):
        return self.trace.looked_up(self.captured, self.indices, index)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        found = next(a for a in args if isinstance(a, PartlyIndexed))
        found._refuse()

    def _refuse(self, *args):
        left = len(self.captured.shape) - len(self.indices)
        self.trace.refuse(
            f"the captured tensor {self.captured.name} of shape {list(self.captured.shape)} is used with {left} of its axes not indexed",
            "a variant looks at one pair, so index every axis",
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = __bool__ = __iter__ = _refuse

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()


def _trace_of(args, kwargs):
    for x in [*args, *kwargs.values()]:
        if isinstance(x, (Symbol, PartlyIndexed)):
            return x.trace
        if isinstance(x, (tuple, list)):
            for y in x:
                if isinstance(y, (Symbol, PartlyIndexed)):
                    return y.trace
    raise CannotTrace("flex: a list inside a list holds a traced number; " + WAY_OUT)


# Methods and functions that change no number: of a pair, every shape is the empty one.
SAME = {"clone", "contiguous", "detach", "squeeze", "cuda", "cpu", "requires_grad_", "view", "reshape", "expand", "unsqueeze", "flatten", "positive"}
CONVERSIONS = {"float": FLOAT, "double": FLOAT, "half": FLOAT, "bfloat16": FLOAT, "int": INT, "long": INT, "bool": BOOL}
FILLED = {"zeros_like": 0, "ones_like": 1, "new_zeros": 0, "new_ones": 1, "zeros": 0, "ones": 1}
FACTORIES = {"tensor", "scalar_tensor", "full", "zeros", "ones"}
REFLECTED = {"__rsub__": "sub", "__rdiv__": "div", "__rtruediv__": "div", "__rpow__": "pow", "__rfloordiv__": "floordiv", "__rmod__": "mod",
             "__rlshift__": "lshift", "__rrshift__": "rshift"}  # fmt: skip


class Trace:
    """One function being traced into a graph. `device` is what its symbols say they are on."""

    def __init__(self, graph, function, what, device=None):
        self.graph, self.function, self.what, self.device = graph, function, what, device

    def refuse(self, problem, hint):
        raise CannotTrace(f"flex: {self.what} '{function_name(self.function)}'{_place()}: {problem}; {hint}")

    def described(self, node):
        names = {"score": "the score", "request": "the batch index", "head": "the head", "q": "q_idx", "kv": "kv_idx"}
        if node.op in names:
            return names[node.op]
        if node.op == "lookup":
            return f"an entry of {node.value.name}"
        return f"a traced {KIND_NAMES[node.kind]}"

    # Values.

    def node_of(self, x):
        """The node of an argument: a symbol, a number, or a captured tensor of one element."""
        if isinstance(x, Symbol):
            return x.node
        if isinstance(x, (bool, int, float)):
            return self.graph.constant(x)
        if isinstance(x, PartlyIndexed):
            x._refuse()
        if is_tensor(x):
            with torch_if_loaded()._C.DisableTorchFunction():
                return self.node_of_tensor(x)
        if hasattr(x, "item") and getattr(x, "ndim", None) == 0:  # a NumPy number
            return self.graph.constant(x.item())
        self.refuse(f"an argument is a {type(x).__name__}", "numbers, indices and captured tensors are what a variant computes with")

    def node_of_tensor(self, x):
        if x.dim() != 0 and x.numel() != 1:
            self.refuse(
                f"the captured tensor of shape {list(x.shape)} takes part as a whole",
                "a variant looks at one pair, so index it, as in bias[h, q_idx - kv_idx]",
            )
        if x.device.type == "cpu":
            if x.requires_grad and torch_if_loaded().is_grad_enabled():
                raise ValueError(f"flex: {self.what} '{function_name(self.function)}'{_place()}: the captured tensor of shape {list(x.shape)} requires grad; "
                                 "fovea computes no gradients: call it under torch.no_grad(), or detach()")
            return self.graph.constant(x.item())  # no wait: the number that it is now
        return self.graph.lookup(self.captured(x.view(1) if x.dim() == 0 else x.flatten(), called=x), self.graph.constant(0))

    def captured(self, tensor, called=None):
        known = self.graph.captured
        key = memory_of(tensor)
        if key not in known:
            name = name_of_tensor(self.function, tensor if called is None else called, {c.name for c in known.values()})
            known[key] = Captured(tensor, name, kind_of_dtype(self, tensor), tuple(tensor.shape), called)
        return known[key]

    # Calls.

    def call(self, func, args, kwargs):
        """A function of PyTorch, as `__torch_function__` hands it over."""
        name = getattr(func, "__name__", None) or str(func)
        if name in ("__get__", "__set__"):  # a property of a real tensor, asked with a symbol beside it
            self.refuse(f"the property {func}", WAY_OUT)
        if name == "__getitem__":
            return self.indexed(*args)
        if name in REFLECTED:
            return self.apply(REFLECTED[name], (args[1], args[0]), kwargs)
        return self.apply(name.strip("_") if name.startswith("__") else name, args, kwargs)

    def method(self, name, symbol, *args, **kwargs):
        return self.apply(name, (symbol, *args), kwargs)

    def apply(self, name, args, kwargs):
        # By identity: `v in (None, False)` would compare a tensor with False, and one that holds 0 is False.
        kwargs = {k: v for k, v in kwargs.items() if k not in ("out", "inplace") or not (v is None or v is False)}
        if "out" in kwargs:
            self.refuse(f"torch.{name} with out=", "use what it returns")
        if name in SAME:
            return args[0]
        if name in CONVERSIONS:
            return Symbol(self.graph.to(CONVERSIONS[name], self.node_of(args[0])), self)
        if name in ("to", "type", "type_as"):
            return self.converted(args, kwargs)
        if name in FILLED or name in ("full_like", "new_full", "new_tensor", "full", "tensor", "scalar_tensor"):
            return self.filled(name, args, kwargs)
        if name not in OPERATIONS and name.endswith("_") and name[:-1] in OPERATIONS:
            result = self.apply(name[:-1], args, kwargs)
            args[0].node = self.graph.to(args[0].node.kind, result.node)
            return args[0]
        if name == "index_select":
            return self.indexed(args[0], (slice(None),) * args[1] + (args[2],))
        if name == "take":
            return self.indexed(args[0].reshape(-1), args[1])
        if name not in OPERATIONS:
            self.refuse(f"torch.{name} has no translation", f"known are {', '.join(sorted(OPERATIONS))}; {WAY_OUT}")
        return self.computed(name, args, kwargs)

    def computed(self, name, args, kwargs):
        options = {k: v for k, v in kwargs.items() if k in ("rounding_mode", "alpha") or v is None}
        nodes = {{"input": "a", "other": "b", "self": "a", "exponent": "b"}.get(k, k): self.node_of(v) for k, v in kwargs.items() if k not in options}
        try:
            return Symbol(OPERATIONS[name](self.graph, *(None if a is None else self.node_of(a) for a in args), **nodes, **options), self)
        except CannotTrace as problem:
            if str(problem).startswith("flex:"):
                raise
            self.refuse(f"torch.{name}: {problem}", WAY_OUT)
        except TypeError as error:
            self.refuse(f"torch.{name} is called with arguments that have no translation ({error})", WAY_OUT)

    def converted(self, args, kwargs):
        """x.to(dtype), x.to(device), x.to(other), x.type_as(other)."""
        torch = torch_if_loaded()
        node = self.node_of(args[0])
        for target in [*args[1:], *kwargs.values()]:
            if isinstance(target, Symbol):
                node = self.graph.to(target.node.kind, node)
            elif is_tensor(target) or isinstance(target, torch.dtype):
                dtype = target.dtype if is_tensor(target) else target
                if dtype in (torch.int8, torch.uint8, torch.int16) and node.kind != BOOL:
                    self.refuse(f"a conversion to {dtype}", "integers have 32 bits here; leave it out where no number wraps")
                node = self.graph.to(FLOAT if dtype.is_floating_point else BOOL if dtype == torch.bool else INT, node)
        return Symbol(node, self)

    def filled(self, name, args, kwargs):
        """A number that doesn't depend on the pair: torch.zeros_like(score), b.new_ones((), dtype=torch.bool)."""
        like = args[0].node.kind if isinstance(args[0], Symbol) and name.startswith(("new_", "zeros_", "ones_", "full_")) else None
        value = FILLED.get(name)
        if value is None:
            value = kwargs.get("fill_value", kwargs.get("data", args[-1]))
        node = self.node_of(value)
        if like is not None:
            node = self.graph.to(like, node)
        if name in ("zeros", "ones"):
            node = self.graph.to(FLOAT, node)
        return self.converted((Symbol(node, self), kwargs["dtype"]), {}) if kwargs.get("dtype") is not None else Symbol(node, self)

    # Lookups.

    def indexed(self, tensor, index):
        if isinstance(tensor, Symbol):
            return tensor[index]
        with torch_if_loaded()._C.DisableTorchFunction():
            captured = self.captured(tensor)
        return self.looked_up(captured, (), index)

    def looked_up(self, captured, before, index):
        indices = list(before)
        for i in index if isinstance(index, tuple) else (index,):
            if i is None or i is Ellipsis or isinstance(i, (slice, list)):
                written = {type(None): "None", type(Ellipsis): "..."}.get(type(i), type(i).__name__)
                self.refuse(f"{captured.name}[...] is indexed by {written}", "give one index an axis")
            node = self.node_of(i)
            if node.kind != INT:
                self.refuse(f"{captured.name}[...] is indexed by a {KIND_NAMES[node.kind]}", "an index is an integer: x.long(), or torch.where")
            indices.append(node)
        if len(indices) > len(captured.shape):
            self.refuse(f"{captured.name} of shape {list(captured.shape)} is indexed {len(indices)} times", "give one index an axis")
        if len(indices) < len(captured.shape):
            return PartlyIndexed(captured, tuple(indices), self)
        if 0 in captured.shape:
            self.refuse(f"{captured.name} of shape {list(captured.shape)} has no entries", "give it one")
        return Symbol(self.graph.lookup(captured, *indices), self)


def memory_of(tensor):
    """Views that a function makes anew with every use are one table."""
    if is_tensor(tensor):
        return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
    return (tensor.__array_interface__["data"][0], tensor.shape, tensor.strides, tensor.dtype)


def kind_of_dtype(trace, tensor):
    torch = torch_if_loaded()
    if not is_tensor(tensor):
        if tensor.dtype.kind not in "biuf":
            trace.refuse(f"a table of {tensor.dtype}", "tables are of floats, integers or bools")
        return {"b": BOOL, "f": FLOAT}.get(tensor.dtype.kind, INT)
    if tensor.dtype == torch.bool:
        return BOOL
    if tensor.is_floating_point():
        return FLOAT
    if tensor.is_complex() or tensor.is_quantized:
        trace.refuse(f"a captured tensor of {tensor.dtype}", "tables are of floats, integers or bools")
    return INT


def function_name(function):
    inner = function.func if isinstance(function, functools.partial) else function
    return getattr(inner, "__name__", type(inner).__name__)


def _place():
    """Where in the caller's code tracing stands."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(("fovea.flex", "torch.", "functools")) and name != "torch":
            return f" ({frame.f_code.co_filename}:{frame.f_lineno})"
        frame = frame.f_back
    return ""


@functools.cache
def _mode_type():
    from torch.overrides import TorchFunctionMode

    class Lookups(TorchFunctionMode):
        """Hands over what PyTorch keeps to itself: a real tensor indexed by a symbol, and constants that a function makes on a device."""

        def __init__(self, trace):
            super().__init__()
            self.trace = trace

        def __torch_function__(self, func, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            name = getattr(func, "__name__", "")
            if name == "__getitem__" and is_tensor(args[0]):
                index = args[1] if isinstance(args[1], tuple) else (args[1],)
                if any(isinstance(i, Symbol) for i in index):
                    return self.trace.indexed(*args)
            if name in FACTORIES and self.makes_number(name, args, kwargs):
                return self.trace.filled(name, args, kwargs)
            if name != "__get__" and not any(isinstance(a, Symbol) for a in args):
                self.trace.graph.reads_tensors = True
            return func(*args, **kwargs)

        @staticmethod
        def makes_number(name, args, kwargs):
            value = args[-1] if args else kwargs.get("data", kwargs.get("fill_value"))
            if name in ("tensor", "scalar_tensor"):
                return isinstance(value, (bool, int, float)) and not kwargs.get("requires_grad")
            place = kwargs.get("size", args[0] if args else None)
            value = kwargs.get("fill_value", args[1] if len(args) > 1 else 0)
            return place is not None and not isinstance(place, int) and len(place) == 0 and isinstance(value, (bool, int, float, Symbol))

    return Lookups


def trace_function(graph, function, arguments, what, device=None):
    """The node that `function` returns for the leaves named by `arguments`. Raises CannotTrace."""
    trace = Trace(graph, function, what, device)
    symbols = [Symbol(graph.leaf(name), trace) for name in arguments]
    if torch_if_loaded() is None:
        result = function(*symbols)
    else:
        with _mode_type()(trace):
            result = function(*symbols)
    if result is None:
        trace.refuse("it returns None", "return the new score, or the truth of the mask")
    return trace.node_of(result)


def trace_score(graph, score_mod, device=None):
    return graph.to(FLOAT, trace_function(graph, score_mod, ("score", "request", "head", "q", "kv"), "score_mod", device))


def trace_mask(graph, mask_mod, device=None):
    node = trace_function(graph, mask_mod, ("request", "head", "q", "kv"), "mask_mod", device)
    if node.kind != BOOL:
        Trace(graph, mask_mod, "mask_mod").refuse(f"it returns a {KIND_NAMES[node.kind]}", "a mask is a truth: compare it with something")
    return node


__all__ = ["Graph", "Node", "Symbol", "Table", "trace_mask", "trace_score"]
