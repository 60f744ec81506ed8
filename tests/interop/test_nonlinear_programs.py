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
from blockjac.errors import InvalidOptionError, NonScalarLossError, ShapeMismatchError
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
    with pytest.raises(ShapeMismatchError, match="3 numbers, but the program has 4 variables"):
        program.with_args(2.0, x0=np.ones(3))
    with pytest.raises(TypeError, match="made for arguments of"):
        program.with_args(np.ones(2)).jacobian(program.x0)


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


def test_functions_that_do_not_fit():
    with pytest.raises(NonScalarLossError, match=r"one real number.*\(3,\).*sum it"):
        interop.nlp(lambda x: x**2, None, np.ones(3))
    moving = interop.nlp(lambda x: x.sum(), jnp.sort, np.ones(3))
    with pytest.raises(TypeError, match="places of this derivative depend on values"):
        moving.jacobianstructure()


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
