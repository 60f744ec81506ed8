"""Predictive variances and derivatives of what factors give, beside dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_systems.test_schur import SYSTEMS, flat
from linear_systems.test_solve import BLOCKS, STEPS, jacobian_of, normal, same

import blockjac
from blockjac import Block, BlockMatrix, block_jacobian, factorize, lstsq, solve
from blockjac.errors import (
    BlockShapeError,
    BlockTypeError,
    InvalidOptionError,
    SingularMatrixError,
    StructureLostError,
)

OUTPUTS = {
    "elementwise": lambda x: jnp.sin(x) * x,
    "two numbers": lambda x: jnp.stack([jnp.sum(x**2), jnp.sum(jnp.sin(x))]),
    "one number": jnp.sum,
    "rows": lambda x: jnp.sum(jnp.reshape(x, (-1, 2)) ** 3, axis=0),
}


@pytest.mark.slow
@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "a number"])
def test_predictive_variance(name, outputs):
    point = BLOCKS[name][1]
    block, jacobian = jacobian_of(name), block_jacobian(OUTPUTS[outputs])(point)
    A = np.asarray(block.dense()).reshape(point.size, point.size)
    J = np.asarray(jax.jacfwd(OUTPUTS[outputs])(point)).reshape(-1, point.size)
    variance = factorize(block, 0.1).predictive_variance(jacobian)
    assert variance.shape == jacobian.out_shape
    wanted = np.diag(J @ np.linalg.solve(A + 0.1 * np.eye(point.size), J.T))
    same(variance, wanted, 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_predictive_variance_of_trees(name):
    matrix_of, point, _ = SYSTEMS[name]
    matrix = matrix_of(point)

    def outputs(p):
        first, *others = jax.tree.leaves(p)
        return {"a": first**2, "b": jnp.stack([jnp.sum(leaf**3) for leaf in others])}

    blocks = block_jacobian(outputs)(point)
    rows = [jax.tree.leaves(blocks[key], is_leaf=lambda x: isinstance(x, Block)) for key in "ab"]
    trees = (jax.tree.structure({"a": 0, "b": 0}), jax.tree.structure(point))
    jacobian = BlockMatrix(rows, *trees)
    J, A = np.asarray(jacobian.dense()), np.asarray(matrix.dense())
    for options in ({"assume": "pos"}, {}):
        variance = factorize(matrix, 0.3, **options).predictive_variance(jacobian)
        assert variance["b"].shape == jacobian.out_shapes[1]
        same(flat(variance), np.diag(J @ np.linalg.solve(A + 0.3 * np.eye(len(A)), J.T)))
        again = factorize(matrix, 0.3, **options).predictive_variance(blocks)
        jax.tree.map(same, again, variance)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["band", "Kronecker", "cells", "rank one", "flat cells", "dense"])
def test_derivatives(name):
    """Those of a diagonal of the inverse and of variances, by all that they depend on."""
    function, point, _ = BLOCKS[name]

    def outputs(x):
        return jnp.stack([jnp.sum(x**2), jnp.sum(jnp.sin(x))])

    def ours(x, damping):
        factors = factorize(block_jacobian(function)(x), damping)
        variance = factors.predictive_variance(block_jacobian(outputs)(x))
        return jnp.sum(factors.inverse_diagonal() ** 2) + jnp.sum(jnp.sin(variance))

    def theirs(x, damping):
        dense = jnp.reshape(jax.jacfwd(function)(x), (x.size, x.size)) + damping * jnp.eye(x.size)
        J = jnp.reshape(jax.jacfwd(outputs)(x), (2, x.size))
        inverse = jnp.linalg.inv(dense)
        variance = jnp.diag(J @ inverse @ J.T)
        return jnp.sum(jnp.diag(inverse) ** 2) + jnp.sum(jnp.sin(variance))

    same(ours(point, 0.3), theirs(point, 0.3))
    found = jax.jit(jax.grad(ours, (0, 1)))(point, 0.3)
    wanted = jax.jit(jax.grad(theirs, (0, 1)))(point, 0.3)
    jax.tree.map(lambda a, b: same(a, b, 1e-7), found, wanted)


def test_variances_of_independent_systems_need_no_large_matrix():
    """3,100 outputs of 128 features: the matrix of the parameters would take 1.2 TB."""
    features, classes, rows = 128, 3100, 200
    W = jax.ShapeDtypeStruct((features, classes), jnp.float64)
    X = jax.ShapeDtypeStruct((rows, features), jnp.float64)
    x = jax.ShapeDtypeStruct((1, features), jnp.float64)

    def variance(W, X, x):
        J, ahead = (block_jacobian(lambda W, X: X @ W)(W, rows) for rows in (X, x))
        return factorize(J.T @ J, 1.0, assume="pos").predictive_variance(ahead)

    program = jax.jit(variance).lower(W, X, x).compile()
    assert program.memory_analysis().temp_size_in_bytes < 2e6
    W, X, x = normal(features, classes), normal(rows, features), normal(1, features)
    inverse = np.linalg.inv(np.asarray(X.T @ X) + np.eye(features))
    same(program(W, X, x), np.full((1, classes), np.asarray(x @ inverse @ x.T)[0, 0]))


# Least squares

PLACES = np.random.default_rng(3).permutation(40)
TABLE = normal(50, 4)
PROBLEMS = {
    "a table": (lambda w: TABLE @ w, (4,)),
    "a population": (lambda W: TABLE @ W, (4, 7)),
    "a population by rows": (lambda W: W @ TABLE.T, (7, 4)),
    "differences": (lambda u: jnp.concatenate([u - 1.0, 3 * (u[1:] - u[:-1])]), (60,)),
    "moved": (lambda u: jnp.concatenate([u[PLACES], u[1:] + u[:-1] ** 2]), (40,)),
    "elementwise": (lambda u: u**2 + u, (30,)),
    "wide": (lambda u: u[1:] * u[:-1], (30,)),
    "wide table": (lambda w: TABLE.T @ w, (50,)),
    "wide population": (lambda W: TABLE.T @ W, (50, 3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_least_squares(name):
    function, shape = PROBLEMS[name]
    point = normal(*shape)
    block = block_jacobian(function)(point)
    A = np.asarray(jax.jacfwd(function)(point)).reshape(-1, point.size)
    right = normal(*block.out_shape)
    wanted = np.linalg.lstsq(A, np.ravel(right), rcond=None)[0]
    found = lstsq(block, right)
    assert found.shape == shape
    same(found, wanted)
    same(block.lstsq(right), wanted)
    damped = A.T @ A + 0.2 * np.eye(point.size)
    same(lstsq(block, right, 0.2), np.linalg.solve(damped, A.T @ np.ravel(right)))
    same(block.leverage(0.2), np.diag(A @ np.linalg.solve(damped, A.T)))
    same(block.leverage(), np.diag(A @ np.linalg.pinv(A)), 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_random_least_squares(seed):
    random = np.random.default_rng(seed)
    shape = [(24,), (3, 8), (5, 4), (40,)][seed % 4]
    weights = jnp.asarray(random.uniform(0.5, 1.5, shape[-1]))
    chosen = [STEPS[number] for number in random.integers(len(STEPS), size=random.integers(1, 4))]

    def function(x):
        y = 3 * x + 0.1 * x**2
        for step in chosen:
            y = step(y, weights)
        return {"one": y + x, "two": jnp.sum(x**2, axis=-1)}

    point = jnp.asarray(random.normal(size=shape) / 3)
    blocks = block_jacobian(function)(point)
    tree = jax.tree.structure({"one": 0, "two": 0})
    matrix = BlockMatrix([[blocks["one"]], [blocks["two"]]], tree, jax.tree.structure(0))
    right = {"one": normal(*shape), "two": normal(*shape[:-1])}
    A = np.asarray(matrix.dense())
    same(matrix.lstsq(right), np.linalg.lstsq(A, flat(right), rcond=None)[0])
    same(flat(matrix.leverage()), np.diag(A @ np.linalg.pinv(A)), 1e-8)


def test_least_squares_that_are_badly_scaled():
    """The normal equations alone would lose half of the digits."""
    random = np.random.default_rng(0)
    U, V = (np.linalg.qr(random.normal(size=(n, 8)))[0] for n in (60, 8))
    A = U @ np.diag(np.logspace(0, -5, 8)) @ V.T
    right = A @ np.ones(8) + 1e-3 * random.normal(size=60)
    wanted = np.linalg.lstsq(A, right, rcond=None)[0]
    found = lstsq(Block.from_dense(jnp.asarray(A), 1), jnp.asarray(right))
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


@pytest.mark.slow
def test_least_squares_under_jit_vmap_and_grad():
    def function(u):
        return jnp.concatenate([u - 1.0, 3 * (u[1:] - u[:-1] ** 2)])

    def ours(u, right, damping):
        J = block_jacobian(function)(u)
        return jnp.sum(lstsq(J, right, damping) ** 2) + jnp.sum(J.leverage(damping) ** 2)

    def theirs(u, right, damping):
        A = jax.jacfwd(function)(u)
        inverse = jnp.linalg.inv(A.T @ A + damping * jnp.eye(u.size))
        return jnp.sum((inverse @ A.T @ right) ** 2) + jnp.sum(jnp.diag(A @ inverse @ A.T) ** 2)

    arguments = normal(2, 12), normal(23), 0.2
    axes = (0, None, None)
    for transform in (lambda f: f, lambda f: jax.grad(f, (0, 1, 2))):
        found = jax.jit(jax.vmap(transform(ours), axes))(*arguments)
        wanted = jax.vmap(transform(theirs), axes)(*arguments)
        jax.tree.map(lambda a, b: same(a, b, 1e-8), found, wanted)


# Checks


def test_singular_matrices_are_named_on_request():
    good = block_jacobian(lambda x: x**2)(jnp.ones(4))
    same(solve(good, jnp.ones(4), check=True), 0.5 * np.ones(4))
    singular = block_jacobian(lambda x: x**2)(jnp.arange(4.0))
    for call in (
        lambda: solve(singular, jnp.ones(4), check=True),
        lambda: factorize(singular).solve(jnp.ones(4), check=True),
        lambda: BlockMatrix([[singular]]).solve((jnp.ones(4),), check=True),
    ):
        with pytest.raises(SingularMatrixError, match="singular, or not positive definite"):
            call()
    negative = Block.from_dense(-jnp.eye(3) - 0.1, 1)
    with pytest.raises(SingularMatrixError, match='not positive definite where assume="pos"'):
        solve(negative, jnp.ones(3), assume="pos", check=True)
    nearly = Block.from_dense(jnp.asarray(np.vander(np.linspace(0, 1, 14))), 1)
    with pytest.raises(SingularMatrixError, match="nearly singular: the residual is"):
        solve(nearly @ nearly.T, normal(14), check=True)
    with pytest.raises(SingularMatrixError, match="the matrix of a linear system is not finite"):
        solve(good * jnp.nan, jnp.ones(4), check=True)
    with pytest.raises(SingularMatrixError, match=r"the right-hand side .* is not finite"):
        solve(good, jnp.full(4, jnp.inf), check=True)
    with pytest.raises(InvalidOptionError, match="check=True looks at the solution"):
        jax.jit(lambda y: solve(good, y, check=True))(jnp.ones(4))


BROKEN_PROMISES = {
    "a diagonal with a negative entry": (Block.diag(jnp.array([1.0, -1.0])), "pos", "entry -1 on"),
    "an indefinite matrix of a positive diagonal": (
        Block.from_dense(jnp.array([[1.0, 3.0], [3.0, 1.0]]), 1) @ Block.identity(2),
        "pos",
        "not positive definite",
    ),
    "a triangle": (
        Block.from_dense(jnp.array([[2.0, 1.0], [0.0, 2.0]]), 1),
        "sym",
        "not symmetric",
    ),
    "a shift": (blockjac.block_jacobian(lambda x: jnp.roll(x, 1))(jnp.ones(3)), "sym", "not symm"),
}


@pytest.mark.parametrize("name", BROKEN_PROMISES)
def test_check_finds_a_matrix_that_is_not_what_was_promised(name):
    matrix, assume, message = BROKEN_PROMISES[name]
    right = jnp.arange(1.0, 1.0 + matrix.out_shape[0])
    for way in (
        lambda: solve(matrix, right, assume=assume, check=True),
        lambda: factorize(matrix, assume=assume).solve(right, check=True),
        lambda: BlockMatrix([[matrix]]).solve((right,), assume=assume, check=True),
    ):
        with pytest.raises(SingularMatrixError, match=message):
            way()


def test_check_leaves_a_promise_that_holds_alone():
    matrix = Block.from_dense(jnp.array([[2.0, 1.0], [1.0, 2.0]]), 1)
    for assume in ("gen", "sym", "pos"):
        same(solve(matrix, jnp.ones(2), assume=assume, check=True), np.full(2, 1 / 3))
    indefinite = Block.diag(jnp.array([1.0, -1.0]))
    same(solve(indefinite, jnp.ones(2), assume="sym", check=True), np.array([1.0, -1.0]))
    same(solve(indefinite, jnp.ones(2), 2.0, assume="pos", check=True), np.array([1 / 3, 1.0]))


def test_dense_factorizations_are_noted_and_refused():
    dense = jacobian_of("dense")
    factors = factorize(dense)
    assert factors.note == (
        "no structure is of use, so all 20 x 20 entries are written out, 3.1 KiB"
    )
    assert factors.note in repr(factors)
    refused = r"solved densely: no structure is of use.*require_structure=True refuses"
    for call in (
        lambda: factorize(dense, require_structure=True),
        lambda: solve(dense, jnp.ones(20), require_structure=True),
        lambda: dense.solve(jnp.ones(20), require_structure=True),
        lambda: BlockMatrix([[dense]]).solve((jnp.ones(20),), require_structure=True),
    ):
        with pytest.raises(StructureLostError, match=refused):
            call()
    for name in ("diagonal", "band", "Kronecker", "rank one", "softmax"):
        block = jacobian_of(name)
        assert factorize(block, require_structure=True).note == ""


def test_triangles_are_substituted():
    lower = block_jacobian(lambda x: 4 * x + jnp.cumsum(x) ** 2 / len(x))(normal(40))
    for block in (lower, lower.T):
        factors = factorize(block, require_structure=True)
        assert factors.method == "triangular of 40"
        dense = np.asarray(block.dense())
        same(factors.solve(jnp.ones(40)), np.linalg.solve(dense, np.ones(40)))
        same(factors.slogdet()[1], np.linalg.slogdet(dense)[1])
        same(factors.inverse_diagonal(), 1 / np.diag(dense))


def test_bad_input():
    block = jacobian_of("band")
    factors = factorize(block)
    with pytest.raises(
        BlockTypeError, match=r"predictive_variance takes the Jacobian .* ArrayImpl"
    ):
        factors.predictive_variance(jnp.ones((2, 300)))
    other = block_jacobian(jnp.sum)(jnp.ones(299))
    with pytest.raises(BlockShapeError, match=r"\(\(300,\),\), but found one by .* \(\(299,\),\)"):
        factors.predictive_variance(other)
    with pytest.raises(BlockTypeError, match="lstsq takes a Block or a BlockMatrix, but found"):
        lstsq(jnp.ones((3, 2)), jnp.ones(3))
    numbers = block_jacobian(lambda x: 1j * x)(jnp.ones(300))
    for call in (numbers.leverage, lambda: factors.predictive_variance(numbers)):
        with pytest.raises(BlockTypeError, match="takes real matrices, but found complex"):
            call()
    with pytest.raises(BlockShapeError, match="lstsq needs a tree"):
        lstsq(other, jnp.ones(2))
    with pytest.raises(InvalidOptionError, match="damping must not be negative"):
        other.leverage(-1.0)
    with pytest.raises(BlockShapeError, match=r"blockjac\.lstsq takes the others"):
        solve(other, jnp.ones(()))
    assert blockjac.lstsq is lstsq
