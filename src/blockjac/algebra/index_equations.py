"""The equations that a contraction solves: which label values make two indices meet on an axis.

`IndexEquations` is a term in the making: factors, the indices of the answer, and equations between
indices that still have to hold. `index_solution.solve` removes the equations one by one, each by a
substitution of a label (a slice, a reshape or a gather of the factors that carry it), or, where no
substitution exists, by a factor of zeros and ones. Every step keeps `0 <= index < size of the
axis`, so that no entry outside of an axis is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blockjac.algebra.answers import answered
from blockjac.algebra.index_arrays import (
    in_range,
)
from blockjac.algebra.index_substitution import index_substituted, values_within
from blockjac.algebra.views import View
from blockjac.base.promises import is_structure_kept
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label, Lookup
from blockjac.terms.known_indices import (
    is_known,
)
from blockjac.terms.term import Term


class Contradiction(Exception):
    """The equations have no solution: the term is zero."""


class IndexEquations:
    """Factors, indices of the answer and pending equations over a common set of labels."""

    def __init__(
        self,
        factors: Sequence[Factor],
        indices: Sequence[Index],
        axis_sizes: Sequence[int],
        labels: Sequence[Label],
        coefficient: Any,
    ) -> None:
        self.axis_sizes = tuple(axis_sizes)
        self.views = [View.of(factor) for factor in factors]
        self.indices = list(indices)
        self.labels = dict.fromkeys(labels)
        self.coefficient = coefficient
        self.equations: list[tuple[Index, Index, int]] = []

    def require(self, index: Index, size: int) -> None:
        """Keep only label values for which the index lies on the axis.

        An index of a single label has been trimmed already; any other takes a mask if it may leave
        the axis.
        """
        if index.constant and not index.within(size):
            raise Contradiction
        if not index.within(size):
            self.mask(index, size)

    def mask(self, index: Index, size: int, divisor: int = 1) -> None:
        """Keep, by a mask, the label values for which the quotient of an index lies on an axis."""
        mask = in_range(index, size, divisor, self._is_structure(index))
        self.views.append(View.of(mask))

    def _is_structure(self, index: Index, is_placed: bool = False) -> bool:
        """Whether an index is known and placed, so that a mask of it tells places of the answer."""
        return (
            is_structure_kept()
            and is_known(index)
            and (is_placed or any(map(self.is_placed, index.labels)))
        )

    def trim(self, index: Index, size: int) -> None:
        """Restrict the one label of an index to the values for which the index lies on the axis."""
        if index.single is None:
            raise TypeError("only an index of one label can be trimmed")
        label, stride = index.single
        first, last = values_within(index.offset, stride, label.size, size)
        if last < first:
            raise Contradiction
        self.substitute(label, Index.of(Label(last - first + 1), 1, first))

    # Substitution

    def fix(self, label: Label, value: int) -> None:
        """Give a label a constant value."""
        if not 0 <= value < label.size:
            raise Contradiction
        self.substitute(label, Index(value))

    def substitute(self, label: Label, value: Index) -> None:
        """Replace a label everywhere by an expression whose values keep its range or are masked."""
        self.labels.pop(label, None)
        for new in value.labels:
            self.labels.setdefault(new)
        lookups: dict[int, Lookup] = {}

        def replaced(index: Index) -> Index:
            return index_substituted(index, label, value, lookups)

        self.views = [
            View(view.array, tuple(map(replaced, view.axes)), view.name) for view in self.views
        ]
        self.indices = [replaced(index) for index in self.indices]
        self.equations = [
            (replaced(left), replaced(right), size) for left, right, size in self.equations
        ]

    def solve_for(self, label: Label, value: Index) -> None:
        """Replace a label by an expression; values out of the label's range are not entries."""
        if value.constant:
            self.fix(label, value.offset)
            return
        if value.single is not None and not value.within(label.size):
            kept = value.single[0]
            first, last = values_within(value.offset, value.single[1], kept.size, label.size)
            if last < first:
                raise Contradiction
            fresh = Index.of(Label(last - first + 1), 1, first)
            self.substitute(kept, fresh)
            value = index_substituted(value, kept, fresh, {})
        is_masked = not value.within(label.size) and not self._guards(label, value)
        self.substitute(label, value)
        if is_masked:
            self.mask(value, label.size)

    def _guards(self, label: Label, value: Index) -> bool:
        """Whether a value outside the label's range counts for nothing anyway.

        It does if an axis of the answer is the label, since positions off the axis are not entries,
        and if a factor has the label as an axis, which reads 0 there. Places that are known and
        stay in the answer are masked all the same: a 0 that is read is an entry like any other.
        """
        if any(
            index.is_plain(size) and index.labels == (label,)
            for index, size in zip(self.indices, self.axis_sizes, strict=True)
        ):
            return True
        is_structure = self._is_structure(value, self.is_placed(label))
        return not is_structure and any(view.guards(label) for view in self.views)

    def is_digit(self, label: Label) -> bool:
        """Whether a label is beside others in an index of the answer or of an equation."""
        return any(label in index.labels and len(index.labels) > 1 for index in self._pending())

    def is_placed(self, label: Label) -> bool:
        """Whether a label is in an index of the answer or of an equation."""
        return any(label in index.labels for index in self._pending())

    def _pending(self) -> list[Index]:
        """The indices of the answer and those of the equations still to be solved."""
        sides = [side for left, right, _ in self.equations for side in (left, right)]
        return [*self.indices, *sides]

    # The answer

    def term(self, out_axes: int) -> Term:
        """The term, with the labels that no index carries summed."""
        factors = [view.read() for view in self.views]
        return answered(factors, self.indices, self.labels, self.coefficient, out_axes)
