"""Where the array work of the algebra goes: emitted as operations of JAX, or priced.

The algebra is written once, against a `Backend`. Code that makes an array states in one call how to
emit it and what that costs: `Emit` does the first, `Price` counts the second and returns an array
that knows only its shape and dtype. So a plan cannot drift from the program that it plans: both are
the same calls.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from blockjac.algebra.backend_interface import Backend, T
from blockjac.algebra.cost import NEW, Abstract, Cost
from blockjac.base.context import setting
from blockjac.base.promises import is_structure_kept
from blockjac.devices import in_bytes, memory_limit
from blockjac.errors import DenseTooLargeError
from blockjac.terms.factor import Factor, numel, sizes
from blockjac.terms.index import Label


class Emit(Backend):
    """Emits operations through `jax.numpy`, under a trace or one by one."""

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

    def check_fits(self, labels: Sequence[Label], dtype: Any) -> None:
        """Refuse an array over the memory limit."""
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
    """Counts operations without touching an array.

    Args:
        cost: the cost to add to.
        knows_places: as in `Backend`.
    """

    def __init__(self, cost: Cost, knows_places: bool) -> None:
        self._cost = cost
        self.knows_places = knows_places

    @property
    def cost(self) -> Cost:  # noqa: D102
        return self._cost

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
        """Count one operation, its bytes and the products of edges in it."""
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
        """Charge the runs and return abstract results.

        Contractions, each of which takes time to start, count only if the result is dense. Deltas
        that a loop carries take more contractions, each with fewer numbers: a result that keeps
        its structure must not lose it to the cost of starting operations.
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
    """The current backend: `Emit`, or `Price` inside `planning()`."""
    return _price.get() or _EMIT


def current_cost() -> Cost:
    """The cost that the current plan adds to.

    Raises:
        RuntimeError: outside `planning()`.
    """
    cost = backend().cost
    if cost is None:
        raise RuntimeError("something can be priced inside planning() only")
    return cost


@contextlib.contextmanager
def planning(limit: int | None = None, *, knows_places: bool | None = None) -> Generator[Cost]:
    """Price operations in the context instead of emitting them; yields the `Cost` they add to.

    Args:
        limit: the effort that may be spent before `OverBudget` is raised.
        knows_places: whether the plan reads masks entry by entry, as the program that it plans
            does, which takes longer. None to do as the surrounding plan does.
    """
    if knows_places is None:
        knows_places = backend().follows_places
    cost = Cost(limit=limit)
    with setting(_price, Price(cost, knows_places)):
        yield cost


@contextlib.contextmanager
def emitting() -> Generator[None]:
    """Emit operations in the context, as where a program is traced while another is planned."""
    with setting(_price, None):
        yield


def planned(computation: Callable[[], T]) -> tuple[T, Cost]:
    """The abstract result of a computation in a plan of its own, and its cost; see `settled`."""
    outer = backend().cost
    with planning(knows_places=False) as cost:
        if outer is not None:
            cost.seen = outer.seen
        return computation(), cost


def settled(computation: Callable[[], T], answer: T, cost: Cost) -> T:
    """The result of a computation that was chosen after it had been `planned`.

    A plan reuses the planned answer and its cost: to plan the computation once more would double
    the effort at each loop inside of a loop.

    Raises:
        OverBudget: in a plan, if that takes too much effort.
    """
    outer = backend()
    if outer.cost is None or outer.follows_places:
        return computation()
    outer.cost.add(cost)
    return answer
