"""Maps with patterns that are known by construction, to be composed into programs.

Each kind draws a map of one vector to another, in the words that programs use, and says from NumPy
alone which entries of its result depend on which of its argument. No two terms of a map cancel.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Map = Callable[[jax.Array], jax.Array]


@dataclass(frozen=True, eq=False)
class Step:
    """A map of vectors, and its pattern.

    Attributes:
        apply: the map.
        pattern: boolean, `(entries of the result, entries of the argument)`.
    """

    apply: Map
    pattern: np.ndarray


Kind = Callable[[np.random.Generator, int], Step]
"""Draws a step for an argument of so many entries."""


def reads(*places: np.ndarray, size: int) -> np.ndarray:
    """The pattern of a result whose entries read these places each; -1 reads nothing."""
    rows = np.arange(places[0].size)
    found = np.zeros((places[0].size, size), bool)
    for each in places:
        flat = each.ravel()
        found[rows[flat >= 0], flat[flat >= 0]] = True
    return found


def where_moved(move: Callable[[np.ndarray], np.ndarray], size: int) -> np.ndarray:
    """The pattern of what moves entries alone: where each comes from, 0 reading nothing."""
    return reads(move(np.arange(1, size + 1)) - 1, size=size)


def where_summed(total: Callable[[np.ndarray], np.ndarray], size: int) -> np.ndarray:
    """The pattern of a linear map without negative numbers, written in NumPy."""
    columns = [np.asarray(total(unit)).ravel() for unit in np.eye(size)]
    return np.stack(columns, 1) != 0


def factors_of(rng: np.random.Generator, size: int, count: int = 2) -> tuple[int, ...]:
    """A shape of `count` axes with `size` entries, drawn at random."""
    shape = []
    for _ in range(count - 1):
        divisors = [one for one in range(1, size + 1) if size % one == 0]
        inner = [one for one in divisors if 1 < one < size] or divisors
        shape.append(int(rng.choice(inner)))
        size //= shape[-1]
    return (*shape, size)


def pieces(rng: np.random.Generator, size: int) -> Step:
    """Cut into pieces, of which some come back in another order, some twice or not at all."""
    cuts = np.sort(rng.choice(np.arange(1, size), 3, replace=False))
    bounds = [0, *map(int, cuts), size]
    order = [int(one) for one in rng.integers(0, 4, int(rng.integers(2, 6)))]
    signs = rng.choice([-1, 1], len(order))
    numbers = rng.uniform(0.5, 2, len(order))

    def apply(x: jax.Array) -> jax.Array:
        parts = [x[bounds[k] : bounds[k + 1]][::sign] for k, sign in zip(order, signs, strict=True)]
        scaled = [jnp.tanh(c * part) for c, part in zip(numbers, parts, strict=True)]
        return jnp.concatenate(scaled)

    def move(x: np.ndarray) -> np.ndarray:
        parts = [x[bounds[k] : bounds[k + 1]][::sign] for k, sign in zip(order, signs, strict=True)]
        return np.concatenate(parts)

    return Step(apply, where_moved(move, size))


def stacked(rng: np.random.Generator, size: int) -> Step:
    """Windows beside each other as rows or columns of a matrix."""
    count = int(rng.integers(2, 4))
    length = size // count
    starts = [int(one) for one in rng.integers(0, size - length + 1, count)]
    axis = int(rng.integers(2))

    def stack(x: Any, xp: Any) -> Any:
        return xp.stack([x[start : start + length] for start in starts], axis).ravel()

    return Step(lambda x: jnp.sin(stack(x, jnp)), where_moved(lambda x: stack(x, np), size))


def rolled(rng: np.random.Generator, size: int) -> Step:
    """Products and sums of rolls along an axis of a matrix."""
    shape = factors_of(rng, size) if rng.integers(2) else (1, size)
    axis = int(rng.integers(2))
    shifts = [int(one) for one in rng.integers(-3, 4, 3)]

    def apply(x: jax.Array) -> jax.Array:
        one, two, three = (jnp.roll(x.reshape(shape), k, axis) for k in shifts)
        return (one * two + jnp.sin(three)).ravel()

    where = np.arange(size).reshape(shape)
    return Step(apply, reads(*(np.roll(where, k, axis) for k in shifts), size=size))


def padded(rng: np.random.Generator, size: int) -> Step:
    """Padding of a matrix, negative and interior too."""
    shape = factors_of(rng, size) if rng.integers(2) else (size,)
    config = []
    for length in shape:
        low, high = (int(one) for one in rng.integers(-(length // 4), 4, 2))
        config.append((low, high, int(rng.integers(0, 2))))

    def apply(x: jax.Array) -> jax.Array:
        return lax.pad(jnp.sin(x).reshape(shape), jnp.zeros((), x.dtype), config).ravel()

    return Step(apply, where_moved(lambda x: _padded(x.reshape(shape), config).ravel(), size))


def _padded(x: np.ndarray, config: list[tuple[int, int, int]]) -> np.ndarray:
    for axis, (low, high, interior) in enumerate(config):
        x = np.moveaxis(x, axis, 0)
        spread = np.zeros((len(x) + interior * (len(x) - 1), *x.shape[1:]), x.dtype)
        spread[:: interior + 1] = x
        around = [(max(low, 0), max(high, 0))] + [(0, 0)] * (x.ndim - 1)
        whole = np.pad(spread, around)
        x = np.moveaxis(whole[max(-low, 0) : len(whole) - max(-high, 0)], 0, axis)
    return x


def windows(rng: np.random.Generator, size: int) -> Step:
    """Sums over windows, with strides and dilations, within the array or beyond it."""
    width, stride, dilation = (int(one) for one in rng.integers([2, 1, 1], [6, 3, 3]))
    shape = factors_of(rng, size) if rng.integers(2) else (1, size)
    reach = (width - 1) * dilation + 1
    low, high = (int(one) for one in rng.integers(0, 3, 2))
    if shape[1] + low + high < reach:
        shape = (1, size)

    def apply(x: jax.Array) -> jax.Array:
        return lax.reduce_window(
            jnp.sin(x).reshape(shape),
            np.zeros((), x.dtype)[()],
            lax.add,
            (1, width),
            (1, stride),
            ((0, 0), (low, high)),
            window_dilation=(1, dilation),
        ).ravel()

    where = np.pad(np.arange(1, size + 1).reshape(shape), ((0, 0), (low, high)))
    count = (where.shape[1] - reach) // stride + 1
    starts = stride * np.arange(count)
    return Step(
        apply, reads(*(where[:, starts + dilation * k] - 1 for k in range(width)), size=size)
    )


def running(rng: np.random.Generator, size: int) -> Step:
    """Running sums of short pieces, along either axis."""
    short = next(k for k in (6, 5, 4, 3, 2, 1) if size % k == 0)
    shape, axis = ((short, size // short), 0) if rng.integers(2) else ((size // short, short), 1)
    reverse = bool(rng.integers(2))

    def apply(x: jax.Array) -> jax.Array:
        return lax.cumsum(jnp.sin(x).reshape(shape), axis, reverse=reverse).ravel()

    def total(x: np.ndarray) -> np.ndarray:
        x = np.flip(x.reshape(shape), axis) if reverse else x.reshape(shape)
        found = np.cumsum(x, axis)
        return np.flip(found, axis) if reverse else found

    return Step(apply, where_summed(total, size))


def taken(rng: np.random.Generator, size: int) -> Step:
    """Entries read at constant places, repeated ones and some off the array."""
    places = rng.integers(-size - 5, size + 5, size)
    mode = str(rng.choice(["fill", "clip", "wrap"]))

    def apply(x: jax.Array) -> jax.Array:
        if mode == "fill":
            return jnp.take(jnp.sin(x), places, mode="fill", fill_value=0.5)
        return jnp.take(jnp.sin(x), places, mode=mode)

    inside = np.where(places < 0, places + size, places)
    own = {
        "fill": np.where((inside >= 0) & (inside < size), inside, -1),
        "clip": np.clip(places, 0, size - 1),
        "wrap": places % size,
    }[mode]
    return Step(apply, reads(own, size=size))


def rows_taken(rng: np.random.Generator, size: int) -> Step:
    """Rows or columns of a matrix read at constant places."""
    shape = factors_of(rng, size)
    axis = int(rng.integers(2))
    places = rng.integers(0, shape[axis], shape[axis])

    def apply(x: jax.Array) -> jax.Array:
        return jnp.take(jnp.cos(x + 0.2).reshape(shape), places, axis).ravel()

    return Step(apply, reads(np.take(np.arange(size).reshape(shape), places, axis), size=size))


def segments(rng: np.random.Generator, size: int) -> Step:
    """Sums over segments that are known, some of them empty."""
    count = size // 2
    ids = rng.integers(0, count, size)

    def apply(x: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(jnp.sin(x), ids, count)

    pattern = np.zeros((count, size), bool)
    pattern[ids, np.arange(size)] = True
    return Step(apply, pattern)


def put(rng: np.random.Generator, size: int) -> Step:
    """A window that is set, and places to which is added."""
    start, length = int(rng.integers(0, size // 2)), size // 3
    source = int(rng.integers(0, size - length))
    places = rng.choice(size, size // 4, replace=False)

    def apply(x: jax.Array) -> jax.Array:
        y = jnp.sin(x).at[start : start + length].set(x[source : source + length] ** 2)
        return y.at[places].add(jnp.cos(x[: len(places)] + 0.2))

    pattern = np.eye(size, dtype=bool)
    pattern[start : start + length] = False
    pattern[start + np.arange(length), source + np.arange(length)] = True
    pattern[places, np.arange(len(places))] = True
    return Step(apply, pattern)


def sliced(rng: np.random.Generator, size: int) -> Step:
    """A window at a place that is known, laid upon the array at another."""
    length = size // 2
    start, target = (int(one) for one in rng.integers(0, size - length, 2))

    def apply(x: jax.Array) -> jax.Array:
        window = lax.dynamic_slice(jnp.sin(x), (start,), (length,))
        return lax.dynamic_update_slice(x**2 + x, window, (target,))

    pattern = np.eye(size, dtype=bool)
    pattern[target : target + length] = False
    pattern[target + np.arange(length), start + np.arange(length)] = True
    return Step(apply, pattern)


def stencil(rng: np.random.Generator, size: int) -> Step:
    """A stencil on a grid: neighbours in both directions, beyond the edge zero or around it."""
    shape = factors_of(rng, size)
    around = bool(rng.integers(2))
    steps = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1)][: int(rng.integers(3, 7))]
    mode = "wrap" if around else "constant"

    def shifted(grid: Any, step: tuple[int, int], xp: Any) -> Any:
        wide = xp.pad(grid, 1, mode=mode)
        return wide[1 + step[0] : 1 + step[0] + shape[0], 1 + step[1] : 1 + step[1] + shape[1]]

    def apply(x: jax.Array) -> jax.Array:
        u = x.reshape(shape)
        moved = [(1 + k) * shifted(jnp.sin(u), step, jnp) for k, step in enumerate(steps)]
        return ((2 + jnp.sin(u)) * functools.reduce(jnp.add, moved)).ravel()

    numbers = np.arange(1, size + 1).reshape(shape)
    return Step(apply, reads(*(shifted(numbers, step, np) - 1 for step in steps), size=size))


def steps_of_a_scan(rng: np.random.Generator, size: int) -> Step:
    """A few steps of a loop over rows, each adding its row to what the others left."""
    count = next(k for k in (4, 3, 2, 5, 1) if size % k == 0)
    shape = (count, size // count)
    shift = int(rng.integers(0, 2))

    def apply(x: jax.Array) -> jax.Array:
        rows = x.reshape(shape)

        def body(carry: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
            new = jnp.roll(carry, shift) + jnp.sin(row)
            return new, new * 2

        return lax.scan(body, jnp.zeros(shape[1]), rows)[1].ravel()

    def total(x: np.ndarray) -> np.ndarray:
        found, carry = [], np.zeros(shape[1])
        for row in x.reshape(shape):
            carry = np.roll(carry, shift) + row
            found.append(carry)
        return np.concatenate(found)

    return Step(apply, where_summed(total, size))


def repeated(rng: np.random.Generator, size: int) -> Step:
    """A stencil applied a few times, in a loop."""
    count = int(rng.integers(1, 4))

    def apply(x: jax.Array) -> jax.Array:
        return lax.fori_loop(0, count, lambda _, y: jnp.sin(y) * jnp.roll(y, 1) + y, x)

    shifts = [(np.arange(size) - k) % size for k in range(count + 1)]
    return Step(apply, reads(*shifts, size=size))


def einsums(rng: np.random.Generator, size: int) -> Step:
    """Products with constant matrices along one of three axes, of which the others are deltas."""
    shape = factors_of(rng, size, 3)
    axis = int(np.argmin([one if one > 1 else size for one in shape]))
    letters = "abc"
    matrix = rng.uniform(0.5, 1.5, (3, shape[axis]))
    result = "".join(rng.permutation(list(letters.replace(letters[axis], "z"))))
    formula = f"abc,z{letters[axis]}->{result}"

    def apply(x: jax.Array) -> jax.Array:
        return jnp.einsum(formula, jnp.sin(x).reshape(shape), matrix).ravel()

    return Step(apply, where_summed(lambda x: np.einsum(formula, x.reshape(shape), matrix), size))


def diagonals(rng: np.random.Generator, size: int) -> Step:
    """The diagonals of square pieces, each times the sum of its piece's row."""
    side = next(k for k in (4, 3, 2, 1) if size % k**2 == 0)
    shape = (size // side**2, side, side)

    def apply(x: jax.Array) -> jax.Array:
        cubes = x.reshape(shape)
        return jnp.einsum("bii,bij->bi", cubes, 2 + jnp.sin(cubes)).ravel()

    where = np.arange(size).reshape(shape)
    return Step(apply, reads(*(where[:, :, j] for j in range(side)), size=size))


def mapped(rng: np.random.Generator, size: int) -> Step:
    """A map of vectors under `vmap`, over either axis in and out."""
    shape = factors_of(rng, size)
    axis, out = (int(one) for one in rng.integers(0, 2, 2))
    inner = INNER[int(rng.integers(len(INNER)))](rng, shape[1 - axis])

    def apply(x: jax.Array) -> jax.Array:
        return jax.vmap(inner.apply, axis, out)(x.reshape(shape)).ravel()

    batch = shape[axis]
    rows = inner.pattern.shape[0]
    pattern = np.einsum("oi,bc->bcoi", inner.pattern, np.eye(batch, dtype=bool))
    order = [*((0, 2) if out == 0 else (2, 0)), *((1, 3) if axis == 0 else (3, 1))]
    pattern = pattern.transpose(order)
    return Step(apply, pattern.reshape(rows * batch, size))


def scaled(rng: np.random.Generator, size: int) -> Step:
    """A constant mask and constant numbers of which many are zero."""
    numbers = rng.uniform(0.5, 1.5, size) * (rng.uniform(size=size) < 0.6)
    keep = rng.uniform(size=size) < 0.7

    def apply(x: jax.Array) -> jax.Array:
        return jnp.where(keep, jnp.sin(x), 0.0) + numbers * jnp.roll(x, 2)

    kept, moved = np.arange(size), (np.arange(size) - 2) % size
    return Step(
        apply, reads(np.where(keep, kept, -1), np.where(numbers != 0, moved, -1), size=size)
    )


def cut_elsewhere(rng: np.random.Generator, size: int) -> Step:
    """Transposes of reshapes along boundaries that do not divide each other."""
    one, other = factors_of(rng, size, 3), factors_of(rng, size)
    order = tuple(int(axis) for axis in rng.permutation(3))

    def move(x: Any) -> Any:
        return x.reshape(one).transpose(order).reshape(other).T.ravel()

    return Step(lambda x: jnp.cos(move(x) + 0.3), where_moved(move, size))


INNER: tuple[Kind, ...] = (rolled, taken, padded, windows, segments, pieces)
"""Kinds that are put under `vmap`."""

KINDS: tuple[Kind, ...] = (
    pieces,
    stacked,
    rolled,
    padded,
    windows,
    running,
    taken,
    rows_taken,
    segments,
    put,
    sliced,
    stencil,
    repeated,
    einsums,
    diagonals,
    mapped,
    scaled,
    cut_elsewhere,
)
"""All kinds whose pattern is kept after any other."""


@dataclass(frozen=True, eq=False)
class Composition:
    """Steps after each other.

    Attributes:
        names: of their kinds.
        apply: the program.
        pattern: of its Jacobian.
        x: an argument.
    """

    names: tuple[str, ...]
    apply: Map
    pattern: np.ndarray
    x: jax.Array


def composition(
    seed: int, size: int = 120, depth: int = 3, kinds: tuple[Kind, ...] = KINDS
) -> Composition:
    """A program of so many random steps of some kinds."""
    rng = np.random.default_rng(seed)
    return composed(rng, size, [kinds[int(one)] for one in rng.integers(0, len(kinds), depth)])


def composed(rng: np.random.Generator, size: int, kinds: Sequence[Kind]) -> Composition:
    """A program of one step of each kind after the other, as long as some entries are left."""
    pattern, steps = np.eye(size, dtype=bool), []
    for kind in kinds:
        if len(pattern) < 8:
            break
        steps.append(kind(rng, len(pattern)))
        pattern = steps[-1].pattern @ pattern

    def apply(x: jax.Array) -> jax.Array:
        for step in steps:
            x = step.apply(x)
        return x

    names = tuple(kind.__name__ for kind in kinds)
    return Composition(names, apply, pattern, jnp.asarray(rng.uniform(0.5, 1.5, size)))
