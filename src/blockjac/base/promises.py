"""How a promise that is not kept is read: places of `x[i]` that lie off the array.

JAX promises that the places of plain indexing are on the array. Where they are not, the read gives
the nearest entry, and so does its tangent; but the cotangent falls off the array. Derivatives are
taken the way that JAX's transform of the same name goes, whatever the order of elimination.
"""

from __future__ import annotations

import contextvars
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from blockjac.base.context import setting

_forwards: contextvars.ContextVar[bool] = contextvars.ContextVar("blockjac_forwards", default=False)

_kept: contextvars.ContextVar[bool] = contextvars.ContextVar("blockjac_kept", default=False)

FORWARDS = frozenset({"jvp", "hessian", "block_hessian", "hessian_diagonal", "laplacian"})
"""The transforms that JAX's namesakes, or what they stand for, take forwards last."""


def is_forwards() -> bool:
    """Whether derivatives are taken as tangents are: at the nearest entry."""
    return _forwards.get()


def is_structure_kept() -> bool:
    """Whether the answer keeps its structure, so that constant masks are worth to be known."""
    return _kept.get()


def keeping_structure(wanted: bool) -> AbstractContextManager[None]:
    """Say whether the answer keeps its structure."""
    return setting(_kept, wanted)


@dataclass(frozen=True)
class Read:
    """A computation that is answered in one of the two ways.

    Attributes:
        computation: what is asked of a graph, see `blockjac.engine.run.Computation`.
        forwards: as in `is_forwards`.
    """

    computation: Any
    forwards: bool

    @property
    def keeps_structure(self) -> bool:
        """Whether the answer's structure may depend on constants of the program."""
        return getattr(self.computation, "keeps_structure", False)

    @property
    def takes_any_numbers(self) -> bool:
        """Whether the answer is arrays alone: then Python numbers of the program may be open."""
        return getattr(self.computation, "takes_any_numbers", False)

    def __call__(
        self,
        graph: Any,
        arguments: Sequence[Any],
        captured: Sequence[Any],
        extra: Sequence[Any],
    ) -> Any:
        """What the computation returns."""
        with setting(_forwards, self.forwards):
            return self.computation(graph, arguments, captured, extra)
