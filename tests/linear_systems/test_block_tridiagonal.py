"""Block tridiagonal systems and rings of blocks, each way beside the dense solution."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_systems.test_solve import Accelerator, same

import blockjac
from blockjac import Block, block_hessian, block_jacobian, factorize, solve
from blockjac.linear_systems import block_tridiagonal, ways
from blockjac.linear_systems.known_pattern import known_pattern
from blockjac.linear_systems.way import Options

RANDOM = np.random.default_rng(5)


def normal(*shape):
    return jnp.asarray(RANDOM.normal(size=shape))


def dense_of(sizes, is_ring, is_positive, random, is_complex=False):
    """A random matrix of blocks of these sizes that joins neighbours, perhaps in a ring."""
    ends = np.cumsum(sizes)
    run = np.repeat(np.arange(len(sizes)), sizes)
    steps = np.abs(run[:, None] - run)
    if is_ring:
        steps = np.minimum(steps, len(sizes) - steps)
    matrix = random.normal(size=(ends[-1], ends[-1]))
    if is_complex:
        matrix = matrix + 1j * random.normal(size=matrix.shape)
    if is_positive:
        matrix = matrix + matrix.conj().T
    matrix = np.where(steps <= 1, matrix, 0)
    return matrix + np.diag(np.sum(np.abs(matrix), 1) + 1.0) if is_positive else matrix


def sparse_block(dense):
    """A Block that has the entries of a matrix at known places, and no others."""
    rows, columns = np.nonzero(dense)
    values = jnp.asarray(dense[rows, columns])
    size = len(dense)

    def product(x):
        return jnp.zeros(size, values.dtype).at[rows].add(values * x[columns])

    return block_jacobian(product, holomorphic=np.iscomplexobj(dense))(jnp.zeros(size, values.dtype))


def all_ways(block, assume, systems=1):
    rows = [[block]]
    known = known_pattern(rows)
    return block_tridiagonal.ways(rows, known, block.dtype, Options(assume, True, systems))


SIZES = {
    "equal": [3] * 8,
    "odd number": [2] * 7,
    "numbers": [1] * 9,
    "large": [7] * 4,
    "of all sizes": [3, 1, 4, 2, 2, 5, 1, 3],
    "two": [3, 2],
    "last is short": [4, 4, 4, 4, 4, 1],
}


@pytest.mark.parametrize(
    ("sizes", "is_ring", "assume"), itertools.product(SIZES, [False, True], ["gen", "pos"])
)
def test_every_way_gives_what_numpy_gives(sizes, is_ring, assume):
    random = np.random.default_rng(len(sizes))
    dense = dense_of(SIZES[sizes], is_ring, assume == "pos", random)
    block = sparse_block(dense)
    columns = random.normal(size=(len(dense), 3))
    choices = all_ways(block, assume)
    assert len(choices) >= (2 if assume == "pos" else 1)
    for way in choices:
        solver = way.factor()
        same(solver.solve(jnp.asarray(columns[:, 0])), np.linalg.solve(dense, columns[:, 0]))
        same(solver.solve_columns(jnp.asarray(columns)), np.linalg.solve(dense, columns))
        same(solver.solve(columns[:, 0], transposed=True), np.linalg.solve(dense.T, columns[:, 0]))
        sign, logarithm = np.linalg.slogdet(dense)
        same(solver.slogdet()[0], sign)
        same(solver.slogdet()[1], logarithm)
        same(solver.inverse_diagonal(), np.diag(np.linalg.inv(dense)))


@pytest.mark.parametrize(("is_ring", "assume"), itertools.product([False, True], ["gen", "pos"]))
def test_complex_numbers(is_ring, assume):
    random = np.random.default_rng(0)
    dense = dense_of([2, 3, 1, 2, 2, 3], is_ring, assume == "pos", random, is_complex=True)
    right = random.normal(size=len(dense)) + 1j * random.normal(size=len(dense))
    for way in all_ways(sparse_block(dense), assume):
        solver = way.factor()
        same(solver.solve(jnp.asarray(right)), np.linalg.solve(dense, right))
        same(solver.solve(right, transposed=True), np.linalg.solve(dense.T, right))
        same(solver.slogdet()[0], np.linalg.slogdet(dense)[0])
        same(solver.inverse_diagonal(), np.diag(np.linalg.inv(dense)))


def test_pivots_are_exchanged_between_runs():
    """All blocks on the diagonal are zero, or so small that they would ruin the answer."""
    for small in (0.0, 1e-13):
        dense = np.kron(np.eye(40, k=1) + np.eye(40, k=-1), RANDOM.normal(size=(3, 3)))
        dense = dense + small * np.kron(np.eye(40), RANDOM.normal(size=(3, 3)))
        right = RANDOM.normal(size=len(dense))
        for way in all_ways(sparse_block(dense), "gen"):
            solver = way.factor()
            same(solver.solve(jnp.asarray(right)), np.linalg.solve(dense, right))
            same(solver.solve(right, transposed=True), np.linalg.solve(dense.T, right))
            same(solver.slogdet()[1], np.linalg.slogdet(dense)[1])
            same(solver.slogdet()[0], np.linalg.slogdet(dense)[0])


@pytest.mark.parametrize("assume", ["gen", "pos"])
def test_what_has_no_solution_gives_no_numbers(assume):
    dense = dense_of([2] * 6, False, True, RANDOM)
    dense[4] = dense[:, 4] = 0.0
    dense[4, 4] = 0.0 if assume == "gen" else -1.0
    values = np.where(np.eye(12), np.where(dense == 0, 1e-300, dense), dense)
    for way in all_ways(sparse_block(values) if assume == "pos" else sparse_block(values), assume):
        solver = way.factor()
        if assume == "pos":
            assert np.isnan(solver.solve(jnp.ones(12))).all()
        else:
            assert np.abs(solver.solve(jnp.ones(12))).max() > 1e200


STATES = 3
MOVES = 0.5 * jnp.asarray(RANDOM.normal(size=(STATES, STATES)))


def energy(x, weights):
    """Of a path of states: neighbours meet."""
    step = x[..., 1:, :] - jnp.tanh(x[..., :-1, :]) @ MOVES
    return jnp.sum(weights * x**2) + jnp.sum(step**2) + jnp.sum(x**4)


def ring_energy(x, weights):
    return energy(x, weights) + jnp.sum((x[..., 0, :] * x[..., -1, :] - 1.0) ** 2)


METHODS = {
    "path": (energy, (20, STATES), "^block tridiagonal of 20 blocks of 3, Cholesky"),
    "paths": (energy, (5, 20, STATES), "^5 systems: block tridiagonal of 20 blocks of 3, Cholesky"),
    "ring": (ring_energy, (60, STATES), "^ring cut open at 3 unknowns: block tridiagonal of 59"),
    "rings": (ring_energy, (4, 60, STATES), "^4 systems: ring cut open at 3 unknowns: block"),
}


@pytest.mark.parametrize("name", METHODS)
def test_smoothers(name):
    function, shape, method = METHODS[name]
    x, weights, right = normal(*shape), 1 + normal(*shape) ** 2, normal(*shape)
    size = x.size

    def ours(x, weights, right):
        factors = factorize(block_hessian(function)(x, weights), 0.1, assume="pos")
        assert pytest.importorskip("re").search(method, factors.method), factors.method
        diagonal = factors.inverse_diagonal()
        return (
            jnp.sum(jnp.sin(factors.solve(right))) + factors.slogdet()[1] + jnp.sum(diagonal**2)
        )

    def theirs(x, weights, right):
        dense = jnp.reshape(jax.hessian(function)(x, weights), (size, size)) + 0.1 * jnp.eye(size)
        inverse = jnp.linalg.inv(dense)
        solution = inverse @ jnp.ravel(right)
        return (
            jnp.sum(jnp.sin(solution))
            + jnp.linalg.slogdet(dense)[1]
            + jnp.sum(jnp.diag(inverse) ** 2)
        )

    arguments, every = (x, weights, right), (0, 1, 2)
    same(jax.jit(ours)(*arguments), jax.jit(theirs)(*arguments))
    if x.ndim > 2:
        return
    found = jax.jit(jax.grad(ours, every))(*arguments)
    wanted = jax.jit(jax.grad(theirs, every))(*arguments)
    jax.tree.map(lambda a, b: same(a, b, 1e-8), found, wanted)
    several = jnp.stack([x, x / 2])
    axes = (0, None, None)
    same(jax.vmap(ours, axes)(several, weights, right), jax.vmap(theirs, axes)(several, weights, right))


def test_variances_of_predictions():
    x, weights = normal(30, STATES), 1 + normal(30, STATES) ** 2
    hessian = block_hessian(energy)(x, weights)
    outputs = block_jacobian(lambda x: jnp.sin(x[:, 0] * x[:, 1]))(x)
    factors = factorize(hessian, assume="pos")
    assert factors.method.startswith("block tridiagonal")
    J = np.asarray(outputs.dense()).reshape(30, -1)
    dense = np.asarray(hessian.dense()).reshape(90, 90)
    same(factors.predictive_variance(outputs), np.diag(J @ np.linalg.solve(dense, J.T)))
    path = block_jacobian(lambda x: jnp.concatenate([x.ravel(), (x[1:] - x[:-1]).ravel()]))(x)
    A = np.asarray(path.dense()).reshape(-1, 90)
    same(path.leverage(0.2), np.diag(A @ np.linalg.solve(A.T @ A + 0.2 * np.eye(90), A.T)))


def cyclic_heat(u, dt):
    return u - dt * (jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1)) + 0.1 * u**3


def test_a_ring_of_numbers_is_cut_open():
    u, right = normal(500), normal(500)
    block = block_jacobian(cyclic_heat)(u, 0.7)
    dense = np.asarray(jax.jacfwd(cyclic_heat)(u, 0.7))
    factors = factorize(block, assume="pos")
    assert factors.method == "ring cut open at 1 unknowns: tridiagonal of 499"
    same(factors.solve(right), np.linalg.solve(dense, right))
    same(factors.slogdet()[1], np.linalg.slogdet(dense)[1])
    same(factors.inverse_diagonal(), np.diag(np.linalg.inv(dense)))
    singular_when_cut = block_jacobian(lambda u: jnp.roll(u, 1) * (1 + u**2))(u)
    wanted = np.linalg.solve(np.asarray(singular_when_cut.dense()), right)
    same(solve(singular_when_cut, right), wanted)


@pytest.mark.parametrize(
    ("function", "shape"), [(energy, (20_000, STATES)), (ring_energy, (20_000, STATES))]
)
def test_memory_is_that_of_the_blocks(function, shape):
    """The dense matrix would take 29 GB, the inverse too."""
    point = jax.ShapeDtypeStruct(shape, jnp.float64)

    def step(x, weights, right):
        factors = factorize(block_hessian(function)(x, weights), assume="pos")
        return factors.solve(right), factors.inverse_diagonal()

    planned = jax.jit(step).lower(point, point, point).compile().memory_analysis()
    assert planned.temp_size_in_bytes < 60 * STATES * 8 * shape[0] * STATES


@pytest.mark.parametrize(
    ("assume", "systems", "method"),
    [
        ("pos", 1, "cyclic reduction"),
        ("gen", 1, "^band"),
        ("gen", 500, "500 systems: block tridiagonal .* pivoting"),
    ],
)
def test_an_accelerator_halves_and_batches(assume, systems, method, monkeypatch):
    monkeypatch.setattr(blockjac.devices, "current", Accelerator)
    x = normal(systems, 1000 if systems == 1 else 40, STATES)
    x = x[0] if systems == 1 else x
    hessian = block_hessian(energy)(x, jnp.ones_like(x))
    assert pytest.importorskip("re").search(method, factorize(hessian, assume=assume).method)


@pytest.mark.parametrize("seed", range(20))
def test_random_blocks(seed):
    """Sizes, rings, orders and ways at random; the way does not show in the answer."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 6, size=random.integers(2, 12))
    is_ring, assume = bool(seed % 2), ("gen", "pos")[seed // 2 % 2]
    dense = dense_of(sizes, is_ring, assume == "pos", random)
    if seed % 3 == 0:
        order = random.permutation(len(dense))
        dense = dense[order][:, order]
    block, right = sparse_block(dense), random.normal(size=len(dense))
    wanted = np.linalg.solve(dense, right)
    same(solve(block, jnp.asarray(right), assume=assume), wanted, 1e-8)
    for way in all_ways(block, assume):
        solver = way.factor()
        same(solver.solve(jnp.asarray(right)), wanted, 1e-8)
        same(solver.slogdet()[1], np.linalg.slogdet(dense)[1])
        same(solver.inverse_diagonal(), np.diag(np.linalg.inv(dense)), 1e-8)


def test_ways_are_priced_for_all_systems_at_once():
    block = sparse_block(dense_of([3] * 20, False, False, RANDOM))
    rows, known = [[block]], known_pattern([[block]])
    for systems in (1, 10, 1000):
        options = Options("gen", True, systems)
        priced = {way.factor().describe(): way.seconds for way in ways.by_places(rows, block.dtype, options, 1.0)}
        assert len(priced) >= 3
        assert all(seconds > 0 for seconds in priced.values())
    assert isinstance(block, Block)
