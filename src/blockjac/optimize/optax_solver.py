"""Steps by the optimizers of optax, on all data or on shuffled batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from blockjac.base.trees import flattened
from blockjac.errors import ArgumentError, ShapeMismatchError
from blockjac.optimize.minimize_loop import Move, Point
from blockjac.optimize.model_loss import ModelLoss
from blockjac.optimize.parameters import check_count
from blockjac.transforms.first_order import grad


@dataclass(frozen=True)
class Optax:
    """Updates by an optimizer of optax, with gradients of blockjac.

    Without `batch_size` a step is one update by the gradient over all data. With it, a step is an
    epoch: the rows are shuffled, each batch gives one update, and then the loss of all data is
    computed, so that the best parameters can be kept. Rows that fill no batch are left out of that
    epoch.

    Args:
        optimizer: A `GradientTransformation`, such as `optax.adam(1e-3)`.
        batch_size: How many rows make a batch; None for all data at once. Arrays of the data have
            their rows on the first axis; single numbers go to each batch as they are.
        seed: Of the shuffling.

    Raises:
        ArgumentError: If the optimizer is none.
        InvalidOptionError: If `batch_size` is not a whole number of at least 1.

    Examples:
        >>> import optax
        >>> Optax(optax.sgd(0.1), batch_size=32).batch_size
        32
    """

    optimizer: Any
    batch_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not (hasattr(self.optimizer, "init") and hasattr(self.optimizer, "update")):
            raise ArgumentError(
                f"optimizer is of type {type(self.optimizer).__name__}, which has no init and "
                "update; give one of optax, such as optax.adam(1e-3)"
            )
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size, ", or None")

    @property
    def takes_gradient(self) -> bool:
        """Whether a step is one update by the gradient over all data."""
        return self.batch_size is None

    def begin(self, params: Any, loss: Array) -> Memory:
        """The optimizer's state, and the key of the first shuffling."""
        return Memory(self.optimizer.init(params), jax.random.key_data(jax.random.key(self.seed)))

    def move(
        self,
        loss: Callable[..., ArrayLike],
        point: Point,
        memory: Memory,
        data: tuple[Any, ...],
        allowed: Array,
    ) -> Move:
        """One update, or one epoch of them."""
        if self.takes_gradient:
            params, state = self._updated(point.gradient, memory.state, point.params)
            return _moved(loss, data, params, Memory(state, memory.key), 1)
        rows = Rows.of(loss, data)
        evaluations = rows.count // self._size(rows) + 1

        def made() -> Move:
            params, after = self._epoch(loss, point.params, memory, rows)
            return _moved(loss, data, params, after, evaluations)

        def spent() -> Move:
            return Move(point.params, point.loss, jnp.asarray(False), allowed, memory)

        return cast("Any", lax.cond)(allowed >= evaluations, made, spent)

    def _updated(self, gradient: Any, state: Any, params: Any) -> tuple[Any, Any]:
        """Parameters and state after one update."""
        updates, state = self.optimizer.update(gradient, state, params)

        def updated(param: Array, update: Array) -> Array:
            return (param + update).astype(param.dtype)

        return jax.tree.map(updated, params, updates), state

    def _size(self, rows: Rows) -> int:
        """How many rows a batch has: all, where there are fewer than asked."""
        return min(int(cast("int", self.batch_size)), rows.count)

    def _epoch(
        self, loss: Callable[..., ArrayLike], params: Any, memory: Memory, rows: Rows
    ) -> tuple[Any, Memory]:
        """The parameters after an update by each batch of the shuffled rows."""
        size = self._size(rows)
        batches = rows.count // size
        following, key = jax.random.split(cast("Any", jax.random.wrap_key_data)(memory.key))
        order = jax.random.permutation(key, rows.count)[: batches * size]

        def update(carry: tuple[Any, Any], places: Array) -> tuple[tuple[Any, Any], None]:
            params, state = carry
            gradient = grad(loss)(params, *rows.taken(places))
            return self._updated(gradient, state, params), None

        start = (params, memory.state)
        (params, state), _ = lax.scan(update, start, order.reshape(batches, size))
        return params, Memory(state, jax.random.key_data(following))


def _moved(
    loss: Callable[..., ArrayLike], data: tuple[Any, ...], params: Any, memory: Any, count: int
) -> Move:
    """The move to other parameters, after `count` evaluations."""
    value = jnp.asarray(loss(params, *data))
    return Move(params, value, jnp.asarray(True), jnp.int32(count), memory)


class Memory(NamedTuple):
    """What `Optax` remembers."""

    state: Any
    """Of the optimizer."""
    key: Array
    """Numbers of the key of the next shuffling."""


@dataclass(frozen=True)
class Rows:
    """Data of which rows can be taken.

    Attributes:
        arrays: the leaves of the data.
        have_rows: whether a leaf has rows; others go to each batch.
        tree: the structure of the data.
        count: how many rows there are.
    """

    arrays: list[Any]
    have_rows: list[bool]
    tree: Any
    count: int

    @staticmethod
    def of(loss: Callable[..., Any], data: tuple[Any, ...]) -> Rows:
        """The rows of a loss's data.

        Raises:
            ShapeMismatchError: if arrays have different numbers of rows, or there are none.
        """
        arrays, tree = flattened(data)
        have_rows = [jnp.ndim(array) > 0 for array in arrays]
        if isinstance(loss, ModelLoss) and loss.takes_l2:
            strengths = len(jax.tree.leaves(data[-1]))
            have_rows[len(arrays) - strengths :] = [False] * strengths
        counts = {jnp.shape(array)[0] for array, has in zip(arrays, have_rows, strict=True) if has}
        if len(counts) != 1 or 0 in counts:
            raise ShapeMismatchError(
                f"batches need data with rows on the first axis, but found {sorted(counts)} rows; "
                "wanted one number for all arrays; what has no rows can be closed over"
            )
        return Rows(arrays, have_rows, tree, counts.pop())

    def taken(self, places: Array) -> tuple[Any, ...]:
        """The data of some rows."""
        pairs = zip(self.arrays, self.have_rows, strict=True)
        parts = [jnp.asarray(array)[places] if has else array for array, has in pairs]
        return jax.tree.unflatten(self.tree, parts)
