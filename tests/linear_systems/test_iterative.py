"""Systems that are too large to be written out, and have no structure for a direct solver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac import block_hessian, block_jacobian, factorize, solve
from blockjac.algebra import dense
from blockjac.errors import DenseTooLargeError, StructureLostError
from blockjac.linear_systems import iterative, ways

RANDOM = np.random.default_rng(0)
SIZE = 200
A, B = (jnp.asarray(RANDOM.normal(size=(SIZE, SIZE)) / 40) for _ in range(2))
RIGHT = jnp.asarray(RANDOM.normal(size=(SIZE, SIZE)))


def crossed(v):
    """40,000 unknowns, whose matrix would take 12.8 GB."""
    return v + A @ v.T @ B


def energy(v):
    """Its Hessian is positive definite and just as large."""
    return jnp.sum(v**2) + 0.1 * jnp.sum((A @ v.T @ B) * v)


@pytest.mark.slow
def test_large_systems(monkeypatch):
    monkeypatch.setattr(ways, "memory_limit", lambda: 2**30)
    block = block_jacobian(crossed)(RIGHT)
    factors = factorize(block)
    assert factors.method == "GMRES of lineax, 40000 unknowns, no matrix"
    solution = factors.solve(RIGHT, check=True)
    np.testing.assert_allclose(crossed(solution), RIGHT, atol=1e-8)
    back = solve(block.T, RIGHT)
    np.testing.assert_allclose(jax.vjp(crossed, RIGHT)[1](back)[0], RIGHT, atol=1e-8)
    hessian = block_hessian(energy)(RIGHT)
    factors = factorize(hessian, 0.5, assume="pos")
    assert factors.method.startswith("conjugate gradients")
    solution = factors.solve(RIGHT, check=True)
    product = jax.jvp(jax.grad(energy), (RIGHT,), (solution,))[1] + 0.5 * solution
    np.testing.assert_allclose(product, RIGHT, atol=1e-8)
    with pytest.raises(DenseTooLargeError, match="the determinant of a matrix of 40,000 unknowns"):
        factors.slogdet()


def test_what_does_not_fit_is_said(monkeypatch):
    block = block_jacobian(crossed)(RIGHT)
    with pytest.raises(StructureLostError, match="all 40,000 x 40,000 entries"):
        solve(block, RIGHT, require_structure=True)
    monkeypatch.setattr(dense, "memory_limit", lambda: 2**30)
    monkeypatch.setattr(ways, "memory_limit", lambda: 2**30)
    monkeypatch.setattr(iterative, "is_there", lambda: False)
    with pytest.raises(DenseTooLargeError, match=r"pip install lineax"):
        solve(block, 2 * RIGHT, 0.1)


def small(weights, v):
    return weights * v + 0.3 * A[:6, :6] @ v.T @ B[:6, :6]


@pytest.mark.slow
def test_derivatives_and_batches(monkeypatch):
    """A limit of 8 KiB, over which 36 x 36 numbers are."""
    monkeypatch.setattr(ways, "memory_limit", lambda: 8192)
    weights, right = 1 + RIGHT[:6, :6] ** 2, RIGHT[6:12, :6]

    def ours(weights, right):
        block = block_jacobian(small, 1)(weights, right)
        factors = factorize(block, 0.1)
        assert factors.method.startswith("GMRES")
        return jnp.sum(factors.solve(right) ** 2) + jnp.sum(factors.inverse_diagonal())

    def theirs(weights, right):
        matrix = jnp.reshape(jax.jacfwd(small, 1)(weights, right), (36, 36)) + 0.1 * jnp.eye(36)
        inverse = jnp.linalg.inv(matrix)
        return jnp.sum((inverse @ jnp.ravel(right)) ** 2) + jnp.trace(inverse)

    for transform in (lambda f: f, lambda f: jax.grad(f, (0, 1))):
        found = jax.jit(jax.vmap(transform(ours), (None, 0)))(weights, jnp.stack([right, -right]))
        wanted = jax.vmap(transform(theirs), (None, 0))(weights, jnp.stack([right, -right]))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8), found, wanted)


def test_no_convergence_gives_nan(monkeypatch):
    monkeypatch.setattr(ways, "memory_limit", lambda: 8192)
    monkeypatch.setattr(iterative, "STEPS", 2)
    block = block_jacobian(lambda v: A[:9, :9] @ v.T @ B[:9, :9])(jnp.ones((9, 9)))
    assert np.isnan(solve(block, jnp.ones((9, 9)))).all()
