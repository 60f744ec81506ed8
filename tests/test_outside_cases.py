"""Cases that a tester from outside found: each once was wrong."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import blockjac
from blockjac import Block, BlockMatrix, nn
from blockjac.errors import DenseTooLargeError, ParameterTypeError, ShapeMismatchError
from blockjac.optimize.files import write_whole

ORDERS = ("reverse", "forward", "greedy", "auto")
X = jnp.array([0.0, 2.0])
M = jnp.array([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.where(x > 0, jnp.log(x) * x, 0.0).sum(),
        lambda x: jnp.where(x > 0, jnp.log(x), x) * x[::-1],
        lambda x: jnp.where(x > 0, jnp.exp(jnp.log(x)), 0.0) @ M,
        lambda x: jnp.where(x > 0, jnp.sqrt(x) * 3, x) @ M,
    ],
)
def test_a_branch_that_is_not_taken_gives_zero_in_every_order(function, order):
    found = blockjac.jacobian(function, order=order)(X)
    np.testing.assert_allclose(found, jax.jit(jax.jacfwd(function))(X), rtol=1e-12)


def test_a_maximum_of_nan_has_the_derivative_nan():
    assert np.isnan(blockjac.grad(jnp.max)(jnp.array([jnp.nan, 1.0]))).all()


@pytest.mark.parametrize("shape", [(1,), (3,)])
def test_a_window_of_padding_alone_has_no_derivative(shape):
    """Its extremum is infinite, and so its sine nan, but it depends on nothing."""

    def loss(x):
        return jnp.sum(jnp.sin(lax.reduce_window(x, -jnp.inf, lax.max, (1,), (4,), [(1, 0)])))

    x = jnp.full(shape, 0.3)
    np.testing.assert_array_equal(blockjac.grad(loss)(x), jax.grad(loss)(x))
    np.testing.assert_array_equal(
        blockjac.jacobian(blockjac.grad(loss))(x), jax.jit(jax.hessian(loss))(x)
    )


def test_what_fits_nowhere_is_refused_before_it_is_computed():
    for function in (jnp.cumsum, lambda x: jnp.fft.rfft(x).real):
        with pytest.raises(DenseTooLargeError, match=r"needs .*iB, over the limit"):
            blockjac.block_jacobian(function)(jnp.ones(2_000_000))
    rows = blockjac.block_jacobian(lambda x: x[jnp.arange(1_000_000) % 77])(jnp.ones(77))
    with pytest.raises(DenseTooLargeError, match=r"\(1000000, 1000000\)"):
        rows @ rows.T


@pytest.mark.slow
def test_a_scalar_multiple_has_the_dtype_of_the_product():
    assert (0.5 * Block.diag(jnp.arange(1, 4))).diagonal().tolist() == [0.5, 1.0, 1.5]
    assert (1j * Block.diag(jnp.ones(2))).diagonal().tolist() == [1j, 1j]


@pytest.mark.slow
def test_a_batch_of_block_matrices():
    Z = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 3)))
    matrix = jax.vmap(lambda z: BlockMatrix([[nn.jacobians.softmax_Z(z)]]))(Z)
    one = BlockMatrix([[nn.jacobians.softmax_Z(Z[1])]])
    np.testing.assert_allclose(matrix.dense()[1], one.dense())
    np.testing.assert_allclose(matrix.matvec((Z,))[0][1], one.matvec((Z[1],))[0])
    np.testing.assert_allclose(matrix.diagonal()[0][1], one.diagonal()[0])
    np.testing.assert_allclose(
        matrix.solve((Z,), damping=1.0)[0][1], one.solve((Z[1],), damping=1.0)[0], rtol=1e-10
    )


def test_the_places_of_a_batch_of_lookups_are_bounded():
    pick = blockjac.block_jacobian(lambda x, i: x[i])
    block = jax.vmap(lambda i: pick(jnp.ones(4), i))(jnp.array([[0, 1], [2, -1]]))
    assert block.nnz == 2


def test_a_pullback_leaves_jit():
    value, pullback = jax.jit(lambda x: blockjac.vjp(jnp.sin, x))(X)
    np.testing.assert_allclose(value, jnp.sin(X))
    np.testing.assert_allclose(pullback(jnp.ones(2))[0], jnp.cos(X))
    _, batched = jax.vmap(lambda x: blockjac.vjp(jnp.sin, x))(X)
    np.testing.assert_allclose(jax.vmap(lambda f: f(1.0)[0])(batched), jnp.cos(X))


def test_a_sweep_refuses_what_is_not_real():
    layers = [lambda x, theta: (jnp.abs(x * theta) ** 2).sum()]
    for theta in (jnp.ones(2) * 1j, jnp.arange(2)):
        with pytest.raises(ParameterTypeError, match="wanted real numbers"):
            nn.sweep(layers, [theta], jnp.ones(2), 0.1)


def test_stages_start_with_a_layer_that_has_parameters():
    layers = [lambda x, _: x + 1, lambda x, theta: (x * theta).sum()]
    with pytest.raises(ShapeMismatchError, match="first layer has no parameters"):
        nn.stage_jacobians(layers, [(), jnp.ones(3)], jnp.ones(3))


def test_writing_keeps_links_and_devices(tmp_path):
    (tmp_path / "real.txt").write_bytes(b"old")
    link = tmp_path / "link.txt"
    link.symlink_to("real.txt")
    write_whole(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "real.txt").read_bytes() == b"new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, b"piped")
    assert os.read(reader, 10) == b"piped"
    os.close(reader)
