"""The solver of lineax on operators of all kinds, beside lineax's own and NumPy's answers."""

import importlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac.errors import ArgumentError, MissingExtraError, StructureLostError

lx = pytest.importorskip("lineax", reason="the solver is one of lineax")

from blockjac.interop import StructuredSolver  # noqa: E402

SOLVER = StructuredSolver()
OWN = lx.AutoLinearSolver(well_posed=None)
RANDOM = np.random.default_rng(0)
A = jnp.asarray(RANDOM.normal(size=(5, 5)))
SEEN = np.array([3, 1, 0, 2, 4, 4, 0])


def jacobian(fun, point):
    return lx.JacobianLinearOperator(lambda y, args: fun(y), point)


def cells(y):
    a, b, c = y.reshape(3, -1)
    return jnp.concatenate([a * b + c, b**2 - a, c * a + b])


def heat(u):
    sides = jnp.pad(u, 1)
    return u + u**3 - 10 * (sides[2:] - 2 * u + sides[:-2])


def tree(y):
    return {"a": y["a"] ** 2 + y["b"][0], "b": y["b"] * jnp.array([2.0, 3.0]) * y["a"].mean()}


def other_tree(y):
    return y["a"] ** 2, jnp.sum(y["a"]) + y["b"][:, None] ** 2


TREE = {"a": jnp.arange(1.0, 4.0), "b": jnp.array([1.0, 2.0])}

OPERATORS = {
    "matrix": (lambda: lx.MatrixLinearOperator(A), "dense LU of 5; no structure"),
    "positive definite": (
        lambda: lx.MatrixLinearOperator(A @ A.T + jnp.eye(5), lx.positive_semidefinite_tag),
        "dense Cholesky of 5",
    ),
    "lower triangle": (
        lambda: lx.MatrixLinearOperator(jnp.tril(A), lx.lower_triangular_tag),
        "triangular of 5",
    ),
    "upper triangle": (
        lambda: lx.MatrixLinearOperator(jnp.triu(A), lx.upper_triangular_tag),
        "triangular of 5",
    ),
    "diagonal": (lambda: lx.DiagonalLinearOperator(jnp.arange(1.0, 6)), "5 systems: division"),
    "tridiagonal": (
        lambda: lx.TridiagonalLinearOperator(
            jnp.arange(3.0, 8), jnp.arange(1.0, 5), jnp.arange(2.0, 6)
        ),
        "tridiagonal of 5",
    ),
    "product": (
        lambda: lx.DiagonalLinearOperator(jnp.arange(1.0, 6)) @ lx.MatrixLinearOperator(A),
        "dense LU of 5",
    ),
    "cells": (
        lambda: jacobian(cells, jnp.linspace(1.0, 2.0, 600)),
        "separate systems: 200 of 3",
    ),
    "linearized cells": (
        lambda: lx.linearise(jacobian(cells, jnp.linspace(1.0, 2.0, 600))),
        "separate systems: 200 of 3",
    ),
    "heat": (lambda: jacobian(heat, jnp.linspace(0.0, 1.0, 200)), "tridiagonal of 200"),
    "tree": (lambda: jacobian(tree, TREE), "dense LU of 5"),
    "trees that differ": (lambda: jacobian(other_tree, TREE), "dense LU of 5"),
    "tall": (
        lambda: lx.MatrixLinearOperator(jnp.asarray(RANDOM.normal(size=(7, 4)))),
        "least squares by the normal equations: dense Cholesky of 4",
    ),
    "wide": (
        lambda: lx.MatrixLinearOperator(jnp.asarray(RANDOM.normal(size=(4, 7)))),
        "least squares by the normal equations: dense Cholesky of 4",
    ),
    "lookups": (
        lambda: jacobian(lambda y: y[SEEN] ** 2, jnp.arange(1.0, 6)),
        "least squares by the normal equations: 5 systems: division",
    ),
    "complex": (lambda: lx.MatrixLinearOperator(A + 1j * A.T), "dense LU of 5"),
}


def filled(structure):
    """A right-hand side."""
    leaves, definition = jax.tree.flatten(structure)
    arrays = [
        jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape) for leaf in leaves
    ]
    return jax.tree.unflatten(definition, arrays)


def agree(ours, theirs, tolerance=1e-10):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for left, right in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", OPERATORS)
def test_solutions_are_those_of_lineax(name):
    make, way = OPERATORS[name]
    operator = make()
    right = filled(operator.out_structure())
    agree(
        lx.linear_solve(operator, right, SOLVER).value, lx.linear_solve(operator, right, OWN).value
    )
    assert SOLVER.describe(operator).startswith(way)


@pytest.mark.parametrize(
    "name", ["matrix", "cells", "tall", "wide", "trees that differ", "complex"]
)
def test_the_transpose_and_the_conjugate_take_the_same_factors(name):
    operator = OPERATORS[name][0]()
    state = SOLVER.init(operator, {})
    transposed, _ = SOLVER.transpose(state, {})
    other = operator.transpose()
    right = filled(other.out_structure())
    agree(SOLVER.compute(transposed, right, {})[0], lx.linear_solve(other, right, OWN).value)
    assert jax.tree.leaves(transposed.solver)[0] is jax.tree.leaves(state.solver)[0]
    conjugated, _ = SOLVER.conj(state, {})
    right = filled(operator.out_structure())
    expected = lx.linear_solve(lx.conj(operator), right, OWN).value
    agree(SOLVER.compute(conjugated, right, {})[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(5, 5), (7, 4), (4, 7)])
def test_gradients_and_batches(shape):
    matrix = jnp.asarray(RANDOM.normal(size=shape))
    right = jnp.asarray(RANDOM.normal(size=shape[0]))

    def loss(solver):
        def of(matrix, right):
            structure = jax.ShapeDtypeStruct((shape[1],), matrix.dtype)
            operator = lx.FunctionLinearOperator(lambda x: matrix @ x, structure)
            return jnp.sum(lx.linear_solve(operator, right, solver).value ** 2)

        return of

    for differentiate in (jax.grad, jax.jacfwd):
        ours = differentiate(loss(SOLVER), (0, 1))(matrix, right)
        agree(ours, differentiate(loss(OWN), (0, 1))(matrix, right))
    batch = jnp.stack([matrix, 2 * matrix])
    ours = jax.jit(jax.vmap(loss(SOLVER), in_axes=(0, None)))(batch, right)
    agree(ours, jax.vmap(loss(OWN), in_axes=(0, None))(batch, right))


def test_the_state_is_carried_by_loops_and_branches():
    operator = OPERATORS["cells"][0]()
    right = filled(operator.out_structure())

    @jax.jit
    def halved(right):
        state = SOLVER.init(operator, {})

        def step(carry):
            state, x = carry
            return state, x + SOLVER.compute(state, right - operator.mv(x), {})[0]

        state, x = jax.lax.while_loop(lambda carry: carry[1][0] == 0, step, (state, 0 * right))
        return jax.lax.cond(
            x[0] != 0,
            lambda state: SOLVER.compute(state, operator.mv(x), {})[0],
            lambda _: x,
            state,
        )

    agree(halved(right), lx.linear_solve(operator, right, OWN).value)


@pytest.mark.slow
def test_single_precision_and_leaves_of_both():
    operator = jacobian(cells, jnp.linspace(1.0, 2.0, 600, dtype=jnp.float32))
    right = jnp.ones(600, jnp.float32)
    solution = lx.linear_solve(operator, right, SOLVER).value
    agree(solution, lx.linear_solve(operator, right, OWN).value, 1e-4)
    mixed = {"a": TREE["a"].astype(jnp.float32), "b": TREE["b"]}
    operator = jacobian(lambda y: {"a": 2 * y["a"], "b": 4 * y["b"]}, mixed)
    solution = lx.linear_solve(operator, mixed, SOLVER).value
    agree(solution, {"a": mixed["a"] / 2, "b": mixed["b"] / 4})


def test_an_operator_of_blocks_and_one_that_lineax_composes():
    import blockjac

    block = blockjac.block_jacobian(heat)(jnp.linspace(0.0, 1.0, 200))
    operator = block.as_linear_operator()
    tagged = lx.TaggedLinearOperator(operator + operator.T, lx.symmetric_tag)
    for each in (operator, tagged):
        assert SOLVER.describe(each).startswith("tridiagonal")
        solution = lx.linear_solve(each, jnp.ones(200), SOLVER).value
        np.testing.assert_allclose(
            solution, np.linalg.solve(each.as_matrix(), np.ones(200)), rtol=1e-9
        )


def test_a_singular_operator_is_reported_as_lineax_does():
    operator = lx.MatrixLinearOperator(jnp.ones((3, 3)))
    solution = lx.linear_solve(operator, jnp.arange(3.0), SOLVER, throw=False)
    assert solution.result == lx.RESULTS.singular
    with pytest.raises(Exception, match="singular"):
        lx.linear_solve(operator, jnp.arange(3.0), SOLVER)


def test_what_is_not_linear_is_refused():
    structure = jax.ShapeDtypeStruct((3,), jnp.zeros(0).dtype)
    operator = lx.FunctionLinearOperator(lambda x: x**2 + x, structure)
    with pytest.raises(ArgumentError, match="the operator is not linear"):
        lx.linear_solve(operator, jnp.ones(3), SOLVER)
    # Written so that it has to be looked at twice: the derivative of each branch is the same.
    operator = lx.FunctionLinearOperator(
        lambda x: jax.lax.cond(True, jnp.negative, lambda x: -x, x), structure
    )
    np.testing.assert_allclose(lx.linear_solve(operator, jnp.ones(3), SOLVER).value, -np.ones(3))


def test_a_dense_operator_can_be_refused_and_complex_least_squares_is():
    with pytest.raises(StructureLostError, match="require_structure"):
        lx.linear_solve(OPERATORS["matrix"][0](), jnp.ones(5), StructuredSolver(True))
    operator = lx.MatrixLinearOperator(jnp.ones((3, 2), complex))
    with pytest.raises(ArgumentError, match="a complex operator of 3 outputs and 2 inputs"):
        lx.linear_solve(operator, jnp.ones(3, complex), SOLVER)


def test_older_lineax_asks_about_rows_and_columns():
    tall, wide = OPERATORS["tall"][0](), OPERATORS["wide"][0]()
    asked = [
        (SOLVER.allow_dependent_rows(o), SOLVER.allow_dependent_columns(o)) for o in (tall, wide)
    ]
    assert asked == [(True, False), (False, True)]
    assert SOLVER.assume_full_rank()


def test_without_lineax_the_line_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lineax", None)
    monkeypatch.delitem(sys.modules, "blockjac.interop.structured_solver")
    with pytest.raises(MissingExtraError, match="pip install lineax"):
        importlib.import_module("blockjac.interop.structured_solver")


@pytest.mark.parametrize(("side", "way"), [(12, "dense LU of 144"), (40, "band of 40 + 1 + 40")])
def test_the_way_is_chosen_for_the_solutions_that_follow(side, way):
    """A band is factored faster than a small dense matrix, but solved with more slowly."""

    def implicit(u, _):
        sides = jnp.pad(u, 1)
        around = sides[2:, 1:-1] + sides[:-2, 1:-1] + sides[1:-1, 2:] + sides[1:-1, :-2]
        return u - 0.1 * (around - 4 * u)

    u = jnp.ones((side, side))
    operator = lx.JacobianLinearOperator(implicit, u)
    assert StructuredSolver().describe(operator).startswith(way)
    patient = StructuredSolver(require_structure=True).describe(operator)
    assert not patient.startswith("dense")
