"""Section 2.8: matrices whose entries depend on each other, and 10.2: vec and Kronecker.

The book gives the derivative by a structured matrix as a matrix of the same structure, each of its
entries a derivative by the number that stands there, and in all other places that it repeats in.
Here such a matrix is a function of the numbers that it consists of, which are what we differentiate
by; of the book's matrix we take each number once.
"""

import jax.numpy as jnp
import numpy as np
from support.matrix_cookbook.entry import Entry, det, inverse

SIZE = 3
LOWER = np.tril_indices(SIZE)
POSITION = np.zeros((SIZE, SIZE), int)
POSITION[LOWER] = np.arange(len(LOWER[0]))
POSITION = np.maximum(POSITION, POSITION.T)
"""For each place of a symmetric matrix the number that stands there."""

OFFSET = np.arange(SIZE)[:, None] - np.arange(SIZE)[None, :] + SIZE - 1
"""The same of a Toeplitz matrix."""


def symmetric(v):
    """A symmetric matrix of its lower triangle, larger on the diagonal, so that it is regular."""
    return v[POSITION] + 4 * np.eye(SIZE)


def of_triangle(matrix):
    """The numbers of a symmetric matrix, each once."""
    return matrix[LOWER]


def toeplitz(t):
    return t[OFFSET]


def plus_transpose(D):
    """What the book makes of a derivative by unstructured entries, for a symmetric matrix."""
    return D + D.T - np.diag(np.diag(D))


def diagonal_sums(A):
    """The book's alpha(A): sums along the diagonals of A', each once."""
    return np.array([np.sum(A.T[number == OFFSET]) for number in range(2 * SIZE - 1)])


def symmetric_toeplitz(t):
    return t[np.abs(OFFSET - SIZE + 1)]


def symmetric_toeplitz_book(t, A):
    sums = diagonal_sums(A)
    return np.array([sums[SIZE - 1]] + [sums[SIZE - 1 + k] + sums[SIZE - 1 - k] for k in (1, 2)])


ENTRIES = (
    Entry(
        "2.8.2",
        "Tr(AX), X symmetric",
        lambda v, A: jnp.trace(A @ symmetric(v)),
        "6 33",
        lambda v, A: of_triangle(A + A.T - A * np.eye(SIZE)),
    ),
    Entry(
        "2.8.2",
        "det X, X symmetric",
        lambda v: jnp.linalg.det(symmetric(v)),
        "6",
        lambda v: of_triangle(
            det(symmetric(v)) * (2 * inverse(symmetric(v)) - inverse(symmetric(v)) * np.eye(SIZE))
        ),
    ),
    Entry(
        "2.8.2",
        "ln det X, X symmetric",
        lambda v: jnp.linalg.slogdet(symmetric(v))[1],
        "6",
        lambda v: of_triangle(2 * inverse(symmetric(v)) - inverse(symmetric(v)) * np.eye(SIZE)),
    ),
    Entry(
        "2.8.2",
        "a'X^-1 b, X symmetric",
        lambda v, a, b: a @ jnp.linalg.inv(symmetric(v)) @ b,
        "6 3 3",
        lambda v, a, b: of_triangle(
            plus_transpose(-inverse(symmetric(v)).T @ np.outer(a, b) @ inverse(symmetric(v)).T)
        ),
    ),
    Entry(
        "2.8.3",
        "Tr(AX), X diagonal",
        lambda d, A: jnp.trace(A @ jnp.diag(d)),
        "3 33",
        lambda d, A: np.diag(A),
    ),
    Entry(
        "2.8.4",
        "Tr(AT), T Toeplitz",
        lambda t, A: jnp.trace(A @ toeplitz(t)),
        "5 33",
        lambda t, A: diagonal_sums(A),
    ),
    Entry(
        "2.8.4",
        "Tr(AT), T symmetric and Toeplitz",
        lambda t, A: jnp.trace(A @ symmetric_toeplitz(t)),
        "3 33",
        symmetric_toeplitz_book,
    ),
    Entry(
        "2.8.1",
        "g(U(X)): ln det(X'X + A) by the chain rule",
        lambda X, A: jnp.linalg.slogdet(X.T @ X + A)[1],
        "42 22p",
        lambda X, A: 2 * X @ inverse(X.T @ X + A),
    ),
    Entry(
        "10.2.2",
        "vec(AXB) by vec(X)",
        lambda x, A, B: (A @ x.reshape(4, 3).T @ B).T.reshape(-1),
        "12v 23 42",
        lambda x, A, B: np.kron(B.T, A),
    ),
    Entry(
        "10.2.2",
        "vec(X)'(B kron A)vec(X)",
        lambda x, A, B: x @ jnp.kron(B, A) @ x,
        "6 33 22",
        lambda x, A, B: (np.kron(B, A) + np.kron(B, A).T) @ x,
    ),
)
