import csv
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac import nn
from blockjac.data import one_hot, split, wisconsin
from blockjac.optimize import Backtracking, Status, backtrack, descent

WISCONSIN, _ = split(wisconsin(), 400)
TARGETS = one_hot(WISCONSIN.labels, 2)


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


@jax.custom_vjp
def backwards(x):
    return 0.5 * jnp.sum(x**2)


backwards.defvjp(lambda x: (backwards(x), x), lambda x, q: (-q * x,))


@pytest.mark.slow
def test_it_is_one_line_search_after_the_other():
    x, rows = jnp.array([-1.2, 1.0]), []
    for _ in range(20):
        gradient = jax.grad(rosenbrock)(x)
        found = backtrack(rosenbrock, x, -gradient, gradient)
        rows.append((found.value, jnp.linalg.norm(gradient), found.step, found.trials))
        x = found.params
    result = descent(rosenbrock, jnp.array([-1.2, 1.0]), steps=20)
    trace = result.trace
    expected = [np.array(column) for column in zip(*rows, strict=True)]
    for column, wanted in zip(
        (trace.loss, trace.gradient_norm, trace.step, trace.trials), expected, strict=True
    ):
        np.testing.assert_allclose(column, wanted, rtol=1e-9)
    np.testing.assert_allclose(result.params, x, rtol=1e-9)
    assert result.status == Status.FOUND
    assert result.message == "all 20 steps were made"


def test_the_hundred_steps_of_the_wisconsin_network():
    params = nn.initial_params(30, 20, 2)
    result = descent(
        nn.loss,
        params,
        WISCONSIN.X,
        TARGETS,
        steps=100,
        metrics=lambda params, X, Y: nn.mistakes(params, X, WISCONSIN.labels),
    )
    trace = result.trace
    lines = [
        f"{step},{trace.loss[step]:.6f},{trace.gradient_norm[step]:.6f},"
        f"{100 * (1 - int(trace.metrics[step]) / 400):.1f}"
        for step in range(100)
    ]
    with (Path(__file__).parent / "wisconsin_trace.csv").open() as file:
        assert lines == [",".join(row) for row in csv.reader(file)][1:]


def test_the_loss_never_rises_and_the_result_is_its_last_row():
    result = descent(rosenbrock, jnp.array([-1.2, 1.0]), steps=50)
    losses = np.array([result.initial_loss, *result.trace.loss])
    assert (np.diff(losses) < 0).all()
    assert result.loss == result.trace.loss[-1]
    np.testing.assert_allclose(result.loss, rosenbrock(result.params), rtol=1e-9)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_gradient_of_the_wrong_sign_stops_the_descent_where_it_is(dtype):
    start = jnp.array([1.0, -2.0, 3.0], dtype)
    result = descent(backwards, start, steps=10)
    assert result.status == Status.NO_STEP
    assert len(result.trace) == 1
    assert result.trace.trials == 60
    np.testing.assert_array_equal(result.params, start)
    assert result.message == (
        "stopped at step 0, where no trial lowered the loss by enough; "
        "the params are the best so far"
    )


def test_a_descent_that_stops_keeps_what_it_reached():
    result = descent(lambda x: x**2, 3.0, steps=50)
    assert (result.params, result.loss) == (0, 0)
    assert result.status == Status.STATIONARY
    np.testing.assert_array_equal(result.trace.status, [Status.FOUND, Status.STATIONARY])
    np.testing.assert_array_equal(result.trace.step, [0.5, 0.0])


def test_a_gradient_that_is_not_finite_stops_the_descent():
    result = descent(lambda x: jnp.sqrt(x[0]) + x[1] ** 2, jnp.array([0.0, 1.0]), steps=3)
    assert result.status == Status.NON_FINITE
    np.testing.assert_array_equal(result.params, [0.0, 1.0])


@pytest.mark.parametrize("pauses", [(), (1,), (3, 7), range(1, 12), (2, 12)])
def test_pauses_change_nothing_but_the_calls(pauses):
    parts, options = [], {"steps": 12, "metrics": lambda x: {"x": x}}
    start = jnp.array([-1.2, 1.0])
    whole = descent(rosenbrock, start, **options)
    paused = descent(rosenbrock, start, **options, pauses=pauses, callback=parts.append)
    jax.tree.map(np.testing.assert_array_equal, whole, paused)
    ends = sorted({*pauses, 12})
    assert [len(part.trace) for part in parts] == np.diff([0, *ends]).tolist()
    for end, part in zip(ends, parts, strict=True):
        np.testing.assert_array_equal(part.params, whole.trace.metrics["x"][end - 1])
        assert part.loss == whole.trace.loss[end - 1]


def test_a_descent_that_stops_between_pauses_comes_back_once():
    parts = []
    result = descent(lambda x: x**2, 3.0, steps=50, pauses=[10, 20], callback=parts.append)
    assert [len(part.trace) for part in parts] == [2] == [len(result.trace)]


def test_a_step_costs_one_gradient_and_its_trials():
    values, gradients = [], []

    @jax.custom_vjp
    def loss(x):
        jax.debug.callback(lambda: values.append(1))
        return rosenbrock(x)

    def forward(x):
        jax.debug.callback(lambda: gradients.append(1))
        return rosenbrock(x), jax.grad(rosenbrock)(x)

    loss.defvjp(forward, lambda gradient, q: (q * gradient,))
    result = descent(loss, jnp.array([-1.2, 1.0]), steps=5)
    jax.effects_barrier()
    assert len(gradients) == 5
    # one at the start, one a trial, and the forward pass that a gradient may include
    assert len(values) <= 1 + int(result.trace.trials.sum()) + len(gradients)


def test_inside_jit_the_trace_has_all_its_rows():
    result = jax.jit(lambda x: descent(lambda x: x**2, x, steps=5))(3.0)
    assert result.trace.status.tolist() == [0, 2, 5, 5, 5]
    assert result.status == Status.STATIONARY
    not_finite = jax.jit(lambda x: descent(jnp.log, x, steps=2))(-1.0)
    assert not_finite.status == Status.NON_FINITE


def test_the_line_search_is_the_one_asked_for():
    search = Backtracking(first_step=1e-3, beta=0.1)
    result = descent(rosenbrock, jnp.array([-1.2, 1.0]), steps=3, line_search=search)
    assert result.trace.step[0] == 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0; wanted a whole number of at least 1"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"steps": 5, "pauses": [7]}, r"pauses are .*; wanted whole numbers from 1 to 5"),
        ({"steps": 5, "pauses": [0]}, r"pauses are \[0\]; wanted whole numbers from 1 to 5"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        descent(rosenbrock, jnp.zeros(2), **options)


def test_a_callback_inside_jit_is_refused():
    with pytest.raises(ValueError, match="a callback needs values: call descent outside jit"):
        jax.jit(lambda x: descent(rosenbrock, x, steps=2, callback=print))(jnp.zeros(2))


@pytest.mark.parametrize("start", [jnp.nan, -1.0])
def test_a_start_of_no_finite_loss_is_refused(start):
    with pytest.raises(ValueError, match="the loss at the params given is nan; wanted a finite"):
        descent(jnp.log, start, steps=3)


def test_parameters_that_are_not_real_are_named():
    with pytest.raises(TypeError, match=r"params\['n'\] is int64; wanted real numbers"):
        descent(lambda p: p["x"] * p["n"], {"x": 1.0, "n": np.arange(1)}, steps=2)
    with pytest.raises(TypeError, match=r"params is complex128; wanted real numbers"):
        descent(jnp.abs, 1j, steps=2)


def test_a_loss_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match=r"the loss gives float64\[2\]; wanted one real number"):
        descent(lambda x: x, jnp.zeros(2), steps=2)
