"""KFAC against factors by hand; and where it is no approximation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from support.curvature_cases import (
    PROBLEMS,
    array,
    close,
    cross_entropy,
    direction,
    flat,
    gauss_newton,
    inner_hessian,
    layers,
    linear,
    network,
    one_output,
    squares,
)

from blockjac import BlockMatrix, KroneckerFactored, ekfac, ggn, kfac
from blockjac.kronecker_factors.of_parameter import Pair

PARAMS, X, Y = layers(3, 4, 2), array(6, 3), jax.nn.softmax(array(6, 2))
N = 6


def factors_by_hand():
    """`A` and `G` of both layers, the way of the textbooks."""
    (W1, b1), (W2, b2) = PARAMS
    A1 = np.asarray(X)
    A2 = np.tanh(X @ W1 + b1)
    P = np.asarray(jax.nn.softmax(A2 @ W2 + b2))
    H = np.stack([np.diag(p) - np.outer(p, p) for p in P]) / N
    B = (1 - A2**2)[:, None, :] * np.asarray(W2).T[None]  # outputs by the first layer's sums
    return (
        (A1.T @ A1 / N, np.einsum("nch,ncd,ndk->hk", B, H, B)),
        (A2.T @ A2 / N, H.sum(axis=0)),
    )


def blocks_of(wanted, params):
    """The blocks of a dense matrix by parameter, with all others zero."""
    ends = np.cumsum([leaf.size for leaf in jax.tree.leaves(params)])
    kept = np.zeros_like(wanted)
    for start, end in zip([0, *ends], ends, strict=False):
        kept[start:end, start:end] = wanted[start:end, start:end]
    return kept


def approximation():
    """The whole matrix by hand: Kronecker products for weights, exact blocks for biases."""
    dense = blocks_of(gauss_newton(PROBLEM), PARAMS)
    (A1, G1), (A2, G2) = factors_by_hand()
    dense[:12, :12] = np.kron(A1, G1)
    dense[16:24, 16:24] = np.kron(A2, G2)
    return dense


PROBLEM = type(PROBLEMS["one layer"])(network, cross_entropy, PARAMS, X, Y)


def matrix_of(params):
    return kfac(network, cross_entropy)(params, X, Y)


def test_the_factors():
    matrix = matrix_of(PARAMS)
    assert isinstance(matrix, KroneckerFactored)
    assert isinstance(matrix, BlockMatrix)
    assert repr(matrix) == "KroneckerFactored(A (x) G, exact, A (x) G, exact)"
    for part, (A, G) in zip(matrix.parts[::2], factors_by_hand(), strict=True):
        close(part.left.dense(), A)
        close(part.right.dense(), G)
        assert part.block.structure == "A[i,k] G[j,l]"


def test_the_matrix():
    matrix, wanted, v = matrix_of(PARAMS), approximation(), direction(PARAMS)
    close(matrix.dense(), wanted)
    close(flat(matrix.matvec(v)), wanted @ flat(v))
    close(flat(matrix.diagonal()), np.diagonal(wanted))
    for damping in (0.3, 1e-3):
        damped = wanted + damping * np.eye(len(wanted))
        close(flat(matrix.solve(v, damping)), np.linalg.solve(damped, flat(v)), rtol=1e-8)
    assert matrix.shape == matrix.matrix_shape == wanted.shape
    assert matrix.T is matrix


def test_exports():
    matrix, wanted, v = matrix_of(PARAMS), approximation(), direction(PARAMS)
    close(matrix.to_scipy().toarray(), wanted)
    close(matrix.to_scipy_operator() @ flat(v), wanted @ flat(v))
    close(flat(matrix.as_linear_operator().mv(v)), wanted @ flat(v))
    close((matrix @ matrix).dense(), wanted @ wanted)
    assert matrix[0, 2].is_zero


def test_two_factors_are_all_that_is_stored():
    params = layers(30, 20, 2)
    matrix = kfac(network, cross_entropy)(params, array(6, 30), Y)
    weights = matrix.parts[0]
    assert isinstance(weights, Pair)
    assert matrix[0, 0].stored == 30**2 + 20**2
    assert matrix.nbytes == 8 * (30**2 + 20**2 + 20**2 + 20**2 + 2**2 + 2**2)


@pytest.mark.parametrize("name", ["one example", "linear"])
def test_it_is_exact(name):
    """Of one example; and of outputs whose loss has one second derivative for all examples."""
    problem = PROBLEMS[name]
    matrix = kfac(problem.model, problem.loss)(*problem.arguments)
    assert any(isinstance(part, Pair) for part in matrix.parts)
    close(matrix.dense(), blocks_of(gauss_newton(problem), problem.params))


@pytest.mark.parametrize("name", ["logistic", "poisson", "axes of size 1"])
def test_the_exact_block_where_one_factor_would_be_a_number(name):
    problem = PROBLEMS[name]
    matrix = kfac(problem.model, problem.loss)(*problem.arguments)
    assert not any(isinstance(part, Pair) for part in matrix.parts)
    close(matrix.dense(), blocks_of(gauss_newton(problem), problem.params))


def test_several_outputs():
    """Their factors add up; a loss that is not convex in them has indefinite ones."""
    problem = PROBLEMS["two outputs"]
    matrix = kfac(problem.model, problem.loss)(*problem.arguments)
    assert repr(matrix) == "KroneckerFactored(A (x) G, A (x) G, exact)"
    params, X = problem.params, problem.X
    hidden = np.tanh(X @ params["W"])
    outputs = problem.model(params, X)
    H = inner_hessian(problem.loss, problem.Y, outputs)
    by_hidden = jax.jacrev(
        lambda Z: ravel_pytree({"mean": Z @ params["V"], "scale": Z @ params["v"]})[0]
    )(hidden)
    by_sums = by_hidden * (1 - hidden**2)
    close(matrix.parts[1].right.dense(), np.einsum("anh,ab,bnk->hk", by_sums, H, by_sums))
    close(matrix.parts[1].left.dense(), X.T @ X / len(X))


@pytest.mark.slow
def test_behind_batch_norm():
    """Examples meet there; what arrives at one example comes from the outputs of all."""
    problem = PROBLEMS["batch norm"]
    params, X = problem.params, problem.X
    matrix = kfac(problem.model, problem.loss)(*problem.arguments)

    def from_sums(Z):
        Z = (Z - Z.mean(axis=0)) / jnp.sqrt(Z.var(axis=0) + 0.1)
        return jnp.tanh(Z) @ params["V"]

    B = jax.jacrev(from_sums)(X @ params["W"])
    V, W = matrix.parts
    close(W.left.dense(), X.T @ X / len(X))
    close(W.right.dense(), np.einsum("mcnh,mcnk->hk", B, B))
    hidden = jnp.tanh(((Z := X @ params["W"]) - Z.mean(0)) / jnp.sqrt(Z.var(0) + 0.1))
    close(V.left.dense(), hidden.T @ hidden / len(X))
    close(V.right.dense(), len(X) * np.eye(2))
    with pytest.raises(ValueError, match=r"'reduce' sums over .* meet .*; use 'expand'"):
        kfac(problem.model, problem.loss, kfac_approx="reduce")(*problem.arguments)


@pytest.mark.slow
def test_examples_that_the_loss_couples():
    def spread(Y, Q):
        return jnp.sum((Q - jnp.mean(Q, axis=0)) ** 2) + squares(Y, Q)

    params = {"W": array(3, 2), "b": array(2)}
    problem = type(PROBLEM)(linear, spread, params, array(5, 3), array(5, 2))
    matrix = kfac(linear, spread)(*problem.arguments)
    assert repr(matrix) == "KroneckerFactored(exact, exact)"
    close(matrix.dense(), blocks_of(gauss_newton(problem), params))
    with pytest.raises(ValueError, match=r"kfac with fisher_type='mc' .* this loss joins examples"):
        kfac(linear, spread, fisher_type="mc")(*problem.arguments, key=jax.random.key(0))


@pytest.mark.slow
def test_under_jit_and_vmap():
    wanted, v = approximation(), direction(PARAMS)
    matrix = jax.jit(matrix_of)(PARAMS)
    assert isinstance(matrix, KroneckerFactored)
    close(matrix.dense(), wanted)
    damped = np.linalg.solve(wanted + 0.4 * np.eye(len(wanted)), flat(v))
    solve = jax.jit(lambda params, damping: matrix_of(params).solve(v, damping))
    close(flat(solve(PARAMS, 0.4)), damped)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), PARAMS)
    batch = jax.jit(jax.vmap(matrix_of))(many)
    assert batch.batch_shape == (2,)
    answers = (batch.diagonal(), batch.matvec(v), batch.solve(v, 0.4))
    first = [flat(jax.tree.map(lambda leaf: leaf[0], answer)) for answer in answers]
    for found, one in zip(first, (np.diagonal(wanted), wanted @ flat(v), damped), strict=True):
        close(found, one)
    close(batch.dense()[0], wanted)


@pytest.mark.slow
def test_gradients_of_a_solution_with_equal_eigenvalues():
    """Of fewer examples than inputs A is singular: an eigenvalue 0 more than once."""
    W, v, few, Y = array(5, 2), array(5, 2), array(2, 5), array(2, 2)

    def model(W, X):
        return jnp.tanh(X @ W)

    def solved(W):
        return jnp.sum(kfac(model, squares)(W, few, Y).solve(v, 0.5) ** 3)

    def by_hand(W):
        slopes = 1 - jnp.tanh(few @ W) ** 2
        A, G = few.T @ few / 2, jnp.diag(jnp.sum(slopes**2, axis=0))
        return jnp.sum(jnp.linalg.solve(jnp.kron(A, G) + 0.5 * jnp.eye(10), v.ravel()) ** 3)

    close(solved(W), by_hand(W))
    close(jax.jit(jax.grad(solved))(W), jax.grad(by_hand)(W), rtol=1e-8)

    def in_damping(damping):
        return jnp.sum(kfac(model, squares)(W, few, Y).solve(v, damping))

    slope = (in_damping(0.5 + 1e-6) - in_damping(0.5 - 1e-6)) / 2e-6
    close(jax.grad(in_damping)(0.5), slope, rtol=1e-6)


@pytest.mark.slow
def test_single_precision_and_numpy():
    params, inputs, targets = jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float32), (PARAMS, X, Y)
    )
    matrix = kfac(network, cross_entropy)(params, inputs, targets)
    answers = [matrix.dense(), *jax.tree.leaves(matrix.solve(params, damping=0.5))]
    assert {answer.dtype for answer in answers} == {np.dtype(np.float32)}
    np.testing.assert_allclose(matrix.dense(), approximation(), rtol=1e-4, atol=1e-5)


def test_misuse():
    matrix, v = matrix_of(PARAMS), direction(PARAMS)
    with pytest.raises(TypeError, match=r"callable value for blockjac.kfac, got 3"):
        kfac(3, squares)
    with pytest.raises(TypeError, match=r"callable value for blockjac.kfac, got None"):
        kfac(network, None)
    with pytest.raises(ValueError, match=r"ekfac's fisher_type must be .* but is 'type-1'"):
        ekfac(network, cross_entropy, fisher_type="type-1")
    with pytest.raises(ValueError, match=r"ekfac takes the eigenvalues of gradients"):
        ekfac(network, cross_entropy, fisher_type="forward-only")
    with pytest.raises(ValueError, match=r"kfac_approx must be 'expand' or 'reduce', but is 'sum'"):
        kfac(network, cross_entropy, kfac_approx="sum")
    with pytest.raises(ValueError, match=r"mc_samples must be at least 1, but is 0"):
        kfac(network, cross_entropy, mc_samples=0)
    with pytest.raises(ValueError, match=r"kfac needs a random key for fisher_type='mc'"):
        kfac(network, cross_entropy, fisher_type="mc")(PARAMS, X, Y)
    with pytest.raises(ValueError, match=r"takes a random key for fisher_type='mc' alone"):
        kfac(network, cross_entropy)(PARAMS, X, Y, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"damping must not be negative, but is -1"):
        matrix.solve(v, damping=-1)
    with pytest.raises(ValueError, match=r"solve needs a tree .* but found PyTreeDef\(\*\)"):
        matrix.solve(v[0][0], damping=1)
    with pytest.raises(ValueError, match=r"matvec needs a tree .* but found PyTreeDef\(\*\)"):
        matrix.matvec(v[0][0])
    with pytest.raises(TypeError, match=r"kfac needs a loss.*one real number"):
        kfac(one_output, lambda Y, Q: Q - Y)(array(3), X, Y[:, 0])


def test_a_loss_that_takes_the_outputs_first_is_told_the_order():
    def swapped(Q, labels):
        return jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(Q), labels[:, None], 1))

    with pytest.raises(TypeError) as caught:
        kfac(lambda W, X: X @ W, swapped)(array(4, 3), array(3, 4), jnp.array([0, 1, 2]))
    note = "blockjac.kfac calls loss(Y, outputs): the targets come first"
    assert note in caught.value.__notes__


def test_it_approximates_what_ggn_has():
    """The name promises no more: blocks between parameters are left out."""
    exact = ggn(network, cross_entropy)(PARAMS, X, Y).dense()
    found = matrix_of(PARAMS).dense()
    assert 0.01 < np.linalg.norm(found - exact) / np.linalg.norm(exact) < 1
