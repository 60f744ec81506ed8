"""Programs that people differentiate: values, orders and structure are the mathematics'."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from real_programs import PROGRAMS

LARGE = {"transformer", "residual network"}
SECOND_ORDER = ["gaussian process", "neural ode", "masked attention", "flux", "mixture"]
BATCHED = ["gaussian process", "lstm", "reprojection", "kalman filter", "flux", "mixture"]


def programs(names, slow=LARGE):
    """The named programs as parameters; those that compile for long are marked."""
    return [
        pytest.param(
            name, marks=pytest.mark.slow if name in slow else (), id=name.replace(" ", "-")
        )
        for name in names
    ]


def with_output():
    return [name for name, program in PROGRAMS.items() if program.output is not None]


def small(name, **sizes):
    """The loss and the output as functions of what is differentiated, and where."""
    program = PROGRAMS[name]
    first, *others = program.arguments(**(sizes or program.small))

    def loss(inputs):
        return program.loss(inputs, *others)

    def output(inputs):
        return program.output(inputs, *others[: program.outputs - 1])

    return loss, output, first


def agree(found, expected, rtol=1e-10):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        scale = np.max(np.abs(other), initial=0.0)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-13 * (1.0 + scale))


@pytest.mark.slow
@pytest.mark.parametrize("name", programs(PROGRAMS))
def test_the_gradient(name):
    loss, _, first = small(name)

    @jax.jit
    def both(inputs):
        ours = blockjac.value_and_grad(loss)(inputs), blockjac.grad(loss)(inputs)
        value, gradient = jax.value_and_grad(loss)(inputs)
        return ours, ((value, gradient), gradient)

    agree(*both(first))


@pytest.mark.slow
@pytest.mark.parametrize("name", programs(["masked attention", "flux"]))
def test_the_gradient_without_a_jit_around_it(name):
    loss, _, first = small(name)
    agree(blockjac.grad(loss)(first), jax.grad(loss)(first))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", programs(with_output(), LARGE | {"lstm", "neural ode", "kalman filter"})
)
@pytest.mark.parametrize("order", ["reverse", "forward", "auto"])
def test_the_jacobian_in_every_order(name, order):
    _, output, first = small(name)

    @jax.jit
    def both(inputs):
        return blockjac.jacobian(output, order=order)(inputs), jax.jit(jax.jacrev(output))(inputs)

    agree(*both(first))


@pytest.mark.slow
@pytest.mark.parametrize("name", programs(SECOND_ORDER, {"gaussian process", "neural ode"}))
def test_the_jacobian_of_the_gradient(name):
    loss, _, first = small(name)

    @jax.jit
    def both(inputs):
        ours = blockjac.jacobian(blockjac.grad(loss))(inputs)
        return ours, jax.jit(jax.jacfwd(jax.grad(loss)))(inputs)

    agree(*both(first), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", programs(with_output()))
def test_the_pullback(name):
    _, output, first = small(name)
    shape = jax.eval_shape(output, first).shape
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=shape))

    @partial(jax.jit, static_argnums=0)
    def pulled(vjp, inputs):
        value, pull = vjp(output, inputs)
        return value, pull(cotangent)

    agree(pulled(blockjac.vjp, first), pulled(jax.vjp, first))


@pytest.mark.parametrize("name", programs(BATCHED, {"kalman filter"}))
def test_the_gradients_of_a_batch(name):
    loss, _, first = small(name)
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.9 * leaf, 1.1 * leaf]), first)

    @jax.jit
    def both(inputs):
        return jax.vmap(blockjac.grad(loss))(inputs), jax.vmap(jax.grad(loss))(inputs)

    agree(*both(batch))


def blocks(name, argnums=0, **sizes):
    """The blocks of a program's output by some of its arguments."""
    program = PROGRAMS[name]
    arguments = program.arguments(**sizes)[: program.outputs]
    return blockjac.block_jacobian(program.output, argnums)(*arguments)


@pytest.mark.slow
def test_a_residual_stores_its_own_camera_and_its_own_point():
    count = 20
    scene, observed = blocks("reprojection", (0, 3), cameras=3, points=10, observations=count)
    assert scene["cameras"].stored == scene["cameras"].nnz == count * 2 * 9
    assert scene["points"].nnz == count * 2 * 3
    assert scene["points"].stored == count * 2 * 3 + count  # and which point it is
    assert observed.stored == 0


@pytest.mark.slow
def test_a_batch_stays_apart_through_the_steps_of_an_lstm():
    time, batch, inputs, hidden = 3, 4, 2, 2
    block = blocks("lstm", 1, time=time, batch=batch, inputs=inputs, hidden=hidden)
    assert block.stored == time * time * batch * hidden * inputs


def test_attention_stays_apart_in_batch_and_heads():
    batch, heads, length, size = 4, 2, 5, 3
    by = blocks("masked attention", batch=batch, heads=heads, length=length, size=size)
    apart = batch * heads
    assert by["values"].stored == apart * length * length  # the weights; a delta in size
    assert by["values"].nnz == apart * length * length * size
    assert by["queries"].stored == by["queries"].nnz == apart * length * size * size
    assert by["keys"].nnz == apart * length * length * size * size
    assert by["keys"].stored <= apart * length * size * (length + 1)  # two factors


@pytest.mark.slow
def test_a_transformer_block_stays_apart_in_the_batch():
    batch, length, width = 3, 2, 4
    block = blocks("transformer", 1, batch=batch, length=length, width=width, heads=2, hidden=3)
    assert block.stored <= batch * (length * width) ** 2


def test_the_flux_is_a_few_shifted_diagonals():
    cells = 64
    block = blocks("flux", cells=cells)
    assert block.nnz == 5 * cells
    assert block.stored <= 12 * cells


def test_each_example_of_a_mixture_stands_alone():
    examples, inputs, parts = 40, 2, 3
    params, data = blocks("mixture", (0, 1), examples=examples, inputs=inputs, parts=parts)
    assert data.nnz == examples * inputs
    assert data.stored <= examples * (inputs + 1)
    assert params["logits"].stored == examples * parts
    assert params["means"].stored < 2 * examples * parts * inputs
