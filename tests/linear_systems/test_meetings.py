"""Schur's complement by lists of who meets whom, beside the dense solution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_systems.test_schur import flat, normal, same

from blockjac import Block, BlockMatrix, block_hessian, block_jacobian, factorize, solve
from blockjac.algebra.sums import compact
from blockjac.linear_systems import choose
from blockjac.linear_systems.settled import settled
from blockjac.linear_systems.way import Options

RANDOM = np.random.default_rng(7)


def normal_equations(function, p):
    (row,) = [list(block_jacobian(function)(p).values())]
    jacobian = BlockMatrix([row], None, jax.tree.structure(p))
    return jacobian.T @ jacobian


POINTS, CAMERAS = 150, 20
FIRST = RANDOM.integers(0, CAMERAS - 3, size=POINTS)
IN_SEQUENCE = (FIRST[:, None] + np.arange(3)).ravel(), np.repeat(np.arange(POINTS), 3)
MANY = RANDOM.integers(1, 5, size=POINTS)
AT_RANDOM = RANDOM.integers(CAMERAS, size=MANY.sum()), np.repeat(np.arange(POINTS), MANY)


def seen(marks):
    def view(p):
        camera, point = p["camera"][marks[0]], p["point"][marks[1]]
        first = jnp.sum(camera[:, :3] * point, 1) / (2 + camera[:, 3] ** 2)
        return jnp.stack([first, jnp.sin(camera[:, 0]) * point[:, 1]], 1)

    return view


def with_lens(p):
    view = seen(AT_RANDOM)(p)
    return view * p["lens"][0] + p["lens"][1] + p["shift"][AT_RANDOM[1] % 5][:, None]


def ratings(p):
    """Readers, books, and a number for all: every system is a single number."""
    readers, books = RATED
    return p["reader"][readers] * jnp.exp(p["book"][books]) + p["all"]


RATED = RANDOM.integers(90, size=300), RANDOM.integers(12, size=300)


def two_sides(p):
    """What is eliminated is two variables, numbered by different axes; so are the pages."""
    people, pages = VISITS
    taste = p["taste"][:, people] * p["page"][pages].T
    return jnp.sum(taste, 0) + p["mood"][people] ** 2 + p["title"][:, pages].sum(0)


VISITS = RANDOM.integers(70, size=250), RANDOM.integers(9, size=250)
VIEW = {"camera": (CAMERAS, 4), "point": (POINTS, 3)}
PROBLEMS = {
    "in sequence": (seen(IN_SEQUENCE), VIEW),
    "at random": (seen(AT_RANDOM), VIEW),
    "with a lens": (with_lens, {**VIEW, "lens": (2,), "shift": (5,)}),
    "ratings": (ratings, {"all": (), "book": (12,), "reader": (90,)}),
    "two sides": (two_sides, {"taste": (2, 70), "mood": (70,), "page": (9, 2), "title": (3, 9)}),
}


def point_of(name):
    return {key: normal(*shape) for key, shape in PROBLEMS[name][1].items()}


def listed_way(matrix, damping, dtype=jnp.float64):
    """The way by lists, whether or not it is the cheapest."""
    rows = [
        [settled(compact(block)) for block in row] for row in choose.damped(matrix.rows, damping)
    ]
    *_, way = choose._by_elimination(rows, matrix.shape[0], dtype, Options("pos", True))
    return way


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_solutions(name):
    point = point_of(name)
    matrix = normal_equations(PROBLEMS[name][0], point)
    dense = np.asarray(matrix.dense()) + 0.3 * np.eye(matrix.shape[0])
    right = normal(matrix.shape[0], 2)

    def answers(right):
        solver = listed_way(matrix, 0.3).factor()
        assert "meetings; then" in solver.describe()
        solved = solver.solve(right[:, 0]), solver.solve_columns(right)
        return *solved, solver.slogdet()[1], solver.inverse_diagonal()

    wanted = (
        np.linalg.solve(dense, right[:, 0]),
        np.linalg.solve(dense, right),
        np.linalg.slogdet(dense)[1],
        np.diag(np.linalg.inv(dense)),
    )
    for one, other in zip(jax.jit(answers)(right), wanted, strict=True):
        same(one, other)


@pytest.mark.slow
def test_the_complement_of_what_only_neighbours_meet_is_a_band():
    points, cameras = 40_000, 2_000
    start = RANDOM.integers(0, cameras - 2, size=points)
    marks = (start[:, None] + np.arange(2)).ravel(), np.repeat(np.arange(points), 2)
    shapes = {"camera": (cameras, 4), "point": (points, 3)}
    point = {key: jax.ShapeDtypeStruct(shape, jnp.float64) for key, shape in shapes.items()}

    def step(p):
        factors = factorize(normal_equations(seen(marks), p), 0.1, assume="pos")
        return factors, factors.solve(p)

    method = jax.eval_shape(step, point)[0].method
    assert "80000 meetings; then " in method
    assert "band of 1 + 7 diagonals" in method or "block tridiagonal of" in method
    planned = jax.jit(lambda p: step(p)[1]).lower(point).compile().memory_analysis()
    assert planned.temp_size_in_bytes < 100 * 8 * 12 * len(marks[0])  # the coupling alone: 7.7 GB


def crossed(p):
    """Pupils of classes of schools, who are not numbered by school: two levels of arrows."""
    result = p["pupil"] * jnp.exp(p["class"][CLASS]) + p["all"][0]
    teaching = p["class"] ** 2 * p["school"][SCHOOL] + p["all"][1]
    return jnp.concatenate([result, teaching, p["school"] ** 2])


CLASS = np.random.default_rng(1).integers(60, size=400)
SCHOOL = np.random.default_rng(2).integers(8, size=60)


@pytest.mark.slow
def test_complements_have_complements():
    """Each level is eliminated by Schur's complement of what is left by the one before."""
    shapes = {"all": (2,), "class": (60,), "pupil": (400,), "school": (8,)}
    point = {key: normal(*shape) for key, shape in shapes.items()}
    matrix = normal_equations(crossed, point)
    dense, right = np.asarray(matrix.dense()) + 0.5 * np.eye(470), normal(470)
    solver = listed_way(matrix, 0.5).factor()
    assert solver.describe().startswith("Schur complement: 400 systems: division; 800 meetings")
    same(solver.solve(right), np.linalg.solve(dense, right))
    same(solver.slogdet()[1], np.linalg.slogdet(dense)[1])
    same(solver.inverse_diagonal(), np.diag(np.linalg.inv(dense)))
    rows = [[settled(compact(block)) for block in row] for row in choose.damped(matrix.rows, 0.5)]
    left = schur_complement(rows)
    inner = choose._by_elimination(left, 70, jnp.float64, Options("pos", True))
    assert any("Schur complement: 60 systems" in way.factor().describe() for way in inner)


def schur_complement(rows):
    """The grid that is left without the pupils."""
    from blockjac.linear_systems import meeting_lists, schur_listed

    across, left = (
        [[rows[2][j] for j in (0, 1, 3)]],
        [[rows[i][j] for j in (0, 1, 3)] for i in (0, 1, 3)],
    )
    lists = meeting_lists.meetings_of(across, {0: 0})
    matrices = meeting_lists.matrices_of(across, {0: 0}, lists, jnp.float64)
    systems = choose._batched([[rows[2][2]]], {0: 0}, Options("pos")).factor()
    coupling = schur_listed.solved(systems, matrices, lists)
    return schur_listed.complement(left, lists.products(matrices, coupling), lists)


@pytest.mark.slow
def test_under_jit_vmap_and_grad():
    point = point_of("at random")
    right = jax.tree.map(lambda leaf: normal(*leaf.shape), point)

    def ours(p, y, damping):
        matrix = normal_equations(seen(AT_RANDOM), p)
        factors = factorize(matrix, damping, assume="pos", require_structure=True)
        assert "meetings" in factors.method
        solution = factors.solve(y)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(solution)) + factors.slogdet()[1]

    def theirs(p, y, damping):
        matrix = normal_equations(seen(AT_RANDOM), p).dense()
        matrix = matrix + damping * jnp.eye(len(matrix))
        vector = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(y)])
        return jnp.sum(jnp.linalg.solve(matrix, vector) ** 2) + jnp.linalg.slogdet(matrix)[1]

    arguments, every = (point, right, 0.7), (0, 1, 2)
    found = jax.jit(jax.grad(ours, every))(*arguments)
    wanted = jax.jit(jax.grad(theirs, every))(*arguments)
    jax.tree.map(lambda a, b: same(a, b, 1e-7), found, wanted)
    dampings = jnp.array([0.5, 2.0])
    found = jax.jit(jax.vmap(ours, (None, None, 0)))(point, right, dampings)
    same(found, jax.vmap(theirs, (None, None, 0))(point, right, dampings))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_random_arrows(seed):
    """Arrows whose coupling is sparse, dense or both, and whose systems have structure."""
    random = np.random.default_rng(seed)
    systems, groups, depth = random.integers(10, 40), random.integers(3, 12), random.integers(1, 4)
    count = int(random.integers(systems, 4 * systems))
    to_system, to_group = random.integers(systems, size=count), random.integers(groups, size=count)
    weights = jnp.asarray(random.normal(size=(count, depth)))
    has_all, is_ring = bool(seed % 2), bool(seed // 2 % 2)

    def energy(p):
        own, other = p["system"][to_system], p["group"][to_group]
        total = jnp.sum(jnp.cosh(jnp.sum(weights * own, 1) * other[:, 0] / 3 + other[:, 1]))
        total = total + 3 * sum(jnp.sum(leaf**2) for leaf in p.values())
        if is_ring:
            total = total + jnp.sum((p["group"] - jnp.roll(p["group"], 1, 0)) ** 2)
        return total + (jnp.sum(jnp.sin(p["all"]) * jnp.sum(own)) / count if has_all else 0.0)

    shapes = {"group": (groups, 2), "system": (systems, depth)} | ({"all": (2,)} if has_all else {})
    point = {key: jnp.asarray(random.normal(size=shape) / 4) for key, shape in shapes.items()}
    hessian = block_hessian(energy)(point)
    dense = np.asarray(hessian.dense()) + 2.0 * np.eye(hessian.shape[0])
    right = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape)), point)
    wanted = np.linalg.solve(dense, flat(right))
    same(flat(solve(hessian, right, 2.0, assume="pos")), wanted)
    rows = [[settled(compact(block)) for block in row] for row in choose.damped(hessian.rows, 2.0)]
    for way in choose._by_elimination(rows, len(dense), jnp.float64, Options("pos", True)):
        solver = way.factor()
        same(solver.solve(jnp.asarray(flat(right))), wanted)
        same(solver.inverse_diagonal(), np.diag(np.linalg.inv(dense)))


def hermitian(random):
    """A grid of two variables whose coupling is listed and complex."""
    systems, groups, count = 12, 4, 25
    to_system, to_group = random.integers(systems, size=count), random.integers(groups, size=count)
    values = random.normal(size=(count, 2)) + 1j * random.normal(size=(count, 2))

    def forth(group):
        return jnp.zeros((systems, 2), complex).at[to_system].add(values * group[to_group][:, None])

    def back(system):
        parts = jnp.sum(values.conj() * system[to_system], axis=1)
        return jnp.zeros(groups, complex).at[to_group].add(parts)

    across = block_jacobian(forth)(jnp.zeros(groups))
    adjoint = block_jacobian(back)(jnp.zeros((systems, 2)))
    own = Block.diag(30.0 + jnp.arange(2.0 * systems).reshape(systems, 2) + 0j)
    return BlockMatrix([[Block.diag(40.0 + jnp.arange(groups) + 0j), adjoint], [across, own]])


@pytest.mark.slow
def test_hermitian_matrices():
    """The coupling is conjugated on one side."""
    matrix = hermitian(np.random.default_rng(0))
    dense = np.asarray(matrix.dense())
    assert np.allclose(dense, dense.conj().T)
    assert np.abs(dense.imag).max() > 1
    right = RANDOM.normal(size=len(dense)) + 1j * RANDOM.normal(size=len(dense))
    solver = listed_way(matrix, 0.0, complex).factor()
    assert "meetings" in solver.describe()
    same(solver.solve(jnp.asarray(right)), np.linalg.solve(dense, right))
    same(solver.solve(right, transposed=True), np.linalg.solve(dense.T, right))
    same(solver.inverse_diagonal(), np.diag(np.linalg.inv(dense)))


@pytest.mark.slow
def test_what_is_not_positive_definite_gives_no_numbers():
    point = point_of("at random")
    matrix = normal_equations(seen(AT_RANDOM), point)
    solver = listed_way(matrix, -50.0).factor()
    assert np.isnan(solver.solve(jnp.ones(matrix.shape[0]))).any()
