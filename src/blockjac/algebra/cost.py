"""The cost of a computation, and the abstract arrays of a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from blockjac.devices import rates

NEW = 20
"""The effort of planning a contraction of two terms. Recalling one takes 1: a few microseconds."""


@dataclass(frozen=True, eq=False)
class Abstract:
    """An array in a plan: a shape and a dtype."""

    shape: tuple[int, ...]
    dtype: Any


class OverBudget(Exception):
    """A plan took more effort than it was allowed to, or costs more than it may."""


@dataclass
class Cost:
    """The cost of a computation.

    Attributes:
        multiplications: scalar multiplications; those by 1, -1 and masks do not count.
        additions: scalar additions.
        edge_products: the literature's count of an elimination. Every product of two edges counts
            once for each element, also where an edge is constant: a product over labels counts the
            product of their sizes. A factor that is kept unmultiplied counts once it is multiplied.
        operator_operations: scalar operations of maps that are applied and not written down, such
            as loops and factorizations, by a formula that each declares.
        bytes: the bytes that are read and written, each operation's operands and result once.
        contractions: the number of pairs of terms that were contracted.
        effort: the effort of planning: 1 for a pair of blocks that this plan has met before, `NEW`
            for each pair of terms of a new pair of blocks.
        limit: the effort that may be spent before `OverBudget` is raised; None for no limit.
        seen: the pairs of blocks that this plan has met.
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
        """A rough time on the current device: arithmetic, memory and a little per contraction."""
        device = rates()
        return (
            self.flops / device.operations_per_second
            + self.bytes / device.bytes_per_second
            + self.contractions * device.seconds_a_contraction
        )

    def add(self, other: Cost) -> None:
        """Add another cost to this one, whose limit stays.

        Raises:
            OverBudget: over the limit.
        """
        self._add_counts(other)
        self.spend(other.effort)

    def recall(self, pair: Any, other: Cost) -> None:
        """Add the cost of a pair of blocks, with little effort if the plan has met it before.

        Raises:
            OverBudget: over the limit.
        """
        self._add_counts(other)
        self.spend(1 if pair in self.seen else other.effort + 1)
        self.seen.add(pair)

    def _add_counts(self, other: Cost) -> None:
        """Add the counts of another cost, except its effort."""
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
