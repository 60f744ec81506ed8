"""Determinants, inverse diagonals, leverages and variances of Gauss-Newton matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.curvature_cases import PROBLEMS, flat, gauss_newton, inner_hessian, jacobian

import blockjac
from blockjac import factorize, ggn, kfac
from blockjac.errors import InvalidOptionError

DAMPING = 0.3


def same(found, wanted, rtol=1e-9):
    found, wanted = flat(found), np.ravel(wanted)
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())


def new_inputs(X):
    return jax.tree.map(lambda leaf: leaf[:2] + 0.25 if leaf.dtype != int else leaf[:2], X)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_all_that_factors_give(name):
    problem = PROBLEMS[name]
    params, X, Y = problem.arguments
    matrix = ggn(problem.model, problem.loss)(params, X, Y)
    A = gauss_newton(problem) + DAMPING * np.eye(matrix.shape[0])
    J = jacobian(problem.model, params, X)
    H = inner_hessian(problem.loss, Y, problem.model(params, X))
    inverse = np.linalg.inv(A)
    factors = factorize(matrix, DAMPING)
    same(factors.slogdet()[1], np.linalg.slogdet(A)[1])
    same(factors.inverse_diagonal(), np.diag(inverse), 1e-8)
    same(matrix.inverse_diagonal(DAMPING), np.diag(inverse), 1e-8)
    same(matrix.leverage(DAMPING), np.diag(J @ inverse @ J.T @ H), 1e-8)
    same(factors.predictive_variance(matrix.jacobian), np.diag(J @ inverse @ J.T), 1e-8)


def network(params, X):
    (W, b), (V, c) = params
    return jnp.tanh(X @ W + b) @ V + c


def squares(Y, Q):
    return 0.5 * jnp.sum((Q - Y) ** 2)


def many_parameters(outputs=2):
    random = np.random.default_rng(0)
    params = [
        (jnp.asarray(random.normal(size=(9, 30))) / 3, jnp.zeros(30)),
        (jnp.asarray(random.normal(size=(30, outputs))) / 5, jnp.zeros(outputs)),
    ]
    X, Y = jnp.asarray(random.normal(size=(12, 9))), jnp.asarray(random.normal(size=(12, outputs)))
    return params, X, Y


def test_by_outputs_and_by_parameters():
    params, X, Y = many_parameters()
    few = ggn(network, squares)(params, X, Y)
    assert factorize(few, DAMPING).method.startswith("by 24 outputs of 362 parameters")
    many = ggn(network, squares)(params, *(jnp.tile(array, (30, 1)) for array in (X, Y)))
    method = factorize(many, DAMPING, assume="pos").method
    assert method.startswith("Schur complement: 2 systems with one matrix: dense Cholesky of 31")


def test_independent_regressions_are_solved_one_by_one():
    """As many neurons as there are, each with a small system: no matrix of all parameters."""
    random = np.random.default_rng(0)
    X, W = jnp.asarray(random.normal(size=(40, 5))), jnp.asarray(random.normal(size=(5, 30)))
    Y = jnp.asarray(random.poisson(1.0, (40, 30)), float)
    matrix = ggn(lambda W, X: X @ W, lambda Y, Q: jnp.sum(jnp.exp(Q) - Y * Q))(W, X, Y)
    factors = factorize(matrix, DAMPING, assume="pos")
    assert factors.method == "30 systems: dense Cholesky of 5"
    A = np.asarray(matrix.dense()) + DAMPING * np.eye(150)
    same(factors.inverse_diagonal(), np.diag(np.linalg.inv(A)))
    same(matrix.solve(W, DAMPING, assume="pos"), np.linalg.solve(A, np.ravel(W)))


def test_leverage_gives_the_residuals_without_each_row():
    """Of a linear model each leave-one-out residual is the residual divided by 1 - leverage."""
    random = np.random.default_rng(0)
    X, y = random.normal(size=(15, 4)), random.normal(size=15)
    matrix = ggn(lambda w, X: X @ w, squares)(jnp.zeros(4), jnp.asarray(X), jnp.asarray(y))
    ridge = 0.5

    def fitted(X, y):
        return np.linalg.solve(X.T @ X + ridge * np.eye(4), X.T @ y)

    residuals = (y - X @ fitted(X, y)) / (1 - np.asarray(matrix.leverage(ridge)))
    rows = np.arange(15)
    wanted = [y[n] - X[n] @ fitted(X[rows != n], y[rows != n]) for n in rows]
    np.testing.assert_allclose(residuals, wanted, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("repeats", [1, 30])
def test_derivatives(repeats):
    params, X, Y = many_parameters()
    X, Y = jnp.tile(X, (repeats, 1)), jnp.tile(Y, (repeats, 1))
    params = jax.tree.map(lambda leaf: leaf[..., :4] if leaf.ndim else leaf, params)
    params[1] = (params[1][0][:4], params[1][1])
    vector, unravel = jax.flatten_util.ravel_pytree(params)

    def ours(vector, damping):
        matrix = ggn(network, squares)(unravel(vector), X, Y)
        factors = factorize(matrix, damping)
        return (
            jnp.sum(jnp.sin(jax.flatten_util.ravel_pytree(factors.inverse_diagonal())[0]))
            + factors.slogdet()[1]
            + jnp.sum(matrix.leverage(damping) ** 2)
        )

    def theirs(vector, damping):
        J = jax.jacfwd(lambda v: jnp.ravel(network(unravel(v), X)))(vector)
        inverse = jnp.linalg.inv(J.T @ J + damping * jnp.eye(vector.size))
        leverages = jnp.diag(J @ inverse @ J.T)
        return (
            jnp.sum(jnp.sin(jnp.diag(inverse)))
            - jnp.linalg.slogdet(inverse)[1]
            + jnp.sum(leverages**2)
        )

    for found, wanted in zip(
        jax.jit(jax.grad(ours, (0, 1)))(vector, 0.7),
        jax.jit(jax.grad(theirs, (0, 1)))(vector, 0.7),
        strict=True,
    ):
        same(found, wanted, 1e-7)


@pytest.mark.slow
def test_kronecker_factors_give_all_of_it():
    params, X, Y = many_parameters()
    matrix = kfac(network, squares)(params, X, Y)
    A = np.asarray(matrix.dense()) + DAMPING * np.eye(matrix.shape[0])
    factors, J = factorize(matrix, DAMPING), ggn(network, squares)(params, X, Y).jacobian
    assert "eigenvectors of 9 and 30" in factors.method
    same(factors.slogdet()[1], np.linalg.slogdet(A)[1])
    same(factors.inverse_diagonal(), np.diag(np.linalg.inv(A)))
    dense = np.asarray(J.dense())
    same(factors.predictive_variance(J), np.diag(dense @ np.linalg.solve(A, dense.T)))
    right = jax.tree.map(jnp.ones_like, params)
    same(factors.solve(right), np.linalg.solve(A, flat(right)))


def test_no_matrix_of_parameter_size():
    """100,000 parameters and 60 outputs: their matrix would take 80 GB."""
    shapes = [((300, 300), (300,)), ((300, 30), (30,))]
    params = [tuple(jax.ShapeDtypeStruct(s, jnp.float64) for s in pair) for pair in shapes]
    X, Y = (jax.ShapeDtypeStruct((2, n), jnp.float64) for n in (300, 30))

    def answers(params, X, Y):
        matrix = ggn(network, squares)(params, X, Y)
        factors = factorize(matrix, 0.1)
        variance = factors.predictive_variance(matrix.jacobian)
        return factors.slogdet(), factors.inverse_diagonal(), matrix.leverage(0.1), variance

    program = jax.jit(answers).lower(params, X, Y).compile()
    assert program.memory_analysis().temp_size_in_bytes < 100_000 * 8 * 40


def test_bad_input():
    params, X, Y = many_parameters()
    matrix = ggn(network, squares)(params, X, Y)
    with pytest.raises(InvalidOptionError, match="damping must not be negative, but is -1"):
        matrix.leverage(-1.0)
    with pytest.raises(InvalidOptionError, match="damping must be a real number"):
        factorize(matrix, "much")
    assert blockjac.factorize is factorize
