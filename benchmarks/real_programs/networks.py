"""Neural networks as they are written in plain JAX: parameters in dictionaries, data as arrays."""

import jax
import jax.numpy as jnp
from jax import lax

Params = dict[str, jax.Array]


def normalized(
    x: jax.Array, axes: tuple[int, ...], scale: jax.Array, shift: jax.Array
) -> jax.Array:
    """Mean zero and variance one over the axes, then scaled and shifted: layer and batch norm."""
    mean = jnp.mean(x, axis=axes, keepdims=True)
    variance = jnp.var(x, axis=axes, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * scale + shift


def masked_attention(heads: Params, mask: jax.Array) -> jax.Array:
    """Softmax attention of queries, keys and values `(batch, head, length, size)`.

    Args:
        heads: "queries", "keys" and "values".
        mask: `(length, length)`, true where a query may look at a key.

    Returns:
        `(batch, head, length, size)`.
    """
    size = heads["queries"].shape[-1]
    scores = jnp.einsum("bhqd,bhkd->bhqk", heads["queries"], heads["keys"]) / jnp.sqrt(size)
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e30), axis=-1)
    return jnp.einsum("bhqk,bhkd->bhqd", weights, heads["values"])


def causal(length: int) -> jax.Array:
    """The mask that lets a position look at itself and at those before it."""
    return jnp.tril(jnp.ones((length, length), bool))


def masked_attention_loss(heads: Params, mask: jax.Array, target: jax.Array) -> jax.Array:
    """Mean squared error of what the attention gives."""
    return jnp.mean((masked_attention(heads, mask) - target) ** 2)


def transformer_block(params: Params, x: jax.Array) -> jax.Array:
    """Pre-norm transformer block of `x (batch, length, width)`: attention, then a gelu MLP.

    The number of heads is the second axis of the projections `(width, head, size)`.
    """
    length = x.shape[1]
    inputs = normalized(x, (-1,), params["scale_1"], params["shift_1"])
    heads = {
        name: jnp.einsum("blw,whd->bhld", inputs, params[name])
        for name in ("queries", "keys", "values")
    }
    attended = masked_attention(heads, causal(length))
    x = x + jnp.einsum("bhld,hdw->blw", attended, params["projection"])
    inputs = normalized(x, (-1,), params["scale_2"], params["shift_2"])
    hidden = jax.nn.gelu(inputs @ params["W_1"] + params["b_1"])
    return x + hidden @ params["W_2"] + params["b_2"]


def transformer_loss(params: Params, x: jax.Array, target: jax.Array) -> jax.Array:
    """Mean squared error of the block's output."""
    return jnp.mean((transformer_block(params, x) - target) ** 2)


def convolution(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Images `(n, y, x, channel)` by a kernel `(y, x, in, out)`."""
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def residual_network(params: Params, images: jax.Array) -> jax.Array:
    """Logits `(n, class)` of a stem, a residual block, a strided residual block and a mean."""

    def batch_norm(x: jax.Array, name: str) -> jax.Array:
        return normalized(x, (0, 1, 2), params[f"scale_{name}"], params[f"shift_{name}"])

    def step(x: jax.Array, name: str, stride: int = 1) -> jax.Array:
        return batch_norm(convolution(x, params[f"kernel_{name}"], stride), name)

    x = jax.nn.relu(step(images, "stem"))
    x = jax.nn.relu(x + step(jax.nn.relu(step(x, "1a")), "1b"))
    x = jax.nn.relu(step(x, "skip", 2) + step(jax.nn.relu(step(x, "2a", 2)), "2b"))
    return jnp.mean(x, axis=(1, 2)) @ params["W"] + params["b"]


def residual_network_loss(params: Params, images: jax.Array, classes: jax.Array) -> jax.Array:
    """Mean cross-entropy of the classes `(n,)`."""
    log_probabilities = jax.nn.log_softmax(residual_network(params, images))
    return -jnp.mean(jnp.take_along_axis(log_probabilities, classes[:, None], axis=1))


def lstm(params: Params, xs: jax.Array) -> jax.Array:
    """Hidden states `(time, batch, hidden)` of a long short-term memory over `xs`."""
    hidden = params["W_hidden"].shape[0]
    start = jnp.zeros((xs.shape[1], hidden), xs.dtype)

    def step(carry: tuple[jax.Array, jax.Array], x: jax.Array) -> tuple[tuple, jax.Array]:
        state, cell = carry
        gates = x @ params["W_input"] + state @ params["W_hidden"] + params["b"]
        keep, write, show, new = jnp.split(gates, 4, axis=-1)
        cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(write) * jnp.tanh(new)
        state = jax.nn.sigmoid(show) * jnp.tanh(cell)
        return (state, cell), state

    return lax.scan(step, (start, start), xs)[1]


def lstm_loss(params: Params, xs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean squared error of all hidden states."""
    return jnp.mean((lstm(params, xs) - targets) ** 2)
