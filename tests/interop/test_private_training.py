"""Sums of clipped gradients with jax-privacy's signature, beside jax-privacy itself."""

import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.per_example_programs import PROGRAMS

from blockjac import interop
from blockjac.errors import ExamplesMeetError

jax_privacy = pytest.importorskip("jax_privacy", reason="jax-privacy is not installed")

SHARDED = Path(__file__).with_name("sharded_private_training.py")
RNG = np.random.default_rng(0)
X, Y = jnp.asarray(RNG.normal(size=(8, 5))), jnp.asarray(RNG.normal(size=(8, 2)))
PARAMS = {
    "W": jnp.asarray(RNG.normal(size=(5, 6))),
    "b": jnp.zeros(6),
    "V": jnp.asarray(RNG.normal(size=(6, 2))),
}
PADDING = jnp.arange(8) > 4
OPTIONS = {"l2_clip_norm": 0.5, "batch_argnums": (1, 2), "return_grad_norms": True}


def loss(params, X, Y):
    return jnp.mean((jnp.tanh(X @ params["W"] + params["b"]) @ params["V"] - Y) ** 2)


def loss_and_outputs(params, X, Y):
    outputs = jnp.tanh(X @ params["W"]) @ params["V"]
    return jnp.mean((outputs - Y) ** 2), {"outputs": outputs, "first": X[:, 0]}


def same_as_theirs(fun, args, keywords=None, **options):
    """The answers of both, compared in structure, shapes, dtypes and values."""
    keywords = keywords or {}
    found = interop.clipped_grad(fun, **options)
    wanted = jax_privacy.clipped_grad(fun, **options)
    assert found.sensitivity() == wanted.sensitivity()
    assert found.has_aux == wanted.has_aux
    answer = jax.jit(found)(*args, **keywords)
    expected = jax.jit(wanted)(*args, **keywords)
    assert jax.tree.structure(answer) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(answer), jax.tree.leaves(expected), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        rtol = 1e-9 if one.dtype == jnp.float64 else 1e-4
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-11)
    return answer


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_networks(name):
    """Perceptrons, convolutions, attention, lookups, recurrent cells: losses of examples."""
    losses, params, batch = PROGRAMS[name]
    numbers = tuple(range(1, len(batch) + 1))
    options = {"l2_clip_norm": 0.7, "batch_argnums": numbers, "return_grad_norms": True}
    same_as_theirs(
        lambda params, *example: jnp.sum(losses(params, *example)), (params, *batch), **options
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_values": True, "normalize_by": 4.0},
        {"rescale_to_unit_norm": True, "microbatch_size": 2},
        {"l2_clip_norm": 0.0},
        {"l2_clip_norm": 0.0, "rescale_to_unit_norm": True},
        {"l2_clip_norm": jnp.inf},
        {"l2_clip_norm": jnp.inf, "rescale_to_unit_norm": True},
        {"nan_safe": False},
    ],
    ids=str,
)
def test_options(options):
    same_as_theirs(loss, (PARAMS, X, Y), **{**OPTIONS, **options})
    padding = {"is_padding_example": PADDING}
    same_as_theirs(loss, (PARAMS, X, Y), padding, **{**OPTIONS, **options})


def test_a_bound_that_only_the_running_program_knows():
    for bound in (0.5, -1.0):
        found, wanted = (
            jax.jit(lambda bound, take=take: take(loss, **{**OPTIONS, "l2_clip_norm": bound})(
                PARAMS, X, Y
            ))(bound)
            for take in (interop.clipped_grad, jax_privacy.clipped_grad)
        )  # fmt: skip
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9), found, wanted)


@pytest.mark.slow
def test_auxiliary_results_are_those_of_each_example():
    _, aux = same_as_theirs(loss_and_outputs, (PARAMS, X, Y), has_aux=True, **OPTIONS)
    assert aux.aux["outputs"].shape == (8, 2)
    same_as_theirs(
        loss_and_outputs, (PARAMS, X, Y), has_aux=True, return_values=True, microbatch_size=4,
        **OPTIONS,
    )  # fmt: skip


def test_several_arguments_and_shared_ones():
    def fun(W, scale, X, V):
        return scale * jnp.sum(jnp.tanh(X @ W) @ V)

    args = (PARAMS["W"], 2.0, X, PARAMS["V"])
    same_as_theirs(fun, args, argnums=(0, 3), l2_clip_norm=1.0, batch_argnums=2)
    same_as_theirs(fun, args, argnums=(3,), l2_clip_norm=1.0, batch_argnums=2)


def test_losses_of_users():
    """Groups of examples that are clipped together, with keyword arguments of each."""

    def fun(params, X, Y, *, weight):
        return weight * loss(params, X, Y)

    groups = X.reshape(4, 2, 5), Y.reshape(4, 2, 2)
    options = {**OPTIONS, "keep_batch_dim": False}
    same_as_theirs(fun, (PARAMS, *groups), {"weight": jnp.arange(4.0)}, **options)


@pytest.mark.slow
@pytest.mark.parametrize("key", [jax.random.key, jax.random.PRNGKey])
def test_dropout(key):
    def fun(params, key, X):
        mask = jax.random.bernoulli(key, 0.5, (X.shape[0], 6))
        return jnp.mean((jnp.tanh(X @ params["W"]) * mask) ** 2)

    options = {"l2_clip_norm": 0.1, "batch_argnums": 2, "prng_argnum": 1}
    same_as_theirs(fun, (PARAMS, key(3), X), **options)
    same_as_theirs(fun, (PARAMS, key(3), X), **options, microbatch_size=4)


# Gradients that are not finite


@pytest.mark.parametrize("is_kept", [True, False])
def test_each_example_has_a_key(is_kept):
    def fun(params, x, keys):
        x = x if is_kept else x[None]
        normal = jax.vmap(jax.random.normal)(keys if is_kept else keys[None])
        return jnp.mean(normal * jnp.sum((x @ params["W"]) ** 2, axis=-1))

    keys = jax.random.split(jax.random.key(0), len(X))
    same_as_theirs(
        fun, (PARAMS, X, keys), l2_clip_norm=0.5, batch_argnums=(1, 2), keep_batch_dim=is_kept
    )


@pytest.mark.parametrize("is_safe", [True, False])
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_data_that_are_not_finite(bad, is_safe):
    broken = X.at[2, 1].set(bad).at[6].set(bad)
    options = {**OPTIONS, "nan_safe": is_safe}
    same_as_theirs(loss, (PARAMS, broken, Y), **options)
    same_as_theirs(loss, (PARAMS, broken, Y), {"is_padding_example": PADDING}, **options)


def test_only_some_entries_are_not_finite():
    """With 0 in their place the others count, as for jax-privacy."""

    def fun(params, X):
        return jnp.sum(jnp.sqrt(jnp.abs(X @ params["s"]))) + jnp.mean((X @ params["W"] - 1) ** 2)

    params = {"s": jnp.zeros(5), "W": PARAMS["W"]}
    total, _ = same_as_theirs(fun, (params, X), l2_clip_norm=0.5, return_grad_norms=True)
    assert jnp.all(total["s"] == 0)
    assert jnp.any(total["W"] != 0)


# Transforms of gradients


def test_a_linear_transform_before_clipping():
    def halved(gradient):
        return {"kernel": gradient["W"] / 2, "bias": jnp.concatenate([gradient["b"], jnp.ones(0)])}

    answer = same_as_theirs(loss, (PARAMS, X, Y), **OPTIONS, pre_clipping_transform=halved)
    assert set(answer[0]) == {"kernel", "bias"}


def test_other_transforms_are_left_to_jax_privacy():
    def squashed(gradient):
        return jax.tree.map(jnp.tanh, gradient)

    def moved(gradient):
        return jax.tree.map(lambda leaf: leaf + 1, gradient)

    for transform in (squashed, moved):
        same_as_theirs(loss, (PARAMS, X, Y), **OPTIONS, pre_clipping_transform=transform)


@pytest.mark.slow
def test_dtype_of_the_sum():
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    options = {"l2_clip_norm": 0.5, "batch_argnums": (1, 2), "dtype": jnp.float32}
    args = (narrow, X.astype(jnp.bfloat16), Y.astype(jnp.bfloat16))
    found = interop.clipped_grad(loss, **options)(*args)
    wanted = jax_privacy.clipped_grad(loss, **options)(*args)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert one.dtype == other.dtype == jnp.float32
        np.testing.assert_allclose(one, other, rtol=0.05, atol=0.01)


# Examples that meet


def normalized(hidden):
    return (hidden - hidden.mean(0)) / jnp.sqrt(hidden.var(0) + 1e-5)


def batch_norm(params, X, Y):
    return jnp.mean((jnp.tanh(normalized(X @ params["W"])) @ params["V"] - Y) ** 2)


def batch_norm_of_data(params, X, Y):
    return loss(params, normalized(X), Y)


def batch_norm_in_a_scan(params, X, Y):
    def layer(hidden, _):
        return jnp.tanh(normalized(hidden)), None

    hidden, _ = jax.lax.scan(layer, X @ params["W"], length=2)
    return jnp.mean((hidden @ params["V"] - Y) ** 2)


def batch_norm_checkpointed(params, X, Y):
    return jax.checkpoint(batch_norm)(params, X, Y)


def log_of_a_mean(params, X, Y):
    return jnp.log(jnp.mean(jnp.exp(jnp.sum((X @ params["W"]) ** 2, axis=1))))


def contrast(params, X, Y):
    hidden = X @ params["W"]
    return jnp.mean(jax.nn.logsumexp(hidden @ hidden.T, axis=1))


def batch_norm_of_a_recurrent_network(params, X, Y):
    """Its first state is the same for all examples."""
    square = params["W"][:, :4].T @ params["W"][:, :4]

    def step(hidden, _):
        z = hidden @ square
        return jnp.tanh(z - z.mean(0) + X @ params["W"][:, :4]), None

    hidden, _ = jax.lax.scan(step, jnp.zeros((len(X), 4)), length=2)
    return jnp.mean(hidden**2)


def batch_norm_in_a_branch(params, X, Y):
    mean = lambda hidden: jnp.mean(jnp.tanh(normalized(hidden)))  # noqa: E731
    return jax.lax.cond(params["W"][0, 0] > 9, jnp.mean, mean, X @ params["W"])


def gradients_are_centred(params, X, Y):
    identity = jax.custom_vjp(lambda hidden: hidden)
    identity.defvjp(lambda hidden: (hidden, None), lambda _, ct: (ct - ct.mean(0),))
    return jnp.mean(identity(X @ params["W"]) ** 2)


def largest(params, X, Y):
    return jnp.max(jnp.sum((X @ params["W"]) ** 2, axis=1))


def ranked(params, X, Y):
    return jnp.vdot(jnp.sort(jnp.sum(X @ params["W"], axis=1)), jnp.arange(len(X)))


def all_pairs(params, X, Y):
    hidden = X @ params["W"]
    return jnp.sum(hidden @ hidden.T)


def with_the_one_after(params, X, Y):
    hidden = X @ params["W"]
    return jnp.vdot(hidden, hidden[::-1])


def a_mean_weighed_by_data(params, X, Y):
    return jnp.sum(jnp.mean(X @ params["W"]) * X)


def a_running_state(params, X, Y):
    def step(state, x):
        return jnp.tanh(state + x @ params["W"]), jnp.sum(state)

    return jnp.mean(jax.lax.scan(step, jnp.zeros(params["W"].shape[1]), X)[1])


@pytest.mark.parametrize(
    "fun",
    [
        batch_norm,
        batch_norm_of_data,
        batch_norm_in_a_scan,
        batch_norm_checkpointed,
        batch_norm_of_a_recurrent_network,
        batch_norm_in_a_branch,
        gradients_are_centred,
        log_of_a_mean,
        contrast,
        largest,
        ranked,
        all_pairs,
        with_the_one_after,
        a_mean_weighed_by_data,
        a_running_state,
    ],
)
def test_losses_that_mix_examples_are_refused(fun):
    with pytest.raises(ExamplesMeetError, match=rf"in '{fun.__name__}' the examples of a batch"):
        interop.clipped_grad(fun, **OPTIONS)(PARAMS, X, Y)


def test_a_batch_norm_is_refused_with_its_line():
    with pytest.raises(ExamplesMeetError, match=r"in 'reduce_sum' at .*test_private_training\.py"):
        jax.jit(interop.clipped_grad(batch_norm, **OPTIONS))(PARAMS, X[:1], Y[:1])


def test_collectives_are_refused():
    def fun(params, X, Y):
        return loss(params, X - jax.lax.pmean(X, "batch"), Y)

    with pytest.raises(ExamplesMeetError, match="combines examples by a collective"):
        interop.clipped_grad(fun, **OPTIONS)(PARAMS, X, Y)


def test_weights_of_the_whole_batch_are_no_mixing():
    """The mean over the tokens of a batch is right for a batch of one example too."""

    def fun(params, X, Y):
        losses = jnp.sum((jnp.tanh(X @ params["W"]) @ params["V"] - Y) ** 2, axis=1)
        mask = jnp.abs(Y[:, 0]) > 0
        penalty = 0.1 * jnp.sum(params["W"] ** 2)
        return jnp.sum(losses * mask) / jnp.sum(mask) + penalty

    same_as_theirs(fun, (PARAMS, X, Y), **OPTIONS)


def two_views(params, X, Y):
    hidden = jnp.tanh(jnp.concatenate([X, jnp.sin(X)]) @ params["W"])
    one, other = jnp.split(hidden, 2)
    return jnp.mean((one - other) ** 2) + jnp.mean(hidden[len(X) :] ** 4)


def a_product_with_itself(params, X, Y):
    hidden = X @ params["W"]
    return jnp.vdot(hidden, hidden) + jnp.trace((X @ params["W"] @ params["V"]).T @ Y)


def a_count_in_a_loop(params, X, Y):
    """The count is data of the whole batch; a checkpoint and a loop have it as an operand."""
    count = jnp.sum(Y > -100)

    def step(total, x):
        return total + jnp.sum(jnp.tanh(x @ params["W"])) / count, None

    part = jax.checkpoint(lambda hidden, count: jnp.tanh(hidden) / count)
    both = jax.lax.scan(step, 0.0, X)[0] + jnp.sum(part(X @ params["W"], count))
    return both * jnp.size(Y) / len(Y)


def a_sum_with_a_rule(params, X, Y):
    total = jax.custom_vjp(lambda hidden: jnp.sum(hidden**2))
    total.defvjp(lambda hidden: (jnp.sum(hidden**2), hidden), lambda hidden, ct: (2 * ct * hidden,))
    return total(X @ params["W"])


def some_at_a_time(params, X, Y):
    return jnp.mean(jax.lax.map(lambda x: jnp.sum((x @ params["W"]) ** 2), X, batch_size=2))


@pytest.mark.parametrize(
    "fun",
    [two_views, a_product_with_itself, a_count_in_a_loop, a_sum_with_a_rule, some_at_a_time],
)
def test_what_only_looks_like_mixing_is_taken(fun):
    same_as_theirs(fun, (PARAMS, X[:6], Y[:6]), **OPTIONS)


def test_a_loss_for_batches_of_one_only_is_taken():
    def fun(params, X, Y):
        return loss(params, X.reshape(1, 5), Y)

    same_as_theirs(fun, (PARAMS, X, Y), **OPTIONS)


def test_one_example_at_a_time_may_be_normalized():
    """What is right for a batch of one is taken as the loss of one example."""
    same_as_theirs(
        lambda params, x, y: batch_norm(params, x[None], y[None]), (PARAMS, X, Y),
        keep_batch_dim=False, **OPTIONS,
    )  # fmt: skip


# In its place


def test_misuse_is_reported_by_jax_privacy():
    with pytest.raises(ValueError, match="must have the same size"):
        interop.clipped_grad(loss, **OPTIONS)(PARAMS, X, Y[:4])
    with pytest.raises(ValueError, match="normalize_by must be > 0"):
        interop.clipped_grad(loss, l2_clip_norm=1.0, normalize_by=0.0)
    with pytest.raises(ValueError, match="for argnums that have a batch axis"):
        interop.clipped_grad(loss, 1, l2_clip_norm=1.0)


def test_losses_that_are_no_number_are_named():
    def each(params, X, Y):
        return jnp.sum((X @ params["W"]) ** 2, axis=1)

    with pytest.raises(TypeError, match=r"'each' gives an array of shape \(1,\).*mean or its sum"):
        interop.clipped_grad(each, **OPTIONS)(PARAMS, X, Y)
    with pytest.raises(TypeError, match=r"'loss_and_outputs' gives a tuple .*has_aux=True is for"):
        interop.clipped_grad(loss_and_outputs, **OPTIONS)(PARAMS, X, Y)
    with pytest.raises(TypeError, match=r"needs 'loss' to give \(loss, aux\), but .* shape \(\)"):
        interop.clipped_grad(loss, has_aux=True, **OPTIONS)(PARAMS, X, Y)
    with pytest.raises(ValueError, match="along axis 0"):
        interop.clipped_grad(lambda p, x, y, w: w * loss(p, x, y), **OPTIONS)(PARAMS, X, Y, w=2.0)


def test_complex_parameters_are_left_to_jax_privacy():
    fun = lambda W, X: jnp.sum(jnp.abs(X @ W) ** 2)  # noqa: E731
    same_as_theirs(fun, (PARAMS["W"] * (1 + 2j), X), l2_clip_norm=0.5)


@pytest.mark.slow
def test_in_an_execution_plan():
    """A step of training of jax-privacy's own plan, with both."""
    execution_plan = pytest.importorskip("jax_privacy.experimental.execution_plan")
    config = execution_plan.BandMFExecutionPlanConfig(
        iterations=2, strategy=np.ones(1), noise_multiplier=1.0,
        epsilon=None, delta=None, l2_clip_norm=0.5,
        normalize_by=8.0, rescale_to_unit_norm=True, noise_seed=0, sampling_prob=0.5,
    )  # fmt: skip
    plan = config.plan
    ours = functools.partial(
        interop.clipped_grad, l2_clip_norm=0.5, normalize_by=8.0, rescale_to_unit_norm=True
    )
    gradients = []
    for own in (plan, dataclasses.replace(plan, clipped_grad=ours)):
        total = own.clipped_grad(loss, batch_argnums=(1, 2))(PARAMS, X, Y)
        state = own.noise_addition_transform.init(PARAMS)
        gradients.append(own.noise_addition_transform.update(total, state)[0])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4), *gradients)


@pytest.mark.slow
def test_shardings():
    """Constraints in a loss and batches on a mesh; apart, as devices are forced before JAX."""
    run = subprocess.run([sys.executable, str(SHARDED)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert not {name: text for name, text in json.loads(run.stdout).items() if text}
