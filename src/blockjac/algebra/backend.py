"""Where the array work of the algebra goes: emitted as operations of JAX, or priced.

The algebra is written once, against a `Backend`. What makes an array states in one call how it is
emitted and what that takes: `Emit` does the first, `Price` counts the second and returns an array
that knows its shape and dtype alone. So a plan and the program that it plans cannot part ways: they
are the same calls.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np

from blockjac.algebra.cost import NEW, Abstract, Cost
from blockjac.base.context import setting
from blockjac.base.promises import is_structure_kept
from blockjac.devices import in_bytes, memory_limit
from blockjac.errors import DenseTooLargeError
from blockjac.terms.factor import Factor, numel, sizes
from blockjac.terms.index import Label

T = TypeVar("T")


class Backend(ABC):
    """What the algebra asks for where it makes an array, or decides what to make.

    Attributes:
        knows_places: whether masks that are known while a program is traced are looked into, entry
            by entry. A plan that is made for its price alone does not.
    """

    knows_places: bool

    @property
    @abstractmethod
    def cost(self) -> Cost | None:
        """The cost of the plan under way; None where operations are emitted."""

    @property
    def follows_places(self) -> bool:
        """Whether a plan is under way that looks into masks."""
        return self.cost is not None and self.knows_places

    @abstractmethod
    def factor(
        self,
        labels: Sequence[Label],
        dtype: Any,
        emit: Callable[[], Any],
        reads: Sequence[Factor] = (),
        *,
        multiplications: int = 0,
        additions: int = 0,
        masked: int = 0,
        scaled: int = 0,
    ) -> Factor:
        """A factor over labels that one operation makes.

        Args:
            labels: of the factor.
            dtype: of the factor.
            emit: gives its array.
            reads: the factors that the operation reads; they count in bytes, as the result does.
            multiplications: of numbers by numbers.
            additions: of numbers.
            masked: multiplications by masks: those select, and still are products of edges.
            scaled: multiplications by a static coefficient: the product of edges that it came from
                has been counted.
        """

    @abstractmethod
    def array(
        self,
        shape: Sequence[int],
        dtype: Any,
        emit: Callable[[], Any],
        *,
        additions: int = 0,
        operations: int = 0,
        moved: int = 0,
    ) -> Any:
        """An array that takes nothing, or what its maker says.

        Args:
            shape: of the array.
            dtype: of the array.
            emit: gives the array.
            additions: of numbers, in a loop that is there anyway.
            operations: scalar operations of a map that is applied and not written down.
            moved: bytes that are read and written.
        """

    @abstractmethod
    def runs(
        self, once: Callable[[], Cost], times: int, emit: Callable[[], T], results: Callable[[], T]
    ) -> T:
        """What a program of its own gives that is run several times, such as the body of a loop.

        Args:
            once: gives the cost of one run.
            times: how often it is run.
            emit: runs it.
            results: gives what stands for the results in a plan.
        """

    @abstractmethod
    def select(self, emit: T, price: T) -> T:
        """One of two values, where emitting and pricing take different ways to the same end."""

    @abstractmethod
    def perform(self, action: Callable[..., None], *arguments: Any) -> None:
        """Do something that is not about arrays, as a plan does not: warn, or refuse a size."""

    @abstractmethod
    def memory(self, store: dict[Any, T]) -> dict[Any, T]:
        """Where results are kept that hold arrays: in the store, or nowhere in a plan."""

    @abstractmethod
    def check_fits(self, labels: Sequence[Label], dtype: Any) -> None:
        """Refuse an array that is larger than the machine's share allows; a plan refuses none.

        Raises:
            DenseTooLargeError: says what it would need, and what to do instead.
        """

    @abstractmethod
    def charge(self, operations: int, moved: int) -> None:
        """Count operations of a map, and bytes, that no other call accounts for."""

    @abstractmethod
    def charge_contraction(self) -> None:
        """Count one contraction of two terms against the budget.

        Raises:
            OverBudget: when there were too many.
        """

    @abstractmethod
    def charge_edge_products(self, entries: int) -> None:
        """Count products of edges by a constant, which take no multiplication."""


class Emit(Backend):
    """Operations are emitted by `jax.numpy`, under a trace or one by one."""

    knows_places = True

    @property
    def cost(self) -> None:  # noqa: D102
        return None

    def factor(  # noqa: D102
        self,
        labels: Sequence[Label],
        dtype: Any,
        emit: Callable[[], Any],
        reads: Sequence[Factor] = (),
        **counts: int,
    ) -> Factor:
        return Factor(emit(), tuple(labels))

    def array(  # noqa: D102
        self, shape: Sequence[int], dtype: Any, emit: Callable[[], Any], **counts: int
    ) -> Any:
        return emit()

    def runs(  # noqa: D102
        self, once: Callable[[], Cost], times: int, emit: Callable[[], T], results: Callable[[], T]
    ) -> T:
        return emit()

    def select(self, emit: T, price: T) -> T:  # noqa: D102
        return emit

    def perform(self, action: Callable[..., None], *arguments: Any) -> None:  # noqa: D102
        action(*arguments)

    def memory(self, store: dict[Any, T]) -> dict[Any, T]:  # noqa: D102
        return store

    def check_fits(self, labels: Sequence[Label], dtype: Any) -> None:  # noqa: D102
        needed = numel(labels) * np.dtype(dtype).itemsize
        if needed > memory_limit():
            raise DenseTooLargeError(
                f"an array of shape {sizes(labels)} on the way to this Jacobian needs "
                f"{in_bytes(needed)}, over the limit of {in_bytes(memory_limit())}; "
                "ask for less at once: a product with one "
                "vector (blockjac.vjp, blockjac.jvp), or the Jacobian with respect to fewer entries"
            )

    def charge(self, operations: int, moved: int) -> None:  # noqa: D102
        pass

    def charge_contraction(self) -> None:  # noqa: D102
        pass

    def charge_edge_products(self, entries: int) -> None:  # noqa: D102
        pass


class Price(Backend):
    """Operations are counted and touch no array.

    Args:
        cost: what they add to.
        knows_places: see `Backend`.
    """

    def __init__(self, cost: Cost, knows_places: bool) -> None:
        self._cost = cost
        self.knows_places = knows_places

    @property
    def cost(self) -> Cost:  # noqa: D102
        return self._cost

    def factor(  # noqa: D102
        self,
        labels: Sequence[Label],
        dtype: Any,
        emit: Callable[[], Any],
        reads: Sequence[Factor] = (),
        *,
        multiplications: int = 0,
        additions: int = 0,
        masked: int = 0,
        scaled: int = 0,
    ) -> Factor:
        cost = self._cost
        entries = numel(labels) + sum(factor.numel for factor in reads)
        cost.multiplications += multiplications + scaled
        cost.edge_products += multiplications + masked
        cost.additions += additions
        cost.bytes += entries * np.dtype(dtype).itemsize
        return Factor(Abstract(sizes(labels), dtype), tuple(labels))

    def array(  # noqa: D102
        self,
        shape: Sequence[int],
        dtype: Any,
        emit: Callable[[], Any],
        *,
        additions: int = 0,
        operations: int = 0,
        moved: int = 0,
    ) -> Any:
        self._cost.additions += additions
        self.charge(operations, moved)
        return Abstract(tuple(shape), dtype)

    def runs(
        self, once: Callable[[], Cost], times: int, emit: Callable[[], T], results: Callable[[], T]
    ) -> T:
        """What stands for the results; the runs are charged.

        How often their operations start counts where the answer is dense. Deltas that a loop
        carries take more of them, each with fewer numbers: an answer that keeps its structure is
        not to lose it for what it takes to start an operation.
        """
        run = once()
        self.charge(run.flops * times, run.bytes * times)
        if not is_structure_kept():
            self._cost.contractions += run.contractions * times
        return results()

    def select(self, emit: T, price: T) -> T:  # noqa: D102
        return price

    def perform(self, action: Callable[..., None], *arguments: Any) -> None:  # noqa: D102
        pass

    def memory(self, store: dict[Any, T]) -> dict[Any, T]:  # noqa: D102
        return {}

    def check_fits(self, labels: Sequence[Label], dtype: Any) -> None:  # noqa: D102
        pass

    def charge(self, operations: int, moved: int) -> None:  # noqa: D102
        self._cost.operator_operations += operations
        self._cost.bytes += moved

    def charge_contraction(self) -> None:  # noqa: D102
        self._cost.contractions += 1
        self._cost.spend(NEW)

    def charge_edge_products(self, entries: int) -> None:  # noqa: D102
        self._cost.edge_products += entries


_EMIT = Emit()
_price: ContextVar[Price | None] = ContextVar("blockjac_price", default=None)


def backend() -> Backend:
    """The backend that array operations go to: `Emit`, or `Price` inside of `planning()`."""
    return _price.get() or _EMIT


def current_cost() -> Cost:
    """The cost that the plan under way adds to.

    Raises:
        RuntimeError: outside `planning()`.
    """
    cost = backend().cost
    if cost is None:
        raise RuntimeError("something can be priced inside planning() only")
    return cost


@contextlib.contextmanager
def planning(limit: int | None = None, *, knows_places: bool | None = None) -> Iterator[Cost]:
    """Within, operations cost instead of compute; yields the `Cost` that they add to.

    Args:
        limit: how much effort may be spent before `OverBudget` is raised.
        knows_places: whether the plan looks into masks, entry by entry, as what it plans for does.
            That takes longer. None for as the plan does that this one is made in.
    """
    if knows_places is None:
        knows_places = backend().follows_places
    cost = Cost(limit=limit)
    with setting(_price, Price(cost, knows_places)):
        yield cost


def planned(computation: Callable[[], T]) -> tuple[T, Cost]:
    """What a computation gives in a plan of its own, and what it costs; see `settled`."""
    outer = backend().cost
    with planning(knows_places=False) as cost:
        if outer is not None:
            cost.seen = outer.seen
        return computation(), cost


def settled(computation: Callable[[], T], answer: T, cost: Cost) -> T:
    """The computation that was chosen after it had been `planned`.

    A plan takes what it gave there: to plan it once more would double the effort at each loop
    inside of a loop.

    Raises:
        OverBudget: in a plan, where that has taken too much effort.
    """
    outer = backend()
    if outer.cost is None or outer.follows_places:
        return computation()
    outer.cost.add(cost)
    return answer
