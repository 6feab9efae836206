#!/usr/bin/env python3
"""PyTorch's standard score_mods and mask_mods: translated, compiled and asked pair by pair against the functions called with tensors; and refusals.

    python/tests/flex_standard_test.py       (77: no PyTorch)
"""

import pathlib
import re
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

try:
    import torch
except ImportError:
    if __name__ != "__main__":
        raise unittest.SkipTest("no PyTorch here") from None
    print("flex_standard_test: no PyTorch here", file=sys.stderr)
    sys.exit(77)

import flex_cases as cases  # noqa: E402
from flex_translate_test import AT, COMPILER, HEADS, LENGTH, REQUESTS, SCORE, Checker, Compiled  # noqa: E402

from fovea.flex.graph import CannotTrace  # noqa: E402
from fovea.flex.translate import translate  # noqa: E402


def called(function, with_score):
    """The function on 0-dimensional tensors, for all of AT at once: as PyTorch's eager form calls it."""
    b, h, q, kv = (torch.from_numpy(AT[:, i].astype("int64")) for i in range(4))
    leaves = [torch.from_numpy(SCORE)] * with_score + [b, h, q, kv]
    from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex

    with TransformGetItemToIndex():
        return torch.vmap(function)(*leaves).numpy()


@unittest.skipIf(COMPILER is None, "no C++ compiler")
class Standard(Checker):
    def test_agrees_with_the_functions(self):
        named = cases.standard_cases(REQUESTS, HEADS, LENGTH, LENGTH)
        variants = {name: translate(*mods) for name, mods in named.items()}
        compiled = Compiled(list(variants.values()))
        for i, (name, (score_mod, mask_mod)) in enumerate(named.items()):
            with self.subTest(name):
                keep = None if mask_mod is None else called(mask_mod, False)
                score = None if score_mod is None else called(score_mod, True).astype("float64")
                if score is not None and not (score > -1e30).all():  # what a score_mod masks is the variant's mask
                    keep = score > -1e30 if keep is None else keep & (score > -1e30)
                tolerance = 2e-6  # a function's constants are floats where PyTorch computes in double
                self.check_loosely(compiled, i, variants[name], keep, score, tolerance)

    def check_loosely(self, compiled, which, variant, keep, score, tolerance):
        kept, _, as_double = compiled.pairs(which, AT, SCORE)
        expected = kept * 0 + 1 if keep is None else keep
        self.assertTrue((kept == expected).all(), variant.text)
        self.check_range(compiled.range(which), variant, expected.astype(bool))
        self.check_tiles(compiled, which, variant, expected.astype(bool).reshape(REQUESTS, HEADS, LENGTH, LENGTH))
        if score is not None:
            apart = abs(as_double - score)[kept] / (1 + abs(score[kept]))
            self.assertLess(apart.max(), tolerance, variant.text)


class Forms(unittest.TestCase):
    def test_ranges(self):
        """What planners count tiles by is found where there is a closed form."""

        def range_in(mask_mod):
            return re.search(r"KvRange range\(\) const \{ return \{(.*)\}; \}", translate(None, mask_mod).text)[1]

        bound = "max_({0}, 0)"
        n0, less = bound.format("n0"), bound.format("n0 - 1")
        self.assertEqual(range_in(cases.causal), ".right = 0, .exact = 1")
        self.assertEqual(range_in(cases.sliding_window(100)), f".left = {n0}, .right = 0, .exact = n0 >= 0")
        self.assertEqual(range_in(lambda b, h, q, kv: (q - kv).abs() < 9), f".left = {less}, .right = {less}, .exact = n0 - 1 >= 0")
        self.assertEqual(range_in(lambda b, h, q, kv: (q // 64 == kv // 64) & (q >= kv)), ".right = 0, .exact = 1, .chunk = 64")
        self.assertEqual(range_in(lambda b, h, q, kv: (q >= kv) & (kv < 7)), ".left = 0, .right = 0, .num_sink = max_(n0, 0)")
        self.assertEqual(range_in(lambda b, h, q, kv: ~(q < kv)), ".right = 0, .exact = 1")
        self.assertEqual(range_in(lambda b, h, q, kv: q > kv), ".right = 0")  # KvRange has no negative bounds
        table = torch.zeros(8, dtype=torch.int32)
        self.assertEqual(range_in(cases.and_masks(cases.causal, cases.document(table))), ".right = 0")
        self.assertEqual(range_in(cases.shifted(torch.tensor(3))), f".right = {n0}, .exact = n0 >= 0")

    def test_another_number_is_the_same_text(self):
        self.assertEqual(translate(cases.soft_cap(20.0), cases.sliding_window(64)).text, translate(cases.soft_cap(50.0), cases.sliding_window(4096)).text)
        short, long = torch.zeros(2, 9), torch.zeros(2, 129)
        self.assertEqual(translate(cases.relative_position(short)).text, translate(cases.relative_position(long)).text)

    def test_opaque(self):
        self.assertTrue(translate(None, cases.checkerboard).text.count("opaque0") >= 2)
        wholly = translate(None, lambda b, h, q, kv: (q ^ kv) < 5)
        self.assertTrue(wholly.opaque)
        self.assertIn("keep(const Position<>& at)", wholly.text)
        self.assertFalse(translate(None, cases.natten(8, 8, 3, 3)).opaque)

    def test_builtins(self):
        def builtin(score_mod, mask_mod):
            found = translate(score_mod, mask_mod).builtin
            return found and (found.name, [v for _, v in found.mask], len(found.params))

        self.assertEqual(builtin(None, None), ("full", [], 0))
        self.assertEqual(builtin(None, cases.causal), ("causal", [], 0))
        self.assertEqual(builtin(cases.causal_by_score, None), ("causal", [], 0))
        self.assertEqual(builtin(None, cases.sliding_window(64)), ("sliding_window", [64, 0], 0))
        self.assertEqual(builtin(cases.soft_cap(3.0), cases.sliding_window(64)), ("sliding_window+soft_cap", [64, 0], 1))
        self.assertEqual(builtin(cases.alibi_slopes(torch.ones(2)), cases.causal), ("causal+alibi", [], 1))
        self.assertEqual(builtin(None, cases.prefix_lm(torch.ones(2, dtype=torch.int64)))[0], "prefix_lm")
        self.assertIsNone(builtin(None, lambda b, h, q, kv: q > kv))
        self.assertIsNone(builtin(lambda s, b, h, q, kv: 3.0 * torch.tanh(s / 2.0), None))
        self.assertIsNone(builtin(None, cases.sliding_window(-3)))

    def test_names(self):
        slopes = torch.ones(2)
        text = translate(cases.alibi_slopes(slopes), None).text
        self.assertIn("Table<float> slopes;", text)
        self.assertIn("struct FlexAlibiMod : VariantBase", text)
        out = torch.ones(2)
        self.assertNotIn(" out;", translate(lambda s, b, h, q, kv: s + out[h], None).text)  # run() has an argument of that name


def branches(b, h, q, kv):
    if q > 3:
        return q >= kv
    return q < kv


whole = torch.ones(4)
REFUSALS = {
    "a branch": (None, branches, r"mask_mod 'branches' \(.*:\d+\): a branch.*torch.where"),
    "and": (None, lambda b, h, q, kv: q >= kv and q - kv < 4, r"a branch, `and`.*& \| ~"),
    "chained": (None, lambda b, h, q, kv: 0 <= q - kv < 4, r"& \| ~"),
    "item": (lambda s, b, h, q, kv: s * s.item(), None, r"needs the value of the score"),
    "range": (lambda s, b, h, q, kv: sum(s for _ in range(q)), None, r"needs the value of q_idx"),
    "an unknown function": (lambda s, b, h, q, kv: torch.erfinv(s), None, r"torch.erfinv has no translation; known are .*tanh"),
    "a whole tensor": (lambda s, b, h, q, kv: s + whole, None, r"shape \[4\] takes part as a whole.*index it"),
    "a slice": (lambda s, b, h, q, kv: s + whole[h:], None, r""),
    "a float index": (lambda s, b, h, q, kv: s + whole[q / 2], None, r"indexed by a float"),
    "half of the axes": (lambda s, b, h, q, kv: s + torch.ones(2, 2)[h], None, r"1 of its axes not indexed"),
    "too many indices": (lambda s, b, h, q, kv: s + whole[h, q], None, r"indexed 2 times"),
    "no truth": (None, lambda b, h, q, kv: q - kv, r"returns a int.*compare"),
    "None": (None, lambda b, h, q, kv: None, r"returns None"),
    "a reduction": (lambda s, b, h, q, kv: torch.sum(s), None, r"torch.sum has no translation"),
    "int8": (lambda s, b, h, q, kv: s + q.to(torch.int8), None, r"conversion to torch.int8"),
    "out": (lambda s, b, h, q, kv: torch.add(s, s, out=torch.zeros(())), None, r"out="),
    "bits of a float": (lambda s, b, h, q, kv: s & 3, None, r"bits of a float"),
    "too many tensors": (lambda s, b, h, q, kv: s + sum(t[h] for t in [torch.ones(2) for _ in range(17)]), None, r"17 tensors.*16 fields"),
    "no condition": (lambda s, b, h, q, kv: torch.where(q, s, 0.0), None, r"condition that is no bool"),
}


class Refusals(unittest.TestCase):
    def test_in_words(self):
        for name, (score_mod, mask_mod, words) in REFUSALS.items():
            with self.subTest(name), self.assertRaisesRegex(NotImplementedError, f"flex: .*{words}") as raised:
                translate(score_mod, mask_mod)
            self.assertIsInstance(raised.exception, CannotTrace)

    def test_errors_of_the_function_pass(self):
        with self.assertRaises(ZeroDivisionError):
            translate(lambda s, b, h, q, kv: s / (1 // 0), None)


if __name__ == "__main__":
    unittest.main()
