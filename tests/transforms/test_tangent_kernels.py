"""Tangent kernels, beside the product of Jacobians by JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.per_example_programs import D, H, T, array, random_program, recurrent, whole

import blockjac
from blockjac.errors import ArgumentError, BlockShapeError, DifferentiationTypeError

pytestmark = pytest.mark.slow

N1, N2, OUT = 4, 3, 2


def network(params, x):
    return jnp.tanh(x @ params["W"] + params["b"]) @ params["V"]


def convolution(params, x):
    y = jax.lax.conv_general_dilated(
        x, params["K"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.einsum("nijc,co->no", jax.nn.relu(y + params["b"]), params["V"])


def sequence(params, x):
    """Weights that are shared over time, and a result over time."""
    return jnp.tanh(x @ params["W"]) @ params["V"]


def over_time(params, x):
    return jnp.stack([recurrent(params, x), recurrent(params, 2 * x)], axis=1)


def embedding(params, tokens):
    return jnp.sum(jnp.tanh(params["E"][tokens]) @ params["V"], axis=1)


WEIGHTS = {"W": array(D, H), "b": array(H), "V": array(H, OUT)}

CASES = {
    "network": (network, WEIGHTS, array(N1, D), array(N2, D)),
    "tree of inputs": (
        lambda p, x: network(p, x["a"]) * x["b"],
        WEIGHTS,
        {"a": array(N1, D), "b": array(N1, 1)},
        {"a": array(N2, D), "b": array(N2, 1)},
    ),
    "convolution": (
        convolution,
        {"K": array(3, 3, 2, 4), "b": array(4), "V": array(4, OUT)},
        array(N1, 5, 5, 2),
        array(N2, 5, 5, 2),
    ),
    "over time": (sequence, WEIGHTS, array(N1, T, D), array(N2, T, D)),
    "recurrent": (
        over_time,
        {
            "W": array(D, 12),
            "U": array(H, 12),
            "Z": array(D, H),
            "b": array(12),
            "V": array(H, OUT),
        },
        array(N1, T, D),
        array(N2, T, D),
    ),
    "embedding": (
        embedding,
        {"E": array(10, H), "V": array(H, OUT)},
        whole(N1, T, below=10),
        whole(N2, T, below=10),
    ),
    "no output axes": (lambda p, x: network(p, x)[:, 0], WEIGHTS, array(N1, D), array(N2, D)),
    "batch norm": (
        lambda p, x: network(p, x) - jnp.mean(network(p, x), axis=0),
        WEIGHTS,
        array(N1, D),
        array(N2, D),
    ),
    "not used": (lambda p, x: x[:, :2] * 3.0, WEIGHTS, array(N1, D), array(N2, D)),
    "one output": (
        lambda p, x: network(p, x)[:, :1],
        WEIGHTS,
        array(1, D),
        array(N2, D),
    ),
}


def rows(fun, params, x):
    jacobian = jax.jit(jax.jacrev(fun))(params, x)
    shape = jax.eval_shape(fun, params, x).shape
    leaves = [leaf.reshape(*shape, -1) for leaf in jax.tree.leaves(jacobian)]
    return jnp.concatenate(leaves, axis=-1)


def kernel(fun, params, x1, x2):
    """`(N1, N2, *out, *out)`."""
    product = jnp.tensordot(rows(fun, params, x1), rows(fun, params, x2), [[-1], [-1]])
    return jnp.moveaxis(product, product.ndim // 2, 1)


def same(found, wanted, rtol=1e-9):
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_all_outputs(name):
    fun, params, x1, x2 = CASES[name]
    same(blockjac.ntk(fun)(params, x1, x2), kernel(fun, params, x1, x2))
    same(jax.jit(blockjac.ntk(fun))(params, x1), kernel(fun, params, x1, x1))


def traced(full, axes, diagonal=()):
    """What is left of a kernel `(N1, N2, *out, *out)`, axes counted as those of the result."""
    rank = full.ndim // 2
    letters = "abcdef"
    first = ["n", *letters[: rank - 1]]
    second = ["m", *letters[rank - 1 : 2 * rank - 2]]
    for axis in (*axes, *diagonal):
        second[axis] = first[axis]
    size = np.prod([full.shape[axis + 1] for axis in axes])
    out = [one for axis, one in enumerate(first) if axis not in axes]
    out2 = [one for axis, one in enumerate(second) if axis not in (*axes, *diagonal)]
    out = [
        *(one for one in out if one == "n"),
        *(one for one in out2 if one == "m"),
        *(one for one in out if one != "n"),
        *(one for one in out2 if one != "m"),
    ]
    subscripts = "".join([first[0], second[0], *first[1:], *second[1:]])
    return jnp.einsum(f"{subscripts}->{''.join(out)}", full) / size


AXES = [
    ((1,), ()),
    ((), (1,)),
    ((2,), (1,)),
    ((1,), (2,)),
    ((1, 2), ()),
    ((), (1, 2)),
    ((-1,), (-2,)),
]


@pytest.mark.parametrize(("trace", "diagonal"), AXES)
@pytest.mark.parametrize("same_batch", [False, True])
def test_diagonals_and_traces(trace, diagonal, same_batch):
    fun, params, x1, x2 = CASES["over time"]
    x2 = x1 if same_batch else x2
    found = blockjac.ntk(fun, trace_axes=trace, diagonal_axes=diagonal)
    wanted = traced(kernel(fun, params, x1, x2), [a % 3 for a in trace], [a % 3 for a in diagonal])
    same(found(params, x1, None if same_batch else x2), wanted)


@pytest.mark.parametrize("name", ["network", "convolution", "recurrent", "embedding"])
@pytest.mark.parametrize(
    "options", [{"trace_axes": -1}, {"diagonal_axes": -1}], ids=["trace", "diagonal"]
)
def test_logits(name, options):
    fun, params, x1, x2 = CASES[name]
    full = kernel(fun, params, x1, x2)
    wanted = traced(full, *(([1], []) if "trace_axes" in options else ([], [1])))
    same(blockjac.ntk(fun, **options)(params, x1, x2), wanted)


def test_the_kernel_of_each_example_with_itself():
    fun, params, x1, _ = CASES["network"]
    wanted = jnp.einsum("nnij->nij", kernel(fun, params, x1, x1))
    same(blockjac.ntk(fun, diagonal_axes=0)(params, x1), wanted)
    same(blockjac.ntk(fun, diagonal_axes=0)(params, x1, 1.0 * x1), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(16))
def test_of_random_programs(seed):
    outputs, params, x1 = random_program(100 + seed)
    x2 = jnp.sin(3 * x1[:2])
    same(blockjac.ntk(outputs)(params, x1, x2), kernel(outputs, params, x1, x2), 1e-8)


def test_batched_and_differentiated():
    fun, params, x1, x2 = CASES["network"]
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, 1.1 * leaf]), params)
    wanted = jax.vmap(lambda params: kernel(fun, params, x1, x2))(several)
    same(jax.jit(jax.vmap(blockjac.ntk(fun), (0, None, None)))(several, x1, x2), wanted)
    ours = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(blockjac.ntk(fun)(params, x, x2)))))
    theirs = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(kernel(fun, params, x, x2)))))
    same(ours(x1), theirs(x1), 1e-8)


def test_keywords_aux_and_a_jitted_function():
    runs = []

    @jax.jit
    def fun(params, x, *, scale):
        runs.append(1)
        return scale * network(params, x), {"mean": jnp.mean(x)}

    _, params, x1, x2 = CASES["network"]
    transform = blockjac.ntk(fun, has_aux=True)
    found, (first, second) = transform(params, x1, x2, scale=2.0)
    same(found, 4 * kernel(network, params, x1, x2))
    np.testing.assert_allclose([first["mean"], second["mean"]], [jnp.mean(x1), jnp.mean(x2)])
    count = len(runs)
    transform(params, x1, 2 * x2, scale=3.0)
    assert len(runs) == count
    _, aux = transform(params, x1, scale=2.0)
    np.testing.assert_allclose(aux["mean"], jnp.mean(x1))


def test_no_jacobian_is_written():
    """`N O P` numbers are 134 MB here; the kernel takes little more than the parameters."""
    params = {"W": array(400, 500), "b": array(500), "V": array(500, 8)}
    x1, x2 = array(10, 400), array(9, 400)
    compiled = jax.jit(blockjac.ntk(network)).lower(params, x1, x2).compile()
    memory = compiled.memory_analysis()
    jacobian = 10 * 8 * sum(leaf.nbytes for leaf in params.values())
    assert memory.temp_size_in_bytes < jacobian / 50
    forward = jax.jit(network).lower(params, jnp.concatenate([x1, x2])).compile()
    passes = compiled.cost_analysis()["flops"] / forward.cost_analysis()["flops"]
    assert passes < 14  # forwards, backwards for each of 8 outputs, and small products


def test_misuse():
    fun, params, x1, x2 = CASES["network"]
    with pytest.raises(BlockShapeError, match=r"one array of shape \(N, \*out\), but .* gives"):
        blockjac.ntk(lambda p, x: {"a": fun(p, x), "b": x})(params, x1)
    with pytest.raises(
        BlockShapeError, match=r"one array of shape \(N, \*out\), but .* gives \(\)"
    ):
        blockjac.ntk(lambda p, x: jnp.sum(fun(p, x)))(params, x1)
    with pytest.raises(BlockShapeError, match=r"differ in the number of examples alone"):
        blockjac.ntk(lambda p, x: x @ x.T @ fun(p, x)[:, :1] @ fun(p, x)[:, 0][None])(
            params, x1, x2
        )
    with pytest.raises(BlockShapeError, match=r"trace_axes=\(2,\) names an axis that"):
        blockjac.ntk(fun, trace_axes=2)(params, x1)
    with pytest.raises(BlockShapeError, match="each axis once in"):
        blockjac.ntk(fun, trace_axes=1, diagonal_axes=-1)(params, x1)
    with pytest.raises(BlockShapeError, match="the same size of it for both"):
        blockjac.ntk(fun, diagonal_axes=0)(params, x1, x2)
    for bad in (True, "1", 1.5, None):
        with pytest.raises(ArgumentError, match=r"trace_axes is .* must be an axis"):
            blockjac.ntk(fun, trace_axes=bad)
    with pytest.raises(DifferentiationTypeError, match="ntk requires real-"):
        blockjac.ntk(lambda p, x: x * p)(jnp.arange(D), x1)
    with pytest.raises(DifferentiationTypeError, match=r"Expected a callable value .*ntk"):
        blockjac.ntk(3)
