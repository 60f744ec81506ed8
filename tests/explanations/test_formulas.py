"""Printed formulas are evaluated, and give the Jacobian that JAX computes."""

import jax
import numpy as np
import pytest
from support.explained_programs import CASES, lecture, normal
from support.printed_formulas import Printed
from support.random_functions import random_function

import blockjac
from blockjac.explanations.expressions import Formula
from blockjac.explanations.layout import pieces
from blockjac.explanations.places import letters_of, place_letters
from blockjac.explanations.styles.text import TEXT


def sizes_of(formula):
    letters = set(letters_of(formula.body))
    for place in formula.letters:
        letters |= place_letters(place)
    return {TEXT.letter(letter): letter.size for letter in letters}


def check(function, argnums, *arguments):
    """Evaluate all that is printed, from the variables of the program on, and compare the end."""
    explanation = blockjac.explain(function, argnums)(*arguments)
    assert explanation.checked is True
    names = {TEXT.called(name): array for name, array in explanation.numbers.arrays.items()}
    known = {
        TEXT.name(variable.name): names[TEXT.name(variable.name)]
        for variable in explanation.program.variables.values()
    }
    computed = {name: array for name, array in names.items() if name not in known}
    for equation in explanation.formulas.equations:
        assert isinstance(equation, Formula)
        printed = " ".join(pieces(equation, TEXT))
        # Beside the formulas a reader has what is said to have none: by name, from the library.
        formula = Printed(
            printed, {**_without_formulas(explanation, computed), **known}, sizes_of(equation)
        )
        name = TEXT.called(equation.name)
        known[name] = formula.evaluate(equation.shape)
    positions = [argnums] if isinstance(argnums, int) else argnums
    exact = jax.tree.leaves(jax.jacrev(function, tuple(positions))(*arguments))
    results = [
        TEXT.called(rule.derivative(variable.number))
        for rule in explanation.rules
        for variable in explanation.program.independents
    ]
    assert len(results) == len(exact)
    for name, array in zip(results, exact, strict=True):
        np.testing.assert_allclose(known[name], array, rtol=1e-9, atol=1e-12, err_msg=name)
    return explanation


def _without_formulas(explanation, computed):
    """The arrays that the explanation says have no formula."""
    opaque = {
        TEXT.called(elemental.derivative): f"({TEXT.called(elemental.derivative)})"
        for elemental in explanation.steps
        if elemental.formula is None
    }
    words = {
        TEXT.name(name)
        for elemental in explanation.steps
        for name, definition in elemental.definitions
        if isinstance(definition, str)
    }
    arrays = {opaque[name]: array for name, array in computed.items() if name in opaque}
    return arrays | {name: array for name, array in computed.items() if name in words}


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


@pytest.mark.parametrize("seed", range(40))
def test_printed_formulas_of_random_programs_give_the_jacobian(seed):
    function, x = random_function(seed)
    check(function, 0, x)
