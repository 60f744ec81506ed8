"""Explanations of programs with random keys, half precision, integers in loops, rules that clip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.explained_programs import normal

import blockjac
from blockjac.errors import InvalidOptionError


def pendulum(angle, length):
    def body(i, state):
        del i
        angle, speed = state
        speed = speed - 0.05 * 9.81 / length * jnp.sin(angle)
        return angle + 0.05 * speed, speed

    return lax.fori_loop(0, 5, body, (angle, 0.0))[0]


def test_a_loop_that_counts_is_explained():
    explanation = blockjac.explain(pendulum, (0, 1))(0.5, 1.2)
    text = explanation.text(width=120)
    assert "Inside of scan: one of 5 steps" in text
    assert "i, state₀, state₁ = f(length, i, state₀, state₁)" in text
    assert "q_state₁,t+1 ⋆ D_state₀ f₃" in text  # the new speed by the old angle
    assert explanation.checked is True
    exact = jax.jacfwd(pendulum, (0, 1))(0.5, 1.2)
    for variable, wanted in zip(explanation.program.independents, exact, strict=True):
        (rule,) = explanation.rules
        np.testing.assert_allclose(explanation.numbers.adjoint(rule, variable.number), wanted)


def test_inside_of_a_step_with_indices():
    pick = blockjac.step("pick")(lambda x: lax.top_k(x, 2))
    inside = blockjac.explain(lambda x: pick(x)[0] ** 2)(normal(4)).inside("pick")
    assert inside.checked is True
    assert "reverse" in str(inside)
    assert "indices" not in inside.code().partition("def D_")[2]


def noisy(w, x, key):
    first, second = jax.random.split(key)
    hidden = jnp.where(jax.random.bernoulli(first, 0.5, x.shape), x @ w, 0.0)
    return jnp.sum((hidden + jax.random.normal(second, x.shape)) ** 2)


@pytest.mark.parametrize("key", [jax.random.key, jax.random.PRNGKey])
def test_random_keys(key):
    explanation = blockjac.explain(noisy, (0, 1))(normal(3, 3), normal(2, 3), key(4))
    text = str(explanation)
    assert explanation.checked is True
    assert len(explanation.html()) > 1000
    if key is jax.random.key:
        assert "key: a random key, fixed" in text
        assert "key ∈" not in text


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_has_a_chain_rule_and_is_checked(dtype, monkeypatch):
    def layer(x, w):
        return jax.nn.gelu(x @ w)

    arguments = normal(3, 2).astype(dtype), normal(2, 2).astype(dtype)
    explanation = blockjac.explain(layer, (0, 1))(*arguments)
    assert "D_x layer = q_v₁ ⋆ D_x dot" in str(explanation.chain_rule).splitlines()
    assert explanation.checked is True
    exact = jax.jacrev(layer, (0, 1))(*(own.astype(jnp.float32) for own in arguments))
    (rule,) = explanation.rules
    for variable, wanted in zip(explanation.program.independents, exact, strict=True):
        given = explanation.numbers.adjoint(rule, variable.number)
        np.testing.assert_allclose(given, wanted, atol=0.05, rtol=0.05)
    shapes = [jax.ShapeDtypeStruct(own.shape, dtype) for own in arguments]
    drawn = blockjac.explain(layer, (0, 1))(*shapes).arguments
    assert len(np.unique(np.asarray(drawn[0], float))) > 3  # random numbers, not all 1
    assert len(explanation.html()) > 1000

    from blockjac.explanations import numbers

    wrong = blockjac.explain(layer, (0, 1))(*arguments)
    monkeypatch.setattr(numbers, "evaluated", lambda formula, arrays: np.zeros(formula.shape))
    assert wrong.checked is False


def test_the_coarsest_precision_counts():
    def mixed(x, w):
        return jnp.sum((x.astype(jnp.float32) @ w).astype(jnp.float64) ** 2)

    x, w = normal(30), normal(30, 20).astype(jnp.float32)
    assert blockjac.explain(mixed, (0, 1))(x, w).checked is True


@jax.custom_vjp
def clipped(x):
    return 2.0 * x


clipped.defvjp(lambda x: (clipped(x), None), lambda _, q: (jnp.clip(q, -0.1, 0.1),))


@jax.custom_vjp
def rounded(x):
    return jnp.round(x)


rounded.defvjp(lambda x: (rounded(x), None), lambda _, q: (q,))


def test_a_backward_rule_that_clips_is_not_called_a_fault_of_the_library():
    def loss(x):
        return jnp.sum(clipped(x) ** 2)

    def looped(x):
        return jnp.sum(lax.scan(lambda h, _: (jax.jit(clipped)(h), None), x, length=2)[0] ** 2)

    for function, word in ((loss, "clipped"), (looped, "scan")):
        explanation = blockjac.explain(function)(jnp.array([1.0, 2.0]))
        assert explanation.checked is False
        text = explanation.text(width=300)
        assert f"NOT the chain rule: the backward rule that {word} has of its own" in text
        assert "please report" not in text


def test_a_linear_backward_rule_is_a_step_as_any_other():
    x = normal(3)
    explanation = blockjac.explain(lambda x: jnp.sum(rounded(x) * x))(x)
    assert explanation.checked is True
    (rule,) = explanation.rules
    (variable,) = explanation.program.independents
    given = explanation.numbers.adjoint(rule, variable.number)
    np.testing.assert_allclose(given, np.round(x) + x)


def test_sentences_are_as_wide_as_the_terminal():
    explanation = blockjac.explain(lambda x: jnp.linalg.eigvals(x @ x.T).real)(normal(3, 3))
    for line in explanation.text(width=60).split("The order")[0].splitlines():
        assert len(line) <= 60 or " " not in line.strip()  # a long word stays whole
    assert "1 entry" in str(blockjac.explain(jnp.sin)(0.5))


def test_a_loop_says_what_one_step_computes():
    """The names in its formulas are those of its own steps, and not of the whole function's."""
    section = blockjac.explain(pendulum, (0, 1))(0.5, 1.2).text(width=120)
    section = section.partition("Inside of scan")[2].partition("The order")[0]
    assert "v₂ = sin(state₀)" in section
    assert "f₂ = state₁ - v₃" in section


def test_a_function_that_prints(capsys):
    def loud(x):
        jax.debug.print("{}", x)
        return jnp.sum(x**2)

    x = normal(3)
    explanation = blockjac.explain(loud)(x)
    assert explanation.checked is True
    assert "2 v" not in str(explanation.formulas)
    assert str(explanation.formulas) == "(D_x loud)[i] = 2 x[i]"
    assert blockjac.plan(loud)(x).steps
    assert "D_x = " in explanation.code()
    capsys.readouterr()


@pytest.mark.parametrize("result", [None, (), 3.0])
def test_what_is_not_computed_from_the_arguments_is_said_to_be(result):
    text = blockjac.explain(lambda x: result)(normal(3)).text(width=120)
    assert "no result is computed from the arguments: every derivative is 0" in text
    assert "there is nothing to check" in text


def test_widths_and_numbers_of_lines_that_make_no_sense():
    explanation = blockjac.explain(jnp.sin)(0.5)
    for width in (0, -5, "a"):
        with pytest.raises(InvalidOptionError, match=r"width=.*; wanted the characters of a line"):
            explanation.text(width=width)
    for most in (-1, "a"):
        with pytest.raises(InvalidOptionError, match=r"most=.*; wanted how many lines of a"):
            explanation.text(most=most)
    with pytest.raises(TypeError, match=r"Expected a callable value for blockjac.step\('a'\), got"):
        blockjac.step("a")(3)
