"""Bodies of loops, put together at random: what a step may do to a buffer, a vector, a counter."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

BUFFER, VECTOR, ROWS, STEPS = 6, 3, 4, 5


@dataclass(frozen=True)
class State:
    """What a step changes.

    Attributes:
        buffer: a long vector, written into and read.
        table: rows of the vector's length, written into and read.
        vector: changed as a whole.
        count: an integer that is carried along.
    """

    buffer: jax.Array
    table: jax.Array
    vector: jax.Array
    count: jax.Array

    def changed(self, **parts: jax.Array) -> "State":
        return State(**{**vars(self), **parts})


jax.tree_util.register_dataclass(
    State, data_fields=["buffer", "table", "vector", "count"], meta_fields=[]
)


def entry_set(s, w, x, t):
    return s.changed(buffer=s.buffer.at[t % BUFFER].set(jnp.sin(s.buffer[(t + 1) % BUFFER]) * w[0]))


def entry_set_past_the_end(s, w, x, t):
    return s.changed(buffer=s.buffer.at[t + BUFFER - 2].set(x[0] * s.vector[0]))


def entry_cleared(s, w, x, t):
    return s.changed(buffer=s.buffer.at[t % BUFFER].set(0.0))


def entry_added(s, w, x, t):
    return s.changed(buffer=s.buffer.at[t % BUFFER].add(s.vector[1] * w[1]))


def entries_added_twice(s, w, x, t):
    places = jnp.array([1, 4, 1]) + t % 2
    return s.changed(buffer=s.buffer.at[places].add(jnp.sin(s.vector * x)))


def entries_set_twice(s, w, x, t):
    places = jnp.array([1, 4, 1]) + t % 2
    return s.changed(buffer=s.buffer.at[places].set(jnp.sin(s.vector * x)))


def entries_multiplied(s, w, x, t):
    return s.changed(
        buffer=s.buffer.at[jnp.array([0, 3])].mul(jnp.cos(s.vector[:2]), unique_indices=True)
    )


def window_moved(s, w, x, t):
    piece = lax.dynamic_slice(s.buffer, (t % 5,), (2,))
    moved = jnp.concatenate([s.vector[:1] * w[2], jnp.tanh(piece[:-1])])
    return s.changed(buffer=lax.dynamic_update_slice(s.buffer, moved, (t % 5,)))


def entries_gathered(s, w, x, t):
    return s.changed(vector=s.vector + s.buffer[jnp.array([0, 2, 2]) + t % 3] * x)


def window_read(s, w, x, t):
    return s.changed(vector=jnp.tanh(s.vector) + lax.dynamic_slice(s.buffer, (t % 4,), (VECTOR,)))


def row_set(s, w, x, t):
    return s.changed(table=s.table.at[t % ROWS].set(s.vector * w))


def row_added(s, w, x, t):
    return s.changed(table=s.table.at[t % ROWS].add(jnp.sin(s.vector)))


def column_set(s, w, x, t):
    return s.changed(table=s.table.at[:, t % VECTOR].set(jnp.cos(s.table[:, 0]) * w[0]))


def place_in_table_added(s, w, x, t):
    return s.changed(table=s.table.at[t % ROWS, (t + 1) % VECTOR].add(s.vector[0] * x[1]))


def rows_read(s, w, x, t):
    return s.changed(vector=s.vector + jnp.sum(s.table[jnp.array([0, 2]) + t % 2], 0) * w)


def loop_inside(s, w, x, t):
    vector, passed = lax.scan(lambda c, v: (jnp.sin(c) * v + 0.1, c[0] * v), s.vector, w)
    return s.changed(vector=vector * passed)


def loop_of_loops_inside(s, w, x, t):
    def twice(c, v):
        return lax.fori_loop(0, 2, lambda i, d: jnp.cos(d * v) + x, c), None

    return s.changed(vector=lax.scan(twice, s.vector, w)[0])


def loop_that_writes_inside(s, w, x, t):
    def one(i, buffer):
        return buffer.at[i + 1].set(buffer[i] * w[0] + jnp.sin(buffer[i]))

    return s.changed(buffer=lax.fori_loop(0, BUFFER - 1, one, s.buffer))


def recomputed(s, w, x, t):
    return s.changed(vector=jax.checkpoint(lambda v: jnp.sin(v * x) * jnp.cos(v))(s.vector))


def recomputed_loop(s, w, x, t):
    @jax.checkpoint
    def loop(v):
        return lax.scan(lambda c, u: (jnp.sin(c * u), None), v, w)[0]

    return s.changed(vector=loop(s.vector))


def switched(s, w, x, t):
    def long(v):
        return lax.fori_loop(0, 2, lambda i, c: jnp.sin(c * w), v)

    return s.changed(vector=lax.cond(t % 2 == 0, lambda v: v * x, long, s.vector))


def counted(s, w, x, t):
    return s.changed(count=s.count + 1, vector=s.vector * (1 + s.count % 3))


def summed_up(s, w, x, t):
    return s.changed(vector=jnp.cumsum(s.vector * w))


PIECES: tuple[Callable[..., State], ...] = (
    entry_set,
    entry_set_past_the_end,
    entry_cleared,
    entry_added,
    entries_added_twice,
    entries_set_twice,
    entries_multiplied,
    window_moved,
    entries_gathered,
    window_read,
    row_set,
    row_added,
    column_set,
    place_in_table_added,
    rows_read,
    loop_inside,
    loop_of_loops_inside,
    loop_that_writes_inside,
    recomputed,
    recomputed_loop,
    switched,
    counted,
    summed_up,
)

OPTIONS = tuple(
    {"reverse": reverse, "unroll": unroll}
    for reverse, unroll in itertools.product((False, True), (1, 2))
)


def program(seed: int, pieces: int = 4) -> Callable[..., tuple[jax.Array, ...]]:
    """A function of weights and a start: a scan whose body is some of the pieces, one by one.

    Every piece is in one of the first `len(PIECES)` programs.
    """
    random = np.random.default_rng(seed)
    others = random.integers(len(PIECES), size=pieces - 1)
    chosen = [PIECES[seed % len(PIECES)], *(PIECES[place] for place in others)]
    random.shuffle(chosen)
    options = OPTIONS[random.integers(len(OPTIONS))]

    def run(w: jax.Array, start: jax.Array) -> tuple[jax.Array, ...]:
        table = jnp.outer(jnp.arange(1.0, ROWS + 1), start[:VECTOR])
        state = State(start, table, jnp.sin(start[:VECTOR]), jnp.array(0))
        xs = jnp.outer(jnp.linspace(0.5, 1.0, STEPS), w)

        def step(state: State, given: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
            t, x = given
            for piece in chosen:
                state = piece(state, w, x, t)
            return state, jnp.sum(state.buffer) * state.vector

        last, seen = lax.scan(step, state, (jnp.arange(STEPS), xs), **options)
        return last.buffer, last.table, last.vector, seen

    return run


def arguments(seed: int) -> tuple[jax.Array, jax.Array]:
    """Weights and a start."""
    random = np.random.default_rng(seed)
    weights, start = (random.uniform(0.2, 0.9, size) for size in (VECTOR, BUFFER))
    return jnp.asarray(weights), jnp.asarray(start)
