"""Printed formulas are evaluated, and give the Jacobian that JAX computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.explained_programs import CASES, lecture, normal
from support.printed_jacobian import jacobian_as_printed
from support.random_functions import random_function

import blockjac
from blockjac.explanations.styles.text import TEXT


def check(function, argnums, *arguments):
    """Evaluate all that is printed, and compare the end with JAX."""
    explanation = blockjac.explain(function, argnums)(*arguments)
    printed = jacobian_as_printed(explanation)
    positions = [argnums] if isinstance(argnums, int) else argnums
    exact = jax.tree.leaves(jax.jacrev(function, tuple(positions))(*arguments))
    for (name, array), wanted in zip(printed, exact, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-9, atol=1e-12, err_msg=name)
    return explanation


def test_gradients_of_the_lectures_network_are_its_formulas():
    arguments = normal(3, 4), normal(1, 4), normal(4, 2), normal(1, 2)
    explanation = check(lecture, (0, 1, 2, 3), *arguments)
    assert str(explanation.chain_rule).splitlines() == [
        "D_W₁ lecture = D_Q ℓ ⋆ D_Z₂ ψ₂ ⋆ D_X₂ φ₂ ⋆ D_Z₁ ψ₁ ⋆ D_W₁ φ₁".replace("X₂", "X"),
        "D_b₁ lecture = D_Q ℓ ⋆ D_Z₂ ψ₂ ⋆ D_X₂ φ₂ ⋆ D_Z₁ ψ₁ ⋆ D_b₁ φ₁".replace("X₂", "X"),
        "D_W₂ lecture = D_Q ℓ ⋆ D_Z₂ ψ₂ ⋆ D_W₂ φ₂",
        "D_b₂ lecture = D_Q ℓ ⋆ D_Z₂ ψ₂ ⋆ D_b₂ φ₂",
    ]
    claims = [TEXT.write(claim.body) for claim in explanation.simplifications]
    assert claims == ["(Q - LABELS) / 5"]


@pytest.mark.parametrize("name", CASES)
def test_printed_formulas_give_the_jacobian(name):
    check(*CASES[name])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_printed_formulas_of_random_programs_give_the_jacobian(seed):
    function, x = random_function(seed)
    check(function, 0, x)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_numbers_have_the_digits_of_their_precision(dtype):
    explanation = blockjac.explain(lambda w: jnp.sum(0.1 * w**2 + 0.3 * w))(jnp.ones(3, dtype))
    assert str(explanation.formulas) == "(D_w f)[i] = w[i] / 5 + 3/10"
    assert explanation.checked


def test_a_third_in_single_precision_is_a_third():
    ours = [
        str(blockjac.explain(lambda w: jnp.mean(w) * 0.7)(jnp.ones(3, dtype)).formulas)
        for dtype in (jnp.float32, jnp.float64)
    ]
    assert ours[0] == ours[1]
