"""What a computation costs, and what stands for an array in a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from blockjac.devices import rates

NEW = 20
"""The effort of planning a contraction of two terms; to recall one is 1, a few microseconds."""


@dataclass(frozen=True, eq=False)
class Abstract:
    """The shape and dtype of an array that a plan talks about."""

    shape: tuple[int, ...]
    dtype: Any


class OverBudget(Exception):
    """A plan took more effort than it was allowed to, or costs more than it may."""


@dataclass
class Cost:
    """What a computation costs.

    Attributes:
        multiplications: scalar products of numbers that are made; by 1, -1 and masks none is.
        additions: scalar sums.
        edge_products: the literature's count of an elimination. Every product of two edges counts
            one for each element, those with a constant edge too: a product over labels counts the
            product of their sizes. A factor that is kept apart counts when it is multiplied.
        operator_operations: scalar operations of maps that are applied and not written down, such
            as loops and factorizations, by a formula that each declares.
        bytes: what is read and written, each operation's operands and result once.
        contractions: how many pairs of terms met.
        effort: what it took to plan this: 1 for a pair of blocks that this plan has met before,
            `NEW` for each pair of terms of a new one.
        limit: how much effort may be spent before `OverBudget` is raised; None for any.
    """

    multiplications: int = 0
    additions: int = 0
    edge_products: int = 0
    operator_operations: int = 0
    bytes: int = 0
    contractions: int = 0
    effort: int = 0
    limit: int | None = None
    seen: set[Any] = field(default_factory=set, repr=False, compare=False)

    @property
    def flops(self) -> int:
        """All scalar operations."""
        return self.multiplications + self.additions + self.operator_operations

    def seconds(self) -> float:
        """A rough time on the current device: arithmetic, memory, a little a contraction."""
        device = rates()
        return (
            self.flops / device.operations_per_second
            + self.bytes / device.bytes_per_second
            + self.contractions * device.seconds_a_contraction
        )

    def add(self, other: Cost) -> None:
        """Add another cost to this one; the limit stays."""
        self._add_counts(other)
        self.spend(other.effort)

    def recall(self, pair: Any, other: Cost) -> None:
        """Add the cost of a pair of blocks, which takes little effort where it was met before.

        Raises:
            OverBudget: over the limit.
        """
        self._add_counts(other)
        self.spend(1 if pair in self.seen else other.effort + 1)
        self.seen.add(pair)

    def _add_counts(self, other: Cost) -> None:
        self.multiplications += other.multiplications
        self.additions += other.additions
        self.edge_products += other.edge_products
        self.operator_operations += other.operator_operations
        self.bytes += other.bytes
        self.contractions += other.contractions

    def spend(self, effort: int) -> None:
        """Count the effort of planning.

        Raises:
            OverBudget: over the limit.
        """
        self.effort += effort
        if self.limit is not None and self.effort > self.limit:
            raise OverBudget
