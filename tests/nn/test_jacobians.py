import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import nn, star
from blockjac.nn import jacobians

RANDOM = np.random.default_rng(3)


def draw(*shape):
    return jnp.asarray(RANDOM.normal(size=shape))


def probabilities(rows, classes):
    return nn.softmax(draw(rows, classes))


AFFINE = [(5, 4, 3), (1, 4, 3), (5, 1, 3), (5, 4, 1), (1, 1, 1), (0, 4, 3)]


@pytest.mark.parametrize("bias", [1, 2])
@pytest.mark.parametrize(("n", "k", "h"), AFFINE)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_affine(place, n, k, h, bias):
    closed = (jacobians.affine_X, jacobians.affine_W, jacobians.affine_b)[place]
    operands = (draw(n, k), draw(k, h), draw(1, h) if bias == 2 else draw(h))
    block = closed(*operands)
    expected = jax.jit(jax.jacfwd(nn.affine, argnums=place))(*operands)
    assert block.shape == expected.shape
    np.testing.assert_allclose(block.dense(), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(), (4,), (5, 3), (2, 1, 3), (0, 3)])
def test_logistic(shape):
    Z = draw(*shape)
    np.testing.assert_allclose(
        jacobians.logistic_Z(Z).dense(), jax.jacfwd(nn.logistic)(Z), rtol=1e-12
    )


def test_logistic_keeps_its_digits_far_out():
    derivative = jacobians.logistic_Z(jnp.array([-40.0, 40.0])).diagonal()
    np.testing.assert_allclose(derivative, np.exp(-40.0) * np.ones(2), rtol=1e-12)


@pytest.mark.parametrize("shape", [(4,), (5, 3), (5, 1), (1, 3), (2, 3, 4), (0, 3)])
def test_softmax(shape):
    Z = draw(*shape)
    np.testing.assert_allclose(
        jacobians.softmax_Z(Z).dense(), jax.jit(jax.jacfwd(nn.softmax))(Z), rtol=1e-12, atol=1e-16
    )


@pytest.mark.parametrize("shape", [(5, 3), (1, 3), (5, 1)])
def test_cross_entropy(shape):
    Y, Q, Z = probabilities(*shape), probabilities(*shape), draw(*shape)
    expected = jax.jit(jax.jacfwd(nn.cross_entropy, argnums=1))(Y, Q)
    np.testing.assert_allclose(jacobians.cross_entropy_Q(Y, Q).dense(), expected, rtol=1e-12)
    block = jacobians.softmax_cross_entropy_Z(2 * Y, Z)
    expected = jax.jit(jax.jacfwd(nn.softmax_cross_entropy, argnums=1))(2 * Y, Z)
    np.testing.assert_allclose(block.dense(), expected, rtol=1e-12, atol=1e-15)


def test_cross_entropy_where_probabilities_are_zero():
    block = jacobians.cross_entropy_Q([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_array_equal(block.dense(), [[-0.5, 0.0], [0.0, -np.inf]])


def test_what_is_stored():
    X, W, b = jnp.ones((1024, 256)), jnp.ones((256, 64)), jnp.ones((1, 64))
    assert jacobians.affine_X(X, W, b).stored == 16_384
    assert jacobians.affine_W(X, W, b).stored == 1024 * 256
    assert jacobians.affine_b(X, W, b).stored == 0
    assert jacobians.logistic_Z(jnp.ones((400, 20))).stored == 8_000
    assert jacobians.softmax_Z(jnp.ones((512, 10))).stored == 5_120


def test_the_formulas_can_be_read():
    X, W, b = jnp.ones((5, 4)), jnp.ones((4, 3)), jnp.ones((1, 3))
    assert jacobians.affine_X(X, W, b).structure.count("W[") == 1
    assert jacobians.affine_W(X, W, b).structure.count("δ") == 1
    assert jacobians.softmax_Z(jnp.ones((5, 3))).structure.count("Q[") == 3


def test_cross_entropy_star_softmax_is_their_closed_form():
    Y, Z = probabilities(6, 3), draw(6, 3)
    contracted = star(jacobians.cross_entropy_Q(Y, nn.softmax(Z)), jacobians.softmax_Z(Z))
    closed = jacobians.softmax_cross_entropy_Z(Y, Z)
    np.testing.assert_allclose(contracted.dense(), closed.dense(), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(("n", "k", "h", "m"), [(9, 4, 6, 3), (1, 4, 6, 3), (9, 1, 1, 2)])
def test_the_gradient_by_hand_is_the_gradient(n, k, h, m):
    params = nn.initial_params(k, h, m, sigma=0.7)
    params = params._replace(b1=draw(1, h), b2=draw(1, m))
    X, Y = draw(n, k), probabilities(n, m)
    by_hand = jax.jit(jacobians.network_gradient)(params, X, Y)
    for oracle in (blockjac.grad(nn.loss), jax.grad(nn.loss)):
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14),
            by_hand,
            jax.jit(oracle)(params, X, Y),
        )
    assert [leaf.shape for leaf in by_hand] == [leaf.shape for leaf in params]


@pytest.mark.slow
def test_every_single_contraction_gives_the_same():
    """Without any shortcut: l(Y, softmax(affine(logistic(affine(X))))) block by block."""
    W1, b1, W2, b2 = params = nn.initial_params(4, 6, 3, sigma=0.7)
    X, Y = draw(9, 4), probabilities(9, 3)
    Z1 = nn.affine(X, W1, b1)
    X2 = nn.logistic(Z1)
    Z2 = nn.affine(X2, W2, b2)
    chain = [
        jacobians.cross_entropy_Q(Y, nn.softmax(Z2)),
        jacobians.softmax_Z(Z2),
        jacobians.affine_X(X2, W2, b2),
        jacobians.logistic_Z(Z1),
        jacobians.affine_W(X, W1, b1),
    ]
    backwards = chain[0]
    for block in chain[1:]:
        backwards = star(backwards, block)
    forwards = chain[-1]
    for block in chain[-2::-1]:
        forwards = star(block, forwards)
    expected = jax.grad(nn.loss)(params, X, Y).W1
    np.testing.assert_allclose(backwards.dense(), expected, rtol=1e-10)
    np.testing.assert_allclose(forwards.dense(), expected, rtol=1e-10)


def test_a_net_sure_of_the_wrong_class_has_a_finite_gradient_by_hand():
    params = nn.initial_params(1, 1, 2, sigma=0.0)._replace(b2=jnp.array([[0.0, 9000.0]]))
    gradient = jacobians.network_gradient(params, np.ones((2, 1)), np.eye(2)[[0, 0]])
    np.testing.assert_array_equal(gradient.b2, [[-1.0, 1.0]])


@pytest.mark.parametrize("closed", [jacobians.affine_X, jacobians.affine_W, jacobians.affine_b])
def test_shapes_that_do_not_fit_are_named(closed):
    with pytest.raises(TypeError, match=r"X has shape \(5, 4\) and W has shape \(3, 4\)"):
        closed(draw(5, 4), draw(3, 4), draw(4))


def test_rows_that_do_not_fit_are_named():
    with pytest.raises(TypeError, match=r"Y has shape \(5, 3\) and Q has shape \(5, 2\)"):
        jacobians.cross_entropy_Q(draw(5, 3), draw(5, 2))
    with pytest.raises(TypeError, match=r"Y has shape \(5, 3\) and Z has shape \(4, 3\)"):
        jacobians.softmax_cross_entropy_Z(draw(5, 3), draw(4, 3))
    with pytest.raises(TypeError, match=r"softmax: Z has shape \(5, 0\)"):
        jacobians.softmax_Z(jnp.ones((5, 0)))
