"""What the benchmarks compare with is right, at sizes that take no time."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import chains
import gradients
import second_order


def test_cheapest_order_is_that_of_the_textbook():
    """Cormen, Leiserson, Rivest and Stein's example of six matrices."""
    count, order = chains.cheapest_order((25, 20, 10, 5, 15, 35, 30))
    assert count == 15_125
    assert order == ((5, (4, 3)), ((2, 1), 0))


def test_cheapest_order_of_the_chain_that_ends_narrow_is_known():
    assert chains.cheapest_order((500, 20, 500, 10, 300))[0] == 1_700_000


def test_chain_by_hand_is_its_jacobian():
    widths = (4, 2, 5, 3)
    generator = np.random.default_rng(0)
    weights = [
        jnp.asarray(generator.normal(size=(after, before))) for before, after in pairwise(widths)
    ]
    x = jnp.asarray(generator.normal(size=4))
    _, order = chains.cheapest_order(widths)
    np.testing.assert_allclose(
        chains.by_hand(order)(x, weights), jax.jacrev(chains.chain)(x, weights), rtol=1e-12
    )


@pytest.fixture
def small_network():
    return second_order.problem(3, 4, 2)


def flat(arrays):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(arrays)])


@pytest.mark.slow
def test_curvature_by_hand_is_the_hessian(small_network):
    expected = jax.hessian(second_order.loss, second_order.PARAMETERS)(*small_network)
    found = second_order.curvature_by_hand(*small_network)
    assert [leaf.shape for leaf in jax.tree.leaves(found)] == [
        leaf.shape for leaf in jax.tree.leaves(expected)
    ]
    np.testing.assert_allclose(flat(found), flat(expected), rtol=1e-9, atol=1e-15)


@pytest.mark.slow
def test_gauss_newton_by_hand_is_what_all_ways_give(small_network):
    found = second_order.ggn_by_hand(*small_network)
    by_rows = second_order.ggn_of(second_order.logits_by_row)(*small_network)
    np.testing.assert_allclose(found, by_rows, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(found, second_order.our_ggn(*small_network), rtol=1e-9, atol=1e-15)


TORCH = {
    "perceptron": (gradients.perceptron_loss, gradients.torch_perceptron),
    "convolution": (gradients.convolution_loss, gradients.torch_convolution),
    "transformer": (gradients.transformer_loss, gradients.torch_transformer),
}


def small(name):
    """Few examples of the task's arguments."""
    params, data, target = getattr(gradients, f"{name}_arguments")()
    return params, data[:2], target[:2]


@pytest.mark.parametrize("name", TORCH)
def test_torch_computes_the_same_gradient(name):
    pytest.importorskip("torch")
    loss, torch_loss = TORCH[name]
    arguments = small(name)
    found = gradients.torch_gradient(torch_loss, arguments).make()()
    expected = jax.tree.leaves(jax.grad(loss)(*arguments))
    assert [tuple(one.shape) for one in found] == [leaf.shape for leaf in expected]
    for one, leaf in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, leaf, rtol=1e-3, atol=1e-5 * np.abs(leaf).max())
