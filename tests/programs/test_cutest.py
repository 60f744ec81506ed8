"""Problems of the CUTEst family, from their formulas: `nnz` is the number of places by hand.

Each problem is written as one would in plain `jnp`. The number of entries of its Jacobian (of
residuals) or of its Hessian (the Jacobian of the gradient) follows from the formula by counting,
and is that of the entries that are not 0 at a random point. Where it is not, entries cancel by
algebra and not by structure, which no shape can tell; those problems are apart, at the end.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac

pytestmark = pytest.mark.slow

N = 24


def points(*shape, seed=0):
    """A point where no entry is 0 by chance."""
    return jnp.asarray(np.random.default_rng(seed).uniform(0.3, 1.7, shape))


def band(size, below, above):
    """How many places a square matrix has within so many diagonals."""
    return sum(size - abs(offset) for offset in range(-below, above + 1))


def shifted(x, by):
    """`x[i + by]`, 0 off the ends."""
    return jnp.pad(x[max(0, by) : len(x) + min(0, by)], (max(0, -by), max(0, by)))


# Systems of equations: the Jacobian of the residuals


def broydn3d(x):
    return (3 - 2 * x) * x - shifted(x, -1) - 2 * shifted(x, 1) + 1


def broydnbd(x):
    near = sum(shifted(x * (1 + x), by) for by in (-5, -4, -3, -2, -1, 1))
    return x * (2 + 5 * x**2) + 1 - near


def morebv(x):
    h = 1 / (len(x) + 1)
    t = h * jnp.arange(1, len(x) + 1)
    return 2 * x - shifted(x, -1) - shifted(x, 1) + h**2 * (x + t + 1) ** 3 / 2


def argtrig(x):
    i = jnp.arange(1, len(x) + 1)
    return len(x) - jnp.sum(jnp.cos(x)) + i * (1 - jnp.cos(x)) - jnp.sin(x)


def vardim(x):
    total = jnp.sum(jnp.arange(1, len(x) + 1) * (x - 1))
    return jnp.concatenate([x - 1, jnp.stack([total, total**2])])


def hadamals(q):
    """Orthogonal columns, on and above the diagonal, and entries of modulus 1."""
    i, j = np.triu_indices(len(q))
    gram = q.T @ q - len(q) * jnp.eye(len(q))
    return gram[i, j], q**2 - 1


def msqrta(x):
    return x @ x - jnp.ones_like(x)


def factorisation(factors):
    left, right = factors
    return left @ right.T - 1


def some_entries(factors):
    """A factorisation of which a few entries are observed, as in matrix completion."""
    left, right = factors
    row, column = np.array([0, 0, 1, 3, 4]), np.array([1, 2, 2, 0, 3])
    return jnp.sum(left[row] * right[column], axis=1) - 1


def srosenbr(x):
    """Rosenbrock's function for each pair of variables, as residuals."""
    return 10 * (x[1::2] - x[::2] ** 2), 1 - x[::2]


SYSTEMS = {
    "BROYDN3D": (broydn3d, points(N), band(N, 1, 1)),
    "BROYDNBD": (broydnbd, points(N), band(N, 5, 1)),
    "MOREBV": (morebv, points(N), band(N, 1, 1)),
    "ARGTRIG": (argtrig, points(N), N * N),
    "VARDIM": (vardim, points(N), N + 2 * N),
    "HADAMALS": (hadamals, points(6, 6), 6 * 6 + 15 * (2 * 6) + 6 * 6),
    "MSQRTA": (msqrta, points(5, 5), 25 * (2 * 5 - 1)),
    "factorisation": (factorisation, (points(5, 2), points(4, 2, seed=1)), 2 * 5 * 4 * 2),
    "matrix completion": (some_entries, (points(5, 2), points(4, 2, seed=1)), 2 * 5 * 2),
    "SROSENBR": (srosenbr, points(N), N + N // 2),
}


# Objectives: the Hessian, as the Jacobian of the gradient


def bdqrtic(x):
    head = x[:-4]
    inner = head**2 + 2 * x[1:-3] ** 2 + 3 * x[2:-2] ** 2 + 4 * x[3:-1] ** 2 + 5 * x[-1] ** 2
    return jnp.sum((3 - 4 * head) ** 2 + inner**2)


def tridia(x):
    i = jnp.arange(2, len(x) + 1)
    return (x[0] - 1) ** 2 + jnp.sum(i * (2 * x[1:] - x[:-1]) ** 2)


def dixmaana(x):
    m = len(x) // 3
    return (
        1
        + jnp.sum(x**2)
        + 0.125 * jnp.sum(x[: 2 * m] ** 2 * x[m:] ** 4)
        + 0.125 * jnp.sum(x[:m] * x[2 * m :])
    )


def dixmaanb(x):
    return dixmaana(x) + 0.0625 * jnp.sum(x[:-1] ** 2 * (x[1:] + x[1:] ** 2) ** 2)


def woods(x):
    a, b, c, d = x.reshape(-1, 4).T
    return jnp.sum(
        100 * (b - a**2) ** 2
        + (1 - a) ** 2
        + 90 * (d - c**2) ** 2
        + (1 - c) ** 2
        + 10 * (b + d - 2) ** 2
        + 0.1 * (b - d) ** 2
    )


def chainwoo(x):
    odd, even = x[::2], x[1::2]
    return 1 + jnp.sum(
        100 * (even[:-1] - odd[:-1] ** 2) ** 2
        + (1 - odd[:-1]) ** 2
        + 90 * (even[1:] - odd[1:] ** 2) ** 2
        + (1 - odd[1:]) ** 2
        + 10 * (even[:-1] + even[1:] - 2) ** 2
        + 0.1 * (even[:-1] - even[1:]) ** 2
    )


def chained_rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def arwhead(x):
    return jnp.sum((x[:-1] ** 2 + x[-1] ** 2) ** 2 - 4 * x[:-1] + 3)


def engval1(x):
    return jnp.sum((x[:-1] ** 2 + x[1:] ** 2) ** 2 - 4 * x[:-1] + 3)


def curly(x, reach=5):
    """Sums of a few neighbours, by a gather that stops at the end."""
    i = np.arange(len(x) - reach)[:, None] + np.arange(reach + 1)
    q = jnp.sum(x[i], axis=1)
    return jnp.sum(q * (q * (q**2 - 20) - 0.1))


def noncvxu2(x):
    """Variables that meet others far away, by places modulo n; here i, 3i - 2 and 7i - 3."""
    n = len(x)
    i = np.arange(1, n + 1)
    v = x + x[(3 * i - 2) % n] + x[(7 * i - 3) % n]
    return jnp.sum(v**2 + 4 * jnp.cos(v))


def noncvxu2_places(n):
    groups = [{i - 1, (3 * i - 2) % n, (7 * i - 3) % n} for i in range(1, n + 1)]
    return len({(a, b) for group in groups for a in group for b in group})


OBJECTIVES = {
    # Of 25 terms; a smaller Jacobian of more than 16 is written out.
    "BDQRTIC": (bdqrtic, points(400), band(399, 3, 3) + 2 * 399 + 1),
    "TRIDIA": (tridia, points(N), band(N, 1, 1)),
    "DIXMAANA": (dixmaana, points(N), N + 2 * (2 * N // 3) + 2 * (N // 3)),
    "DIXMAANB": (dixmaanb, points(N), band(N, 1, 1) + 2 * (2 * N // 3) + 2 * (N // 3)),
    "WOODS": (woods, points(N), 10 * N // 4),
    "CHAINWOO": (chainwoo, points(N), N + 2 * (N // 2) + 2 * (N // 2 - 1)),
    "chained ROSENBR": (chained_rosenbrock, points(N), band(N, 1, 1)),
    "ARWHEAD": (arwhead, points(N), N + 2 * (N - 1)),
    "ENGVAL1": (engval1, points(N), band(N, 1, 1)),
    "CURLY": (curly, points(N), band(N, 5, 5)),
    "NONCVXU2": (noncvxu2, points(N), noncvxu2_places(N)),
    "VARDIM": (lambda x: jnp.sum(vardim(x) ** 2), points(N), N * N),
}


@dataclass
class Found:
    """A Jacobian as blocks, as one sparse matrix, and dense by JAX."""

    blocks: list[Any]
    sparse: Any
    dense: np.ndarray


def found(fun, point, oracle):
    flat, unravel = jax.flatten_util.ravel_pytree(point)
    tree = blockjac.block_jacobian(fun)(point)
    return Found(
        jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, blockjac.Block)),
        blockjac.sparse_jacobian(fun)(point),
        np.asarray(oracle(unravel)(flat)),
    )


def check(answer, places):
    assert sum(block.nnz for block in answer.blocks) == places
    assert sum(block.pattern().nnz for block in answer.blocks) == places
    assert answer.sparse.nnz == places == np.count_nonzero(answer.dense)
    scale = np.abs(answer.dense).max()
    np.testing.assert_allclose(answer.sparse.toarray(), answer.dense, atol=1e-12 * scale)


@pytest.mark.parametrize("name", SYSTEMS)
def test_systems(name):
    fun, point, places = SYSTEMS[name]

    def jacobian(unravel):
        return jax.jacfwd(lambda flat: jax.flatten_util.ravel_pytree(fun(unravel(flat)))[0])

    check(found(fun, point, jacobian), places)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives(name):
    fun, point, places = OBJECTIVES[name]
    answer = found(blockjac.grad(fun), point, lambda unravel: jax.hessian(fun))
    check(answer, places)
    (block,) = answer.blocks
    rows = block.pattern().to_scipy().toarray()
    np.testing.assert_array_equal(rows, rows.T)  # Hessians are symmetric


@pytest.mark.parametrize("size", [5, 12, 50])
@pytest.mark.parametrize("name", ["BROYDN3D", "BROYDNBD"])
def test_other_sizes(name, size):
    fun, below = SYSTEMS[name][0], {"BROYDN3D": 1, "BROYDNBD": 5}[name]
    block = blockjac.block_jacobian(fun)(points(size))
    assert block.nnz == sum(size - abs(k) for k in range(-below, 2) if abs(k) < size)


def test_a_million_variables():
    """Counted without a look at each place where the structure tells that no two are the same."""
    size = 10**6
    block = blockjac.block_jacobian(broydn3d)(jnp.ones(size))
    assert block.nnz == 3 * size - 2


def test_bilinear_forms():
    """`x A y`: by x and x, and by y and y, the Hessian is zero and stores nothing."""
    matrix = points(4, 7)

    def form(pair):
        return pair[0] @ matrix @ pair[1]

    tree = blockjac.block_jacobian(blockjac.grad(form))((points(4), points(7, seed=1)))
    assert [[block.nnz for block in row] for row in tree] == [[0, 28], [28, 0]]
    assert tree[0][0].stored == tree[1][1].stored == 0
    np.testing.assert_allclose(tree[0][1].to_scipy().toarray(), matrix)
    np.testing.assert_allclose(tree[1][0].to_scipy().toarray(), matrix.T)


# Entries that cancel by algebra, not by structure: they are stored


def arglina(x, weight, rows=32):
    """`x - weight sum(x) - 1`, and `-weight sum(x) - 1` in the further rows; weight is 2/rows."""
    return jnp.pad(x, (0, rows - len(x))) - weight * jnp.sum(x) - 1


def arglina_hessian(x, weight):
    return blockjac.block_jacobian(
        blockjac.grad(lambda x, weight: jnp.sum(arglina(x, weight) ** 2))
    )(x, weight)


def test_arglina():
    """Columns are orthogonal by the choice of 2/m: the sum of squares has the Hessian 2 I.

    That the products of two columns add up to 0 hangs on the number and not on what depends on
    what: each residual depends on every variable. So all n^2 places are stored where the number is
    a value of the program. Where it is a literal, the coefficients of equal terms add up before
    anything is computed, here to exactly 0, and the diagonal alone is left.
    """
    x = points(10)
    jacobian = blockjac.block_jacobian(arglina)(x, 2 / 32)
    assert jacobian.nnz == 32 * 10 == np.count_nonzero(jax.jit(jax.jacfwd(arglina))(x, 2 / 32))
    given = arglina_hessian(x, jnp.array(2 / 32))
    assert given.nnz == 10 * 10
    np.testing.assert_allclose(given.dense(), 2 * np.eye(10), atol=1e-13)
    literal = blockjac.block_jacobian(blockjac.grad(lambda x: jnp.sum(arglina(x, 2 / 32) ** 2)))(x)
    assert literal.nnz == 10
    np.testing.assert_allclose(literal.dense(), 2 * np.eye(10), atol=1e-13)


def test_terms_that_cancel():
    """What cancels by static coefficients leaves no term; what cancels by values leaves places."""

    def fun(x):
        return x[1:] * 2 - (x[1:] + x[:-1]) * 2 + x[:-1] * 2

    x = points(8)
    matrix = blockjac.sparse_jacobian(fun)(x)
    assert matrix.nnz == 0  # coefficients of equal terms add up before anything is computed
    assert matrix.shape == (7, 8)
    by_value = blockjac.sparse_jacobian(lambda x, y: x * y - x * jnp.flip(y))(x, jnp.ones(8))
    assert by_value.nnz == 8
    assert not by_value.toarray().any()


def test_a_point_where_entries_vanish():
    """At 0 most entries of the Hessian of `sum x^4` and its neighbours are 0, and stay stored."""
    block = blockjac.block_jacobian(blockjac.grad(engval1))(jnp.zeros(N))
    assert block.nnz == band(N, 1, 1)
    assert not np.asarray(block.dense()).any()
