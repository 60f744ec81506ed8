"""Blocks as pytrees: their arrays, and the static rest, in which labels are numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from blockjac.base.arrays import Shape
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label, Lookup
from blockjac.terms.term import Term


class LookupStructure(NamedTuple):
    """A lookup whose array is given by its position and whose labels are numbers."""

    position: int
    labels: tuple[int, ...]
    bounds: tuple[int, int] | None
    multiple: int
    constant: bool


class IndexStructure(NamedTuple):
    """An index whose labels are numbers."""

    offset: int
    strides: tuple[tuple[int, int], ...]
    lookup: LookupStructure | None


class TermStructure(NamedTuple):
    """A term whose labels are numbers; each factor is a position and the numbers of its labels."""

    label_sizes: Shape
    coefficient: Any
    factors: tuple[tuple[int, tuple[int, ...]], ...]
    out: tuple[IndexStructure, ...]
    wrt: tuple[IndexStructure, ...]


class Names(tuple[tuple[str, ...], ...]):
    """The names of the factors, by term. They do not count: any two are equal."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Names)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return 0

    def without(self) -> Names:
        """The same number of empty names."""
        return Names(("",) * len(names) for names in self)


@dataclass(frozen=True)
class Structure:
    """Everything static about a block, which a compiled program depends on; names do not count."""

    out_shape: Shape
    wrt_shape: Shape
    dtype: Any
    terms: tuple[TermStructure, ...]
    names: Names

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:  # programs are looked up by it, again and again
        return hash((self.out_shape, self.wrt_shape, self.dtype, self.terms))


def bytes_of(arrays: Iterable[Any]) -> int:
    """The bytes of arrays together."""
    return sum(math.prod(array.shape) * np.dtype(array.dtype).itemsize for array in arrays)


def labeled_arrays(terms: Sequence[Term]) -> list[tuple[Any, tuple[Label, ...]]]:
    """The arrays of terms with their labels, each array once: factors first, then lookups."""
    arrays: dict[int, tuple[Any, tuple[Label, ...]]] = {}
    for term in terms:
        for factor in term.factors:
            arrays.setdefault(id(factor.array), (factor.array, factor.labels))
    for term in terms:
        for index in term.indices:
            if index.lookup is not None:
                arrays.setdefault(id(index.lookup.array), (index.lookup.array, index.lookup.labels))
    return list(arrays.values())


def numbered_arrays(
    arrays: Sequence[Any], structure: Structure
) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """The arrays of a structure with the numbers of their labels, once for each use."""
    for term in structure.terms:
        for position, labels in term.factors:
            yield arrays[position], labels
        for index in (*term.out, *term.wrt):
            if index.lookup is not None:
                yield arrays[index.lookup.position], index.lookup.labels


def structure_of_terms(
    terms: Sequence[Term], arrays: Sequence[Any]
) -> tuple[tuple[TermStructure, ...], Names]:
    """The structure of terms over these arrays, with labels numbered by first occurrence."""
    position = {id(array): number for number, array in enumerate(arrays)}
    structures = tuple(_structure_of_term(term, position) for term in terms)
    return structures, Names(tuple(factor.name for factor in term.factors) for term in terms)


def _structure_of_term(term: Term, position: dict[int, int]) -> TermStructure:
    """The structure of one term; `position` maps the id of an array to its position."""
    labels = term.labels
    number = {label: count for count, label in enumerate(labels)}

    def numbered(index: Index) -> IndexStructure:
        """The index with numbers in place of labels and of the array."""
        strides = tuple((number[label], stride) for label, stride in index.strides)
        lookup = index.lookup
        if lookup is None:
            return IndexStructure(index.offset, strides, None)
        over = tuple(number[label] for label in lookup.labels)
        static = lookup.bounds, lookup.multiple, lookup.constant
        kept = LookupStructure(position[id(lookup.array)], over, *static)
        return IndexStructure(index.offset, strides, kept)

    return TermStructure(
        tuple(label.size for label in labels),
        term.coefficient,
        tuple(
            (position[id(factor.array)], tuple(number[label] for label in factor.labels))
            for factor in term.factors
        ),
        tuple(map(numbered, term.out)),
        tuple(map(numbered, term.wrt)),
    )


def terms_of(arrays: Sequence[Any], structure: Structure) -> tuple[Term, ...]:
    """The terms of a structure, over fresh labels."""
    return tuple(
        _term_of(term, names, arrays)
        for term, names in zip(structure.terms, structure.names, strict=True)
    )


def _term_of(structure: TermStructure, names: tuple[str, ...], arrays: Sequence[Any]) -> Term:
    """The term of a structure, over fresh labels; equal lookups become one."""
    labels = [Label(size) for size in structure.label_sizes]
    lookups: dict[LookupStructure, Lookup] = {}

    def index_of(numbered: IndexStructure) -> Index:
        """The index with labels and an array in place of numbers."""
        key, lookup = numbered.lookup, None
        if key is not None:
            over = tuple(labels[number] for number in key.labels)
            fresh = Lookup(arrays[key.position], over, key.bounds, key.multiple, key.constant)
            lookup = lookups.setdefault(key, fresh)
        strides = tuple((labels[number], stride) for number, stride in numbered.strides)
        return Index(numbered.offset, strides, lookup)

    return Term(
        tuple(
            Factor(arrays[position], tuple(labels[number] for number in numbers), name)
            for (position, numbers), name in zip(structure.factors, names, strict=True)
        ),
        tuple(map(index_of, structure.out)),
        tuple(map(index_of, structure.wrt)),
        structure.coefficient,
    )
