"""Nonlinear programs for IPOPT and for the solvers of SciPy, from an objective and constraints."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from blockjac.base.trees import mapped
from blockjac.errors import NonScalarLossError, ShapeMismatchError
from blockjac.interop.bounds import Bounds, bounds_like
from blockjac.interop.callbacks import Callbacks
from blockjac.interop.compiled_programs import CompiledPrograms
from blockjac.interop.scipy_programs import arguments_for_minimize_ipopt, arguments_for_scipy
from blockjac.interop.sparse_structure import shape_of_leaf


@dataclass(frozen=True, eq=False)
class NonlinearProgram(Callbacks):
    """A nonlinear program with its derivatives, as IPOPT's interfaces call them.

        minimize  objective(x)   with   lb <= x <= ub,   cl <= constraints(x) <= cu

    All vectors are flat NumPy arrays in double precision. Each method is one compiled program.
    Values that are not finite are passed on: IPOPT takes a shorter step then.

    Attributes:
        x0: the starting point, `(n,)`.
        lb: lower bounds of the variables, `(n,)`; -inf for none.
        ub: upper bounds, likewise.
        cl: lower bounds of the constraints, `(m,)`.
        cu: upper bounds, likewise.
        args: further arguments of the objective and the constraints; see `with_args`.
    """

    # Arguments for the solvers

    def for_ipopt(self) -> dict[str, Any]:
        """The arguments of `cyipopt.Problem`, and of `pounce.Problem`, which has the same."""
        names = "n", "m", "lb", "ub", "cl", "cu"
        return {"problem_obj": self, **{name: getattr(self, name) for name in names}}

    def for_scipy(self) -> dict[str, Any]:
        """The arguments of `scipy.optimize.minimize` for `method="trust-constr"`."""
        return arguments_for_scipy(self)

    def for_minimize_ipopt(self) -> dict[str, Any]:
        """The arguments of `cyipopt.minimize_ipopt`: derivatives as `scipy.sparse.coo_array`.

        A constraint with two different bounds is handed over as two, one for each.
        """
        return arguments_for_minimize_ipopt(self)

    # Trees

    def tree(self, x: np.ndarray) -> Any:
        """A point in the tree of the starting point, such as the solution in the user's names."""
        return self._programs.unravel(jnp.asarray(x))

    def multipliers(self, lagrange: np.ndarray) -> Any:
        """Multipliers in the tree of the constraints."""
        return self._programs.unravel_constraints(jnp.asarray(lagrange))

    def with_args(self, *args: Any, x0: Any = None) -> NonlinearProgram:
        """The same program for other data, or from another start; nothing is compiled anew.

        Args:
            args: the further arguments, of the shapes and dtypes that they had.
            x0: the starting point, a tree or a flat vector; the old one by default.

        Raises:
            ShapeMismatchError: for a starting point of another size.
        """
        start = self.x0
        if x0 is not None:
            start = np.asarray(ravel_pytree(x0)[0], float)
            if start.shape != self.x0.shape:
                raise ShapeMismatchError(
                    f"x0 has {start.size} numbers, but the program has {self.n} variables"
                )
        return replace(self, x0=start, args=args)


def nlp(
    objective: Callable[..., Any],
    constraints: Callable[..., Any] | None,
    x0: Any,
    *,
    bounds: Bounds | None = None,
    constraint_bounds: Bounds | None = (0.0, 0.0),
    args: Sequence[Any] = (),
) -> NonlinearProgram:
    """A nonlinear program with exact sparse derivatives, for IPOPT and for SciPy.

    The places of the Jacobian and of the Hessian follow from the operations, without detection and
    without colouring; each callback is one compiled program.

    Args:
        objective: a JAX function `objective(x, *args)` with one number as its result.
        constraints: a JAX function `constraints(x, *args)` whose results, a tree of arrays, are
            kept within `constraint_bounds`; None for none.
        x0: the starting point: an array or a tree of arrays, in whose form the functions get x.
        bounds: `(lower, upper)` of the variables: numbers, arrays, or trees like x0, whose leaves
            may be numbers; None in place of one for no bound.
        constraint_bounds: the same of the constraints, by default equations, `constraints(x) = 0`.
        args: further arguments of both functions, such as the data of one instance.

    Returns:
        A `NonlinearProgram`: `cyipopt.Problem(**program.for_ipopt())`,
        `cyipopt.minimize_ipopt(**program.for_minimize_ipopt())` or
        `scipy.optimize.minimize(**program.for_scipy(), method="trust-constr")`.

    Raises:
        TypeError: if the objective is not one real number; where places depend on values that only
            the running program knows; and for bounds that do not fit.
        ValueError: for a lower bound above its upper bound, and for bounds that are nan.

    Examples:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from blockjac import interop
        >>> def objective(x):
        ...     return x[0] * x[3] * jnp.sum(x[:3]) + x[2]
        >>> def constraints(x):
        ...     return {"product": jnp.prod(x), "square": x @ x}
        >>> limits = {"product": 25.0, "square": 40.0}, {"product": np.inf, "square": 40.0}
        >>> start = np.array([1.0, 5.0, 5.0, 1.0], np.float32)
        >>> program = interop.nlp(
        ...     objective, constraints, start, bounds=(1.0, 5.0), constraint_bounds=limits
        ... )
        >>> program.n, program.m, len(program.jacobian(program.x0))
        (4, 2, 8)
        >>> program.objective(program.x0), program.constraints(program.x0).tolist()
        (16.0, [25.0, 52.0])
    """
    x0 = mapped(_floating, x0)
    flat, unravel = ravel_pytree(x0)
    further = tuple(args)
    example = mapped(shape_of_leaf, (x0, *further))
    found = jax.eval_shape(objective, *example)
    if getattr(found, "shape", None) != () or not jnp.issubdtype(found.dtype, jnp.floating):
        raise NonScalarLossError(
            f"the objective must be one real number, of shape (), but is {found}; sum it"
        )
    constraints = _none if constraints is None else constraints
    zeros = mapped(_zeros, jax.eval_shape(constraints, *example))
    flat_zeros, unravel_constraints = ravel_pytree(zeros)
    if not jax.config.read("jax_enable_x64"):
        warnings.warn(
            "JAX computes in float32, in which solvers do not reach their usual tolerances; call "
            "jax.config.update('jax_enable_x64', True) at the start of the program",
            stacklevel=2,
        )

    def flat_constraints(*point: Any) -> Any:
        return ravel_pytree(constraints(*point))[0]

    programs = CompiledPrograms(
        objective, flat_constraints, unravel, unravel_constraints, example, flat_zeros.size
    )
    lb, ub = bounds_like(bounds, x0, "bounds")
    cl, cu = bounds_like(constraint_bounds, zeros, "constraint_bounds")
    return NonlinearProgram(np.asarray(flat, float), lb, ub, cl, cu, further, programs)


def _none(*_: Any) -> Any:
    """No constraints."""
    return jnp.zeros(0)


def _floating(leaf: Any) -> Any:
    return jnp.asarray(leaf, float)


def _zeros(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    return np.zeros(tuple(leaf.shape))
