"""Section 2.4: derivatives of vectors, matrices and scalar forms; and 8.1: of Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
from support.matrix_cookbook.entry import Entry, det, eye, inverse, power, single_entries

inv = jnp.linalg.inv


def powers(X, count):
    """A power by products, as one writes it."""
    return X if count == 1 else powers(X, count - 1) @ X


def form_book(X, B):
    """X'BJ^ij + J^ji BX, an entry after the other."""
    J = single_entries(*X.shape)
    return np.einsum("am,mbij->abij", X.T @ B, J) + np.einsum("maij,mb->abij", J, B @ X)


def power_book(X, count):
    J = single_entries(*X.shape)
    return sum(
        np.einsum("ka,abij,bl->klij", power(X, r), J, power(X, count - 1 - r)) for r in range(count)
    )


def squared_power(X, a, b):
    return a @ powers(X, 2).T @ powers(X, 2) @ b


def squared_power_book(X, a, b):
    """Both factors, each as the derivative of u' X^2 v with the other held: u = X^2 a or X^2 b."""
    Y = X @ X
    return sum(
        power(X, r).T @ (np.outer(Y @ b, a) + np.outer(Y @ a, b)) @ power(X, 1 - r).T
        for r in range(2)
    )


def rayleigh(x, A, B):
    return (A @ x) @ (A @ x) / ((B @ x) @ (B @ x))


def rayleigh_book(x, A, B):
    below = x @ B.T @ B @ x
    return 2 * A.T @ A @ x / below - 2 * (x @ A.T @ A @ x) * B.T @ B @ x / below**2


def weighted(x, s, A, W):
    return (x - A @ s) @ W @ (x - A @ s)


def quadratic(x, A, b):
    return x @ A @ x + b @ x


def form_of_functions(x, A, B):
    """s'A r of two functions of x: sines and a linear one."""
    return jnp.sin(x) @ A @ (B @ x)


def form_of_functions_book(x, A, B):
    return np.diag(np.cos(x)).T @ A @ (B @ x) + B.T @ A.T @ np.sin(x)


def density(x, m, S):
    d = x - m
    return jnp.exp(-d @ jnp.linalg.solve(S, d) / 2) / jnp.sqrt(jnp.linalg.det(2 * jnp.pi * S))


def log_density(x, m, S):
    d = x - m
    return -d @ inv(S) @ d / 2 - jnp.linalg.slogdet(2 * jnp.pi * S)[1] / 2


def density_value(x, m, S):
    d = x - m
    return np.exp(-d @ inverse(S) @ d / 2) / np.sqrt(det(2 * np.pi * S))


def density_hessian_book(x, m, S):
    u = inverse(S) @ (x - m)
    return density_value(x, m, S) * (np.outer(u, u) - inverse(S))


def by_covariance_book(S, x, m):
    u = inverse(S) @ (x - m)
    return (np.outer(u, u) - inverse(S)) / 2


FIRST = (
    Entry("2.4.1", "x'a", lambda x, a: x @ a, "4 4", lambda x, a: a),
    Entry("2.4.1", "a'x", lambda x, a: a @ x, "4 4", lambda x, a: a),
    Entry("2.4.1", "a'Xb", lambda X, a, b: a @ X @ b, "34 3 4", lambda X, a, b: np.outer(a, b)),
    Entry("2.4.1", "a'X'b", lambda X, a, b: a @ X.T @ b, "34 4 3", lambda X, a, b: np.outer(b, a)),
    Entry("2.4.1", "a'Xa", lambda X, a: a @ X @ a, "33 3", lambda X, a: np.outer(a, a)),
    Entry("2.4.1", "a'X'a", lambda X, a: a @ X.T @ a, "33 3", lambda X, a: np.outer(a, a)),
    Entry("2.4.1", "X by its entries", lambda X: X, "34", lambda X: single_entries(3, 4)),
    Entry(
        "2.4.1",
        "XA by entries of X",
        lambda X, A: X @ A,
        "34 42",
        lambda X, A: np.einsum("im,nj->ijmn", eye(3), A),
    ),
    Entry(
        "2.4.1",
        "X'A by entries of X",
        lambda X, A: X.T @ A,
        "34 32",
        lambda X, A: np.einsum("in,mj->ijmn", eye(4), A),
    ),
)

SECOND = (
    Entry(
        "2.4.2",
        "sum of X[k,l] X[m,n]",
        lambda X: jnp.einsum("kl,mn->", X, X),
        "34",
        lambda X: 2 * np.sum(X) * np.ones((3, 4)),
    ),
    Entry(
        "2.4.2",
        "b'X'Xc",
        lambda X, b, c: b @ X.T @ X @ c,
        "34 4 4",
        lambda X, b, c: X @ (np.outer(b, c) + np.outer(c, b)),
    ),
    Entry(
        "2.4.2",
        "(Bx+b)'C(Dx+d)",
        lambda x, B, b, C, D, d: (B @ x + b) @ C @ (D @ x + d),
        "3 43 4 42 23 2",
        lambda x, B, b, C, D, d: B.T @ C @ (D @ x + d) + D.T @ C.T @ (B @ x + b),
    ),
    Entry("2.4.2", "X'BX by entries of X", lambda X, B: X.T @ B @ X, "32 33", form_book),
    Entry("2.4.2", "x'Bx", lambda x, B: x @ B @ x, "4 44", lambda x, B: (B + B.T) @ x),
    Entry(
        "2.4.2",
        "b'X'DXc",
        lambda X, b, D, c: b @ X.T @ D @ X @ c,
        "34 4 33 4",
        lambda X, b, D, c: D.T @ X @ np.outer(b, c) + D @ X @ np.outer(c, b),
    ),
    Entry(
        "2.4.2",
        "(Xb+c)'D(Xb+c)",
        lambda X, b, c, D: (X @ b + c) @ D @ (X @ b + c),
        "34 4 3 33",
        lambda X, b, c, D: np.outer((D + D.T) @ (X @ b + c), b),
    ),
    Entry(
        "2.4.2",
        "(x-As)'W(x-As) by s, W symmetric",
        lambda s, x, A, W: weighted(x, s, A, W),
        "2 3 32 33s",
        lambda s, x, A, W: -2 * A.T @ W @ (x - A @ s),
    ),
    Entry(
        "2.4.2",
        "(x-s)'W(x-s) by x, W symmetric",
        lambda x, s, W: (x - s) @ W @ (x - s),
        "3 3 33s",
        lambda x, s, W: 2 * W @ (x - s),
    ),
    Entry(
        "2.4.2",
        "(x-s)'W(x-s) by s, W symmetric",
        lambda s, x, W: (x - s) @ W @ (x - s),
        "3 3 33s",
        lambda s, x, W: -2 * W @ (x - s),
    ),
    Entry(
        "2.4.2",
        "(x-As)'W(x-As) by x, W symmetric",
        weighted,
        "3 2 32 33s",
        lambda x, s, A, W: 2 * W @ (x - A @ s),
    ),
    Entry(
        "2.4.2",
        "(x-As)'W(x-As) by A, W symmetric",
        lambda A, x, s, W: weighted(x, s, A, W),
        "32 3 2 33s",
        lambda A, x, s, W: -2 * np.outer(W @ (x - A @ s), s),
    ),
)

HIGHER = (
    Entry("2.4.3", "X^3 by entries of X", lambda X: powers(X, 3), "33", lambda X: power_book(X, 3)),
    Entry(
        "2.4.3",
        "a'X^3 b",
        lambda X, a, b: a @ powers(X, 3) @ b,
        "33 3 3",
        lambda X, a, b: sum(power(X, r).T @ np.outer(a, b) @ power(X, 2 - r).T for r in range(3)),
    ),
    Entry("2.4.3", "a'(X^2)'X^2 b", squared_power, "33 3 3", squared_power_book),
    Entry("2.4.3", "s'Ar of functions of x", form_of_functions, "3 32 23", form_of_functions_book),
    Entry("2.4.3", "(Ax)'(Ax) / (Bx)'(Bx)", rayleigh, "3 43 43", rayleigh_book),
    Entry("2.4.4", "x'Ax + b'x", quadratic, "3 33 3", lambda x, A, b: (A + A.T) @ x + b),
    Entry(
        "2.4.4",
        "second derivative of x'Ax + b'x",
        lambda x, A, b: jax.grad(quadratic)(x, A, b),
        "3 33 3",
        lambda x, A, b: A + A.T,
    ),
)

GAUSSIANS = (
    Entry(
        "8.1.1",
        "the density by x",
        density,
        "3 3 33p",
        lambda x, m, S: -density_value(x, m, S) * inverse(S) @ (x - m),
    ),
    Entry(
        "8.1.1",
        "second derivative of the density by x",
        lambda x, m, S: jax.grad(density)(x, m, S),
        "3 3 33p",
        density_hessian_book,
    ),
    Entry(
        "8.1.1",
        "the logarithm of the density by m",
        lambda m, x, S: log_density(x, m, S),
        "3 3 33p",
        lambda m, x, S: inverse(S) @ (x - m),
    ),
    Entry(
        "8.1.1",
        "the logarithm of the density by S",
        lambda S, x, m: log_density(x, m, S),
        "33p 3 3",
        by_covariance_book,
    ),
)

ENTRIES = FIRST + SECOND + HIGHER + GAUSSIANS
