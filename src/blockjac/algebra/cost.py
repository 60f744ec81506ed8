"""What a computation costs, and the context in which the block algebra is priced and not run.

Inside `planning()` the operations on factors touch no array: each adds what it would cost to a
`Cost` and returns a factor that knows its shape alone. The algebra above them is written once and
serves both, so that a plan and its execution cannot differ.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from blockjac.base.context import setting
from blockjac.base.promises import is_structure_kept
from blockjac.devices import rates

NEW = 20
"""The effort of planning a contraction of two terms; to recall one is 1, a few microseconds."""


@dataclass(frozen=True, eq=False)
class Abstract:
    """The shape and dtype of an array that a plan talks about."""

    shape: tuple[int, ...]
    dtype: Any


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
            as loops and factorisations, by a formula that each declares.
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


_plan: contextvars.ContextVar[Cost | None] = contextvars.ContextVar("blockjac_plan", default=None)


class OverBudget(Exception):
    """A plan took more effort than it was allowed to, or costs more than it may."""


@contextlib.contextmanager
def planning(limit: int | None = None) -> Iterator[Cost]:
    """Within, factor operations cost instead of compute; yields the `Cost` that they add to.

    Args:
        limit: how much effort may be spent before `OverBudget` is raised.
    """
    cost = Cost(limit=limit)
    with setting(_plan, cost):
        yield cost


def is_planning() -> bool:
    """Whether factor operations are being priced and not run."""
    return _plan.get() is not None


_following: contextvars.ContextVar[bool] = contextvars.ContextVar("blockjac_places", default=False)


def following_places(wanted: bool = True) -> contextlib.AbstractContextManager[None]:
    """Within, plans know the places of masks, as what they plan for does, and not the price alone.

    That takes longer, since a mask counts with all its entries.
    """
    return setting(_following, wanted)


def is_following_places() -> bool:
    """Whether plans know the places of masks."""
    return _following.get()


def is_only_priced() -> bool:
    """Whether a plan is made for its price alone, for which places that are known do not count."""
    return is_planning() and not is_following_places()


def current() -> Cost:
    """The cost that a plan under way adds to.

    Raises:
        RuntimeError: outside `planning()`.
    """
    cost = _plan.get()
    if cost is None:
        raise RuntimeError("something can be priced inside planning() only")
    return cost


T = TypeVar("T")


def planned(way: Callable[[], T]) -> tuple[T, Cost]:
    """What a computation gives in a plan of its own, and what it costs; see `settled`."""
    outer = _plan.get()
    with planning() as cost, following_places(False):
        if outer is not None:
            cost.seen = outer.seen
        return way(), cost


def settled(way: Callable[[], T], answer: T, cost: Cost) -> T:
    """The computation that was chosen after it had been `planned`.

    A plan takes what it gave there: to plan it once more would double the effort at each loop
    inside of a loop.

    Raises:
        OverBudget: in a plan, where that has taken too much effort.
    """
    outer = _plan.get()
    if outer is None or is_following_places():
        return way()
    outer.add(cost)
    return answer


def charge(operations: int, moved: int) -> None:
    """In a plan: add operations of a map, and bytes, that no factor operation accounts for."""
    cost = _plan.get()
    if cost is not None:
        cost.operator_operations += operations
        cost.bytes += moved


def charge_runs(once: Cost, times: int) -> None:
    """In a plan: add what a program of its own costs that is run so many times.

    How often its operations start counts where the answer is dense. Deltas that a loop carries take
    more of them, each with fewer numbers: an answer that keeps its structure is not to lose it for
    what it takes to start an operation.
    """
    charge(once.flops * times, once.bytes * times)
    cost = _plan.get()
    if cost is not None and not is_structure_kept():
        cost.contractions += once.contractions * times


def count_contraction() -> None:
    """In a plan: count one contraction of two terms against the budget.

    Raises:
        OverBudget: when there were too many.
    """
    cost = _plan.get()
    if cost is not None:
        cost.contractions += 1
        cost.spend(NEW)


def count_edge_products(entries: int) -> None:
    """In a plan: products of edges by a constant, which take no multiplication."""
    cost = _plan.get()
    if cost is not None:
        cost.edge_products += entries
