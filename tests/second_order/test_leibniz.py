"""Derivatives of a product of arrays in one term, beside those of the dense product."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.second_order.leibniz import derivative_times
from blockjac.second_order.multi_indices import below

RNG = np.random.default_rng(2)
N, H = 4, 3
STATIC, TANGENT = jnp.asarray(RNG.normal(size=(H,))), jnp.asarray(RNG.normal(size=(N, H)))


def rows(s, t):
    return jnp.sin(jnp.arange(1.0, N + 1) * s) * jnp.exp(t)


def columns(s, t):
    return jnp.cos(jnp.arange(1.0, H + 1) * t * s)


def derivative(fun, index):
    for coordinate, count in enumerate(index):
        for _ in range(count):
            fun = jax.jacfwd(fun, coordinate)
    return fun(0.3, 0.7)


def product(rows, columns):
    """`A[n] B[h] C[h]`, diagonal in both axes."""
    n, h = Label(N), Label(H)
    factors = Factor(rows, (n,)), Factor(columns, (h,)), Factor(STATIC, (h,))
    indices = Index.of(n), Index.of(h)
    return Block((N, H), (N, H), STATIC.dtype, [Term(factors, indices, indices, 2)])


INDICES = [index for index in itertools.product(range(3), range(3)) if any(index)]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_both_factors_vary(index):
    block = product(rows(0.3, 0.7), columns(0.3, 0.7))
    (term,) = block.terms
    arrays = [next(f.array for f in term.factors if f.array.shape == s) for s in ((N,), (H,))]
    assert arrays[1] is not STATIC
    rates = {
        id(array): {
            lower: Block.from_dense(derivative(fun, lower), 1)
            for lower in below(index)
            if any(lower)
        }
        for array, fun in zip(arrays, (rows, columns), strict=True)
    }
    found = derivative_times(block, rates, index, Block.from_dense(TANGENT, 2))

    def dense(s, t):
        return 2 * rows(s, t)[:, None] * columns(s, t) * STATIC * TANGENT

    np.testing.assert_allclose(found.dense(), derivative(dense, index), rtol=1e-10, atol=1e-12)


def test_what_does_not_vary_is_none():
    block = product(rows(0.3, 0.7), columns(0.3, 0.7))
    assert derivative_times(block, {}, (1, 0), Block.from_dense(TANGENT, 2)) is None
