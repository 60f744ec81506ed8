"""A nonlinear program as the arguments of SciPy's solvers, and of the one that looks like them."""

from __future__ import annotations

from typing import Any

import numpy as np

from blockjac.interop.callbacks import Callbacks


def arguments_for_scipy(program: Callbacks) -> dict[str, Any]:
    """The arguments of `scipy.optimize.minimize` for "trust-constr"."""
    from scipy import optimize, sparse

    none = np.zeros(program.m)

    def jacobian(x: np.ndarray) -> Any:
        places, shape = program.jacobianstructure(), (program.m, program.n)
        return sparse.coo_array((program.jacobian(x), places), shape=shape).tocsr()

    def objective_hessian(x: np.ndarray) -> Any:
        return _whole(_lower_hessian(program, x, none, 1.0))

    def constraint_hessian(x: np.ndarray, multipliers: np.ndarray) -> Any:
        return _whole(_lower_hessian(program, x, multipliers, 0.0))

    bounds: Any = optimize.Bounds  # its stub has numbers only
    arguments: dict[str, Any] = {
        "fun": program.objective,
        "x0": program.x0,
        "jac": program.gradient,
        "hess": objective_hessian,
        "bounds": bounds(program.lb, program.ub),
    }
    if program.m:
        constraint: Any = optimize.NonlinearConstraint
        arguments["constraints"] = constraint(
            program.constraints, program.cl, program.cu, jac=jacobian, hess=constraint_hessian
        )
    return arguments


def arguments_for_minimize_ipopt(program: Callbacks) -> dict[str, Any]:
    """The arguments of `cyipopt.minimize_ipopt`."""
    none, is_equal = np.zeros(program.m), program.cl == program.cu
    sides = [
        ("eq", np.flatnonzero(is_equal), 1.0, program.cl),
        ("ineq", np.flatnonzero(~is_equal & np.isfinite(program.cl)), 1.0, program.cl),
        ("ineq", np.flatnonzero(~is_equal & np.isfinite(program.cu)), -1.0, program.cu),
    ]

    def objective_hessian(x: np.ndarray) -> Any:
        return _lower_hessian(program, x, none, 1.0)

    return {
        "fun": program.objective,
        "x0": program.x0,
        "jac": program.gradient,
        "hess": objective_hessian,
        "bounds": list(zip(program.lb, program.ub, strict=True)),
        "constraints": [_one_sided(program, *side) for side in sides if len(side[1])],
    }


def _one_sided(
    program: Callbacks, kind: str, chosen: np.ndarray, sign: float, bound: np.ndarray
) -> dict[str, Any]:
    """Some of the constraints, `sign * (c - bound)`, equal to zero or not below it."""
    from scipy import sparse

    rows, columns = program.jacobianstructure()
    numbers = np.full(program.m, -1)
    numbers[chosen] = np.arange(len(chosen))
    kept = np.flatnonzero(numbers[rows] >= 0)
    places, shape = (numbers[rows[kept]], columns[kept]), (len(chosen), program.n)

    def values(x: np.ndarray) -> np.ndarray:
        return sign * (program.constraints(x)[chosen] - bound[chosen])

    def jacobian(x: np.ndarray) -> Any:
        return sparse.coo_array((sign * program.jacobian(x)[kept], places), shape=shape)

    def hessian(x: np.ndarray, multipliers: np.ndarray) -> Any:
        spread = np.zeros(program.m)
        spread[chosen] = sign * multipliers
        return _lower_hessian(program, x, spread, 0.0)

    return {"type": kind, "fun": values, "jac": jacobian, "hess": hessian}


def _lower_hessian(
    program: Callbacks, x: np.ndarray, lagrange: np.ndarray, obj_factor: float
) -> Any:
    """The lower triangle of the Lagrangian's Hessian as a sparse array of SciPy."""
    from scipy import sparse

    values = program.hessian(x, lagrange, obj_factor)
    return sparse.coo_array((values, program.hessianstructure()), shape=(program.n, program.n))


def _whole(lower: Any) -> Any:
    """Both triangles of a symmetric matrix."""
    from scipy import sparse

    rows, columns = lower.coords
    below = rows > columns
    values = np.concatenate([lower.data, lower.data[below]])
    places = np.concatenate([rows, columns[below]]), np.concatenate([columns, rows[below]])
    return sparse.coo_array((values, places), shape=lower.shape).tocsr()
