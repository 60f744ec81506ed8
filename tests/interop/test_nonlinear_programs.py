"""Nonlinear programs: the derivatives are those of JAX, and each client really solves them."""

import contextlib
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import optimize

from blockjac import interop
from blockjac.errors import (
    ArgumentError,
    InvalidOptionError,
    NonScalarLossError,
    ParameterTypeError,
    ShapeMismatchError,
)
from nonlinear import power_flow, trajectories


def schittkowski(free=1.0):
    """Problem 71 of Hock and Schittkowski, in a tree."""

    def objective(x, weight):
        return weight * x["a"] * x["d"] * (x["a"] + jnp.sum(x["bc"])) + x["bc"][1]

    def constraints(x, _):
        everything = jnp.concatenate([x["a"][None], x["bc"], x["d"][None]])
        return {"product": jnp.prod(everything), "square": everything @ everything}

    return interop.nlp(
        objective,
        constraints,
        {"a": 1, "bc": np.array([5, 5]), "d": 1},
        bounds=(1.0, {"a": 5.0, "bc": np.array([5.0, 5.0]), "d": None}),
        constraint_bounds=({"product": 25, "square": 40}, {"product": None, "square": 40}),
        args=(free,),
    )


def rosenbrock():
    return interop.nlp(
        lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
        None,
        np.full(6, 0.5),
    )


def solved_by(client, program):
    """The solution, by the client of this name."""
    if client in ("trust-constr", "minimize_ipopt"):
        if client == "trust-constr":
            tight = {"xtol": 1e-12, "gtol": 1e-9, "barrier_tol": 1e-9, "maxiter": 2000}
            return optimize.minimize(**program.for_scipy(), method=client, options=tight).x
        cyipopt = pytest.importorskip("cyipopt", reason="has no wheel: it needs the IPOPT library")
        return cyipopt.minimize_ipopt(**program.for_minimize_ipopt()).x
    reason = {"cyipopt": "has no wheel: it needs the IPOPT library"}.get(client)
    module = pytest.importorskip(client, reason=reason)
    problem = module.Problem(**program.for_ipopt())
    problem.add_option("print_level", 0)
    problem.add_option("bound_relax_factor", 0.0)  # IPOPT would move the solution back to them
    x, info = problem.solve(program.x0)
    assert info["status"] == 0
    return x


CLIENTS = ["pounce", "cyipopt", "minimize_ipopt", "trust-constr"]


def assert_exact(program, x):
    """The callbacks at a point against JAX, as dense arrays."""
    programs = program._programs
    tree = programs.unravel(jnp.asarray(x))
    generator = np.random.default_rng(1)
    multipliers, factor = generator.normal(size=program.m), 0.7

    def flat(fun):
        return lambda x: fun(programs.unravel(x), *program.args)

    objective, constraints = flat(programs.fun), flat(programs.constrain)

    def lagrangian(x):
        return factor * objective(x) + multipliers @ constraints(x)

    np.testing.assert_allclose(program.objective(x), objective(jnp.asarray(x)), rtol=1e-13)
    np.testing.assert_allclose(program.gradient(x), jax.grad(objective)(x), atol=1e-11)
    np.testing.assert_allclose(program.constraints(x), constraints(jnp.asarray(x)), atol=1e-13)
    jacobian = np.zeros((program.m, program.n))
    places = program.jacobianstructure()
    assert len({*zip(*places, strict=True)}) == len(places[0])
    jacobian[places] = program.jacobian(x)
    np.testing.assert_allclose(jacobian, jax.jacfwd(constraints)(x), atol=1e-11)
    hessian = np.zeros((program.n, program.n))
    places = program.hessianstructure()
    assert (places[0] >= places[1]).all()
    hessian[places] = program.hessian(x, multipliers, factor)
    np.testing.assert_allclose(hessian, np.tril(jax.hessian(lagrangian)(x)), atol=1e-10)
    for array in (program.gradient(x), program.jacobian(x), program.constraints(x)):
        assert type(array) is np.ndarray
        assert array.dtype == np.float64
    assert jax.tree.structure(program.tree(x)) == jax.tree.structure(tree)


PROGRAMS = {
    "schittkowski": schittkowski,
    "rosenbrock": rosenbrock,
    "power flow": lambda: power_flow.power_flow(power_flow.synthetic_grid(14)),
    "swing-up": lambda: trajectories.swing_up(9),
    "rocket": lambda: trajectories.rocket(8),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("rocket", "swing-up") else ())
        for name in PROGRAMS
    ],
)
def test_derivatives_are_those_of_jax(name):
    program = PROGRAMS[name]()
    x = program.x0 + 0.1 * np.random.default_rng(0).uniform(size=program.n)
    assert_exact(program, x)


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_solve_a_small_program(client):
    program = schittkowski()
    x = solved_by(client, program)
    np.testing.assert_allclose(program.objective(x), 17.0140173, rtol=1e-6)
    np.testing.assert_allclose(program.tree(x)["bc"], [4.7429996, 3.8211500], rtol=1e-4)


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_solve_a_program_without_constraints(client):
    np.testing.assert_allclose(solved_by(client, rosenbrock()), 1.0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("client", ["pounce", "cyipopt"])
def test_the_power_flow_of_a_grid(client):
    grid = power_flow.synthetic_grid(30)
    program = power_flow.power_flow(grid)
    x = solved_by(client, program)
    values = program.constraints(x)
    assert (values > program.cl - 1e-6).all()
    assert (values < program.cu + 1e-6).all()
    state = program.tree(x)
    losses = float(jnp.sum(state["real"]) - grid.real_load.sum())
    assert 0 < losses < 0.2 * grid.real_load.sum()


def test_the_greatest_height_of_a_rocket():
    program = trajectories.rocket(100)
    assert abs(program.objective(solved_by("pounce", program)) + 1.01283) < 2e-4


def test_other_data_compile_nothing():
    traces = []

    def constraints(x, level):
        traces.append(level)
        return x[1:] * x[:-1] - level

    program = interop.nlp(lambda x, level: jnp.sum(x**2), constraints, np.ones(4), args=(2.0,))
    for level in (2.0, 3.0):
        other = program.with_args(level, x0=np.full(4, 1.5))
        x = solved_by("pounce", other)
        np.testing.assert_allclose(x[1:] * x[:-1], level, rtol=1e-7)
        if level == 2.0:
            count = len(traces)
    assert len(traces) == count


def test_other_data_must_be_alike():
    """Some solvers go on where a callback raises: pounce reports an invalid number."""
    program = interop.nlp(
        lambda x, data: jnp.sum(data["scale"] * x["u"] ** 2) + x["v"],
        None,
        {"u": np.ones(3), "v": 1.0},
        args=({"scale": np.ones(3)},),
    )
    whole = program.with_args({"scale": np.arange(3)}, x0=np.arange(4))  # floats, from integers
    assert whole.objective(whole.x0) == 1 + 2 * 2**2 + 3
    assert program.with_args({"scale": np.ones(3)}, x0={"u": np.zeros(3), "v": 7}).x0[3] == 7
    with pytest.raises(ShapeMismatchError, match=r"args\[0\]\['scale'\] is float64\[2\], but was"):
        program.with_args({"scale": np.ones(2)})
    with pytest.raises(ShapeMismatchError, match="is complex128"):
        program.with_args({"scale": np.ones(3) * 1j})
    with pytest.raises(ShapeMismatchError, match="args has the tree"):
        program.with_args()
    with pytest.raises(ShapeMismatchError, match="x0 has the tree"):
        program.with_args({"scale": np.ones(3)}, x0={"u": np.ones(4)})
    with pytest.raises(ShapeMismatchError, match="x0 has the tree"):
        program.with_args({"scale": np.ones(3)}, x0=np.ones(5))


def test_points_and_multipliers_that_do_not_fit():
    program = interop.nlp(lambda x: x @ x, lambda x: x[1:] ** 2, np.ones(3))
    np.testing.assert_allclose(program.jacobian([1, 2, 3]), [4, 6])
    np.testing.assert_allclose(program.gradient(np.ones(3, np.float32)), 2)
    hessian = program.hessian(np.ones(3, int), [1, 2], 1)
    np.testing.assert_allclose(hessian, [2, 4, 6])
    for call in (program.objective, program.jacobian, program.tree):
        with pytest.raises(ShapeMismatchError, match=r"x must be .* 3 numbers.*got shape \(1, 3\)"):
            call(np.ones((1, 3)))
    with pytest.raises(ShapeMismatchError, match=r"x must be a flat vector.*got \{'u'"):
        program.gradient({"u": 1.0})
    with pytest.raises(ShapeMismatchError, match=r"multipliers .* 2 numbers, one for each const"):
        program.hessian(np.ones(3), np.ones(3), 1.0)
    with pytest.raises(ShapeMismatchError, match="the multipliers must be"):
        program.multipliers(1.0)


def test_places_without_numbers():
    """None in a tree holds no numbers, of variables and of constraints."""
    program = interop.nlp(
        lambda x: x["u"] @ x["u"],
        lambda x: {"first": x["u"][0], "none": None},
        {"u": np.ones(2), "none": None},
        bounds=({"u": None, "none": None}, 4.0),
    )
    assert (program.n, program.m, program.ub.tolist()) == (2, 1, [4.0, 4.0])
    np.testing.assert_allclose(solved_by("pounce", program), 0.0, atol=1e-7)
    assert interop.nlp(jnp.sum, lambda _: None, np.ones(2)).m == 0


def test_values_that_are_not_finite_reach_the_solver():
    program = interop.nlp(
        lambda x: jnp.sum(x - jnp.log(x)), lambda x: jnp.sqrt(x) - 1, np.full(3, 4.0)
    )
    assert np.isnan(program.objective(-np.ones(3)))
    assert np.isnan(program.constraints(-np.ones(3))).all()
    np.testing.assert_allclose(solved_by("pounce", program), 1.0, rtol=1e-6)


def test_multipliers_in_the_tree_of_the_constraints():
    program = schittkowski()
    tree = program.multipliers(np.array([1.0, 2.0]))
    assert {name: float(value) for name, value in tree.items()} == {"product": 1.0, "square": 2.0}


def test_bounds_that_do_not_fit():
    def program(**options):
        return interop.nlp(lambda x: x["u"].sum(), lambda x: x["u"], {"u": np.ones(3)}, **options)

    assert program(bounds=None).lb.tolist() == [-np.inf] * 3
    assert program(bounds=(None, {"u": np.arange(3)})).ub.tolist() == [0, 1, 2]
    assert program(bounds=({"u": None}, None)).lb.tolist() == [-np.inf] * 3
    with pytest.raises(InvalidOptionError, match=r"must be a pair \(lower, upper\)"):
        program(bounds=3.0)
    with pytest.raises(InvalidOptionError, match=r"lower bound above the upper one, .* number 2"):
        program(bounds=(0.0, {"u": np.array([1.0, 2.0, -1.0])}))
    with pytest.raises(InvalidOptionError, match="constraint_bounds contains nan"):
        program(constraint_bounds=(np.nan, 0.0))
    with pytest.raises(ShapeMismatchError, match=r"upper side of bounds has .* \(2,\) for .* \(3,"):
        program(bounds=(None, {"u": np.ones(2)}))
    with pytest.raises(ShapeMismatchError, match="lower side of bounds must be a number or a tree"):
        program(bounds=({"v": 0.0}, None))
    with pytest.raises(InvalidOptionError, match=r"upper side of bounds must be real numbers.*'a'"):
        program(bounds=(None, "a"))
    with pytest.raises(InvalidOptionError, match="must be real numbers, but is 1j"):
        program(bounds=(1j, None))


def test_bounds_as_lists():
    def program(bounds):
        return interop.nlp(lambda x: x.sum(), None, np.ones(2), bounds=bounds)

    assert program(([0, None], [1, np.inf])).lb.tolist() == [0.0, -np.inf]
    tree = interop.nlp(lambda x: x["u"].sum(), None, {"u": np.ones(2)}, bounds=({"u": [0, 1]}, 9))
    assert tree.lb.tolist() == [0.0, 1.0]
    pairs = [(0, 5), (0, None)]  # as scipy.optimize.minimize takes them: not lower and upper
    with pytest.raises(ShapeMismatchError, match=r"is tuple\(np.transpose\(pairs\)\)"):
        program(pairs)
    with pytest.raises(ShapeMismatchError, match="list of SciPy's"):
        program([[0, 5], [0, 5]])
    with pytest.raises(InvalidOptionError, match="list of SciPy's"):
        program([(0, 5), (0, 5), (0, 5)])
    assert program(tuple(np.transpose(pairs))).ub.tolist() == [5.0, np.inf]


def test_functions_that_do_not_fit():
    with pytest.raises(NonScalarLossError, match=r"one real number.*\(3,\).*sum it"):
        interop.nlp(lambda x: x**2, None, np.ones(3))
    with pytest.raises(NonScalarLossError, match="is int64; give a float"):
        interop.nlp(lambda _: 0, None, np.ones(3))
    with pytest.raises(NonScalarLossError, match="gives the tree"):
        interop.nlp(lambda x: (x[0], x[1]), None, np.ones(3))
    with pytest.raises(ParameterTypeError, match=r"constraints\(x\)\['w'\] is complex128"):
        interop.nlp(jnp.sum, lambda x: {"w": jnp.exp(1j * x)}, np.ones(3))
    with pytest.raises(ParameterTypeError, match=r"is bool.* give `a - b`"):
        interop.nlp(jnp.sum, lambda x: x <= 2, np.ones(3))
    with pytest.raises(ParameterTypeError, match=r"x0\['u'\] is complex128"):
        interop.nlp(lambda x: jnp.sum(jnp.abs(x["u"])), None, {"u": np.ones(3) * 1j})
    with pytest.raises(ArgumentError, match=r"constraints must be one function .* of type list"):
        interop.nlp(jnp.sum, [lambda x: x[0], lambda x: x[1]], np.ones(3))
    with pytest.raises(ArgumentError, match=r"objective must be a function of x, but .* ndarray"):
        interop.nlp(np.ones(3), None, jnp.sum)
    with pytest.raises(InvalidOptionError, match=r"args must be a tuple.* args=\(data,\)"):
        interop.nlp(lambda x, w: w @ x, None, np.ones(3), args=np.ones(3))
    moving = interop.nlp(lambda x: x.sum(), jnp.sort, np.ones(3))
    with pytest.raises(TypeError, match="places of this derivative depend on values"):
        moving.jacobianstructure()


def test_constraints_that_change_their_number():
    rows = [0, 1]
    program = interop.nlp(jnp.sum, lambda x: x[np.array(rows)], np.ones(3))
    rows.append(2)
    with pytest.raises(ShapeMismatchError, match="are 3 numbers now, but were 2"):
        program.constraints(program.x0)


def test_single_precision_is_reported():
    with jax.enable_x64(False), pytest.warns(UserWarning, match="jax_enable_x64"):
        interop.nlp(lambda x: x.sum(), None, np.ones(3))


@pytest.mark.slow
def test_a_collocation_of_ten_thousand_variables():
    program = trajectories.swing_up(2_000)
    assert program.n == 10_000
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        x = solved_by("pounce", program)
    assert abs(program.objective(x) - 58.81) < 0.05
    flat, _ = ravel_pytree(program.tree(x))
    np.testing.assert_array_equal(flat, x)
