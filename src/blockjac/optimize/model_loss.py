"""A loss of a model's outputs, in its two parts: what Gauss-Newton solvers need to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from blockjac.base.trees import mapped
from blockjac.errors import ArgumentError
from blockjac.optimize.parameters import inner_product


@dataclass(frozen=True)
class ModelLoss:
    """The loss of a model's outputs, and an L2 penalty: `loss(Y, model(params, X)) + penalty`.

    It is a function `(params, X, Y)` like any other loss. Solvers that use curvature
    (`GaussNewton`, `LevenbergMarquardt`) need its two parts, and get them from here.

    Args:
        model: `model(params, *inputs)` gives the outputs, an array or a tree of arrays.
        loss: `loss(Y, outputs)` gives one real number; the targets come first, as in
            `blockjac.ggn`. It should be convex in the outputs.
        l2: The strength s of the penalty `s / 2 |params|^2`.
        takes_l2: Whether the strength is the last argument instead, `(params, X, Y, l2)`: a number,
            or a tree like the parameters. Other strengths then need no new compilation.

    Raises:
        ArgumentError: If model or loss is not a function, or both `l2` and `takes_l2` are given.

    Examples:
        >>> model = lambda w, X: X @ w
        >>> squares = lambda Y, Q: 0.5 * jnp.sum((Q - Y) ** 2)
        >>> loss = ModelLoss(model, squares, l2=0.5)
        >>> print(loss(jnp.ones(2), jnp.eye(2), jnp.zeros(2)))
        1.5
    """

    model: Callable[..., Any]
    loss: Callable[[Any, Any], ArrayLike]
    l2: float = 0.0
    takes_l2: bool = False

    def __post_init__(self) -> None:
        for name in ("model", "loss"):
            if not callable(getattr(self, name)):
                kind = type(getattr(self, name)).__name__
                raise ArgumentError(f"{name} must be a function, but is of type {kind}")
        if self.takes_l2 and self.l2:
            raise ArgumentError(
                f"l2 is {self.l2}, and takes_l2 says that the strength comes with the data; "
                "give one of the two"
            )

    def __call__(self, params: Any, *data: Any) -> Array:
        """The loss, with the penalty."""
        parts = self.parts(data)
        value = jnp.asarray(self.loss(parts.targets, self.model(params, *parts.inputs)))
        if not self.is_penalized:
            return value
        weighted = jax.tree.map(jnp.multiply, self.strengths(params, data), params)
        return value + (inner_product(weighted, params) / 2).astype(value.dtype)

    @property
    def is_penalized(self) -> bool:
        """Whether there is a penalty."""
        return self.takes_l2 or self.l2 != 0

    def parts(self, data: tuple[Any, ...]) -> Data:
        """Which of the data are inputs, and which the targets.

        Raises:
            ArgumentError: if there are too few.
        """
        rest = data[:-1] if self.takes_l2 else data
        if not rest:
            wanted = "(params, X, Y, l2)" if self.takes_l2 else "(params, X, Y)"
            raise ArgumentError(
                f"a ModelLoss takes {wanted}, but got {len(data)} arguments after the params"
            )
        return Data(rest[:-1], rest[-1])

    def strengths(self, params: Any, data: tuple[Any, ...]) -> Any:
        """The strength of the penalty of each parameter, a tree like them."""
        strength = data[-1] if self.takes_l2 else self.l2
        if len(jax.tree.leaves(strength)) == 1 and not jnp.shape(jax.tree.leaves(strength)[0]):
            (number,) = jax.tree.leaves(strength)
            return mapped(lambda part: jnp.full_like(part, number), params)
        return strength


@dataclass(frozen=True)
class Data:
    """The data of a `ModelLoss`.

    Attributes:
        inputs: of the model.
        targets: the first argument of the loss.
    """

    inputs: tuple[Any, ...]
    targets: Any
