"""The block of each parameter, from the layers of a model and what arrives at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from blockjac.blocks import Block, star
from blockjac.curvature.gauss_newton import GaussNewton
from blockjac.errors import BlockShapeError
from blockjac.kronecker_factors.arrivals import Arrivals
from blockjac.kronecker_factors.layer_factors import UseOfWeights, expanded, reduced
from blockjac.kronecker_factors.layered import Layered
from blockjac.kronecker_factors.layers import Examples, layer_of
from blockjac.kronecker_factors.matrix import Part
from blockjac.kronecker_factors.of_parameter import Corrected, Pair
from blockjac.linear_systems.eigen import Eigen, Eigenbasis

Sharing = Literal["expand", "reduce"]
"""How positions that share weights are taken together."""


@dataclass(frozen=True, eq=False)
class Parts:
    """How the block of each parameter is approximated.

    Attributes:
        model: the layers.
        records: what each use has recorded.
        arrivals: what arrives at it.
        examples: where its result has the examples.
        sharing: how positions that share weights are taken together.
        is_corrected: whether eigenvalues are corrected.
        is_factored: whether there are factors at all; there are none where the loss itself joins
            examples.
    """

    model: Layered
    records: Sequence[Sequence[Any]]
    arrivals: Arrivals
    examples: Sequence[Examples | None]
    sharing: Sharing
    is_corrected: bool
    is_factored: bool = True

    def of_leaf(self, leaf: int) -> Part:
        """What is kept of a parameter.

        Args:
            leaf: its number.
        """
        program = self.model.program
        numbers = [number for number, use in enumerate(program.uses) if leaf in use.leaves]
        if not self.is_factored or leaf in program.refused or not numbers:
            return self._exact(leaf, [])
        blocks = [
            (number, self.model.by_weights(program.uses[number], self.records[number], leaf))
            for number in numbers
        ]
        pair = self._pair(blocks)
        if pair is None:
            return self._exact(leaf, blocks)
        return self._corrected(leaf, pair, blocks) if self.is_corrected else pair

    def _pair(self, blocks: Sequence[tuple[int, Block]]) -> Pair | None:
        """The factors, if all uses are layers that agree on the axes of the parameter."""
        uses: list[UseOfWeights] = []
        for number, block in blocks:
            layer = layer_of(block)
            if layer is None or (uses and layer.axes != uses[0].layer.axes):
                return None
            uses.append(UseOfWeights(layer, self.arrivals.sides(number), self.examples[number]))
        if self.sharing == "expand":
            return expanded(uses)
        if any(use.examples is None for use in uses):
            raise BlockShapeError(
                "kfac_approx='reduce' sums over the positions of each example, but some examples "
                "of this model meet before the result of a layer, as behind batch norm; use "
                "'expand'"
            )
        return reduced(uses)

    def _exact(self, leaf: int, blocks: Sequence[tuple[int, Block]]) -> GaussNewton:
        """The exact block, by way of the uses if these are all."""
        matrix = self.arrivals.through(blocks) if blocks else None
        return self._of_model(leaf, None) if matrix is None else matrix

    def _of_model(self, leaf: int, basis: Eigenbasis | None) -> GaussNewton:
        """The exact block by way of the model, in some coordinates of the parameter."""
        model = self.model
        index = model.arguments.chosen[leaf]
        arrays = list(model.arguments.arrays)
        shifts = model.program.zeros()
        count = len(model.record.results)

        def outputs(value: Any) -> Sequence[Any]:
            weights = value if basis is None else basis.variable(value)
            own = [*arrays[:index], weights, *arrays[index + 1 :]]
            return model.program.run(own, shifts)[0][:count]

        point = arrays[index] if basis is None else basis.coordinates(arrays[index])
        return self.arrivals.of_model(outputs, point)

    def _corrected(self, leaf: int, pair: Pair, blocks: Sequence[tuple[int, Block]]) -> Corrected:
        """The eigenvectors of the factors, with the diagonal of the exact block between them."""
        basis = pair.eigen().basis
        rotation = basis.rotation()
        matrix = self.arrivals.through(
            [(number, star(block, rotation)) for number, block in blocks]
        )
        if matrix is None:
            matrix = self._of_model(leaf, basis)
        (values,) = jax.tree.leaves(matrix.diagonal())
        return Corrected(Eigen(basis, jnp.reshape(values, basis.coordinates_shape)))
