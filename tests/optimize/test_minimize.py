"""One verb for all solvers: where they end, why they stop, and what they are asked in between."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize as scipy_optimize

from blockjac import nn, optimize
from blockjac.data import one_hot, split, wisconsin
from blockjac.errors import (
    ArgumentError,
    InvalidOptionError,
    NonFiniteLossError,
    NonScalarLossError,
    ParameterTypeError,
)
from blockjac.optimize import ModelLoss, Stop, descent, minimize

START = jnp.array([-1.2, 1.0])
"""The usual start for Rosenbrock's function."""


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def outputs(x):
    """Rosenbrock's function is the sum of squares of these, as a model of one input, 10."""
    return jnp.stack([1 - x[0], 10 * (x[1] - x[0] ** 2)])


def squares(target, outputs):
    return jnp.sum((outputs - target) ** 2)


VALLEY = ModelLoss(outputs, squares)
"""The same function in two parts; its data are the target, 0."""

SOLVERS = {
    "Descent": optimize.Descent(),
    "as the lecture": optimize.Descent(growth=None),
    "GaussNewton": optimize.GaussNewton(),
    "LevenbergMarquardt": optimize.LevenbergMarquardt(),
    "geodesic": optimize.LevenbergMarquardt(is_geodesic=True),
    "adam": optimize.Optax(optax.adam(0.05)),
    **{
        method: optimize.SciPy(method)
        for method in (
            *("L-BFGS-B", "BFGS", "CG", "TNC", "SLSQP"),
            *("Newton-CG", "trust-ncg", "trust-krylov"),
        )
    },
}
COMPILED = {name: solver for name, solver in SOLVERS.items() if not hasattr(solver, "run")}
MONOTONE = ("Descent", "as the lecture", "GaussNewton", "LevenbergMarquardt", "geodesic")


def each(solvers):
    return pytest.mark.parametrize(
        "solver", [pytest.param(s, id=name) for name, s in solvers.items()]
    )


@each(SOLVERS)
def test_every_solver_finds_the_valley(solver):
    found = minimize(VALLEY, START, 0.0, solver=solver, max_steps=30_000, ftol=0, xtol=0, gtol=1e-5)
    np.testing.assert_allclose(found.params, [1, 1], atol=1e-3)
    gradient = jax.grad(rosenbrock)(found.params)
    assert found.status in (Stop.GTOL, Stop.NO_STEP)
    assert jnp.max(jnp.abs(gradient)) < 1e-4
    np.testing.assert_allclose(found.loss, rosenbrock(found.params), rtol=1e-10, atol=1e-20)
    assert len(found.trace) == found.steps
    if solver.__class__.__name__ != "Optax":
        assert found.loss == jnp.min(found.trace.loss)


@pytest.mark.parametrize("name", MONOTONE)
def test_losses_fall(name):
    found = minimize(VALLEY, START, 0.0, solver=SOLVERS[name], max_steps=40)
    losses = np.array([found.initial_loss, *found.trace.loss])
    assert np.all(np.diff(losses) < 0)
    assert found.loss == found.trace.loss[-1]


def test_gauss_newton_needs_few_steps():
    quick = minimize(VALLEY, START, 0.0, solver=optimize.LevenbergMarquardt())
    bent = minimize(VALLEY, START, 0.0, solver=optimize.LevenbergMarquardt(is_geodesic=True))
    for found in (quick, bent):
        assert found.success
        assert found.steps < 40


def test_the_lectures_descent_is_the_same():
    train, _ = split(wisconsin(), 400)
    params = nn.initial_params(30, 5, 2)
    data = (train.X, one_hot(train.labels, 2))
    lecture = descent(nn.loss, params, *data, steps=20)
    found = minimize(
        nn.loss,
        params,
        *data,
        solver=SOLVERS["as the lecture"],
        max_steps=20,
        ftol=0,
        xtol=0,
        gtol=0,
    )
    np.testing.assert_array_equal(found.trace.loss, lecture.trace.loss)
    np.testing.assert_array_equal(found.trace.trials, lecture.trace.trials)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, found.params, lecture.params))


# Why it stops


@pytest.mark.parametrize(
    ("tolerances", "stop"),
    [
        ({"ftol": 0.3, "xtol": 0, "gtol": 0}, Stop.FTOL),
        ({"ftol": 0, "xtol": 1e-2, "gtol": 0}, Stop.XTOL),
        ({"ftol": 0, "xtol": 0, "gtol": 0.1}, Stop.GTOL),
        ({"ftol": 0, "xtol": 0, "gtol": 0, "max_steps": 3}, Stop.MAX_STEPS),
        ({"ftol": 0, "xtol": 0, "gtol": 0, "max_evaluations": 7}, Stop.MAX_EVALUATIONS),
    ],
    ids=str,
)
@each({name: SOLVERS[name] for name in ("Descent", "LevenbergMarquardt", "L-BFGS-B")})
def test_each_test_stops(solver, tolerances, stop):
    found = minimize(VALLEY, START, 0.0, solver=solver, **tolerances)
    assert found.status == stop
    assert found.message == f"stopped after {found.steps} steps: {stop.message}"
    assert found.success == (stop in (Stop.FTOL, Stop.XTOL, Stop.GTOL))


@each(SOLVERS)
def test_nothing_is_done_where_the_gradient_is_zero(solver):
    found = (
        minimize(lambda x: jnp.sum(x**2), jnp.zeros(2), solver=solver)
        if (not hasattr(solver, "by"))
        else minimize(ModelLoss(lambda x: x, squares), jnp.zeros(2), 0.0, solver=solver)
    )
    assert (found.status, found.steps) == (Stop.GTOL, 0)


@each({**SOLVERS, "batches": optimize.Optax(optax.adam(0.05), batch_size=1)})
@pytest.mark.parametrize(
    "budget", [7, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3, 20))]
)
def test_the_budget_of_evaluations_is_never_exceeded(solver, budget):
    calls = []

    def counted(x, rows):
        jax.debug.callback(lambda value: calls.append(float(value)), x[0])
        return jnp.mean(rows) + rosenbrock(x)

    def parts(x, rows):
        jax.debug.callback(lambda value: calls.append(float(value)), x[0])
        return outputs(x)

    loss = ModelLoss(parts, squares) if hasattr(solver, "by") else counted
    data = (jnp.zeros(2), 0.0) if hasattr(solver, "by") else (jnp.zeros(2),)
    found = minimize(loss, START, *data, solver=solver, max_evaluations=budget, gtol=0)
    jax.effects_barrier()
    assert found.evaluations <= budget
    assert found.status == Stop.MAX_EVALUATIONS
    if getattr(solver, "method", None) in ("Newton-CG", "trust-ncg", "trust-krylov"):
        return  # their products with the Hessian evaluate the loss as well
    if not hasattr(solver, "by"):  # whose curvature looks at the outputs too
        assert len(calls) <= budget + 2  # a gradient may evaluate the loss besides its own value


def test_time_is_up():
    start = time.monotonic()
    found = minimize(
        rosenbrock, START, max_steps=10**7, max_seconds=0.5, ftol=0, xtol=0, gtol=0,
        solver=optimize.Optax(optax.sgd(1e-6)),
    )  # fmt: skip
    assert found.status == Stop.MAX_SECONDS
    assert time.monotonic() - start < 30
    assert len(found.trace) == found.steps > 0


# Pitfalls of line searches


@jax.custom_vjp
def backwards(x):
    return 0.5 * jnp.sum(x**2)


backwards.defvjp(lambda x: (backwards(x), x), lambda x, q: (-q * x,))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_gradient_of_the_wrong_sign_leads_nowhere(dtype):
    """In float32 `x - step * g` becomes x, which a test with `<=` accepts."""
    start = jnp.ones(3, dtype)
    found = minimize(backwards, start)
    assert (found.status, found.steps) == (Stop.NO_STEP, 1)
    np.testing.assert_array_equal(found.params, start)


def test_a_step_that_moves_nothing_is_not_accepted():
    """The loss is flat as far as float32 sees, and its slope is not."""
    found = minimize(lambda x: jnp.sum(x) * 1e-12 + 1.0, jnp.ones(3, jnp.float32), gtol=0)
    assert found.status == Stop.NO_STEP
    np.testing.assert_array_equal(found.params, jnp.ones(3))


@jax.custom_vjp
def still(x):
    return jnp.sum(x) * 0 + 1.0


still.defvjp(lambda x: (still(x), None), lambda _, q: (q * jnp.full(2, 1e-30),))


def test_a_zero_step_ends_the_search():
    found = minimize(still, jnp.ones(2), gtol=0)
    assert (found.status, found.steps) == (Stop.NO_STEP, 1)


def test_steps_grow_again():
    """The start is steep: its steps are short. The rest is so flat that short steps never end."""

    def loss(x):
        return jnp.logaddexp(1e3 * (x - 1), 0) + 1e-6 * x**2

    found = minimize(loss, 1.2, max_steps=200, ftol=0, xtol=0, gtol=1e-9)
    assert found.status == Stop.GTOL
    assert found.trace.step_norm[0] / 1e3 < 1e-2  # so long was the step, in gradients
    same = minimize(
        loss, 1.2, max_steps=200, ftol=0, xtol=0, gtol=1e-9, solver=SOLVERS["as the lecture"]
    )
    assert same.status == Stop.MAX_STEPS


@each({name: SOLVERS[name] for name in (*MONOTONE, "L-BFGS-B")})
def test_a_plateau_of_nan_is_passed(solver):
    """Long steps lead to where the root is not defined."""

    def model(x):
        return jnp.sqrt(x) - 0.1 * jnp.ones(2)

    found = minimize(ModelLoss(model, squares), jnp.full(2, 0.5), 0.0, solver=solver, max_steps=500)
    np.testing.assert_allclose(found.params, [0.01, 0.01], rtol=1e-3)
    assert np.all(np.isfinite(found.trace.loss))


def test_a_loss_that_is_nan_nearly_everywhere():
    found = minimize(lambda x: jnp.where(x == 1.0, x, jnp.nan), 1.0, gtol=0)
    assert found.status in (Stop.NO_STEP, Stop.GTOL, Stop.NON_FINITE)
    assert (found.params, found.loss) == (1.0, 1.0)


def test_the_best_trial_is_kept_not_the_last():
    """The second trial lowers the loss, by too little for Armijo; then the budget is spent."""

    def loss(x):
        return jnp.where(x > -0.2, x + 1.0, jnp.where(x > -0.7, 0.999, 5.0))

    search = optimize.Backtracking(alpha=0.9)
    solver = optimize.Descent(search)
    found = minimize(loss, 0.0, solver=solver, max_evaluations=4)
    assert (found.loss, found.params, found.evaluations) == (0.999, -0.5, 4)


def test_the_best_parameters_are_kept_where_the_loss_rises():
    solver = optimize.Optax(optax.sgd(1.001))  # steps over the minimum, ever further
    found = minimize(
        lambda x: jnp.sum(x**2) / 1 + 1,
        jnp.full(2, 1e-3),
        solver=solver,
        max_steps=20,
        xtol=0,
        ftol=0,
        gtol=0,
    )
    assert found.loss == found.initial_loss < found.trace.loss[-1]
    np.testing.assert_array_equal(found.params, jnp.full(2, 1e-3))


# In between


@each({name: SOLVERS[name] for name in ("Descent", "LevenbergMarquardt", "adam", "L-BFGS-B")})
@pytest.mark.parametrize("every", [1, 3])
def test_a_callback_sees_the_search(solver, every):
    seen = []
    found = minimize(
        VALLEY, START, 0.0, solver=solver, max_steps=10, callback=seen.append, callback_every=every
    )
    whole = minimize(VALLEY, START, 0.0, solver=solver, max_steps=10)
    np.testing.assert_array_equal(found.trace.loss, whole.trace.loss)
    steps = [int(result.steps) for result in seen]
    assert (
        steps
        == [*range(every, 10, every), *([10] if every == 1 or 10 % every else [])][: len(steps)]
    )
    assert len(steps) >= 10 // every
    assert all(result.status == Stop.RUNNING for result in seen[:-1])


@each({name: SOLVERS[name] for name in ("Descent", "L-BFGS-B")})
@pytest.mark.parametrize("way", ["returns", "raises"])
def test_a_callback_stops_the_search(solver, way):
    def callback(result):
        if result.steps < 4:
            return None
        if way == "raises":
            raise StopIteration
        return True

    found = minimize(rosenbrock, START, solver=solver, callback=callback)
    assert (found.status, found.steps, len(found.trace)) == (Stop.CALLBACK, 4, 4)
    assert found.message == "stopped after 4 steps: the callback asked for it"


@each({**COMPILED, "batches": optimize.Optax(optax.adam(0.05), batch_size=2)})
@pytest.mark.parametrize("stop", [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 11))])
def test_a_search_goes_on_bit_for_bit(solver, stop):
    X = jnp.linspace(-1.0, 1.0, 10).reshape(5, 2)
    loss = ModelLoss(lambda x, X: jnp.tanh(X @ x), lambda Y, Q: jnp.mean((Q - Y) ** 2))
    data = (X, jnp.sin(X[:, 0]))
    options = {"solver": solver, "ftol": 0, "xtol": 0, "gtol": 0}
    whole = minimize(loss, START, *data, max_steps=12, **options)
    part = minimize(loss, START, *data, max_steps=stop, **options)
    rest = minimize(loss, START, *data, max_steps=12, resume=part, **options)
    assert rest.steps == whole.steps
    assert rest.evaluations == whole.evaluations
    np.testing.assert_array_equal(rest.params, whole.params)
    losses = np.concatenate([part.trace.loss, rest.trace.loss])
    np.testing.assert_array_equal(losses, whole.trace.loss)


@each(COMPILED)
def test_it_compiles(solver):
    found = jax.jit(lambda x: minimize(VALLEY, x, 0.0, solver=solver, max_steps=15))(START)
    plain = minimize(VALLEY, START, 0.0, solver=solver, max_steps=15)
    np.testing.assert_allclose(found.params, plain.params, rtol=1e-9)
    assert len(found.trace) == 15
    assert found.steps == plain.steps


def test_metrics_are_stacked():
    def metrics(x):
        return {"product": x[0] * x[1]}

    for solver in (optimize.Descent(), optimize.SciPy()):
        found = minimize(rosenbrock, START, solver=solver, max_steps=5, metrics=metrics)
        assert found.trace.metrics["product"].shape == (5,)
        np.testing.assert_allclose(
            found.trace.metrics["product"][-1], jnp.prod(found.state.params), rtol=1e-12
        )


def test_a_jitted_loss_is_traced_once():
    traces = []

    @jax.jit
    def loss(x):
        traces.append(None)
        return rosenbrock(x)

    for start in (START, 2 * START):
        minimize(loss, start, max_steps=5)
        traces, counted = [], len(traces)
    assert counted == 0


# Trees, types and errors


def test_parameters_may_be_a_tree_of_several_types():
    def loss(params):
        return jnp.sum((params["a"] - 2) ** 2) + (params["b"][0] + 1.0) ** 2

    params = {"a": jnp.zeros(3, jnp.float32), "b": [1.0]}
    for solver in (optimize.Descent(), optimize.SciPy()):
        found = minimize(loss, params, solver=solver)
        np.testing.assert_allclose(found.params["a"], [2, 2, 2], rtol=1e-4)
        np.testing.assert_allclose(found.params["b"][0], -1, rtol=1e-4)
        assert found.params["a"].dtype == jnp.float32


def test_scipys_own_answer():
    theirs = scipy_optimize.minimize(
        lambda x: float(rosenbrock(x)), START, jac=jax.grad(rosenbrock), method="BFGS",
        options={"gtol": 1e-6},
    )  # fmt: skip
    ours = minimize(rosenbrock, START, solver=optimize.SciPy("BFGS"), ftol=0, xtol=0)
    assert (ours.steps, ours.evaluations) == (theirs.nit, theirs.nfev)
    np.testing.assert_allclose(ours.params, theirs.x, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_steps": 0}, InvalidOptionError, "max_steps is 0; wanted a whole number"),
        ({"max_steps": 2.5}, InvalidOptionError, r"max_steps is 2\.5; wanted a whole number"),
        ({"max_evaluations": -1}, InvalidOptionError, "max_evaluations is -1; wanted"),
        ({"gtol": 2}, InvalidOptionError, "gtol is 2; wanted a number from 0"),
        ({"max_seconds": 0}, InvalidOptionError, "max_seconds is 0; wanted a positive"),
        ({"callback_every": 0}, InvalidOptionError, "callback_every is 0; wanted a whole"),
        ({"callback": 3}, ArgumentError, "callback must be a function, but is of type int"),
        ({"resume": 3}, ArgumentError, "resume must be a result of minimize, but is of type int"),
        ({"solver": "adam"}, ArgumentError, "solver is of type str, which has no move"),
    ],
    ids=str,
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        minimize(rosenbrock, START, **options)


def test_bad_arguments_are_refused():
    with pytest.raises(ArgumentError, match=r"loss must be a function.*the params come second"):
        minimize(START, rosenbrock)
    with pytest.raises(NonScalarLossError, match=r"float64\[2\]; wanted one real number"):
        minimize(lambda x: x, START)
    with pytest.raises(ParameterTypeError, match="int64; wanted real numbers"):
        minimize(rosenbrock, jnp.arange(2))
    with pytest.raises(NonFiniteLossError, match="the loss at the params given is nan"):
        minimize(rosenbrock, START * jnp.nan)
    with pytest.raises(NonFiniteLossError, match="the loss at the params given is nan"):
        minimize(rosenbrock, START * jnp.nan, solver=optimize.SciPy())
    with pytest.raises(ArgumentError, match="GaussNewton needs to know the model's outputs"):
        minimize(rosenbrock, START, solver=optimize.GaussNewton())
    with pytest.raises(InvalidOptionError, match="call minimize outside jit"):
        jax.jit(lambda x: minimize(rosenbrock, x, callback=print))(START)
    with pytest.raises(InvalidOptionError, match="call minimize outside jit"):
        jax.jit(lambda x: minimize(rosenbrock, x, solver=optimize.SciPy()))(START)
    found = minimize(rosenbrock, START, solver=optimize.SciPy(), max_steps=2)
    with pytest.raises(ArgumentError, match="SciPy does not hand over what it remembers"):
        minimize(rosenbrock, START, solver=optimize.SciPy(), resume=found)
    with pytest.raises(ArgumentError, match="not known while it is traced"):
        jax.jit(lambda x: minimize(rosenbrock, x, max_steps=2).message)(START)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimize.Descent(growth=0.5), r"growth is 0\.5; wanted a number of at least 1"),
        (lambda: optimize.GaussNewton(damping=0), "damping is 0; wanted a positive finite"),
        (lambda: optimize.LevenbergMarquardt(by="lu"), "by is 'lu'; wanted 'auto', 'blocks'"),
        (lambda: optimize.SciPy("Powell"), "method is 'Powell'; wanted one of 'L-BFGS-B'"),
        (lambda: optimize.Optax(optax.sgd(1.0), 0), "batch_size is 0; wanted a whole number"),
    ],
)
def test_bad_solvers_are_refused(make, message):
    with pytest.raises(InvalidOptionError, match=message):
        make()
    with pytest.raises(ArgumentError, match="optimizer is of type int, which has no init"):
        optimize.Optax(3)
