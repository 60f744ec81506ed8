"""Derivatives of the Matrix Cookbook: printed formulas and Jacobians equal the book's."""

import numpy as np
import pytest
from support.matrix_cookbook import COUNT, ENTRIES
from support.printed_jacobian import jacobian_as_printed

import blockjac


def test_there_are_ninety_entries_and_none_hides_another():
    assert len(ENTRIES) == COUNT >= 90


@pytest.mark.parametrize("name", ENTRIES)
def test_jacobian_is_the_books(name):
    entry = ENTRIES[name]
    for seed in (0, 1):
        arguments = entry.draw(seed)
        wanted = np.asarray(entry.book(*arguments))
        own = np.asarray(blockjac.jacobian(entry.function)(*arguments))
        assert own.shape == wanted.shape
        np.testing.assert_allclose(own, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENTRIES)
def test_printed_formulas_are_the_books(name):
    entry = ENTRIES[name]
    arguments = entry.draw(2)
    explanation = blockjac.explain(entry.function)(*arguments)
    ((_, printed),) = jacobian_as_printed(explanation)
    np.testing.assert_allclose(printed, entry.book(*arguments), rtol=1e-9, atol=1e-11)
