"""Every formula that is printed of linear algebra and Fourier transforms gives JAX's Jacobian."""

import jax
import numpy as np
import pytest
from support.linear_algebra_programs import (
    FAMILIES,
    eigenvalue_sum,
    jacobians,
    log_determinants,
    power_spectrum,
    program,
)
from support.printed_jacobian import jacobian_as_printed

import blockjac
from blockjac.base import compat
from blockjac.explanations.evaluate import evaluated

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda own: own.__name__)


def packed(array):
    """Complex numbers as pairs of real ones on an axis in front."""
    array = np.asarray(array)
    return np.stack([array.real, array.imag]) if np.iscomplexobj(array) else array


def of_step(explanation, elemental):
    """An elemental Jacobian by JAX alone, of a step as a function of real arrays."""
    step, numbers = elemental.use.step, explanation.numbers
    values = [compat.jax_array(numbers.values[value]) for value in step.operands]
    place = step.operands.index(elemental.use.tail)
    is_complex = np.iscomplexobj(values[place])

    def function(array):
        own = jax.lax.complex(array[0], array[1]) if is_complex else array
        (result,) = step.function([elemental.use.head])(*values[:place], own, *values[place + 1 :])
        parts = [result.real, result.imag]
        return jax.numpy.stack(parts) if np.iscomplexobj(result) else result

    return np.asarray(jax.jacfwd(function)(packed(values[place])))


def check(function, arguments):
    """Evaluate all that is printed of a program, and each of its steps, and compare with JAX."""
    explanation = blockjac.explain(function, tuple(range(len(arguments))))(*arguments)
    exact = jacobians(function, arguments)
    for (name, array), wanted in zip(jacobian_as_printed(explanation), exact, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-8, atol=1e-9, err_msg=name)
    for elemental in explanation.steps:
        assert elemental.formula is not None, f"{elemental.use.step.word} has no formula"
        own = evaluated(elemental.formula, explanation.numbers.arrays)
        wanted = of_step(explanation, elemental)
        np.testing.assert_allclose(own, wanted, rtol=1e-8, atol=1e-9, err_msg=str(elemental))
    return explanation


@pytest.mark.slow
@pytest.mark.parametrize("family", [eigenvalue_sum, log_determinants, power_spectrum])
def test_printed_formulas_give_the_jacobian(family):
    check(*program(family, 0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@every_family
def test_printed_formulas_of_more_programs_give_the_jacobian(family, seed):
    check(*program(family, seed))
