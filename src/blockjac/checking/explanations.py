"""Which mistakes explain what was given: each is made in the exact derivative, and compared.

A mistake at one value changes its cotangent, by `d` say. What this does to the derivatives is known
without a reverse pass: along a direction s of the variable w it is `<s, change> = <D_w u s, d>`, so
that a few directions tell nearly always whether a mistake can be the one. Those that pass are made
in a reverse pass, and all entries are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from blockjac.checking.candidates import Candidate, Explanation, Target, named_by_factor
from blockjac.checking.compare import same
from blockjac.checking.passes import Change, Edge, Passes
from blockjac.checking.report import Mistake
from blockjac.checking.tape import Arrays

MAX_WORK = 2 * 10**9
"""After this many multiplications, a second or two, no further mistake is tried at a value."""

MAX_PASSED = 100_000
"""After this many entries in whole reverse passes, about a second, no further mistake is tried."""

DIRECTIONS = 3
"""Along how many directions a mistake is tried before it is made."""


LEFT_OUT_RANK = 19
"""How likely a path is left out: likelier than that it counts with any other factor."""


FREE_DOUBT = 15
"""How much less likely a mistake is in which a number was chosen to fit that nothing suggests."""

SURE = 34
"""Up to this rank the search ends with a mistake that explains everything."""

ZERO_DOUBT = 8
"""How much less likely a mistake is that explains nothing but zeros."""


@dataclass(eq=False)
class Evidence:
    """The given leaves of one result, and what explains them.

    Attributes:
        passes: the exact reverse pass, and others.
        targets: one per leaf.
        explanations: what was found.
        work: how many multiplications were spent on directions.
        passed: how many entries were passed in whole reverse passes.
    """

    passes: Passes
    targets: Sequence[Target]
    explanations: list[Explanation] = field(default_factory=list[Explanation])
    work: int = 0
    passed: int = 0

    @cached_property
    def wrong(self) -> list[int]:
        """The leaves to be explained."""
        return [
            n
            for n, target in enumerate(self.targets)
            if not target.is_right and target.given is not None
        ]

    @cached_property
    def sizes(self) -> list[float]:
        """The sizes of axes, and of arrays."""
        shapes = {tuple(aval.shape) for aval in self.passes.tape.avals}
        axes = {size for shape in shapes for size in shape}
        return sorted((axes | {int(np.prod(shape)) for shape in shapes}) - {0})

    @cached_property
    def _directions(self) -> list[list[np.ndarray]]:
        generator = np.random.default_rng(0)
        shapes = [self.passes.tape.shape(target.value) for target in self.targets]
        return [[generator.normal(size=shape) for _ in range(DIRECTIONS)] for shape in shapes]

    @cached_property
    def _tangents(self) -> list[Arrays]:
        """The tangents of all values, by leaf and direction."""
        return [
            self.passes.forward({target.value: direction})
            for target, directions in zip(self.targets, self._directions, strict=True)
            for direction in directions
        ]

    @cached_property
    def _errors(self) -> np.ndarray:
        """Given minus exact, along the directions: one row per leaf."""
        errors = np.full((len(self.targets), DIRECTIONS), np.nan)
        for n, target in enumerate(self.targets):
            if target.given is not None:
                difference = target.given - self._exact(target)
                errors[n] = [np.sum(s * difference) for s in self._directions[n]]
        return errors

    @cached_property
    def _allowed(self) -> np.ndarray:
        """How far products along the directions may differ."""
        return np.array(
            [
                [target.limit * np.abs(s).sum() for s in directions]
                for target, directions in zip(self.targets, self._directions, strict=True)
            ]
        )

    def _exact(self, target: Target) -> np.ndarray:
        return self.passes.exact.get(target.value, np.zeros(self.passes.tape.shape(target.value)))

    def matrix(self, value: int) -> np.ndarray:
        """The tangents of a value: one row per leaf and direction."""
        size = int(np.prod(self.passes.tape.shape(value)))
        rows = np.zeros((len(self._tangents), size))
        for row, tangents in zip(rows, self._tangents, strict=True):
            if value in tangents:
                row[...] = tangents[value].ravel()
        return rows

    @property
    def is_settled(self) -> bool:
        """Whether everything is explained by mistakes that contradict nothing."""
        good = [
            explanation
            for explanation in self.explanations
            if not (explanation.is_weak or explanation.contradicted or explanation.rank > SURE)
        ]
        return any(set(self.wrong) <= explanation.leaves for explanation in good)

    # Trying

    def try_at(self, value: int, candidates: Sequence[Candidate]) -> None:
        """Note which mistakes at a value explain what."""
        if not candidates or not self.wrong or self.work > MAX_WORK:
            return
        matrix = self.matrix(value)
        if not matrix.any():
            return
        self.work += len(candidates) * matrix.size
        zeros = np.zeros(matrix.shape[1])
        fixed = np.stack([candidate.fixed.ravel() for candidate in candidates])
        free = np.stack([zeros if c.free is None else c.free.ravel() for c in candidates])
        shape = (len(candidates), len(self.targets), DIRECTIONS)
        with np.errstate(all="ignore"):
            fixed_moves = (fixed @ matrix.T).reshape(shape)
            free_moves = (free @ matrix.T).reshape(shape)
        for candidate, still, moving in zip(candidates, fixed_moves, free_moves, strict=True):
            if np.isfinite(still).all() and np.isfinite(moving).all():
                self._try(candidate, still, moving)

    def _try(self, candidate: Candidate, still: np.ndarray, moving: np.ndarray) -> None:
        """Note what one mistake explains, by its effects along the directions."""
        rest = self._errors - still
        if candidate.free is None:
            self._note(candidate, 0.0, np.abs(rest) <= self._allowed, np.abs(still))
            return
        factors: list[float] = []
        for leaf in self.wrong:
            with np.errstate(over="ignore"):
                square = moving[leaf] @ moving[leaf]
            if 0 < square < np.inf:
                factor = float(moving[leaf] @ rest[leaf] / square)
                factor = self.rounded(factor) if abs(factor) > 1e-6 else 0.0
                if not any(abs(factor - k) <= 1e-3 * abs(k) for k in factors):
                    factors.append(factor)
        for factor in factors:
            change = still + factor * moving
            self._note(
                candidate, factor, np.abs(self._errors - change) <= self._allowed, np.abs(change)
            )

    def _note(
        self, candidate: Candidate, factor: float, agrees: np.ndarray, change: np.ndarray
    ) -> None:
        """Confirm a mistake that agrees along the directions, and keep it."""
        moved = np.any(change > self._allowed, axis=1)
        agreeing = np.all(agrees, axis=1) & moved
        if not agreeing[self.wrong].any():
            return
        unnamed = candidate.mistake if candidate.settle is None else candidate.settle()
        if unnamed is None:
            return
        delta = candidate.fixed
        if candidate.free is not None:
            delta = delta + factor * candidate.free
        below = self.passes.below(candidate.value, delta)
        predicted = {
            target.value: self._exact(target) + below.get(target.value, 0.0)
            for target in self.targets
        }
        mistake = named_by_factor(unnamed, factor)
        is_free = candidate.free is not None and factor != 0 and not self.is_likely(factor)
        rank = LEFT_OUT_RANK if candidate.free is not None and not factor else candidate.rank
        self.try_pass(mistake, predicted, rank, is_free=is_free)

    def try_passes(self, mistakes: Iterable[tuple[Mistake, Mapping[Edge, Change], int]]) -> None:
        """Note what mistakes explain that are changes in many places of the reverse pass."""
        count = len(self.passes.tape.entries)
        for mistake, changes, rank in mistakes:
            if self.passed > MAX_PASSED:
                return
            self.passed += count
            self.try_pass(mistake, self.passes.reverse(changes), rank)

    def try_pass(
        self, mistake: Mistake, predicted: Mapping[int, Any], rank: int, *, is_free: bool = False
    ) -> None:
        """Note what a mistake explains whose derivatives are known.

        Args:
            mistake: by name.
            predicted: the derivatives that it leads to, by leaf.
            rank: the smaller, the likelier.
            is_free: whether a number in it was chosen to fit.
        """
        explained: list[int] = []
        contradicted = 0.0
        entries = 0
        for n, target in enumerate(self.targets):
            if target.given is None:
                continue
            array = np.asarray(predicted.get(target.value, 0.0))
            array = np.broadcast_to(array, target.given.shape)
            agrees = same(target.given, array, target.limit)
            if target.is_right:
                contradicted += not agrees
            elif agrees:
                explained.append(n)
                entries += int(np.count_nonzero(np.abs(array - self._exact(target)) > target.limit))
            elif same(array, self._exact(target), target.limit):
                pass  # it says nothing about this leaf
            else:
                contradicted += 0.5
        if explained:
            if all(self._is_zero(self.targets[n], predicted) for n in explained):
                rank += ZERO_DOUBT
            rank += FREE_DOUBT * is_free
            is_weak = is_free and entries < 3
            self.explanations.append(
                Explanation(mistake, frozenset(explained), contradicted, is_weak, rank)
            )

    def _is_zero(self, target: Target, predicted: Mapping[int, Any]) -> bool:
        return bool(np.abs(predicted.get(target.value, 0.0)).max(initial=0.0) <= target.limit)

    def is_likely(self, factor: float) -> bool:
        """Whether a factor is of the kind that is forgotten: small, or the size of an axis."""
        return float(np.abs(self._factors / factor - 1).min()) <= 1e-4 if factor else False

    @cached_property
    def _factors(self) -> np.ndarray:
        small = [1, 2, 3, 4]
        sizes = [*small, *self.sizes, *np.sqrt(self.sizes), *(2 * np.array(self.sizes))]
        positive = [factor for size in sizes for factor in (size, 1 / size)]
        return np.array(sorted({*positive, *(-factor for factor in positive)}), float)

    def rounded(self, factor: float) -> float:
        """The likely factor next to a number, if it is close; else the number."""
        nearest = float(self._factors[np.abs(self._factors - factor).argmin()])
        return nearest if abs(nearest - factor) <= 1e-4 * abs(nearest) else factor
