"""On an accelerator the main functions give what they give on the processor; skipped without one.

`JAX_PLATFORMS=cuda,cpu python -m pytest tests/test_accelerators.py` runs it on a GPU of NVIDIA.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import devices

RANDOM = np.random.default_rng(0)
HAS_ACCELERATOR = jax.default_backend() != "cpu"

pytestmark = pytest.mark.skipif(not HAS_ACCELERATOR, reason="there is no accelerator")


def normal(*shape):
    return RANDOM.normal(size=shape)


def network(W1, b1, W2, X):
    return jax.nn.sigmoid(X @ W1 + b1) @ W2


def losses(W1, b1, W2, X, Y):
    return -jnp.sum(Y * jax.nn.log_softmax(network(W1, b1, W2, X)), axis=1)


def loss(*arguments):
    return jnp.mean(losses(*arguments))


def model(params, X):
    return network(*params, X)


def cross_entropy(Y, Z):
    return -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(Z), axis=1))


def stencil(x):
    wide = jnp.pad(x, 1)
    return wide[2:] * x - 5 * x**3 + wide[:-2]


def wide_stencil(x):
    wide = jnp.pad(x, 3)
    return wide[6:] * x + 7 * x + wide[:-6]


def kernel(x):
    return jnp.sin(x[0]) * jnp.cos(x[1]) + jnp.sin(x[1] * x[2]) * jnp.cos(x[2])


def looped(x, w):
    def step(carry, _):
        return carry + 0.1 * jnp.sin(w * carry), carry[0]

    return jax.lax.scan(step, x, None, 20)[1]


def image_network(K, X):
    dimensions = ("NHWC", "HWIO", "NHWC")
    out = jax.lax.conv_general_dilated(X, K, (1, 1), "SAME", dimension_numbers=dimensions)
    return jnp.tanh(out)


NETWORK = (normal(5, 7), normal(1, 7), normal(7, 3), normal(20, 5))
TARGETS = np.eye(3)[RANDOM.integers(3, size=20)]
EXAMPLES = (*NETWORK, TARGETS)
BY_ALL = (0, 1, 2)
LEFT, RIGHT = normal(20, 20), normal(12, 12)
PERMUTATION = RANDOM.permutation(300)


def of_jacobian(method, function):
    """What a method of the Jacobian's Block gives for a vector."""

    def call(x, y):
        return method(blockjac.block_jacobian(function)(x), y)

    return call


def solved(function):
    return of_jacobian(blockjac.solve, function)


def all_of_factors(block, y):
    factors = blockjac.factorize(block)
    return factors.solve(y), factors.slogdet(), factors.inverse_diagonal()


def ggn_step(W1, b1, W2, X, Y):
    params = (W1, b1, W2)
    return blockjac.ggn(model, cross_entropy)(params, X, Y).solve(params, damping=0.1)


def kfac_step(W1, b1, W2, X, Y):
    params = (W1, b1, W2)
    return blockjac.kfac(model, cross_entropy)(params, X, Y).solve(params, damping=0.1)


def fisher(W1, b1, W2, X, Y):
    return blockjac.fisher(model, cross_entropy, mean=jax.nn.softmax)((W1, b1, W2), X, Y).dense()


def sparse_values(x):
    return blockjac.sparse_jacobian(stencil)(x).toarray()


def coordinates(x):
    array = blockjac.block_jacobian(stencil)(x).to_bcoo()
    return array.data, array.indices


def scalar_field(x, W1, b1, W2):
    return jnp.sum(network(W1, b1, W2, x) ** 2)


CASES = {
    "jacobian": (blockjac.jacobian(network, BY_ALL), NETWORK),
    "structured matvec": (
        of_jacobian(lambda block, y: block.matvec(y), lambda x: jnp.tanh(LEFT @ x @ RIGHT)),
        (normal(20, 12), normal(20, 12)),
    ),
    "gradient": (blockjac.grad(loss, BY_ALL), EXAMPLES),
    "hessian": (blockjac.hessian(loss, BY_ALL), EXAMPLES),
    "Hessian's product": (
        lambda *a: blockjac.hvp(lambda W: loss(W, *a[1:]), a[0], a[0]),
        EXAMPLES,
    ),
    "kernel at many points": (jax.vmap(blockjac.jacobian(kernel)), (normal(50, 3),)),
    "loop": (blockjac.jacobian(looped, (0, 1)), (normal(6), 0.7)),
    "gradient of a loop": (
        blockjac.grad(lambda x, w: jnp.sum(looped(x, w) ** 2), (0, 1)),
        (normal(6), 0.7),
    ),
    "convolution": (blockjac.jacobian(image_network), (normal(3, 3, 2, 4), normal(2, 8, 8, 2))),
    "per-example norms": (blockjac.per_example_norms(losses, BY_ALL), EXAMPLES),
    "per-example products": (blockjac.per_example_gram(losses, BY_ALL), EXAMPLES),
    "batch Jacobian": (
        blockjac.batch_jacobian(lambda X: network(*NETWORK[:3], X)),
        NETWORK[3:],
    ),
    "Gauss-Newton step": (ggn_step, EXAMPLES),
    "KFAC step": (kfac_step, EXAMPLES),
    "Fisher": (fisher, EXAMPLES),
    "laplacian": (blockjac.laplacian(scalar_field), (normal(1, 5), *NETWORK[:3])),
    "divergence": (blockjac.divergence(stencil), (normal(30),)),
    "sparse array of SciPy": (sparse_values, (normal(40),)),
    "sparse array of JAX": (coordinates, (normal(40),)),
    "diagonal system": (solved(lambda x: x**3 + 2 * x), (normal(40), normal(40))),
    "tridiagonal system": (of_jacobian(all_of_factors, stencil), (normal(300), normal(300))),
    "banded system": (of_jacobian(all_of_factors, wide_stencil), (normal(300), normal(300))),
    "sparse system": (
        of_jacobian(all_of_factors, lambda x: wide_stencil(x[PERMUTATION])),
        (normal(300), normal(300)),
    ),
    "separate systems": (
        of_jacobian(all_of_factors, lambda x: (jnp.tanh(x.reshape(-1, 3) @ LEFT[:3, :3])).ravel()),
        (normal(300), normal(300)),
    ),
    "batch of systems": (
        of_jacobian(all_of_factors, lambda x: 2 * x + jax.nn.softmax(x, -1)),
        (normal(7, 30), normal(7, 30)),
    ),
    "batch of bands": (
        of_jacobian(all_of_factors, jax.vmap(wide_stencil)),
        (normal(4, 200), normal(4, 200)),
    ),
    "Kronecker system": (solved(lambda v: LEFT @ v @ RIGHT), (normal(20, 12), normal(20, 12))),
    "rank one": (
        of_jacobian(all_of_factors, jax.grad(lambda v: jnp.sum(v) ** 2 + jnp.sum(v**4 + v**2))),
        (normal(200), normal(200)),
    ),
    "gradient through a sparse system": (
        jax.grad(
            lambda x, y: jnp.sum(solved(lambda x: wide_stencil(x[PERMUTATION]))(x, y) ** 2), (0, 1)
        ),
        (normal(300), normal(300)),
    ),
}

NOT_JITTED = ("sparse array of SciPy",)


def digits_of_solutions(name):
    """The share of the digits that is compared: solving a system loses some."""
    return 0.5 if any(word in name for word in ("system", "step", "rank")) else 0.75


@pytest.fixture(params=["as the device", "as a processor"])
def orders(request, monkeypatch):
    """Orders and ways to solve are chosen for the device, or as for a processor."""
    if request.param == "as a processor":
        monkeypatch.setitem(devices.KINDS, devices.kind(), devices.PLATFORMS["cpu"])
    _forget()
    yield
    monkeypatch.undo()
    _forget()


def _forget():
    devices._rates.cache_clear()
    blockjac.clear_caches()


def computed(name, dtype):
    function, arguments = CASES[name]
    arrays = [jnp.asarray(argument, dtype) for argument in arguments]
    way = function if name in NOT_JITTED else jax.jit(function)
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(way(*arrays))]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_accelerator_agrees_with_processor(name, dtype, orders):
    with jax.default_device(jax.devices("cpu")[0]):
        wanted = computed(name, "float64")
    with jax.default_matmul_precision("highest"):
        found = computed(name, dtype)
    near = float(np.finfo(dtype).eps) ** digits_of_solutions(name)
    for ours, theirs in zip(found, wanted, strict=True):
        scale = np.max(np.abs(theirs), initial=0.0)
        np.testing.assert_allclose(ours, theirs, rtol=near, atol=near * scale)
