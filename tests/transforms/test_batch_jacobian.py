"""Each example's Jacobian by its own input, beside the diagonal of JAX's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.per_example_programs import IMAGES, PROGRAMS, SEQUENCES, C, D, H, N, T, X, array, same

import blockjac
from blockjac.errors import ArgumentError, BlockShapeError, DifferentiationTypeError
from blockjac.planning.jaxpr_cost import operations

pytestmark = pytest.mark.slow


WEIGHTS, HIDDEN = array(D, C), array(D, H)
RECURRENT, KERNEL = PROGRAMS["recurrent"][0], array(3, 3, 2, 3)


def convolution(images):
    dimensions = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(images, KERNEL, (1, 1), "SAME", dimension_numbers=dimensions)
    return jnp.mean(jnp.tanh(y) ** 2, axis=(1, 2, 3))


MAPS = {
    "layer": (lambda X: jnp.tanh(X @ WEIGHTS), X),
    "elementwise": (lambda X: jnp.sin(X) * X, X),
    "one number": (lambda X: jnp.sum(X**2, axis=1), X),
    "softmax": (lambda X: jax.nn.softmax(X @ WEIGHTS, axis=-1), X),
    "attention": (lambda X: jax.nn.softmax(X @ jnp.swapaxes(X, 1, 2)) @ X, SEQUENCES),
    "recurrent": (lambda X: RECURRENT(PROGRAMS["recurrent"][1], X), SEQUENCES),
    "of vmap": (jax.vmap(lambda x: jnp.outer(x, x) @ WEIGHTS), X),
    "solve": (jax.vmap(lambda x: jnp.linalg.solve(jnp.eye(D) * 9 + jnp.outer(x, x), x)), X),
    "convolution": (convolution, IMAGES[:, :3]),
    "cumulative": (lambda X: jnp.cumsum(jnp.sin(X), axis=1), X),
    "reshaped": (lambda X: (X.reshape(N * T, D) @ WEIGHTS).reshape(N, T * C), SEQUENCES),
    "sorted": (lambda X: jnp.sort(X, axis=1), X),
    "of each by hand": (lambda X: jnp.stack([X[i] @ WEIGHTS for i in range(N)]), X),
    "there and back": (lambda X: jnp.roll(jnp.roll(X, 1, axis=0) ** 2, -1, axis=0), X),
    "numbers": (lambda X: X**3, X[:, 0]),
    "constant": (lambda X: jnp.ones((N, 2)), X),
    "one example": (lambda X: jnp.tanh(X @ WEIGHTS), X[:1]),
    "no example": (lambda X: jnp.tanh(X @ WEIGHTS), X[:0]),
    "numpy": (lambda X: jnp.sin(X @ WEIGHTS), np.asarray(X)),
    "float32": (lambda X: jnp.tanh(X) ** 2, X.astype(jnp.float32)),
}


def batch_of(fun, X):
    X = jnp.asarray(X)
    jacobian = jax.jit(jax.jacfwd(fun))(X)
    rank = jacobian.ndim - X.ndim
    return jnp.moveaxis(jnp.diagonal(jacobian, axis1=0, axis2=rank), -1, 0)


@pytest.mark.parametrize("name", MAPS)
def test_batch_jacobian(name):
    fun, x = MAPS[name]
    wanted = batch_of(fun, x)
    same(blockjac.batch_jacobian(fun)(x), wanted)
    same(jax.jit(blockjac.batch_jacobian(fun))(x), wanted)


def test_batch_jacobian_of_trees():
    def fun(x, y):
        return {"a": x * y["u"][:, None], "b": jnp.sin(y["u"])}

    y = {"u": array(N)}
    found = blockjac.batch_jacobian(fun, (0, 1))(X, y)
    jacobian = jax.jit(jax.jacfwd(fun, (0, 1)))(X, y)
    pick = np.arange(N)
    wanted = {
        "a": (jacobian["a"][0][pick, :, pick], {"u": jacobian["a"][1]["u"][pick, :, pick]}),
        "b": (jacobian["b"][0][pick, pick], {"u": jacobian["b"][1]["u"][pick, pick]}),
    }
    same(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["layer", "attention", "solve"])
def test_batch_jacobian_batched_and_differentiated(name):
    fun, x = MAPS[name]
    several = jnp.stack([x, 1.1 * x])
    wanted = jnp.stack([batch_of(fun, one) for one in several])
    same(jax.jit(jax.vmap(blockjac.batch_jacobian(fun)))(several), wanted)
    found = jax.jit(jax.grad(lambda x: jnp.sum(blockjac.batch_jacobian(fun)(x) ** 3)))(x)
    same(found, jax.jit(jax.grad(lambda x: jnp.sum(batch_of(fun, x) ** 3)))(x), 1e-8)


def test_batch_jacobian_holds_no_zeros():
    fun, x = lambda X: jnp.tanh(X @ HIDDEN), array(50, D)
    program = jax.make_jaxpr(blockjac.batch_jacobian(fun))(x)
    sizes = [variable.aval.size for equation in program.eqns for variable in equation.outvars]
    assert max(sizes) == 50 * D * H
    assert operations(program).multiplications <= 50 * H * (2 * D + 2)


def test_misuse_of_batch_jacobian():
    def rolled(X):
        return jnp.roll(X, 1, axis=0)

    transform = blockjac.batch_jacobian
    with pytest.raises(BlockShapeError, match=r"examples apart .* depends on other examples"):
        transform(lambda X: X - jnp.mean(X, axis=0))(X)
    with pytest.raises(BlockShapeError, match=r"'rolled' .* use block_jacobian"):
        transform(rolled)(X)
    with pytest.raises(BlockShapeError, match=r"may depend .* on other examples"):
        transform(lambda X, places: X[places])(X, np.arange(N))
    with pytest.raises(BlockShapeError, match=r"first axis .* results of \[\(\)\]"):
        transform(jnp.sum)(X)
    with pytest.raises(BlockShapeError, match=r"results of \[\(3, 5\)\] and inputs of \[\(4, 5\)"):
        transform(lambda X: X[:3])(X)
    with pytest.raises(DifferentiationTypeError, match="batch_jacobian requires real- or complex"):
        transform(lambda X: X)(jnp.ones((N, 2), int))
    with pytest.raises(DifferentiationTypeError, match="requires real-valued inputs"):
        transform(lambda X: X * 2)(X + 1j)
    with pytest.raises(ArgumentError, match="argnums=3 requires at least 4 positional"):
        transform(lambda X: X, 3)(X)
    with pytest.raises(DifferentiationTypeError, match=r"Expected a callable value .*batch_jacobi"):
        transform(3)
