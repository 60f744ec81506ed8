import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac import nn

SIZES = (2, 3, 1, 2)


def bilinear(left_order, right_order, out_order, seed):
    """A smooth function of two tensors with a result of the given order, all entries mixed."""
    random = np.random.default_rng(seed)
    left, right, out = SIZES[:left_order], SIZES[:right_order], SIZES[:out_order]
    A, B = random.normal(size=(*out, *left)), random.normal(size=(*out, *right))

    def function(first, second):
        one = jnp.tensordot(jnp.asarray(A), first, left_order)
        other = jnp.tensordot(jnp.asarray(B), second, right_order)
        return jnp.sin(one) * other + one**2

    return function


@pytest.mark.parametrize(
    ("orders", "between", "out"),
    [
        ((0, 0, 0, 0), (0, 0), 0),
        ((1, 2, 3, 4), (2, 3), 1),
        ((4, 3, 2, 1), (1, 4), 2),
        ((2, 2, 2, 2), (2, 2), 2),
        ((0, 4, 1, 0), (4, 0), 3),
        ((3, 1, 4, 2), (3, 2), 4),
        ((1, 1, 1, 1), (0, 1), 0),
    ],
)
def test_the_four_blocks(orders, between, out):
    random = np.random.default_rng(0)
    tensors = [jnp.asarray(random.normal(size=SIZES[:order])) for order in orders]
    f = bilinear(orders[0], orders[1], between[0], 1)
    g = bilinear(orders[2], orders[3], between[1], 2)
    h = bilinear(between[0], between[1], out, 3)

    def phi(V, W, X, Y):
        return h(f(V, W), g(X, Y))

    blocks = jax.jit(nn.composition_blocks(h, f, g))(*tensors)
    expected = jax.jit(jax.jacfwd(phi, argnums=(0, 1, 2, 3)))(*tensors)
    dense = jax.jit(lambda blocks: [block.dense() for block in blocks])(blocks)
    for block, ours, wanted, tensor in zip(blocks, dense, expected, tensors, strict=True):
        assert block.out_shape == SIZES[:out]
        assert block.wrt_shape == tensor.shape
        np.testing.assert_allclose(ours, wanted, rtol=1e-11, atol=1e-13)


def test_the_blocks_keep_their_structure():
    X = jnp.ones((50, 20))
    blocks = nn.composition_blocks(jnp.add, jnp.multiply, lambda X, Y: X + 2 * Y)(X, X, X, X)
    assert [block.stored for block in blocks] == [1000, 1000, 0, 0]
