"""No figure jumps where a size passes a limit of the library: neighbours below and above are alike.

Each program has a pattern that is known by construction. It is taken at sizes just below, at and
above one of the library's limits: the places are those of the pattern, and the numbers stored grow
no faster than it does.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac.algebra import index_arrays, listing, masks, nonzeros
from blockjac.algebra.mask_layout import MOST_RUNS
from blockjac.algebra.sums import MAX_TERMS
from blockjac.graph import zero_rules
from blockjac.rules.running import MAX_WRITTEN

pytestmark = pytest.mark.slow

GROWTH = 1.3
"""So much faster than the pattern the numbers stored may grow between neighbouring sizes."""

SLACK = 1000
"""So many numbers more than twice the places may be stored, and count as none in a comparison."""


@dataclass(frozen=True)
class Program:
    """A function with its arguments, and how many places its Jacobian has."""

    fun: Callable[..., jax.Array]
    arguments: tuple[Any, ...]
    places: int


WIDE = 16
"""About so many places a window has where it is no longer written as one slice a place."""


Family = Callable[[int], Program]
"""From a size to a program of that size."""


def _entries(rng: np.random.Generator, count: int) -> jax.Array:
    return jnp.asarray(rng.uniform(0.5, 1.5, count))


def _total(terms: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, terms)


def _places(*maps: np.ndarray) -> int:
    """How many places the maps of rows to columns have, those of several counted once."""
    rows = np.arange(len(maps[0]))
    return len({(row, column) for each in maps for row, column in zip(rows, each, strict=True)})


def shifted_terms(count: int) -> Program:
    """A sum of shifts by constants."""
    rng = np.random.default_rng(0)
    starts = np.sort(rng.choice(3 * MAX_TERMS, count, replace=False))
    n = 200

    def fun(x: jax.Array) -> jax.Array:
        return _total([(1 + k) * jnp.sin(x[k : k + n]) for k in map(int, starts)])

    return Program(fun, (_entries(rng, n + 3 * MAX_TERMS),), count * n)


def gathers_at_constants(count: int) -> Program:
    """A sum of gathers at constant places."""
    rng = np.random.default_rng(1)
    n = 300
    reads = rng.integers(0, n, (count, n))

    def fun(x: jax.Array) -> jax.Array:
        return _total([(1 + k) * jnp.sin(x[each]) for k, each in enumerate(reads)])

    return Program(fun, (_entries(rng, n),), _places(*reads))


def gathers_at_run_time(count: int) -> Program:
    """A sum of gathers at places that are arguments."""
    rng = np.random.default_rng(2)
    n = 300
    reads = rng.integers(0, n, (count, n))

    def fun(x: jax.Array, reads: jax.Array) -> jax.Array:
        return _total([(1 + k) * jnp.sin(x[reads[k]]) for k in range(count)])

    return Program(fun, (_entries(rng, n), jnp.asarray(reads)), _places(*reads))


def shifts_and_gathers_at_run_time(count: int) -> Program:
    """As many shifts by constants as gathers at places that are arguments."""
    rng = np.random.default_rng(3)
    n = 300
    reads = rng.integers(0, n, (count, n))

    def fun(x: jax.Array, reads: jax.Array) -> jax.Array:
        return _total([jnp.sin(x[reads[k]]) * jnp.roll(x, -k) for k in range(count)])

    shifts = [(np.arange(n) + k) % n for k in range(count)]
    return Program(fun, (_entries(rng, n), jnp.asarray(reads)), _places(*reads, *shifts))


def diagonals_of_a_constant(count: int) -> Program:
    """A product with a constant matrix of so many diagonals."""
    rng = np.random.default_rng(4)
    n = 200
    offsets = np.sort(rng.choice(n, count, replace=False)) - n // 2
    matrix = sum(np.diag(rng.uniform(0.5, 1.5, n - abs(k)), k) for k in map(int, offsets))
    return Program(
        lambda x: jnp.asarray(matrix) @ jnp.sin(x),
        (_entries(rng, n),),
        int(np.count_nonzero(matrix)),
    )


def a_large_constant(n: int) -> Program:
    """A product with a constant matrix of three diagonals."""
    rng = np.random.default_rng(5)
    matrix = sum(np.diag(rng.uniform(0.5, 1.5, n - k), k) for k in (0, 1, 3))
    return Program(
        lambda x: jnp.asarray(matrix) @ jnp.sin(x),
        (_entries(rng, n),),
        int(np.count_nonzero(matrix)),
    )


def a_running_product(n: int) -> Program:
    """Triangular in one axis, with a delta in the other."""
    x = _entries(np.random.default_rng(6), 2 * n).reshape(2, n)
    return Program(lambda x: jnp.cumprod(x, 1), (x,), n * (n + 1))


def products_of_windows(width: int) -> Program:
    """Windows of so many places, joined by a function of the program's own."""
    n = 300

    def fun(x: jax.Array) -> jax.Array:
        return jax.lax.reduce_window(x, 1.0, jax.lax.mul, (width,), (1,), "valid")

    return Program(fun, (_entries(np.random.default_rng(7), n),), (n - width + 1) * width)


def overlapping_elements(count: int) -> Program:
    """Gradients of elements of four nodes each, many between the same nodes."""
    rng = np.random.default_rng(9)
    n = 300
    ends = (rng.integers(0, n, (count, 1)) + 3 * np.arange(4)) % n

    def energy(x: jax.Array) -> jax.Array:
        nodes = [x[ends[:, k]] for k in range(4)]
        return jnp.sum(jnp.sin(nodes[0] * nodes[1] + nodes[2] * nodes[3]))

    pairs = {(row, column) for element in ends for row in element for column in element}
    return Program(jax.grad(energy), (_entries(rng, n),), len(pairs))


def windows_of_a_gather(n: int) -> Program:
    """Sums of windows with strides and holes over entries at constant places."""
    reads = np.random.default_rng(10).integers(0, n, n)

    def fun(x: jax.Array) -> jax.Array:
        return jax.lax.reduce_window(
            jnp.sin(x)[reads], 0.0, jax.lax.add, (3,), (2,), ((1, 1),), window_dilation=(2,)
        )

    padded = np.pad(reads, 1, constant_values=-1)
    rows = 2 * np.arange((n + 2 - 5) // 2 + 1)
    places = {
        (row, padded[row + 2 * k]) for row in rows for k in range(3) if padded[row + 2 * k] >= 0
    }
    return Program(fun, (_entries(np.random.default_rng(11), n),), len(places))


def shifts_of_gathers(n: int) -> Program:
    """Shifts that leave the array at its ends, read at constant places."""
    rng = np.random.default_rng(12)
    first, second = rng.integers(0, n, (2, n))

    def fun(x: jax.Array) -> jax.Array:
        late = jnp.pad(jnp.sin(x), (3, 0))[:n]
        return jnp.concatenate([late[2:], x[:2]])[first] * jnp.sin(x)[second]

    moved = np.concatenate([np.arange(n)[2:] - 3, [0, 1]])[first]
    rows = np.arange(n)
    read = {(row, place) for row, place in zip(rows, moved, strict=True) if place >= 0}
    return Program(fun, (_entries(rng, n),), len(read | set(zip(rows, second, strict=True))))


SWEEPS: dict[str, tuple[Family, int]] = {
    "shifted terms": (shifted_terms, MAX_TERMS),
    "gathers at constants": (gathers_at_constants, MAX_TERMS),
    "gathers at run time": (gathers_at_run_time, MAX_TERMS),
    "shifts and gathers": (shifts_and_gathers_at_run_time, MAX_TERMS),
    "diagonals of a constant": (diagonals_of_a_constant, MOST_RUNS),
    "a large constant": (a_large_constant, int(zero_rules.LARGEST**0.5)),
    "a running product": (a_running_product, MAX_WRITTEN),
    "products of windows": (products_of_windows, WIDE),
}


LOWERED: dict[str, tuple[Family, tuple[int, ...], Any, str, int]] = {
    "entries of a list": (
        overlapping_elements,
        (890, 900, 901, 1000),
        listing,
        "MOST_LISTED",
        14400,
    ),
    "a pattern of terms": (windows_of_a_gather, (98, 100, 102), nonzeros, "LARGEST", 5000),
    "a mask of a product": (windows_of_a_gather, (106, 108, 110), masks, "LARGEST", 330),
    "a mask of places": (windows_of_a_gather, (118, 120, 122), index_arrays, "LARGEST_KNOWN", 360),
    "a mask of shifts": (shifts_of_gathers, (399, 400, 401), index_arrays, "LARGEST_KNOWN", 400),
}
"""Limits that programs of a size for tests do not reach, lowered to where the sizes pass them."""


@pytest.mark.slow
@pytest.mark.parametrize("name", LOWERED)
def test_stored_numbers_do_not_jump_at_a_lowered_limit(name, monkeypatch):
    family, sizes, module, limit, value = LOWERED[name]
    monkeypatch.setattr(module, limit, value)
    check_sizes(family, sizes)


@pytest.mark.parametrize("name", SWEEPS)
def test_stored_numbers_do_not_jump_at_a_limit(name):
    family, limit = SWEEPS[name]
    check_sizes(family, (limit - 1, limit, limit + 1, limit + 2))


def check_sizes(family: Family, sizes: tuple[int, ...]) -> None:
    """What is stored of programs of these sizes grows as their patterns do, and products agree."""
    before: tuple[int, int] | None = None
    for size in sizes:
        program = family(size)
        block = blockjac.block_jacobian(program.fun)(*program.arguments)
        entries = int(np.prod(block.shape))
        assert block.nnz <= 1.1 * program.places + 100
        if 4 * program.places <= entries:
            assert block.stored <= 2 * program.places + SLACK
        if before is not None:
            stored, places = before
            assert block.stored + SLACK <= GROWTH * (stored + SLACK) * program.places / places
        before = block.stored, program.places
        x, *others = program.arguments
        vector = jnp.asarray(np.random.default_rng(8).normal(size=x.shape))
        _, product = jax.jvp(lambda x, own=program.fun, rest=others: own(x, *rest), (x,), (vector,))
        np.testing.assert_allclose(block.matvec(vector), product, rtol=1e-9, atol=1e-11)
