"""Functions to take Laplacians of: networks, wave functions, energies, loops, complex numbers."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

RNG = np.random.default_rng(11)


def array(*shape):
    return jnp.asarray(RNG.normal(size=shape))


V, S, W1, W2, W3 = array(5), array(3, 4), array(5, 7) / 2, array(7, 7) / 2, array(7)
Q, K = array(4, 4), array(4, 4)
FIRST, SECOND = np.triu_indices(3, 1)


def mlp(x):
    return jnp.tanh(jnp.tanh(x @ W1) @ W2) @ W3


def normalized(x):
    centered = x - jnp.mean(x, axis=-1, keepdims=True)
    return centered / jnp.sqrt(jnp.mean(centered**2, axis=-1, keepdims=True) + 1e-5)


def attention(x):
    y = normalized(x)
    mixed = jax.nn.softmax((y @ Q) @ (y @ K).T / 2) @ y
    return jnp.sum(jnp.tanh(normalized(x + mixed)))


def orbitals(x):
    matrix = jnp.tanh(x @ Q)[:, :3] + 2 * jnp.eye(3)
    sign, logarithm = jnp.linalg.slogdet(matrix)
    return sign * logarithm


def several_determinants(x):
    matrices = jnp.tanh(jnp.einsum("nw,dwk->dnk", x, jnp.stack([Q, K])))[:, :, :3]
    signs, logs = jnp.linalg.slogdet(matrices + 2 * jnp.eye(3))
    largest = lax.stop_gradient(jnp.max(logs))
    return jnp.log(jnp.abs(jnp.sum(signs * jnp.exp(logs - largest)))) + largest


def jastrow(x):
    lengths = jnp.sqrt(jnp.sum((x[FIRST] - x[SECOND]) ** 2, axis=-1))
    return jnp.sum(lengths / (1 + lengths))


def gaussians(x):
    return jnp.sum(jnp.exp(-jnp.sum((x[:, None] - x[None]) ** 2, axis=-1)))


@jax.custom_vjp
def backwards_only(x):
    return jnp.sin(x)


backwards_only.defvjp(lambda x: (jnp.sin(x), x), lambda x, cotangent: (cotangent * jnp.cos(x),))


@jax.custom_jvp
def unlike_its_rule(x, y):
    return x * y


@unlike_its_rule.defjvp
def _(point, tangents):
    (x, y), (dx, dy) = point, tangents
    return x * y, x**2 * y * dx + jnp.sin(x) * dy


@jax.custom_jvp
def two_results(x):
    return jnp.sin(x), jnp.sin(x) ** 2


@two_results.defjvp
def _(point, tangents):
    (x,), (dx,) = point, tangents
    rate = jnp.cos(x) * dx
    return two_results(x), (rate, 2 * jnp.sin(x) * rate)


def scanned(x):
    return jnp.sum(lax.scan(lambda c, a: (jnp.tanh(c * a + x), jnp.sin(c)), x, jnp.arange(3.0))[1])


def with_loop(x):
    """A loop of a length that is not known, which JAX differentiates forwards only."""
    return jnp.sum(lax.fori_loop(0, jnp.int32(3), lambda _, c: jnp.sin(c) * x, x))


PROGRAMS = {
    "network": (mlp, V),
    "rows of a network": (lambda x: jnp.sum(jnp.tanh(x @ Q) ** 2, axis=-1), S),
    "matrix of results": (lambda x: jnp.tanh(jnp.outer(x, x)), V),
    "attention": (attention, S),
    "determinant of orbitals": (orbitals, S),
    "several determinants": (several_determinants, S),
    "determinant": (lambda x: jnp.linalg.det(x[:, :3] ** 2), S),
    "pairs": (jastrow, S),
    "all pairs": (gaussians, S),
    "flat pairs": (lambda x: jastrow(x.reshape(3, 4)), S.ravel()),
    "separable": (lambda x: jnp.sum(jnp.sin(x) * jnp.exp(-(x**2))), V),
    "the same operand twice": (lambda x: jnp.sum(x * x * x) + x @ x, V),
    "quotients and powers": (lambda x: x[0] / x[1] ** 2 + jnp.abs(x[2]) ** x[3], V),
    "two angles": (lambda x: jnp.arctan2(x[0] * x[1], x[2]), V),
    "relu": (lambda x: jnp.sum(jax.nn.relu(x @ W1) ** 2), V),
    "silu": (lambda x: jnp.sum(jax.nn.silu(x @ W1)), V),
    "gelu": (lambda x: jnp.sum(jax.nn.gelu(x @ W1)), V),
    "softplus": (lambda x: jnp.sum(jax.nn.softplus(x @ W1) ** 2), V),
    "logsumexp": (lambda x: jax.nn.logsumexp(x @ W1), V),
    "sinc": (lambda x: jnp.sum(jnp.sinc(x)), V),
    "a rule that is no derivative": (lambda x: jnp.sum(unlike_its_rule(x, x[::-1]) ** 2), V),
    "a rule of two results": (lambda x: jnp.sum(two_results(x * x)[0] * two_results(x)[1]), V),
    "backwards only": (lambda x: jnp.sum(backwards_only(x) * x), V),
    "checkpoint": (jax.checkpoint(mlp), V),
    "scan": (scanned, V),
    "fori": (lambda x: jnp.sum(lax.fori_loop(0, 3, lambda _, c: jnp.sin(c) * x, x)), V),
    "a loop forwards only": (with_loop, V),
    "cond": (lambda x: lax.cond(x[0] > 9, jnp.sum, lambda y: jnp.sum(jnp.cos(y)), x * 2), V),
    "product": (jnp.prod, V),
    "cumulative product": (lambda x: jnp.sum(jnp.cumprod(x) ** 2), V),
    "sorted": (lambda x: jnp.sort(x) ** 3 @ jnp.arange(5.0), V),
    "maximum": (lambda x: jnp.max(x) ** 3 * jnp.min(x), V),
    "gathered": (lambda x: jnp.sum(x[jnp.array([1, 1, 4])] ** 3), V),
    "scattered": (lambda x: jnp.sum(jnp.zeros(3).at[jnp.array([0, 2, 0, 1, 0])].add(x) ** 3), V),
    "convolved": (lambda x: jnp.sum(jnp.convolve(jnp.sin(x), jnp.cos(x)) ** 2), V),
    "cholesky": (lambda x: jnp.sum(jnp.linalg.cholesky(x @ x.T + jnp.eye(3)) ** 3), S),
    "solve": (lambda x: jnp.sum(jnp.linalg.solve(x @ x.T + jnp.eye(3), x)), S),
    "eigenvalues": (lambda x: jnp.sum(jnp.linalg.eigvalsh(x @ x.T) ** 2), S),
    "fourier": (lambda x: jnp.sum(jnp.abs(jnp.fft.fft(jnp.sin(x))) ** 2), V),
    "complex": (lambda x: jnp.sum(jnp.exp(1j * x @ W1) * jnp.sum(x**2)), V),
    "complex vector": (lambda x: jnp.exp((1 + 2j) * x) * jnp.prod(x), V),
    "complex slogdet": (
        lambda x: jnp.linalg.slogdet(x[:, :3] + 1j * jnp.sin(x[:, 1:]))[1],
        S,
    ),
    "linear": (lambda x: jnp.sum(x @ W1), V),
    "constant": (lambda x: jnp.ones(3), V),
    "identity": (lambda x: x, V),
    "stopped": (lambda x: jnp.sum(lax.stop_gradient(x**2) * x**2), V),
    "scalar": (lambda x: x**4, jnp.array(2.0)),
    "python float": (lambda x: jnp.sin(x) * x, 2.0),
    "empty": (lambda x: jnp.sin(x) @ jnp.ones((3, 3)), jnp.zeros((0, 3))),
    "axes of size 1": (lambda x: jnp.sin(x) * jnp.sum(x), array(1, 3, 1)),
    "float32": (lambda x: jnp.sum(jnp.sin(x) * jnp.sum(x)), V.astype(jnp.float32)),
}
"""Functions with a point each."""
