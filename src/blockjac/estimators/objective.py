"""What an estimator minimizes: the negative log likelihood of its targets, and a penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array

from blockjac.estimators.network import outputs

UNPENALIZED = 1e-6
"""The strength for biases, which keeps the curvature regular where units are saturated."""

HELD = 1e12
"""The strength for parameters that stay 0."""


Kind = Literal["classes", "labels", "numbers"]
"""Of targets: one class a row, any of several labels, or numbers."""


class Targets(NamedTuple):
    """What outputs are compared with."""

    values: Any
    """Of each row: numbers, shares of classes that sum to 1, or 1 for the labels that it has and 0
    for others; shape `(n, outputs)`."""
    weights: Any
    """How much each row counts, shape `(n,)`."""
    units: Any
    """How much of that is left out when the row is, as a row of weight 2 stands for two."""


@dataclass(frozen=True)
class Objective:
    """A kind of network and of targets; hashable, so that compiled programs are found again.

    Attributes:
        kind: "classes" for cross-entropy, "labels" for one of each label, "numbers" for half of the
            squares.
        activation: of the hidden layers.
    """

    kind: Kind
    activation: str

    def model(self, params: Any, X: Array) -> Array:
        """The outputs: logits of classes or labels, or numbers."""
        return outputs(self.activation, params, X)

    def loss(self, targets: Targets, outputs: Array) -> Array:
        """The weighted sum over the rows."""
        return jnp.sum(targets.weights * self.row_losses(targets, outputs))

    def row_losses(self, targets: Targets, outputs: Array) -> Array:
        """The loss of each row, shape `(n,)`."""
        if self.kind == "classes":
            return -jnp.sum(targets.values * jax.nn.log_softmax(outputs), axis=1)
        if self.kind == "labels":
            # -log p of those it has, -log(1 - p) of the others
            return jnp.sum(jax.nn.softplus(outputs) - targets.values * outputs, axis=1)
        return jnp.sum((targets.values - outputs) ** 2, axis=1) / 2

    def slopes(self, targets: Targets, outputs: Array) -> Array:
        """The gradient of the loss by the outputs of each row, shape `(n, outputs)`."""
        near = outputs
        if self.kind != "numbers":
            near = (jax.nn.softmax if self.kind == "classes" else jax.nn.sigmoid)(outputs)
        return targets.weights[:, None] * (near - targets.values)

    def roots(self, targets: Targets, outputs: Array) -> Array:
        """U of each row: its loss has the Hessian `U U'` by the outputs.

        Shape `(n, outputs, outputs)`, for classes `(n, classes, classes - 1)`, since a common
        change of all logits changes nothing.

        Source:
            K. Tanabe and M. Sagae, An exact Cholesky decomposition and the generalized inverse of
            the variance-covariance matrix of the multinomial distribution, JRSS B 54 (1992).
        """
        weights = jnp.sqrt(targets.weights)[:, None, None]
        count = outputs.shape[1]
        if self.kind == "numbers":
            return weights * jnp.eye(count, dtype=outputs.dtype)
        if self.kind == "labels":
            # p (1 - p) = sigmoid(q) sigmoid(-q), which does not round to 0 where p is nearly 1
            variances = jax.nn.sigmoid(outputs) * jax.nn.sigmoid(-outputs)
            return weights * jnp.eye(count, dtype=outputs.dtype) * jnp.sqrt(variances)[:, None]
        P = jax.nn.softmax(outputs)
        # with tiny numbers in the place of probabilities that are rounded to 0
        P = jnp.maximum(P, cast("Any", jnp.finfo(P.dtype)).tiny ** 0.25)
        left = jnp.cumsum(P[:, ::-1], axis=1)[:, ::-1]  # of each class and all after it
        first, rest = left[:, :-1], left[:, 1:]
        diagonal = jnp.sqrt(P[:, :-1] * rest / first)
        below = -P[:, :, None] * jnp.sqrt(P[:, :-1] / (rest * first))[:, None]
        rows, columns = jnp.arange(count)[:, None], jnp.arange(count - 1)
        root = jnp.where(rows > columns, below, 0)
        return weights * jnp.where(rows == columns, diagonal[:, None], root)

    def mean_loss(self, targets: Targets, outputs: Array) -> Array:
        """The weighted sum over the rows, over their number."""
        return self.loss(targets, outputs) / len(outputs)


def penalty(params: Any, strengths: Array, is_used: Any) -> Any:
    """A strength for each parameter.

    Args:
        params: of a network.
        strengths: one for the weights of each layer and for the direct ones, shape `(layers + 1,)`.
        is_used: a tree like the parameters: whether each belongs to the network. The others are
            held at 0, so that networks of several widths are one compiled program.
    """
    penalized = [*params["weights"], *params["direct"]]
    filled = [jnp.full_like(*pair) for pair in zip(penalized, strengths, strict=True)]
    layers = len(params["weights"])
    tree = {
        "weights": filled[:layers],
        "biases": [jnp.full_like(bias, UNPENALIZED) for bias in params["biases"]],
        "direct": filled[layers:],
    }
    return jax.tree.map(lambda part, used: jnp.where(used, part, HELD), tree, is_used)
