"""The structure of a Block as plain numbers, for the model of cost that the page evaluates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from blockjac.algebra.arrays import is_mask
from blockjac.blocks import Block
from blockjac.terms.index import Index as BlockIndex
from blockjac.terms.index import Label


@dataclass(frozen=True)
class Index:
    """The position on an axis: `offset + sum(stride * label) + lookup(looked)`.

    Attributes:
        offset: a whole number.
        strides: labels, each with its factor.
        lookup: the number of an array of positions; 0 for none.
        looked: the labels of that array.
    """

    offset: int = 0
    strides: tuple[tuple[int, int], ...] = ()
    lookup: int = 0
    looked: tuple[int, ...] = ()

    @property
    def labels(self) -> tuple[int, ...]:
        """Every label once."""
        return unique([*(label for label, _ in self.strides), *self.looked])

    @property
    def is_constant(self) -> bool:
        """Whether it is one position."""
        return not self.strides and not self.lookup

    @property
    def single(self) -> tuple[int, int] | None:
        """Its label and stride, where it has one label and looks nothing up."""
        return self.strides[0] if len(self.strides) == 1 and not self.lookup else None


@dataclass(frozen=True)
class Factor:
    """An array over labels.

    Attributes:
        array: its number; equal numbers are one array.
        is_mask: whether it only selects.
        labels: of its axes.
    """

    array: int
    is_mask: bool
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Term:
    """A product of factors at the positions of indices, output axes first."""

    coefficient: float
    factors: tuple[Factor, ...]
    indices: tuple[Index, ...]


@dataclass(frozen=True)
class Signature:
    """The structure of a Block: its shapes and terms."""

    out_shape: tuple[int, ...]
    wrt_shape: tuple[int, ...]
    terms: tuple[Term, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Output axes first."""
        return self.out_shape + self.wrt_shape


def unique(labels: Iterable[int]) -> tuple[int, ...]:
    """Labels without repetitions, in order."""
    return tuple(dict.fromkeys(labels))


class Numbering:
    """Numbers labels and arrays of Blocks.

    Attributes:
        sizes: of the labels, by number.
        arrays: how many there are.
    """

    def __init__(self) -> None:
        """Start from nothing; array 0 is none."""
        self.sizes: list[int] = []
        self.arrays = 1
        self._known: dict[int, int] = {}
        self._held: list[Any] = []

    def label(self, size: int) -> int:
        """A new label."""
        self.sizes.append(size)
        return len(self.sizes) - 1

    def array(self, array: Any) -> int:
        """The number of an array."""
        if id(array) not in self._known:
            self._known[id(array)] = self.arrays
            self._held.append(array)  # so that no other array takes its place in memory
            self.arrays += 1
        return self._known[id(array)]

    def signature(self, block: Block) -> Signature:
        """The structure of a Block."""
        terms: list[Term] = []
        for term in block.terms:
            numbers = {label: self.label(label.size) for label in term.labels}
            factors = tuple(
                Factor(
                    self.array(factor.array),
                    is_mask(factor),
                    tuple(numbers[label] for label in factor.labels),
                )
                for factor in term.factors
            )
            indices = tuple(self._index(index, numbers) for index in term.indices)
            terms.append(Term(_size(term.coefficient), factors, indices))
        return Signature(block.out_shape, block.wrt_shape, tuple(terms))

    def dense(self, out_shape: Sequence[int], wrt_shape: Sequence[int]) -> Signature:
        """The structure of a Jacobian of which nothing is known."""
        labels = [self.label(size) if size != 1 else -1 for size in (*out_shape, *wrt_shape)]
        indices = tuple(Index(0, ((own, 1),) if own >= 0 else ()) for own in labels)
        factor = Factor(self.array(object()), False, tuple(own for own in labels if own >= 0))
        return Signature(tuple(out_shape), tuple(wrt_shape), (Term(1.0, (factor,), indices),))

    def _index(self, index: BlockIndex, numbers: dict[Label, int]) -> Index:
        """An index with numbered labels."""
        strides = tuple((numbers[label], int(stride)) for label, stride in index.strides)
        offset = int(index.offset)  # parameters of some primitives are integers of NumPy
        if index.lookup is None:
            return Index(offset, strides)
        looked = tuple(numbers[label] for label in index.lookup.labels)
        return Index(offset, strides, self.array(index.lookup.array), looked)


def _size(coefficient: Any) -> float:
    """A coefficient as a number; what only the running program knows is a number like any other."""
    if isinstance(coefficient, int | float):
        return float(coefficient)
    return float(abs(coefficient)) if isinstance(coefficient, complex) else 2.0


def relabeled(term: Term, numbers: dict[int, int]) -> Term:
    """A term with other labels."""
    factors = tuple(
        replace(factor, labels=tuple(numbers[label] for label in factor.labels))
        for factor in term.factors
    )
    indices = tuple(
        replace(
            index,
            strides=tuple((numbers[label], stride) for label, stride in index.strides),
            looked=tuple(numbers[label] for label in index.looked),
        )
        for index in term.indices
    )
    return Term(term.coefficient, factors, indices)


def labels_of(term: Term) -> tuple[int, ...]:
    """Every label of a term once, those of the indices first."""
    own = [label for index in term.indices for label in index.labels]
    return unique([*own, *(label for factor in term.factors for label in factor.labels)])


def compact(signature: Signature, sizes: Sequence[int]) -> list[Any]:
    """A signature as lists, with the sizes of its own labels, for JSON.

    Returns:
        `[out_shape, wrt_shape, sizes, terms]`, a term `[coefficient, factors, indices]`, a factor
        `[array, is_mask, labels]`, an index `[offset, strides, lookup, looked]`.
    """
    numbers: dict[int, int] = {}
    for term in signature.terms:
        for label in labels_of(term):
            numbers.setdefault(label, len(numbers))
    terms = [
        [
            own.coefficient,
            [[factor.array, int(factor.is_mask), [*factor.labels]] for factor in own.factors],
            [
                [index.offset, [[*pair] for pair in index.strides], index.lookup, [*index.looked]]
                for index in own.indices
            ],
        ]
        for own in (relabeled(term, numbers) for term in signature.terms)
    ]
    own_sizes = [sizes[label] for label in numbers]
    return [[*signature.out_shape], [*signature.wrt_shape], own_sizes, terms]
