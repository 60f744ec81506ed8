"""Complex results of real inputs: Jacobians as `jax.jacfwd` gives them, in every form and order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.sampling import sampled

import blockjac

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(11)
V = jnp.asarray(RNG.normal(size=6))
M = jnp.asarray(RNG.normal(size=(6, 6)))
C = jnp.asarray(RNG.normal(size=6) + 1j * RNG.normal(size=6))

FUNCTIONS = {
    "fft": jnp.fft.fft,
    "rfft": jnp.fft.rfft,
    "fft-by-rows": lambda x: jnp.fft.fft(jnp.outer(jnp.sin(x), x), axis=1),
    "ifft-of-product": lambda x: jnp.fft.ifft(jnp.fft.fft(x) * C),
    "spectral-derivative": lambda x: jnp.fft.ifft(1j * jnp.fft.fftfreq(6) * jnp.fft.fft(x**2)),
    "eigvals": lambda x: jnp.linalg.eigvals(M * x),
    "phase": lambda x: x * jnp.exp(1j * x),
    "complex": lambda x: jax.lax.complex(x[1:], x[:-1] ** 2),
    "real-part-alone": lambda x: (x**2).astype(complex),
    "imaginary-part-alone": lambda x: 1j * x[::-1],
    "conj": lambda x: jnp.conj(C * x) + x,
    "constant": lambda x: C,
    "scalar": lambda x: jnp.vdot(C, jnp.sin(x)),
    "gather": lambda x: (C * x)[jnp.array([1, 1, 4])],
    "scan": lambda x: jax.lax.scan(lambda c, a: (c * a * 1j, c + a), 1 + 0j, x)[1],
    "cond": lambda x: jax.lax.cond(x[0] > 0, lambda x: C * x, lambda x: x * 1j, x),
    "jit": jax.jit(lambda x: jnp.fft.fft(x) ** 2),
    "no-entries": lambda x: C[:0] * x[:0],
}
ONCE_ONLY = {"eigvals"}  # JAX has no second derivative of it


@pytest.fixture(params=FUNCTIONS)
def fun(request):
    return FUNCTIONS[request.param]


@pytest.mark.parametrize("order", ["auto", "reverse", "forward", "greedy"])
def test_dense_and_in_blocks(fun, order):
    wanted = jax.jit(jax.jacfwd(fun))(V)
    found = blockjac.jacobian(fun, order=order)(V)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-13)
    block = blockjac.block_jacobian(fun, order=order)(V)
    assert (block.dtype, block.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_allclose(block.dense(), wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("format", sampled(["csr", "csc", "coo", "bcoo", "bcsr", "dense"], 3))
def test_sparse(fun, format):
    wanted = np.reshape(jax.jit(jax.jacfwd(fun))(V), (-1, 6))
    matrix = blockjac.sparse_jacobian(fun, format=format)(V)
    written = matrix if format == "dense" else getattr(matrix, "toarray", None)
    written = matrix.todense() if written is None else written if format == "dense" else written()
    assert matrix.dtype == wanted.dtype
    np.testing.assert_allclose(written, wanted, rtol=1e-11, atol=1e-13)


def test_under_jit_in_chunks_and_with_values(fun):
    wanted = jax.jit(jax.jacfwd(fun))(V)
    for found in (
        jax.jit(blockjac.jacobian(fun))(V),
        blockjac.jacobian(fun, chunk_size=2)(V),
        blockjac.jacobian(fun, chunk_size=2, order="forward")(V),
        blockjac.value_and_jacobian(fun)(V)[1],
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-13)
    value, _ = blockjac.value_and_jacobian(fun)(V)
    np.testing.assert_allclose(value, fun(V), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - ONCE_ONLY))
def test_second_order(name):
    fun = FUNCTIONS[name]
    wanted = jax.jit(jax.jacfwd(jax.jacfwd(fun)))(V)
    for inner in (blockjac.jacobian, jax.jacfwd):
        found = blockjac.jacobian(inner(fun))(V)
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


def test_a_batch_and_a_tree():
    def fun(params, x):
        return {"f": jnp.fft.rfft(params["a"] * x), "g": params["b"] * x}

    params = {"a": V, "b": jnp.float64(2.0)}
    found, wanted = blockjac.jacobian(fun)(params, V), jax.jit(jax.jacfwd(fun))(params, V)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert own.dtype == other.dtype
        np.testing.assert_allclose(own, other, rtol=1e-12, atol=1e-14)
    batch = jnp.stack([V, 2 * V, V**2])
    np.testing.assert_allclose(
        blockjac.batch_jacobian(jax.vmap(jnp.fft.rfft))(batch),
        jax.vmap(jax.jacfwd(jnp.fft.rfft))(batch),
        atol=1e-13,
    )


def test_structure_is_kept():
    """Deltas stay deltas; a transform by rows keeps the delta of the rows."""
    x = jnp.linspace(0.1, 1.0, 1000)
    assert blockjac.block_jacobian(lambda x: x * jnp.exp(1j * x))(x).stored == 1000
    assert blockjac.sparse_jacobian(lambda x: (C[0] * x[1:]) ** 2)(x).nnz == 999
    X = jnp.ones((50, 8))
    assert blockjac.block_jacobian(lambda X: jnp.fft.fft(X, axis=1))(X).nnz == 50 * 64


@pytest.mark.slow
def test_products_with_real_blocks_and_vectors(fun):
    """The imaginary part of a block counts, whichever side it stands on."""
    if jnp.ndim(fun(V)) != 1:
        return
    block = blockjac.block_jacobian(fun)(V)
    J = np.asarray(jax.jit(jax.jacfwd(fun))(V))
    inner = blockjac.block_jacobian(lambda x: M @ jnp.sin(x))(V)
    cotangent = RNG.normal(size=J.shape[0])
    np.testing.assert_allclose(block.matvec(V), J @ V, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(block @ V, J @ V, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(block.vecmat(cotangent), cotangent @ J, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose((block @ inner).dense(), J @ inner.dense(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose((inner.T @ block.T).dense(), (J @ inner.dense()).T, atol=1e-12)
    np.testing.assert_allclose((2j * block + block).dense(), (1 + 2j) * J, atol=1e-12)
    if J.shape == (6, 6):
        np.testing.assert_allclose(block.diagonal(), np.diag(J), atol=1e-13)
        np.testing.assert_allclose((block + inner).dense(), J + inner.dense(), atol=1e-12)


def test_single_precision():
    found = blockjac.jacobian(jnp.fft.rfft)(V.astype(jnp.float32))
    assert (
        found.dtype
        == jax.jit(jax.jacfwd(jnp.fft.rfft))(V.astype(jnp.float32)).dtype
        == jnp.complex64
    )


def test_complex_inputs_still_need_the_promise():
    with pytest.raises(TypeError, match=r"real-valued outputs.*complex128.*pass holomorphic=True"):
        blockjac.jacobian(lambda z: z * jnp.conj(z) * 1j)(C)
    with pytest.raises(TypeError, match=r"real-valued outputs.*complex128"):
        blockjac.hessian(lambda x: jnp.sum(x) * 1j)(V)  # as jax.hessian
