"""The operations behind the methods of a Block, gathered from the layers below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra import dense as entries
from blockjac.algebra.arrays import cast, is_mask
from blockjac.algebra.at_once import at_once
from blockjac.algebra.backend import backend
from blockjac.algebra.replay import replayed_array
from blockjac.algebra.sums import add
from blockjac.algebra.tidy import tidy
from blockjac.blocks.contraction import star
from blockjac.blocks.factorization import factorize, solve
from blockjac.blocks.least_squares import leverage, lstsq
from blockjac.blocks.trees_of_blocks import matrix_by_inputs
from blockjac.exports.sparse_arrays import to_bcoo, to_bcsr, to_scipy, to_scipy_operator
from blockjac.sparsity.notebook import notebook
from blockjac.sparsity.pattern import nnz, pattern
from blockjac.terms.block import Block, rebuilt
from blockjac.terms.matrix_interface import MatrixInterface

__all__ = [
    "add",
    "as_linear_operator",
    "dense",
    "diagonal",
    "factorize",
    "leverage",
    "lstsq",
    "matrix_by_inputs",
    "nnz",
    "notebook",
    "pattern",
    "scaled",
    "solve",
    "star",
    "tidy",
    "to_bcoo",
    "to_bcsr",
    "to_scipy",
    "to_scipy_operator",
]


def dense(block: Block, max_bytes: int | None) -> jax.Array:
    """The entries of a block as one array; see `Block.dense`."""
    return at_once(_dense, block, max_bytes=max_bytes)


def diagonal(block: Block) -> jax.Array:
    """The entries on the diagonal; see `Block.diagonal`."""
    return at_once(_diagonal, block)


def scaled(block: Block, scalar: Any) -> Block:
    """A block times a number; its factors are cast to the dtype of the product."""
    dtype = np.dtype(jnp.result_type(block.dtype, scalar))
    terms = [
        replace(
            term,
            factors=tuple(
                factor if is_mask(factor) else cast(factor, dtype) for factor in term.factors
            ),
            coefficient=term.coefficient * scalar,
        )
        for term in block.terms
        if scalar
    ]
    return rebuilt(block.out_shape, block.wrt_shape, dtype, terms)


def as_linear_operator(matrix: MatrixInterface, tags: Any) -> Any:
    """A matrix as an operator of lineax; see `Block.as_linear_operator`."""
    from blockjac.exports.lineax_operator import operator_of  # which needs lineax, an extra

    return operator_of(matrix, tags)


def _dense(block: Block, max_bytes: int | None) -> Any:
    """The dense array of a block, emitted as the last time for a block of the same structure."""
    written = partial(entries.dense, max_bytes=max_bytes)

    def replayed() -> Any:
        return replayed_array(("dense", max_bytes), written, block)

    def one_by_one() -> Any:
        return _mapped(block, written)

    return backend().select(one_by_one if block.batch_shape else replayed, one_by_one)()


def _diagonal(block: Block) -> Any:
    return _mapped(block, entries.diagonal)


def _mapped(block: Block, function: Callable[[Block], Any]) -> Any:
    """Apply a function of one block over the batch axes that an outer `vmap` has left on it."""
    for _ in block.batch_shape:
        function = jax.vmap(function)
    return function(block)
