"""Printed formulas are evaluated, and give the Jacobian that JAX computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.printed_formulas import Printed
from support.random_functions import random_function

import blockjac
from blockjac import nn
from blockjac.explanations.expressions import Formula
from blockjac.explanations.layout import pieces
from blockjac.explanations.places import letters_of, place_letters
from blockjac.explanations.styles.text import TEXT

rng = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(rng.normal(size=shape))


def sizes_of(formula):
    letters = set(letters_of(formula.body))
    for place in formula.letters:
        letters |= place_letters(place)
    return {TEXT.letter(letter): letter.size for letter in letters}


def check(function, argnums, *arguments):
    """Evaluate all that is printed, from the variables of the program on, and compare the end."""
    explanation = blockjac.explain(function, argnums)(*arguments)
    assert explanation.checked is True
    names = {TEXT.called(name): array for name, array in explanation.numbers.arrays.items()}
    known = {
        TEXT.name(variable.name): names[TEXT.name(variable.name)]
        for variable in explanation.program.variables.values()
    }
    computed = {name: array for name, array in names.items() if name not in known}
    for equation in explanation.formulas.equations:
        assert isinstance(equation, Formula)
        printed = " ".join(pieces(equation, TEXT))
        # Beside the formulas a reader has what is said to have none: by name, from the library.
        formula = Printed(
            printed, {**_without_formulas(explanation, computed), **known}, sizes_of(equation)
        )
        name = TEXT.called(equation.name)
        known[name] = formula.evaluate(equation.shape)
    positions = [argnums] if isinstance(argnums, int) else argnums
    exact = jax.tree.leaves(jax.jacrev(function, tuple(positions))(*arguments))
    results = [
        TEXT.called(rule.derivative(variable.number))
        for rule in explanation.rules
        for variable in explanation.program.independents
    ]
    assert len(results) == len(exact)
    for name, array in zip(results, exact, strict=True):
        np.testing.assert_allclose(known[name], array, rtol=1e-9, atol=1e-12, err_msg=name)
    return explanation


def _without_formulas(explanation, computed):
    """The arrays that the explanation says have no formula."""
    opaque = {
        TEXT.called(elemental.derivative): f"({TEXT.called(elemental.derivative)})"
        for elemental in explanation.steps
        if elemental.formula is None
    }
    words = {
        TEXT.name(name)
        for elemental in explanation.steps
        for name, definition in elemental.definitions
        if isinstance(definition, str)
    }
    arrays = {opaque[name]: array for name, array in computed.items() if name in opaque}
    return arrays | {name: array for name, array in computed.items() if name in words}


def lecture(W1, b1, W2, b2):
    phi_1, psi_1 = blockjac.step("phi_1")(nn.affine), blockjac.step("psi_1")(nn.logistic)
    phi_2, psi_2 = blockjac.step("phi_2")(nn.affine), blockjac.step("psi_2")(nn.softmax)
    ell = blockjac.step("ell")(nn.cross_entropy)
    return ell(LABELS, psi_2(phi_2(psi_1(phi_1(DATA, W1, b1)), W2, b2)))


DATA = normal(5, 3)
LABELS = jnp.eye(2)[jnp.array([0, 1, 1, 0, 1])]


def test_gradients_of_the_lectures_network_are_its_formulas():
    arguments = normal(3, 4), normal(1, 4), normal(4, 2), normal(1, 2)
    explanation = check(lecture, (0, 1, 2, 3), *arguments)
    assert str(explanation.chain_rule).splitlines() == [
        "D_W₁ lecture = D_Q ℓ ⋆ D_Z₂ ψ₂ ⋆ D_X₂ φ₂ ⋆ D_Z₁ ψ₁ ⋆ D_W₁ φ₁".replace("X₂", "X"),
        "D_b₁ lecture = D_Q ℓ ⋆ D_Z₂ ψ₂ ⋆ D_X₂ φ₂ ⋆ D_Z₁ ψ₁ ⋆ D_b₁ φ₁".replace("X₂", "X"),
        "D_W₂ lecture = D_Q ℓ ⋆ D_Z₂ ψ₂ ⋆ D_W₂ φ₂",
        "D_b₂ lecture = D_Q ℓ ⋆ D_Z₂ ψ₂ ⋆ D_b₂ φ₂",
    ]
    claims = [TEXT.write(claim.body) for claim in explanation.simplifications]
    assert claims == ["(Q - LABELS) / 5"]


def residual(x, W, V):
    h = x
    for _ in range(2):
        h = h + jnp.tanh(h @ W) @ V
    return jnp.sum(h**2)


def attention(X, Q, K, V):
    scores = (X @ Q) @ (X @ K).T / 2.0
    return jax.nn.softmax(scores) @ (X @ V)


def recurrent(W, U, h, xs):
    def one(h, x):
        return jnp.tanh(W @ h + U @ x), None

    return jnp.sum(lax.scan(one, h, xs)[0] ** 2)


def convolution(x, kernel):
    y = lax.conv_general_dilated(x, kernel, (1,), "SAME")
    return jnp.sum(jnp.tanh(y) ** 2)


def kalman(A, P, z):
    def one(state, z):
        m, P = state
        P = A @ P @ A.T + jnp.eye(2)
        S = P[0, 0] + 1.0
        K = P[:, 0] / S
        error = z - (A @ m)[0]
        return (A @ m + K * error, P - jnp.outer(K, P[0])), jnp.log(S) + error**2 / S

    return jnp.sum(lax.scan(one, (jnp.zeros(2), P), z)[1])


def layer_norm(x, gamma, beta):
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred / jnp.sqrt(jnp.var(x, axis=-1, keepdims=True) + 1e-5) * gamma + beta


def several(x):
    top, rest = x[0] * x[1], x[2:]
    return {"a": jnp.sin(rest) * top, "b": jnp.sum(x**3)}


def two_results(x):
    values, indices = lax.top_k(x, 2)
    del indices
    return values * jnp.flip(x)[:2]


CASES = {
    "residual network": (residual, (1, 2), normal(3, 2), normal(2, 4), normal(4, 2)),
    "attention": (attention, (0, 1, 2, 3), normal(4, 3), normal(3, 2), normal(3, 2), normal(3, 5)),
    "recurrence": (recurrent, (0, 1, 2), normal(2, 2), normal(2, 3), normal(2), normal(4, 3)),
    "convolution": (convolution, (0, 1), normal(2, 1, 6), normal(2, 1, 3)),
    "Kalman filter": (kalman, (0, 1), jnp.eye(2) + 0.1 * normal(2, 2), jnp.eye(2), normal(3)),
    "layer norm": (layer_norm, (0, 1, 2), normal(2, 4), normal(4), normal(4)),
    "several results": (several, 0, normal(5)),
    "top k": (two_results, 0, normal(5)),
    "stencil": (lambda x: (x[1:] - x[:-1]) ** 2, 0, normal(6)),
    "strided": (lambda x: x[::2] * x[1::2], 0, normal(6)),
    "reversed": (lambda x: jnp.flip(x) * x, 0, normal(4)),
    "padded": (lambda x: jnp.sin(jnp.pad(x, (2, 1))), 0, normal(4)),
    "concatenated": (
        lambda x, y: jnp.concatenate([x, 2 * y, x]) ** 2,
        (0, 1),
        normal(2),
        normal(3),
    ),
    "gathered": (lambda x: x[jnp.array([0, 2, 2])] ** 2, 0, normal(4)),
    "quadratic form": (lambda x, A: x @ A @ x, (0, 1), normal(3), normal(3, 3)),
    "log determinant": (lambda A: jnp.linalg.slogdet(A)[1], 0, normal(3, 3)),
    "reshaped": (lambda x, A: jnp.sin(x.reshape(2, 3)) @ A, (0, 1), normal(6), normal(3, 2)),
    "trace": (lambda A, B: jnp.trace(A @ B), (0, 1), normal(2, 3), normal(3, 2)),
    "transposed": (lambda A: A.T @ A, 0, normal(2, 3)),
    "maximum": (lambda x: jnp.max(x, axis=0) * jnp.maximum(x[0], 0), 0, normal(2, 3)),
    "scalars": (lambda a, b: jnp.sin(a) * b + a, (0, 1), 0.3, 2.0),
    "identity": (lambda x: x, 0, normal(3)),
    "constant": (lambda x: jnp.ones(2) + 0 * x[0], 0, normal(3)),
    "same twice": (lambda x: x * x + x, 0, normal(3)),
    "branches": (lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.tanh, x) * x, 0, normal(3)),
    "batch norm": (
        lambda x, g: (x - x.mean(0)) / jnp.sqrt(x.var(0) + 0.1) * g,
        (0, 1),
        normal(4, 2),
        normal(2),
    ),
    "einsum": (
        lambda a, b, c: jnp.einsum("bij,bjk,k->bi", a, b, c),
        (0, 1, 2),
        normal(2, 2, 3),
        normal(2, 3, 2),
        normal(2),
    ),
    "gelu": (lambda x: jax.nn.gelu(x) + jax.nn.softplus(x) + jax.nn.elu(x), 0, normal(3)),
    "logsumexp": (lambda x: jax.nn.logsumexp(x, axis=1), 0, normal(2, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_printed_formulas_give_the_jacobian(name):
    check(*CASES[name])


@pytest.mark.parametrize("seed", range(40))
def test_printed_formulas_of_random_programs_give_the_jacobian(seed):
    function, x = random_function(seed)
    check(function, 0, x)
