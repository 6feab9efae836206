"""A score_mod and a mask_mod as a variant: name, C++ text, and the values that its fields are given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable

from .builtin import builtin_of
from .graph import Captured, Graph, contains
from .lower import lowered, without_masked_logits
from .names import snake_case
from .tables import table_of
from .text import Fields, mask_struct, score_lines
from .tracer import function_name, trace_mask, trace_score


@dataclass
class Traced:
    """What tracing found. `mask` and `params` are (field, number or Captured); texts that are equal are the same variant."""

    name: str
    text: str
    mask: list = field(default_factory=list)
    params: list = field(default_factory=list)
    opaque: bool = False  # the mask can't be asked about tiles
    mask_looks_at_heads: bool = False
    keep_node: object = None  # what was traced, for evaluate()
    score_node: object = None
    builtin: object = None  # Builtin, where the library has the same

    repeatable: bool = True  # tracing read nothing that could differ the next time

    @property
    def struct(self):
        return "".join(word[:1].upper() + word[1:] for word in self.name.split("_"))

    def captured(self, of_mask=False):
        """What the fields are given that is a tensor."""
        return [value for _, value in (self.mask if of_mask else self.mask + self.params) if isinstance(value, Captured)]

    def variant(self):
        """The fovea.Variant: for AttentionSpec. q_idx is the query's position there, b the request."""
        from ..variants import Variant, variant

        return Variant.of(self.builtin.name) if self.builtin is not None else variant(self.text, name=self.name)

    def mask_values(self, device=None):
        """For Attention.plan(mask=...)."""
        return self._values(self.mask if self.builtin is None else self.builtin.mask, device)

    def param_values(self, device=None):
        """For Plan.run(**...)."""
        return self._values(self.params if self.builtin is None else self.builtin.params, device)

    @staticmethod
    def _values(pairs, device):
        return {name: value if not isinstance(value, Captured) else table_of(value, device or value.tensor.device) for name, value in pairs}


def translate(score_mod: Callable[..., Any] | None = None, mask_mod: Callable[..., Any] | None = None, device: Any = None) -> Traced:
    """Traces the functions and writes the variant. Raises CannotTrace with the way out."""
    graph = Graph()
    keep = None if mask_mod is None else trace_mask(graph, mask_mod, device)
    score = None if score_mod is None else trace_score(graph, score_mod, device)
    masked = None
    if score is not None:
        masked, score = without_masked_logits(graph, score)
        score = None if score.op == "score" else score
    if masked is not None:
        keep = masked if keep is None else graph.both(keep, masked)
    if keep is not None and keep.is_constant() and keep.value:
        keep = None
    name = name_of(score_mod, mask_mod)
    traced = Traced(name=name, text="", keep_node=keep, score_node=score, builtin=builtin_of(keep, score), repeatable=not graph.reads_tensors)
    lines = [f"struct {traced.struct} : VariantBase {{"]
    members = []
    if keep is not None:
        fields = Fields("mask")
        mask, traced.opaque = mask_struct(lowered(graph, keep), fields)
        lines += mask
        traced.mask, traced.mask_looks_at_heads = fields.values(), contains(keep, "head")
        members.append("  Mask m;")
    if score is not None:
        fields = Fields("score")
        lines += score_lines(lowered(graph, score), fields)
        traced.params = fields.values()
        members += ["  Params p;"] if traced.params else []
    traced.text = "\n".join(lines + members + ["};", ""])
    return traced


def name_of(score_mod, mask_mod):
    words = [snake_case(function_name(f)) for f in (score_mod, mask_mod) if f is not None]
    words = [w for w in words if w not in ("lambda", "")]
    return "_".join(["flex", *words])


__all__ = ["Captured", "Traced", "translate"]
