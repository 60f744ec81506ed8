"""Random programs: any order gives the same Jacobian, and JAX's, at first and second order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax
from rules.test_table import primitives_of

import blockjac

LIMIT = 24
"""A value of more entries is summed over its first axis before it is used again."""


def along(function):
    """A function of an array with at least one axis, for any array."""
    return lambda a, b, n: function(a if a.ndim else a[None], n)


def together(function):
    """A function of two arrays whose shapes broadcast, for any two: else the second is summed."""

    def of_any(a, b, n):
        try:
            np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            b = jnp.sum(b)
        return function(a, b)

    return of_any


def places(a, n):
    return jnp.array([n, 0, n + 1]) % max(len(a), 1)


OPERATIONS = {
    "sin": lambda a, b, n: jnp.sin(a),
    "tanh": lambda a, b, n: jnp.tanh(a),
    "exp": lambda a, b, n: jnp.exp(-jnp.abs(a)),
    "log": lambda a, b, n: jnp.log1p(a * a),
    "sqrt": lambda a, b, n: jnp.sqrt(1 + lax.square(a)),
    "atan": lambda a, b, n: jnp.arctan(a),
    "logistic": lambda a, b, n: lax.logistic(a),
    "power": lambda a, b, n: lax.integer_pow(a, n) * 0.1,
    "neg": lambda a, b, n: -a,
    "softplus": lambda a, b, n: jax.nn.softplus(a),
    "add": together(jnp.add),
    "sub": together(jnp.subtract),
    "mul": together(jnp.multiply),
    "div": together(lambda a, b: a / (2 + b * b)),
    "max": together(jnp.maximum),
    "min": together(jnp.minimum),
    "atan2": together(lambda a, b: jnp.arctan2(a, 2 + b * b)),
    "where": together(lambda a, b: jnp.where(a > 0.1, a, b)),
    "outer": lambda a, b, n: jnp.outer(a, b),
    "gram": along(lambda a, n: jnp.tensordot(a, a, (0, 0))),
    "sum": along(lambda a, n: jnp.sum(a, axis=n % a.ndim)),
    "largest": along(lambda a, n: jnp.max(a, axis=n % a.ndim) if a.size else a),
    "prod": along(lambda a, n: jnp.prod(a, axis=n % a.ndim)),
    "softmax": along(lambda a, n: jax.nn.softmax(a, axis=0) if a.size else a),
    "running": along(lambda a, n: lax.cumsum(a, n % a.ndim, reverse=n > 1)),
    "flat": lambda a, b, n: jnp.ravel(a),
    "transpose": lambda a, b, n: a.T,
    "reshape": lambda a, b, n: a.reshape(a.shape[::-1]),
    "halves": lambda a, b, n: a.reshape(2, a.size // 2) if a.size % 2 == 0 else a,
    "newaxis": lambda a, b, n: jnp.expand_dims(a, n % (a.ndim + 1)),
    "slice": along(lambda a, n: a[n % 2 :: 1 + n % 3]),
    "reverse": along(lambda a, n: a[::-1]),
    "differences": along(lambda a, n: a[1:] - a[:-1]),
    "pad": along(lambda a, n: jnp.pad(a, [(1, n)] + [(0, 0)] * (a.ndim - 1))),
    "concatenate": along(lambda a, n: jnp.concatenate([a, jnp.sin(a)], axis=n % a.ndim)),
    "stack": lambda a, b, n: jnp.stack([a, a * a], axis=n % (a.ndim + 1)),
    "tile": along(lambda a, n: jnp.tile(a, (2,) + (1,) * (a.ndim - 1))),
    "roll": along(lambda a, n: jnp.roll(a, n, 0)),
    "gather": along(lambda a, n: a[places(a, n)] if len(a) else a),
    "scatter": along(lambda a, n: a.at[places(a, n)].add(a[0] * 2) if len(a) else a),
    "set": along(lambda a, n: a.at[n % len(a)].set(a[0] * 3) if len(a) else a),
    "window": along(lambda a, n: lax.dynamic_slice_in_dim(a, n, len(a) // 2)),
    "sort": along(lambda a, n: jnp.sort(a, axis=0)),
    "clamp": lambda a, b, n: lax.clamp(-0.9, a, 0.8),
    "stop": lambda a, b, n: a * lax.stop_gradient(a),
}

instructions = st.lists(
    st.tuples(
        st.sampled_from(sorted(OPERATIONS)),
        st.integers(0, 7),
        st.integers(0, 7),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=7,
)
shapes = st.sampled_from([(), (1,), (3,), (4,), (2, 3), (1, 3), (3, 1), (2, 1, 2), (0, 2)])


def run(program, *arguments):
    """The last two values of a program, its operands counted from the last value back."""
    values = list(arguments)
    for name, one, other, number in program:
        a, b = values[-1 - one % len(values)], values[-1 - other % len(values)]
        value = OPERATIONS[name](a, b, number)
        while value.size > LIMIT:
            value = jnp.sum(value, axis=0)
        values.append(value)
    return values[-2:]


def compare(program, shape, other_shape, seed):
    random = np.random.default_rng(seed)
    arguments = [jnp.asarray(random.uniform(-1.5, 1.5, size)) for size in (shape, other_shape)]

    def function(x, y):
        return run(program, x, y)

    def number(x, y):
        return sum(jnp.sum(jnp.sin(one)) for one in function(x, y))

    @jax.jit
    def all_of_them(x, y):
        first = [
            blockjac.jacobian(function, (0, 1), order=order)(x, y)
            for order in ("forward", "reverse", "greedy")
        ]
        second = blockjac.jacobian(blockjac.grad(number))(x, y)
        return (
            first,
            jax.jacfwd(function, (0, 1))(x, y),
            second,
            jax.jacfwd(jax.grad(number))(x, y),
        )

    first, wanted, second, wanted_second = all_of_them(*arguments)
    assume(all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((wanted, wanted_second))))
    for found in first:
        same(found, wanted, 1e-9)
    same(second, wanted_second, 1e-7)


def same(found, wanted, rtol):
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        scale = np.abs(two).max(initial=1.0)
        np.testing.assert_allclose(one, two, rtol=rtol, atol=rtol * scale)


@settings(max_examples=12)
@given(instructions, shapes, shapes, st.integers(0, 99))
def test_random_programs(program, shape, other_shape, seed):
    compare(program, shape, other_shape, seed)


@pytest.mark.slow
@settings(max_examples=settings.default.max_examples)
@given(instructions, shapes, shapes, st.integers(0, 10**6))
def test_many_random_programs(program, shape, other_shape, seed):
    compare(program, shape, other_shape, seed)


def test_the_programs_use_many_primitives():
    found = set()
    for name in OPERATIONS:
        for shape in [(3,), (2, 3)]:
            x = jax.ShapeDtypeStruct(shape, jnp.float64)
            found |= primitives_of(jax.make_jaxpr(lambda x: run([(name, 0, 1, 1)], x, x))(x))  # noqa: B023
    assert len(found) >= 40, sorted(found)
