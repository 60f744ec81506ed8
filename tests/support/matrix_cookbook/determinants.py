"""Sections 2.1 to 2.3: derivatives of determinants, inverses and eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np
from support.matrix_cookbook.entry import Entry, det, eye, inverse, single_entries

inv, jdet = jnp.linalg.inv, jnp.linalg.det


def logdet(X):
    return jnp.linalg.slogdet(X)[1]


def moved(t, X, A):
    """A matrix that depends on a number: its first derivative is A + 2 t X."""
    return X + t * A + t**2 * X


def second_determinant_book(t, X, A):
    Y, first, second = moved(t, X, A), A + 2 * t * X, 2 * X
    own, further = inverse(Y) @ first, inverse(Y) @ second
    return det(Y) * (np.trace(further) + np.trace(own) ** 2 - np.trace(own @ own))


def tall_form_book(X, A):
    M = X.T @ A @ X
    return det(M) * (A @ X @ inverse(M) + A.T @ X @ inverse(M.T))


def inverse_book(X):
    return -np.einsum("ki,jl->klij", inverse(X), inverse(X))


def eigenvalues_book(X):
    _, V = np.linalg.eigh(X)
    return np.einsum("in,jn->nij", V, V)


def eigenvector_book(X, n):
    """(lambda I - X)^+ dX v for symmetric dX; what is not symmetric of dX does nothing."""
    values, V = np.linalg.eigh(X)
    own = np.linalg.pinv(values[n] * eye(len(X)) - X)
    by_entries = np.einsum("ik,l->ikl", own, V[:, n])
    return (by_entries + by_entries.transpose(0, 2, 1)) / 2


def projector(X, n):
    """v v' of a symmetric matrix, which has no sign to choose."""
    v = jnp.linalg.eigh(X)[1][:, n]
    return jnp.outer(v, v)


def projector_book(X, n=0):
    v = np.linalg.eigh(X)[1][:, n]
    own = np.einsum("ikl,j->ijkl", eigenvector_book(X, n), v)
    return own + own.transpose(1, 0, 2, 3)


DETERMINANTS = (
    Entry(
        "2.1.1",
        "det Y(t)",
        lambda t, X, A: jdet(moved(t, X, A)),
        "- 33i 33",
        lambda t, X, A: det(moved(t, X, A)) * np.trace(inverse(moved(t, X, A)) @ (A + 2 * t * X)),
    ),
    Entry(
        "2.1.1",
        "second derivative of det Y(t)",
        lambda t, X, A: jax.grad(lambda t: jdet(moved(t, X, A)))(t),
        "- 33i 33",
        second_determinant_book,
    ),
    Entry("2.1.2", "det X", lambda X: jdet(X), "33i", lambda X: det(X) * inverse(X).T),
    Entry("2.1.2", "det X of size 4", lambda X: jdet(X), "44i", lambda X: det(X) * inverse(X).T),
    Entry(
        "2.1.2",
        "det(AXB)",
        lambda X, A, B: jdet(A @ X @ B),
        "33i 33i 33i",
        lambda X, A, B: det(A @ X @ B) * inverse(X.T),
    ),
    Entry(
        "2.1.3",
        "det(X'AX), X square",
        lambda X, A: jdet(X.T @ A @ X),
        "33i 33i",
        lambda X, A: 2 * det(X.T @ A @ X) * inverse(X).T,
    ),
    Entry(
        "2.1.3",
        "det(X'AX), A symmetric",
        lambda X, A: jdet(X.T @ A @ X),
        "42 44p",
        lambda X, A: 2 * det(X.T @ A @ X) * A @ X @ inverse(X.T @ A @ X),
    ),
    Entry("2.1.3", "det(X'AX)", lambda X, A: jdet(X.T @ A @ X), "42 44i", tall_form_book),
    Entry(
        "2.1.4",
        "ln det(X'X)",
        lambda X: logdet(X.T @ X),
        "42",
        lambda X: 2 * np.linalg.pinv(X).T,
    ),
    Entry("2.1.4", "ln |det X|", logdet, "33i", lambda X: inverse(X).T),
    Entry(
        "2.1.4",
        "det(X^3)",
        lambda X: jdet(X @ X @ X),
        "33i",
        lambda X: 3 * det(X) ** 3 * inverse(X).T,
    ),
    Entry(
        "2.1.4",
        "second derivative of ln |det X|",
        lambda X: jax.grad(logdet)(X),
        "33i",
        lambda X: -np.einsum("jk,li->ijkl", inverse(X), inverse(X)),
    ),
)

INVERSES = (
    Entry(
        "2.2",
        "Y(t)^-1",
        lambda t, X, A: inv(moved(t, X, A)),
        "- 33i 33",
        lambda t, X, A: -inverse(moved(t, X, A)) @ (A + 2 * t * X) @ inverse(moved(t, X, A)),
    ),
    Entry("2.2", "X^-1", lambda X: inv(X), "33i", inverse_book),
    Entry(
        "2.2",
        "a'X^-1 b",
        lambda X, a, b: a @ inv(X) @ b,
        "33i 3 3",
        lambda X, a, b: -inverse(X).T @ np.outer(a, b) @ inverse(X).T,
    ),
    Entry(
        "2.2",
        "det(X^-1)",
        lambda X: jdet(inv(X)),
        "33i",
        lambda X: -det(inverse(X)) * inverse(X).T,
    ),
    Entry(
        "2.2",
        "X^-1 b",
        lambda X, b: jnp.linalg.solve(X, b),
        "33i 3",
        lambda X, b: -np.einsum("ki,j->kij", inverse(X), inverse(X) @ b),
    ),
    Entry(
        "2.2",
        "X^-1 b, by b",
        lambda b, X: jnp.linalg.solve(X, b),
        "3 33i",
        lambda b, X: inverse(X),
    ),
)

EIGENVALUES = (
    Entry(
        "2.3",
        "sum of eig(X), X symmetric",
        lambda X: jnp.linalg.eigvalsh(X).sum(),
        "33s",
        lambda X: eye(3),
    ),
    Entry(
        "2.3",
        "product of eig(X), X symmetric",
        lambda X: jnp.prod(jnp.linalg.eigvalsh(X)),
        "33p",
        lambda X: det(X) * inverse(X).T,
    ),
    Entry("2.3", "eig(X), X symmetric", lambda X: jnp.linalg.eigvalsh(X), "33s", eigenvalues_book),
    Entry("2.3", "v v', X symmetric", lambda X: projector(X, 0), "33s", projector_book),
    Entry(
        "2.3",
        "sum of the third powers of eig(X), X symmetric",
        lambda X: jnp.sum(jnp.linalg.eigvalsh(X) ** 3),
        "33s",
        lambda X: 3 * X @ X,
    ),
)


def rules_of_differentials():
    """Section 2's first table: what a differential is, with dX an entry after the other."""

    def adjugate(X):
        return det(X) * inverse(X)

    return (
        Entry("2", "c X", lambda X, c: c * X, "34 -", lambda X, c: c * single_entries(3, 4)),
        Entry("2", "X + Y", lambda X, Y: X + Y, "34 34", lambda X, Y: single_entries(3, 4)),
        Entry(
            "2",
            "X Y, by X",
            lambda X, Y: X @ Y,
            "34 42",
            lambda X, Y: np.einsum("ki,jl->klij", eye(3), Y),
        ),
        Entry(
            "2",
            "X Y, by Y",
            lambda Y, X: X @ Y,
            "42 34",
            lambda Y, X: np.einsum("ki,lj->klij", X, eye(2)),
        ),
        Entry(
            "2",
            "X o Y",
            lambda X, Y: X * Y,
            "34 34",
            lambda X, Y: single_entries(3, 4) * Y[:, :, None, None],
        ),
        Entry(
            "2",
            "X kron Y, by X",
            lambda X, Y: jnp.kron(X, Y),
            "23 22",
            lambda X, Y: np.stack(
                [[np.kron(single_entries(2, 3)[:, :, i, j], Y) for j in range(3)] for i in range(2)]
            ).transpose(2, 3, 0, 1),
        ),
        Entry(
            "2",
            "X kron Y, by Y",
            lambda Y, X: jnp.kron(X, Y),
            "22 23",
            lambda Y, X: np.stack(
                [[np.kron(X, single_entries(2, 2)[:, :, i, j]) for j in range(2)] for i in range(2)]
            ).transpose(2, 3, 0, 1),
        ),
        Entry("2", "det X by the adjugate", lambda X: jdet(X), "33", lambda X: adjugate(X).T),
        Entry("2", "X'", lambda X: X.T, "34", lambda X: np.einsum("kj,li->klij", eye(4), eye(3))),
    )


ENTRIES = rules_of_differentials() + DETERMINANTS + INVERSES + EIGENVALUES
