"""Answers from blocks of real vertices: dense arrays of the dtypes that are due."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base import compat
from blockjac.elimination.evaluate import typed_as
from blockjac.elimination.linearize import (
    LinearizedGraph,
)
from blockjac.rules.complex_parts import complex_dtype, is_complex
from blockjac.rules.fallback import real_dtype, unpacked

NO_LIMIT = 2**62
"""Bytes: results are checked against the user's limit before anything is computed."""


def finished(dense: Any, result: Any, value: Any, holomorphic: bool) -> Any:
    """The Jacobian that is answered from one of real vertices: complex where a variable is."""
    if not is_complex(value):
        weak = getattr(value, "weak_type", False)
        if is_complex(result) and dense.ndim > len(result.shape) + len(value.shape):
            dense = jax.lax.complex(dense[0], dense[1])
        return compat.convert(dense, jacobian_dtype(result, value), weak)
    axis = len(result.shape)
    if holomorphic:  # d(u + iv)/d(re): the first two axes of parts are the output's and the input's
        by_real = jax.lax.index_in_dim(dense, 0, axis + 1, keepdims=False)
        return typed_as(jax.lax.complex(by_real[0], by_real[1]), value)
    real, imaginary = (jax.lax.index_in_dim(dense, part, axis, keepdims=False) for part in (0, 1))
    return typed_as(jax.lax.complex(real, -imaginary), value)


def jacobian_dtype(result: Any, value: Any) -> Any:
    """The dtype of a Jacobian: the input's, and complex where the result is."""
    return complex_dtype(value.dtype) if is_complex(result) else value.dtype


def cotangent_of(linear: LinearizedGraph, leaf: int) -> Any:
    """The cotangent of an input, from the block of the only result by it."""
    block, value = linear.block(leaf, ("out", 0)), linear.graph.avals[leaf]
    if block is None:
        return typed_as(jnp.zeros(value.shape, value.dtype), value)
    dense = unpacked(block.dense(max_bytes=NO_LIMIT), value.dtype)
    return typed_as(jnp.conj(dense), value)


def tangent_of(linear: LinearizedGraph, position: int, result: Any) -> Any:
    """The tangent of a result, from its block by the only input."""
    block = linear.block("tangent", ("out", position))
    if block is None:
        return typed_as(jnp.zeros(result.shape, result.dtype), result)
    dense = block.dense(max_bytes=NO_LIMIT).astype(real_dtype(result.dtype))
    return typed_as(unpacked(dense, result.dtype), result)
