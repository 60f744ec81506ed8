"""Two small networks with all their parameters: a perceptron and an encoder of two blocks."""

import jax
import jax.numpy as jnp

Layer = dict[str, jax.Array]


def layer_norm(x: jax.Array, gain: jax.Array, shift: jax.Array) -> jax.Array:
    """Mean zero and variance one along the last axis, then scaled and shifted."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    return gain * centred / jnp.sqrt(variance + 1e-5) + shift


def softmax(x: jax.Array) -> jax.Array:
    """Positive, with the sum one along the last axis."""
    powers = jnp.exp(x - jax.lax.stop_gradient(jnp.max(x, axis=-1, keepdims=True)))
    return powers / jnp.sum(powers, axis=-1, keepdims=True)


def cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Of the softmax of the logits, summed over all but the last axis."""
    return -jnp.sum(target * jnp.log(softmax(logits)))


def perceptron(x: jax.Array, target: jax.Array, layers: tuple[Layer, Layer]) -> jax.Array:
    """The loss of one example of four numbers: eight units, layer norm and tanh, four classes."""
    first, second = layers
    hidden = jnp.tanh(layer_norm(first["W"] @ x + first["b"], first["gain"], first["shift"]))
    return cross_entropy(second["W"] @ hidden + second["b"], target)


def encoder(x: jax.Array, target: jax.Array, blocks: tuple[Layer, Layer]) -> jax.Array:
    """The loss of one sequence of four tokens with four numbers each, after two blocks."""
    for block in blocks:
        x = encoder_block(x, block)
    return cross_entropy(x, target)


def encoder_block(x: jax.Array, block: Layer) -> jax.Array:
    """Attention with one head, then a layer of tanh; each added to its input, then normalized."""
    queries, keys, values = x @ block["queries"], x @ block["keys"], x @ block["values"]
    weights = softmax(queries @ keys.T / jnp.sqrt(x.shape[-1]))
    x = layer_norm(x + weights @ values, block["gain_1"], block["shift_1"])
    hidden = jnp.tanh(x @ block["W"] + block["b"])
    return layer_norm(x + hidden, block["gain_2"], block["shift_2"])
