"""Random programs of small arrays: chains and sums of steps of all kinds, with shared values."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def random_function(seed):
    """A function of a vector with one number or a few as its result, and a point."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 6))
    x = jnp.asarray(rng.normal(size=size))
    steps = [_step(rng, size) for _ in range(int(rng.integers(2, 6)))]
    picks = [rng.integers(0, number + 1, size=2) for number in range(len(steps))]
    last = rng.integers(0, 3)

    def function(x):
        values = [x]
        for step, (first, second) in zip(steps, picks, strict=True):
            values.append(step(values[first], values[second]))
        total = values[-1] + values[-2]
        return (jnp.sum(total), total * x, jnp.max(total) * jnp.sum(x))[last]

    return function, x


def _step(rng, size):
    """A step of two vectors that gives one of the same size, smooth and of moderate numbers."""
    A = jnp.asarray(rng.normal(size=(size, size))) / np.sqrt(size)
    order = rng.permutation(size)
    first, second = np.triu_indices(size, 1)
    places = rng.integers(0, size, size=len(first))

    def pairs(a, b):
        lengths = jnp.sqrt((a[first] - b[second]) ** 2 + 1)
        return jnp.zeros(size).at[places].add(lengths)

    def inverse(a, b):
        return jnp.linalg.solve(jnp.outer(a, jnp.tanh(a)) / 4 + 3 * jnp.eye(size), b)

    def determinant(a, b):
        matrix = jnp.outer(jnp.sin(a), b) / 4 + 2 * jnp.eye(size)
        return a * jnp.linalg.slogdet(matrix)[1]

    def loop(a, b):
        return lax.scan(lambda c, d: (jnp.sin(c + d * b), jnp.sum(c) * 0.1), a, b)[0]

    def padded(a, b):
        both = jnp.concatenate([jnp.tanh(a), b])
        return both[::2] * both[1::2]

    kinds = [
        lambda a, b: jnp.tanh(A @ a),
        lambda a, b: a * b / (1 + b**2),
        lambda a, b: jax.nn.softmax(a) * b,
        lambda a, b: jnp.sin(a)[order] + b,
        lambda a, b: jax.nn.softplus(a) - jax.nn.silu(b),
        lambda a, b: jnp.sqrt(a**2 + b**2 + 1),
        lambda a, b: jnp.where(a > 0, a * b, jnp.exp(a)),
        lambda a, b: jnp.abs(jnp.exp(1j * a) + b) ** 2 / 4,
        lambda a, b: lax.cond(a[0] > 0, jnp.sin, jnp.tanh, a) * b,
        lambda a, b: jnp.cumsum(a) * 0.3 * b,
        lambda a, b: jnp.outer(jnp.tanh(a), b) @ jnp.cos(a),
        lambda a, b: jnp.broadcast_to(jnp.mean(a * b), (size,)),
        lambda a, b: jnp.maximum(a, b) * jnp.arctan2(a, b**2 + 1),
        pairs,
        inverse,
        determinant,
        loop,
        padded,
    ]
    return kinds[int(rng.integers(len(kinds)))]
