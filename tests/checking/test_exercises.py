"""Exercises: each attempt gets a verdict block by block, whatever it gives or raises."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import nn
from blockjac.errors import DifferentiationTypeError, InvalidOptionError

RNG = np.random.default_rng(5)
X, T = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 3))
PARAMS = {"W": RNG.normal(size=(4, 3)), "b": RNG.normal(size=3)}


def loss(params, X):
    return 0.5 * jnp.sum((X @ params["W"] + params["b"] - T) ** 2)


def gradient(params, X):
    r = X @ params["W"] + params["b"] - T
    return {"W": X.T @ r, "b": r.sum(0)}


@pytest.fixture(scope="module")
def posed():
    return blockjac.exercise(loss, PARAMS, X)


FORMS = {
    "a tree": lambda g: g,
    "the leaves in order": lambda g: [g["W"], g["b"]],
    "a tuple": lambda g: (g["W"], g["b"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_right_attempts(posed, form):
    verdict = posed.check(lambda *args: FORMS[form](gradient(*args)))
    assert verdict, str(verdict)
    assert verdict.score == 1.0
    assert str(verdict).splitlines() == [
        "loss: 2 of 2 blocks are right",
        "  D_W loss, of shape (4, 3): right",
        "  D_b loss, of shape (3,): right",
    ]


def test_a_dictionary_by_the_names_of_the_arguments():
    posed = blockjac.exercise(lambda w, v: jnp.sum(w * v**2), T[0], T[1], argnums=(0, 1))
    assert posed.check(lambda w, v: {"v": 2 * w * v, "w": v**2})


def test_a_verdict_block_by_block_without_the_solution(posed):
    verdict = posed.check(lambda params, X: {"W": 0 * params["W"], "b": (X @ params["W"]) * 1.0})
    assert not verdict
    assert verdict.score == 0.0
    assert [block.name for block in verdict.blocks] == ["D_W loss", "D_b loss"]
    assert verdict.mistakes == ("all zero", "missing sum", "wrong factor")
    assert "exact" not in str(verdict).replace("exact one", "")
    assert verdict.report is not None
    half = posed.check(lambda *args: {**gradient(*args), "b": -gradient(*args)["b"]})
    assert (half.score, half.mistakes) == (0.5, ("sign",))


def raising(params, X):
    return X.T @ np.zeros((7, 3))


def exiting(params, X):
    raise SystemExit(3)


ATTEMPTS = {
    "raises": (raising, "raised an exception", r"ValueError: matmul.* at line \d+ in raising: ret"),
    "exits": (exiting, "raised an exception", "SystemExit: 3"),
    "other arguments": (lambda: 0, "raised an exception", "TypeError: .*takes 0 positional"),
    "None": (lambda *_: None, "nothing returned", "is there a `return` at the end"),
    "words": (lambda *_: {"W": "a", "b": "b"}, "not an array", "is compared as arrays"),
    "another tree": (lambda *_: {"V": 1.0}, "wrong tree", r"found a dict with \['V'\]"),
    "too many": (lambda *_: [1.0, 2.0, 3.0], "wrong tree", "found a list of 3"),
    "a set": (lambda *_: {1, 2}, "wrong tree|not an array", "found"),
    "ragged": (lambda *_: [[1.0], [1.0, 2.0]], "wrong tree", "found a list of 2"),
    "objects": (lambda *_: {"W": np.array(["a"]), "b": 1}, "not an array", "is compared as arrays"),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempts_that_cannot_be_compared_get_a_verdict(posed, name):
    attempt, problem, text = ATTEMPTS[name]
    verdict = posed.check(attempt)
    assert not verdict
    assert verdict.problem is not None
    assert verdict.problem.name in problem.split("|")
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(str(verdict))


def test_an_attempt_cannot_spoil_the_point(posed):
    def spoiling(params, X):
        X *= 0
        params["W"] *= 0
        return

    assert not posed.check(spoiling)
    assert posed.check(gradient)


def test_the_task_and_hints_reveal_little_by_little(posed):
    assert posed.task.splitlines() == [
        "write the gradient of loss:",
        "  D_W loss, of shape (4, 3)",
        "  D_b loss, of shape (3,)",
    ]
    texts = [posed.hint(number) for number in range(1, posed.hint_count + 1)]
    assert all(later.startswith(text) for text, later in itertools.pairwise(texts))
    assert "D_W loss has shape (4, 3)" in texts[0]
    assert "every path from params['W'] passes dot_general, add, sub" in texts[1]
    assert "contract q with X, of shape (5, 4)" in texts[2]
    largest = np.abs(gradient(PARAMS, X)["W"]).max()
    assert f"the largest entry of D_W loss is {largest:.6g}," in texts[3].replace("-", "")
    assert posed.hint(99) == texts[-1]
    with pytest.raises(InvalidOptionError, match="number=0; wanted 1 or more"):
        posed.hint(0)


@pytest.mark.slow
def test_a_jacobian_as_an_exercise():
    posed = blockjac.exercise(nn.softmax, T)
    assert "D_Z softmax = δ[i,i'] δ[j,j']" in posed.solution()
    assert "δ" in posed.hint(2)
    verdict = posed.check(lambda Z: np.stack([np.diag(z) for z in Z]))
    assert verdict.mistakes[0] == "missing delta"
    assert posed.check(nn.jacobians.softmax_Z)


def test_no_function():
    with pytest.raises(DifferentiationTypeError, match="callable value for blockjac"):
        blockjac.exercise(T, T)
