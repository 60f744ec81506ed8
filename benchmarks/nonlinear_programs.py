"""Nonlinear programs: what the callbacks of IPOPT cost beside the functions themselves.

A solver calls the constraints, their Jacobian and the Hessian of the Lagrangian at every iteration.
The first call contains finding the structure and compiling. The peer, asdex, detects the places and
colours them.
"""

import importlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import harness
from blockjac import interop
from nonlinear.by_default import table_of_rockets
from nonlinear.power_flow import power_flow, synthetic_grid
from nonlinear.trajectories import rocket, swing_up
from peers import asdex_hessian, asdex_jacobian

Function = Callable[..., Any]
ITSELF = "constraints themselves"


def of_constraints(title: str, program: interop.NonlinearProgram) -> harness.Task:
    """The Jacobian of the constraints, and of asdex its values."""
    programs = program._programs
    flat = jax.jit(lambda x: programs.constrain(programs.unravel(x)))
    return harness.Task(
        title=f"{title}: Jacobian of {program.m:,} constraints of {program.n:,} variables",
        arguments=(jax.numpy.asarray(program.x0),),
        contenders={harness.OURS: programs.jacobian_values, ITSELF: programs.constraints},
        others={"asdex": asdex_jacobian(flat, (program.x0,), values=True)},
        dense=harness.OURS,
        claims=(harness.Claim(1.5, (ITSELF,)), harness.Claim(1.0, ("asdex",))),
    )


def of_lagrangian(title: str, program: interop.NonlinearProgram) -> harness.Task:
    """The lower triangle of the Hessian of the Lagrangian; of asdex all of it."""
    programs = program._programs
    multipliers = jax.numpy.asarray(np.random.default_rng(0).normal(size=program.m))

    def ours(x: jax.Array, multipliers: jax.Array) -> Any:
        return programs.hessian_values(x, multipliers, np.float64(1.0))

    def themselves(x: jax.Array, _: jax.Array) -> Any:
        return programs.constraints(x)

    def lagrangian(x: jax.Array, multipliers: jax.Array) -> Any:
        state = programs.unravel(x)
        return programs.fun(state) + multipliers @ programs.constrain(state)

    arguments = (jax.numpy.asarray(program.x0), multipliers)
    return harness.Task(
        title=f"{title}: Hessian of the Lagrangian, {program.n:,} variables",
        arguments=arguments,
        contenders={harness.OURS: ours, ITSELF: themselves},
        others={"asdex": asdex_hessian(lagrangian, arguments, values=True)},
        dense=harness.OURS,
        claims=(harness.Claim(3.0, (ITSELF,)), harness.Claim(1.0, ("asdex",))),
    )


PROGRAMS = {
    "power-flow-118": lambda: power_flow(synthetic_grid(118)),
    "power-flow-1000": lambda: power_flow(synthetic_grid(1_000)),
    "power-flow-10000": lambda: power_flow(synthetic_grid(10_000)),
    "swing-up": swing_up,
    "rocket": rocket,
}

DERIVATIVES = {"jacobian": of_constraints, "hessian": of_lagrangian}

TASKS = {
    f"{name}-{which}": lambda name=name, make=make, task=task: task(name, make())
    for name, make in PROGRAMS.items()
    for which, task in DERIVATIVES.items()
}


class Timed:
    """The callbacks of a program, and the seconds that they take."""

    def __init__(self, program: interop.NonlinearProgram) -> None:
        self.program = program
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Function:
        function = getattr(self.program, name)

        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            answer = function(*args)
            self.seconds += time.perf_counter() - start
            return answer

        return timed


def whole_solves(_: Any) -> str:
    """A table of whole solves: how much of them is due to derivatives."""
    lines = [
        "## Whole solves",
        "",
        "By IPOPT (cyipopt, MUMPS) and pounce, to their default tolerances. Callbacks are the "
        "functions, their derivatives, and what Python does around them; compiling them is apart.",
        "",
        "| program | solver | compiling | callbacks | the solver's own | objective |",
        "|---|---|---|---|---|---|",
    ]
    for name, make in PROGRAMS.items():
        program = make()
        start = time.perf_counter()
        program.objective(program.x0), program.gradient(program.x0)
        program.constraints(program.x0), program.jacobian(program.x0)
        program.hessian(program.x0, np.zeros(program.m), 1.0)
        compiling = time.perf_counter() - start
        for solver in ("cyipopt", "pounce"):
            lines.append(f"| {name} | {solver} | {compiling:.1f} s | {solve(solver, program)} |")
    return "\n".join(lines) + "\n\n" + table_of_rockets(rocket)


def solve(solver: str, program: interop.NonlinearProgram) -> str:
    """Solve a program: seconds in callbacks, in the solver, and the objective, as cells."""
    try:
        module = importlib.import_module(solver)
    except ImportError:
        return "not installed | | "
    timed = Timed(program)
    problem = module.Problem(**{**program.for_ipopt(), "problem_obj": timed})
    problem.add_option("print_level", 0)
    start = time.perf_counter()
    x, info = problem.solve(program.x0)
    own = time.perf_counter() - start - timed.seconds
    answer = f"{program.objective(x):.6g}" if info["status"] == 0 else info["status_msg"]
    return f"{timed.seconds:.2f} s | {own:.2f} s | {answer}"


if __name__ == "__main__":
    harness.main("Derivatives of nonlinear programs for IPOPT", TASKS, whole_solves)
