"""Section 2.5: derivatives of traces; and 2.6, 2.7: norms."""

import jax
import jax.numpy as jnp
import numpy as np
from support.matrix_cookbook.entry import Entry, eye, inverse, power

tr = jnp.trace
inv = jnp.linalg.inv


def powers(X, count):
    """A power by products, as one writes it."""
    return X if count == 1 else powers(X, count - 1) @ X


def fourth_order(X, B, C):
    return tr(B.T @ X.T @ C @ X @ X.T @ C @ X @ B)


def fourth_order_book(X, B, C):
    BB = B @ B.T
    return (
        C @ X @ X.T @ C @ X @ BB
        + C.T @ X @ BB @ X.T @ C.T @ X
        + C @ X @ BB @ X.T @ C @ X
        + C.T @ X @ X.T @ C.T @ X @ BB
    )


def ratio_book(X, B, C):
    Y = inverse(X.T @ C @ X)
    return -2 * C @ X @ Y @ X.T @ B @ X @ Y + 2 * B @ X @ Y


def shifted_ratio_book(X, A, B, C):
    Y = inverse(A + X.T @ C @ X)
    return -2 * C @ X @ Y @ X.T @ B @ X @ Y + 2 * B @ X @ Y


def inverse_square_book(X, A, C):
    Y = inverse(X.T @ C @ X)
    return -(C @ X @ Y) @ (A + A.T) @ Y


FIRST = (
    Entry("2.5.1", "Tr(X)", lambda X: tr(X), "33", lambda X: eye(3)),
    Entry("2.5.1", "Tr(XA)", lambda X, A: tr(X @ A), "34 43", lambda X, A: A.T),
    Entry("2.5.1", "Tr(AXB)", lambda X, A, B: tr(A @ X @ B), "34 23 42", lambda X, A, B: A.T @ B.T),
    Entry("2.5.1", "Tr(AX'B)", lambda X, A, B: tr(A @ X.T @ B), "34 24 32", lambda X, A, B: B @ A),
    Entry("2.5.1", "Tr(X'A)", lambda X, A: tr(X.T @ A), "34 34", lambda X, A: A),
    Entry("2.5.1", "Tr(AX')", lambda X, A: tr(A @ X.T), "34 34", lambda X, A: A),
    Entry(
        "2.5.1",
        "Tr(A kron X)",
        lambda X, A: tr(jnp.kron(A, X)),
        "33 22",
        lambda X, A: np.trace(A) * eye(3),
    ),
)

SECOND = (
    Entry("2.5.2", "Tr(XX)", lambda X: tr(X @ X), "33", lambda X: 2 * X.T),
    Entry("2.5.2", "Tr(XXB)", lambda X, B: tr(X @ X @ B), "33 33", lambda X, B: (X @ B + B @ X).T),
    Entry("2.5.2", "Tr(X'BX)", lambda X, B: tr(X.T @ B @ X), "34 33", lambda X, B: (B + B.T) @ X),
    Entry("2.5.2", "Tr(BXX')", lambda X, B: tr(B @ X @ X.T), "34 33", lambda X, B: (B + B.T) @ X),
    Entry("2.5.2", "Tr(XX'B)", lambda X, B: tr(X @ X.T @ B), "34 33", lambda X, B: (B + B.T) @ X),
    Entry("2.5.2", "Tr(XBX')", lambda X, B: tr(X @ B @ X.T), "34 44", lambda X, B: X @ (B + B.T)),
    Entry("2.5.2", "Tr(BX'X)", lambda X, B: tr(B @ X.T @ X), "34 44", lambda X, B: X @ (B + B.T)),
    Entry("2.5.2", "Tr(X'XB)", lambda X, B: tr(X.T @ X @ B), "34 44", lambda X, B: X @ (B + B.T)),
    Entry(
        "2.5.2",
        "Tr(AXBX)",
        lambda X, A, B: tr(A @ X @ B @ X),
        "34 43 43",
        lambda X, A, B: A.T @ X.T @ B.T + B.T @ X.T @ A.T,
    ),
    Entry("2.5.2", "Tr(X'X)", lambda X: tr(X.T @ X), "34", lambda X: 2 * X),
    Entry("2.5.2", "Tr(XX')", lambda X: tr(X @ X.T), "34", lambda X: 2 * X),
    Entry(
        "2.5.2",
        "Tr(B'X'CXB)",
        lambda X, B, C: tr(B.T @ X.T @ C @ X @ B),
        "34 42 33",
        lambda X, B, C: (C + C.T) @ X @ B @ B.T,
    ),
    Entry(
        "2.5.2",
        "Tr(X'BXC)",
        lambda X, B, C: tr(X.T @ B @ X @ C),
        "34 33 44",
        lambda X, B, C: B @ X @ C + B.T @ X @ C.T,
    ),
    Entry(
        "2.5.2",
        "Tr(AXBX'C)",
        lambda X, A, B, C: tr(A @ X @ B @ X.T @ C),
        "34 23 44 32",
        lambda X, A, B, C: A.T @ C.T @ X @ B.T + C @ A @ X @ B,
    ),
    Entry(
        "2.5.2",
        "Tr((AXB+C)(AXB+C)')",
        lambda X, A, B, C: tr((A @ X @ B + C) @ (A @ X @ B + C).T),
        "34 23 42 22",
        lambda X, A, B, C: 2 * A.T @ (A @ X @ B + C) @ B.T,
    ),
    Entry(
        "2.5.2",
        "Tr(X kron X)",
        lambda X: tr(jnp.kron(X, X)),
        "33",
        lambda X: 2 * np.trace(X) * eye(3),
    ),
)

HIGHER = (
    Entry("2.5.3", "Tr(X^4)", lambda X: tr(powers(X, 4)), "33", lambda X: 4 * power(X, 3).T),
    Entry(
        "2.5.3",
        "Tr(AX^3)",
        lambda X, A: tr(A @ powers(X, 3)),
        "33 33",
        lambda X, A: sum((power(X, r) @ A @ power(X, 2 - r)).T for r in range(3)),
    ),
    Entry("2.5.3", "Tr(B'X'CXX'CXB)", fourth_order, "34 42 33", fourth_order_book),
)

OTHER = (
    Entry(
        "2.5.4",
        "Tr(A X^-1 B)",
        lambda X, A, B: tr(A @ inv(X) @ B),
        "33i 23 32",
        lambda X, A, B: -(inverse(X) @ B @ A @ inverse(X)).T,
    ),
    Entry(
        "2.5.4",
        "Tr((X'CX)^-1 A), C symmetric",
        lambda X, A, C: tr(inv(X.T @ C @ X) @ A),
        "42 22 44p",
        inverse_square_book,
    ),
    Entry(
        "2.5.4",
        "Tr((X'CX)^-1 (X'BX)), B and C symmetric",
        lambda X, B, C: tr(inv(X.T @ C @ X) @ (X.T @ B @ X)),
        "42 44s 44p",
        ratio_book,
    ),
    Entry(
        "2.5.4",
        "Tr((A+X'CX)^-1 (X'BX)), A, B and C symmetric",
        lambda X, A, B, C: tr(inv(A + X.T @ C @ X) @ (X.T @ B @ X)),
        "42 22p 44s 44p",
        shifted_ratio_book,
    ),
    Entry(
        "2.5.4",
        "Tr((X+A)^-1)",
        lambda X, A: tr(inv(X + A)),
        "33i 33",
        lambda X, A: -power(inverse(X + A), 2).T,
    ),
)


def distance(x, a):
    return jnp.sqrt(jnp.sum((x - a) ** 2))


def direction_book(x, a):
    length = np.linalg.norm(x - a)
    return eye(len(x)) / length - np.outer(x - a, x - a) / length**3


NORMS = (
    Entry("2.6", "|x-a|", distance, "4 4", lambda x, a: (x - a) / np.linalg.norm(x - a)),
    Entry("2.6", "(x-a)/|x-a|", lambda x, a: (x - a) / distance(x, a), "4 4", direction_book),
    Entry("2.6", "|x|^2", lambda x: jnp.sum(x**2), "4", lambda x: 2 * x),
    Entry(
        "2.6",
        "second derivative of |x-a|",
        lambda x, a: jax.grad(distance)(x, a),
        "4 4",
        direction_book,
    ),
    Entry("2.7", "|X|_F^2", lambda X: jnp.sum(X**2), "34", lambda X: 2 * X),
    Entry("2.7", "|X|_F", lambda X: jnp.linalg.norm(X), "34", lambda X: X / np.linalg.norm(X)),
)

ENTRIES = FIRST + SECOND + HIGHER + OTHER + NORMS
