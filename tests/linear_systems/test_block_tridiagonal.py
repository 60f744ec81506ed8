"""Block tridiagonal systems and rings of blocks, each way beside the dense solution."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_systems.test_solve import Accelerator, same

import blockjac
from blockjac import block_hessian, block_jacobian, factorize, solve
from blockjac.linear_systems import ways
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

    return block_jacobian(product)(jnp.zeros(size, np.real(dense).dtype))


def all_ways(block, assume, systems=1):
    options = Options(assume, True, systems)
    return ways.by_places([[block]], block.dtype, options, 1.0)


def check_every_way(dense, assume, rtol=1e-9):
    """Solutions, determinants and diagonals of the inverse by all ways that there are."""
    block, count = sparse_block(dense), len(dense)
    columns = RANDOM.normal(size=(count, 3)) + (1j * np.ones(3) if np.iscomplexobj(dense) else 0.0)

    def answers(number, columns):
        solver = all_ways(block, assume)[number].factor()
        solved = solver.solve_columns(columns), solver.solve(columns[:, 0], transposed=True)
        return *solved, *solver.slogdet(), solver.inverse_diagonal()

    wanted = (
        np.linalg.solve(dense, columns),
        np.linalg.solve(dense.T, columns[:, 0]),
        *np.linalg.slogdet(dense),
        np.diag(np.linalg.inv(dense)),
    )
    numbers = range(len(all_ways(block, assume)))
    assert len(numbers) >= (4 if assume == "pos" else 3)
    for number in numbers:
        found = jax.jit(answers, static_argnums=0)(number, columns)
        for one, other in zip(found, wanted, strict=True):
            same(one, other, rtol)


SIZES = {
    "odd number": [2] * 7,
    "numbers": [1] * 9,
    "of all sizes": [3, 1, 4, 2, 2, 5, 1, 3],
    "last is short": [4, 4, 4, 4, 4, 1],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "is_ring", "assume"), list(itertools.product(SIZES, [False, True], ["gen", "pos"]))
)
def test_every_way_gives_what_numpy_gives(sizes, is_ring, assume):
    dense = dense_of(SIZES[sizes], is_ring, assume == "pos", np.random.default_rng(3))
    check_every_way(dense, assume)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("is_ring", "assume"), list(itertools.product([False, True], ["gen", "pos"]))
)
def test_complex_numbers(is_ring, assume):
    dense = dense_of([2, 3, 1, 2, 2, 3], is_ring, assume == "pos", RANDOM, is_complex=True)
    check_every_way(dense, assume)


@pytest.mark.slow
def test_pivots_are_exchanged_between_runs():
    """All blocks on the diagonal are zero, or so small that they would ruin the answer."""
    for small in (0.0, 1e-13):
        dense = np.kron(np.eye(40, k=1) + np.eye(40, k=-1), RANDOM.normal(size=(3, 3)))
        dense = dense + small * np.kron(np.eye(40), RANDOM.normal(size=(3, 3)))
        check_every_way(dense, "gen")


@pytest.mark.parametrize("assume", ["gen", "pos"])
def test_what_has_no_solution_gives_no_numbers(assume):
    dense = dense_of([2] * 6, False, True, RANDOM)
    dense[4, 4] = -1.0
    if assume == "gen":
        dense[4] = 1e-300 * dense[4]
    block = sparse_block(dense)
    for number in range(len(all_ways(block, assume))):
        way = all_ways(block, assume)[number]
        solution = jax.jit(lambda way=way: way.factor().solve(jnp.ones(12)))()
        if assume == "pos" and "Cholesky" not in jax.eval_shape(way.factor).describe():
            continue  # which exchanges rows whatever is promised
        if assume == "pos":
            assert np.isnan(solution).all()
        else:
            assert not np.abs(solution).max() < 1e200


STATES = 3
MOVES = 0.5 * jnp.asarray(RANDOM.normal(size=(STATES, STATES)))


def energy(x, weights):
    """Of a path of states: neighbours meet."""
    step = x[..., 1:, :] - jnp.tanh(x[..., :-1, :]) @ MOVES
    return jnp.sum(weights * x**2) + jnp.sum(step**2) + jnp.sum(x**4)


def ring_energy(x, weights):
    return energy(x, weights) + jnp.sum((x[..., 0, :] * x[..., -1, :] - 1.0) ** 2)


METHODS = {
    "path": (energy, (100, STATES), "^(block tridiagonal of|band of) .*Cholesky"),
    "paths": (energy, (5, 30, STATES), "^5 systems: (block tridiagonal of|band of) .*Cholesky"),
    "ring": (ring_energy, (100, STATES), "^(ring cut open at 3|block tridiagonal|band of)"),
    "rings": (ring_energy, (4, 30, STATES), "^4 systems: (ring|block|band)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_smoothers(name):
    function, shape, method = METHODS[name]
    x, weights, right = normal(*shape), 1 + normal(*shape) ** 2, normal(*shape)
    size = x.size

    def ours(x, weights, right):
        factors = factorize(
            block_hessian(function)(x, weights), 0.1, assume="pos", require_structure=True
        )
        assert re.search(method, factors.method), factors.method
        diagonal = factors.inverse_diagonal()
        return jnp.sum(jnp.sin(factors.solve(right))) + factors.slogdet()[1] + jnp.sum(diagonal**2)

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
    same(
        jax.vmap(ours, axes)(several, weights, right),
        jax.vmap(theirs, axes)(several, weights, right),
    )


@pytest.mark.slow
def test_variances_of_predictions():
    x, weights = normal(30, STATES), 1 + normal(30, STATES) ** 2
    hessian = block_hessian(energy)(x, weights)
    outputs = block_jacobian(lambda x: jnp.sin(x[:, 0] * x[:, 1]))(x)
    factors = factorize(hessian, assume="pos", require_structure=True)
    assert factors.method.startswith("block tridiagonal")
    J = np.asarray(outputs.dense()).reshape(30, -1)
    dense = np.asarray(hessian.dense()).reshape(90, 90)
    same(factors.predictive_variance(outputs), np.diag(J @ np.linalg.solve(dense, J.T)))
    path = block_jacobian(lambda x: jnp.concatenate([x.ravel(), (x[1:] - x[:-1]).ravel()]))(x)
    A = np.asarray(path.dense()).reshape(-1, 90)
    same(path.leverage(0.2), np.diag(A @ np.linalg.solve(A.T @ A + 0.2 * np.eye(90), A.T)))


def cyclic_heat(u, dt):
    return u - dt * (jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1)) + 0.1 * u**3


@pytest.mark.slow
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


@pytest.mark.slow
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
    ("assume", "shape", "method"),
    [
        ("pos", (40, 500, STATES), "40 systems: .*cyclic reduction"),
        ("gen", (1000, STATES), "^band"),
        ("gen", (50, 2000, STATES), "50 systems: block tridiagonal .* pivoting"),
    ],
)
def test_an_accelerator_halves_and_batches(assume, shape, method, monkeypatch):
    monkeypatch.setattr(blockjac.devices, "current", Accelerator)

    def factors(x):
        return factorize(block_hessian(energy)(x, 1.0), assume=assume, require_structure=True)

    found = jax.eval_shape(factors, jax.ShapeDtypeStruct(shape, jnp.float64)).method
    assert re.search(method, found), found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_random_blocks(seed):
    """Sizes, rings, orders and ways at random; the way does not show in the answer."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 6, size=random.integers(2, 12))
    is_ring, assume = bool(seed % 2), ("gen", "pos")[seed // 2 % 2]
    dense = dense_of(sizes, is_ring, assume == "pos", random)
    if seed % 3 == 0:
        order = random.permutation(len(dense))
        dense = dense[order][:, order]
    check_every_way(dense, assume, 1e-8)


def test_ways_are_priced_for_all_systems_at_once():
    """The host takes them one after another, a sweep all at once."""
    block = sparse_block(dense_of([2] * 400, False, False, RANDOM))

    def best(systems):
        options = Options("gen", True, systems)
        choices = ways.by_places([[block]], block.dtype, options, 1.0)
        return jax.eval_shape(min(choices, key=lambda way: way.seconds).factor).describe()

    assert best(1).startswith("band")
    assert best(1000).startswith("block tridiagonal")


@pytest.mark.slow
def test_factors_pass_from_one_program_to_another():
    x = normal(100, STATES)
    hessian = block_hessian(energy)(x, 2.0)
    factors = jax.jit(lambda hessian: factorize(hessian, assume="pos", require_structure=True))(
        hessian
    )
    found = jax.jit(lambda factors, y: factors.solve(y))(factors, x)
    same(found, np.linalg.solve(np.asarray(hessian.dense()).reshape(x.size, -1), np.ravel(x)))


@pytest.mark.slow
def test_single_precision():
    dense = dense_of([2, 3, 1, 2, 2, 3, 2], True, True, RANDOM).astype(np.float32)
    block = sparse_block(dense)
    right = jnp.ones(len(dense), jnp.float32)
    for assume in ("gen", "pos"):
        for way in all_ways(block, assume):
            solver = way.factor()
            solution = solver.solve(right)
            assert solution.dtype == jnp.float32
            same(solution, np.linalg.solve(dense.astype(float), right), 1e-4)
