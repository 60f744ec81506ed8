"""Fisher matrices against sums of outer products of gradients by JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.curvature_cases import (
    PROBLEMS,
    array,
    close,
    cross_entropy,
    cross_entropy_of_classes,
    direction,
    flat,
    gauss_newton,
    jacobian,
    layers,
    linear,
    logistic,
    mean_squares,
    network,
    one_output,
    poisson,
    squares,
)

from blockjac import GaussNewton, fisher, ggn

PARAMS, X = layers(3, 4, 3), array(5, 3)
CLASSES = jnp.array([0, 2, 1, 1, 0])
ONE_HOT = jax.nn.one_hot(CLASSES, 3)
N, C = 5, 3


def per_example(targets):
    """The gradient of each example's own cross-entropy by all parameters: N rows."""
    J = jacobian(network, PARAMS, X).reshape(N, C, -1)
    slopes = np.asarray(jax.nn.softmax(network(PARAMS, X))) - np.asarray(targets)
    return np.einsum("nc,ncp->np", slopes, J)


def expected_outer_products():
    """`1/N sum_n sum_c p[n,c] g[n,c] g[n,c]'` over all classes c, by their gradients."""
    probabilities = np.asarray(jax.nn.softmax(network(PARAMS, X)))
    total = 0
    for c in range(C):
        g = per_example(np.tile(np.eye(C)[c], (N, 1)))
        total = total + np.einsum("n,np,nq->pq", probabilities[:, c], g, g)
    return total / N


def test_the_gradients_of_this_page_are_those_of_jax():
    def single(params, x, y):
        return cross_entropy(y[None], network(params, x[None]))

    by_jax = jax.vmap(jax.grad(single), (None, 0, 0))(PARAMS, X, ONE_HOT)
    rows = np.concatenate([np.reshape(one, (N, -1)) for one in jax.tree.leaves(by_jax)], axis=1)
    close(per_example(ONE_HOT), rows)


def test_exact_of_one_hot_rows():
    matrix = fisher(network, cross_entropy, mean=jax.nn.softmax)(PARAMS, X, ONE_HOT)
    assert isinstance(matrix, GaussNewton)
    close(matrix.dense(), expected_outer_products())


def test_exact_of_class_numbers():
    loss = cross_entropy_of_classes
    matrix = fisher(network, loss)(PARAMS, X, CLASSES)
    wanted = expected_outer_products()
    close(matrix.dense(), wanted)
    v = direction(PARAMS)
    close(flat(matrix.matvec(v)), wanted @ flat(v))
    close(flat(matrix.diagonal()), np.diagonal(wanted))
    damped = wanted + 0.2 * np.eye(len(wanted))
    close(flat(matrix.solve(v, 0.2)), np.linalg.solve(damped, flat(v)))
    others = fisher(network, loss)(PARAMS, X, jnp.zeros_like(CLASSES))
    close(others.dense(), wanted)


def test_exact_of_classes_whose_hessians_differ():
    """Of a likelihood that is no canonical one each class has a Hessian of its own."""

    def loss(Y, Q):
        return -jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(Q + Q**3), Y[:, None], axis=1))

    W = 0.3 * array(3, 3)

    def model(W, X):
        return X @ W

    def single(W, x, c):
        return loss(c[None], model(W, x[None]))

    probabilities = jax.nn.softmax(model(W, X) + model(W, X) ** 3)
    wanted = 0
    for c in range(C):
        g = jax.vmap(jax.grad(single), (None, 0, None))(W, X, jnp.array(c)).reshape(N, -1)
        wanted = wanted + jnp.einsum("n,np,nq->pq", probabilities[:, c], g, g)
    close(fisher(model, loss)(W, X, CLASSES).dense(), wanted)
    given = ggn(model, loss)(W, X, CLASSES).dense()
    assert np.max(np.abs(given - wanted)) > 0.01  # the given classes are not the expectation


def test_exact_of_a_binary_log_likelihood():
    """With probabilities its Hessian depends on the targets; with logits it does not."""

    def loss(Y, q):
        p = jax.nn.sigmoid(q)
        return -jnp.sum(Y * jnp.log(p) + (1 - Y) * jnp.log(1 - p))

    w, Y = array(3), jnp.array([0.0, 1, 1, 0, 1])
    p = np.asarray(jax.nn.sigmoid(X @ w))
    wanted = np.einsum("n,ni,nj->ij", p * (1 - p), X, X)
    close(fisher(one_output, loss, mean=jax.nn.sigmoid)(w, X, Y).dense(), wanted)
    close(fisher(one_output, logistic)(w, X, Y).dense(), wanted)
    with pytest.raises(ValueError, match=r"depends on the targets.*mean=jax.nn.softmax"):
        fisher(one_output, loss)(w, X, Y)


def test_exact_of_poisson_counts():
    w, Y = array(3), jnp.arange(5)
    wanted = np.einsum("n,ni,nj->ij", np.exp(X @ w), X, X) / 5
    close(fisher(one_output, poisson, mean=jnp.exp)(w, X, Y).dense(), wanted)
    close(fisher(one_output, poisson)(w, X, Y).dense(), wanted)


def test_exact_of_squares_is_the_gauss_newton_matrix():
    problem = PROBLEMS["linear"]
    matrix = fisher(problem.model, problem.loss)(*problem.arguments)
    close(matrix.dense(), gauss_newton(problem))


@pytest.mark.parametrize("of_sum", [False, True], ids=["mean", "sum"])
def test_empirical(of_sum):
    def loss(Y, Z):
        return -jnp.sum(Y * jax.nn.log_softmax(Z)) if of_sum else cross_entropy(Y, Z)

    g = per_example(ONE_HOT)
    wanted = g.T @ g / (1 if of_sum else N)
    matrix = fisher(network, loss, kind="empirical")(PARAMS, X, ONE_HOT)
    close(matrix.dense(), wanted)
    v = direction(PARAMS)
    close(flat(matrix.matvec(v)), wanted @ flat(v))
    close(flat(matrix.diagonal()), np.diagonal(wanted))
    assert matrix.inner.nbytes <= 8 * 2 * N * C  # two rows of gradients an example


def test_empirical_of_class_numbers_and_of_several_outputs():
    g = per_example(ONE_HOT)
    matrix = fisher(network, cross_entropy_of_classes, kind="empirical")(PARAMS, X, CLASSES)
    close(matrix.dense(), g.T @ g / N)

    def model(params, X):
        Q = linear(params, X)
        return {"a": Q[:, :1], "b": Q**2}

    def loss(Y, Q):
        return squares(Y["a"], Q["a"]) + squares(Y["b"], Q["b"])

    params, Y = {"W": array(3, 2), "b": array(2)}, {"a": array(5, 1), "b": array(5, 2)}

    def single(params, x, y):
        return loss(jax.tree.map(lambda one: one[None], y), model(params, x[None]))

    by_jax = jax.vmap(jax.grad(single), (None, 0, 0))(params, X, Y)
    rows = np.concatenate([np.reshape(one, (5, -1)) for one in jax.tree.leaves(by_jax)], axis=1)
    close(fisher(model, loss, kind="empirical")(params, X, Y).dense(), rows.T @ rows)


def test_no_examples():
    params = {"W": array(3, 2), "b": array(2)}
    none = fisher(linear, cross_entropy_of_classes)(params, X[:0], CLASSES[:0])
    close(none.dense(), np.zeros((8, 8)))
    assert fisher(linear, squares, kind="empirical")(params, X[:0], array(0, 2)).shape == (8, 8)


@pytest.mark.slow
def test_under_jit_vmap_and_grad():
    wanted = expected_outer_products()

    def diagonal(params):
        return fisher(network, cross_entropy_of_classes)(params, X, CLASSES).diagonal()

    close(flat(jax.jit(diagonal)(PARAMS)), np.diagonal(wanted))
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), PARAMS)
    rows = jax.jit(jax.vmap(diagonal))(many)
    close(flat(jax.tree.map(lambda leaf: leaf[1], rows)), np.diagonal(wanted))

    def trace(params):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(diagonal(params)))

    def trace_by_hand(params):
        p = jax.nn.softmax(network(params, X))
        J = jax.tree.leaves(jax.jit(jax.jacrev(lambda params: network(params, X)))(params))
        J = jnp.concatenate([jnp.reshape(one, (N, C, -1)) for one in J], axis=2)
        inner = jax.vmap(lambda p: jnp.diag(p) - jnp.outer(p, p))(p) / N
        return jnp.einsum("ncp,ncd,ndp->", J, inner, J)

    close(flat(jax.jit(jax.grad(trace))(PARAMS)), flat(jax.jit(jax.grad(trace_by_hand))(PARAMS)))


def test_misuse():
    Y = array(5, 2)
    params = {"W": array(3, 2), "b": array(2)}
    with pytest.raises(ValueError, match=r"kind must be 'exact' or 'empirical', but is 'true'"):
        fisher(linear, squares, kind="true")
    with pytest.raises(ValueError, match=r"mean is of the exact Fisher matrix"):
        fisher(linear, squares, kind="empirical", mean=jax.nn.softmax)
    with pytest.raises(TypeError, match=r"callable value for blockjac.fisher's mean, got 3"):
        fisher(linear, squares, mean=3)
    with pytest.raises(TypeError, match=r"callable value for blockjac.fisher, got 'model'"):
        fisher("model", squares)
    with pytest.raises(ValueError, match=r"depends on the targets.*mean=.*kind='empirical'.*ggn"):
        fisher(network, cross_entropy)(PARAMS, X, ONE_HOT)
    with pytest.raises(ValueError, match=r"examples on the first axis.*\[\(4, 2\), \(5, 2\)\]"):
        fisher(linear, lambda Y, Q: jnp.sum(Q) + jnp.sum(Y), kind="empirical")(params, X, Y[:4])
    with pytest.raises(TypeError, match=r"fisher needs a loss.*one real number"):
        fisher(linear, lambda Y, Q: Q - Y)(params, X, Y)
    with pytest.raises(TypeError, match=r"fisher takes .*but was called with 0"):
        fisher(linear, mean_squares)()
