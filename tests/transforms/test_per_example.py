"""Each example's gradient, norm, inner products and Jacobian, beside a `vmap` of JAX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.per_example_programs import (
    IMAGES,
    LABELS,
    PROGRAMS,
    SEQUENCES,
    TOKENS,
    C,
    D,
    H,
    N,
    T,
    X,
    array,
    network,
    random_program,
    same,
    whole,
)

import blockjac
from blockjac import Block
from blockjac.errors import ArgumentError, BlockShapeError, DifferentiationTypeError
from blockjac.planning.jaxpr_cost import operations

pytestmark = pytest.mark.slow

NETWORK = {"W": array(D, H), "b": array(H), "V": array(H, C)}


def residual(params, x):
    h = x + jnp.tanh(x @ params["A"]) @ params["B"]
    return jnp.sum((h + jnp.tanh(h @ params["A"])[:, :D]) ** 2, axis=-1)


def shared_over_time(W, x):
    return jnp.sum(jnp.tanh(x @ W) ** 2, axis=(1, 2))


def embedding(params, tokens):
    return jnp.sum(jnp.sin(params["E"][tokens] @ params["W"]) ** 2, axis=(1, 2))


def recurrent(params, x):
    def cell(carry, x):
        h, c = carry
        gates = jax.nn.sigmoid(x @ params["W"] + h @ params["U"])
        c = gates[:, :H] * c + gates[:, H:] * jnp.tanh(x @ params["Z"])
        h = jnp.tanh(c)
        return (h, c), None

    start = jnp.zeros((x.shape[0], H)), jnp.zeros((x.shape[0], H))
    (h, _), _ = lax.scan(cell, start, jnp.swapaxes(x, 0, 1))
    return jnp.sum(h**2, axis=-1)


def recurrent_by_a_product(params, x):
    """All uses of the weight are in the loop, and it is computed before; it is used after, too."""
    weight = params["A"] @ params["B"]

    def cell(h, x):
        return jnp.tanh(h @ weight + x), None

    h, _ = lax.scan(cell, jnp.zeros((x.shape[0], D)), jnp.swapaxes(x, 0, 1))
    start = jnp.tanh(params["g"] * weight)
    bias = lax.scan(lambda c, _: (jnp.tanh(c @ params["A"] @ params["B"]), None), start, length=2)[
        0
    ]
    h = lax.fori_loop(0, 2, lambda _, h: jnp.sin(h @ bias), h)
    return jnp.sum(h**2, axis=-1)


def attention(params, x):
    q, k, v = (x @ params[name] for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("ntd,nsd->nts", q, k))
    return jnp.sum(jnp.einsum("nts,nsd->ntd", weights, v) ** 2, axis=(1, 2))


def convolution(params, x):
    y = lax.conv_general_dilated(
        x, params["K"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.mean(jnp.tanh(y + params["b"]) ** 2, axis=(1, 2, 3))


def normed(params, x):
    """Batch norm: the loss of an example depends on the others."""
    z = x @ params["W"]
    z = (z - jnp.mean(z, axis=0)) / jnp.sqrt(jnp.var(z, axis=0) + 1e-3)
    return jnp.sum(jnp.tanh(z) * params["g"], axis=-1)


def by_vmap(one, params, x):
    return jax.vmap(one, (None, 0))(params, x)


LOSSES = {
    "network": (network, NETWORK, (X, LABELS)),
    "residual": (residual, {"A": array(D, H), "B": array(H, D)}, (X,)),
    "shared over time": (shared_over_time, array(D, H), (SEQUENCES,)),
    "embedding": (embedding, {"E": array(10, D), "W": array(D, H)}, (TOKENS,)),
    "recurrent": (
        recurrent,
        {"W": array(D, 2 * H), "U": array(H, 2 * H), "Z": array(D, H)},
        (SEQUENCES,),
    ),
    "recurrent by a product": (
        recurrent_by_a_product,
        {"A": array(D, 2), "B": array(2, D), "g": array(D)},
        (SEQUENCES,),
    ),
    "attention": (attention, {name: array(D, D) for name in "qkv"}, (SEQUENCES,)),
    "convolution": (convolution, {"K": array(3, 3, 2, 3), "b": array(3)}, (IMAGES,)),
    "batch norm": (normed, {"W": array(D, H), "g": array(H)}, (X,)),
    "of vmap": (
        functools.partial(by_vmap, lambda w, x: jnp.sin(w @ x) ** 2),
        array(D),
        (X,),
    ),
    "scalar parameter": (lambda a, x: jnp.sum(jnp.sin(a * x), axis=1), jnp.array(0.3), (X,)),
    "python float": (lambda a, x: jnp.sum(a * x, axis=1), 0.3, (X,)),
    "own numbers": (lambda x: jnp.sum(x**3, axis=1), X, ()),
    "parameter of an example": (lambda b, x: jnp.sin(b) * jnp.sum(x, axis=1), array(N), (X,)),
    "not used": (lambda p, x: jnp.sum(x * p["a"], axis=1), {"a": array(D), "b": array(2)}, (X,)),
    "one example": (network, NETWORK, (X[:1], LABELS[:1])),
    "no example": (network, NETWORK, (X[:0], LABELS[:0])),
    "empty parameter": (lambda p, x: x[:, 0] + jnp.sum(p), jnp.zeros((0, 2)), (X,)),
    "float32": (shared_over_time, array(D, H).astype(jnp.float32), (np.float32(SEQUENCES),)),
}


def dense(tree):
    return jax.tree.map(Block.dense, tree, is_leaf=lambda leaf: isinstance(leaf, Block))


def jacobian_of(losses, params, batch):
    return jax.jit(jax.jacrev(losses))(jax.tree.map(jnp.asarray, params), *batch)


def norms_of(jacobian):
    leaves = jax.tree.leaves(jacobian)
    return jnp.sqrt(sum(jnp.sum(leaf**2, axis=tuple(range(1, leaf.ndim))) for leaf in leaves))


def gram_of(jacobian):
    leaves = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(jacobian)]
    return sum(leaf @ leaf.T for leaf in leaves)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "no example"])
def test_gradients_norms_and_gram(name):
    losses, params, batch = LOSSES[name]
    wanted = jacobian_of(losses, params, batch)
    same(dense(blockjac.per_example_grad(losses)(params, *batch)), wanted)
    same(blockjac.per_example_norms(losses)(params, *batch), norms_of(wanted))
    same(jax.jit(blockjac.per_example_gram(losses))(params, *batch), gram_of(wanted))


def test_no_example():
    losses, params, batch = LOSSES["no example"]
    found = dense(blockjac.per_example_grad(losses)(params, *batch))
    assert jax.tree.map(jnp.shape, found) == {"W": (0, D, H), "b": (0, H), "V": (0, H, C)}
    assert blockjac.per_example_norms(losses)(params, *batch).shape == (0,)
    assert blockjac.per_example_gram(losses)(params, *batch).shape == (0, 0)


def test_it_is_the_gradient_of_each_example_alone():
    """What one would write with `vmap(grad)` by hand, where examples do not meet."""

    def alone(params, x, labels):
        return network(params, x[None], labels[None])[0]

    wanted = jax.vmap(jax.grad(alone), (None, 0, 0))(NETWORK, X, LABELS)
    same(dense(blockjac.per_example_grad(network)(NETWORK, X, LABELS)), wanted)


def test_with_batch_norm_it_is_a_row_of_the_jacobian():
    """And not the gradient of the example alone, whose mean and variance are other ones."""
    losses, params, batch = LOSSES["batch norm"]
    found = dense(blockjac.per_example_grad(losses)(params, *batch))
    alone = jax.grad(lambda params: losses(params, X[:1])[0])(params)
    assert not np.allclose(found["W"][0], alone["W"])
    total = jax.grad(lambda params: jnp.sum(losses(params, X)))(params)
    same(jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), found), total)


def test_argnums_and_keywords():
    def losses(W, x, V, *, scale, power=2):
        return jnp.sum((jnp.tanh(x @ W) @ V * scale) ** power, axis=1)

    args, keywords = (NETWORK["W"], X, NETWORK["V"]), {"scale": LABELS, "power": 3}
    wanted = jax.jit(jax.jacrev(losses, (2, 0)))(*args, **keywords)
    same(dense(blockjac.per_example_grad(losses, (2, 0))(*args, **keywords)), wanted)
    same(blockjac.per_example_norms(losses, (2, 0))(*args, **keywords), norms_of(wanted))
    same(blockjac.per_example_gram(losses, (2, 0))(*args, **keywords), gram_of(wanted))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["reverse", "forward", "greedy", blockjac.Search(steps=20)])
@pytest.mark.parametrize("name", ["network", pytest.param("recurrent", marks=pytest.mark.slow)])
def test_any_order(name, order):
    losses, params, batch = LOSSES[name]
    wanted = jacobian_of(losses, params, batch)
    same(dense(blockjac.per_example_grad(losses, order=order)(params, *batch)), wanted)
    same(blockjac.per_example_norms(losses, order=order)(params, *batch), norms_of(wanted))


@pytest.mark.parametrize("name", ["network", "shared over time", "embedding", "convolution"])
def test_batched_and_differentiated(name):
    losses, params, batch = LOSSES[name]
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, 1.1 * leaf]), params)
    every = (0, *(None for _ in batch))
    wanted = jax.vmap(lambda params: norms_of(jacobian_of(losses, params, batch)))(several)
    same(jax.jit(jax.vmap(blockjac.per_example_norms(losses), every))(several, *batch), wanted)
    blocks = jax.vmap(blockjac.per_example_grad(losses), every)(several, *batch)
    same(dense(blocks), jax.vmap(lambda params: jacobian_of(losses, params, batch))(several))

    found = jax.jit(jax.grad(lambda p: jnp.sum(blockjac.per_example_norms(losses)(p, *batch))))
    theirs = jax.grad(lambda params: jnp.sum(norms_of(jacobian_of(losses, params, batch))))
    same(found(params), theirs(params), 1e-8)


def test_a_norm_is_no_root_of_less_than_zero():
    """Two terms that cancel: what is left of their squares may be rounded below 0."""

    scale, halves = array(N, H), (slice(None, 2), slice(2, None))

    def losses(W, x):
        parts = sum(x[:, half] @ W[half] for half in halves)
        return jnp.sum((x @ W - parts) * scale, axis=1)

    blocks = blockjac.per_example_grad(losses)(NETWORK["W"], X)
    assert len(blocks.terms) == 3  # or nothing is left that could be rounded
    found = blockjac.per_example_norms(losses)(NETWORK["W"], X)
    np.testing.assert_allclose(found, 0, atol=1e-6)


# What stays apart, and what it costs


def test_gradients_stay_in_factors():
    blocks = blockjac.per_example_grad(network)(NETWORK, X, LABELS)
    assert blocks["W"].stored == N * (D + H)
    assert blocks["V"].stored == N * (H + C)
    assert blocks["b"].stored == N * H


def test_gradients_by_an_embedding_keep_their_lookups():
    """A row a token, not a table an example; and what is not looked up is not stored."""
    table = array(1000, D)
    losses = lambda E, tokens: jnp.sum(jnp.sin(E[tokens]), axis=(1, 2))  # noqa: E731
    block = blockjac.per_example_grad(losses)(table, TOKENS)
    assert block.shape == (N, 1000, D)
    assert block.stored <= N * T * (D + 1)
    assert "lookup" in block.structure


def emitted(fun, *args):
    return operations(jax.make_jaxpr(fun)(*args))


def extra(fun, losses, *args):
    """Multiplications beyond those of the reverse pass to all losses at once."""
    return (
        emitted(fun(losses), *args).multiplications
        - emitted(blockjac.per_example_grad(losses), *args).multiplications
    )


def widest(jaxpr):
    """Entries of the largest array of a program."""
    sizes = [
        np.prod(variable.aval.shape, dtype=int)
        for equation in jaxpr.jaxpr.eqns
        for variable in equation.outvars
    ]
    return max(sizes)


ROWS, IN, OUT = 32, 40, 50


@pytest.fixture(scope="module")
def layer():
    losses = lambda W, x: jnp.sum(jnp.tanh(x @ W), axis=1)  # noqa: E731
    return losses, array(IN, OUT), array(ROWS, IN)


def test_norms_of_a_layer_cost_its_sides(layer):
    """`|x[n]|^2 |q[n]|^2`: N (k + h) products, and nothing of N k h entries."""
    assert extra(blockjac.per_example_norms, *layer) <= ROWS * (IN + OUT + 2)
    losses, *args = layer
    assert widest(jax.make_jaxpr(blockjac.per_example_norms(losses))(*args)) <= IN * OUT


def test_gram_matrix_of_a_layer_costs_its_sides(layer):
    """`(x[n] . x[m]) (q[n] . q[m])`: N^2 (k + h) products, not N^2 k h."""
    assert extra(blockjac.per_example_gram, *layer) <= ROWS**2 * (IN + OUT + 2)


def over_time(W, x):
    return jnp.sum(jnp.tanh(x @ W), axis=(1, 2))


def without(params, x):
    """Multiplications of the losses and of the derivative of `tanh`: what both ways need."""
    entries = x.shape[0] * x.shape[1] * params.shape[1]
    return emitted(over_time, params, x).multiplications + 2 * entries


def test_norms_of_weights_shared_over_time_form_no_gradient():
    """`sum over t, u  (x[n,t] . x[n,u]) (q[n,t] . q[n,u])`: N T^2 (k + h) products, not N T k h."""
    W, x, steps = array(IN, OUT), array(ROWS, 4, IN), 4
    found = emitted(blockjac.per_example_norms(over_time), W, x).multiplications - without(W, x)
    assert found <= ROWS * steps**2 * (IN + OUT + 2) < ROWS * steps * IN * OUT
    program = jax.make_jaxpr(blockjac.per_example_norms(over_time))(W, x)
    assert widest(program) < ROWS * IN * OUT


def test_norms_over_a_long_time_form_the_gradient():
    W, x, steps = array(8, 9), array(ROWS, 60, 8), 60
    found = emitted(blockjac.per_example_norms(over_time), W, x).multiplications - without(W, x)
    assert found <= ROWS * (steps + 1) * 8 * 9 < ROWS * steps**2 * (8 + 9)


def test_norms_of_an_embedding_never_write_the_table():
    table, tokens = array(1000, D), whole(N, T, below=1000)
    losses = lambda E, tokens: jnp.sum(jnp.sin(E[tokens]), axis=(1, 2))  # noqa: E731
    program = jax.make_jaxpr(blockjac.per_example_norms(losses))(table, tokens)
    assert widest(program) <= N * T * max(D, T)


# Misuse


OF_LOSSES = ["per_example_grad", "per_example_norms", "per_example_gram"]


def outputs(params, x):
    return jnp.tanh(x @ params["W"]) @ params["V"]


VECTORS = {
    "network": (outputs, {"W": array(D, H), "V": array(H, C)}, (X,)),
    "over time": (outputs, {"W": array(D, H), "V": array(H, C)}, (SEQUENCES,)),
    "tree of results": (
        lambda p, x: {"y": outputs(p, x), "norm": jnp.sum(outputs(p, x) ** 2, axis=1)},
        {"W": array(D, H), "V": array(H, C)},
        (X,),
    ),
    "embedding": (
        lambda p, i: jnp.tanh(p["E"][i] @ p["W"]),
        {"E": array(10, D), "W": array(D, C)},
        (TOKENS,),
    ),
    "convolution": (
        lambda K, x: lax.conv_general_dilated(
            x, K, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        array(3, 3, 2, 3),
        (IMAGES,),
    ),
    "losses": LOSSES["network"],
}


@pytest.mark.parametrize("name", VECTORS)
def test_jacobians_of_vectors(name):
    fun, params, batch = VECTORS[name]
    found = blockjac.per_example_jacobian(fun)(params, *batch)
    same(dense(found), jacobian_of(fun, params, batch))
    same(dense(jax.jit(blockjac.per_example_jacobian(fun))(params, *batch)), dense(found))


def test_jacobians_of_vectors_stay_in_factors():
    fun, params, batch = VECTORS["network"]
    blocks = blockjac.per_example_jacobian(fun)(params, *batch)
    assert blocks["V"].shape == (N, C, H, C)
    assert blocks["V"].stored == N * H  # and a delta of the outputs
    assert blocks["W"].stored <= N * (D + H) + H * C


OVER_TIME = {
    "shared over time": (
        lambda W, x: jnp.sum(jnp.tanh(x @ W) ** 2, axis=2),
        array(D, H),
        (SEQUENCES,),
    ),
    "attention": (
        lambda W, x: jnp.sum(jax.nn.softmax(x @ W @ jnp.swapaxes(x @ W, 1, 2)) @ x, axis=2),
        array(D, H),
        (SEQUENCES,),
    ),
    "recurrent": (
        lambda p, x: (
            jnp.sum(
                lax.scan(
                    lambda h, x: (jnp.tanh(x @ p["W"] + h @ p["U"]),) * 2,
                    jnp.zeros((N, H)),
                    jnp.swapaxes(x, 0, 1),
                )[1],
                axis=2,
            ).T
        ),
        {"W": array(D, H), "U": array(H, H)},
        (SEQUENCES,),
    ),
}


@pytest.mark.parametrize("name", OVER_TIME)
def test_several_batch_axes(name):
    losses, params, batch = OVER_TIME[name]
    wanted = jacobian_of(losses, params, batch)
    same(dense(blockjac.per_example_grad(losses, batch_axes=2)(params, *batch)), wanted)
    same(dense(blockjac.per_example_jacobian(losses, batch_axes=2)(params, *batch)), wanted)
    flat = jax.tree.map(lambda leaf: leaf.reshape(N * T, *leaf.shape[2:]), wanted)
    found = blockjac.per_example_norms(losses, batch_axes=2)(params, *batch)
    same(found, norms_of(flat).reshape(N, T))
    found = blockjac.per_example_gram(losses, batch_axes=2)(params, *batch)
    same(found, gram_of(flat).reshape(N, T, N, T))


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_norms_and_gram_of_every_kind_of_network(name):
    losses, params, batch = PROGRAMS[name]
    wanted = jacobian_of(losses, params, batch)
    same(dense(blockjac.per_example_grad(losses)(params, *batch)), wanted)
    same(blockjac.per_example_norms(losses)(params, *batch), norms_of(wanted))
    same(jax.jit(blockjac.per_example_gram(losses))(params, *batch), gram_of(wanted))


@pytest.mark.parametrize("seed", range(12))
def test_norms_and_gram_of_random_programs(seed):
    outputs, params, x = random_program(200 + seed)
    losses = lambda params, x: jnp.sum(outputs(params, x) ** 2, axis=1)  # noqa: E731
    wanted = jacobian_of(losses, params, (x,))
    same(blockjac.per_example_norms(losses)(params, x), norms_of(wanted), 1e-8)
    same(blockjac.per_example_gram(losses)(params, x), gram_of(wanted), 1e-8)


def test_misuse_of_batch_axes():
    losses, params, batch = LOSSES["network"]
    for name in ("per_example_jacobian", *OF_LOSSES):
        for bad in (0, -1, 1.0, True, "1"):
            with pytest.raises(ArgumentError, match=r"batch_axes is .* must be the number of"):
                getattr(blockjac, name)(losses, batch_axes=bad)
    with pytest.raises(BlockShapeError, match=r"shape \(N, T\), but .* gives \(4,\); sum"):
        blockjac.per_example_norms(losses, batch_axes=2)(params, *batch)
    with pytest.raises(
        BlockShapeError, match=r"\(N, T, \.\.\.\) with the same examples .* \[\(4,\)\]"
    ):
        blockjac.per_example_jacobian(losses, batch_axes=2)(params, *batch)
    with pytest.raises(BlockShapeError, match=r"gives arrays of \[\(4, 5\), \(3,\)\]"):
        blockjac.per_example_jacobian(lambda w, x: (x * w, w[:3]))(array(D), X)


@pytest.mark.parametrize("name", OF_LOSSES)
def test_misuse(name):
    transform = getattr(blockjac, name)
    with pytest.raises(BlockShapeError, match=rf"{name} needs one loss .* gives \(4, 6\); sum"):
        transform(lambda W, x: x @ W)(NETWORK["W"], X)
    with pytest.raises(BlockShapeError, match=r"array of shape \(N,\), but .* gives \(\)"):
        transform(lambda W, x: jnp.sum(x @ W))(NETWORK["W"], X)
    with pytest.raises(BlockShapeError, match=r"gives 2 arrays \[\(4,\), \(4,\)\]"):
        transform(lambda w, x: (x @ w, x @ w))(array(D), X)
    with pytest.raises(DifferentiationTypeError, match=f"{name} requires real- or complex-valued"):
        transform(lambda w, x: x @ w)(jnp.arange(D), X)
    with pytest.raises(DifferentiationTypeError, match="requires real-valued inputs"):
        transform(lambda w, x: jnp.real(x @ w))(array(D) + 1j, X)
    with pytest.raises(DifferentiationTypeError, match="requires real-valued outputs"):
        transform(lambda w, x: jnp.arange(N))(array(D), X)
    with pytest.raises(ArgumentError, match="argnums=5 requires at least 6 positional"):
        transform(lambda w, x: x @ w, 5)(array(D), X)
    with pytest.raises(DifferentiationTypeError, match=rf"Expected a callable value .*{name}"):
        transform(None)
