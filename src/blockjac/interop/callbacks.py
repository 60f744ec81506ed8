"""The functions of a nonlinear program that IPOPT calls."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blockjac.errors import ShapeMismatchError
from blockjac.interop.compiled_programs import CompiledPrograms


@dataclass(frozen=True, eq=False)
class Callbacks:
    """A nonlinear program by the functions that IPOPT calls; see `NonlinearProgram`."""

    x0: np.ndarray
    lb: np.ndarray
    ub: np.ndarray
    cl: np.ndarray
    cu: np.ndarray
    args: tuple[Any, ...]
    _programs: CompiledPrograms = field(repr=False)

    @property
    def n(self) -> int:
        """The number of variables."""
        return len(self.x0)

    @property
    def m(self) -> int:
        """The number of constraints."""
        return len(self.cl)

    def objective(self, x: np.ndarray) -> float:
        """The objective at a point."""
        return float(self._programs.objective(self._point(x), *self.args))

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """The gradient of the objective, `(n,)`."""
        return _host(self._programs.gradient(self._point(x), *self.args))

    def constraints(self, x: np.ndarray) -> np.ndarray:
        """The values of the constraints, `(m,)`."""
        return _host(self._programs.constraints(self._point(x), *self.args))

    def jacobianstructure(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the entries of the constraints' Jacobian, each place once."""
        places = self._programs.jacobian
        return places.rows, places.columns

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """The values of the constraints' Jacobian, in the order of `jacobianstructure`."""
        return _host(self._programs.jacobian_values(self._point(x), *self.args))

    def hessianstructure(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the lower triangle of the Lagrangian's Hessian, each place once."""
        places = self._programs.hessian
        return places.rows, places.columns

    def hessian(self, x: np.ndarray, lagrange: np.ndarray, obj_factor: float) -> np.ndarray:
        """The values of the Hessian of `obj_factor * objective + lagrange @ constraints`.

        Args:
            x: the point, `(n,)`.
            lagrange: the multipliers, `(m,)`.
            obj_factor: of the objective.

        Returns:
            The lower triangle, in the order of `hessianstructure`.
        """
        multipliers, factor = self._multipliers(lagrange), np.float64(obj_factor)
        values = self._programs.hessian_values(self._point(x), multipliers, factor, *self.args)
        return _host(values)

    def _point(self, x: Any) -> np.ndarray:
        return _vector(x, self.n, "x", "variable")

    def _multipliers(self, lagrange: Any) -> np.ndarray:
        return _vector(lagrange, self.m, "the multipliers", "constraint")


def _vector(vector: Any, count: int, name: str, kind: str) -> np.ndarray:
    """A flat vector in double precision.

    Raises:
        ShapeMismatchError: for anything else.
    """
    try:
        numbers = np.asarray(vector, float)
        found = f"shape {numbers.shape}"
    except (TypeError, ValueError):
        numbers, found = None, reprlib.repr(vector)
    if numbers is None or numbers.shape != (count,):
        raise ShapeMismatchError(
            f"{name} must be a flat vector of {count} numbers, one for each {kind}, but got {found}"
        )
    return numbers


def _host(array: Any) -> np.ndarray:
    """As NumPy, in double precision."""
    return np.asarray(array, float)
