"""A user's program, as type checkers see it: `dev.py types` checks it with two of them.

What is wrong on purpose is marked, and a mark that nothing needs is an error too.
"""

from typing import Any, assert_type

import jax
import jax.numpy as jnp

import blockjac
from blockjac import Block, BlockMatrix, Plan


def loss(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """A number of parameters and data."""
    return jnp.sum(jnp.tanh(x @ params["W"]))


def residuals(x: jax.Array) -> jax.Array:
    """An array of an array."""
    return x[1:] * x[:-1]


PARAMS, X = {"W": jnp.ones((3, 2))}, jnp.ones((4, 3))

# A transform of a function takes the arguments of the function.
value, gradient = blockjac.value_and_grad(loss)(PARAMS, X)
jacobian = blockjac.jacobian(residuals, order="forward", chunk_size="auto")(jnp.ones(4))
sparse = blockjac.sparse_jacobian(residuals, format="csc")(jnp.ones(4))
diagonal = blockjac.hessian_diagonal(loss)(PARAMS, X)
gradients = blockjac.per_example_grad(lambda p, x: x @ p)(jnp.ones(3), X)

plan = blockjac.plan(residuals)(jax.ShapeDtypeStruct((4,), jnp.float32))
assert_type(plan, Plan)
again = blockjac.jacobian(residuals, order=plan)(jnp.ones(4))

# Blocks give blocks.
block = Block.diag(jnp.ones(3))
assert_type(block, Block)
assert_type(block.T, Block)
assert_type(block + block, Block)
assert_type(2 * block, Block)
assert_type(block.dense(), jax.Array)
assert_type(block.shape, tuple[int, ...])
assert_type(BlockMatrix([[block]])[0, 0], Any)

# Mistakes that a checker finds before the program runs.
blockjac.jacobian(residuals, order="revers")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
blockjac.sparse_jacobian(residuals, format="cs")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
blockjac.gradient(residuals)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
blockjac.grad(loss)(PARAMS)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
blockjac.jacobian(residuals)(X, X)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
