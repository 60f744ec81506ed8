import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from blockjac import nn
from blockjac.errors import BlockjacError, InvalidDataError

RANDOM = np.random.default_rng(0)
X, W, Z = RANDOM.normal(size=(7, 5)), RANDOM.normal(size=(5, 3)), RANDOM.normal(size=(7, 3))
Y = np.eye(3)[RANDOM.integers(3, size=7)]


@pytest.mark.parametrize("bias_shape", [(3,), (1, 3)])
def test_affine_is_the_matrix_product_and_a_bias_a_column(bias_shape):
    b = RANDOM.normal(size=bias_shape)
    np.testing.assert_allclose(nn.affine(X, W, b), X @ W + b, rtol=1e-14)


@pytest.mark.parametrize(
    ("operands", "message"),
    [
        ((X, W.T, np.zeros(3)), r"X has shape \(7, 5\) and W has shape \(3, 5\)"),
        ((X[0], W, np.zeros(3)), r"X has shape \(5,\) and W has shape \(5, 3\)"),
        ((X, W, np.zeros(5)), r"b has shape \(5,\) and W has shape \(5, 3\).*\(3,\) or \(1, 3\)"),
        ((X, W, np.zeros((7, 3))), r"b has shape \(7, 3\)"),
    ],
)
def test_affine_names_the_shapes_that_do_not_fit(operands, message):
    with pytest.raises(TypeError, match=message) as found:
        nn.affine(*operands)
    assert isinstance(found.value, BlockjacError)


def test_logistic_agrees_with_scipy():
    values = np.concatenate([np.linspace(-40, 40, 161), [-745.0, 745.0]])
    np.testing.assert_allclose(nn.logistic(values), special.expit(values), rtol=1e-13)


def test_huge_arguments_neither_overflow_nor_warn():
    huge = np.array([[1e308, -1e308, 0.0], [-1e300, 710.0, 5e3], [1e6, 1e6, -1e6]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with jax.debug_nans(True):
            squashed = nn.logistic(huge)
            shares = nn.softmax(huge / 2)
    np.testing.assert_array_equal(squashed[0], [1.0, 0.0, 0.5])
    np.testing.assert_array_equal(shares, [[1, 0, 0], [0, 0, 1], [0.5, 0.5, 0]])


def test_whole_numbers_are_taken_as_real_ones():
    assert nn.logistic(np.array([0, 3])).dtype == jnp.float64
    np.testing.assert_allclose(nn.softmax(np.array([[1, 1]])), [[0.5, 0.5]])


@pytest.mark.parametrize(
    ("ours", "oracle"), [(nn.softmax, special.softmax), (nn.log_softmax, special.log_softmax)]
)
def test_softmax_agrees_with_scipy(ours, oracle):
    np.testing.assert_allclose(ours(20 * Z), oracle(20 * Z, axis=1), rtol=1e-13)


@pytest.mark.parametrize("scores", [np.zeros((4, 0)), np.float64(1.0)])
@pytest.mark.parametrize("function", [nn.softmax, nn.log_softmax])
def test_softmax_wants_a_score_in_each_row(function, scores):
    with pytest.raises(TypeError, match=r"softmax: Z has shape .* at least one score"):
        function(scores)


def test_cross_entropy_is_the_mean_over_rows():
    Q = special.softmax(Z, axis=1)
    expected = -np.mean(np.log(Q[np.arange(7), Y.argmax(axis=1)]))
    np.testing.assert_allclose(nn.cross_entropy(Y, Q), expected, rtol=1e-14)
    np.testing.assert_allclose(nn.softmax_cross_entropy(Y, Z), expected, rtol=1e-14)


def test_cross_entropy_of_impossible_and_unwanted_classes():
    assert nn.cross_entropy([[1.0, 0.0]], [[1.0, 0.0]]) == 0
    assert nn.cross_entropy([[0.0, 1.0]], [[1.0, 0.0]]) == np.inf
    gradient = jax.grad(lambda Q: nn.cross_entropy(jnp.array([[1.0, 0.0]]), Q))
    np.testing.assert_array_equal(gradient(jnp.array([[0.5, 0.0]])), [[-2.0, 0.0]])


def test_soft_targets_keep_their_derivative_where_a_target_is_zero():
    gradient = jax.grad(nn.cross_entropy)(jnp.array([[0.0, 1.0]]), jnp.array([[0.25, 0.75]]))
    np.testing.assert_allclose(gradient, -np.log([[0.25, 0.75]]), rtol=1e-14)


def test_a_confident_net_has_a_finite_loss_and_gradient():
    wanted, scores = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([[0.0, 5000.0], [0.0, 5000.0]])
    value, gradient = jax.value_and_grad(nn.softmax_cross_entropy, argnums=1)(wanted, scores)
    assert value == 2500
    np.testing.assert_array_equal(gradient, [[-0.5, 0.5], [0.0, 0.0]])


@pytest.mark.parametrize("function", [nn.cross_entropy, nn.softmax_cross_entropy])
def test_cross_entropy_names_the_shapes_that_do_not_fit(function):
    with pytest.raises(TypeError, match=r"Y has shape \(7, 3\) and [QZ] has shape \(7, 2\)"):
        function(Y, Z[:, :2])
    with pytest.raises(TypeError, match=r"Y has shape \(3,\)"):
        function(Y[0], Z[0])
    with pytest.raises(InvalidDataError, match=r"no rows to take the mean over.*\(0, 3\)"):
        function(Y[:0], Z[:0])
