"""Factors: arrays whose axes are labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blockjac.terms.index import Label


@dataclass(frozen=True, eq=False)
class Factor:
    """An array over labels; `name` is what printed formulas call it."""

    array: Any
    labels: tuple[Label, ...]
    name: str = ""

    @property
    def numel(self) -> int:
        """Number of entries."""
        return math.prod(label.size for label in self.labels)


def sizes(labels: Sequence[Label]) -> tuple[int, ...]:
    """The shape of an array over the labels."""
    return tuple(label.size for label in labels)


def numel(labels: Sequence[Label]) -> int:
    """The number of joint values of the labels."""
    return math.prod(label.size for label in labels)


def unique(labels: Sequence[Label]) -> tuple[Label, ...]:
    """The labels without repetitions, in order."""
    return tuple(dict.fromkeys(labels))


def union(factors: Sequence[Factor]) -> tuple[Label, ...]:
    """Every label of the factors once, the widest factor's labels first in its own order."""
    widest_first = sorted(factors, key=lambda factor: -factor.numel)
    return unique([label for factor in widest_first for label in factor.labels])
