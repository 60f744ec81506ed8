"""Formulas of linear algebra are printed for its functions, are right, and for no others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.printed_jacobian import jacobian_as_printed

import blockjac
from blockjac.explanations.known import RULES, adjugate_of
from blockjac.graph.trace import LINEAR_ALGEBRA

inv, det, solve, slogdet = jnp.linalg.inv, jnp.linalg.det, jnp.linalg.solve, jnp.linalg.slogdet


def matrix(seed, size=3):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(size, size)) + 3 * np.eye(size))


def explained(function, argnums, *arguments):
    """Check what is printed against JAX, and give the formulas and the steps."""
    explanation = blockjac.explain(function, argnums)(*arguments)
    wanted = jax.tree.leaves(jax.jacrev(function, argnums)(*arguments))
    for (name, own), array in zip(jacobian_as_printed(explanation), wanted, strict=True):
        np.testing.assert_allclose(own, array, rtol=1e-9, atol=1e-11, err_msg=name)
    return str(explanation.formulas).splitlines(), str(explanation)


def test_every_rule_is_of_a_function_that_stays_a_step():
    assert set(RULES) == LINEAR_ALGEBRA


def test_inverse():
    formulas, text = explained(lambda A: inv(A), 0, matrix(0))
    assert formulas == ["(D_A f)[i,i',j,j'] = -f[i,j] f[j',i']"]
    assert "no formula" not in text
    formulas, _ = explained(lambda a, A: a @ inv(A.T @ A) @ a, 1, jnp.ones(3), matrix(1))
    assert not any("D_v₂ inv" in line for line in formulas)


def test_logarithm_of_a_determinant():
    formulas, text = explained(lambda A: slogdet(A)[1], 0, matrix(2))
    assert formulas == ["(D_A f)[i,i'] = B[i',i]"]
    assert "where B is computed by inv(A)" in text
    explained(lambda A: jnp.prod(jnp.stack(slogdet(A))), 0, matrix(2))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_determinant(size):
    formulas, text = explained(lambda A: det(A), 0, matrix(size, size))
    if size > 1:
        assert formulas == ["(D_A f)[i,i'] = B[i',i]"]
    assert "computed by adjugate(A)" in text


def test_determinant_of_a_singular_matrix():
    A = matrix(3).at[1].set(matrix(3)[0] * 2)
    explained(lambda A: det(A), 0, A)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("rank", [0, 1, 3, 4])
def test_adjugate_has_the_cofactors(size, rank):
    rng = np.random.default_rng(size)
    A = rng.normal(size=(size, min(rank, size))) @ rng.normal(size=(min(rank, size), size))
    cofactors = [
        [(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(A, i, 0), j, 1)) for j in range(size)]
        for i in range(size)
    ]
    np.testing.assert_allclose(adjugate_of(A), np.transpose(cofactors), atol=1e-12)


@pytest.mark.slow
def test_solution_of_a_system():
    formulas, _ = explained(lambda A, b: solve(A, b), (0, 1), matrix(4), jnp.ones(3))
    assert formulas == ["(D_A f)[i,i',j] = -B[i,i'] f[j]", "(D_b f)[i,i'] = B[i,i']"]
    formulas, _ = explained(lambda A, B: solve(A, B), (0, 1), matrix(5), jnp.ones((3, 2)))
    assert formulas[1] == "(D_B f)[i,j,i',j'] = δ[j,j'] C[i,i']"
    explained(lambda A: solve(A, jnp.sin(A)), 0, matrix(6))
    explained(lambda A: jnp.sum(solve(A, A.T) ** 2), 0, matrix(6))


@pytest.mark.slow
def test_stacks_of_matrices_are_matrices_one_by_one():
    stack = jnp.stack([matrix(7), matrix(8)])
    formulas, _ = explained(lambda A: inv(A), 0, stack)
    assert formulas == ["(D_A f)[i,j,j',i',k,k'] = -δ[i,i'] f[i,j,k] f[i,k',j']"]
    formulas, _ = explained(lambda A: slogdet(A)[1], 0, stack)
    assert formulas == ["(D_A f)[i,i',j,j'] = δ[i,i'] B[i,j',j]"]
    explained(lambda A, b: solve(A, b), (0, 1), stack, jnp.ones((2, 3, 1)))
    explained(lambda A: jnp.sum(det(jnp.tile(A, (2, 1, 1)))), 0, matrix(9, 4))
    explained(lambda A: jnp.sum(slogdet(jnp.tile(A, (2, 1, 1)))[1]), 0, matrix(9, 2))


@pytest.mark.slow
def test_stacks_are_repeated_where_the_other_side_has_more():
    stack = jnp.stack([matrix(7), matrix(8)])
    formulas, _ = explained(lambda A, b: solve(A, b), (0, 1), stack, jnp.ones(3))
    assert formulas[1] == "(D_b f)[i,j,j'] = B[i,j,j']"
    explained(lambda A, b: solve(A, b), (0, 1), stack[:1], jnp.ones((2, 3, 2)))
    explained(lambda A, b: solve(A, b), (0, 1), stack, jnp.ones((4, 2, 3, 1)))
    explained(lambda A, b: solve(A, b), (0, 1), stack, jnp.ones((1, 3, 2)))


def test_cholesky_factor():
    formulas, text = explained(lambda A: jnp.linalg.cholesky(A), 0, matrix(9) @ matrix(9).T)
    assert [" ".join("".join(formulas).split())] == [
        "(D_A f)[i,i',j,j'] = B[i',j'] (Σ_k [k ≥ i'] f[i,k] B[k,j] / (1 + δ[k,i'])) / 2 "
        "+ B[i',j] (Σ_k' [k' ≥ i'] f[i,k'] B[k',j'] / (1 + δ[k',i'])) / 2"
    ]
    assert "where B is computed by inv(f)" in text


@pytest.mark.slow
def test_what_is_derived_from_a_function_is_not_taken_for_it():
    b = jnp.arange(1.0, 4.0)
    for function in (
        lambda A: jnp.sum(jnp.sin(solve(A, b))),
        lambda A: b @ inv(A) @ b,
        lambda A: slogdet(A)[1],
        lambda A: det(A),
        lambda A: jnp.sum(inv(A) ** 2),
    ):
        explained(lambda A, function=function: jax.grad(function)(A), 0, matrix(13))
        explained(lambda A, function=function: jax.jvp(function, (A,), (A @ A,))[1], 0, matrix(14))


def test_own_function_of_the_same_name_is_not_taken_for_linear_algebra():
    @jax.jit
    def inv(A):
        return 1 / A

    formulas, _ = explained(lambda A: 2 * inv(A), 0, matrix(10))
    assert "δ" in formulas[-1]


def test_singular_matrix_has_no_finite_derivative_and_is_not_called_wrong():
    explanation = blockjac.explain(lambda A: inv(A))(jnp.ones((3, 3)))
    assert explanation.checked is not False


def test_jacobian_that_cancels_to_rounding_errors_is_not_called_wrong():
    A, B = matrix(15), matrix(16)
    explanation = blockjac.explain(lambda A, B: solve(A, A @ B), (0, 1))(A, B)
    assert explanation.checked is True


def test_identities_that_a_formula_reads_are_deltas():
    formulas, text = explained(lambda A, B: jnp.trace(A @ B), 0, matrix(11), matrix(12))
    assert formulas == ["(D_A f)[i,i'] = B[i',i]"]
    assert "computed by known" not in text


def test_constants_that_a_formula_reads_are_called_constants():
    sees = jnp.array([[True, False, True], [True, True, False], [True, False, False]])

    @blockjac.step("alpha")
    def shares(S):
        return jax.nn.softmax(jnp.where(sees, S, -jnp.inf))

    _, text = explained(shares, 0, matrix(17))
    assert "is a constant of the program" in text
    assert "is computed by" not in text
