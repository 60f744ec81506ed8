"""Terms that lie side by side are joined: right entries, gaps included, and nothing padded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac.algebra.pieces import joint_axis

X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 7)))


def split_and_joined(x):
    """Uses columns 0 and 1, 2 and 3, and 5 and 6: column 4 is a gap."""
    return jnp.sum(jnp.tanh(x[:, :2]) * x[:, 2:4]) + jnp.sum(x[:, 5:] ** 3)


def primitives(function, *arguments):
    return [one.primitive.name for one in jax.make_jaxpr(function)(*arguments).eqns]


def test_a_gradient_through_parts_is_one_concatenation():
    names = primitives(blockjac.grad(split_and_joined), X)
    assert names.count("concatenate") == 1
    assert "pad" not in names
    np.testing.assert_allclose(
        blockjac.grad(split_and_joined)(X), jax.grad(split_and_joined)(X), rtol=1e-12
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.concatenate([x[:, :2] * 2, x[:, 3:] ** 2], 1),
        lambda x: jnp.sum(jnp.stack(jnp.split(x, 7, 1)) ** 2, 0),
        lambda x: jnp.stack([x[0] * x[1], x[2]]),
        lambda x: jnp.sum(x[0]) + jnp.sum(x[2] ** 2),
        lambda x: jnp.where(x[:, :3] > 0, x[:, :3], x[:, 3:6]),
        lambda x: jnp.roll(x, 2, 1) * x,
    ],
)
def test_entries(function):
    for order in ("reverse", "forward"):
        found = blockjac.jacobian(function, order=order)(X)
        np.testing.assert_allclose(found, jax.jit(jax.jacrev(function))(X), rtol=1e-12, atol=1e-14)


def test_parts_that_overlap_or_are_shifted_against_each_other_are_not_joined():
    windows = blockjac.block_jacobian(lambda x: jnp.sum(x[:4]) + jnp.sum(x[3:]))(X[0])
    differences = blockjac.block_jacobian(lambda x: x[1:] - x[:-1])(X[0])
    for block in (windows, differences):
        if len(block.terms) > 1:
            assert joint_axis(block.terms, block.shape, ()) is None
    np.testing.assert_allclose(windows.dense(), [1, 1, 1, 2, 1, 1, 1])
