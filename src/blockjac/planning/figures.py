"""What an order costs: in all, and step by step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One elimination of a plan.

    Attributes:
        vertex: the number of the value that is eliminated.
        primitive: what computes it.
        source: file, line and function of the user's code.
        entering: structures of the edges that come in.
        leaving: structures of the edges that go out.
        multiplications: that passing it takes.
        additions: likewise.
        edge_products: likewise, by the literature's count.
        operator_operations: likewise, of maps that are applied and not written down.
        bytes: that are read and written.
    """

    vertex: int
    primitive: str
    source: str
    entering: tuple[str, ...]
    leaving: tuple[str, ...]
    multiplications: int
    additions: int
    edge_products: int
    operator_operations: int
    bytes: int


@dataclass(frozen=True)
class Figures:
    """What one way to the answer costs, writing it out included.

    Attributes:
        multiplications: scalar products of numbers.
        additions: scalar sums.
        edge_products: the literature's count of products of edges.
        operator_operations: scalar operations of maps that are applied and not written down, by the
            formula that each declares.
        bytes: that are read and written.
        seconds: the predicted time; rough, to compare orders by.
        peak_bytes: arguments, results and what is stored on the way, together at most; None where
            it was not asked for.
    """

    multiplications: int
    additions: int
    edge_products: int
    operator_operations: int
    bytes: int
    seconds: float
    peak_bytes: int | None = None

    @property
    def flops(self) -> int:
        """All scalar operations."""
        return self.multiplications + self.additions + self.operator_operations
