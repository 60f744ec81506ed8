"""The sum of clipped gradients, beside the gradient of each example alone by JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.per_example_programs import (
    LABELS,
    PROGRAMS,
    SEQUENCES,
    N,
    X,
    array,
    network,
    random_program,
)

import blockjac
from blockjac.errors import ArgumentError, BlockShapeError, ExamplesMeetError

pytestmark = pytest.mark.slow


def alone(losses, params, batch):
    """The gradient of each example's loss, from a batch of it alone."""

    def loss(params, *example):
        return losses(params, *(part[None] for part in example))[0]

    return jax.jit(jax.vmap(jax.grad(loss), (None, *(0 for _ in batch))))(params, *batch)


def norms_of(gradients):
    leaves = jax.tree.leaves(gradients)
    return jnp.sqrt(sum(jnp.sum(leaf**2, axis=tuple(range(1, leaf.ndim))) for leaf in leaves))


def clipped(gradients, max_norm):
    """As it is defined: each scaled, then the sum."""
    norms = norms_of(gradients)
    scales = jnp.where(norms > max_norm, max_norm / norms, 1.0)
    return jax.tree.map(lambda leaf: jnp.tensordot(scales, leaf, 1), gradients), norms


def same(found, wanted, rtol=1e-9):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-11)


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_the_sum_of_clipped_gradients(name):
    losses, params, batch = PROGRAMS[name]
    gradients = alone(losses, params, batch)
    bound = float(jnp.median(norms_of(gradients))) or 1.0
    transform = blockjac.clipped_grad(losses, bound, return_norms=True)
    same(transform(params, *batch), clipped(gradients, bound))
    same(jax.jit(transform)(params, *batch), clipped(gradients, bound))


@pytest.mark.parametrize("seed", range(24))
def test_of_random_programs(seed):
    outputs, params, x = random_program(seed)
    losses = lambda params, x: jnp.sum(outputs(params, x) ** 2, axis=1)  # noqa: E731
    gradients = alone(losses, params, (x,))
    bound = float(jnp.median(norms_of(gradients)))
    found = blockjac.clipped_grad(losses, bound, return_norms=True)(params, x)
    same(found, clipped(gradients, bound), 1e-8)


@pytest.mark.parametrize("name", ["network", "recurrent", "convolution"])
def test_batched_and_differentiated(name):
    losses, params, batch = PROGRAMS[name]
    bound = float(jnp.median(norms_of(alone(losses, params, batch))))
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, 1.1 * leaf]), params)
    every = (0, *(None for _ in batch))
    ours = blockjac.clipped_grad(losses, bound)
    theirs = lambda p, *batch: clipped(alone(losses, p, batch), bound)[0]  # noqa: E731
    same(jax.jit(jax.vmap(ours, every))(several, *batch), jax.vmap(theirs, every)(several, *batch))

    def scalar(transform):
        def total(params):
            leaves = jax.tree.leaves(transform(params, *batch))
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in leaves)

        return jax.jit(jax.grad(total))

    same(scalar(ours)(params), scalar(theirs)(params), 1e-7)


def test_options():
    losses, params, batch = PROGRAMS["network"]
    wanted, _ = clipped(alone(losses, params, batch), 0.5)
    mean = blockjac.clipped_grad(losses, 0.5, normalize_by=N)(params, *batch)
    same(mean, jax.tree.map(lambda leaf: leaf / N, wanted))
    traced = jax.jit(lambda bound: blockjac.clipped_grad(losses, bound)(params, *batch))
    same(traced(0.5), wanted)
    same(blockjac.clipped_grad(losses, jnp.asarray(0.5))(params, *batch), wanted)

    def of_two(x, W, labels, V, *, scale):
        return scale * network({"W": W, "V": V, "b": 0.0}, x, labels)

    args = X, params["W"], LABELS, params["V"]
    gradients = jax.jit(jax.jacrev(of_two, (3, 1)))(*args, scale=2.0)
    same(blockjac.clipped_grad(of_two, 0.5, (3, 1))(*args, scale=2.0), clipped(gradients, 0.5)[0])


def test_a_shared_argument_is_said_to_be_one():
    def losses(W, x, rate, projection):
        return jnp.sum(jnp.tanh(rate * x @ W @ projection) ** 2, axis=1)

    W, projection = array(5, 6), array(6, 2)
    with pytest.raises(ArgumentError, match=r"shape \(6, 2\), as projection; .*batch_argnums="):
        blockjac.clipped_grad(losses, 1.0)(W, X, 0.5, projection)
    found = blockjac.clipped_grad(losses, 1.0, batch_argnums=1)(W, X, 0.5, projection)
    gradients = jax.jacrev(losses)(W, X, 0.5, projection)
    same(found, clipped(gradients, 1.0)[0])


def test_several_batch_axes_are_clipped_each_by_itself():
    def losses(W, x):
        return jnp.sum(jnp.tanh(x @ W) ** 2, axis=-1)

    W = array(5, 6)
    gradients = jax.jacrev(losses)(W, SEQUENCES)
    flat = gradients.reshape(-1, *W.shape)
    found, norms = blockjac.clipped_grad(losses, 3.0, batch_axes=2, return_norms=True)(W, SEQUENCES)
    wanted, flat_norms = clipped(flat, 3.0)
    same((found, norms), (wanted, flat_norms.reshape(SEQUENCES.shape[:2])))


def test_a_jitted_function_is_traced_once_for_each_bound():
    runs = []

    @jax.jit
    def losses(W, x):
        runs.append(1)
        return jnp.sum(jnp.tanh(x @ W) ** 2, axis=-1)

    W = array(5, 6)
    gradients = jax.jacrev(losses)(W, X)
    for bound in (0.5, 0.5, 3.0):
        transform = blockjac.clipped_grad(losses, bound)
        same(transform(W, X), clipped(gradients, bound)[0])
        count = len(runs)
        transform(2 * W, X)
        assert len(runs) == count


# Norms of zero, and of nothing finite


def test_a_gradient_of_zero_counts_as_zero():
    losses = lambda W, x: jnp.sum((x @ W) ** 2, axis=1)  # noqa: E731
    x, W = X.at[1].set(0.0), array(5, 6)
    found, norms = blockjac.clipped_grad(losses, 0.1, return_norms=True)(W, x)
    assert norms[1] == 0
    same(found, clipped(alone(losses, W, (x,)), 0.1)[0])
    slope = jax.grad(lambda W: jnp.sum(blockjac.clipped_grad(losses, 0.1)(W, x) ** 2))(W)
    assert jnp.all(jnp.isfinite(slope))


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_what_is_not_finite_counts_as_zero(bad):
    losses, params, (x, labels) = PROGRAMS["network"]
    broken = x.at[2, 1].set(bad)
    rest = np.array([0, 1, 3])
    wanted, _ = clipped(alone(losses, params, (x[rest], labels[rest])), 0.5)
    found, norms = blockjac.clipped_grad(losses, 0.5, return_norms=True)(params, broken, labels)
    assert not np.isfinite(norms[2])
    same(found, wanted)
    unsafe = blockjac.clipped_grad(losses, 0.5, nan_safe=False)
    assert not np.isfinite(unsafe(params, broken, labels)["W"]).all()
    same(unsafe(params, x, labels), clipped(alone(losses, params, (x, labels)), 0.5)[0])


# Examples that meet


def batch_norm(params, x):
    z = x @ params
    z = (z - jnp.mean(z, axis=0)) / jnp.sqrt(jnp.var(z, axis=0) + 1e-3)
    return jnp.sum(jnp.tanh(z), axis=-1)


@jax.custom_vjp
def centred_backwards(z):
    return z


centred_backwards.defvjp(lambda z: (z, None), lambda _, q: (q - jnp.mean(q, axis=0),))


@jax.custom_jvp
def centred_forwards(z):
    return z


centred_forwards.defjvp(lambda z, t: (z[0], t[0] - jnp.mean(t[0], axis=0)))


MEETING = {
    "in a backward rule": (
        lambda W, x: jnp.sum(centred_backwards(x @ W), axis=1),
        "custom_vjp_call",
    ),
    "in a forward rule": (lambda W, x: jnp.sum(centred_forwards(x @ W), axis=1), "reduce_sum"),
    "batch norm": (batch_norm, "reduce_sum"),
    "no derivative": (lambda W, x: jnp.sum((x * (x > jnp.mean(x))) @ W, axis=1), "reduce_sum"),
    "neighbours": (lambda W, x: jnp.sum(jnp.roll(x, 1, axis=0) @ W, axis=1), "slice"),
    "backwards": (lambda W, x: jnp.sum(x[::-1] @ W, axis=1), "rev"),
    "contrastive": (lambda W, x: jax.nn.logsumexp(x @ W @ (x @ W).T, axis=1), "dot_general"),
    "scaled by the batch": (
        lambda W, x: jnp.sum(x @ W, axis=1) / x.shape[0] * jnp.max(x),
        "reduce_max",
    ),
    "running over the batch": (lambda W, x: jnp.cumsum(x @ W, axis=0)[:, 0], "cumsum"),
    "in a branch": (
        lambda W, x: jax.lax.cond(W[0, 0] > 0, lambda x: x - jnp.mean(x), lambda x: x, x @ W)[:, 0],
        "reduce_sum",
    ),
    "in a loop": (
        lambda W, x: jax.lax.fori_loop(0, 3, lambda i, z: z - jnp.mean(z, axis=0), x @ W)[:, 0],
        "reduce_sum",
    ),
    "carried over the batch": (
        lambda W, x: jax.lax.scan(lambda c, z: (c + z, c), jnp.zeros(6), x @ W)[1][:, 0],
        "scan",
    ),
    "chosen by another": (lambda W, x: jnp.sum(x[jnp.array([1, 2, 3, 0])] @ W, axis=1), "gather"),
}


@pytest.mark.parametrize("name", MEETING)
def test_examples_that_meet_are_refused(name):
    losses, primitive = MEETING[name]
    with pytest.raises(ExamplesMeetError, match=rf"examples meet, .* in '{primitive}'.* Normalize"):
        blockjac.clipped_grad(losses, 1.0)(array(5, 6), X)


def test_the_line_is_named_where_they_meet():
    with pytest.raises(
        ExamplesMeetError, match=r"'batch_norm' .*test_clipping\.py:\d+.*batch_norm"
    ):
        blockjac.clipped_grad(batch_norm, 1.0)(array(5, 6), X)


def test_statistics_that_the_losses_do_not_read_are_allowed():
    def losses(W, x):
        z = x @ W
        return jnp.sum(jnp.tanh(z), axis=1), jnp.mean(z, axis=0)

    W = array(5, 6)
    found, mean = blockjac.clipped_grad(losses, 1.0, has_aux=True)(W, X)
    np.testing.assert_allclose(mean, jnp.mean(X @ W, axis=0), rtol=1e-12)
    same(found, clipped(jax.jacrev(lambda W: losses(W, X)[0])(W), 1.0)[0])


def test_a_bound_for_each_example():
    losses, params, batch = PROGRAMS["network"]
    gradients = alone(losses, params, batch)
    bounds = jnp.linspace(0.0, 1.0, N)
    scales = jnp.minimum(1.0, bounds / norms_of(gradients))
    wanted = jax.tree.map(lambda leaf: jnp.tensordot(scales, leaf, 1), gradients)
    same(jax.jit(blockjac.clipped_grad(losses, bounds))(params, *batch), wanted)
    with pytest.raises(ArgumentError, match=r"max_norm has the shape \(2,\)"):
        blockjac.clipped_grad(losses, np.ones(2))(params, *batch)
    with pytest.raises(ArgumentError, match="max_norm holds numbers below 0"):
        blockjac.clipped_grad(losses, -bounds)(params, *batch)


def test_misuse():
    losses, params, batch = PROGRAMS["network"]
    for bad in (0, -1.0, "1", True, np.nan):
        with pytest.raises(ArgumentError, match=r"max_norm is .* must be a positive number"):
            blockjac.clipped_grad(losses, bad)
    with pytest.raises(ArgumentError, match="normalize_by is 0, but must be a positive number"):
        blockjac.clipped_grad(losses, 1.0, normalize_by=0)
    with pytest.raises(ArgumentError, match="batch_axes is 0, but must be the number"):
        blockjac.clipped_grad(losses, 1.0, batch_axes=0)
    with pytest.raises(BlockShapeError, match=r"clipped_grad needs one loss per example"):
        blockjac.clipped_grad(lambda W, x: jnp.sum(x @ W), 1.0)(params["W"], X)
    with pytest.raises(ArgumentError, match=r"needs the examples as arguments of .* beside those"):
        blockjac.clipped_grad(lambda p: losses(p, *batch), 1.0)(params)


# What it costs


def planned_bytes(function, *arguments):
    memory = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes


def test_no_gradient_of_an_example_is_written():
    """Of a wide layer: what `jax.grad` takes, and the batch again, not a gradient per example."""
    losses = lambda W, x: jnp.sum(jnp.tanh(x @ W) ** 2, axis=1)  # noqa: E731
    W, x = array(300, 400), array(32, 300)
    gradient = planned_bytes(jax.grad(lambda W, x: jnp.sum(losses(W, x))), W, x)
    ours = planned_bytes(blockjac.clipped_grad(losses, 1.0), W, x)
    assert ours <= 1.15 * gradient
    assert ours < 32 * W.nbytes / 2


def test_a_loop_sums_no_gradient_of_each_example():
    """Its steps stack factors, `N T (k + h)` numbers, where a gradient per example is `N k h`."""

    def losses(W, x):
        cell = lambda h, x: (jnp.tanh(x + h @ W), None)  # noqa: E731
        return jnp.sum(jax.lax.scan(cell, jnp.zeros(x.shape[1:]), x)[0], axis=1)

    W, x = array(200, 200), array(3, 16, 200)
    by_time = lambda W, x: losses(W, jnp.swapaxes(x, 0, 1))  # noqa: E731
    x = jnp.swapaxes(x, 0, 1)
    ours = planned_bytes(blockjac.clipped_grad(by_time, 1.0), W, x)
    assert ours < 16 * W.nbytes / 2


@pytest.mark.slow
def test_convolutions_with_maxima_take_what_a_gradient_does():
    """Not the places of the maxima for each example, nor a batch of kernels for each of them."""

    def losses(params, x):
        for kernel in params:
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.lax.reduce_window(
                jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
            )
        return jnp.sum(x**2, axis=(1, 2, 3))

    params, x = [array(3, 3, 3, 8), array(3, 3, 8, 8)], array(16, 16, 16, 3)
    gradient = planned_bytes(jax.grad(lambda p, x: jnp.sum(losses(p, x))), params, x)
    assert planned_bytes(blockjac.clipped_grad(losses, 1.0), params, x) <= 3 * gradient
    found = blockjac.clipped_grad(losses, 1.0)(params, x)
    same(found, clipped(alone(losses, params, (x,)), 1.0)[0])
