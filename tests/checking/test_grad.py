"""check_grad: what it takes for a gradient, what it calls a mistake, and what differences say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac import check_grad, nn
from blockjac.errors import ArgumentError, DifferentiationTypeError, NonScalarLossError

RNG = np.random.default_rng(3)
X, T = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 3))
W, B = RNG.normal(size=(4, 3)), RNG.normal(size=3)


def loss(W, b, X, T):
    return 0.5 * jnp.sum((jnp.tanh(X @ W + b) - T) ** 2)


def gradient(W, b, X, T):
    a = np.tanh(X @ W + b)
    q = (a - T) * (1 - a**2)
    return X.T @ q, q.sum(0)


def checked(change, **options):
    """The report on the gradient after a change of its two leaves."""

    def changed(*args):
        return change(*gradient(*args))

    return check_grad(loss, changed, W, B, X, T, argnums=(0, 1), **options)


@pytest.mark.parametrize(
    "form",
    [
        lambda D_W, D_b: (D_W, D_b),
        lambda D_W, D_b: [D_W, D_b],
        lambda D_W, D_b: [D_W.tolist(), jnp.asarray(D_b)],
        lambda D_W, D_b: (loss(W, B, X, T), (D_W, D_b)),
        lambda D_W, D_b: [float(loss(W, B, X, T)), [D_W, D_b]],
    ],
    ids=["tuple", "list", "numbers", "pair", "pair of lists"],
)
def test_right_gradients(form):
    report = checked(form)
    assert str(report) == "the given gradient of loss is right: all 15 entries agree"


def test_a_wrong_value_in_front_of_the_gradient():
    report = checked(lambda *leaves: (2 * loss(W, B, X, T), leaves))
    assert report.mistakes == ("wrong value",)
    assert "  loss, of shape (): 1 of 1 entries differ" in str(report)


def test_two_numbers_by_two_scalars_are_a_gradient():
    report = check_grad(lambda x, y: x * y**2, (4.0, 12.0), 3.0, 2.0, argnums=(0, 1))
    assert report
    assert len(report.leaves) == 2


def test_a_tree_of_parameters():
    params = nn.initial_params(4, 3, 2)
    Y = np.eye(2)[[0, 1, 1, 0, 1]]
    exact = jax.grad(nn.loss)(params, X, Y)
    assert check_grad(nn.loss, exact, params, X, Y)
    report = check_grad(nn.loss, exact._replace(W1=exact.W1.T), params, X, Y)
    assert report.mistakes == ("transposed",)
    assert "  D_{W1} loss, of shape (3, 4), wanted (4, 3)" in str(report)


SHAPES = {
    "missing sum": (
        lambda D_W, D_b: (np.zeros((5, 4, 3)) + D_W / 5, D_b),
        r"the sum over axis 0 \(of size 5, as axis 0 of X and axis 0 of T\) is missing: given "
        r"shape \(5, 4, 3\), wanted \(4, 3\); sum over it, \.sum\(0\)",
    ),
    "extra sum": (
        lambda D_W, D_b: (D_W.sum(1), D_b),
        r"the derivative was summed over axis 1 \(of size 3, as axis 1 of W and axis 0 of b\), "
        r"which it keeps: given shape \(4,\), wanted \(4, 3\)",
    ),
    "summed over the wrong axis": (
        lambda D_W, D_b: (D_W, wrong_sum()),
        r"of an array of shape \(5, 3\) the sum was taken over axis 1 in place of axis 0 "
        r"\(of size 5, as",
    ),
    "transposed": (lambda D_W, D_b: (D_W.T, D_b), "the transpose of the gradient was given"),
    "summed over the variable": (lambda D_W, D_b: (D_W, D_b.sum()), "summed over the variable"),
}


def wrong_sum():
    a = np.tanh(X @ W + B)
    return ((a - T) * (1 - a**2)).sum(1)


@pytest.mark.parametrize("name", SHAPES)
def test_wrong_shapes_say_which_sum_or_axis(name):
    change, text = SHAPES[name]
    report = checked(change)
    assert report.mistakes == (name,), str(report)
    with pytest.raises(ArithmeticError, match=text):
        report.raise_if_wrong()


def test_a_sum_that_is_missing_in_a_row_of_biases():
    def rowwise(b):
        return jnp.sum(jnp.sin(X @ W + b) ** 2)

    z = X @ W + B
    q = 2 * np.sin(z) * np.cos(z)
    report = check_grad(rowwise, q, B[None])
    assert report.mistakes == ("missing sum",)
    assert ".sum(0, keepdims=True)" in str(report)


def test_the_hint_names_the_array_that_was_taken():
    def deep(W, V):
        return jnp.sum(jnp.tanh(X @ W) @ V)

    W, V = RNG.normal(size=(4, 4)), RNG.normal(size=(4, 2))
    a = np.tanh(X @ W)
    q = np.ones((5, 2))
    wrong = (X.T @ (q @ V.T * (1 - a**2)), X.T @ q)
    report = check_grad(deep, wrong, W, V, argnums=(0, 1))
    assert report.mistakes == ("wrong factor",)
    assert "was taken for the result of tanh" in str(report)


def test_a_mistake_that_explains_all_leaves_is_preferred():
    report = checked(lambda D_W, D_b: (-D_W, -D_b))
    assert [leaf.mistakes[0].name for leaf in report.leaves] == ["sign", "sign"]
    a = np.tanh(X @ W + B)
    q = a * (1 - a**2)
    report = checked(lambda *_: (X.T @ q, q.sum(0)))
    assert report.mistakes == ("missing term",)
    assert "T was left out" in str(report)


def test_a_bias_in_front_of_a_normalization_may_have_any_rounding():
    """Its gradient is 0, so that no relative tolerance is of use."""

    def normalized(b):
        Z = X @ W + b
        return jnp.sum(((Z - Z.mean(0)) / Z.std(0) - T) ** 2)

    rounding = RNG.normal(size=3) * 1e-15
    assert check_grad(normalized, rounding, B)
    single = check_grad(normalized, rounding * 1e8, B.astype(np.float32))
    assert single, str(single)
    assert not check_grad(normalized, rounding * 1e5, B)
    assert not check_grad(normalized, rounding, B, atol=0.0, rtol=1e-9)


def test_differences_are_a_witness_where_nothing_is_recognized():
    noise = RNG.normal(size=(4, 3))
    report = checked(lambda D_W, D_b: (D_W + noise, D_b))
    assert report.mistakes == ()
    assert "central differences agree with the exact gradient" in str(report)


def test_differences_side_with_the_given_gradient_if_a_rule_is_wrong():
    @jax.custom_vjp
    def cube(x):
        return x**3

    cube.defvjp(lambda x: (cube(x), x), lambda x, g: (g * 5 * x,))
    report = check_grad(lambda x: jnp.sum(cube(x)), lambda x: 3 * x**2, np.array([1.0, 2.0, 3.5]))
    assert not report
    assert "central differences agree with the given gradient" in str(report)
    assert "is a custom_jvp or custom_vjp in it wrong?" in str(report)


def test_a_scan_is_followed_step_by_step():
    xs = RNG.normal(size=(4, 3))
    V = RNG.normal(size=(3, 3))

    def last(V):
        return jnp.sum(jax.lax.scan(lambda h, x: (jnp.tanh(V @ h + x), None), xs[0], xs[1:])[0])

    def backward(V, slope):
        states = [xs[0]]
        for x in xs[1:]:
            states.append(np.tanh(V @ states[-1] + x))
        q, total = np.ones(3), np.zeros((3, 3))
        for t in range(3, 0, -1):
            q = q * slope(states[t])
            total += np.outer(q, states[t - 1])
            q = V.T @ q
        return total

    assert check_grad(last, lambda V: backward(V, lambda a: 1 - a**2), V)
    report = check_grad(last, lambda V: backward(V, lambda a: 1), V)
    assert report.mistakes == ("derivative left out",)
    assert "tanh" in str(report)
    assert "each time" in str(report)


@pytest.mark.parametrize(
    ("given", "text"),
    [(None, "found None"), ({"W": 1.0}, "found a dict"), ((W,), "found a tuple of 1")],
    ids=["None", "dict", "short"],
)
def test_wrong_trees(given, text):
    report = check_grad(loss, given, W, B, X, T, argnums=(0, 1))
    assert report.mistakes == ("wrong tree",)
    assert text in str(report)


def test_wrong_use():
    with pytest.raises(NonScalarLossError, match=r"but tanh gives results of shape \(3,\)"):
        check_grad(jnp.tanh, B, B)
    with pytest.raises(DifferentiationTypeError, match="callable value for blockjac"):
        check_grad(W, W, W)
    with pytest.raises(ArgumentError, match="requires at least 5 positional arguments"):
        check_grad(loss, W, W, B, X, T, argnums=4)
    with pytest.raises(DifferentiationTypeError, match="is compared as arrays"):
        check_grad(loss, "words", W, B, X, T)
    with pytest.raises(DifferentiationTypeError, match="check_grad requires real"):
        check_grad(lambda n: n**2.0, 2.0, 3)


def test_infinite_values_beside_a_gradient_are_compared_as_other_entries_are():
    def log(x):
        return jnp.sum(jnp.log(x))

    x = np.array([0.0, 1.0])
    gradient = np.array([np.inf, 1.0])
    assert check_grad(log, (-np.inf, gradient), x).right
    report = check_grad(log, (3.0, gradient), x)
    assert "wrong value" in report.mistakes
    assert report.largest == np.inf
