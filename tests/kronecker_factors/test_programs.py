"""Programs of all sorts: which parameters have factors, and what holds of them in any case.

The trace of an eigenvalue-corrected block is that of the exact block, whatever the layer; a block
without factors is the exact one.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.curvature_cases import Problem, array, close, gauss_newton, mean_squares

from blockjac import ekfac, factorize, kfac
from blockjac.curvature.gauss_newton import GaussNewton

W, V, U, X = array(3, 4), array(4, 2), array(4, 4), array(5, 3)
TIME = array(5, 6, 3)
WORDS = jnp.array([[0, 1, 2], [3, 4, 0], [8, 8, 8], [5, 6, 7]])
LAYOUT = ("NWC", "WIO", "NWC")


@jax.custom_vjp
def product(W, X):
    return X @ W


product.defvjp(lambda W, X: (X @ W, (W, X)), lambda kept, g: (kept[1].T @ g, g @ kept[0].T))


def over_time(step, start, X):
    return jax.lax.scan(step, start, jnp.swapaxes(X, 0, 1))


def learned_start(p, X):
    def step(state, x):
        return jnp.tanh(state @ p["U"] + x @ p["W"]), None

    return over_time(step, jnp.broadcast_to(p["s"], (X.shape[0], 4)), X)[0]


def read_backwards(p, X):
    def step(state, x):
        return jnp.tanh(state @ p["U"] + x @ p["W"]), state @ p["V"]

    start, swapped = jnp.zeros((X.shape[0], 4)), jnp.swapaxes(X, 0, 1)
    return jax.lax.scan(step, start, swapped, reverse=True)[1].mean(0)


def loops_in_loops(p, X):
    def layer(Z, W):
        return over_time(lambda s, x: (jnp.tanh(s @ W + x), None), Z, X)[0], None

    return jax.lax.scan(layer, jnp.zeros((X.shape[0], 3)), p)[0]


def gated(p, X):
    def step(state, x):
        mixed = x @ p["W"]
        reset = jax.nn.sigmoid(mixed[:, :4] + state @ p["U"][:, :4])
        return jnp.tanh(mixed[:, 4:] + (reset * state) @ p["U"][:, 4:]), None

    return over_time(step, jnp.zeros((X.shape[0], 4)), X)[0]


def chosen(p, X):
    return jax.lax.cond(
        X[0, 0] > 0, lambda X: jnp.tanh(X @ p["W"]), lambda X: jnp.sin(X @ p["W"]), X
    )


def normalized(p, X):
    Z = X @ p["W"]
    Z = (Z - Z.mean(-1, keepdims=True)) / jnp.sqrt(Z.var(-1, keepdims=True) + 0.1)
    return jnp.tanh((Z * p["g"] + p["b"]) @ p["V"]).mean(1)


def transposed(p, X):
    Z = jax.lax.conv_transpose(X, p, (2,), "SAME", dimension_numbers=LAYOUT)
    return jnp.tanh(Z).mean(1)


def dilated(p, X):
    Z = jax.lax.conv_general_dilated(
        X, p, (2,), [(2, 1)], rhs_dilation=(2,), dimension_numbers=LAYOUT
    )
    return jnp.tanh(Z).mean(1)


def of_groups(p, X):
    Z = jax.lax.conv_general_dilated(X, p, (1, 1), "SAME", feature_group_count=2)
    return jnp.tanh(Z).mean((2, 3))


def one_image(x, p):
    return jnp.tanh(jax.lax.conv(x[None], p, (1, 1), "VALID"))[0].mean((1, 2))


LAYER, EXACT = "A (x) G", "exact"

PROGRAMS = {
    "used twice": (
        lambda p, X: jnp.tanh(jnp.tanh(X @ p["W"]) @ p["U"]) @ p["U"],
        {"U": U, "W": W},
        X,
        [LAYER, LAYER],
    ),
    "and transposed": (lambda p, X: jnp.tanh(X @ p) @ p.T, W, X, [EXACT]),
    "weights normalized": (
        lambda p, X: jnp.tanh(X @ (p / jnp.linalg.norm(p, axis=0))),
        W,
        X,
        [EXACT],
    ),
    "weights in the result": (lambda p, X: X @ p + 0.1 * jnp.sum(p**2), W, X, [EXACT]),
    "nothing but weights": (lambda p, X: jnp.broadcast_to(p, (5, 4)), array(4), X, [EXACT]),
    "unused": (lambda p, X: jnp.tanh(X @ p["W"]), {"W": W, "z": array(3, 2)}, X, [LAYER, EXACT]),
    "a number": (
        lambda p, X: jnp.tanh(X @ p["W"]) * p["s"],
        {"W": W, "s": jnp.array(2.0)},
        X,
        [LAYER, EXACT],
    ),
    "a rule of its own": (
        lambda p, X: jnp.tanh(product(p["W"], X)) @ p["V"],
        {"V": V, "W": W},
        X,
        [LAYER, LAYER],
    ),
    "a branch": (chosen, {"W": W}, X, [LAYER]),
    "learned start": (learned_start, {"U": U, "W": W, "s": array(4)}, TIME, [LAYER, LAYER, EXACT]),
    "backwards": (read_backwards, {"U": U, "V": V, "W": W}, TIME, [LAYER] * 3),
    "loops in loops": (loops_in_loops, array(2, 3, 3), TIME, [LAYER]),
    "gates": (gated, {"U": array(4, 8), "W": array(3, 8)}, TIME, [LAYER, LAYER]),
    "a counted loop": (
        lambda p, X: jax.lax.fori_loop(0, 3, lambda i, Z: jnp.tanh(Z @ p["U"][i]), X @ p["W"]),
        {"U": array(3, 4, 4), "W": W},
        X,
        [LAYER, LAYER],
    ),
    "remat": (
        lambda p, X: jax.lax.scan(jax.checkpoint(lambda Z, W: (jnp.tanh(Z @ W), None)), X, p)[0],
        array(2, 3, 3),
        X,
        [LAYER],
    ),
    "one example after the other": (
        lambda p, X: jax.lax.map(lambda x: jnp.tanh(x @ p["W"]) @ p["V"], X),
        {"V": V, "W": W},
        X,
        [LAYER, LAYER],
    ),
    "positions": (
        lambda p, X: jnp.tanh((X + p["P"]) @ p["W"]).mean(1),
        {"P": array(6, 3), "W": W},
        TIME,
        [EXACT, LAYER],
    ),
    "layer norm": (
        normalized,
        {"V": V, "W": W, "b": array(4), "g": array(4)},
        TIME,
        [LAYER, LAYER, EXACT, EXACT],
    ),
    "transposed convolution": (transposed, array(3, 3, 4), TIME, [LAYER]),
    "dilated convolution": (dilated, array(3, 3, 4), TIME, [LAYER]),
    "convolution of groups": (of_groups, array(4, 2, 3, 3), array(3, 4, 5, 5), [EXACT]),
    "convolution of one image": (
        lambda p, X: jax.vmap(one_image, (0, None))(X, p),
        array(4, 2, 3, 3),
        array(3, 2, 5, 5),
        [LAYER],
    ),
    "two input axes": (
        lambda p, X: jnp.einsum("nab,abh->nh", X, p),
        array(2, 3, 4),
        array(5, 2, 3),
        [LAYER],
    ),
    "bilinear": (lambda p, X: jnp.einsum("na,abh,nb->nh", X, p, X), array(3, 3, 4), X, [LAYER]),
    "an ensemble": (
        lambda p, X: jax.vmap(lambda W, V: jnp.tanh(X @ W) @ V, out_axes=1)(p["W"], p["V"]),
        {"V": array(3, 4, 2), "W": array(3, 3, 4)},
        X,
        [LAYER, LAYER],
    ),
    "words": (
        lambda p, X: jnp.take(p["E"], X, axis=0).mean(1) @ p["V"],
        {"E": array(9, 4), "V": V},
        WORDS,
        [LAYER, LAYER],
    ),
    "words and their table": (
        lambda p, X: jnp.tanh(p[X].mean(1)) @ p.T,
        array(9, 4),
        WORDS,
        [EXACT],
    ),
    "weights first": (
        lambda p, X: (p["V"].T @ jnp.tanh(p["W"].T @ X.T)).T,
        {"V": V, "W": W},
        X,
        [LAYER, LAYER],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name):
    model, params, X, kinds = PROGRAMS[name]
    outputs = model(params, X)
    Y = jnp.zeros(outputs.shape)
    exact = gauss_newton(Problem(model, mean_squares, params, X, Y))
    matrix = kfac(model, mean_squares)(params, X, Y)
    assert repr(matrix) == f"KroneckerFactored({', '.join(kinds)})"
    corrected = ekfac(model, mean_squares)(params, X, Y)
    sampled = kfac(model, mean_squares, fisher_type="mc")(params, X, Y, key=jax.random.key(0))
    assert repr(sampled) == repr(matrix)
    start = 0
    for number, leaf in enumerate(jax.tree.leaves(params)):
        own = slice(start, start + leaf.size)
        start += leaf.size
        if isinstance(matrix.parts[number], GaussNewton):
            close(matrix.parts[number].dense(), exact[own, own])
            continue
        block, wanted = corrected[number, number].dense(), exact[own, own]
        block = np.reshape(block, wanted.shape)
        close(np.trace(block), np.trace(wanted), rtol=1e-9)
        approximation = np.reshape(matrix[number, number].dense(), wanted.shape)
        assert np.linalg.norm(block - wanted) <= np.linalg.norm(approximation - wanted) + 1e-9
        samples = np.reshape(sampled[number, number].dense(), wanted.shape)
        assert np.linalg.eigvalsh(samples)[0] > -1e-9 * np.linalg.norm(samples)


def test_a_number_for_all_examples():
    """There is no axis of examples, and no average over them."""

    def model(W, X):
        return jnp.sum(jnp.tanh(X @ W))

    problem = Problem(model, lambda Y, q: (q - Y) ** 2, W, X, jnp.array(1.0))
    matrix = kfac(model, problem.loss)(*problem.arguments)
    assert repr(matrix) == "KroneckerFactored(exact)"
    close(matrix.dense(), gauss_newton(problem))


def test_a_result_of_parameters_alone():
    """Beside others it needs the exact block, as it has no examples; in aux it does not matter."""

    def model(W, X):
        return {"y": jnp.tanh(X @ W), "penalty": jnp.sum(W**2) * jnp.ones(5)}

    def loss(Y, outputs):
        return jnp.sum((outputs["y"] - Y) ** 2) + jnp.sum(outputs["penalty"] ** 2)

    problem = Problem(model, loss, W, X, jnp.zeros((5, 4)))
    for transform in (model, jax.jit(model)):
        matrix = kfac(transform, loss)(*problem.arguments)
        close(matrix.dense(), gauss_newton(problem))

    @jax.jit
    def beside(W, X):
        scaled = W / 2
        return jnp.tanh(X @ scaled), jnp.sum(scaled**2)

    matrix, penalty = kfac(beside, mean_squares, has_aux=True)(W, X, problem.Y)
    plain = kfac(lambda W, X: jnp.tanh(X @ (W / 2)), mean_squares)(W, X, problem.Y)
    assert repr(matrix) == "KroneckerFactored(A (x) G)"
    close(matrix.dense(), plain.dense())
    close(penalty, jnp.sum(W**2) / 4)


def test_weights_made_in_a_program():
    """Of a jitted function that gives both weights and something of the examples."""

    @jax.jit
    def prepared(W, X):
        return W.T * 2, jnp.tanh(X @ W)

    def model(W, X):
        doubled, Z = prepared(W, X)
        return jnp.tanh(Z @ doubled)

    def flat(W, X):
        return jnp.tanh(jnp.tanh(X @ W) @ (W.T * 2))

    Y = jnp.zeros((5, 3))
    for transform in (model, flat):
        matrix = kfac(transform, mean_squares)(W, X, Y)
        assert repr(matrix) == "KroneckerFactored(exact)"
        close(matrix.dense(), gauss_newton(Problem(flat, mean_squares, W, X, Y)))


def test_arguments_as_in_other_transforms():
    def model(X, W, V, is_smooth, scale):
        Z = X @ W
        return (jnp.tanh(Z) if is_smooth else Z) @ V * scale, {"mean": X.mean(), "kind": "tanh"}

    Y = jnp.zeros((5, 2))
    matrix, aux = kfac(model, mean_squares, argnums=(2, 1), has_aux=True)(X, W, V, True, 2.0, Y)
    assert matrix.wrt_shapes == ((4, 2), (3, 4))
    assert aux["kind"] == "tanh"
    close(aux["mean"], X.mean())
    v = (jnp.ones((4, 2)), jnp.ones((3, 4)))
    assert jax.tree.structure(matrix.matvec(v)) == jax.tree.structure(v)


@pytest.mark.parametrize("maker", [kfac, ekfac])
def test_a_large_table_has_no_matrix_of_its_size(maker):
    size, width = 30000, 4

    def step(table, words, v):
        model = maker(lambda table, words: jnp.mean(table[words], axis=1), mean_squares)
        matrix = model(table, words, jnp.zeros((4, width)))
        return factorize(matrix, damping=0.1).solve(v)

    table, words = jnp.ones((size, width)), jnp.arange(12).reshape(4, 3) * 1000
    compiled = jax.jit(step).lower(table, words, table).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 40 * 8 * size * width
    solved = np.asarray(step(table, words, table))
    assert np.isfinite(solved).all()
    assert (solved[words] < 9.99).all()
    close(solved[1], 10.0)
