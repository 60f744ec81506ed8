"""Programs whose pattern is known by construction keep it, however many terms they are made of."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.sampling import sampled

import blockjac
from blockjac.algebra.sums import MAX_TERMS

pytestmark = pytest.mark.slow

Step = tuple[Callable[[jax.Array], jax.Array], np.ndarray]
"""A map, and the pattern of its Jacobian."""


def pattern_of(*maps: np.ndarray, size: int) -> np.ndarray:
    """The boolean matrix of `sum over maps of x[map]`; -1 reads nothing."""
    rows = len(maps[0])
    found = np.zeros((rows, size), bool)
    for places in maps:
        read = places >= 0
        found[np.arange(rows)[read], places[read]] = True
    return found


def check_pattern(fun: Callable[..., jax.Array], x: jax.Array, wanted: np.ndarray) -> None:
    """The block has the wanted places alone, stores little more, and the right values."""
    block = blockjac.block_jacobian(fun)(x)
    got = block.pattern().to_scipy().toarray()
    places = int(wanted.sum())
    if 4 * places <= wanted.size:
        assert not (got & ~wanted).any()
        assert block.stored <= 2 * places + 1000
    exact = np.asarray(jax.jit(jax.jacfwd(fun))(x)).reshape(wanted.shape)
    np.testing.assert_allclose(block.to_scipy().toarray(), exact, rtol=1e-10, atol=1e-12)
    vector = np.random.default_rng(0).normal(size=x.shape)
    product = np.asarray(block.matvec(vector)).ravel()
    np.testing.assert_allclose(product, exact @ vector.ravel(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("count", [2, MAX_TERMS, MAX_TERMS + 1, 33, 60])
def test_sums_of_shifted_terms(count):
    """`sum_k sin(x[k : k + n])`, each times the first: bands of any width."""
    rng = np.random.default_rng(count)
    size = 4 * count + 40
    starts = np.sort(rng.choice(2 * count + 1, count, replace=False))
    n = size - int(starts[-1])

    def fun(x: jax.Array) -> jax.Array:
        return sum((1 + k) * jnp.sin(x[k : k + n]) * x[:n] for k in map(int, starts))

    maps = [np.arange(n), *(np.arange(n) + k for k in starts)]
    check_pattern(fun, jnp.asarray(rng.normal(size=size)), pattern_of(*maps, size=size))


def _reshaped(rng: np.random.Generator, size: int) -> Step:
    """Reshapes whose boundaries do not divide each other, in a row."""
    one, other = rng.permutation([(6, size // 6), (4, size // 4), (size // 10, 10)])[:2]
    turned = np.arange(size).reshape(one).T.reshape(other).T.ravel()

    def step(x: jax.Array) -> jax.Array:
        return jnp.cos(jnp.sin(x.reshape(one)).T.reshape(other)).T.ravel()

    return step, pattern_of(turned, size=size)


def _many_terms(rng: np.random.Generator, size: int) -> Step:
    """A sum of up to a hundred shifted terms, on few diagonals."""
    shifts = rng.choice([-2, 0, 1, 5], int(rng.integers(17, 100)))
    maps = [(np.arange(size) - k) % size for k in np.unique(shifts)]

    def step(x: jax.Array) -> jax.Array:
        return sum(jnp.roll(x, k) * (1 + place) for place, k in enumerate(map(int, shifts)))

    return step, pattern_of(*maps, size=size)


def _scattered(rng: np.random.Generator, size: int) -> Step:
    """Entries added up at places of other entries."""
    places = rng.integers(0, size, size)

    def step(x: jax.Array) -> jax.Array:
        return x + jnp.zeros(size).at[places].add(jnp.sin(x))

    return step, np.eye(size, dtype=bool) | pattern_of(places, size=size).T


MORE = {4: _reshaped, 5: _many_terms, 6: _scattered}
STEPS = range(7)


@pytest.mark.slow
@pytest.mark.parametrize("seed", sampled(range(1, 25), 6))
def test_compositions_of_gathers_and_shifts(seed):
    """Maps with known index maps after each other: gathers, reversals, reshapes, windows."""
    rng = np.random.default_rng(seed)
    size = 60
    current: Callable[[jax.Array], jax.Array] = lambda x: x  # noqa: E731
    pattern = np.eye(size, dtype=bool)
    for _ in range(3):
        step, own = _random_step(rng, len(pattern))
        current = _after(step, current)
        pattern = own @ pattern
    check_pattern(current, jnp.asarray(rng.uniform(0.5, 1.5, size)), pattern)


def _after(
    step: Callable[[jax.Array], jax.Array], before: Callable[[jax.Array], jax.Array]
) -> Callable[[jax.Array], jax.Array]:
    return lambda x: step(before(x))


def _random_step(
    rng: np.random.Generator, size: int
) -> tuple[Callable[[jax.Array], jax.Array], np.ndarray]:
    kind = rng.integers(len(STEPS))
    if kind in MORE:
        return MORE[kind](rng, size)
    if kind == 0:
        places = rng.integers(0, size, size)
        return lambda x: jnp.sin(x[places]), pattern_of(places, size=size)
    if kind == 1:
        one, other = rng.integers(0, size, (2, size))
        return lambda x: x[one] * x[other], pattern_of(one, other, size=size)
    if kind == 2:
        around = [(np.arange(size) + k) % size for k in (-1, 0, 2)]
        return (
            lambda x: jnp.roll(x, 1) * x + jnp.roll(x, -2),
            pattern_of(*around, size=size),
        )
    turned = np.arange(size).reshape(-1, 4).T.ravel()
    return lambda x: jnp.exp(-jnp.reshape(x, (-1, 4)).T.ravel()), pattern_of(turned, size=size)


@pytest.mark.parametrize("size", [40, 150])
def test_a_step_of_runge_kutta_of_lorenz_96(size):
    """Four stencils inside each other: a periodic band of thirteen."""

    def slope(x: jax.Array) -> jax.Array:
        return (jnp.roll(x, -1) - jnp.roll(x, 2)) * jnp.roll(x, 1) - x + 8.0

    def step(x: jax.Array, h: float = 0.01) -> jax.Array:
        a = slope(x)
        b = slope(x + h / 2 * a)
        c = slope(x + h / 2 * b)
        return x + h / 6 * (a + 2 * b + 2 * c + slope(x + h * c))

    around = [(np.arange(size) + k) % size for k in range(-8, 5)]
    x = jnp.asarray(np.random.default_rng(0).normal(size=size))
    check_pattern(step, x, pattern_of(*around, size=size))


def test_an_assembled_stiffness_matrix():
    """Springs between nodes: each pair of neighbours is a place, read element by element or node
    by node."""
    rng = np.random.default_rng(0)
    ends = np.unique(np.sort(rng.integers(0, 30, (50, 2)), 1), axis=0)
    ends = ends[ends[:, 0] != ends[:, 1]]

    def by_elements(R: jax.Array) -> jax.Array:
        p = R[ends]
        return jnp.sum(jnp.sqrt(1 + jnp.sum((p[:, 0] - p[:, 1]) ** 2, 1)))

    def by_nodes(R: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sqrt(1 + jnp.sum((R[ends[:, 0]] - R[ends[:, 1]]) ** 2, 1)))

    R = jnp.asarray(rng.normal(size=(30, 2)))
    wanted = 4 * (len(np.unique(ends)) + 2 * len(ends))
    for energy in (by_elements, by_nodes):
        H = blockjac.block_hessian(energy)(R)[0, 0]
        assert H.nnz == wanted
        assert H.stored <= 2 * wanted + 1000
        exact = jax.jit(jax.hessian(energy))(R)
        np.testing.assert_allclose(H.dense(), exact, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(
            H.diagonal(), np.einsum("ijij->ij", exact), rtol=1e-9, atol=1e-11
        )


def test_writes_in_a_python_loop():
    """`y.at[i].set(...)` for each i: what a place is written from, and nothing else."""

    def fun(x: jax.Array) -> jax.Array:
        y = jnp.zeros(24)
        for i in range(23):
            y = y.at[i].set(x[i] * x[i + 1])
        return y

    pattern = pattern_of(np.append(np.arange(23), -1), np.append(np.arange(1, 24), -1), size=24)
    x = jnp.asarray(np.random.default_rng(0).normal(size=24))
    check_pattern(fun, x, pattern)


def _chain(size: int, reads: Callable[[int], int]) -> Callable[[jax.Array], jax.Array]:
    """An array that is filled entry by entry in a Python loop."""

    def fill(y: jax.Array) -> jax.Array:
        x = jnp.zeros(size)
        for t in range(size):
            x = x.at[t].set(y[reads(t)])
        return x

    return fill


def _controls(y: jax.Array) -> jax.Array:
    """The dynamics of an optimal control problem whose variables are read one by one."""
    place, speed = _chain(5, lambda t: 2 * t)(y), _chain(5, lambda t: 2 * t + 1)(y)
    first = place[1:] - place[:-1] - 0.2 * speed[:-1]
    second = speed[1:] - speed[:-1] + 0.004 * place[:-1] - 0.2 * y[10:14] + 0.01 * speed[:-1] ** 2
    return jnp.concatenate([first, second])


FILLED = {
    "square": lambda y: _chain(4, lambda t: 3 * t)(y) ** 2,
    "reversed": lambda y: jnp.sin(_chain(5, lambda t: 4 - t)(y)),
    "read twice": lambda y: _chain(6, lambda t: t // 2)(y) * _chain(6, lambda t: t)(y),
    "written twice": lambda y: _chain(4, lambda t: t)(y).at[1].set(y[7]).at[1].add(y[2]) ** 3,
    "controls": _controls,
}


@pytest.mark.parametrize(
    ("name", "order"),
    [*((name, "auto") for name in FILLED), ("square", "reverse"), ("controls", "forward")],
)
def test_arrays_filled_entry_by_entry(name, order):
    """A read at a constant place of what a loop wrote at a constant place is one place, not none.

    The blocks of both meet on an axis where neither has a label left.
    """
    fun, y = FILLED[name], jnp.arange(1.0, 15.0) / 7
    exact = np.asarray(jax.jit(jax.jacfwd(fun))(y))
    block = blockjac.block_jacobian(fun, order=order)(y)
    np.testing.assert_allclose(block.dense(), exact, rtol=1e-12, atol=1e-14)
    assert block.nnz == np.count_nonzero(exact)


@pytest.mark.parametrize("name", ["square", "read twice"])
def test_hessians_of_arrays_filled_entry_by_entry(name):
    """The same, twice."""
    y = jnp.arange(1.0, 15.0) / 7

    def total(y: jax.Array) -> jax.Array:
        return jnp.sum(FILLED[name](y) ** 2)

    exact = np.asarray(jax.jit(jax.hessian(total))(y))
    block = blockjac.block_hessian(total)(y)[0, 0]
    np.testing.assert_allclose(block.dense(), exact, rtol=1e-11, atol=1e-13)
    assert block.nnz == np.count_nonzero(exact)


@pytest.mark.parametrize("captured", [False, True])
def test_places_that_are_computed_in_floating_point(captured):
    """Sums of sines at the places `(k i - 1) mod n`, which the program computes of floats."""
    size = 60
    outside = jnp.arange(1, size + 1, dtype=float)

    def fun(y: jax.Array) -> jax.Array:
        i = outside if captured else jnp.arange(1, size + 1, dtype=y.dtype)
        sines = jnp.sin(y)
        total = sum(sines[((k * i - 1) % size).astype(jnp.int32)] for k in (1, 2, 3, 5))
        return jnp.sum(0.5 * i * total**2)

    y = jnp.asarray(np.random.default_rng(0).normal(size=size))
    exact = np.asarray(jax.jit(jax.hessian(fun))(y))
    block = blockjac.block_hessian(fun)(y)[0, 0]
    assert block.nnz == np.count_nonzero(exact)
    np.testing.assert_allclose(block.dense(), exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("size", "width"), [(40, 3), (40, 9), (100, 20)])
def test_windows_of_windows(size, width):
    """Hessians of functions of sliding sums are bands, whatever the width of the windows."""

    def fun(y: jax.Array) -> jax.Array:
        padded = jnp.pad(y * y, (0, width - 1))
        sums = jnp.convolve(padded, jnp.arange(1.0, width + 1), mode="valid")
        return jnp.sum(jnp.sin(sums[:size]))

    y = jnp.linspace(0.1, 1, size)
    exact = np.asarray(jax.jit(jax.hessian(fun))(y))
    block = blockjac.block_hessian(fun)(y)[0, 0]
    assert block.nnz == np.count_nonzero(exact)
    np.testing.assert_allclose(block.dense(), exact, rtol=1e-9, atol=1e-9)
