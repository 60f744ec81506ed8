"""What a backend does: each piece of array work is emitted, or its cost is added up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from blockjac.algebra.cost import Cost
from blockjac.terms.factor import Factor
from blockjac.terms.index import Label

T = TypeVar("T")


class Backend(ABC):
    """The interface through which the algebra makes arrays.

    Attributes:
        knows_places: whether masks that are known while tracing are read entry by entry. A plan
            that only predicts a price does not read them.
    """

    knows_places: bool

    @property
    @abstractmethod
    def cost(self) -> Cost | None:
        """The cost of the current plan; None where operations are emitted."""

    @property
    def follows_places(self) -> bool:
        """Whether this prices a plan, and reads masks entry by entry."""
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
        """Make a factor over labels by one operation.

        Args:
            labels: the labels of the factor.
            dtype: its dtype.
            emit: returns its array.
            reads: the factors that the operation reads; their bytes count, as the result's do.
            multiplications: the number of multiplications of numbers.
            additions: the number of additions.
            masked: multiplications by masks, which only select but still are products of edges.
            scaled: multiplications by a static coefficient, whose product of edges has been
                counted already.
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
        """Make an array that costs nothing but what is listed.

        Args:
            shape: the shape of the array.
            dtype: its dtype.
            emit: returns the array.
            additions: the number of additions, in a loop that runs anyway.
            operations: scalar operations of a map that is applied and not written down.
            moved: bytes that are read and written.
        """

    @abstractmethod
    def runs(
        self, once: Callable[[], Cost], times: int, emit: Callable[[], T], results: Callable[[], T]
    ) -> T:
        """The results of a program that is run several times, such as the body of a loop.

        Args:
            once: returns the cost of one run.
            times: the number of runs.
            emit: runs the program and returns its results.
            results: returns abstract results for a plan.
        """

    @abstractmethod
    def select(self, emit: T, price: T) -> T:
        """One of two values, where emitting and pricing reach the same end in different ways."""

    @abstractmethod
    def perform(self, action: Callable[..., None], *arguments: Any) -> None:
        """Do something besides array work, such as a warning or a size check; a plan skips it."""

    @abstractmethod
    def memory(self, store: dict[Any, T]) -> dict[Any, T]:
        """Where to keep results that hold arrays: the store itself, or in a plan a fresh dict."""

    @abstractmethod
    def check_fits(self, labels: Sequence[Label], dtype: Any) -> None:
        """Refuse an array over the memory limit; a plan accepts any size.

        Raises:
            DenseTooLargeError: if it does not fit; says what it needs and what to do instead.
        """

    @abstractmethod
    def charge(self, operations: int, moved: int) -> None:
        """Count a map's operations and bytes that no other call accounts for."""

    @abstractmethod
    def charge_contraction(self) -> None:
        """Count one contraction of two terms against the budget.

        Raises:
            OverBudget: if there were too many.
        """

    @abstractmethod
    def charge_edge_products(self, entries: int) -> None:
        """Count products of an edge and a constant, which need no multiplication."""
