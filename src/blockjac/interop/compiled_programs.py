"""The compiled programs of a nonlinear program, of flat vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from blockjac.interop.sparse_structure import SparseStructure, structure
from blockjac.transforms.first_order import grad


@dataclass(frozen=True, eq=False)
class CompiledPrograms:
    """The compiled programs of a nonlinear program, of flat vectors.

    Attributes:
        fun: the objective, of a tree.
        constrain: the constraints, flat, of a tree.
        unravel: from a flat vector to the tree of the variables.
        unravel_constraints: the same for the constraints.
        example: variables and further arguments, as shapes.
        count: of the constraints.
    """

    fun: Callable[..., Any]
    constrain: Callable[..., Any]
    unravel: Callable[[Any], Any]
    unravel_constraints: Callable[[Any], Any]
    example: tuple[Any, ...]
    count: int

    @cached_property
    def objective(self) -> Callable[..., Any]:
        """The objective."""
        return self._of_flat(self.fun)

    @cached_property
    def constraints(self) -> Callable[..., Any]:
        """The constraints."""
        return self._of_flat(self.constrain)

    @cached_property
    def gradient(self) -> Callable[..., Any]:
        """The gradient of the objective, flat."""

        def flat_gradient(x: Any, *args: Any) -> Any:
            return ravel_pytree(grad(self.fun)(x, *args))[0]

        return self._of_flat(flat_gradient)

    @cached_property
    def jacobian(self) -> SparseStructure:
        """The places of the constraints' Jacobian."""
        return structure(self.constrain)(*self.example)

    @cached_property
    def jacobian_values(self) -> Callable[..., Any]:
        """Their values."""
        return self._of_flat(self.jacobian.values)

    @cached_property
    def hessian(self) -> SparseStructure:
        """The places of the lower triangle of the Lagrangian's Hessian."""
        variables, *args = self.example
        numbers = [jax.ShapeDtypeStruct(shape, float) for shape in ((self.count,), ())]
        of_lagrangian = structure(self._lagrangian, derivative="hessian", triangle="lower")
        return of_lagrangian(variables, *numbers, *args)

    @cached_property
    def hessian_values(self) -> Callable[..., Any]:
        """Their values."""
        return self._of_flat(self.hessian.values)

    def _lagrangian(self, x: Any, multipliers: Any, factor: Any, *args: Any) -> Any:
        return factor * self.fun(x, *args) + jnp.vdot(multipliers, self.constrain(x, *args))

    def _of_flat(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The compiled function of a flat vector in place of the tree of the variables."""

        @jax.jit
        def of_flat(flat: Any, *args: Any) -> Any:
            return function(self.unravel(flat), *args)

        return of_flat
