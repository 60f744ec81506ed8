"""Blocks as pytrees: their arrays, and the static rest, in which labels are numbers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blockjac.base.arrays import Shape
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label, Lookup
from blockjac.terms.term import Term


@dataclass(frozen=True)
class Structure:
    """All of a block that is static, on which a compiled program depends; names do not count."""

    out_shape: Shape
    wrt_shape: Shape
    dtype: Any
    terms: tuple[Any, ...]
    names: Names

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:  # programs are found by it, again and again
        return hash((self.out_shape, self.wrt_shape, self.dtype, self.terms))


class Names(tuple):
    """Names that ride along with a structure: equal to any other names."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Names)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return 0

    def without(self) -> Names:
        """As many empty names."""
        return Names(("",) * len(names) for names in self)


def terms_of(structure: Structure, arrays: Sequence[Any]) -> tuple[Term, ...]:
    """The terms of a structure, over fresh labels."""
    terms = []
    for (label_sizes, coefficient, factors, out, wrt), names in zip(
        structure.terms, structure.names, strict=True
    ):
        labels = [Label(size) for size in label_sizes]
        lookups: dict[Any, Lookup] = {}

        def index_of(
            numbered: tuple[Any, ...],
            labels: list[Label] = labels,
            lookups: dict[Any, Lookup] = lookups,
        ) -> Index:
            offset, strides, key = numbered
            lookup = None
            if key is not None:
                over = tuple(labels[number] for number in key[1])
                made = Lookup(arrays[key[0]], over, *key[2:])
                lookup = lookups.setdefault(key, made)
            return Index(
                offset, tuple((labels[number], stride) for number, stride in strides), lookup
            )

        terms.append(
            Term(
                tuple(
                    Factor(arrays[place], tuple(labels[number] for number in numbers), name)
                    for (place, numbers), name in zip(factors, names, strict=True)
                ),
                tuple(map(index_of, out)),
                tuple(map(index_of, wrt)),
                coefficient,
            )
        )
    return tuple(terms)
