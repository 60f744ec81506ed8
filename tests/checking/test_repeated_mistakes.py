"""One mistake in all places of a kind, and mistakes in softmax, in loops, and in sums by shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac import check_grad

RNG = np.random.default_rng(14)
X, Y = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 2))


def logistic(z):
    return 1 / (1 + np.exp(-z))


def softmax(z, axis=-1):
    numerators = np.exp(z - z.max(axis, keepdims=True))
    return numerators / numerators.sum(axis, keepdims=True)


def named(loss, gradient, args, mistakes):
    """Check the right gradient against JAX's, and the name of each mistake in it."""
    argnums = tuple(range(len(args)))
    exact = jax.grad(loss, argnums)(*args)
    right = gradient("", *args)
    for given, wanted in zip(right, exact, strict=True):
        np.testing.assert_allclose(given, wanted, rtol=1e-9, atol=1e-12)
    assert check_grad(loss, right, *args, argnums=argnums)
    for mistake, name in mistakes.items():
        report = check_grad(loss, gradient(mistake, *args), *args, argnums=argnums)
        assert report.mistakes == (name,), f"{mistake}: {report}"
        assert all(leaf.right or leaf.mistakes for leaf in report.leaves), f"{mistake}: {report}"


def test_the_slopes_of_all_layers():
    slopes = {
        "": lambda a: 1 - a**2,
        "left out": np.ones_like,
        "twice": lambda a: (1 - a**2) ** 2,
        "value": lambda a: a,
        "logistic": lambda a: a * (1 - a),
    }

    def loss(A, B, C):
        return 0.5 * jnp.sum((jnp.tanh(jnp.tanh(X @ A) @ B) @ C - Y) ** 2)

    def gradient(mistake, A, B, C):
        slope = slopes[mistake]
        a = np.tanh(X @ A)
        b = np.tanh(a @ B)
        q = b @ C - Y
        r = (q @ C.T) * slope(b)
        return X.T @ ((r @ B.T) * slope(a)), a.T @ r, b.T @ q

    args = [RNG.normal(size=shape) for shape in ((4, 3), (3, 5), (5, 2))]
    mistakes = {
        "left out": "derivative left out",
        "twice": "derivative taken twice",
        "value": "value for the derivative",
        "logistic": "derivative of another function",
    }
    named(loss, gradient, args, mistakes)


U, V = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 3))
CENTRES, CONTEXTS, NOISE = np.array([0, 2, 1, 2]), np.array([1, 3, 0, 4]), np.array([3, 0, 4, 1])


@pytest.mark.slow
def test_both_scores_of_pairs_of_words():
    def loss(U, V):
        near = jnp.sum(U[CENTRES] * V[CONTEXTS], 1)
        far = jnp.sum(U[CENTRES] * V[NOISE], 1)
        return -jnp.sum(jnp.log(jax.nn.sigmoid(near)) + jnp.log(jax.nn.sigmoid(-far)))

    def gradient(mistake, U, V):
        p = logistic((U[CENTRES] * V[CONTEXTS]).sum(1))
        n = logistic((U[CENTRES] * V[NOISE]).sum(1))
        a, b = p - 1, n
        if mistake == "slopes":
            a, b = a * p * (1 - p), b * n * (1 - n)
        D_U, D_V = np.zeros_like(U), np.zeros_like(V)
        at_centres = a[:, None] * V[CONTEXTS] + b[:, None] * V[NOISE]
        if mistake == "overwritten":
            D_U[CENTRES] += at_centres
        else:
            np.add.at(D_U, CENTRES, at_centres)
        np.add.at(D_V, CONTEXTS, a[:, None] * U[CENTRES])
        np.add.at(D_V, NOISE, b[:, None] * U[CENTRES])
        return D_U, D_V

    mistakes = {"slopes": "derivative taken twice", "overwritten": "missing sum"}
    named(loss, gradient, (U, V), mistakes)


@pytest.mark.slow
def test_softmax_along_both_axes_of_scores():
    def loss(U, V):
        S = U @ V.T
        rows, columns = jax.nn.log_softmax(S, axis=1), jax.nn.log_softmax(S, axis=0)
        return -jnp.sum(jnp.diag(rows)) - jnp.sum(jnp.diag(columns))

    def gradient(mistake, U, V):
        S = U @ V.T
        P, Q = softmax(S, 1), softmax(S, 0)
        G, H = P - np.eye(5), Q - np.eye(5)
        if mistake == "slopes":
            G, H = G * P * (1 - P), H * Q * (1 - Q)
        if mistake == "axis":
            H = P - np.eye(5)
        return (G + H) @ V, (G + H).T @ U

    mistakes = {"slopes": "extra factor", "axis": "summed over the wrong axis"}
    named(loss, gradient, (U, V), mistakes)


Z, C = RNG.normal(size=(4, 4)), RNG.normal(size=(4, 4))


@pytest.mark.slow
def test_the_sum_in_the_jacobian_of_softmax():
    sums = {
        "": lambda P: (C * P).sum(1, keepdims=True),
        "axis": lambda P: (C * P).sum(0, keepdims=True),
        "all axes": lambda P: (C * P).sum(),
        "no keepdims": lambda P: (C * P).sum(1),
        "no factor": lambda _: C.sum(1, keepdims=True),
    }

    def loss(W):
        return jnp.sum(C * jax.nn.softmax(Z @ W, axis=1))

    def gradient(mistake, W):
        P = softmax(Z @ W)
        return (Z.T @ (P * (C - sums[mistake](P))),)

    names = dict.fromkeys(("axis", "all axes", "no keepdims"), "summed over the wrong axis")
    named(loss, gradient, (RNG.normal(size=(4, 4)),), names | {"no factor": "missing factor"})


SLOPES = {
    "softplus": (jax.nn.softplus, logistic),
    "silu": (jax.nn.silu, lambda z: logistic(z) * (1 + z * (1 - logistic(z)))),
    "elu": (jax.nn.elu, lambda z: np.where(z > 0, 1, np.exp(z))),
    "softsign": (jax.nn.soft_sign, lambda z: 1 / (1 + np.abs(z)) ** 2),
    "tanh": (jnp.tanh, lambda z: 1 - np.tanh(z) ** 2),
}


@pytest.mark.parametrize("function", SLOPES)
@pytest.mark.parametrize("taken", ["softplus", "silu", "elu", "softsign"])
def test_the_slope_of_another_activation(function, taken):
    activation = SLOPES[function][0]

    def loss(A, B):
        return 0.5 * jnp.sum((activation(X @ A) @ B - Y) ** 2)

    def gradient(mistake, A, B):
        z = X @ A
        a = np.asarray(activation(z))
        q = a @ B - Y
        slope = SLOPES[taken if mistake else function][1](z)
        return X.T @ ((q @ B.T) * slope), a.T @ q

    name = "derivative of another function"
    if (function, taken) == ("silu", "softplus"):
        name = "missing term"  # logistic(z) is what is left without the path through logistic
    mistakes = {} if function == taken else {"other": name}
    named(loss, gradient, (RNG.normal(size=(4, 3)), RNG.normal(size=(3, 2))), mistakes)


INPUTS, TARGETS = RNG.normal(size=8), RNG.normal(size=8)


@pytest.mark.slow
def test_single_numbers_of_a_recurrence():
    def loss(a, b):
        def step(h, pair):
            h = a * h + b * pair[0]
            return h, (h - pair[1]) ** 2

        return jax.lax.scan(step, 0.3, (INPUTS, TARGETS))[1].sum()

    def gradient(mistake, a, b):
        h = [0.3]
        for x in INPUTS:
            h.append(a * h[-1] + b * x)
        D_a = D_b = q = 0.0
        for t in reversed(range(8)):
            q = 2 * (h[t + 1] - TARGETS[t]) + (q if mistake == "no a" else a * q)
            D_a += q * h[t + 1 if mistake == "off by one" else t]
            D_b += q * INPUTS[t]
            if mistake == "last" and t == 7:
                return np.asarray(D_a), np.asarray(D_b)
        return np.asarray(D_a), np.asarray(D_b)

    mistakes = {"off by one": "wrong factor", "last": "missing sum", "no a": "missing factor"}
    named(loss, gradient, (np.asarray(0.7), np.asarray(0.5)), mistakes)


@pytest.mark.slow
def test_a_mean_that_is_forgotten_in_the_derivative_alone():
    def loss(means):
        squares = jnp.sum((X[:, None] - means) ** 2, 2)
        return -jnp.sum(jax.nn.logsumexp(-0.5 * squares, axis=1))

    def gradient(mistake, means):
        shares = softmax(-0.5 * ((X[:, None] - means) ** 2).sum(2))
        points = 0 * X if mistake else X
        return (np.einsum("nk,nkd->kd", shares, means - points[:, None]),)

    named(loss, gradient, (RNG.normal(size=(3, 4)),), {"no points": "missing term"})


def test_the_target_of_each_step():
    def loss(w):
        def step(h, pair):
            h = jnp.tanh(w * h + pair[0])
            return h, (h - pair[1]) ** 2

        return jax.lax.scan(step, 0.0, (INPUTS, TARGETS))[1].sum()

    def gradient(mistake, w):
        h = [0.0]
        for x in INPUTS:
            h.append(np.tanh(w * h[-1] + x))
        D_w = q = 0.0
        for t in reversed(range(8)):
            residual = h[t + 1] if mistake else h[t + 1] - TARGETS[t]
            slope = 1 - h[t + 1] ** 2
            D_w += (2 * residual + q) * slope * h[t]
            q = (2 * residual + q) * slope * w
        return (np.asarray(D_w),)

    named(loss, gradient, (np.asarray(0.7),), {"no targets": "missing term"})


def test_the_derivative_of_a_margin_at_the_other_sign():
    signs = np.sign(Y[:, 0])

    def loss(w):
        return jnp.sum(jax.nn.softplus(-signs * (X @ w)))

    def gradient(mistake, w):
        margins = signs * (X @ w)
        return (-X.T @ (signs * logistic(margins if mistake else -margins)),)

    named(loss, gradient, (RNG.normal(size=4),), {"sign": "sign of an argument"})


EVENTS = np.array([1.0, 0, 1, 1, 0, 1])


def hazard(w):
    scores = X @ w
    at_risk = jnp.cumsum(jnp.exp(scores)[::-1])[::-1]
    return -jnp.sum(EVENTS * (scores - jnp.log(at_risk)))


def test_a_wrong_shape_says_over_which_axis_was_summed():
    def gradient(mistake, w):
        weights = np.exp(X @ w)[:, None]
        means = np.cumsum((weights * X)[::-1], 0)[::-1] / np.cumsum(weights[::-1], 0)[::-1]
        return (-(EVENTS[:, None] * (X - means)).sum(1 if mistake else 0),)

    w = RNG.normal(size=4)
    named(hazard, gradient, (w,), {"axis": "summed over the wrong axis"})
    text = str(check_grad(hazard, gradient("axis", w)[0], w))
    assert "by its shape alone: of an array of shape (6, 4) the sum was taken over axis 1" in text


def test_a_sum_within_a_product_over_the_wrong_axis():
    def loss(w):
        return 0.5 * jnp.sum((X @ w - Y[:, 0]) ** 2)

    def gradient(mistake, w):
        terms = X * (X @ w - Y[:, 0])[:, None]
        return (terms.sum(1 if mistake else 0),)

    w = RNG.normal(size=4)
    named(loss, gradient, (w,), {"axis": "summed over the wrong axis"})
    assert "by its shape" not in str(check_grad(loss, gradient("axis", w)[0], w))


def test_a_filter_that_was_turned_around():
    image, target = RNG.normal(size=(1, 1, 5, 5)), RNG.normal(size=(1, 2, 3, 3))

    def loss(K):
        return 0.5 * jnp.sum((jax.lax.conv(image, K, (1, 1), "VALID") - target) ** 2)

    def gradient(mistake, K):
        windows = np.lib.stride_tricks.sliding_window_view(image[0, 0], (3, 3))
        q = np.einsum("ijab,kab->kij", windows, K[:, 0]) - target[0]
        D_K = np.einsum("kij,ijab->kab", q, windows)[:, None]
        return (D_K[:, :, ::-1, ::-1] if mistake else D_K,)

    named(loss, gradient, (RNG.normal(size=(2, 1, 3, 3)),), {"turned": "reversed"})
