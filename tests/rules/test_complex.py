"""Complex numbers beside JAX: values at first and second order, and the structure that is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import blockjac
from blockjac.engine.arguments import traced_call
from blockjac.engine.computations import Jacobian
from blockjac.engine.run import run
from blockjac.graph.primitives import facts_of
from blockjac.rules import RULES
from blockjac.rules.complex_linear import REAL_LINEAR
from blockjac.rules.fallback import packed, unpacked

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(1)
ORDERS = ("reverse", "forward", "greedy")


def numbers(*shape, dtype=complex):
    return jnp.asarray(RNG.normal(size=shape) + 1j * RNG.normal(size=shape), dtype)


Z = numbers(3, 4)
W = numbers(4, 2)
X = jnp.asarray(RNG.normal(size=(3, 4)))
SQUARE = numbers(3, 3) + 3 * jnp.eye(3)


def agree(ours, theirs, rtol=1e-11, atol=1e-12):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for own, wanted in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert own.shape == wanted.shape
        assert own.dtype == wanted.dtype
        np.testing.assert_allclose(own, wanted, rtol=rtol, atol=atol)


def on_parts(fun, *arguments):
    """The function of the first argument as one of its parts, to the parts of its result."""
    first, *others = arguments
    return lambda parts: packed(fun(unpacked(parts, first.dtype), *others))


def parts_block(fun, *arguments, order="auto"):
    """The Block of the parts of the result by the parts of the first argument."""
    call = traced_call("jacobian", fun, 0, arguments, {})
    computation = Jacobian(call.count, call.smooth, order, dense=False)
    return run(computation, call.graph, call.arguments)[1][0][0]


def hermitian(A):
    return A @ jnp.conj(A.T) + jnp.eye(len(A))


ELEMENTWISE = {
    "acos": jnp.arccos,
    "acosh": lambda z: jnp.arccosh(3 + z),
    "asin": jnp.arcsin,
    "asinh": jnp.arcsinh,
    "atan": jnp.arctan,
    "atanh": jnp.arctanh,
    "cos": jnp.cos,
    "cosh": jnp.cosh,
    "div": lambda z: (z + 1) / (z * z + 5),
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "integer_pow": lambda z: z**3 - z**-2,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "logistic": jax.nn.sigmoid,
    "pow": lambda z: z ** (2.5 + 0.5j),
    "pow-both": lambda z: z ** z[::-1],
    "rsqrt": lax.rsqrt,
    "scaled": lambda z: 2j * z - 3 * z,
    "select": lambda z: jnp.where(z.real > 0, z * z, 1j * z),
    "sin": jnp.sin,
    "sinc": jnp.sinc,
    "sinh": jnp.sinh,
    "sqrt": jnp.sqrt,
    "tan": jnp.tan,
    "tanh": jnp.tanh,
    "twice": lambda z: z * z,
}
STRUCTURED = {
    "concatenate": lambda z: jnp.concatenate([z[1:], 1j * z], 0),
    "cumprod": lambda z: jnp.cumprod(z, 1),
    "cumsum": lambda z: lax.cumsum(z, 1, reverse=True) * z,
    "einsum": lambda z: jnp.einsum("ij,kj,jl->ikl", z, z, W),
    "fft": jnp.fft.fft,
    "fft-of-an-axis": lambda z: jnp.fft.fft(z * z, axis=0),
    "fft-scaled": lambda z: jnp.fft.fft(z, n=6, norm="ortho") * 1j,
    "fft2": jnp.fft.fft2,
    "fftn": lambda z: jnp.fft.fftn(jnp.reshape(z, (1, 2, 2, 3))),
    "gather": lambda z: z[:, jnp.array([3, 0, 0])],
    "ifft": lambda z: jnp.fft.ifft(jnp.sin(z)),
    "matmul": lambda z: z @ W,
    "matmul-itself": lambda z: z @ z.T,
    "mean": lambda z: jnp.mean(z, 0),
    "pad": lambda z: jnp.pad(z, ((0, 1), (2, 0)), constant_values=1j),
    "prod": lambda z: jnp.prod(z, 1),
    "reduce-max": lambda z: jnp.max(z, 1),
    "reshape": lambda z: jnp.reshape(z.T, (2, 6))[:, ::2],
    "scatter-add": lambda z: jnp.zeros(5, complex).at[jnp.array([1, 4, 1])].add(z[:, 0] * z[:, 1]),
    "solve": lambda z: jnp.linalg.solve(SQUARE, z),
    "solve-by-matrix": lambda z: jnp.linalg.solve(z[:, :3] + 3 * jnp.eye(3), z[:, 3]),
    "sort": lambda z: jnp.sort(z, 1) * z,
    "windows": lambda z: lax.reduce_window(z * z, 0j, lax.add, (1, 2), (1, 1), "VALID"),
}
REAL_RESULTS = {
    "abs": jnp.abs,
    "abs-squared": lambda z: (jnp.conj(z) * z).real,
    "angle": jnp.angle,
    "cholesky": lambda z: jnp.sum(jnp.log(jnp.linalg.cholesky(hermitian(z)).diagonal().real)),
    "eigenvalues": lambda z: jnp.linalg.eigvalsh(hermitian(z)),
    "fft-magnitude": lambda z: jnp.abs(jnp.fft.fft2(z)) ** 2,
    "imag": lambda z: jnp.imag(jnp.exp(z)),
    "irfft": jnp.fft.irfft,
    "irfft-odd": lambda z: jnp.fft.irfft(z * z, n=5),
    "irfft2": lambda z: jnp.fft.irfft2(z),
    "log-abs": lambda z: jnp.log(jnp.abs(z)),
    "norm": jnp.linalg.norm,
    "polar": lambda z: jnp.real(jnp.abs(z) * jnp.exp(1j * jnp.angle(z))),
    "real": jnp.real,
    "vdot": lambda z: jnp.real(jnp.vdot(z, z[::-1])),
}
THROUGH_COMPLEX = {
    "characteristic": lambda x: jnp.mean(jnp.exp(1j * x), 1).real,
    "complex": lambda x: jnp.abs(lax.complex(x, x[::-1] ** 2)),
    "convolution": lambda x: jnp.fft.irfft(jnp.fft.rfft(x) * jnp.fft.rfft(jnp.sin(x)), n=4),
    "convert": lambda x: jnp.imag(x.astype(complex) * Z),
    "rfft": lambda x: jnp.abs(jnp.fft.rfft(x)) ** 2,
    "rfft-odd": lambda x: jnp.fft.rfft(x[:, :3]).imag,
    "rfft2": lambda x: jnp.fft.rfft2(x).real,
    "spectrum": lambda x: jnp.abs(jnp.fft.fft(x)) ** 2,
}


# Values


@pytest.mark.parametrize("name", [*ELEMENTWISE, *STRUCTURED])
def test_holomorphic(name):
    fun = {**ELEMENTWISE, **STRUCTURED}[name]
    agree(
        blockjac.jacobian(fun, holomorphic=True)(Z), jax.jit(jax.jacrev(fun, holomorphic=True))(Z)
    )


def test_the_larger_of_two_complex_numbers():
    def larger(z):
        return jnp.maximum(z, z[::-1])

    def chosen(z):  # JAX 0.11 has no derivative of `larger`
        return jnp.where(larger(lax.stop_gradient(z)) == z, z, z[::-1])

    agree(
        blockjac.jacobian(larger, holomorphic=True)(Z),
        jax.jit(jax.jacrev(chosen, holomorphic=True))(Z),
    )


def test_acosh_left_of_its_cut():
    """JAX 0.10 has the wrong sign there."""
    z, step = jnp.array([-0.9 + 0.8j, -1.5 - 0.4j]), 1e-6
    slope = (jnp.arccosh(z + step) - jnp.arccosh(z - step)) / (2 * step)
    found = blockjac.jacobian(jnp.arccosh, holomorphic=True)(z)
    np.testing.assert_allclose(jnp.diagonal(found), slope, rtol=1e-8)


@pytest.mark.parametrize("name", REAL_RESULTS)
def test_real_results(name):
    fun = REAL_RESULTS[name]
    agree(blockjac.jacobian(fun)(Z), jax.jit(jax.jacrev(fun))(Z))


@pytest.mark.parametrize("name", THROUGH_COMPLEX)
def test_through_complex_numbers(name):
    fun = THROUGH_COMPLEX[name]
    agree(blockjac.jacobian(fun)(X), jax.jit(jax.jacfwd(fun))(X))


MIXED = {
    "conjugates": lambda z: jnp.conj(z) * jnp.exp(z) + jnp.conj(z @ W) @ numbers_of(2, 4),
    "abs": lambda z: z * jnp.abs(z),
    "fft": lambda z: jnp.fft.ifft(jnp.abs(jnp.fft.fft(z)) * z),
    "parts": lambda z: lax.complex(z.imag, z.real * z.imag) * z,
    "rfft": lambda z: jnp.fft.rfft(z.real) * z[:, :3],
}


def numbers_of(*shape):
    return jnp.reshape(jnp.arange(1.0, np.prod(shape) + 1), shape) * (1 - 2j)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", MIXED)
def test_any_order_gives_the_jacobian_of_the_parts(name, order):
    fun = MIXED[name]
    wanted = jax.jit(jax.jacfwd(on_parts(fun, Z)))(packed(Z))
    agree(parts_block(fun, Z, order=order).dense(), wanted)


@pytest.mark.parametrize("name", MIXED)
def test_products(name):
    fun, tangent = MIXED[name], numbers(3, 4)
    agree(blockjac.jvp(fun, (Z,), (tangent,)), jax.jvp(fun, (Z,), (tangent,)))
    value, pullback = blockjac.vjp(fun, Z)
    wanted, theirs = jax.vjp(fun, Z)
    agree(value, wanted)
    cotangent = numbers(*value.shape)
    agree(pullback(cotangent), theirs(cotangent))


@pytest.mark.parametrize("name", ["sin", "twice", "matmul-itself", "fft-of-an-axis", "div"])
def test_second_order_holomorphic(name):
    fun = {**ELEMENTWISE, **STRUCTURED}[name]
    ours = blockjac.jacobian(blockjac.jacobian(fun, holomorphic=True), holomorphic=True)
    theirs = jax.jacrev(jax.jacrev(fun, holomorphic=True), holomorphic=True)
    agree(ours(Z[:2]), theirs(Z[:2]))


@pytest.mark.parametrize("name", THROUGH_COMPLEX)
def test_second_order_through_complex_numbers(name):
    loss = lambda x: jnp.sum(jnp.sin(THROUGH_COMPLEX[name](x)))  # noqa: E731
    agree(blockjac.jacobian(blockjac.grad(loss))(X), jax.jit(jax.hessian(loss))(X))


@pytest.mark.parametrize("name", ["abs-squared", "fft-magnitude", "log-abs", "norm"])
def test_second_order_by_complex_numbers(name):
    def slope(grad):
        return lambda z: jnp.sum(
            jnp.abs(grad(lambda z: jnp.sum(REAL_RESULTS[name](z)))(z) - Z) ** 2
        )

    agree(blockjac.grad(slope(blockjac.grad))(Z * 2), jax.grad(slope(jax.grad))(Z * 2))


def test_single_precision_stays():
    z = Z.astype(jnp.complex64)

    def fun(z):
        return jnp.fft.ifft(jnp.conj(z) * jnp.exp(z))

    for ours, theirs in (
        (
            blockjac.grad(lambda z: jnp.sum(jnp.abs(fun(z)))),
            jax.grad(lambda z: jnp.sum(jnp.abs(fun(z)))),
        ),
        (blockjac.jacobian(jnp.sin, holomorphic=True), jax.jacrev(jnp.sin, holomorphic=True)),
        (lambda z: blockjac.jvp(fun, (z,), (z,)), lambda z: jax.jvp(fun, (z,), (z,))),
    ):
        agree(ours(z), theirs(z), rtol=2e-5, atol=1e-5)
    assert parts_block(fun, z).dtype == np.float32


def test_another_precision():
    def fun(z):
        return jnp.abs(jnp.sin(z.astype(jnp.complex64)).astype(complex)) * 2

    agree(blockjac.jacobian(fun)(Z), jax.jit(jax.jacrev(fun))(Z), rtol=1e-5)


def test_the_magnitude_of_zero():
    z = Z.at[0].set(0)
    agree(blockjac.jacobian(jnp.abs)(z), jax.jit(jax.jacrev(jnp.abs))(z))


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (1, 2)])
def test_shapes(shape):
    z = numbers(*shape)

    def fun(z):
        return jnp.abs(jnp.conj(z) * jnp.exp(z) + z**2)

    agree(blockjac.jacobian(fun)(z), jax.jit(jax.jacrev(fun))(z))


@pytest.mark.parametrize("size", [1, 2])
def test_transforms_of_short_axes(size):
    def fun(x):
        spectrum = jnp.fft.fft(jnp.fft.rfft(x, axis=0), axis=0)
        return jnp.abs(spectrum) + jnp.sum(jnp.fft.irfft(spectrum * 1j, n=size, axis=0))

    x = X[:size]
    agree(blockjac.jacobian(fun)(x), jax.jit(jax.jacfwd(fun))(x))


def test_under_vmap_and_jit():
    grad = jax.jit(jax.vmap(blockjac.grad(lambda z: jnp.sum(jnp.abs(jnp.fft.fft(z * z))))))
    theirs = jax.vmap(jax.grad(lambda z: jnp.sum(jnp.abs(jnp.fft.fft(z * z)))))
    agree(grad(Z), theirs(Z))


# Structure

STORED = {
    "add": (lambda z: z + z[::-1], 0),
    "concatenate": (lambda z: jnp.concatenate([z, z], 1), 0),
    "conj": (jnp.conj, 2),
    "conj-twice": (lambda z: jnp.conj(jnp.conj(z)), 2),
    "constant": (lambda z: 2 * z, 0),
    "constant-complex": (lambda z: 2j * z, 4),
    "imag": (jnp.imag, 0),
    "imag-of-i-times": (lambda z: jnp.imag(1j * z), 2),
    "real": (jnp.real, 0),
    "real-of-conj": (lambda z: jnp.real(jnp.conj(z)), 1),
    "reshape": (lambda z: jnp.reshape(z.T, (2, 6)), 0),
    "slice": (lambda z: z[1:, ::2], 0),
    "sum": (lambda z: jnp.sum(z, 0), 0),
    "abs": (jnp.abs, 2 * 12),
    "abs-squared": (lambda z: jnp.conj(z) * z, 4 * 12),
    "exp": (jnp.exp, 4 * 12),
    "composed": (lambda z: jnp.exp(1j * jnp.sin(z)) * z, 4 * 12),
    "matmul": (lambda z: z @ W, 4 * 8),
    "fft": (jnp.fft.fft, 4 * 16),
    "fft-of-an-axis": (lambda z: jnp.fft.fft(z, axis=0), 4 * 9),
    "ifft-of-conj": (lambda z: jnp.fft.ifft(jnp.conj(z)), 4 * 16 + 2),
    "irfft": (lambda z: jnp.fft.irfft(z, n=6), 2 * 6 * 4),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", STORED)
def test_what_is_stored(name, order):
    fun, most = STORED[name]
    block = parts_block(fun, Z, order=order)
    assert block.stored <= most
    agree(block.dense(), jax.jit(jax.jacfwd(on_parts(fun, Z)))(packed(Z)))


def test_deltas_between_parts():
    assert parts_block(lambda z: 3 * z.T, Z).structure == "3 δ[i,i'] δ[k,k'] δ[j,j']"


def test_deltas_of_a_product_with_its_conjugate():
    block = blockjac.block_jacobian(lambda x: jnp.real(jnp.conj(x * Z) * x * Z))(X)
    assert block.structure == "δ[i,i'] δ[j,j'] A[i,j]"


def test_a_transform_keeps_its_batch():
    block = blockjac.block_jacobian(lambda x: jnp.fft.rfft(x).real)(jnp.ones((64, 32)))
    assert block.stored == 17 * 32
    assert block.structure.startswith("δ[i,i']")


def test_a_running_sum_keeps_its_batch():
    block = parts_block(lambda z: jnp.cumsum(z, 1), Z)
    assert block.nnz == 2 * 3 * 10  # the triangle
    assert block.stored <= 2 * 10  # the rows and columns of its places
    assert block.nbytes <= 2 * 10 * 4


def test_a_gradient_through_a_transform_is_a_transform():
    weights = jnp.arange(1.0, 513.0)

    def loss(x):
        return jnp.sum(jnp.abs(jnp.fft.fft(x)) ** 2 * weights)

    program = str(jax.make_jaxpr(blockjac.grad(loss))(jnp.ones(512)))
    assert program.count("fft[") == 2
    assert "dot_general" not in program
    assert "512,512" not in program


def test_every_rule_is_known_to_be_holomorphic_or_not():
    answers = {name: facts_of(name).complex for name in RULES}
    assert set(answers.values()) == {"holomorphic", "parts", "real"}
    assert {name for name, answer in answers.items() if answer == "parts"} == set(
        REAL_LINEAR
    ) & set(RULES)


def test_a_transform_is_passed_in_the_order_that_was_asked_for():
    """Of fewer inputs than rows: to write its matrix out first takes seven times the operations."""
    weights = jnp.ones((400, 122))

    def fun(x):
        z = jnp.fft.rfft(x)
        return jnp.sin(weights @ jnp.concatenate([z.real, z.imag]))

    plan = blockjac.plan(fun, order="reverse")(jnp.arange(120.0))
    written_out = 2 * 400 * 122 * 120
    assert plan.flops < written_out / 4
