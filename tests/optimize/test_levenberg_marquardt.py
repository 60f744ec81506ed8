import csv
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.optimize import curve_fit, least_squares
from support.least_squares_problems import PROBLEMS, bundle, curve

import blockjac
from blockjac.errors import (
    ArgumentError,
    DenseTooLargeError,
    InvalidDataError,
    InvalidOptionError,
    NonFiniteLossError,
    ParameterTypeError,
)
from blockjac.optimize import Stop, implicit_derivatives, levenberg_marquardt

EXACT = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-12}
ROBUST = ("soft_l1", "huber", "cauchy", "arctan")


def flat(residuals, start, data):
    """The same problem as SciPy wants it: of one vector, with a dense Jacobian of JAX."""
    vector, unravel = ravel_pytree(start)

    @jax.jit
    def function(vector):
        return ravel_pytree(residuals(unravel(vector), *data))[0]

    return function, np.asarray(vector), jax.jit(jax.jacfwd(function))


def by_scipy(residuals, start, data, **options):
    function, vector, jacobian = flat(residuals, start, data)
    return least_squares(function, vector, jac=jacobian, x_scale="jac", **EXACT | options)


# The answers of SciPy


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_it_finds_what_scipy_finds(name):
    residuals, start, data = PROBLEMS[name](0)
    fit = levenberg_marquardt(residuals, start, *data, **EXACT)
    assert jax.tree.structure(fit.params) == jax.tree.structure(start)
    function, _, jacobian = flat(residuals, start, data)
    x = ravel_pytree(fit.params)[0]
    r, J = function(x), jacobian(x)
    wanted = by_scipy(residuals, start, data)
    np.testing.assert_allclose(fit.cost, wanted.cost, rtol=1e-9)
    np.testing.assert_allclose(x, wanted.x, rtol=1e-5, atol=1e-6)
    gradient = jnp.max(jnp.abs(J.T @ r))
    assert gradient < 1e-6
    np.testing.assert_allclose(fit.gradient_norm, gradient, atol=1e-9)
    np.testing.assert_allclose(ravel_pytree(fit.residuals())[0], r, atol=1e-12)
    np.testing.assert_allclose(fit.normal_matrix().dense(), J.T @ J, rtol=1e-9, atol=1e-9)
    inverse = np.linalg.inv(J.T @ J)
    variance = np.sum(r**2) / (J.shape[0] - J.shape[1])
    np.testing.assert_allclose(fit.covariance(), variance * inverse, rtol=1e-5, atol=1e-9)
    errors = ravel_pytree(fit.standard_errors(sigma=0.5))[0]
    np.testing.assert_allclose(errors, 0.5 * np.sqrt(np.diag(inverse)), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ROBUST)
@pytest.mark.parametrize("name", ["arrow", "bundle"])
def test_robust_losses_of_larger_problems(name, loss):
    check_robust(name, loss)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ROBUST)
def test_robust_losses_find_what_scipy_finds(loss):
    check_robust("curve", loss)


def check_robust(name, loss):
    residuals, start, data = PROBLEMS[name](0)
    *places, measured = data
    measured = np.array(measured)
    measured[::7] += 0.5  # outliers
    data = (*places, measured)
    start = levenberg_marquardt(residuals, start, *data, loss="soft_l1", f_scale=0.05).params
    fit = levenberg_marquardt(
        residuals, start, *data, loss=loss, f_scale=0.1, max_steps=1000, **EXACT
    )
    wanted = by_scipy(residuals, start, data, loss=loss, f_scale=0.1, max_nfev=2000)
    np.testing.assert_allclose(fit.cost, wanted.cost, rtol=1e-8)
    np.testing.assert_allclose(ravel_pytree(fit.params)[0], wanted.x, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "loss"),
    [((20, 2), "soft_l1"), ((20, 2), "huber"), ((20, 1), "cauchy"), ((5, 2, 4), "arctan")],
)
def test_the_length_of_a_vector_counts_as_one_residual(shape, loss):
    """The oracle is SciPy's loss of the lengths, which has the same cost."""
    random = np.random.default_rng(0)
    values = random.normal(size=shape)
    values.flat[0] = 30.0
    axis = 1

    def residuals(center):
        return values - center

    def lengths(center):
        return np.sqrt(np.sum((values - center) ** 2, axis=axis)).ravel()

    start = np.zeros((shape[1],) + (1,) * (len(shape) - 2))
    fit = levenberg_marquardt(residuals, start, loss=loss, loss_axis=axis, max_steps=500, **EXACT)
    wanted = least_squares(
        lambda x: lengths(x.reshape(start.shape)), start.ravel(), loss=loss, **EXACT
    )
    np.testing.assert_allclose(fit.cost, wanted.cost, rtol=1e-9)
    np.testing.assert_allclose(np.ravel(fit.params), wanted.x, rtol=1e-5, atol=1e-6)


# Certified values of NIST, https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml


def cubic_over_cubic(b, x):
    over = b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3
    return over / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)


MODELS = {
    "Misra1a": lambda b, x: b[0] * (1 - jnp.exp(-b[1] * x)),
    "Hahn1": cubic_over_cubic,
    "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "MGH10": lambda b, x: b[0] * jnp.exp(b[1] / (x + b[2])),
    "Thurber": cubic_over_cubic,
    "Rat43": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)) ** (1 / b[3]),
    "Eckerle4": lambda b, x: b[0] / b[1] * jnp.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
}

# Of each parameter the two starting values, the certified one and its standard deviation, and then
# the certified residual sum of squares.
CERTIFIED = {
    "Misra1a": (
        [500, 250, 2.3894212918e02, 2.7070075241e00],
        [0.0001, 0.0005, 5.5015643181e-04, 7.2668688436e-06],
        1.2455138894e-01,
    ),
    "Hahn1": (
        [10, 1, 1.0776351733e00, 1.7070154742e-01],
        [-1, -0.1, -1.2269296921e-01, 1.2000289189e-02],
        [0.05, 0.005, 4.0863750610e-03, 2.2508314937e-04],
        [-0.00001, -0.000001, -1.4262662514e-06, 2.7578037666e-07],
        [-0.05, -0.005, -5.7609940901e-03, 2.4712888219e-04],
        [0.001, 0.0001, 2.4053735503e-04, 1.0449373768e-05],
        [-0.000001, -0.0000001, -1.2314450199e-07, 1.3027335327e-08],
        1.5324382854e00,
    ),
    "MGH09": (
        [25, 0.25, 1.9280693458e-01, 1.1435312227e-02],
        [39, 0.39, 1.9128232873e-01, 1.9633220911e-01],
        [41.5, 0.415, 1.2305650693e-01, 8.0842031232e-02],
        [39, 0.39, 1.3606233068e-01, 9.0025542308e-02],
        3.0750560385e-04,
    ),
    "MGH10": (
        [2, 0.02, 5.6096364710e-03, 1.5687892471e-04],
        [400000, 4000, 6.1813463463e03, 2.3309021107e01],
        [25000, 250, 3.4522363462e02, 7.8486103508e-01],
        8.7945855171e01,
    ),
    "Thurber": (
        [1000, 1300, 1.2881396800e03, 4.6647963344e00],
        [1000, 1500, 1.4910792535e03, 3.9571156086e01],
        [400, 500, 5.8323836877e02, 2.8698696102e01],
        [40, 75, 7.5416644291e01, 5.5675370270e00],
        [0.7, 1, 9.6629502864e-01, 3.1333340687e-02],
        [0.3, 0.4, 3.9797285797e-01, 1.4984928198e-02],
        [0.03, 0.05, 4.9727297349e-02, 6.5842344623e-03],
        5.6427082397e03,
    ),
    "Rat43": (
        [100, 700, 6.9964151270e02, 1.6302297817e01],
        [10, 5, 5.2771253025e00, 2.0828735829e00],
        [1, 0.75, 7.5962938329e-01, 1.9566123451e-01],
        [1, 1.3, 1.2792483859e00, 6.8761936385e-01],
        8.7864049080e03,
    ),
    "Eckerle4": (
        [1, 1.5, 1.5543827178e00, 1.5408051163e-02],
        [10, 5, 4.0888321754e00, 4.6803020753e-02],
        [500, 450, 4.5154121844e02, 4.6800518816e-02],
        1.4635887487e-03,
    ),
}


def nist(name):
    with (Path(__file__).parent / "nist" / f"{name}.csv").open() as file:
        rows = [list(map(float, row)) for row in list(csv.reader(file))[1:]]
    y, x = np.array(rows).T
    return x, y


@pytest.mark.slow
@pytest.mark.parametrize("name", CERTIFIED)
def test_certified_values_of_nist(name):
    *rows, sum_of_squares = CERTIFIED[name]
    starts, others, values, deviations = np.array(rows).T
    x, y = nist(name)
    # From the first start MGH10 follows a valley along which b1 goes to 0.
    for start in (others,) if name == "MGH10" else (starts, others):
        fit = levenberg_marquardt(
            lambda b, x, y: MODELS[name](b, x) - y, start, x, y, max_steps=2000, **EXACT
        )
        np.testing.assert_allclose(fit.params, values, rtol=1e-6)
        np.testing.assert_allclose(2 * fit.cost, sum_of_squares, rtol=1e-9)
        np.testing.assert_allclose(fit.standard_errors(), deviations, rtol=1e-5)


# Uncertainties


@pytest.mark.slow
def test_standard_errors_are_those_of_curve_fit_and_lmfit():
    lmfit = pytest.importorskip("lmfit", reason="lmfit is a client, and not always installed")
    random = np.random.default_rng(0)
    x = np.linspace(0.0, 10.0, 80)
    y = 5 * np.exp(-((x - 4) ** 2) / 3) + 0.2 * random.normal(size=80)

    def gaussian(x, height, center, width):
        return height * np.exp(-((x - center) ** 2) / width)

    def residuals(p, x, y):
        return p["height"] * jnp.exp(-((x - p["center"]) ** 2) / p["width"]) - y

    start = {"height": 3.0, "center": 5.0, "width": 2.0}
    fit = levenberg_marquardt(residuals, start, x, y, **EXACT)
    values, covariance = curve_fit(gaussian, x, y, list(start.values()), xtol=1e-14)
    model = lmfit.Model(gaussian).fit(y, x=x, **start)
    errors = fit.standard_errors()
    for number, name in enumerate(start):
        np.testing.assert_allclose(fit.params[name], values[number], rtol=1e-6)
        np.testing.assert_allclose(errors[name], np.sqrt(covariance[number, number]), rtol=1e-4)
        np.testing.assert_allclose(fit.params[name], model.params[name].value, rtol=1e-5)
        np.testing.assert_allclose(errors[name], model.params[name].stderr, rtol=1e-3)
    order = [list(start).index(name) for name in sorted(start)]  # as JAX flattens a dict
    np.testing.assert_allclose(fit.covariance(), covariance[np.ix_(order, order)], rtol=1e-3)


@pytest.mark.slow
def test_points_and_cameras_are_solved_by_schurs_complement():
    residuals, start, data = bundle(0, cameras=5, points=300)
    fit = levenberg_marquardt(residuals, start, *data)
    assert fit.success
    assert "Schur complement: 300 systems" in fit.factors().method


@pytest.mark.slow
def test_the_same_residual_gives_scipy_its_sparse_jacobian():
    residuals, start, data = PROBLEMS["chain"](0)
    function, vector, _ = flat(residuals, start, data)
    wanted = least_squares(function, vector, jac=blockjac.sparse_jacobian(function))
    fit = levenberg_marquardt(residuals, start, *data)
    np.testing.assert_allclose(fit.cost, wanted.cost, rtol=1e-7)


# How a fit goes and stops


@pytest.mark.slow
def test_the_cost_never_rises_and_the_trace_tells_each_step():
    residuals, start, data = curve(0)
    fit = levenberg_marquardt(residuals, start, *data)
    costs = np.array([fit.initial_cost, *fit.trace.cost])
    assert (np.diff(costs) <= 0).all()
    assert fit.cost == fit.trace.cost[-1]
    assert len(fit.trace) == len(fit.trace.damping) == len(fit.trace.step_norm)
    assert fit.evaluations == 2 + len(fit.trace) + np.sum(fit.trace.trials)
    np.testing.assert_allclose(fit.initial_cost, np.sum(residuals(start, *data) ** 2) / 2)
    assert fit.message.startswith(f"stopped after {len(fit.trace)} steps: ")


@pytest.mark.slow
def test_the_units_of_parameters_do_not_matter():
    residuals, start, data = curve(0)
    units = {"height": 1e6, "rate": 1e-4}

    def scaled(params, *data):
        return residuals({name: part / units[name] for name, part in params.items()}, *data)

    fit = levenberg_marquardt(residuals, start, *data, xtol=0)
    other = levenberg_marquardt(
        scaled, {name: part * units[name] for name, part in start.items()}, *data, xtol=0, gtol=0
    )
    steps = min(len(fit.trace), len(other.trace))
    np.testing.assert_allclose(fit.trace.cost[:steps], other.trace.cost[:steps], rtol=1e-5)


@pytest.mark.slow
def test_steps_follow_the_formulas():
    """Two steps in NumPy, by the dense normal equations and Nielsen's rule."""
    residuals, start, data = curve(1)
    function, x, jacobian = flat(residuals, start, data)
    damping, growth, D, costs = 1e-3, 2.0, 0.0, []
    while len(costs) < 6:
        r, J = np.asarray(function(x)), np.asarray(jacobian(x))
        A, g = J.T @ J, J.T @ r
        D = np.maximum(D, np.diag(A))
        while True:
            h = -np.linalg.solve(A + damping * np.diag(D), g)
            decrease = (np.sum(r**2) - np.sum(function(x + h) ** 2)) / 2
            ratio = decrease / (h @ (damping * D * h - g) / 2)
            if decrease > 0:
                break
            damping, growth = damping * growth, 2 * growth
        x, damping, growth = x + h, damping * max(1 / 3, 1 - (2 * ratio - 1) ** 3), 2.0
        costs.append(np.sum(function(x) ** 2) / 2)
    fit = levenberg_marquardt(residuals, start, *data, max_steps=6)
    np.testing.assert_allclose(fit.trace.cost, costs, rtol=1e-6)
    np.testing.assert_allclose(ravel_pytree(fit.params)[0], x, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"ftol": 1e-2, "xtol": 0, "gtol": 0}, Stop.FTOL),
        ({"ftol": 0, "xtol": 1e-2, "gtol": 0}, Stop.XTOL),
        ({"ftol": 0, "xtol": 0, "gtol": 1e-2}, Stop.GTOL),
        ({"ftol": 0, "xtol": 0, "gtol": 0, "max_steps": 2}, Stop.MAX_STEPS),
    ],
)
def test_each_tolerance_stops_the_fit(options, status):
    residuals, start, data = curve(0)
    fit = levenberg_marquardt(residuals, start, *data, **options)
    assert fit.status == status
    assert fit.success == (status != Stop.MAX_STEPS)
    assert status.message in fit.message
    assert len(fit.trace) <= 20


@pytest.mark.slow
def test_a_start_at_the_minimum_makes_no_step():
    fit = levenberg_marquardt(lambda x: x - 1.0, jnp.ones(3))
    assert (fit.status, len(fit.trace), fit.cost) == (Stop.GTOL, 0, 0)


def test_a_step_to_residuals_that_are_not_finite_is_not_accepted():
    def residuals(x):
        return jnp.log(x) + 3.0  # the first step of Gauss and Newton leads below 0

    fit = levenberg_marquardt(residuals, jnp.array([1.0, 2.0]), damping=1e-9)
    assert fit.trace.trials[0] > 1
    assert np.isfinite(fit.trace.cost).all()
    np.testing.assert_allclose(fit.params, np.exp(-3.0), rtol=1e-6)


def test_a_fit_that_finds_nothing_stays_where_it_is():
    @jax.custom_jvp
    def f(x):
        return jnp.where(x == 1.0, x, jnp.nan)

    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0]))
    fit = levenberg_marquardt(f, jnp.array([1.0, 1.0]))
    assert fit.status == Stop.NO_STEP
    assert not fit.success
    np.testing.assert_array_equal(fit.params, [1.0, 1.0])
    assert fit.message == (
        "stopped after 1 steps: no step that was tried led to a finite and lower objective"
    )


def test_a_jacobian_of_the_wrong_sign_is_not_followed():
    @jax.custom_jvp
    def f(x):
        return 2 * x

    f.defjvp(lambda primals, tangents: (f(*primals), -2 * tangents[0]))
    fit = levenberg_marquardt(f, jnp.array([1.0]))
    assert fit.cost == fit.initial_cost
    np.testing.assert_array_equal(fit.params, [1.0])


def test_a_jacobian_that_is_not_finite_stops_the_fit():
    fit = levenberg_marquardt(lambda x: jnp.sqrt(x) + 1, jnp.array([0.0, 1.0]))
    assert fit.status == Stop.NON_FINITE
    np.testing.assert_array_equal(fit.params, [0.0, 1.0])


def test_parameters_that_nothing_depends_on_stay():
    def residuals(params):
        return params["used"] ** 2 - 2.0

    start = {"unused": jnp.array([3.0, 4.0]), "used": jnp.ones(2)}
    fit = levenberg_marquardt(residuals, start)
    np.testing.assert_array_equal(fit.params["unused"], start["unused"])
    np.testing.assert_allclose(fit.params["used"], np.sqrt(2))


def test_fewer_residuals_than_parameters():
    fit = levenberg_marquardt(lambda x: jnp.sum(x**2, keepdims=True) - 4, jnp.ones(5))
    assert fit.cost < 1e-15
    with pytest.raises(InvalidDataError, match="1 residuals cannot tell the errors of 5 param"):
        fit.standard_errors()


# JAX


@pytest.mark.slow
def test_single_precision_stops_at_its_own_rounding():
    residuals, start, data = curve(0)
    single = partial(jax.tree.map, partial(jnp.asarray, dtype=jnp.float32))
    fit = levenberg_marquardt(residuals, single(start), *single(data))
    wanted = by_scipy(residuals, start, data)
    assert fit.success
    assert ravel_pytree(fit.params)[0].dtype == jnp.float32
    np.testing.assert_allclose(fit.cost, wanted.cost, rtol=1e-3)


@pytest.mark.slow
def test_it_works_inside_jit_and_vmap():
    residuals, start, (x, _) = curve(0)
    targets = np.stack([curve(seed)[2][1] for seed in range(3)])

    @jax.jit
    @jax.vmap
    def fits(y):
        fit = levenberg_marquardt(residuals, start, x, y, max_steps=30)
        return fit.params, fit.status, fit.trace

    params, status, trace = fits(targets)
    assert trace.cost.shape == (3, 30)
    for number, y in enumerate(targets):
        wanted = levenberg_marquardt(residuals, start, x, y)
        assert Stop.GTOL <= status[number] <= Stop.FTOL_AND_XTOL
        np.testing.assert_allclose(params["rate"][number], wanted.params["rate"], rtol=1e-4)


@pytest.mark.slow
def test_what_a_fit_out_of_jit_and_vmap_says():
    residuals, start, (x, y) = curve(0)
    spoiled = np.stack([y, np.full_like(y, np.nan), y])
    alone = levenberg_marquardt(residuals, start, x, y)
    assert alone.success is True
    out_of_jit = jax.jit(lambda y: levenberg_marquardt(residuals, start, x, y))(y)
    assert len(out_of_jit.trace) == 100  # rows, and as many steps as without jit
    assert out_of_jit.message == alone.message
    many = jax.vmap(lambda y: levenberg_marquardt(residuals, start, x, y))(spoiled)
    assert many.success.tolist() == [True, False, True]
    assert many.message.splitlines()[1].startswith("1 of 3 fits: the residuals or their Jac")
    inside = jax.jit(lambda y: levenberg_marquardt(residuals, start, x, y).success)
    assert inside(y)
    with pytest.raises(ArgumentError, match="not known while it is traced"):
        jax.jit(lambda y: levenberg_marquardt(residuals, start, x, y).message)(y)


# Derivatives of a fit by its data: those of the equation that its minimum fulfils


def derivative_of_the_minimum(residuals, found, y, rho):
    """Of the parameters by y, from dense Hessians of JAX at the minimum."""
    vector, unravel = ravel_pytree(found)

    def cost(vector, y):
        return jnp.sum(rho(residuals(unravel(vector), y) ** 2)) / 2

    by_params, by_data = jax.jacfwd(jax.grad(cost), (0, 1))(vector, y)
    return -np.linalg.solve(by_params, by_data)


@pytest.mark.slow
@pytest.mark.parametrize("jacobian", [jax.jacfwd, jax.jacrev, blockjac.jacobian])
@pytest.mark.parametrize("is_closure", [False, True])
@pytest.mark.parametrize("loss", ["linear", "cauchy"])
def test_derivatives_by_the_data(jacobian, is_closure, loss):
    residuals, start, (x, y) = curve(0)

    def of_data(p, y):
        return residuals(p, x, y)

    def fitted(y):
        options = {"loss": loss, **EXACT}
        if is_closure:
            fit = levenberg_marquardt(lambda p: of_data(p, y), start, **options)
        else:
            fit = levenberg_marquardt(of_data, start, y, **options)
        return ravel_pytree(fit.params)[0]

    found = ravel_pytree(start)[1](fitted(y))
    rho = jnp.log1p if loss == "cauchy" else (lambda z: z)
    wanted = derivative_of_the_minimum(of_data, found, y, rho)
    np.testing.assert_allclose(jacobian(fitted)(y), wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_a_program_without_derivatives_has_no_hessian(monkeypatch):
    asked = []
    monkeypatch.setattr(
        implicit_derivatives,
        "block_hessian",
        lambda *options: asked.append(options) or blockjac.block_hessian(*options),
    )

    def fit(y):
        return levenberg_marquardt(lambda p: p * jnp.arange(1.0, 4.0) - y, 1.0).params

    y = jnp.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(jax.jit(fit)(y), 17 / 14)
    assert not asked
    np.testing.assert_allclose(jax.jit(jax.grad(fit))(y), np.arange(1.0, 4.0) / 14)
    assert asked


@pytest.mark.slow
def test_derivatives_do_not_depend_on_the_start():
    """A fit that starts at its minimum makes no step; its minimum moves with the data."""
    x, start = np.linspace(0, 2, 9), {"a": 2.0, "b": np.array([1.0])}
    target = 2.0 * np.exp(-x)

    def fit(y, a=2.0):
        def residuals(p):
            return p["a"] * jnp.exp(-p["b"] * x) - y

        return levenberg_marquardt(residuals, {**start, "a": a}, max_steps=20)

    assert len(fit(target).trace) == 0
    J = np.stack([np.exp(-x), -2.0 * x * np.exp(-x)], axis=1)
    derivatives = jax.jit(jax.jacrev(lambda y: fit(y).params))(target)
    np.testing.assert_allclose(derivatives["a"], np.linalg.pinv(J)[0], atol=1e-12)
    np.testing.assert_allclose(derivatives["b"], np.linalg.pinv(J)[1:], atol=1e-12)
    assert jax.grad(lambda a: fit(target, a).params["a"])(1.5) == 0
    moved = target + 0.1 * np.cos(5 * x)
    slope = jax.grad(lambda y: fit(y).cost)(moved)
    np.testing.assert_allclose(slope, -fit(moved).residuals(), atol=1e-7)
    both = jax.vmap(jax.grad(lambda y: fit(y).params["a"]))(np.stack([target, moved]))
    np.testing.assert_allclose(both[0], derivatives["a"], atol=1e-12)


@pytest.mark.slow
def test_derivatives_where_residuals_do_not_determine_all():
    x, y = np.linspace(1, 2, 5), np.array([1.0, 3.0, 2.0, 4.0, 5.0])

    def fit(y):
        def residuals(p):
            return (p["a"] + p["b"]) * x - y

        return levenberg_marquardt(residuals, {"a": 1.0, "b": 3.0, "c": jnp.ones(2)})

    slopes = jax.jacrev(lambda y: fit(y).params)(y)
    for name in "ab":  # the shortest of all that move the sum
        np.testing.assert_allclose(slopes[name], x / (x @ x) / 2, rtol=1e-4)
    np.testing.assert_array_equal(slopes["c"], 0)
    np.testing.assert_allclose(jax.grad(lambda y: fit(y).cost)(y), -fit(y).residuals(), rtol=1e-6)


@pytest.mark.slow
def test_derivatives_of_an_ill_conditioned_fit():
    """Against the pseudoinverse of the powers, from their singular values."""
    x = np.linspace(0, 1, 40)
    powers = x[:, None] ** np.arange(8)
    assert np.linalg.cond(powers.T @ powers) > 1e10

    def fitted(y):
        return levenberg_marquardt(lambda p: powers @ p - y, np.zeros(8), **EXACT).params

    wanted = np.linalg.pinv(powers)
    np.testing.assert_allclose(jax.jacrev(fitted)(np.sin(x)), wanted, atol=1e-4 * abs(wanted).max())


@pytest.mark.slow
def test_integers_among_the_data_are_read_anew_at_each_call():
    def residuals(x, places, y):
        return x[places] - y

    y = jnp.array([1.0, 2.0, 3.0])
    for places in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        fit = levenberg_marquardt(residuals, jnp.zeros(3), np.array(places), y)
        np.testing.assert_allclose(np.asarray(fit.params)[places], y, rtol=1e-6)


def test_data_may_be_numbers_and_options_of_python():
    def residuals(x, power, scale, name):
        return scale * (x**power - (8.0 if name == "cube" else 4.0))

    fit = levenberg_marquardt(residuals, 1.0, 3, 0.5, "cube")
    np.testing.assert_allclose(fit.params, 2.0, rtol=1e-6)


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": 0}, "max_steps is 0; wanted a whole number of at least 1"),
        ({"ftol": -1.0}, "ftol is -1.0; wanted a number from 0"),
        ({"xtol": 2.0}, "xtol is 2.0; wanted a number from 0"),
        ({"gtol": float("nan")}, "gtol is nan; wanted a number from 0"),
        ({"damping": 0.0}, "damping is 0.0; wanted a positive finite number"),
        ({"loss": "hubert"}, "loss is 'hubert'; wanted one of 'linear', 'soft_l1', 'huber'"),
        ({"f_scale": 0.0}, "f_scale is 0.0; wanted a positive finite number"),
        ({"f_scale": np.ones(3)}, "f_scale is .*; wanted a positive finite number"),
        ({"max_steps": "ten"}, "max_steps is ten; wanted a whole number"),
        ({"ftol": None}, "ftol is None; wanted a number from 0, which leaves it out"),
        ({"damping": "auto"}, "damping is auto; wanted a positive finite number"),
        ({"loss_axis": 1}, r"loss_axis is 1, but residuals\(params\) has shape \(3,\)"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(InvalidOptionError, match=message):
        levenberg_marquardt(lambda x: x, jnp.ones(3), **options)


def test_residuals_come_first():
    with pytest.raises(ArgumentError, match=r"must be a function .* of type dict; the params come"):
        levenberg_marquardt({"x": 1.0}, lambda p: p["x"])


@pytest.mark.slow
def test_residuals_that_are_not_finite_at_the_start_are_named():
    def residuals(x):
        return {"good": x, "bad": jnp.log(x - 1.0)}

    message = r"residuals\(params\)\['bad'\] has 1 of 2 numbers .* the first at \(1,\): nan"
    with pytest.raises(NonFiniteLossError, match=message):
        levenberg_marquardt(residuals, jnp.array([2.0, 0.0]))
    with pytest.raises(NonFiniteLossError, match=r"squares of the residuals .* are too large"):
        levenberg_marquardt(lambda x: 1e200 * x, jnp.ones(2))


def test_parameters_and_residuals_must_be_real():
    with pytest.raises(ParameterTypeError, match=r"params\['n'\] is int64; wanted real numbers"):
        levenberg_marquardt(lambda p: p["n"] * 1.0, {"n": 3})
    with pytest.raises(ParameterTypeError, match=r"residuals\(params\) is complex128"):
        levenberg_marquardt(lambda x: x + 1j, jnp.ones(2))
    with pytest.raises(ParameterTypeError, match="residuals gives no arrays"):
        levenberg_marquardt(lambda x: (), jnp.ones(2))
    with pytest.raises(ParameterTypeError, match="params has no arrays"):
        levenberg_marquardt(lambda p: jnp.ones(2), {})


def test_sigma_must_be_positive_and_the_covariance_must_fit():
    fit = levenberg_marquardt(lambda x: jnp.concatenate([x, x]) - 1, jnp.zeros(3))
    with pytest.raises(InvalidOptionError, match="sigma is 0; wanted a positive number"):
        fit.standard_errors(sigma=0)
    with pytest.raises(DenseTooLargeError, match="covariance of parameters"):
        fit.covariance(max_bytes=10)
