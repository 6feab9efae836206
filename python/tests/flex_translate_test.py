#!/usr/bin/env python3
"""Functions traced and translated against the same functions called: the text is compiled with the library's headers and asked about pairs and tiles.

    python/tests/flex_translate_test.py [--seed N] [--trees N]

Needs NumPy and a C++ compiler (77: there is no NumPy). What is written with PyTorch is in flex_standard_test.py.
"""

import argparse
import ctypes
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

try:
    import numpy as np
except ImportError:
    if __name__ != "__main__":
        raise unittest.SkipTest("no NumPy here") from None
    print("flex_translate_test: no NumPy here", file=sys.stderr)
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

from fovea.flex.evaluate import evaluate  # noqa: E402
from fovea.flex.graph import FLOAT, Captured  # noqa: E402
from fovea.flex.tracer import Symbol, Table  # noqa: E402
from fovea.flex.translate import translate  # noqa: E402

OPTIONS = argparse.Namespace(seed=1, trees=60)
COMPILER = next((c for c in (os.environ.get("CXX"), "c++", "g++", "clang++") if c and shutil.which(c)), None)
LENGTH = 41  # positions 0 .. LENGTH - 1 are asked, of queries and keys
HEADS = REQUESTS = 2

PROGRAM = r"""
#include "portable/check_hooks.h"
#include "portable/tile_class.h"
#include "portable/variant.h"

namespace fovea {

struct Answers {
  unsigned char* kept;
  float* as_float;
  double* as_double;
};

template <class V>
void ask(const V& v, int n, const int* at, const double* score, const Answers& to) {
  static_assert(kHooksAreSound<V>);
  for (int i = 0; i < n; ++i) {
    const int* a = at + 4 * i;
    const Position<> p{a[0], a[2], a[2], a[3], a[1], a[1], 64, 64};
    if constexpr (requires { v.m; }) {
      to.kept[i] = v.m.keep(p) ? 1 : 0;
    } else {
      to.kept[i] = 1;
    }
    to.as_float[i] = transformed_logit(v, static_cast<float>(score[i]), p);
    to.as_double[i] = transformed_logit(v, score[i], p);
  }
}

template <class V>
int class_of(const V& v, const int* t) {
  if constexpr (requires { v.m; }) {
    const auto i = [](const int* x) { return Interval{x[0], x[1]}; };
    return static_cast<int>(classify(v.m, Position<Interval>{i(t), i(t + 4), i(t + 4), i(t + 6), i(t + 2), i(t + 2), 64, 64}));
  }
  return 2;
}

template <class V>
KvRange range_of(const V& v) {
  if constexpr (requires { v.m; }) {
    return v.m.range();
  }
  return {.exact = 1};
}

VARIANTS

}  // namespace fovea

extern "C" void ask_pairs(int which, int n, const int* at, const double* score, unsigned char* kept, float* f, double* d) {
  const fovea::Answers to{kept, f, d};
  switch (which) { CASES_ASK }
}
extern "C" int ask_tile(int which, const int* tile) {
  switch (which) { CASES_TILE }
  return -1;
}
extern "C" void ask_range(int which, int* to) {
  fovea::KvRange r{};
  switch (which) { CASES_RANGE }
  to[0] = r.left, to[1] = r.right, to[2] = r.num_sink, to[3] = r.exact, to[4] = r.chunk;
}
"""


def numbers_of(captured):
    table = captured.tensor
    if hasattr(table, "detach"):
        table = (table.detach().float() if captured.kind == FLOAT else table.int()).numpy()
    return np.ascontiguousarray(table, np.float32 if captured.kind == FLOAT else np.int32)


def literal(x):
    return f"{float(x)!r}f" if isinstance(x, (float, np.floating)) else str(int(x))


def assignments(path, values, tables):
    lines = []
    for name, value in values:
        if not isinstance(value, Captured):
            lines.append(f"  {path}.{name} = {literal(value)};")
            continue
        numbers = numbers_of(value)
        tables.append(f"static const {'float' if value.kind == FLOAT else 'int32_t'} values{len(tables)}[] = {{{', '.join(map(literal, numbers.ravel()))}}};")
        array = f"values{len(tables) - 1}"
        if numbers.ndim == 1:
            lines.append(f"  {path}.{name} = {{{array}, {numbers.size}}};")
        else:
            cols = numbers.shape[-1]
            lines.append(f"  {path}.{name} = {{{array}, {numbers.size // cols}, {cols}, {cols}}};")
    return lines


class Compiled:
    """Variants compiled into one library."""

    def __init__(self, variants):
        tables, makers = [], []
        for i, v in enumerate(variants):
            body = assignments("v.m", v.mask, tables) + assignments("v.p", v.params, tables)
            makers.append(f"namespace v{i} {{\n{v.text}\n}}\n")
            makers.append(f"static v{i}::{v.struct} make{i}() {{\n  v{i}::{v.struct} v{{}};\n" + "\n".join(body) + "\n  return v;\n}\n")
        cases = range(len(variants))
        text = PROGRAM.replace("VARIANTS", "\n".join(tables + makers))
        text = text.replace("CASES_ASK", " ".join(f"case {i}: fovea::ask(fovea::make{i}(), n, at, score, to); break;" for i in cases))
        text = text.replace("CASES_TILE", " ".join(f"case {i}: return fovea::class_of(fovea::make{i}(), tile);" for i in cases))
        text = text.replace("CASES_RANGE", " ".join(f"case {i}: r = fovea::range_of(fovea::make{i}()); break;" for i in cases))
        with tempfile.TemporaryDirectory(prefix="fovea_flex_") as folder:
            self.library = self.built(pathlib.Path(folder, "variants.cc"), text)

    @staticmethod
    def built(source, text):
        source.write_text(text)
        library = source.with_suffix(".so")
        command = [COMPILER, "-std=c++20", "-O0", "-w", "-fPIC", "-shared", f"-I{ROOT}", f"-I{ROOT / 'include'}", str(source), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(f"the text doesn't compile:\n{done.stderr[:4000]}\n{text}")
        return ctypes.CDLL(str(library))

    def pairs(self, which, at, score):
        n = len(score)
        kept, as_float, as_double = np.zeros(n, np.uint8), np.zeros(n, np.float32), np.zeros(n)
        pointer = [a.ctypes.data_as(ctypes.c_void_p) for a in (at, score, kept, as_float, as_double)]
        self.library.ask_pairs(which, n, *pointer)
        return kept.astype(bool), as_float, as_double

    def tile(self, which, bounds):
        return self.library.ask_tile(which, (ctypes.c_int * 8)(*bounds))

    def range(self, which):
        found = (ctypes.c_int * 5)()
        self.library.ask_range(which, found)
        return dict(zip(("left", "right", "num_sink", "exact", "chunk"), found))


def all_pairs():
    grid = np.meshgrid(np.arange(REQUESTS), np.arange(HEADS), np.arange(LENGTH), np.arange(LENGTH), indexing="ij")
    at = np.ascontiguousarray(np.stack([g.ravel() for g in grid], axis=1), np.int32)
    return at, np.random.default_rng(5).normal(size=len(at)) * 3


AT, SCORE = all_pairs()
SHAPE = (REQUESTS, HEADS, LENGTH, LENGTH)


def visible(range_, q, kv):
    seen = (kv <= q + range_["right"]) & ((kv >= q - range_["left"]) | (kv < range_["num_sink"]))
    return seen & (kv // range_["chunk"] == q // range_["chunk"]) if range_["chunk"] else seen


class Checker(unittest.TestCase):
    def check(self, compiled, which, variant, expected_keep, expected_score, smooth=True):
        """The compiled text against what the functions say. expected_*: over AT, None: nothing is masked, or the score stays."""
        kept, as_float, as_double = compiled.pairs(which, AT, SCORE)
        expected = np.ones(len(AT), bool) if expected_keep is None else expected_keep
        if not np.array_equal(kept, expected):
            at = AT[np.flatnonzero(kept != expected)[0]]
            self.fail(f"keep differs at (request, head, q, kv) = {at}\n{variant.text}\n{variant.mask}")
        self.check_tiles(compiled, which, variant, expected.reshape(SHAPE))
        self.check_range(compiled.range(which), variant, expected)
        score = SCORE if expected_score is None else expected_score
        finite = expected & np.isfinite(score)
        np.testing.assert_allclose(as_double[finite], score[finite], rtol=1e-9, atol=1e-9, err_msg=variant.text)
        if smooth:
            np.testing.assert_allclose(as_float[finite], score[finite], rtol=1e-3, atol=1e-3, err_msg=variant.text)

    def check_tiles(self, compiled, which, variant, kept):
        draw = random.Random(which)
        for _ in range(40):
            q, k = (sorted(draw.sample(range(LENGTH), 2)) for _ in range(2))
            b, h = ((i, i) if draw.random() < 0.7 else (0, 1) for i in (draw.randrange(2), draw.randrange(2)))
            found = compiled.tile(which, [*b, *h, *q, *k])
            of_tile = kept[b[0] : b[1] + 1, h[0] : h[1] + 1, q[0] : q[1] + 1, k[0] : k[1] + 1]
            self.assertFalse(found == 0 and of_tile.any(), f"a tile called empty holds pairs: {b, h, q, k}\n{variant.text}")
            self.assertFalse(found == 2 and not of_tile.all(), f"a tile called full lacks pairs: {b, h, q, k}\n{variant.text}")

    def check_range(self, range_, variant, kept):
        self.assertGreaterEqual(min(range_.values()), 0, "planners refuse a negative bound")
        seen = visible(range_, AT[:, 2], AT[:, 3])
        self.assertFalse((kept & ~seen).any(), f"the range {range_} leaves out pairs that keep keeps\n{variant.text}\n{variant.mask}")
        if range_["exact"]:
            self.assertFalse((seen & ~kept).any(), f"the range {range_} says exact and holds pairs that keep drops\n{variant.text}\n{variant.mask}")


# Random trees. A tree is a function of (lib, leaves); `lib` is the vocabulary: of symbols or of NumPy.


class OfSymbols:
    @staticmethod
    def call(name, *args):
        symbol = next((a for a in args if isinstance(a, Symbol)), None)
        return OfNumpy.call(name, *args) if symbol is None else symbol.trace.apply(name, args, {})

    @staticmethod
    def look(table, *indices):
        return Table(table)[indices if len(indices) > 1 else indices[0]] if any(isinstance(i, Symbol) for i in indices) else OfNumpy.look(table, *indices)


class OfNumpy:
    NAMES = {
        "where": np.where, "minimum": np.minimum, "maximum": np.maximum, "abs": np.abs, "tanh": np.tanh, "sqrt": np.sqrt, "exp": np.exp,
        "sigmoid": lambda x: 1 / (1 + np.exp(-np.asarray(x, float))), "floor": np.floor, "ceil": np.ceil, "round": np.round, "trunc": np.trunc,
        "sin": np.sin, "cos": np.cos, "long": lambda x: np.trunc(x).astype(np.int64), "invert": np.logical_not, "sign": np.sign,
        "softplus": lambda x: np.logaddexp(0, x), "fmod": np.fmod, "log1p": np.log1p, "float": lambda x: np.asarray(x, float),
    }  # fmt: skip

    @staticmethod
    def call(name, *args):
        return OfNumpy.NAMES[name](*args)

    @staticmethod
    def look(table, *indices):
        wrapped = [np.clip(np.where(np.asarray(i) < 0, np.asarray(i) + n, i), 0, n - 1) for i, n in zip(indices, table.shape)]
        return table[tuple(wrapped)].astype(np.float64 if table.dtype.kind == "f" else np.int64)


class Trees:
    """Draws functions of indices and scores."""

    def __init__(self, seed):
        self.draw = random.Random(seed)
        numbers = np.random.default_rng(seed)
        self.int_tables = [numbers.integers(-3, 9, 17).astype(np.int32), np.sort(numbers.integers(0, 6, LENGTH)).astype(np.int32)]
        self.table_2d = numbers.integers(0, 3, (HEADS, 11)).astype(np.int32)
        self.float_tables = [np.round(numbers.normal(size=9) * 8) / 8, np.round(numbers.normal(size=(2, 2, 13)) * 8) / 8]
        self.float_tables = [t.astype(np.float32) for t in self.float_tables]

    def pick(self, *makers):
        return self.draw.choice(makers)()

    def constant(self):
        return self.draw.choice([0, 1, 2, 3, 5, 8, 16, -1, -4, self.draw.randrange(-40, 41)])

    def integer(self, depth):
        if depth == 0 or self.draw.random() < 0.15:
            name = self.draw.choice(["q", "kv", "q", "kv", "h", "b"])
            return lambda lib, at: at[name]
        x, y, c = self.integer(depth - 1), self.integer(depth - 1), self.constant()
        divisor = self.draw.choice([1, 2, 3, 4, 7, 8, 16, -3])
        table, condition = self.draw.choice(self.int_tables), self.truth(depth - 1)
        return self.draw.choice([
            lambda lib, at: x(lib, at) + y(lib, at), lambda lib, at: x(lib, at) - y(lib, at), lambda lib, at: x(lib, at) + c,
            lambda lib, at: c - x(lib, at), lambda lib, at: x(lib, at) * self.small(c), lambda lib, at: x(lib, at) // divisor,
            lambda lib, at: x(lib, at) % divisor, lambda lib, at: abs(x(lib, at)), lambda lib, at: -x(lib, at),
            lambda lib, at: lib.call("minimum", x(lib, at), y(lib, at)), lambda lib, at: lib.call("maximum", x(lib, at), c),
            lambda lib, at: lib.look(table, x(lib, at)), lambda lib, at: lib.look(self.table_2d, at["h"], x(lib, at)),
            lambda lib, at: lib.call("where", condition(lib, at), x(lib, at), y(lib, at)), lambda lib, at: x(lib, at) & 6, lambda lib, at: x(lib, at) ^ 3,
            lambda lib, at: x(lib, at) & 3, lambda lib, at: lib.call("fmod", x(lib, at), 5), lambda lib, at: lib.call("sign", x(lib, at)),
        ])  # fmt: skip

    @staticmethod
    def small(c):
        return max(-3, min(3, c))

    def truth(self, depth):
        if depth == 0 or self.draw.random() < 0.35:
            x, y = self.integer(max(depth - 1, 0)), self.integer(max(depth - 1, 0))
            c = self.constant()
            linear = self.draw.choice([
                lambda lib, at: at["q"] >= at["kv"], lambda lib, at: at["q"] - at["kv"] <= c, lambda lib, at: at["kv"] < at["q"] + c,
                lambda lib, at: abs(at["q"] - at["kv"]) < c, lambda lib, at: at["kv"] < c, lambda lib, at: at["q"] // 8 == at["kv"] // 8,
                lambda lib, at: at["kv"] - at["q"] == c, lambda lib, at: c <= at["q"],
                lambda lib, at: (at["q"] - at["kv"]) * 0.5 < c,
            ])  # fmt: skip
            general = self.draw.choice([
                lambda lib, at: x(lib, at) < y(lib, at), lambda lib, at: x(lib, at) <= c, lambda lib, at: x(lib, at) == y(lib, at),
                lambda lib, at: x(lib, at) != c, lambda lib, at: x(lib, at) >= y(lib, at),
            ])  # fmt: skip
            return linear if self.draw.random() < 0.6 else general
        a, b, c = self.truth(depth - 1), self.truth(depth - 1), self.truth(depth - 1)
        return self.draw.choice([
            lambda lib, at: a(lib, at) & b(lib, at), lambda lib, at: a(lib, at) & b(lib, at), lambda lib, at: a(lib, at) | b(lib, at),
            lambda lib, at: lib.call("invert", a(lib, at)), lambda lib, at: a(lib, at) ^ b(lib, at),
            lambda lib, at: lib.call("where", a(lib, at), b(lib, at), c(lib, at)),
        ])  # fmt: skip

    def number(self, depth, smooth):
        if depth == 0 or self.draw.random() < 0.15:
            i, table = self.integer(1), self.float_tables
            return self.draw.choice([
                lambda lib, at: at["score"], lambda lib, at: at["score"], lambda lib, at: lib.call("float", i(lib, at)) * 0.25,
                lambda lib, at: lib.look(table[0], i(lib, at)), lambda lib, at: lib.look(table[1], at["b"], at["h"], at["q"] - at["kv"] + 6),
            ])  # fmt: skip
        x, y, c = self.number(depth - 1, smooth), self.number(depth - 1, smooth), self.draw.choice([0.5, 1.5, -0.75, 4.0, 10.0])
        t = self.truth(1)
        choices = [
            lambda lib, at: x(lib, at) + y(lib, at), lambda lib, at: x(lib, at) - y(lib, at), lambda lib, at: x(lib, at) * c,
            lambda lib, at: x(lib, at) / c, lambda lib, at: c * lib.call("tanh", x(lib, at) / c), lambda lib, at: lib.call("sigmoid", x(lib, at)),
            lambda lib, at: lib.call("where", t(lib, at), x(lib, at), y(lib, at)), lambda lib, at: lib.call("abs", x(lib, at)),
            lambda lib, at: lib.call("maximum", x(lib, at), y(lib, at)), lambda lib, at: lib.call("exp", -abs(x(lib, at))),
            lambda lib, at: lib.call("sqrt", abs(x(lib, at))), lambda lib, at: lib.call("softplus", x(lib, at)),
            lambda lib, at: lib.call("sin", x(lib, at)), lambda lib, at: lib.call("cos", x(lib, at)), lambda lib, at: x(lib, at) ** 2 * 0.125,
            lambda lib, at: lib.call("log1p", abs(x(lib, at))),
        ]  # fmt: skip
        if not smooth:
            name = self.draw.choice(["floor", "ceil", "round", "trunc"])
            choices = [lambda lib, at: lib.call(name, x(lib, at)), lambda lib, at: x(lib, at) % c, lambda lib, at: x(lib, at) // c,
                       lambda lib, at: lib.call("where", x(lib, at) < y(lib, at), x(lib, at), c), *choices[:6]]  # fmt: skip
        return self.draw.choice(choices)


def leaves(b, h, q, kv, score=None):
    return {"b": b, "h": h, "q": q, "kv": kv, "score": score}


NUMPY_LEAVES = leaves(*(AT[:, i].astype(np.int64) for i in range(4)), SCORE)


@unittest.skipIf(COMPILER is None, "no C++ compiler")
class RandomTrees(Checker):
    def test_masks(self):
        self.run_trees(lambda trees: (None, trees.truth(3), True))

    def test_scores(self):
        self.run_trees(lambda trees: (trees.number(3, True), None, True))

    def test_scores_with_steps(self):
        self.run_trees(lambda trees: (trees.number(2, False), trees.truth(1), False), count=OPTIONS.trees // 2)

    def run_trees(self, make, count=None):
        cases = []
        for i in range(OPTIONS.trees if count is None else count):
            trees = Trees(OPTIONS.seed * 1000 + i)
            score, keep, smooth = make(trees)
            score_mod = score and (lambda s, b, h, q, kv, tree=score: tree(OfSymbols, leaves(b, h, q, kv, s)))
            mask_mod = keep and (lambda b, h, q, kv, tree=keep: tree(OfSymbols, leaves(b, h, q, kv)))
            with np.errstate(all="ignore"):
                wanted = [None if t is None else np.broadcast_to(np.asarray(t(OfNumpy, NUMPY_LEAVES)), len(AT)) for t in (keep, score)]
            cases.append((translate(score_mod, mask_mod), *wanted, smooth))
        compiled = Compiled([c[0] for c in cases])
        for i, (variant, keep, score, smooth) in enumerate(cases):
            with self.subTest(tree=i, seed=OPTIONS.seed):
                self.check(compiled, i, variant, keep, None if score is None else score.astype(float), smooth)
                if variant.keep_node is not None:
                    np.testing.assert_array_equal(evaluate(variant.keep_node, None, *AT.T.astype(np.int64)) & True, keep)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=OPTIONS.seed)
    parser.add_argument("--trees", type=int, default=OPTIONS.trees)
    known, rest = parser.parse_known_args()
    vars(OPTIONS).update(vars(known))
    unittest.main(argv=[sys.argv[0], *rest])
