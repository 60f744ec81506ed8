"""Ragged products: JAX batches none, so the oracle is a loop over the groups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import blockjac

random = np.random.default_rng(0)
ROWS = jnp.asarray(random.normal(size=(7, 3)))
MATRICES = jnp.asarray(random.normal(size=(3, 3, 4)))
SIZES = np.array([2, 0, 4])
"""The last row is in no group."""


def product(rows, matrices):
    return lax.ragged_dot(rows, matrices, jnp.asarray(SIZES))


def by_groups(rows, matrices):
    ends = np.cumsum(SIZES)
    parts = [
        rows[end - size : end] @ matrix
        for end, size, matrix in zip(ends, SIZES, matrices, strict=True)
    ]
    return jnp.concatenate([*parts, jnp.zeros((len(rows) - ends[-1], matrices.shape[2]))])


def weights(rows, cotangents):
    """What a gradient by the matrices is made of: the groups divide the axis that is summed."""
    dimensions = lax.RaggedDotDimensionNumbers((((0,), (0,)), ((), ())), [0], [])
    return lax.ragged_dot_general(rows, cotangents, jnp.asarray(SIZES), dimensions)


def weights_by_groups(rows, cotangents):
    ends = np.cumsum(SIZES)
    return jnp.stack(
        [
            rows[end - size : end].T @ cotangents[end - size : end]
            for end, size in zip(ends, SIZES, strict=True)
        ]
    )


CASES = {
    "rows": (product, by_groups, (ROWS, MATRICES)),
    "sums": (weights, weights_by_groups, (ROWS, jnp.asarray(random.normal(size=(7, 4))))),
}


def close(ours, theirs):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_jacobian_in_both_orders(name):
    function, wanted, arguments = CASES[name]
    for order in ("forward", "reverse"):
        close(
            blockjac.jacobian(function, (0, 1), order=order)(*arguments),
            jax.jit(jax.jacrev(wanted, (0, 1)))(*arguments),
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_gradient_and_what_comes_after(name):
    function, wanted, arguments = CASES[name]
    ours, theirs = (
        lambda *given, one=one: jnp.sum(jnp.sin(one(*given))) for one in (function, wanted)
    )
    gradient = blockjac.grad(ours, (0, 1))
    close(gradient(*arguments), jax.grad(theirs, (0, 1))(*arguments))
    close(
        blockjac.jacobian(gradient)(*arguments),
        jax.jit(jax.jacfwd(jax.grad(theirs, (0, 1))))(*arguments),
    )
    tangents = tuple(jnp.ones(one.shape) for one in arguments)
    close(blockjac.jvp(function, arguments, tangents), jax.jvp(wanted, arguments, tangents))


def test_rows_and_columns_are_deltas():
    by_rows, by_matrices = blockjac.block_jacobian(product, (0, 1))(ROWS, MATRICES)
    assert by_rows.stored == 7 * 3 * 4
    assert by_matrices.stored <= 7 * 3 * 3 * 4


def test_a_gradient_stays_a_ragged_product():
    gradient = blockjac.grad(lambda *given: jnp.sum(product(*given) ** 2), (0, 1))
    text = str(jax.make_jaxpr(gradient)(ROWS, MATRICES))
    assert text.count("ragged_dot_general[") == 3
    assert " dot_general[" not in text
