"""Positive definite systems by Schur's complement, beside the dense solution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac import Block, BlockMatrix, block_hessian, block_jacobian, factorize, solve

RANDOM = np.random.default_rng(1)


def normal(*shape):
    return jnp.asarray(RANDOM.normal(size=shape))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def same(found, wanted, rtol=1e-9):
    found, wanted = np.ravel(found), np.ravel(wanted)
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())


GROUPS, ROWS = 40, 5
FEATURES = normal(GROUPS, ROWS, 3)


def mixed_effects(p):
    """Parameters for all groups, and some for each: the Hessian is an arrow."""
    slopes = jnp.einsum("grf,gf->gr", FEATURES[..., :2], p["slope"])
    rates = FEATURES @ p["all"] + p["level"][:, None] + slopes
    return jnp.sum(jnp.cosh(rates / 5)) + sum(jnp.sum(leaf**2) for leaf in p.values())


def mixed_point():
    return {"all": normal(3), "level": normal(GROUPS), "slope": normal(GROUPS, 2)}


def mixed_effects_of_rows(p):
    """The same where the groups are numbered by the last axis of one of their parameters."""
    return mixed_effects({**p, "slope": p["slope"].T})


MARKS = RANDOM.integers(5, size=120), np.repeat(np.arange(30), 4)


def marks(p):
    """Each observation joins one camera and one point, as in bundle adjustment."""
    cameras, points = p["camera"][MARKS[0]], p["point"][MARKS[1]]
    return jnp.sum(cameras[:, :3] * points, 1) / (2 + cameras[:, 3] ** 2 + points[:, 0] ** 2)


def normal_equations(p):
    (row,) = [list(block_jacobian(marks)(p).values())]
    jacobian = BlockMatrix([row], None, jax.tree.structure(p))
    return jacobian.T @ jacobian


SYSTEMS = {
    "arrow": (lambda p: block_hessian(mixed_effects)(p), mixed_point(), "40 systems"),
    "arrow, transposed": (
        lambda p: block_hessian(mixed_effects_of_rows)(p),
        {**mixed_point(), "slope": normal(2, GROUPS)},
        "40 systems",
    ),
    "bundle": (normal_equations, {"camera": normal(5, 4), "point": normal(30, 3)}, "30 systems"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_solutions(name):
    matrix_of, point, method = SYSTEMS[name]
    matrix = matrix_of(point)
    dense = np.asarray(matrix.dense()) + 0.3 * np.eye(matrix.shape[0])
    right = jax.tree.map(lambda leaf: normal(*leaf.shape), point)
    factors = factorize(matrix, 0.3, assume="pos")
    assert factors.method.startswith(f"Schur complement: {method}"), factors.method
    same(flat(factors.solve(right)), np.linalg.solve(dense, flat(right)))
    same(factors.slogdet()[1], np.linalg.slogdet(dense)[1])
    same(flat(factors.inverse_diagonal()), np.diag(np.linalg.inv(dense)))
    assert not factorize(matrix, 0.3).method.startswith("Schur")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["arrow", "bundle"])
def test_under_jit_vmap_and_grad(name):
    matrix_of, point, _ = SYSTEMS[name]
    right = jax.tree.map(lambda leaf: normal(*leaf.shape), point)

    def ours(p, y, damping):
        matrix = matrix_of(p)
        solution = solve(matrix, y, damping, assume="pos")
        logarithm = factorize(matrix, damping, assume="pos").slogdet()[1]
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(solution)) + logarithm

    def dense(p, y, damping):
        matrix = matrix_of(p).dense()
        matrix = matrix + damping * jnp.eye(len(matrix))
        vector = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(y)])
        return jnp.sum(jnp.linalg.solve(matrix, vector) ** 2) + jnp.linalg.slogdet(matrix)[1]

    arguments, every = (point, right, 0.7), (0, 1, 2)
    found = jax.jit(jax.grad(ours, every))(*arguments)
    wanted = jax.jit(jax.grad(dense, every))(*arguments)
    jax.tree.map(lambda a, b: same(a, b, 1e-7), found, wanted)
    dampings = jnp.array([0.5, 2.0])
    same(
        jax.vmap(ours, (None, None, 0))(point, right, dampings),
        jax.vmap(dense, (None, None, 0))(point, right, dampings),
    )


@pytest.mark.slow
def test_hermitian_matrices():
    """The coupling is conjugated on one side."""
    size, systems = 3, 200
    coupling = 0.1 * (normal(size, systems) + 1j * normal(size, systems))
    corner = normal(size, size) + 1j * normal(size, size)
    corner = corner @ corner.conj().T + 5 * jnp.eye(size)
    diagonal = 2 + jnp.abs(normal(systems))

    matrix = BlockMatrix(
        [
            [Block.from_dense(corner, 1), Block.from_dense(coupling, 1)],
            [Block.from_dense(coupling.conj().T, 1), Block.diag(diagonal.astype(complex))],
        ]
    )
    dense = np.asarray(matrix.dense())
    assert np.allclose(dense, dense.conj().T)
    right = normal(size) + 1j * normal(size), normal(systems) + 1j * normal(systems)
    factors = factorize(matrix, assume="pos")
    assert factors.method.startswith("Schur")
    same(flat(factors.solve(right)), np.linalg.solve(dense, flat(right)))
    same(factors.slogdet()[1], np.linalg.slogdet(dense)[1])
    same(flat(factors.inverse_diagonal()), np.diag(np.linalg.inv(dense)))

    def total(y):
        return jnp.sum(jnp.abs(flat_of(factors.solve(y)) - 1) ** 2)

    def total_of_dense(y):
        return jnp.sum(jnp.abs(jnp.linalg.solve(dense, flat_of(y)) - 1) ** 2)

    def flat_of(tree):
        return jnp.concatenate(tree)

    same(flat(jax.grad(total)(right)), flat(jax.grad(total_of_dense)(right)))


@pytest.mark.slow
def test_what_is_not_positive_definite_gives_no_numbers():
    hessian = block_hessian(lambda p: mixed_effects(p) - 40 * jnp.sum(p["all"] ** 2))(mixed_point())
    assert np.isnan(flat(solve(hessian, mixed_point(), assume="pos"))).all()


@pytest.mark.parametrize("groups", [1, 2, 3, 10, 100, 1000])
def test_all_sizes(groups):
    """The way is chosen by its cost; the solution does not depend on the way."""
    features = normal(groups, 2)

    def energy(p):
        return jnp.sum(jnp.cosh(features @ p[0] + p[1])) + jnp.sum(p[0] ** 2) + jnp.sum(p[1] ** 2)

    point = normal(2), normal(groups)
    hessian = block_hessian(energy)(point)
    right = normal(2), normal(groups)
    solution = flat(solve(hessian, right, assume="pos"))
    same(solution, np.linalg.solve(np.asarray(hessian.dense()), flat(right)))


def test_memory_is_that_of_the_coupling():
    """The dense matrix of 100,003 unknowns would take 80 GB."""
    groups = 10**5
    features = jax.ShapeDtypeStruct((groups, 3), jnp.float64)
    few, many = (jax.ShapeDtypeStruct(shape, jnp.float64) for shape in ((3,), (groups,)))

    def step(features, few, many):
        def energy(p):
            return jnp.sum(jnp.cosh(features @ p[0] + p[1])) + jnp.sum(p[0] ** 2)

        return solve(block_hessian(energy)((few, many)), (few, many), assume="pos")

    planned = jax.jit(step).lower(features, few, many).compile().memory_analysis()
    assert planned.temp_size_in_bytes < 20 * 8 * 3 * groups
