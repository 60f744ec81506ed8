"""The same program in the same solver, with our derivatives and with the solver's own.

Where it is given no derivatives, `cyipopt.minimize_ipopt` takes finite differences of all and
a limited-memory Hessian. By hand one writes `jax.grad` and `jax.jacfwd`, dense and compiled, and
leaves the Hessian to the solver.
"""

import time
from typing import Any

import jax
import numpy as np

from blockjac import interop

LIMIT = 120
"""Seconds after which a solve is stopped; it is given no second one."""

WAYS = ("blockjac", "jax.grad and jacfwd", "default")


def table_of_rockets(program: Any, sizes: tuple[int, ...] = (25, 50, 100)) -> str:
    """A table of solves of `program(nodes)` by `minimize_ipopt`: seconds, iterations, objective."""
    try:
        import cyipopt
    except ImportError:
        return "## The solver's own derivatives\n\ncyipopt is not installed.\n"
    lines = [
        "## The solver's own derivatives",
        "",
        "The rocket by `cyipopt.minimize_ipopt`, to its default tolerances, compiled before. By "
        "default it takes finite differences and a limited-memory Hessian; by hand, dense "
        f"`jax.grad` and `jax.jacfwd` with that Hessian. Stopped after {LIMIT} s or 3,000 "
        "iterations.",
        "",
        "| variables | derivatives | time | iterations | status | objective |",
        "|---|---|---|---|---|---|",
    ]
    for nodes in sizes:
        made = program(nodes)
        for way in WAYS:
            lines.append(f"| {made.n} | {way} | {solve(cyipopt, arguments(made, way))} |")
    return "\n".join(lines) + "\n"


def arguments(program: interop.NonlinearProgram, way: str) -> dict[str, Any]:
    """What `minimize_ipopt` is given: all derivatives, the first ones dense, or none."""
    if way == "blockjac":
        return program.for_minimize_ipopt()
    if not np.array_equal(program.cl, program.cu):
        raise ValueError("a program whose constraints are not all equations")
    programs = program._programs
    fun = jax.jit(lambda x: programs.fun(programs.unravel(x)))
    constrain = jax.jit(lambda x: programs.constrain(programs.unravel(x)) - program.cl)
    bounds = list(zip(program.lb, program.ub, strict=True))
    constraint = {"type": "eq", "fun": lambda x: np.asarray(constrain(x))}
    given = {"fun": lambda x: float(fun(x)), "x0": program.x0, "bounds": bounds}
    if way != "default":
        gradient, jacobian = jax.jit(jax.grad(fun)), jax.jit(jax.jacfwd(constrain))
        given["jac"] = lambda x: np.asarray(gradient(x))
        constraint["jac"] = lambda x: np.asarray(jacobian(x))
    return {**given, "constraints": [constraint]}


def solve(cyipopt: Any, given: dict[str, Any]) -> str:
    """The cells of a solve after one that compiles."""
    options = {"max_cpu_time": float(LIMIT), "max_iter": 3000}
    cyipopt.minimize_ipopt(**given, options={**options, "max_iter": 2})
    start = time.perf_counter()
    found = cyipopt.minimize_ipopt(**given, options=options)
    taken = time.perf_counter() - start
    return f"{taken:.2f} s | {found.nit} | {found.status} | {found.fun:.6g}"
