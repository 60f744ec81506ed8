"""Blocks as lineax's operators, against the dense matrix and against lineax's own operators."""

import equinox
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracle import dense_of
from support.strategies import blocks, shapes

import blockjac
from blockjac.blocks import Block, BlockMatrix, Factor, Index, Label, Term
from blockjac.errors import MissingExtraError

FEW = settings(max_examples=min(10, settings.default.max_examples))


def numbers(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def bands(size, **diagonals):
    """A square block of diagonals, `main`, `above` and `below`."""
    terms = []
    for name, values in diagonals.items():
        offset = {"main": 0, "above": 1, "below": -1}[name]
        label = Label(size - abs(offset))
        out, wrt = Index.of(label, 1, max(0, -offset)), Index.of(label, 1, max(0, offset))
        terms.append(Term((Factor(values, (label,)),), (out,), (wrt,)))
    return Block((size,), (size,), np.float64, terms)


def tridiagonal(size):
    return bands(size, main=5 + numbers(size), above=numbers(size - 1), below=numbers(size - 1))


@pytest.mark.slow
@given(st.data())
@FEW
def test_random_blocks(data):
    block, terms = data.draw(blocks(data.draw(shapes()), data.draw(shapes()), most_terms=2))
    wanted = dense_of(terms, block.shape)
    matrix = wanted.reshape(block.matrix_shape)
    rank = len(block.out_shape)
    operator = block.as_linear_operator()
    vector = np.arange(1.0, 1 + matrix.shape[1]).reshape(block.wrt_shape)
    product = np.tensordot(wanted, vector, axes=len(block.wrt_shape))
    np.testing.assert_array_equal(operator.mv(vector), product)
    np.testing.assert_array_equal(operator.as_matrix(), matrix)
    turned = operator.transpose()
    np.testing.assert_array_equal(turned.as_matrix(), matrix.T)
    np.testing.assert_array_equal(
        turned.mv(np.ones(block.out_shape)), np.sum(wanted, axis=tuple(range(rank)))
    )
    assert operator.in_structure() == jax.ShapeDtypeStruct(block.wrt_shape, np.float64)
    assert operator.out_structure() == jax.ShapeDtypeStruct(block.out_shape, np.float64)
    whole = lineax.materialise(operator)
    np.testing.assert_array_equal(whole.mv(vector), product)
    if matrix.shape[0] == matrix.shape[1]:
        check_square(operator, matrix)


def check_square(operator, matrix):
    """What is claimed of a square matrix is true, and its diagonals are right."""
    np.testing.assert_array_equal(lineax.diagonal(operator), np.diagonal(matrix))
    if len(matrix) > 1:
        for found, offset in zip(lineax.tridiagonal(operator), (0, -1, 1), strict=True):
            np.testing.assert_array_equal(found, np.diagonal(matrix, offset))
    rows, columns = np.nonzero(matrix)
    far = columns - rows
    assert not lineax.is_diagonal(operator) or (far == 0).all()
    assert not lineax.is_tridiagonal(operator) or (abs(far) <= 1).all()
    assert not lineax.is_lower_triangular(operator) or (far <= 0).all()
    assert not lineax.is_upper_triangular(operator) or (far >= 0).all()
    assert not lineax.is_symmetric(operator) or (matrix == matrix.T).all()


QUESTIONS = ("diagonal", "tridiagonal", "lower_triangular", "upper_triangular", "symmetric")


def told(operator):
    return [name for name in QUESTIONS if getattr(lineax, f"is_{name}")(operator)]


def test_the_structure_tells_what_a_solver_asks():
    main = bands(4, main=numbers(4))
    assert told(main.as_linear_operator()) == list(QUESTIONS)
    assert told(tridiagonal(4).as_linear_operator()) == ["tridiagonal"]
    upper = bands(4, main=numbers(4), above=numbers(3)).as_linear_operator()
    assert told(upper) == ["tridiagonal", "upper_triangular"]
    assert told(upper.transpose()) == ["tridiagonal", "lower_triangular"]
    dense = Block.from_dense(numbers(4, 4), 1)
    assert told(dense.as_linear_operator()) == []
    assert told(Block.identity((4, 3)).as_linear_operator()) == list(QUESTIONS)
    assert told(Block.from_dense(numbers(2, 4), 1).as_linear_operator()) == []


def test_tags_tell_the_rest():
    dense = Block.from_dense(numbers(4, 4), 1)
    operator = dense.as_linear_operator(lineax.positive_semidefinite_tag)
    assert lineax.is_positive_semidefinite(operator)
    assert lineax.is_symmetric(operator)
    assert not lineax.is_negative_semidefinite(operator)
    several = dense.as_linear_operator((lineax.lower_triangular_tag, lineax.unit_diagonal_tag))
    assert lineax.is_lower_triangular(several)
    assert lineax.has_unit_diagonal(several)
    assert lineax.is_upper_triangular(several.transpose())
    assert lineax.has_unit_diagonal(several.transpose())
    assert lineax.is_negative_semidefinite(
        dense.as_linear_operator(lineax.negative_semidefinite_tag)
    )
    for tag in (lineax.diagonal_tag, lineax.tridiagonal_tag, lineax.upper_triangular_tag):
        assert told(dense.as_linear_operator(tag))


@pytest.mark.parametrize(
    ("block", "solver"),
    [
        (tridiagonal(6), lineax.Tridiagonal),
        (bands(6, main=1 + numbers(6) ** 2), lineax.Diagonal),
        (bands(6, main=1 + numbers(6) ** 2, above=numbers(5)), lineax.Triangular),
        (Block.from_dense(numbers(6, 6), 1), lineax.LU),
    ],
    ids=["tridiagonal", "diagonal", "triangular", "full"],
)
def test_linear_solve_takes_the_solver_that_suits(block, solver):
    operator, right = block.as_linear_operator(), numbers(6, seed=1)
    chosen = lineax.AutoLinearSolver(well_posed=True).select_solver(operator)
    if solver is lineax.Triangular:  # a bidiagonal matrix is a tridiagonal one too
        solver = (lineax.Triangular, lineax.Tridiagonal)
    assert isinstance(chosen, solver)
    wanted = np.linalg.solve(np.asarray(operator.as_matrix()), right)
    np.testing.assert_allclose(lineax.linear_solve(operator, right).value, wanted, rtol=1e-10)
    within = jax.jit(lambda block: lineax.linear_solve(block.as_linear_operator(), right).value)(
        block
    )
    np.testing.assert_allclose(within, wanted, rtol=1e-10)


@pytest.mark.parametrize("solver", [lineax.CG, lineax.GMRES])
def test_iterative_solvers(solver):
    square = numbers(6, 6)
    block = Block.from_dense((square @ square.T + jnp.eye(6)).reshape(2, 3, 2, 3), 2)
    operator = block.as_linear_operator(lineax.positive_semidefinite_tag)
    right = numbers(2, 3, seed=2)
    found = lineax.linear_solve(operator, right, solver(rtol=1e-12, atol=1e-12)).value
    np.testing.assert_allclose(block.matvec(found), right, rtol=1e-8, atol=1e-10)


def test_solve_under_vmap():
    values = 1 + numbers(3, 4) ** 2
    found = jax.vmap(
        lambda row: lineax.linear_solve(Block.diag(row).as_linear_operator(), jnp.ones(4)).value
    )(values)
    np.testing.assert_allclose(found, 1 / values, rtol=1e-14)


def test_gradient_of_a_solve():
    def solved(main):
        block = bands(5, main=main, above=jnp.ones(4), below=jnp.ones(4))
        return jnp.sum(lineax.linear_solve(block.as_linear_operator(), jnp.arange(5.0)).value)

    def dense(main):
        matrix = jnp.diag(main) + jnp.eye(5, k=1) + jnp.eye(5, k=-1)
        return jnp.sum(jnp.linalg.solve(matrix, jnp.arange(5.0)))

    point = 4 + numbers(5)
    np.testing.assert_allclose(jax.grad(solved)(point), jax.grad(dense)(point), rtol=1e-10)


def test_a_matrix_of_blocks():
    """A tree of inputs and one of outputs; the diagonals of the whole go through the blocks."""

    def residual(state):
        return {"u": 3 * state["u"] ** 2 + 1, "v": jnp.sin(state["v"])}

    state = {"u": numbers(3), "v": numbers(2, 2)}
    tree = blockjac.block_jacobian(residual)(state)
    structure = jax.tree.structure(state)
    rows = [[tree[out][wrt] for wrt in ("u", "v")] for out in ("u", "v")]
    operator = BlockMatrix(rows, structure, structure).as_linear_operator()
    wanted = np.diag(np.concatenate([6 * state["u"], np.cos(state["v"]).ravel()]))
    assert told(operator) == list(QUESTIONS)
    check_square(operator, np.asarray(operator.as_matrix()))
    np.testing.assert_allclose(operator.as_matrix(), wanted)
    assert operator.in_structure() == jax.eval_shape(lambda: state)
    assert operator.out_structure() == jax.eval_shape(lambda: state)
    for one in (operator, operator.transpose(), lineax.materialise(operator)):
        product = one.mv(state)
        np.testing.assert_allclose(product["u"], 6 * state["u"] ** 2, rtol=1e-14)
        np.testing.assert_allclose(product["v"], np.cos(state["v"]) * state["v"], rtol=1e-14)
    found = lineax.linear_solve(operator, state).value
    np.testing.assert_allclose(found["v"], state["v"] / np.cos(state["v"]), rtol=1e-12)


def test_a_square_matrix_of_blocks_that_are_not():
    """Two outputs by one input: as many rows as columns, and a diagonal through both blocks."""
    upper, lower = Label(2), Label(3)
    first = Block((2,), (5,), np.float64, [Term((), (Index.of(upper),), (Index.of(upper),))])
    second = Block((3,), (5,), np.float64, [Term((), (Index.of(lower),), (Index.of(lower, 1, 2),))])
    operator = BlockMatrix([[first], [second]]).as_linear_operator()
    assert told(operator) == [name for name in QUESTIONS if name != "symmetric"]
    check_square(operator, np.eye(5))
    reshaping = blockjac.block_jacobian(lambda x: jnp.ravel(x) ** 2)(numbers(2, 3))
    check_square(reshaping.as_linear_operator(), np.asarray(reshaping.dense()).reshape(6, 6))


def test_materialise_keeps_a_diagonal():
    assert isinstance(
        lineax.materialise(Block.diag(numbers(3)).as_linear_operator()),
        lineax.DiagonalLinearOperator,
    )
    operator = Block.identity((2, 2)).as_linear_operator()
    assert lineax.linearise(operator) is operator


def test_conjugate():
    block = Block.from_dense(jnp.array([[1j, 2.0], [3.0, 1 - 1j]]), 1)
    operator = block.as_linear_operator()
    np.testing.assert_array_equal(
        lineax.conj(operator).as_matrix(), np.conj(np.asarray(block.dense()))
    )
    real = Block.diag(numbers(2)).as_linear_operator()
    np.testing.assert_array_equal(lineax.conj(real).as_matrix(), real.as_matrix())


def test_operators_combine():
    block = tridiagonal(4)
    doubled = block.as_linear_operator() + 2 * block.as_linear_operator().T
    dense = np.asarray(block.dense())
    np.testing.assert_allclose(doubled.as_matrix(), dense + 2 * dense.T, rtol=1e-14)
    jitted = equinox.filter_jit(lambda operator, vector: operator.mv(vector))
    np.testing.assert_allclose(jitted(block.as_linear_operator(), jnp.ones(4)), dense.sum(1))


def test_without_lineax(monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "blockjac.exports.lineax_operator")
    monkeypatch.setitem(sys.modules, "lineax", None)
    with pytest.raises(MissingExtraError, match=r"pip install lineax.*to_scipy_operator"):
        Block.identity((2,)).as_linear_operator()
