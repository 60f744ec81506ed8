"""Very small systems, solved entry by entry, beside NumPy's answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac.blocks import Block
from blockjac.linear_systems import direct, entrywise

RANDOM = np.random.default_rng(0)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3, 4, 6])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_a_batch_of_small_systems(size, dtype):
    matrices = RANDOM.normal(size=(50, size, size)).astype(dtype)
    matrices[:5, 0, 0] = 0  # which has to be exchanged
    if dtype == "complex128":
        matrices = matrices + 1j * RANDOM.normal(size=matrices.shape)
    right = RANDOM.normal(size=(50, size)).astype(dtype)
    solver = jax.vmap(lambda matrix: direct.factored(matrix, "gen", 50))(jnp.asarray(matrices))
    assert isinstance(solver, entrywise.EntrywiseLU)
    for transposed in (False, True):
        expected = matrices.swapaxes(1, 2) if transposed else matrices
        solution = jax.vmap(lambda s, b, t=transposed: s.solve(b, t))(solver, jnp.asarray(right))
        np.testing.assert_allclose(
            solution, np.linalg.solve(expected, right[..., None])[..., 0], rtol=1e-9
        )
    sign, logarithm = jax.vmap(lambda s: s.slogdet())(solver)
    np.testing.assert_allclose(sign, np.linalg.slogdet(matrices)[0], rtol=1e-9)
    np.testing.assert_allclose(logarithm, np.linalg.slogdet(matrices)[1], rtol=1e-9, atol=1e-12)
    diagonal = jax.vmap(lambda s: s.inverse_diagonal())(solver)
    inverse = np.linalg.inv(matrices)
    np.testing.assert_allclose(diagonal, np.einsum("bii->bi", inverse), rtol=1e-8)
    (block,) = jax.tree.leaves(
        direct.factored(jnp.asarray(matrices[0]), "gen", 50).inverse([(size,)]),
        is_leaf=lambda node: isinstance(node, Block),
    )
    np.testing.assert_allclose(block.dense(), inverse[0], rtol=1e-9)


def test_pivots_are_the_largest_entries():
    matrix = jnp.array([[1e-20, 1.0], [1.0, 1.0]])
    solution = direct.factored(matrix, "gen").solve(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(solution, [1.0, 1.0], rtol=1e-12)


def test_a_singular_system_gives_no_number_and_leaves_its_neighbors_alone():
    matrices = jnp.stack([jnp.ones((3, 3)), jnp.eye(3)])
    solver = jax.vmap(lambda matrix: direct.factored(matrix, "gen", 2))(matrices)
    solution = jax.vmap(lambda s: s.solve(jnp.arange(3.0)))(solver)
    assert not np.all(np.isfinite(solution[0]))
    np.testing.assert_array_equal(solution[1], np.arange(3.0))
    sign, logarithm = jax.vmap(lambda s: s.slogdet())(solver)
    assert logarithm[0] == -np.inf
    assert sign[1] == 1


def test_one_system_larger_than_that_is_left_to_the_library():
    assert isinstance(direct.factored(jnp.eye(5), "gen"), direct.LU)
    assert isinstance(direct.factored(jnp.eye(7), "gen", 100), direct.LU)


ORDERS = {
    "side by side": np.arange(300).reshape(3, 100).T,
    "one after the other": np.arange(300).reshape(100, 3),
    "mixed": np.random.default_rng(1).permutation(300).reshape(100, 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rest", [0, 5])
def test_separate_systems_wherever_their_unknowns_are(order, rest):
    places = ORDERS[order]
    back = np.argsort(places.ravel())

    def cells(y):
        a, b, c = y[places].T
        mixed = jnp.stack([a * b + 2 * c, b**2 + c, 3 * c + a], axis=1).ravel()[back]
        return jnp.concatenate([mixed, 2 * y[300:]])

    y = jnp.asarray(RANDOM.uniform(1, 2, size=300 + rest))
    factors = blockjac.factorize(blockjac.block_jacobian(cells)(y))
    dense = np.asarray(jax.jacfwd(cells)(y))
    assert factors.method.startswith("separate systems")
    np.testing.assert_allclose(factors.solve(y), np.linalg.solve(dense, y), rtol=1e-9)
    solved = factors.solver.solve(y, transposed=True)
    np.testing.assert_allclose(solved, np.linalg.solve(dense.T, y), rtol=1e-9)
