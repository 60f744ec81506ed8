import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac import nn


def test_weights_are_drawn_in_the_order_of_the_layers():
    params = nn.initial_params(30, 20, 2, seed=1234, sigma=0.1)
    draws = 0.1 * np.random.RandomState(1234).randn(640)
    np.testing.assert_array_equal(params.W1, draws[:600].reshape(30, 20))
    np.testing.assert_array_equal(params.W2, draws[600:].reshape(20, 2))
    np.testing.assert_array_equal(params.b1, np.zeros((1, 20)))
    np.testing.assert_array_equal(params.b2, np.zeros((1, 2)))
    assert {leaf.dtype for leaf in params} == {jnp.dtype("float64")}


def test_the_first_weight_is_the_one_that_numpy_has_always_drawn():
    assert nn.initial_params(30, 20, 2).W1[0, 0] == 0.1 * 0.47143516373249306


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ((30, 0, 2), {}, "hidden is 0; a network needs at least 1"),
        ((30, 20, -1), {}, "classes is -1"),
        ((30, 20, 2), {"seed": -1}, "seed is -1; wanted"),
        ((30, 20, 2), {"seed": 2**32}, "seed is 4294967296; wanted"),
    ],
)
def test_impossible_networks_are_refused(sizes, options, message):
    with pytest.raises(ValueError, match=message):
        nn.initial_params(*sizes, **options)


def test_the_loss_is_the_cross_entropy_of_the_probabilities():
    params = nn.initial_params(4, 6, 3, sigma=1.0)
    X = np.random.default_rng(1).normal(size=(9, 4))
    Y = np.eye(3)[np.arange(9) % 3]
    Q = nn.probabilities(params, X)
    np.testing.assert_allclose(jnp.sum(Q, axis=1), np.ones(9), rtol=1e-14)
    np.testing.assert_allclose(nn.loss(params, X, Y), nn.cross_entropy(Y, Q), rtol=1e-14)


def test_a_net_sure_of_the_wrong_class_can_still_be_trained():
    params = nn.initial_params(1, 1, 2, sigma=0.0)._replace(b2=jnp.array([[0.0, 9000.0]]))
    value, gradient = jax.value_and_grad(nn.loss)(params, np.ones((2, 1)), np.eye(2)[[0, 0]])
    assert value == 9000
    np.testing.assert_array_equal(gradient.b2, [[-1.0, 1.0]])


def test_mistakes_are_counted():
    params = nn.initial_params(1, 1, 2, sigma=0.0)._replace(b2=jnp.array([[0.0, 1.0]]))
    assert nn.mistakes(params, np.ones((5, 1)), np.array([1, 0, 1, 0, 0])) == 3
