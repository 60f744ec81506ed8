"""LSMR beside SciPy's, step by step, and as a way to solve least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.linalg import lsmr as reference

from blockjac import block_jacobian, lstsq
from blockjac.blocks import large_least_squares
from blockjac.linear_systems import ways
from blockjac.linear_systems.lsmr import lsmr

RANDOM = np.random.default_rng(0)
RULES = {"atol": 0.0, "btol": 0.0, "conlim": 1e30, "steps": 500}


def ours(matrix, right, damp=0.0, **rules):
    def solution(right):
        products = (lambda v: matrix @ v), (lambda u: matrix.T @ u)
        return lsmr(*products, right, matrix.shape[1], damp=damp, **(RULES | rules))

    return jax.jit(solution)(right)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(60, 20), (20, 60), (30, 30)])
@pytest.mark.parametrize("damp", [0.0, 0.7])
def test_steps_are_those_of_scipy(shape, damp):
    matrix, right = RANDOM.normal(size=shape), RANDOM.normal(size=shape[0])
    for steps in (1, 2, 5, 12):
        options = {"atol": 0, "btol": 0, "conlim": 0, "maxiter": steps}
        wanted = reference(matrix, right, damp=damp, **options)[0]
        found = ours(matrix, right, damp, steps=steps)
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11)
    rows = np.concatenate([matrix, damp * np.eye(shape[1])])
    both = np.concatenate([right, np.zeros(shape[1])])
    wanted = np.linalg.lstsq(rows, both, rcond=None)[0]
    found = ours(matrix, right, damp, atol=1e-14, btol=1e-14)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_rules_to_stop():
    matrix, right = RANDOM.normal(size=(60, 20)), RANDOM.normal(size=60)
    exact = np.linalg.lstsq(matrix, right, rcond=None)[0]
    rough = ours(matrix, right, atol=1e-3)
    assert 1e-9 < np.abs(rough - exact).max() < 1e-2
    assert np.abs(ours(matrix, right, conlim=1.5) - exact).max() > 1e-3
    consistent = matrix @ np.ones(20)
    np.testing.assert_allclose(ours(matrix, consistent, btol=1e-12), 1.0, rtol=1e-9)
    np.testing.assert_array_equal(ours(matrix, 0 * right), np.zeros(20))
    rank_one = np.outer(np.ones(6), np.arange(4.0))  # the shortest of many solutions
    wanted = np.linalg.pinv(rank_one) @ np.arange(6.0)
    np.testing.assert_allclose(ours(rank_one, np.arange(6.0), atol=1e-14), wanted, atol=1e-12)


A, B, C = (jnp.asarray(RANDOM.normal(size=(6, 6))) for _ in range(3))
MODELS = {
    "tall": lambda v, w: jnp.concatenate([v + A @ (w * v).T @ B, C @ v]),
    "square": lambda v, w: 3 * v + A @ (w * v).T @ B,
    "wide": lambda v, w: (3 * v + A @ (w * v).T @ B)[:4],
}


@pytest.mark.slow
@pytest.mark.parametrize("damping", [0.0, 0.4])
@pytest.mark.parametrize("name", MODELS)
def test_least_squares_without_a_matrix(name, damping, monkeypatch):
    """A limit of 2 KiB, over which all normal matrices are."""
    monkeypatch.setattr(ways, "memory_limit", lambda: 2048)
    model, weights = MODELS[name], 1 + jnp.asarray(RANDOM.uniform(size=(6, 6)))
    v = jnp.asarray(RANDOM.normal(size=(6, 6)))
    right = jnp.asarray(RANDOM.normal(size=model(v, weights).shape))
    calls = []
    own = large_least_squares.lsmr
    monkeypatch.setattr(
        large_least_squares, "lsmr", lambda *a, **b: calls.append(1) or own(*a, **b)
    )

    def ours(weights, right, damping):
        return jnp.sum(jnp.sin(lstsq(block_jacobian(model)(v, weights), right, damping)))

    def theirs(weights, right, damping):
        matrix = jnp.reshape(jax.jacfwd(model)(v, weights), (right.size, 36))
        if right.size < 36:
            gram = matrix @ matrix.T + damping * jnp.eye(right.size)
            return jnp.sum(jnp.sin(matrix.T @ jnp.linalg.solve(gram, jnp.ravel(right))))
        gram = matrix.T @ matrix + damping * jnp.eye(36)
        return jnp.sum(jnp.sin(jnp.linalg.solve(gram, matrix.T @ jnp.ravel(right))))

    same = np.testing.assert_allclose
    same(jax.jit(ours)(weights, right, damping), theirs(weights, right, damping), rtol=1e-8)
    assert calls
    if name == "wide" and not damping:
        return  # the normal equations of the derivative are singular
    every = (0, 1, 2) if damping else (0, 1)
    found = jax.jit(jax.grad(ours, every))(weights, right, damping)
    wanted = jax.grad(theirs, every)(weights, right, damping)
    jax.tree.map(lambda a, b: same(a, b, rtol=1e-6, atol=1e-7), found, wanted)
    several = jnp.stack([right, right[::-1]])
    axes = (None, 0, None)
    same(
        jax.jit(jax.vmap(ours, axes))(weights, several, damping),
        jax.vmap(theirs, axes)(weights, several, damping),
        rtol=1e-8,
    )


def test_memory_is_that_of_vectors():
    """The normal matrix of 250,000 unknowns would take 500 GB."""
    side = 500
    left, right = (jax.ShapeDtypeStruct((side, side), jnp.float64) for _ in range(2))

    def step(left, right):
        block = block_jacobian(lambda v: jnp.stack([v + left @ v.T @ left, v]))(right)
        return lstsq(block, jnp.stack([right, right]))

    planned = jax.jit(step).lower(left, right).compile().memory_analysis()
    assert planned.temp_size_in_bytes < 60 * 8 * side**2
