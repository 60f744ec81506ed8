"""Mistakes as candidates, what was given for each leaf, and which explanations are chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blockjac.checking.report import Mistake


@dataclass(frozen=True, eq=False)
class Candidate:
    """A mistake at one value: its cotangent changes by `fixed + k * free`.

    Attributes:
        mistake: by name; `{k}` in the hint stands for the number k.
        value: whose cotangent changes.
        fixed: what is added to the cotangent.
        free: what is added to it times any number; None for nothing.
        rank: the smaller, the likelier.
        settle: names the mistake once it is known to explain something, or refuses; None where it
            has a name.
    """

    mistake: Mistake
    value: int
    fixed: np.ndarray
    free: np.ndarray | None = None
    rank: int = 50
    settle: Callable[[], Mistake | None] | None = None


@dataclass(frozen=True)
class Explanation:
    """A mistake and the leaves that it explains.

    Attributes:
        mistake: by name.
        leaves: those that it explains.
        contradicted: how many other leaves would differ from what was given.
        is_weak: whether any numbers could be explained by it.
        rank: the smaller, the likelier.
    """

    mistake: Mistake
    leaves: frozenset[int]
    contradicted: float = 0
    is_weak: bool = False
    rank: int = 50

    @property
    def order(self) -> tuple[Any, ...]:
        """For sorting: the best first."""
        return self.is_weak, -len(self.leaves) + 1.5 * self.contradicted, self.rank

    def within(self, leaves: Iterable[int]) -> Explanation:
        """The same of some of the leaves."""
        rest = self.leaves.intersection(leaves)
        return Explanation(self.mistake, rest, self.contradicted, self.is_weak, self.rank)


@dataclass(eq=False)
class Target:
    """What was given for one leaf.

    Attributes:
        value: the leaf's number in the tape.
        given: the array, in the exact shape; None if it was of another.
        limit: how far equal numbers may differ.
        is_right: whether it is right.
    """

    value: int
    given: np.ndarray | None
    limit: float
    is_right: bool


def named_by_factor(mistake: Mistake, factor: float) -> Mistake:
    """A mistake with its number written in; a factor of 0 or -1 has a name of its own."""
    hint = mistake.hint.replace("{k}", f"{factor:.6g}")
    if mistake.name == "constant factor of a term" and abs(factor) < 1e-6:
        return Mistake("missing term", mistake.hint.partition(" was taken")[0] + " was left out")
    if mistake.name == "constant factor of a term" and abs(factor + 1) < 1e-6:
        return Mistake("sign of a term", mistake.hint.partition(" was taken")[0] + ": other sign")
    return Mistake(mistake.name, hint, factor)


def chosen(explanations: Sequence[Explanation], wrong: Iterable[int]) -> dict[int, Mistake]:
    """A mistake for each leaf that is explained: those that explain most leaves first.

    What could explain any number, as a factor between two single ones does, does not name it.
    """
    mistakes: dict[int, Mistake] = {}
    rest = set(wrong)
    while rest:
        candidates = [explanation.within(rest) for explanation in explanations]
        candidates = [own for own in candidates if own.leaves and not own.is_weak]
        if not candidates:
            break
        best = min(candidates, key=lambda candidate: candidate.order)
        mistakes.update(dict.fromkeys(best.leaves, best.mistake))
        rest -= best.leaves
    return mistakes
