"""The closed-form Jacobians of the catalogue, each a `Block` that stores what its formula names.

Output axes come first. A primed letter is an index of the variable, `δ` the Kronecker delta:

    D_X (X W + b)      [n, h, n', k'] = δ[n, n'] W[k', h]
    D_W (X W + b)      [n, h, k', h'] = δ[h, h'] X[n, k']
    D_b (X W + b)      [n, h, h']     = δ[h, h']
    D_Z logistic(Z)    [n, h, n', h'] = δ[n, n'] δ[h, h'] s(z) s(-z),  s the logistic function
    D_Z softmax(Z)     [n, k, n', k'] = δ[n, n'] (δ[k, k'] Q[n, k] - Q[n, k] Q[n, k'])
    D_Q cross_entropy  [n', k']       = -Y[n', k'] / (N Q[n', k'])
"""

import jax.numpy as jnp
from jax.typing import ArrayLike

from blockjac.blocks import Block, Factor, Index, Label, Term, star
from blockjac.nn.functions import affine, check_affine_shapes, check_rows, logistic, softmax
from blockjac.nn.network import NetworkParams


def affine_X(X: ArrayLike, W: ArrayLike, b: ArrayLike) -> Block:
    """The Jacobian of `affine` with respect to the examples: the weights, and a delta over rows.

    Args:
        X: Examples in rows, shape `(n, k)`.
        W: Weights, shape `(k, h)`.
        b: Bias, shape `(h,)` or `(1, h)`.

    Returns:
        Block of shape `(n, h)` + `(n, k)` that stores `k h` numbers.

    Raises:
        ShapeMismatchError: If the shapes do not fit.

    Examples:
        >>> affine_X(jnp.ones((5, 3)), jnp.ones((3, 2)), jnp.ones(2)).stored
        6
    """
    X, W, b = jnp.asarray(X), jnp.asarray(W), jnp.asarray(b)
    check_affine_shapes(X, W, b)
    (n, k), h = map(Label, X.shape), Label(W.shape[1])
    term = Term((Factor(W, (k, h), "W"),), (Index.of(n), Index.of(h)), (Index.of(n), Index.of(k)))
    return Block((n.size, h.size), X.shape, jnp.result_type(X, W, b), [term])


def affine_W(X: ArrayLike, W: ArrayLike, b: ArrayLike) -> Block:
    """The Jacobian of `affine` with respect to the weights: the examples, and a delta over columns.

    Args:
        X: Examples in rows, shape `(n, k)`.
        W: Weights, shape `(k, h)`.
        b: Bias, shape `(h,)` or `(1, h)`.

    Returns:
        Block of shape `(n, h)` + `(k, h)` that stores `n k` numbers.

    Raises:
        ShapeMismatchError: If the shapes do not fit.

    Examples:
        >>> affine_W(jnp.ones((5, 3)), jnp.ones((3, 2)), jnp.ones(2)).stored
        15
    """
    X, W, b = jnp.asarray(X), jnp.asarray(W), jnp.asarray(b)
    check_affine_shapes(X, W, b)
    (n, k), h = map(Label, X.shape), Label(W.shape[1])
    term = Term((Factor(X, (n, k), "X"),), (Index.of(n), Index.of(h)), (Index.of(k), Index.of(h)))
    return Block((n.size, h.size), W.shape, jnp.result_type(X, W, b), [term])


def affine_b(X: ArrayLike, W: ArrayLike, b: ArrayLike) -> Block:
    """The Jacobian of `affine` with respect to the bias: a delta over columns, and nothing stored.

    Args:
        X: Examples in rows, shape `(n, k)`.
        W: Weights, shape `(k, h)`.
        b: Bias, shape `(h,)` or `(1, h)`.

    Returns:
        Block of shape `(n, h)` + `b.shape` that stores nothing.

    Raises:
        ShapeMismatchError: If the shapes do not fit.

    Examples:
        >>> affine_b(jnp.ones((5, 3)), jnp.ones((3, 2)), jnp.ones((1, 2))).shape
        (5, 2, 1, 2)
    """
    X, W, b = jnp.asarray(X), jnp.asarray(W), jnp.asarray(b)
    check_affine_shapes(X, W, b)
    n, h = Label(X.shape[0]), Label(W.shape[1])
    row = (Index(),) * (b.ndim - 1)
    term = Term((), (Index.of(n), Index.of(h)), (*row, Index.of(h)))
    return Block((n.size, h.size), b.shape, jnp.result_type(X, W, b), [term])


def logistic_Z(Z: ArrayLike) -> Block:
    """The Jacobian of `logistic`: its derivative at each entry, on the diagonal.

    The derivative is the product of the logistic functions of `z` and of `-z`, which keeps all
    digits where `1 - logistic(z)` would lose them.

    Args:
        Z: Real array of any shape.

    Returns:
        Block of shape `Z.shape` + `Z.shape` that stores one number for each entry.

    Examples:
        >>> print(logistic_Z(jnp.zeros(2)).dense())
        [[0.25 0.  ]
         [0.   0.25]]
    """
    Z = jnp.asarray(Z, jnp.result_type(Z, float))
    return Block.diag(logistic(Z) * logistic(-Z), "S")


def softmax_Z(Z: ArrayLike) -> Block:
    """The Jacobian of `softmax`: for each row a diagonal less an outer product.

    Args:
        Z: Real array whose last axis holds one row's scores, of length at least 1.

    Returns:
        Block of shape `Z.shape` + `Z.shape` that stores the probabilities, once for both terms.

    Raises:
        ShapeMismatchError: If `Z` has no last axis, or an empty one.

    Examples:
        >>> print(softmax_Z(jnp.zeros(2)).dense())
        [[ 0.25 -0.25]
         [-0.25  0.25]]
    """
    Q = softmax(Z)
    *rows, k = map(Label, Q.shape)
    wrt_label = Label(k.size)
    out_factor, wrt_factor = Factor(Q, (*rows, k), "Q"), Factor(Q, (*rows, wrt_label), "Q")
    row = tuple(map(Index.of, rows))
    out = (*row, Index.of(k))
    diagonal = Term((out_factor,), out, out)
    product = Term((out_factor, wrt_factor), out, (*row, Index.of(wrt_label)), -1)
    return Block(Q.shape, Q.shape, Q.dtype, [diagonal, product])


def cross_entropy_Q(Y: ArrayLike, Q: ArrayLike) -> Block:
    """The Jacobian of `cross_entropy` with respect to the given probabilities.

    Args:
        Y: Wanted probabilities in rows, shape `(n, k)`.
        Q: Given probabilities in rows, shape `(n, k)`.

    Returns:
        Block of shape `()` + `(n, k)`; 0 where `Y` and `Q` both are, infinite where only `Q` is.

    Raises:
        ShapeMismatchError: If the shapes of `Y` and `Q` differ or are not matrices.
        InvalidDataError: If `Y` has no rows to take the mean over.

    Examples:
        >>> print(cross_entropy_Q(jnp.array([[0.5, 0.5]]), jnp.array([[0.25, 0.5]])).dense())
        [[-2. -1.]]
    """
    Y, Q = jnp.asarray(Y), jnp.asarray(Q)
    check_rows("cross_entropy_Q", Y, Q, "Q")
    absent = (Y == 0) & (Q == 0)
    return -1 / len(Y) * Block.from_dense(Y / jnp.where(absent, 1, Q), 0, "R")


def softmax_cross_entropy_Z(Y: ArrayLike, Z: ArrayLike) -> Block:
    """The Jacobian of `softmax_cross_entropy`, which is that of cross-entropy star that of softmax.

        D_Q l star D_Z softmax  [n', k'] = (Q[n', k'] sum_k Y[n', k] - Y[n', k']) / N

    Contracted on paper, `Q` cancels, and nothing is left to divide by.

    Args:
        Y: Wanted probabilities in rows, shape `(n, k)`.
        Z: Scores in rows, shape `(n, k)`.

    Returns:
        Block of shape `()` + `(n, k)`, finite for finite scores.

    Raises:
        ShapeMismatchError: If the shapes of `Y` and `Z` differ or are not matrices.
        InvalidDataError: If `Y` has no rows to take the mean over.

    Examples:
        >>> Y, Z = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2000.0]])
        >>> print(softmax_cross_entropy_Z(Y, Z).dense())
        [[-1.  1.]]
    """
    Y, Z = jnp.asarray(Y), jnp.asarray(Z)
    check_rows("softmax_cross_entropy_Z", Y, Z, "Z")
    difference = softmax(Z) * jnp.sum(Y, axis=1, keepdims=True) - Y
    return 1 / len(Y) * Block.from_dense(difference, 0, "E")


def network_gradient(params: NetworkParams, X: ArrayLike, Y: ArrayLike) -> NetworkParams:
    """The gradient of the network's loss, contracted by hand from the closed forms above.

    Going back from the loss, `q` is its Jacobian with respect to one layer's values, and each
    parameter's block branches off:

        q2 = D_Q l star D_Z softmax          (contracted at once)
        q1 = q2 star D_X affine star D_Z logistic
        D_W2 = q2 star D_W affine,  D_b2 = q2 star D_b affine
        D_W1 = q1 star D_W affine,  D_b1 = q1 star D_b affine

    Args:
        params: Parameters of a network with `k` inputs and `m` classes.
        X: Examples in rows, shape `(n, k)`.
        Y: Wanted probabilities in rows, shape `(n, m)`.

    Returns:
        The gradient in the tree of the parameters, equal to `blockjac.grad(nn.loss)`.

    Raises:
        ShapeMismatchError: If the shapes do not fit.
        InvalidDataError: If no examples are given.

    Examples:
        >>> from blockjac.nn import initial_params
        >>> gradient = network_gradient(initial_params(3, 4, 2), jnp.ones((1, 3)), jnp.eye(2)[:1])
        >>> gradient.W1.shape, gradient.b2.shape
        ((3, 4), (1, 2))
    """
    W1, b1, W2, b2 = params
    Z1 = affine(X, W1, b1)
    X2 = logistic(Z1)
    Z2 = affine(X2, W2, b2)
    q2 = softmax_cross_entropy_Z(Y, Z2)
    q1 = star(star(q2, affine_X(X2, W2, b2)), logistic_Z(Z1))
    blocks = (
        star(q1, affine_W(X, W1, b1)),
        star(q1, affine_b(X, W1, b1)),
        star(q2, affine_W(X2, W2, b2)),
        star(q2, affine_b(X2, W2, b2)),
    )
    return NetworkParams(*(block.dense() for block in blocks))
