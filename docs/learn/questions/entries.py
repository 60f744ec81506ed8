"""Functions of entries, of rows, and of pairs of rows."""

import jax.numpy as jnp
import numpy as np

import blockjac
from learn.question import Argument, Group, Question


def activation(X):
    return jnp.tanh(X)


@blockjac.step("softmax", result="P")
def softmax(Z):
    weights = jnp.exp(Z)
    return weights / jnp.sum(weights, axis=1, keepdims=True)


def softmax_by_logits(Z):
    return softmax(Z)


def log_sum_exp(Z):
    return jnp.log(jnp.sum(jnp.exp(Z), axis=1))


def largest_of_each_row(X):
    return jnp.max(X, axis=1)


@blockjac.step("norm", result="length")
def norm(x):
    return jnp.sqrt(jnp.sum(x**2))


@blockjac.step("scale")
def divided(x, length):
    return x / length


def unit_vector(x):
    return divided(x, norm(x))


def cosine_similarity(x, y):
    return x @ y / (norm(x) * norm(y))


def squared_distances(X, Y):
    return jnp.sum((X[:, None, :] - Y[None, :, :]) ** 2, axis=2)


def shares(Z):
    weights = np.exp(Z - Z.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def softmax_textbook(Z):
    P = shares(Z)
    own = np.einsum("nj,jk->njk", P, np.eye(Z.shape[1])) - np.einsum("nj,nk->njk", P, P)
    return (np.einsum("nm,njk->njmk", np.eye(Z.shape[0]), own),)


def unit_textbook(x):
    length = np.linalg.norm(x)
    return ((np.eye(x.size) - np.outer(x, x) / length**2) / length,)


def cosine_textbook(x, y):
    a, b = np.linalg.norm(x), np.linalg.norm(y)
    cosine = x @ y / (a * b)
    return (y / b - cosine * x / a) / a, (x / a - cosine * y / b) / b


def distances_textbook(X, Y):
    difference = 2 * (X[:, None, :] - Y[None, :, :])
    return (
        np.einsum("im,ijk->ijmk", np.eye(len(X)), difference),
        -np.einsum("jm,ijk->ijmk", np.eye(len(Y)), difference),
    )


def largest_textbook(X):
    chosen = (np.max(X, axis=1, keepdims=True) == X).astype(float)
    return (np.einsum("im,ij->imj", np.eye(len(X)), chosen),)


GROUP = Group(
    "Entries, rows and pairs",
    (
        Question(
            "Why has the Jacobian of tanh(X) four indices, and why do I only ever see two?",
            "Each entry of the result reads one entry of X, so two deltas make all but the "
            "diagonal zero. What programs keep is the diagonal, an array of the shape of X: "
            "multiplying by the Jacobian is multiplying entry by entry.",
            activation,
            (Argument((3, 4)),),
            (0,),
            lambda X: (np.einsum("ik,jl,ij->ijkl", np.eye(3), np.eye(4), 1 / np.cosh(X) ** 2),),
        ),
        Question(
            "What is the Jacobian of softmax by its logits?",
            "In a row, every probability depends on every logit: a diagonal of probabilities minus "
            "their outer product. Different rows have nothing to do with each other, which is the "
            "delta in front. A frequent mistake is to keep the diagonal p (1 - p) alone.",
            softmax_by_logits,
            (Argument((3, 4)),),
            (0,),
            softmax_textbook,
            (softmax,),
        ),
        Question(
            "What is the derivative of log-sum-exp?",
            "It is softmax: the smooth maximum has the smooth choice as its derivative. That makes "
            "softmax the gradient of a convex function, and its own Jacobian symmetric.",
            log_sum_exp,
            (Argument((3, 4)),),
            (0,),
            lambda Z: (np.einsum("nm,nk->nmk", np.eye(len(Z)), shares(Z)),),
        ),
        Question(
            "What is the derivative of a maximum?",
            "1 at the entry that is the largest and 0 elsewhere, as long as there is one largest. "
            "Where several are equal there is no derivative; JAX, and so this library, shares the "
            "1 among them evenly, which is what the count in the formula is for.",
            largest_of_each_row,
            (Argument((3, 4)),),
            (0,),
            largest_textbook,
        ),
        Question(
            "What is the Jacobian of x / |x|?",
            "The projection onto the plane at right angles to x, divided by the length: to move "
            "along x changes nothing. Forgetting that the length depends on x as well leaves out "
            "the second term.",
            unit_vector,
            (Argument((4,)),),
            (0,),
            unit_textbook,
            (norm, divided),
        ),
        Question(
            "What is the gradient of the cosine similarity?",
            "The other unit vector, less its part along x, divided by the length of x. It is at "
            "right angles to x, because the length of x does not change the angle.",
            cosine_similarity,
            (Argument((4,)), Argument((4,))),
            (0, 1),
            cosine_textbook,
            (norm,),
        ),
        Question(
            "What is the derivative of all pairwise squared distances?",
            "The distance of row i of X from row j of Y reads these two rows alone. A delta picks "
            "the row, and what is left is twice the difference, with a minus sign by Y.",
            squared_distances,
            (Argument((3, 2)), Argument((4, 2))),
            (0, 1),
            distances_textbook,
        ),
    ),
)
