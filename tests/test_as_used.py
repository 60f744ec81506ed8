"""Programs as users write and run them: no x64, the compiler's optimisations on, 32-bit integers.

`dev.py test --as-used` runs this file so; in the usual suite the same programs run in float64.
Values are compared in the precision at hand; dtypes have to be JAX's.
"""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.precision import assert_close

import blockjac

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), float)


IMAGE, FILTERS = normal(8, 8, 2), normal(3, 3, 2, 3)
NETWORK = [(normal(5, 7) / 3, jnp.zeros(7)), (normal(7, 3) / 3, jnp.zeros(3))]
TABLE, LABELS = normal(11, 5), jnp.arange(11) % 3
EDGES = jnp.asarray(RANDOM.integers(0, 9, (14, 2)))
TOKENS = jnp.asarray(RANDOM.integers(0, 6, 8))
POINTS = normal(9, 2)
WEIGHTS = normal(4, 4) / 2


def network(parameters, x):
    for weights, bias in parameters[:-1]:
        x = jnp.tanh(x @ weights + bias)
    weights, bias = parameters[-1]
    return x @ weights + bias


def loss(parameters, table, labels):
    rates = jax.nn.log_softmax(jax.vmap(network, (None, 0))(parameters, table))
    return -jnp.mean(jnp.take_along_axis(rates, labels[:, None], 1))


def attention(x):
    scores = jnp.where(jnp.tri(len(x), dtype=bool), x @ x.T / 2, -jnp.inf)
    return jax.nn.softmax(scores) @ x


def convolution(image):
    dimensions = ("NHWC", "HWIO", "NHWC")
    out = lax.conv_general_dilated(
        image[None], FILTERS, (2, 2), "SAME", dimension_numbers=dimensions
    )
    return jax.nn.relu(out)[0]


def springs(points):
    ends = points[EDGES]
    lengths = jnp.sqrt(jnp.sum((ends[:, 0] - ends[:, 1]) ** 2, -1) + 0.1)
    return jnp.sum((lengths - 1) ** 2)


def forces(points):
    ends = points[EDGES]
    pulls = ends[:, 0] - ends[:, 1]
    return jnp.zeros_like(points).at[EDGES[:, 0]].add(pulls).at[EDGES[:, 1]].add(-(pulls**3))


def recurrent(states):
    def step(carry, x):
        carry = jnp.tanh(WEIGHTS @ carry + x)
        return carry, carry

    return lax.scan(step, jnp.zeros(4), states)[1]


def newton_root(x):
    condition = lambda state: (jnp.max(jnp.abs(state**2 - x)) > 1e-3) & (state[0] < 1e6)  # noqa: E731
    return lax.while_loop(condition, lambda y: 0.5 * (y + x / y), x)


def heat(u):
    def step(i, u):
        return u.at[1:-1].add(0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])) * (1 + 0.01 * i)

    return lax.fori_loop(0, 5, step, u)


def likelihood(scales):
    matrix = jnp.exp(-((POINTS[:, None] - POINTS[None]) ** 2) @ (scales**2)) + jnp.eye(9)
    factor = jnp.linalg.cholesky(matrix)
    solved = jax.scipy.linalg.cho_solve((factor, True), POINTS[:, 0])
    return POINTS[:, 0] @ solved / 2 + jnp.sum(jnp.log(jnp.diag(factor)))


MAPS = {
    "attention": (attention, normal(5, 3)),
    "convolution": (convolution, IMAGE),
    "forces": (forces, POINTS),
    "recurrent": (recurrent, normal(6, 4)),
    "root by a loop": (newton_root, jnp.array([2.0, 3.0])),
    "heat": (heat, normal(12)),
    "embedding": (lambda table: table[TOKENS] * jnp.arange(3), normal(6, 3)),
    "sorted": (lambda x: jnp.sort(x)[::2] * x[jnp.argsort(x)[0]], normal(7)),
    "solved": (lambda x: jnp.linalg.solve(WEIGHTS + 3 * jnp.eye(4), jnp.sin(x)), normal(4)),
    "spectrum": (lambda x: jnp.abs(jnp.fft.rfft(x)), normal(8)),
    "softplus": (lambda x: jax.nn.softplus(x) * jax.nn.gelu(x), normal(5)),
    "python numbers": (lambda x: 2 * x**3 - x / 3 + 1, normal(4)),
    "integers": (lambda x: x[jnp.arange(3) % 2] * jnp.arange(3) + len(x), normal(4)),
}
NUMBERS = {
    "springs": (springs, POINTS),
    "likelihood": (likelihood, jnp.array([0.5, 1.0])),
    "log-sum-exp": (lambda x: jax.nn.logsumexp(jnp.sin(x) @ x), normal(4, 4)),
    "norms": (lambda x: jnp.linalg.norm(x, axis=0).sum() + jnp.linalg.norm(x), normal(3, 3)),
    "determinant": (lambda x: jnp.linalg.slogdet(x @ x.T + jnp.eye(3))[1], normal(3, 3)),
    "recurrent": (lambda x: jnp.sum(recurrent(x) ** 2), normal(4, 4)),
}


def compare(found, wanted, rtol=1e-11):
    """The share of digits that a chain of some operations leaves right, and JAX's dtypes."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (one.shape, one.dtype) == (two.shape, two.dtype)
        one, two = (np.asarray(value, np.promote_types(float, np.float32)) for value in (one, two))
        scale = np.abs(two).max(initial=1.0)
        assert_close(one / scale, two.astype(one.dtype) / scale, rtol, rtol)


@pytest.mark.parametrize("order", ["forward", "reverse", "auto"])
@pytest.mark.parametrize("name", MAPS)
def test_maps(name, order):
    function, x = MAPS[name]
    orders = {"forward": jax.jacfwd, "reverse": jax.jacrev, "auto": jax.jacfwd}
    if name == "root by a loop" and order == "reverse":
        pytest.skip("a loop of unknown length has no way back in JAX")
    wanted = jax.jit(orders[order](function))(x)
    compare(jax.jit(blockjac.jacobian(function, order=order))(x), wanted)
    if order == "auto":
        compare(blockjac.block_jacobian(function)(x).dense(), wanted)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name):
    function, x = NUMBERS[name]
    compare(jax.jit(blockjac.value_and_grad(function))(x), jax.value_and_grad(function)(x))
    hessian = jax.jit(jax.hessian(function))(x)
    compare(jax.jit(blockjac.hessian(function))(x), hessian, 1e-10)
    compare(blockjac.hvp(function, x, x), jnp.tensordot(hessian, x, x.ndim), 1e-10)


def test_a_network_on_a_table():
    data = TABLE, LABELS
    compare(jax.jit(blockjac.grad(loss))(NETWORK, *data), jax.grad(loss)(NETWORK, *data))

    def losses(parameters, table, labels):
        return jax.vmap(lambda x, y: loss(parameters, x[None], y[None]))(table, labels)

    rows = blockjac.per_example_grad(losses)(NETWORK, *data)
    wanted = jax.jit(jax.jacrev(losses))(NETWORK, *data)
    is_block = lambda leaf: isinstance(leaf, blockjac.Block)  # noqa: E731
    compare(jax.tree.map(lambda row: row.dense(), rows, is_leaf=is_block), wanted)
    x = TABLE[0]
    laplacian = blockjac.laplacian(lambda x: jnp.sum(network(NETWORK, x)))(x)
    compare(
        laplacian, jnp.trace(jax.jit(jax.hessian(lambda x: jnp.sum(network(NETWORK, x))))(x)), 1e-10
    )


def test_a_sparse_jacobian():
    found = blockjac.sparse_jacobian(forces)(POINTS)
    compare(jnp.reshape(found.todense(), (9, 2, 9, 2)), jax.jit(jax.jacfwd(forces))(POINTS))


def test_the_defaults_of_jax_are_what_this_file_is_about():
    """With nothing set, what comes out is float32, and the first line of a user's program works."""
    program = """
import jax, jax.numpy as jnp, blockjac
block = blockjac.block_jacobian(lambda x: jnp.sin(x)[jnp.array([2, 0])] * 2)(jnp.arange(3))
"""
    settings = ("JAX_ENABLE_X64", "JAX_DISABLE_MOST_OPTIMIZATIONS")
    environment = {name: value for name, value in os.environ.items() if name not in settings}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "TypeError" in done.stderr
    assert "int32" in done.stderr
    done = subprocess.run(
        [sys.executable, "-c", program.replace("arange(3)", "arange(3.0)") + "print(block.dtype)"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "float32"
