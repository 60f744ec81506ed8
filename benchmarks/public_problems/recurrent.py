"""LSTM, with diagonal weights as ADBench has it: how well a sequence predicts its next member."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def arguments(layers: int, length: int, width: int = 14) -> tuple[jax.Array, ...]:
    """Weights and biases of the layers, those around them, the first state, the sequence."""
    generator = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(generator.normal(size=shape))

    main, extra = normal(layers, 2, 4, width), normal(3, width)
    state = normal(layers, 2, width)
    return main, extra, state, jnp.asarray(generator.integers(2, size=(length, width)), float)


def layer(params: Any, state: Any, inputs: Any, xp: Any) -> tuple[Any, Any]:
    """The hidden and the cell state after a step.

    Args:
        params: `(2, 4, width)`: weights and biases of the gates forget, in, out, and of the change.
        state: hidden and cell before.
        inputs: of the step.
        xp: `jax.numpy` or one of its like.
    """
    (forget, enter, leave, change), biases = params[0], params[1]
    hidden, cell = state

    def gate(inputs: Any, weight: Any, bias: Any) -> Any:
        return 1 / (1 + xp.exp(-(inputs * weight + bias)))

    changed = xp.tanh(hidden * change + biases[3])
    cell = cell * gate(inputs, forget, biases[0]) + gate(hidden, enter, biases[1]) * changed
    return gate(inputs, leave, biases[2]) * xp.tanh(cell), cell


def step(main: Any, extra: Any, states: Any, inputs: Any, xp: Any) -> tuple[Any, Any]:
    """The states of all layers after a step, and the log probabilities of the next member."""
    inputs = inputs * extra[0]
    after = []
    for params, state in zip(main, states, strict=True):
        after.append(layer(params, state, inputs, xp))
        inputs = after[-1][0]
    predicted = inputs * extra[1] + extra[2]
    return after, predicted - xp.log(2 + xp.sum(xp.exp(predicted)))


def loss(main: jax.Array, extra: jax.Array, state: jax.Array, sequence: jax.Array) -> jax.Array:
    """The mean negative log likelihood, by a scan over the sequence."""

    def advance(states: Any, members: Any) -> tuple[Any, jax.Array]:
        states, logs = step(main, extra, states, members[0], jnp)
        return states, jnp.sum(members[1] * logs)

    start = [(first[0], first[1]) for first in state]
    _, scores = lax.scan(advance, start, (sequence[:-1], sequence[1:]))
    return -jnp.sum(scores) / sequence[1:].size


def unrolled_loss(main: Any, extra: Any, state: Any, sequence: Any, xp: Any) -> Any:
    """The same by a loop of Python, for packages that have no scan."""
    states, total = [(first[0], first[1]) for first in state], 0.0
    for member, following in itertools.pairwise(sequence):
        states, logs = step(main, extra, states, member, xp)
        total = total + xp.sum(following * logs)
    return -total / (len(sequence[1:]) * sequence.shape[1])
