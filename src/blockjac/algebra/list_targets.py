"""Which axes of a sum of terms need no list: those that all terms have alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from blockjac.algebra import arrays
from blockjac.terms.block import Block, delta_pairs
from blockjac.terms.index import Index, Label
from blockjac.terms.term import Term


@dataclass(frozen=True)
class Target:
    """Which axes of a block need no list.

    Attributes:
        labels: for each axis the label that it keeps, or None.
        following: by axis, the index that follows from a kept label in the same way in all terms,
            such as the camera that made an observation, where observations are kept.
    """

    labels: tuple[Label | None, ...]
    following: Mapping[int, Index]

    @property
    def kept(self) -> tuple[Label, ...]:
        """The kept labels, each once."""
        return arrays.unique([label for label in self.labels if label is not None])

    @property
    def listed(self) -> list[int]:
        """The axes that are looked up."""
        return [
            axis
            for axis, label in enumerate(self.labels)
            if label is None and axis not in self.following
        ]

    def indices(self, listed: Callable[[int], Index]) -> tuple[Index, ...]:
        """The index on each axis of the list.

        Args:
            listed: gives that of an axis that is looked up.
        """

        def index_on(axis: int, label: Label | None) -> Index:
            """The index on one axis."""
            if label is not None:
                return Index.of(label)
            return self.following[axis] if axis in self.following else listed(axis)

        return tuple(index_on(axis, label) for axis, label in enumerate(self.labels))


def target_of(block: Block) -> Target:
    """The axes that are in a delta of all terms, or whole in each, and what follows from them."""
    rank = len(block.out_shape)
    labels: list[Label | None] = [None] * len(block.shape)
    for i, j in delta_pairs(block):
        if labels[i] is None and labels[rank + j] is None:
            labels[i] = labels[rank + j] = Label(block.out_shape[i])
    following: dict[int, Index] = {}
    for axis, size in enumerate(block.shape):
        if labels[axis] is None and axis not in following and size != 1:
            label = Label(size)
            found = _following(block, axis, label)
            if found is not None and not any(labels[other] is not None for other in found):
                labels[axis] = label
                following.update(found)
    return Target(tuple(labels), following)


def _following(block: Block, axis: int, kept: Label) -> dict[int, Index] | None:
    """The indices of other axes that follow from one on which all terms have a plain label.

    Args:
        block: a sum of terms.
        axis: the one.
        kept: stands for the label of each term.

    Returns:
        By axis, the index; None if the axis is not plain in all terms, or if its label is on
        another axis in any other way.
    """
    if not all(term.indices[axis].is_plain(kept.size) for term in block.terms):
        return None
    found: dict[int, Index] = {}
    for other in range(len(block.shape)):
        if other == axis:
            continue
        indices: list[Index] = []
        for term in block.terms:
            own, index = term.indices[axis].labels[0], term.indices[other]
            if own in index.labels:
                if index.labels != (own,):
                    return None
                indices.append(index.relabelled({own: kept}))
        if not indices:
            continue
        first = indices[0]
        if len(indices) < len(block.terms) or not all(map(first.is_same, indices[1:])):
            return None
        found[other] = first
    return found


def own_labels(term: Term, target: Target) -> tuple[Label, ...]:
    """The labels of a term on the axes that are looked up, each once."""
    return arrays.unique([label for axis in target.listed for label in term.indices[axis].labels])
