"""Out-of-range indices of `x[i]`, and other properties of the result that rules depend on.

JAX assumes that the indices of plain indexing are in range. If they are not, the read gives the
nearest entry, and so does its tangent, but the cotangent is dropped. Derivatives follow the JAX
transform of the same name, whatever the order of elimination.
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

FORWARDS = frozenset(
    {"jvp", "hessian", "block_hessian", "hessian_diagonal", "laplacian", "partial_derivatives"}
)
"""The transforms whose counterparts in JAX differentiate forwards last."""


def is_forwards() -> bool:
    """Whether out-of-range reads differentiate as tangents do: at the nearest entry."""
    return _forwards.get()


def reading_forwards(forwards: bool) -> AbstractContextManager[None]:
    """Within the context, `is_forwards()` has the given value."""
    return setting(_forwards, forwards)


def is_structure_kept() -> bool:
    """Whether the result keeps its structure, so that constant masks are worth knowing."""
    return _kept.get()


def keeping_structure(kept: bool) -> AbstractContextManager[None]:
    """Within the context, `is_structure_kept()` has the given value."""
    return setting(_kept, kept)


@dataclass(frozen=True)
class Read:
    """A computation together with its treatment of out-of-range indices.

    Attributes:
        computation: computes a result from a graph, see `blockjac.engine.run.Computation`.
        forwards: the value of `is_forwards()` meanwhile.
    """

    computation: Any
    forwards: bool

    @property
    def keeps_structure(self) -> bool:
        """Whether the structure of the result may depend on constants of the program."""
        return getattr(self.computation, "keeps_structure", False)

    @property
    def takes_any_numbers(self) -> bool:
        """Whether the result is arrays alone, so that Python numbers may become arguments."""
        return getattr(self.computation, "takes_any_numbers", False)

    def __call__(
        self,
        graph: Any,
        arguments: Sequence[Any],
        captured: Sequence[Any],
        extra: Sequence[Any],
    ) -> Any:
        """Run the computation."""
        with setting(_forwards, self.forwards):
            return self.computation(graph, arguments, captured, extra)
