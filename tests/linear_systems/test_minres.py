"""MINRES beside SciPy's, step by step, and as a way to solve systems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.linalg import minres as reference

from blockjac import block_hessian, block_jacobian, factorize, solve
from blockjac.errors import DenseTooLargeError
from blockjac.linear_systems import iterative, ways
from blockjac.linear_systems.minres import minres

RANDOM = np.random.default_rng(0)
SIZE = 60
BASIS = np.linalg.qr(RANDOM.normal(size=(SIZE, SIZE)))[0]
INDEFINITE = (
    BASIS @ np.diag(np.concatenate([np.linspace(-5, -1, 20), np.linspace(1, 9, 40)])) @ BASIS.T
)
RIGHT = RANDOM.normal(size=SIZE)
RULES = {"atol": 0.0, "btol": 0.0, "conlim": 1e30, "steps": 500}


def ours(matrix, right, scale=None, **rules):
    scale = np.ones(len(right)) if scale is None else scale
    return jax.jit(
        lambda right: minres(
            lambda v: matrix @ v, right, preconditioned=lambda r: scale * r, **(RULES | rules)
        )
    )(right)


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 20])
@pytest.mark.parametrize("is_scaled", [False, True])
def test_steps_are_those_of_scipy(steps, is_scaled):
    scale = RANDOM.uniform(0.5, 2.0, SIZE) if is_scaled else np.ones(SIZE)
    wanted, _ = reference(INDEFINITE, RIGHT, rtol=0, maxiter=steps, M=np.diag(scale))
    found = ours(INDEFINITE, RIGHT, scale, steps=steps)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_rules_to_stop():
    exact = np.linalg.solve(INDEFINITE, RIGHT)
    np.testing.assert_allclose(ours(INDEFINITE, RIGHT, btol=1e-12), exact, atol=1e-10)
    rough = ours(INDEFINITE, RIGHT, btol=1e-3)
    size = np.linalg.norm(INDEFINITE @ rough - RIGHT) / np.linalg.norm(RIGHT)
    assert 1e-6 < size <= 1e-3
    spread = np.diag(np.logspace(0.0, 6.0, SIZE))
    assert np.abs(spread @ ours(spread, RIGHT, conlim=3.0) - RIGHT).max() > 0.1
    np.testing.assert_array_equal(ours(INDEFINITE, 0 * RIGHT), 0 * RIGHT)
    units = ours(np.eye(SIZE), RIGHT)  # exact after one step
    np.testing.assert_allclose(units, RIGHT)
    singular = np.diag(np.arange(6.0))  # what has no solution is left
    found = ours(singular, np.ones(6), atol=1e-8, btol=1e-8)
    np.testing.assert_allclose((singular @ found)[1:], 1.0, atol=1e-6)


A, B = (jnp.asarray(RANDOM.normal(size=(6, 6))) for _ in range(2))


def saddle(p, weights):
    """Its Hessian is indefinite, and has no structure."""
    return jnp.sum(weights * p**2) / 2 + 0.1 * jnp.sum((A @ p.T @ B) * p)


@pytest.mark.slow
def test_symmetric_systems_without_a_matrix(monkeypatch):
    """A limit of 8 KiB, over which 36 x 36 numbers are."""
    monkeypatch.setattr(ways, "memory_limit", lambda: 8192)
    weights = jnp.asarray(RANDOM.choice([-3.0, 4.0], size=(6, 6)))
    right = jnp.asarray(RANDOM.normal(size=(6, 6)))

    def ours(weights, right):
        factors = factorize(block_hessian(saddle)(right, weights), 0.1, assume="sym")
        assert factors.method == "MINRES, 36 unknowns, no matrix"
        return jnp.sum(factors.solve(right) ** 2) + jnp.sum(factors.inverse_diagonal())

    def theirs(weights, right):
        matrix = jnp.reshape(jax.hessian(saddle)(right, weights), (36, 36)) + 0.1 * jnp.eye(36)
        inverse = jnp.linalg.inv(matrix)
        return jnp.sum((inverse @ jnp.ravel(right)) ** 2) + jnp.trace(inverse)

    for transform in (lambda f: f, lambda f: jax.grad(f, (0, 1))):
        found = jax.jit(jax.vmap(transform(ours), (None, 0)))(weights, jnp.stack([right, -right]))
        wanted = jax.vmap(transform(theirs), (None, 0))(weights, jnp.stack([right, -right]))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7), found, wanted)


def test_what_each_promise_takes(monkeypatch):
    methods = {assume: iterative.method_of(assume, jnp.float64) for assume in ("gen", "sym", "pos")}
    assert methods == {
        "gen": "GMRES of lineax",
        "sym": "MINRES",
        "pos": "conjugate gradients of lineax",
    }
    assert iterative.method_of("sym", jnp.complex128) == "GMRES of lineax"
    monkeypatch.setattr(iterative, "is_there", lambda: False)
    assert iterative.method_of("pos", jnp.float64) == "MINRES"
    assert iterative.method_of("gen", jnp.float64) is None
    monkeypatch.setattr(ways, "memory_limit", lambda: 8192)
    weights = 9 + jnp.asarray(RANDOM.normal(size=(6, 6)))
    hessian = block_hessian(saddle)(weights, weights)
    dense = np.asarray(hessian.dense())
    found = solve(hessian, weights, assume="pos")
    np.testing.assert_allclose(
        np.ravel(found), np.linalg.solve(dense, np.ravel(weights)), rtol=1e-8
    )


def test_no_convergence_gives_nan(monkeypatch):
    monkeypatch.setattr(ways, "memory_limit", lambda: 8192)
    monkeypatch.setattr(iterative, "STEPS", 2)
    hessian = block_hessian(saddle)(jnp.ones((6, 6)), 5 + jnp.arange(36.0).reshape(6, 6))
    assert np.isnan(solve(hessian, jnp.asarray(RANDOM.normal(size=(6, 6))), assume="sym")).all()
    with pytest.raises(DenseTooLargeError, match="the determinant of a matrix of 36 unknowns"):
        factorize(hessian, assume="sym").slogdet()


def test_memory_is_that_of_vectors():
    """The matrix of 250,000 unknowns would take 500 GB."""
    side = 500
    left, right = (jax.ShapeDtypeStruct((side, side), jnp.float64) for _ in range(2))

    def step(left, right):
        block = block_jacobian(lambda v: 4 * v + left @ v.T @ left)(right)
        return solve(block, right, assume="sym")

    planned = jax.jit(step).lower(left, right).compile().memory_analysis()
    assert planned.temp_size_in_bytes < 40 * 8 * side**2
