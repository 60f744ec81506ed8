"""Traces, norms, determinants, inverses."""

import jax.numpy as jnp
import numpy as np

from learn.question import Argument, Group, Question


def trace_of_a_product(A, B):
    return jnp.trace(A @ B)


def frobenius_norm(A):
    return jnp.sqrt(jnp.sum(A**2))


def log_determinant(A):
    return jnp.linalg.slogdet(A)[1]


def inverse(A):
    return jnp.linalg.inv(A)


def linear_system(A, b):
    return jnp.linalg.solve(A, b)


def inverse_textbook(A):
    Y = np.linalg.inv(A)
    return (-np.einsum("ik,lj->ijkl", Y, Y),)


def system_textbook(A, b):
    Y = np.linalg.inv(A)
    return -np.einsum("ik,l->ikl", Y, Y @ b), Y


GROUP = Group(
    "Traces, determinants and inverses",
    (
        Question(
            "What is the derivative of trace(A B)?",
            "By A it is B', by B it is A'. The transpose comes from the indices: the trace sums "
            "A[i, k] B[k, i], and the derivative by A[i, k] is what stands beside it, B[k, i].",
            trace_of_a_product,
            (Argument((2, 3)), Argument((3, 2))),
            (0, 1),
            lambda A, B: (B.T, A.T),
        ),
        Question(
            "What is the derivative of the Frobenius norm?",
            "A divided by its norm: a matrix of norm 1 that points where A does. At A = 0 there is "
            "no derivative, and a program divides zero by zero there; the squared norm has the "
            "derivative 2 A everywhere.",
            frobenius_norm,
            (Argument((3, 4)),),
            (0,),
            lambda A: (A / np.linalg.norm(A),),
        ),
        Question(
            "Why is the derivative of log det A the inverse transposed?",
            "By Laplace's expansion, the derivative of the determinant by A[i, j] is the cofactor "
            "of that entry; divided by the determinant, cofactors are the inverse, transposed. "
            "The logarithm takes away the factor det A.",
            log_determinant,
            (Argument((3, 3), "invertible"),),
            (0,),
            lambda A: (np.linalg.inv(A).T,),
        ),
        Question(
            "What is the derivative of an inverse?",
            "From A Y = I follows dA Y + A dY = 0, so dY = -Y dA Y: the inverse enters on both "
            "sides. With indices, entry (i, j) of the inverse has the derivative -Y[i, k] Y[l, j] "
            "by A[k, l].",
            inverse,
            (Argument((3, 3), "invertible"),),
            (0,),
            inverse_textbook,
        ),
        Question(
            "How do I differentiate the solution of a linear system?",
            "By b the derivative of x = solve(A, b) is the inverse, by A it is minus the inverse "
            "times x. Neither needs an inverse in a program: a gradient goes backwards through "
            "one more system, with A transposed.",
            linear_system,
            (Argument((3, 3), "invertible"), Argument((3,))),
            (0, 1),
            system_textbook,
        ),
    ),
)
