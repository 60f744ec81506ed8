"""Layers of networks."""

import jax
import jax.numpy as jnp
import numpy as np

import blockjac
from learn.question import Argument, Group, Question
from learn.questions.entries import shares, softmax
from learn.questions.products import affine


@blockjac.step("psi", result="H")
def hidden(Z):
    return jnp.tanh(Z)


@blockjac.step("chi", result="R")
def outputs(H, V):
    return H @ V


@blockjac.step("ell")
def squared_error(R, Y):
    return jnp.sum((R - Y) ** 2) / 2


def two_layers(W, b, V, X, Y):
    return squared_error(outputs(hidden(affine(X, W, b)), V), Y)


@blockjac.step("mu", result="C")
def centered(X):
    return X - jnp.mean(X, axis=0)


@blockjac.step("sigma", result="S")
def standardized(C):
    return C / jnp.sqrt(jnp.mean(C**2, axis=0) + 1e-5)


def batch_norm(X, gain):
    return standardized(centered(X)) * gain


@blockjac.step("mu", result="C")
def centered_rows(X):
    return X - jnp.mean(X, axis=1, keepdims=True)


@blockjac.step("sigma", result="S")
def standardized_rows(C):
    return C / jnp.sqrt(jnp.mean(C**2, axis=1, keepdims=True) + 1e-5)


def layer_norm(X, gain):
    return standardized_rows(centered_rows(X)) * gain


@blockjac.step("s", result="Z")
def compared(Q, K):
    return Q @ K.T / jnp.sqrt(Q.shape[1])


@blockjac.step("mix")
def mixed(P, V):
    return P @ V


def attention(Q, K, V):
    return mixed(softmax(compared(Q, K)), V)


@blockjac.step("windows", result="X")
def windows(x, size):
    count = x.shape[0] - size + 1
    return jnp.stack([x[k : k + count] for k in range(size)])


@blockjac.step("dot")
def weighted(w, X):
    return w @ X


def convolution(w, x):
    return weighted(w, windows(x, w.shape[0]))


@blockjac.step("phi")
def cell(W, U, h, x):
    return jnp.tanh(W @ h + U @ x)


def recurrence(W, U, h, xs):
    for x in xs:
        h = cell(W, U, h, x)
    return h


@blockjac.step("rows", result="E")
def looked_up(table, words):
    return table[words]


def embedding(table, words, v):
    return jax.nn.sigmoid(looked_up(table, words) @ v)


def layers_textbook(W, b, V, X, Y):
    H = np.tanh(X @ W + b)
    error = H @ V - Y
    back = (error @ V.T) * (1 - H**2)
    return X.T @ back, back.sum(axis=0), H.T @ error


def standardized_columns(X):
    """The columns less their means, divided by their deviations, which come second."""
    C = X - X.mean(axis=0)
    deviation = np.sqrt((C**2).mean(axis=0) + 1e-5)
    return C / deviation, deviation


def batch_norm_textbook(X, gain):
    S, deviation = standardized_columns(X)
    count, width = X.shape
    inner = np.eye(count)[:, :, None] - 1 / count - np.einsum("nj,mj->nmj", S, S) / count
    by_inputs = np.einsum("nmj,j,jk->njmk", inner, gain / deviation, np.eye(width))
    return by_inputs, np.einsum("nj,jk->njk", S, np.eye(width))


def layer_norm_textbook(X, gain):
    S, deviation = standardized_columns(X.T)
    S, (count, width) = S.T, X.shape
    inner = np.eye(width) - 1 / width - np.einsum("nj,nk->njk", S, S) / width
    by_inputs = np.einsum("njk,j,n,nm->njmk", inner, gain, 1 / deviation, np.eye(count))
    return by_inputs, np.einsum("nj,jk->njk", S, np.eye(width))


def attention_textbook(Q, K, V):
    root = np.sqrt(Q.shape[1])
    P = shares(Q @ K.T / root)
    inner = np.einsum("nm,nmk->nkm", P, V[None] - (P @ V)[:, None])
    return (
        np.einsum("nkm,mc,nl->nklc", inner, K, np.eye(len(Q))) / root,
        np.einsum("nkm,nc->nkmc", inner, Q) / root,
        np.einsum("nm,kl->nkml", P, np.eye(V.shape[1])),
    )


def convolution_textbook(w, x):
    count = len(x) - len(w) + 1
    by_inputs = np.zeros((count, len(x)))
    for n in range(count):
        by_inputs[n, n : n + len(w)] = w
    return np.array([x[n : n + len(w)] for n in range(count)]), by_inputs


def recurrence_textbook(W, U, h, xs):
    """Forwards through time: what the state was, and how it depends on everything before."""
    size = len(h)
    by_W, by_U = np.zeros((size, *W.shape)), np.zeros((size, *U.shape))
    by_h = np.eye(size)
    for x in xs:
        own_W, own_U = (np.einsum("ij,k->ijk", np.eye(size), own) for own in (h, x))
        h = np.tanh(W @ h + U @ x)
        slope = 1 - h**2
        by_W = slope[:, None, None] * (own_W + np.einsum("ij,jkl->ikl", W, by_W))
        by_U = slope[:, None, None] * (own_U + np.einsum("ij,jkl->ikl", W, by_U))
        by_h = slope[:, None] * (W @ by_h)
    return by_W, by_U, by_h


def embedding_textbook(table, words, v):
    p = 1 / (1 + np.exp(-table[words] @ v))
    chosen = np.eye(len(table))[words]
    return (np.einsum("n,nr,k->nrk", p * (1 - p), chosen, v),)


GROUP = Group(
    "Layers of networks",
    (
        Question(
            "How does backpropagation run through two layers?",
            "From the loss towards the inputs, and each gradient reads what the layer after it has "
            "computed: the error, times V', times the slope of tanh. What is shared is "
            "computed once; the gradients of W and b read the same array.",
            two_layers,
            (
                Argument((3, 4)),
                Argument((4,)),
                Argument((4, 2)),
                Argument((5, 3)),
                Argument((5, 2)),
            ),
            (0, 1, 2),
            layers_textbook,
            (affine, hidden, outputs, squared_error),
        ),
        Question(
            "What is the Jacobian of batch normalization?",
            "Mean and deviation are computed from the batch, so every example depends on every "
            "other one: the delta joins the features and no longer the examples. Besides the "
            "direct term there is one through the mean and one through the deviation. This is the "
            "layer for which gradients per example have no meaning.",
            batch_norm,
            (Argument((4, 3)), Argument((3,))),
            (0, 1),
            batch_norm_textbook,
            (centered, standardized),
        ),
        Question(
            "What is the Jacobian of layer normalization?",
            "That of batch normalization with rows and columns exchanged: features of an example "
            "depend on each other, examples do not, and the delta joins the examples.",
            layer_norm,
            (Argument((3, 4)), Argument((4,))),
            (0, 1),
            layer_norm_textbook,
            (centered_rows, standardized_rows),
        ),
        Question(
            "What are the Jacobians of attention by queries, keys and values?",
            "By the values it is linear: the shares, and a delta over the features. By queries and "
            "keys the way leads through softmax. A query changes its own row only, a key changes "
            "every row.",
            attention,
            (Argument((3, 2)), Argument((4, 2)), Argument((4, 3))),
            (0, 1, 2),
            attention_textbook,
            (compared, softmax, mixed),
        ),
        Question(
            "What is the derivative of a convolution?",
            "By the input it is a banded matrix with the kernel in each row, by the kernel it is "
            "the input in shifted windows. Backwards, both are convolutions again.",
            convolution,
            (Argument((3,)), Argument((7,))),
            (0, 1),
            convolution_textbook,
            (windows, weighted),
        ),
        Question(
            "What is the gradient of a recurrent network through time?",
            "The same weights are used at each step, so their derivative is a sum over the steps, "
            "and each summand goes through all the later steps: products of W and slopes, which is "
            "why it vanishes or explodes.",
            recurrence,
            (Argument((2, 2)), Argument((2, 3)), Argument((2,)), Argument((3, 3))),
            (0, 1, 2),
            recurrence_textbook,
            (cell,),
        ),
        Question(
            "What is the gradient of an embedding?",
            "Looking up a row is a product with a matrix of zeros and ones that nobody forms. The "
            "derivative is zero for all rows but the one looked up, and a word that occurs "
            "twice gets two contributions.",
            embedding,
            (Argument((5, 2)), Argument((4,), "positions", 5), Argument((2,))),
            (0,),
            embedding_textbook,
            (looked_up,),
        ),
    ),
)
