"""A fitted network with all that its answers need: scales, curvature, scores of left-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from blockjac.estimators.blas_threads import few_threads
from blockjac.estimators.leave_one_out import halves, spreads
from blockjac.estimators.network import features
from blockjac.estimators.objective import Objective
from blockjac.estimators.tables import ROWS, Numbers, Scale, by_parts


@dataclass(frozen=True)
class Model:
    """What is kept of a fit: arrays of NumPy, which can be stored.

    Attributes:
        objective: of the network.
        params: of the network.
        inputs: the scale of the columns.
        targets: that of numbers to predict; of mean 0 and spread 1 for classes.
        noise: the variance of standardized targets around the outputs; 1 for classes.
        triangle: the Cholesky factor of the curvature of the parameters, or of those of the last
            layer; empty where there is none.
        is_last_layer: whether the curvature is that of the last layer alone.
    """

    objective: Objective
    params: Any
    inputs: Scale
    targets: Scale
    noise: Numbers
    triangle: Numbers
    is_last_layer: bool = False

    @property
    def uncertain(self) -> tuple[Objective, Any]:
        """The network whose parameters have a curvature, and these."""
        if not self.is_last_layer:
            return self.objective, self.params
        return self.objective, uncertain_part(self.params)

    def uncertain_rows(self, X: Numbers) -> Any:
        """What the uncertain part gets of rows of the table.

        Args:
            X: the rows.
        """
        rows = self._standardized(X)
        return features_of(self.objective, self.params, rows) if self.is_last_layer else rows

    def outputs(self, X: Numbers) -> Numbers:
        """The standardized outputs of rows of the table."""
        return by_parts(self._outputs, ROWS, X)

    def spreads(self, X: Numbers) -> Numbers:
        """The covariance of outputs over the noise, shape `(n, outputs, outputs)`."""
        objective, params = self.uncertain
        triangle = jnp.asarray(self.triangle)
        with few_threads(len(triangle)):
            return by_parts(
                lambda X: spreads(objective, params, triangle, self.uncertain_rows(X)), ROWS, X
            )

    def pushes(self, X: Numbers, forces: Numbers) -> Numbers:
        """What forces on the outputs of rows do to the parameters, `L^-1 J' force` of each.

        Products of these of two rows say how the one's force moves the other's outputs.

        Args:
            X: rows of the table.
            forces: shape `(n, outputs)`.
        """
        objective, params = self.uncertain
        size = max(1, 2**25 // (forces.shape[1] * len(self.triangle)))
        triangle = jnp.asarray(self.triangle)

        def pushed(X: Numbers, forces: Numbers) -> Any:
            return _pushes(objective, params, triangle, self.uncertain_rows(X), forces)

        return by_parts(pushed, min(size, ROWS), X, forces)

    def _outputs(self, X: Numbers) -> Any:
        return _outputs(self.objective, self.params, self._standardized(X))

    def _standardized(self, X: Numbers) -> Any:
        """Rows of the table as the network gets them."""
        return self.inputs.apply(X).astype(X.dtype, copy=False)


@partial(jax.jit, static_argnums=0)
def _outputs(objective: Objective, params: Any, X: Array) -> Array:
    return objective.model(params, X)


@partial(jax.jit, static_argnums=0)
def features_of(objective: Objective, params: Any, X: Array) -> Array:
    """What the last layer gets of standardized rows, and the direct map beside it.

    Args:
        objective: of the network.
        params: of the network.
        X: the rows, shape `(n, inputs)`.
    """
    nodes = features(objective.activation, params, X)
    return jnp.concatenate([nodes, X], axis=1) if params["direct"] else nodes


def uncertain_part(params: Any) -> Any:
    """The last layer and the direct map as the one layer of a linear network."""
    weights = np.concatenate([params["weights"][-1], *params["direct"]])
    return {"weights": [weights], "biases": [params["biases"][-1]], "direct": []}


@partial(jax.jit, static_argnums=0)
def _pushes(objective: Objective, params: Any, triangle: Array, X: Array, forces: Array) -> Array:
    """See `Model.pushes`."""
    half = halves(objective, params, triangle, X)
    return jnp.einsum("nip,ni->np", half, forces)
