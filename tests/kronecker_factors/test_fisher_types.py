"""Factors of sampled, empirical and no gradients, and square roots of the loss's Hessian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.curvature_cases import (
    PROBLEMS,
    Problem,
    array,
    close,
    cross_entropy,
    cross_entropy_of_classes,
    direction,
    flat,
    gauss_newton,
    inner_hessian,
    layers,
    mean_squares,
    network,
    one_output,
    squares,
)
from support.layer_models import CASES, factors, marks

from blockjac import block_hessian, ekfac, kfac
from blockjac.kronecker_factors.of_parameter import Pair
from blockjac.kronecker_factors.square_roots import semidefinite_cholesky, times_root

KEY = jax.random.key(3)


# Square roots


def of_rows(Y, Z):
    return jnp.mean(jnp.sum((Z @ COUPLING) ** 2, axis=-1))


def softmax_squares(Y, Z):
    """Its Hessian is a matrix without structure for each example, singular and not diagonal."""
    P = jax.lax.stop_gradient(jax.nn.softmax(Z)) * Z
    return jnp.sum((P - Y) ** 2) + jnp.sum(jnp.sum(P, axis=-1) ** 2)


COUPLING = array(3, 2)

LOSSES = {
    "squares": (squares, array(5, 3)),
    "cross-entropy": (cross_entropy, jax.nn.softmax(array(5, 3))),
    "of classes": (cross_entropy_of_classes, jnp.array([0, 2, 1, 1, 0])),
    "matrix": (of_rows, array(5, 3)),
    "softmax": (softmax_squares, array(5, 3)),
    "over time": (cross_entropy, jax.nn.softmax(array(5, 4, 3))),
}


@pytest.mark.parametrize("name", LOSSES)
def test_square_roots(name):
    loss, Y = LOSSES[name]
    Z = array(5, 4, 3) if name == "over time" else array(5, 3)
    H = inner_hessian(loss, Y, Z)
    matrix = block_hessian(loss, argnums=1)(Y, Z)
    columns = jnp.reshape(jnp.eye(Z.size), (Z.size, *Z.shape))
    R = jax.vmap(lambda vector: times_root(matrix, [vector])[0])(columns)
    R = np.reshape(R, (Z.size, Z.size)).T
    np.testing.assert_allclose(R @ R.T, H, rtol=1e-9, atol=1e-12)


def test_square_roots_of_outputs_that_meet():
    def loss(Y, Q):
        return (
            jnp.sum(jnp.exp(Q["a"]) * (1 + Q["b"] ** 2))
            + squares(Y, Q["c"])
            + 9 * jnp.sum(Q["b"] ** 2)
        )

    outputs = {"a": array(4), "b": array(4), "c": array(4, 2)}
    Y = array(4, 2)
    H = inner_hessian(loss, Y, outputs)
    assert np.linalg.eigvalsh(H)[0] > 0
    matrix = block_hessian(loss, argnums=1)(Y, outputs)
    shapes = [(4,), (4,), (4, 2)]

    def column(vector):
        parts = jnp.split(vector, [4, 8])
        return jnp.concatenate(
            [
                jnp.ravel(part)
                for part in times_root(
                    matrix, [jnp.reshape(p, s) for p, s in zip(parts, shapes, strict=True)]
                )
            ]
        )

    R = np.asarray(jax.vmap(column)(jnp.eye(16))).T
    np.testing.assert_allclose(R @ R.T, H, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rank", [0, 1, 3, 6])
def test_semidefinite_cholesky(rank):
    factor = array(7, 6, rank)
    A = factor @ jnp.swapaxes(factor, 1, 2)
    L = np.asarray(semidefinite_cholesky(A))
    np.testing.assert_allclose(L @ np.swapaxes(L, 1, 2), A, rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(L, np.tril(L))
    assert np.isnan(semidefinite_cholesky(jnp.array([[-1.0]]))).all()


# Samples


@pytest.mark.slow
def test_many_samples_come_near_all_outputs():
    params, X, Y = layers(3, 4, 2), array(6, 3), jax.nn.softmax(array(6, 2))
    exact = kfac(network, cross_entropy)(params, X, Y)
    sampled = kfac(network, cross_entropy, fisher_type="mc", mc_samples=20000)
    near = sampled(params, X, Y, key=KEY)
    assert repr(near) == repr(exact)
    for part, wanted in zip(near.parts, exact.parts, strict=True):
        if isinstance(part, Pair):
            close(part.left.dense(), wanted.left.dense())
        sides = (
            part.right if isinstance(part, Pair) else part,
            (wanted.right if isinstance(part, Pair) else wanted),
        )
        left, right = (np.asarray(side.dense()) for side in sides)
        assert np.linalg.norm(left - right) < 0.05 * np.linalg.norm(right)


@pytest.mark.parametrize("maker", [kfac, ekfac])
def test_a_sample_of_one_number_an_example_is_exact(maker):
    """Its square is the second derivative, whatever its sign."""
    params = {"W": array(3, 4), "V": array(4, 1)}

    def model(params, X):
        return (jnp.tanh(X @ params["W"]) @ params["V"])[:, 0]

    X, Y = array(5, 3), jnp.array([0, 1, 1, 0, 1])
    logistic = PROBLEMS["logistic"].loss
    exact = maker(model, logistic)(params, X, Y)
    sampled = maker(model, logistic, fisher_type="mc")(params, X, Y, key=KEY)
    assert repr(sampled) == repr(exact)
    close(sampled.dense(), exact.dense())


@pytest.mark.slow
def test_keys_differ_and_repeat():
    params, X, Y = layers(3, 4, 3), array(6, 3), jax.nn.softmax(array(6, 3))
    sampled = kfac(network, cross_entropy, fisher_type="mc")
    first, again = (sampled(params, X, Y, key=KEY).dense() for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, sampled(params, X, Y, key=jax.random.key(4)).dense())
    compiled = jax.jit(lambda key: sampled(params, X, Y, key=key).dense())
    close(compiled(KEY), first)
    old = sampled(params, X, Y, key=jax.random.PRNGKey(3)).dense()
    close(old, first)


# Gradients at the given targets


@pytest.mark.slow
@pytest.mark.parametrize("kfac_approx", ["expand", pytest.param("reduce", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["positions", "images", "recurrent", "channels"])
@pytest.mark.parametrize("loss", [mean_squares, squares])
def test_empirical(name, kfac_approx, loss):
    case = CASES[name]
    outputs = case.model(case.params, case.X)
    matrix = kfac(case.model, loss, fisher_type="empirical", kfac_approx=kfac_approx)(
        case.params, case.X, case.Y
    )
    gradients = jax.grad(lambda Z: squares(case.Y, Z))(outputs)  # of the examples' losses
    weight = 1 if loss is squares else 1 / len(outputs)
    _, outputs = marks(case)
    rows = np.reshape(gradients, (len(outputs), -1))
    H = weight * np.einsum("nc,md,nm->ncmd", rows, rows, np.eye(len(rows)))
    wanted = factors(case, kfac_approx, np.reshape(H, (outputs.size, outputs.size)))
    parts = dict(zip(sorted(case.params), matrix.parts, strict=True))
    for key, (A, G) in wanted.items():
        leaf, _, place = key.partition(" ")
        part = parts[leaf]
        at = int(place) if place else ...
        left, right = part.left.dense()[at], part.right.dense()[at]
        close(np.reshape(left, A.shape), A)
        close(np.reshape(right, G.shape), G)


def test_forward_only():
    params, X, Y = layers(3, 4, 2), array(6, 3), jax.nn.softmax(array(6, 2))
    matrix = kfac(network, cross_entropy, fisher_type="forward-only")(params, X, Y)
    assert repr(matrix) == "KroneckerFactored(A (x) G, exact, A (x) G, exact)"
    first = matrix.parts[0]
    close(first.left.dense(), X.T @ X / 6)
    assert first.right.structure == "δ[i,i']"
    v = direction(params)
    dense = np.asarray(matrix.dense())
    close(flat(matrix.solve(v, 0.1)), np.linalg.solve(dense + 0.1 * np.eye(len(dense)), flat(v)))


@pytest.mark.parametrize("fisher_type", ["type-2", "mc", "empirical", "forward-only"])
def test_one_output(fisher_type):
    """There is nothing to factor; the exact block of what is asked."""
    w, X, Y = array(3), array(6, 3), array(6)
    options = {"key": KEY} if fisher_type == "mc" else {}
    matrix = kfac(one_output, squares, fisher_type=fisher_type)(w, X, Y, **options)
    exact = gauss_newton(Problem(one_output, squares, w, X, Y))
    if fisher_type == "empirical":
        exact = X.T @ np.diag((X @ w - Y) ** 2) @ X
    close(matrix.dense(), exact)
