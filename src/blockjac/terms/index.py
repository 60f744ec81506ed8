"""Labels and index expressions: how the loop indices of a term index the axes of a Jacobian.

A `Label` is a loop index with a size and no name: two labels are equal only if they are the same
object, so that axis numbers are never stored. An `Index` maps values of labels to a position on
one axis.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np


class Label:
    """A loop index that runs over `0 .. size - 1`; identity is the object itself."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = int(size)  # the parameters of some primitives are integers of NumPy

    def __repr__(self) -> str:
        return f"Label({self.size})#{id(self) % 9973}"


@dataclass(frozen=True, eq=False)
class Lookup:
    """An integer array over labels: the run-time part of an index.

    Attributes:
        array: integers of shape `tuple(label.size for label in labels)`.
        labels: the labels of its axes.
        bounds: inclusive bounds that all values are known to obey, or None if nothing is known.
        multiple: a number that divides all values: the weight, if the lookup is a digit of a
            mixed-radix number.
        constant: whether the array is a NumPy array that the structure may depend on.
    """

    array: Any
    labels: tuple[Label, ...]
    bounds: tuple[int, int] | None = None
    multiple: int = 1
    constant: bool = False

    def __post_init__(self) -> None:
        if self.constant and isinstance(self.array, np.ndarray):
            object.__setattr__(self, "array", interned(cast("np.ndarray", self.array)))


_by_content: weakref.WeakValueDictionary[Any, np.ndarray] = weakref.WeakValueDictionary()
_by_id: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()


def interned(array: np.ndarray) -> np.ndarray:
    """The shared array with these values: equal constants are stored once and compare by identity.

    Examples:
        >>> first, second = np.arange(3), np.arange(3)
        >>> interned(first) is interned(second)
        True
    """
    if _by_id.get(id(array)) is array:
        return array
    content = hashlib.sha256(array.tobytes()).digest()
    shared = _by_content.setdefault((array.shape, array.dtype.str, content), array)
    _by_id[id(shared)] = shared
    return shared


@dataclass(frozen=True)
class Index:
    """An index expression: `offset + sum(stride * label) + lookup(labels)`.

    Each label occurs at most once in `strides` and no stride is zero. A value outside the axis that
    the expression stands for means "no entry".
    """

    offset: int = 0
    strides: tuple[tuple[Label, int], ...] = ()
    lookup: Lookup | None = None

    @staticmethod
    def of(label: Label, stride: int = 1, offset: int = 0) -> Index:
        """The expression `offset + stride * label`; a label of size 1 is the constant `offset`."""
        return Index(offset, ((label, stride),) if label.size != 1 else ())

    @property
    def labels(self) -> tuple[Label, ...]:
        """Every label of the expression once, including those of the lookup."""
        if self.lookup is None and len(self.strides) == 1:  # the most frequent case
            return (self.strides[0][0],)
        own = tuple(label for label, _ in self.strides)
        if self.lookup is None:
            return own
        return own + tuple(label for label in self.lookup.labels if label not in own)

    @property
    def single(self) -> tuple[Label, int] | None:
        """The label and its stride if the expression is affine in exactly one label, else None."""
        return self.strides[0] if len(self.strides) == 1 and self.lookup is None else None

    @property
    def constant(self) -> bool:
        """Whether the expression has neither labels nor a lookup."""
        return not self.strides and self.lookup is None

    def is_same(self, other: Index) -> bool:
        """Whether both are the same expression, with the same array looked up."""
        mine, its = self.lookup, other.lookup
        if (self.offset, self.strides) != (other.offset, other.strides):
            return False
        if mine is None or its is None:
            return mine is its
        return mine.array is its.array and mine.labels == its.labels

    def is_plain(self, size: int) -> bool:
        """Whether this is one label that runs over a whole axis of this size, in order."""
        if size == 1:
            return self.constant and self.offset == 0
        return (
            self.offset == 0
            and self.single is not None
            and self.single[1] == 1
            and self.single[0].size == size
        )

    def bounds(self) -> tuple[int, int] | None:
        """Inclusive bounds of the values over all label values; None if a lookup is unbounded."""
        low = high = self.offset
        for label, stride in self.strides:
            reach = stride * (label.size - 1)
            low, high = low + min(reach, 0), high + max(reach, 0)
        if self.lookup is not None:
            if self.lookup.bounds is None:
                return None
            low, high = low + self.lookup.bounds[0], high + self.lookup.bounds[1]
        return low, high

    def within(self, size: int) -> bool:
        """Whether every value is known to lie in `0 .. size - 1`."""
        bounds = self.bounds()
        return bounds is not None and bounds[0] >= 0 and bounds[1] < size

    def stride(self, label: Label) -> int:
        """The stride of a label, or 0 if it does not occur affinely."""
        return next((stride for own, stride in self.strides if own is label), 0)

    def without(self, label: Label) -> Index:
        """The same expression with the affine occurrence of a label removed."""
        return replace(self, strides=tuple(pair for pair in self.strides if pair[0] is not label))

    def shifted(self, offset: int) -> Index:
        """The same expression plus a constant."""
        return replace(self, offset=self.offset + offset)

    def relabelled(self, mapping: Mapping[Label, Label]) -> Index:
        """The same expression with labels renamed, one to one."""
        lookup = self.lookup
        if lookup is not None:
            lookup = replace(
                lookup, labels=tuple(mapping.get(label, label) for label in lookup.labels)
            )
        return Index(
            self.offset,
            tuple((mapping.get(label, label), stride) for label, stride in self.strides),
            lookup,
        )


def collect(pairs: Iterable[tuple[Label, int]]) -> tuple[tuple[Label, int], ...]:
    """Add up the strides of equal labels and drop those that cancel."""
    total: dict[Label, int] = {}
    for label, stride in pairs:
        total[label] = total.get(label, 0) + stride
    return tuple((label, stride) for label, stride in total.items() if stride and label.size != 1)


def radix(index: Index) -> tuple[Label, ...] | None:
    """The labels of a complete mixed-radix number, most significant first, or None.

    Complete means: offset 0, no lookup, and every stride is the product of the sizes of the labels
    after it, so that the values run over `0 .. product of sizes - 1`, each once.
    """
    if index.offset or index.lookup is not None or not index.strides:
        return None
    pairs = sorted(index.strides, key=lambda pair: -pair[1])
    weight = 1
    for label, stride in reversed(pairs):
        if stride != weight:
            return None
        weight *= label.size
    return tuple(label for label, _ in pairs)
