"""The kinds of Fisher matrix that the factors of KFAC can be made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from blockjac.blocks import BlockMatrix
from blockjac.curvature.fisher import example_gradients
from blockjac.curvature.ggn import loss_hessian
from blockjac.errors import BlockShapeError
from blockjac.kronecker_factors.arrivals import Arrivals, Exact, Sampled, pulled
from blockjac.kronecker_factors.layers import Examples
from blockjac.kronecker_factors.square_roots import are_apart, times_root
from blockjac.transforms.linearization import Linearization
from blockjac.transforms.traced_once import Function

FisherType = Literal["type-2", "mc", "empirical", "forward-only"]
"""What the second factor is made of."""


@dataclass(frozen=True, eq=False)
class Asked:
    """The kind that is asked for.

    Attributes:
        fisher_type: the kind.
        samples: how many random vectors, for "mc".
        key: the random key, for "mc".
        name: of the transform, for messages.
    """

    fisher_type: FisherType
    samples: int
    key: Any
    name: str

    def arrivals(
        self,
        jacobian: Linearization | BlockMatrix | None,
        loss: Function,
        targets: Any,
        outputs: Any,
        examples: Sequence[Examples | None],
    ) -> tuple[Arrivals, bool]:
        """What arrives at the uses, and whether the loss keeps the examples separate.

        Args:
            jacobian: the outputs by the results of the uses; None if there are none.
            loss: the user's function.
            targets: its first argument.
            outputs: its second.
            examples: where the results of the uses have them.

        Raises:
            BlockShapeError: for samples of outputs that the loss joins.
        """
        if self.fisher_type == "empirical":
            vectors = [array[None] for array in _weighted(loss, targets, outputs)]
            return Sampled(vectors, pulled(jacobian, vectors), examples), True
        inner = loss_hessian(loss, targets, outputs)
        is_apart = are_apart(inner)
        if self.fisher_type != "mc":
            blocks = jacobian if isinstance(jacobian, BlockMatrix) else None
            return Exact(blocks, inner, self.fisher_type == "forward-only"), is_apart
        if not is_apart:
            raise BlockShapeError(
                f"{self.name} with fisher_type='mc' draws a vector for each example, on the first "
                "axis of the outputs, but the second derivative of this loss joins examples; use "
                "'type-2', or a loss that is a sum or mean over the examples"
            )
        vectors = self._drawn(inner)
        return Sampled(vectors, pulled(jacobian, vectors), examples), True

    def _drawn(self, inner: BlockMatrix) -> list[jax.Array]:
        """Random vectors whose products with themselves are H in the mean, samples in front."""

        def drawn(key: Any) -> list[jax.Array]:
            """One sample."""
            keys = jax.random.split(key, len(inner.out_shapes))
            signs = [
                jax.random.rademacher(own, shape, inner.dtype)
                for own, shape in zip(keys, inner.out_shapes, strict=True)
            ]
            return times_root(inner, signs)

        drawn_vectors = jax.vmap(drawn)(jax.random.split(self.key, self.samples))
        return [vector * self.samples**-0.5 for vector in drawn_vectors]


def _weighted(loss: Function, targets: Any, outputs: Any) -> list[jax.Array]:
    """The gradients of the examples' losses, times the square roots of their weights."""
    whole, single = example_gradients(loss, targets, outputs)

    def products(left: Sequence[jax.Array]) -> jax.Array:
        pairs = zip(left, single, strict=True)
        return sum((jnp.sum(a * b, axis=tuple(range(1, b.ndim))) for a, b in pairs), jnp.zeros(()))

    numerator, denominator = products(whole), products(single)
    weights = jnp.where(denominator > 0, numerator / jnp.where(denominator > 0, denominator, 1), 0)
    roots = jnp.sqrt(weights)
    return [array * jnp.reshape(roots, (-1, *(1,) * (array.ndim - 1))) for array in single]
