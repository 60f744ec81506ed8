"""Linear solves: by the solver that is given, with the deltas of the matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.precision import assert_close
from support.same_as_jax import same_as_jax, same_second_order

import blockjac

RANDOM = np.random.default_rng(0)
A = jnp.asarray(RANDOM.normal(size=(4, 3, 3)) + 4 * np.eye(3))
B = jnp.asarray(RANDOM.normal(size=(4, 3, 2)))


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (jnp.linalg.solve, (A[0], B[0])),
        (jnp.linalg.solve, (A[0], B[0, :, 0])),
        (jnp.linalg.solve, (A, B)),
        (jnp.linalg.inv, (A,)),
        (jnp.linalg.det, (A,)),
        (lambda a: jnp.linalg.slogdet(a)[1], (A,)),
        (lambda a: jax.scipy.linalg.expm(a / 10), (A[0],)),
        (lambda a: jnp.linalg.solve(a, a.T @ a), (A[0],)),
    ],
)
def test_solves(function, arguments):
    same_as_jax(function, *arguments)


def test_second_order():
    same_second_order(jnp.linalg.solve, A[:2], B[:2])


def test_a_solver_of_the_user():
    matrix = A[0] @ A[0].T

    def solved(a, b):
        return lax.custom_linear_solve(
            lambda x: a @ x, b, lambda _, b: jnp.linalg.solve(matrix, b), symmetric=True
        )

    same_as_jax(solved, matrix, B[0, :, 0])


def test_conjugate_gradients():
    matrix = A[0] @ A[0].T

    def solved(a, b):
        return jax.scipy.sparse.linalg.cg(lambda x: a @ x, b, tol=1e-14)[0]

    same_as_jax(solved, matrix, B[0, :, 0], orders=("forward", "reverse"), rtol=1e-6)


def test_roots():
    def root(a):
        return lax.custom_root(
            lambda x: x**3 - a,
            jnp.ones(3),
            lambda f, x: lax.fori_loop(0, 50, lambda i, x: x - f(x) / (3 * x**2), x),
            lambda g, y: y / g(jnp.ones_like(y)),
        )

    same_as_jax(root, jnp.array([1.0, 2.0, 3.0]))


def test_a_solver_without_a_transposed_one():
    """JAX refuses the gradient; here the other direction serves."""

    def solved(a, b):
        return lax.custom_linear_solve(lambda x: a @ x, b, lambda _, b: jnp.linalg.inv(a) @ b)

    arguments = A[0], B[0, :, 0]
    same_as_jax(solved, *arguments, oracle=jax.jacfwd)
    ours = blockjac.grad(lambda a, b: jnp.sum(solved(a, b)))(*arguments)
    wanted = jax.grad(lambda a, b: jnp.sum(jnp.linalg.solve(a, b)))(*arguments)
    assert_close(ours, wanted, rtol=1e-10)


def test_a_solver_that_tells_more():
    def solved(a, b):
        return lax.custom_linear_solve(
            lambda x: a @ x,
            b,
            lambda _, b: (jnp.linalg.solve(a, b), jnp.sum(b)),
            lambda _, b: (jnp.linalg.solve(a.T, b), jnp.sum(b)),
            has_aux=True,
        )

    arguments = A[0], B[0, :, 0]
    wanted = jax.jit(jax.jacfwd(jnp.linalg.solve, (0, 1)))(*arguments)
    for order in ("reverse", "forward", "auto"):
        found, more = blockjac.jacobian(solved, (0, 1), has_aux=True, order=order)(*arguments)
        assert_close(more, jnp.sum(B[0, :, 0]))
        for one, two in zip(found, wanted, strict=True):
            assert_close(one, two, rtol=1e-10)
    rate = blockjac.jvp(solved, arguments, arguments)[1]
    for one, two in zip(rate, jax.jvp(solved, arguments, arguments)[1], strict=True):
        assert_close(one, two, rtol=1e-10, atol=1e-13)


def test_forward_over_forward_of_a_symmetric_solve():
    matrix, right = A[0] @ A[0].T, B[0, :, 0]

    def solved(a, b):
        factor = jax.scipy.linalg.cho_factor(a)
        return lax.custom_linear_solve(
            lambda x: a @ x, b, lambda _, b: jax.scipy.linalg.cho_solve(factor, b), symmetric=True
        )

    def twice(jvp):
        rate = lambda *x: jvp(solved, x, (A[1], B[1, :, 0]))[1]  # noqa: E731
        return jvp(rate, (matrix, right), (A[2], B[2, :, 0]))[1]

    assert_close(twice(blockjac.jvp), twice(jax.jvp), rtol=1e-10)


def test_the_deltas_of_the_matrix_are_those_of_its_inverse():
    for order in ("auto", "reverse", "forward"):
        by_a, by_b = blockjac.block_jacobian(jnp.linalg.solve, (0, 1), order=order)(A, B)
        assert by_b.stored <= 4 * 3 * 3 * 2
        assert by_a.stored <= 4 * 3 * 2 * 3 * 3


def test_complex_solve():
    matrix, right = A[0] + 1j * A[1], B[0] + 0j
    found = blockjac.jacobian(jnp.linalg.solve, (0, 1), holomorphic=True)(matrix, right)
    wanted = jax.jit(jax.jacrev(jnp.linalg.solve, (0, 1), holomorphic=True))(matrix, right)
    for one, two in zip(found, wanted, strict=True):
        assert_close(one, two, rtol=1e-9)
