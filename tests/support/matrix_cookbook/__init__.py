"""Derivatives of the Matrix Cookbook, from its formulas and not from its text.

Equations have other numbers in other editions, so that entries are named by section and function.
The book gives the derivative of a scalar by a matrix in the shape of the matrix, and that of a
vector by a vector with one row for each entry of the result. Both are the shapes of a Jacobian with
output axes first. Where the book differentiates by one entry X[i, j] at a time, or gives a
differential with dX in it, dX runs through the single-entry matrices J^ij, which gives the last two
axes. Matrices that the book calls symmetric without deriving by structure are arguments whose
entries are independent all the same.
"""

from support.matrix_cookbook import determinants, forms, structured, traces

ENTRIES = {
    f"{entry.section} {entry.name}": entry
    for entry in (
        *determinants.ENTRIES,
        *forms.ENTRIES,
        *traces.ENTRIES,
        *structured.ENTRIES,
    )
}
COUNT = sum(len(part.ENTRIES) for part in (determinants, forms, structured, traces))
