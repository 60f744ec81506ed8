"""Nonlinear programs for IPOPT and for the solvers of SciPy, from an objective and constraints."""

from __future__ import annotations

import math
import reprlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from blockjac.base.trees import leaves_with_path, mapped, tree_structure
from blockjac.errors import InvalidOptionError, ParameterTypeError
from blockjac.interop.bounds import Bounds, bounds_like
from blockjac.interop.callbacks import Callbacks
from blockjac.interop.compiled_programs import CompiledPrograms
from blockjac.interop.program_checks import (
    check_constraints,
    check_count,
    check_functions,
    check_objective,
    like_example,
)
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
        return self._programs.unravel(jnp.asarray(self._point(x)))

    def multipliers(self, lagrange: np.ndarray) -> Any:
        """Multipliers in the tree of the constraints."""
        return self._programs.unravel_constraints(jnp.asarray(self._multipliers(lagrange)))

    def with_args(self, *args: Any, x0: Any = None) -> NonlinearProgram:
        """The same program for other data, or from another start; nothing is compiled anew.

        Args:
            args: the further arguments, of the shapes that they had.
            x0: the starting point, a tree or a flat vector; the old one by default.

        Raises:
            ShapeMismatchError: for a starting point or arguments of other shapes or trees.
        """
        example, *further = self._programs.example
        start = self.x0 if x0 is None else _start(x0, example)
        # here, since some solvers go on where a callback raises
        return replace(self, x0=start, args=like_example(args, tuple(further), "args"))


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
        TypeError: if the objective is not one real number, or variables or constraints are not
            real; where places depend on values that only the running program knows; and for bounds
            that do not fit.
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
    if not isinstance(cast("Any", args), tuple | list):
        raise InvalidOptionError(
            f"args must be a tuple of the further arguments, but is {reprlib.repr(args)}; of one "
            "argument it is args=(data,)"
        )
    check_functions(objective, constraints)
    x0 = _variables(x0)
    flat, unravel = ravel_pytree(x0)
    further = tuple(args)
    example = mapped(shape_of_leaf, (x0, *further))
    check_objective(jax.eval_shape(objective, *example))
    constraints = _none if constraints is None else constraints
    shapes = jax.eval_shape(constraints, *example)
    check_constraints(shapes)
    zeros = mapped(_zeros, shapes)
    flat_zeros, unravel_constraints = ravel_pytree(zeros)
    if not jax.config.read("jax_enable_x64"):
        warnings.warn(
            "JAX computes in float32, in which solvers do not reach their usual tolerances; call "
            "jax.config.update('jax_enable_x64', True) at the start of the program",
            stacklevel=2,
        )

    def flat_constraints(*point: Any) -> Any:
        values = ravel_pytree(constraints(*point))[0]
        check_count(values.size, flat_zeros.size)
        return values

    programs = CompiledPrograms(
        objective, flat_constraints, unravel, unravel_constraints, example, flat_zeros.size
    )
    lb, ub = bounds_like(bounds, x0, "bounds")
    cl, cu = bounds_like(constraint_bounds, zeros, "constraint_bounds")
    return NonlinearProgram(np.asarray(flat, float), lb, ub, cl, cu, further, programs)


def _none(*_: Any) -> Any:
    """No constraints."""
    return jnp.zeros(0)


def _variables(x0: Any) -> Any:
    """The starting point with its leaves as arrays of floats."""
    for path, leaf in leaves_with_path(x0):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating):
            raise ParameterTypeError(
                f"x0{jax.tree_util.keystr(path)} is {jnp.result_type(leaf)}; wanted real numbers, "
                "such as the real and the imaginary part"
            )
    return mapped(lambda leaf: jnp.asarray(leaf, float), x0)


def _start(x0: Any, example: Any) -> np.ndarray:
    """A starting point, flat or in the tree of the variables, as a flat vector."""
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(example))
    is_flat = tree_structure(x0) == tree_structure(0) and jnp.shape(x0) == (count,)
    tree = x0 if is_flat else like_example(x0, example, "x0")
    return np.asarray(ravel_pytree(tree)[0], float)


def _zeros(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    return np.zeros(tuple(leaf.shape))
