"""What a question of the learning pages consists of, and how its arguments are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Argument:
    """An argument of a question's function.

    Attributes:
        shape: of the array.
        kind: of its numbers: "normal", "positive", "invertible", "bits" (0 or 1), or "positions"
            (whole numbers below `below`).
        below: for positions, the number that they are below of.
    """

    shape: tuple[int, ...]
    kind: str = "normal"
    below: int = 0

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """A random array of the kind."""
        if self.kind == "normal":
            return rng.normal(size=self.shape)
        if self.kind == "positive":
            return rng.uniform(0.5, 2.0, self.shape)
        if self.kind == "invertible":  # a diagonal large enough for a small condition number
            return rng.normal(size=self.shape) + 4 * np.eye(self.shape[0])
        if self.kind == "bits":
            return rng.integers(0, 2, self.shape).astype(float)
        if self.kind == "positions":
            return rng.integers(0, self.below, self.shape)
        raise ValueError(f"no numbers are known of the kind {self.kind!r}")


@dataclass(frozen=True)
class Question:
    """A derivative that learners ask for.

    Attributes:
        title: the question.
        text: what goes wrong, or what to see.
        function: whose derivative is asked for.
        arguments: of the function, in its order.
        argnums: what to differentiate by.
        textbook: the derivative as books have it, in NumPy: a function of the same arguments that
            gives one array for each of `argnums`, output axes first.
        steps: the functions that `function` calls, which the page shows too.
    """

    title: str
    text: str
    function: Callable[..., Any]
    arguments: Sequence[Argument]
    argnums: tuple[int, ...]
    textbook: Callable[..., Sequence[Any]]
    steps: Sequence[Callable[..., Any]] = ()

    @property
    def address(self) -> str:
        """The name of the page's file, without its ending."""
        name: str = self.function.__name__
        return name.replace("_", "-")

    @property
    def by(self) -> int | tuple[int, ...]:
        """`argnums`, as one number where it is one."""
        return self.argnums if len(self.argnums) > 1 else self.argnums[0]

    def draw(self, seed: int) -> list[np.ndarray]:
        """Random arguments."""
        rng = np.random.default_rng(seed)
        return [argument.draw(rng) for argument in self.arguments]


@dataclass(frozen=True)
class Group:
    """Questions that belong together.

    Attributes:
        title: of the group.
        questions: in the order of reading.
    """

    title: str
    questions: Sequence[Question]
