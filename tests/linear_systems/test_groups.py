"""Linear systems that fall into small ones, beside the dense solution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import Block, BlockMatrix
from blockjac.linear_systems.groups import families, groups

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RANDOM.normal(size=shape))


FEATURES, COUNTS = normal(9, 3), jnp.asarray(RANDOM.poisson(1.0, (9, 4)), float)
SIDE = normal(4, 4)


def population(p):
    """A model for each column: weights have it last, the bias alone, the shape first."""
    q = FEATURES @ p["weights"] + p["bias"] + jnp.einsum("nf,mf->nm", FEATURES[:, :2], p["shape"])
    return jnp.sum(jnp.exp(q) - COUNTS * q) + sum(jnp.sum(one**2) for one in p.values())


ENERGIES = {
    "population": (
        population,
        {"weights": normal(3, 4) / 3, "bias": normal(4) / 3, "shape": normal(4, 2) / 3},
    ),
    "diagonal": (
        lambda p: jnp.sum(jnp.cosh(p["a"])) + jnp.sum(jnp.exp(p["b"])),
        {"a": normal(2, 3), "b": normal(5)},
    ),
    "joined diagonals": (
        lambda p: jnp.sum(jnp.cosh(p["a"] + p["b"].T / 2)) + jnp.sum(p["b"] ** 2),
        {"a": normal(2, 3), "b": normal(3, 2)},
    ),
    "two axes": (
        lambda p: (
            jnp.sum(jnp.sum(p["a"], 1) ** 2 * p["b"] ** 2)
            + 9 * (jnp.sum(p["a"] ** 2) + jnp.sum(p["b"] ** 2))
        ),
        {"a": normal(2, 3, 4), "b": normal(2, 4)},
    ),
    "apart": (
        lambda p: jnp.sum((SIDE @ p["a"]) ** 4) + jnp.sum(p["a"] ** 2) + jnp.sum(p["b"] ** 4),
        {"a": normal(4), "b": normal(3)},
    ),
    "dense": (
        lambda p: (
            (jnp.sum(p["a"]) * jnp.sum(p["b"])) ** 2
            + jnp.sum(p["a"] ** 2 + p["b"][:2] ** 2)
            + jnp.sum(p["b"] ** 2)
        ),
        {"a": normal(2), "b": normal(3)},
    ),
    "a number beside": (
        lambda p: jnp.sum(jnp.cosh(p["a"])) * p["b"] ** 2 + 30 * jnp.sum(p["a"] ** 2),
        {"a": normal(3), "b": jnp.array(2.0)},
    ),
    "one array": (lambda p: jnp.sum(jnp.cosh(SIDE @ p[0])) + jnp.sum(p[0] ** 2), [normal(4, 3)]),
}
"""Functions and points, and below how many variables meet and which axes number the systems."""

FALLS_INTO = {
    "population": [[0, 1, 2]],
    "diagonal": [[0], [1]],
    "joined diagonals": [[0, 1]],
    "two axes": [[0, 1]],
    "apart": [[0], [1]],
    "dense": [[0, 1]],
    "a number beside": [[0, 1]],
    "one array": [[0]],
}
NUMBERED = {
    "population": [{0: 0, 1: 0, 2: 1}],
    "diagonal": [{0: 0}, {0: 1}],
    "joined diagonals": [{0: 0, 1: 1}, {0: 1, 1: 0}],
    "two axes": [{0: 0, 1: 0}, {0: 2, 1: 1}],
    "apart": [],
    "dense": [],
    "a number beside": [],
    "one array": [{0: 1}],
}


def systems(name):
    function, point = ENERGIES[name]
    right = jax.tree.map(lambda leaf: normal(*leaf.shape), point)
    return blockjac.block_hessian(function)(point), right


def flat(tree):
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def same(found, wanted, rtol=1e-9):
    np.testing.assert_allclose(flat(found), flat(wanted), rtol=rtol, atol=1e-11)


@pytest.mark.parametrize("name", ENERGIES)
def test_solutions(name):
    matrix, right = systems(name)
    assert groups(matrix.rows) == FALLS_INTO[name]
    assert families(matrix.rows, groups(matrix.rows)[0]) == NUMBERED[name]
    for damping in (0.0, 0.7):
        dense = np.asarray(matrix.dense()) + damping * np.eye(matrix.shape[0])
        found = matrix.solve(right, damping)
        assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, right)
        same(found, np.linalg.solve(dense, np.asarray(flat(right))))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["population", "joined diagonals", "dense"])
def test_under_jit_vmap_and_grad(name):
    function, point = ENERGIES[name]
    right = jax.tree.map(lambda leaf: normal(*leaf.shape), point)

    def step(p, damping, solve):
        return solve(blockjac.block_hessian(function)(p), right, damping)

    def densely(matrix, right, damping):
        dense = matrix.dense()
        return jnp.linalg.solve(dense + damping * jnp.eye(len(dense)), flat(right))

    def number(solve):
        return lambda p, damping: jnp.sum(jnp.sin(flat(step(p, damping, solve))))

    points = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf / 2]), point)
    same(jax.jit(number(BlockMatrix.solve))(point, 0.3), number(densely)(point, 0.3))
    same(
        jax.vmap(number(BlockMatrix.solve), (0, None))(points, 0.3),
        jax.vmap(number(densely), (0, None))(points, 0.3),
    )
    same(
        jax.grad(number(BlockMatrix.solve), (0, 1))(point, 0.3),
        jax.grad(number(densely), (0, 1))(point, 0.3),
        1e-7,
    )


def test_a_matrix_that_is_not_symmetric():
    function = lambda p: (jnp.sin(p[0]) * p[1][0] + p[1][1], p[1] * jnp.stack([p[0] ** 2, p[0]]))  # noqa: E731
    point = normal(4) + 2, normal(2, 4) + 3
    matrix = blockjac.block_jacobian(function)(point)
    rows = [[matrix[i][j] for j in range(2)] for i in range(2)]
    matrix = BlockMatrix(rows)
    assert families(matrix.rows, [0, 1]) == [{0: 0, 1: 1}]
    right = normal(4), normal(2, 4)
    same(matrix.solve(right), np.linalg.solve(matrix.dense(), flat(right)))


def test_zero_blocks_on_the_diagonal():
    swap = BlockMatrix([[None, Block.identity(3)], [2 * Block.identity(3), None]])
    right = normal(3), normal(3)
    same(swap.solve(right), (right[1] / 2, right[0]))


def test_singular_systems_are_inf_or_nan_and_the_others_right():
    matrix = BlockMatrix([[Block.diag(jnp.array([2.0, 0.0, 4.0]))]])
    (found,) = matrix.solve((jnp.ones(3),))
    np.testing.assert_array_equal(found, [0.5, np.inf, 0.25])


def test_large_diagonal_matrices_are_not_written_out():
    matrix = BlockMatrix([[Block.diag(jnp.full(300_000, 4.0)), None], [None, Block.identity(5)]])
    found = matrix.solve((jnp.ones(300_000), jnp.ones(5)), 1.0)
    np.testing.assert_allclose(found[0][::1000], 0.2)
    np.testing.assert_allclose(found[1], 0.5)
