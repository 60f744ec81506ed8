"""Products of matrices and vectors."""

import jax.numpy as jnp
import numpy as np

import blockjac
from learn.question import Argument, Group, Question


def layer_by_weights(X, W):
    return X @ W


def layer_by_inputs(X, W):
    return X @ W


@blockjac.step("phi", result="Z")
def affine(X, W, b):
    return X @ W + b


@blockjac.step("ell")
def half_squares(Z):
    return jnp.sum(Z**2) / 2


def bias_of_a_batch(X, W, b):
    return half_squares(affine(X, W, b))


def quadratic_form(x, A):
    return x @ A @ x


@blockjac.step("phi", result="r")
def residuals(X, w, y):
    return X @ w - y


@blockjac.step("ell")
def sum_of_squares(r):
    return jnp.sum(r**2)


def least_squares(w, X, y):
    return sum_of_squares(residuals(X, w, y))


def outer_product(x, y):
    return jnp.einsum("i,j->ij", x, y)


def gram_matrix(A):
    return A.T @ A


def quadratic_textbook(x, A):
    return (A + A.T) @ x, np.outer(x, x)


def gram_textbook(A):
    left = np.einsum("jk,il->ijkl", np.eye(A.shape[1]), A.T)
    return (np.einsum("ik,lj->ijlk", np.eye(A.shape[1]), A) + left.transpose(0, 1, 3, 2),)


GROUP = Group(
    "Products",
    (
        Question(
            "What is the derivative of X W by W?",
            "It has four indices, two of the product and two of the weights, and most of its "
            "entries are zero: column j' of W changes column j of the product only if j = j'. That "
            "is the Kronecker delta. Written as a matrix it would be the Kronecker product of X "
            "and an identity, and nobody stores that: to multiply a gradient by it is to "
            "multiply by the transpose of X.",
            layer_by_weights,
            (Argument((4, 3)), Argument((3, 2))),
            (1,),
            lambda X, W: (np.einsum("nk,jl->njkl", X, np.eye(W.shape[1])),),
        ),
        Question(
            "What is the derivative of X W by X?",
            "Row n of the product reads row n of X alone, so the delta joins the examples, and "
            "the weights are what is left. A gradient that arrives at X W goes on to X by a "
            "product with the transpose of W.",
            layer_by_inputs,
            (Argument((4, 3)), Argument((3, 2))),
            (0,),
            lambda X, W: (np.einsum("nm,kj->njmk", np.eye(X.shape[0]), W),),
        ),
        Question(
            "Why is the gradient of a bias a sum over the batch?",
            "The same bias is added to every row. In the product W X + b of one example the "
            "derivative by b is an identity, and one forgets that a batch repeats it: each row of "
            "the batch contributes, and the contributions add up.",
            bias_of_a_batch,
            (Argument((5, 3)), Argument((3, 2)), Argument((2,))),
            (2,),
            lambda X, W, b: (np.sum(X @ W + b, axis=0),),
            (affine, half_squares),
        ),
        Question(
            "What is the derivative of x' A x, by x and by A?",
            "The vector occurs twice, so there are two terms: A x and A' x. Only for a symmetric A "
            "are they equal, and only then is the gradient 2 A x. By the matrix, the derivative is "
            "the outer product of x with itself.",
            quadratic_form,
            (Argument((3,)), Argument((3, 3))),
            (0, 1),
            quadratic_textbook,
        ),
        Question(
            "What is the gradient of least squares?",
            "The residuals first, then X' times them: 2 X' (X w - y). Set to zero these are the "
            "normal equations. Where a transpose goes is answered by the indices: the sum runs "
            "over the examples, so it takes the first axis of X.",
            least_squares,
            (Argument((3,)), Argument((6, 3)), Argument((6,))),
            (0,),
            lambda w, X, y: (2 * X.T @ (X @ w - y),),
            (residuals, sum_of_squares),
        ),
        Question(
            "What is the derivative of an outer product?",
            "Entry (i, j) of x y' reads one entry of x and one of y. By x the derivative is a "
            "delta in the first index times y, by y a delta in the second times x.",
            outer_product,
            (Argument((3,)), Argument((4,))),
            (0, 1),
            lambda x, y: (
                np.einsum("ik,j->ijk", np.eye(x.size), y),
                np.einsum("i,jk->ijk", x, np.eye(y.size)),
            ),
        ),
        Question(
            "What is the derivative of A' A?",
            "A occurs twice, once transposed, and the product rule gives a term for each. The two "
            "terms are transposes of each other in the first two indices, because the product is "
            "symmetric.",
            gram_matrix,
            (Argument((4, 3)),),
            (0,),
            gram_textbook,
        ),
    ),
)
