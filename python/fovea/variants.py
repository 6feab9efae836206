"""Variants: the attention rule, by name or as C++ text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Union

_STRUCT = re.compile(r"^\s*struct\s+([A-Z][A-Za-z0-9]*)\s*:\s*(?:public\s+)?VariantBase\b", re.MULTILINE)


@dataclass(frozen=True)
class VariantSource:
    """A variant's C++ text: defines ``struct MyCap : VariantBase`` where ``name`` is ``my_cap``. Errors of the compiler name ``file``."""

    name: str
    text: str
    file: str


@dataclass(frozen=True)
class Variant:
    """The attention rule: a built-in name, or several parts joined by ``+`` in the order in which they apply.

    ``"causal" + fovea.variant(text) + "soft_cap"`` is a Variant: masks are and-ed, logit transforms run left to right.
    """

    name: str = "causal"
    sources: tuple[VariantSource, ...] = field(default=(), repr=False)

    @staticmethod
    def of(value: "VariantLike") -> "Variant":
        if isinstance(value, Variant):
            return value
        if isinstance(value, str):
            return Variant(value)
        raise TypeError(f"variant is {type(value).__name__}; it must be a str or a fovea.Variant")

    @property
    def parts(self) -> tuple[str, ...]:
        """The names between the ``+``."""
        return tuple(self.name.split("+"))

    def __add__(self, other: "VariantLike") -> "Variant":
        other = Variant.of(other)
        return Variant(self.name + "+" + other.name, self.sources + tuple(s for s in other.sources if s not in self.sources))

    def __radd__(self, other: "VariantLike") -> "Variant":
        return Variant.of(other) + self

    def __str__(self) -> str:
        return self.name


VariantLike = Union[str, Variant]


def variant(source: str, *, name: str | None = None, file: str | None = None) -> Variant:
    """A variant of your own, from C++ text. Nothing is compiled before ``Engine.prepare``.

    source: text that defines one struct derived from ``VariantBase`` (docs/add-a-variant.md), with its mask and params.
    name:   in snake_case; the struct's name in PascalCase is the same. Default: made from the struct's name.
    file:   what errors of the compiler call the text. Default: ``<name>.h``.

    Raises ValueError where the text defines no such struct, or several and no ``name`` says which. Mistakes in the C++ are RuntimeErrors of
    ``prepare``, with file and line.
    """
    if not isinstance(source, str):
        raise TypeError(f"variant: source is {type(source).__name__}; it must be a str of C++")
    if name is None:
        found = _STRUCT.findall(source)
        if len(found) != 1:
            raise ValueError(f"variant: the text defines {len(found)} structs derived from VariantBase ({', '.join(found)}); one is needed, or name=")
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", found[0]).lower()
    return Variant(name, (VariantSource(name, source, file or f"{name}.h"),))
