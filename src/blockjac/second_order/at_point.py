"""An equation at a point: what all that adds to a Laplacian has in common."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blockjac.blocks import Block
from blockjac.elimination.elimination_graph import Vertex
from blockjac.second_order.narrow import Directions


@dataclass(frozen=True, eq=False)
class AtPoint(abc.ABC):
    """An equation whose derivative varies, at a point.

    Attributes:
        operands: the values of its operands.
        results: the values of its results.
        tails: the vertices of its operands; None for those that are not differentiated.
        heads: the vertices of its results; None for those that nothing differentiated depends on.
    """

    operands: Sequence[Any]
    results: Sequence[Any]
    tails: Sequence[Vertex | None]
    heads: Sequence[Vertex | None]

    @abc.abstractmethod
    def curvatures(self, directions: Directions, kept: bool) -> dict[Vertex, dict[Any, Block]]:
        """What the equation adds at each of its results, for each source of directions.

        Args:
            directions: the Jacobians of the operands.
            kept: whether to keep directions separate instead of summing over them.
        """
