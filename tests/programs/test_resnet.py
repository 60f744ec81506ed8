"""A small residual network with batch norm, as one writes it in JAX: its derivatives are JAX's."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.agreement import agree, primitives_of

import blockjac

EXAMPLES, SIZE, CLASSES = 3, 6, 4


def convolve(x, kernel, stride=1):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def batch_norm(x, norm, training):
    if training:
        mean, variance = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
    else:
        mean, variance = norm["mean"], norm["variance"]
    return (x - mean) * lax.rsqrt(variance + 1e-5) * norm["scale"] + norm["shift"]


def residual(x, layer, stride, training):
    inner = jax.nn.relu(batch_norm(convolve(x, layer["first"], stride), layer["norm1"], training))
    inner = batch_norm(convolve(inner, layer["second"]), layer["norm2"], training)
    shortcut = convolve(x, layer["shortcut"], stride) if "shortcut" in layer else x
    return jax.nn.relu(inner + shortcut)


def logits(params, images, training=True):
    x = jax.nn.relu(batch_norm(convolve(images, params["stem"]), params["norm"], training))
    for layer, stride in zip(params["layers"], (1, 2), strict=True):
        x = residual(x, layer, stride, training)
    return jnp.mean(x, (1, 2)) @ params["weights"] + params["bias"]


def losses(params, images, labels, training=True):
    return -jnp.sum(jax.nn.log_softmax(logits(params, images, training)) * labels, 1)


def loss(params, images, labels):
    return jnp.mean(losses(params, images, labels))


def network():
    random = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(random.normal(size=shape) * 0.5)

    def norm(channels):
        return {
            "scale": 1 + normal(channels),
            "shift": normal(channels),
            "mean": normal(channels),
            "variance": jnp.exp(normal(channels)),
        }

    def layer(given, made, **shortcut):
        first, second = normal(3, 3, given, made), normal(3, 3, made, made)
        norms = {"norm1": norm(made), "norm2": norm(made)}
        return {"first": first, "second": second, **norms, **shortcut}

    params = {
        "stem": normal(3, 3, 2, 3),
        "norm": norm(3),
        "layers": [layer(3, 3), layer(3, 5, shortcut=normal(1, 1, 3, 5))],
        "weights": normal(5, CLASSES),
        "bias": normal(CLASSES),
    }
    return params, normal(EXAMPLES, SIZE, SIZE, 2), jnp.eye(CLASSES)[:EXAMPLES]


def close(ours, theirs):
    agree(ours, theirs, holes=False, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_the_gradient_is_that_of_jax():
    params, images, labels = network()
    ours = jax.jit(blockjac.value_and_grad(loss, (0, 1)))(params, images, labels)
    theirs = jax.jit(jax.value_and_grad(loss, (0, 1)))(params, images, labels)
    close(ours, theirs)


@pytest.mark.slow
def test_the_gradient_convolves_as_often_as_that_of_jax():
    def count(gradient):
        lowered = jax.jit(gradient(loss)).lower(*network())
        return lowered.compile().as_text().count(" convolution(")

    assert count(blockjac.grad) == count(jax.grad)


def test_no_structure_is_lost_on_the_way_of_the_gradient():
    primitives = primitives_of(jax.make_jaxpr(blockjac.grad(loss))(*network()))
    assert not primitives & {"gather", "scatter", "scatter-add", "scan", "while"}


@pytest.mark.slow
@pytest.mark.parametrize("order", ["auto", "reverse"])
def test_the_jacobian_of_the_logits_by_the_images(order):
    params, images, _ = network()
    ours = jax.jit(blockjac.jacobian(logits, 1, order=order))(params, images)
    close(ours, jax.jit(jax.jacrev(logits, 1))(params, images))


@pytest.mark.slow
def test_the_jacobian_of_the_logits_by_the_parameters():
    params, images, _ = network()
    ours = jax.jit(blockjac.jacobian(logits))(params, images)
    close(ours, jax.jit(jax.jacrev(logits))(params, images))


def test_at_inference_examples_stay_apart():
    params, images, labels = network()
    function = partial(losses, training=False)
    block = jax.jit(blockjac.block_jacobian(function, 1))(params, images, labels)
    assert block.stored == images.size
    close(block.dense(), jax.jit(jax.jacrev(function, 1))(params, images, labels))


@pytest.mark.slow
def test_gradients_of_each_example():
    params, images, labels = network()
    function = partial(losses, training=False)
    blocks = jax.jit(blockjac.block_jacobian(function))(params, images, labels)
    stem = blocks["stem"]
    assert stem.stored <= EXAMPLES * params["stem"].size
    ours = jax.tree.map(
        lambda block: block.dense(), blocks, is_leaf=lambda one: hasattr(one, "dense")
    )
    close(ours, jax.jit(jax.jacrev(function))(params, images, labels))


def hessian_is_that_of_jax(function, point):
    ours = jax.jit(blockjac.jacobian(blockjac.grad(function)))(point)
    close(ours, jax.jit(jax.hessian(function))(point))


def test_second_derivatives():
    params, images, labels = network()

    def of_shifts(shifts):
        last = {**params["layers"][1], "norm2": {**params["layers"][1]["norm2"], "shift": shifts}}
        smooth = {**params, "layers": [params["layers"][0], last]}
        return jnp.sum(jnp.sin(losses(smooth, images, labels)))

    hessian_is_that_of_jax(of_shifts, params["layers"][1]["norm2"]["shift"])

    def of_kernel(kernel):
        last = {**params["layers"][1], "shortcut": kernel}
        return loss({**params, "layers": [params["layers"][0], last]}, images, labels)

    hessian_is_that_of_jax(of_kernel, params["layers"][1]["shortcut"])
