"""The program that is differentiated: a flat list of equations over numbered values.

A *value* is what an equation computes; a *vertex* is a variable of the chain rule. They nearly
always coincide, but a function with its own derivative rule is inlined as two programs, one for its
values and one for its linear part. The values of its results then come from the first, and their
vertices from the second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Literal:
    """A constant operand.

    Attributes:
        value: the constant as it is in the jaxpr: a Python number, a NumPy scalar or an array.
        aval: its type, which does not follow from the value alone.
    """

    value: Any
    aval: Any

    @property
    def array(self) -> np.ndarray:
        """The constant as an array of its type, which is all that rules see of it."""
        return np.asarray(self.value, self.aval.dtype)


@dataclass(frozen=True)
class Operand:
    """A use of a value: its number, and the vertex of its derivative (None for a constant)."""

    value: int
    vertex: int | None


@dataclass(frozen=True, eq=False)
class Known:
    """What is known about an operand while a program is traced.

    Attributes:
        numbers: the operand itself, if structure depends on it; None if it is unknown.
        may: where the operand may be nonzero, boolean; None if it may be so anywhere.
    """

    numbers: np.ndarray | None = None
    may: np.ndarray | None = None


Atom = Operand | Literal
"""What an equation is applied to."""


def values_of(atoms: Iterable[Atom]) -> list[int]:
    """The numbers of the values among operands."""
    return [atom.value for atom in atoms if isinstance(atom, Operand)]


@dataclass(frozen=True, eq=False)
class Equation:
    """One primitive applied to operands.

    Attributes:
        primitive: the JAX primitive.
        operands: literals and uses of values.
        results: numbers of the values that it computes.
        params: the primitive's parameters.
        source: file, line and function of the user's code, for explanations.
        told: for an equation with a program inside, what is known about each operand; None if
            structure is not needed.
    """

    primitive: Any
    operands: tuple[Operand | Literal, ...]
    results: tuple[int, ...]
    params: dict[str, Any]
    source: Any = None
    told: tuple[Known | None, ...] | None = None


@dataclass(frozen=True, eq=False)
class OwnRule:
    """A function with a forward derivative rule of its own, as it stands in a graph.

    Its values and its rule are inlined as equations. A second derivative needs it as a whole: the
    coefficients of its rule vary with its operands.

    Attributes:
        primitive: the JAX primitive of its call.
        params: the primitive's parameters.
        operands: literals and uses of values.
        results: uses of its results, each with a vertex of its own where it varies.
        equations: those of its values and its rule; the rule is linear in the vertices.
        is_kept: whether a further derivative takes the rule again for the results, see
            `custom_jvp.calls_itself`.
    """

    primitive: Any
    params: dict[str, Any]
    operands: tuple[Operand | Literal, ...]
    results: tuple[Operand | Literal, ...]
    equations: tuple[Equation, ...]
    is_kept: bool


@dataclass(eq=False)
class Graph:
    """A flat program.

    Attributes:
        avals: the abstract value (shape, dtype) of each value, by number.
        inputs: the values of the function's arguments.
        constants: the values of captured arrays, in the order of `captured`.
        captured: the captured arrays.
        equations: in order of evaluation.
        outputs: the function's results.
        independents: the vertices of the differentiated inputs.
        names: names of values, if they have one; inputs are named after the function's arguments,
            as in `params['W1']`.
        known: constant indices and masks that the structure may depend on, by value.
        zeros: where values that multiply tangents may be nonzero, for those that structure may
            depend on.
        numbers_are_open: whether its programs take the Python numbers in it as arguments. It is
            None until the first of them runs, and then the same for all.
        own_rules: the differentiated functions with a linear rule of their own, if the graph was
            traced for second derivatives.
    """

    avals: list[Any] = field(default_factory=list)
    inputs: tuple[int, ...] = ()
    constants: tuple[int, ...] = ()
    captured: list[Any] = field(default_factory=list)
    equations: list[Equation] = field(default_factory=list)
    outputs: tuple[Operand | Literal, ...] = ()
    independents: tuple[int, ...] = ()
    names: dict[int, str] = field(default_factory=dict)
    known: dict[int, Any] = field(default_factory=dict)
    zeros: dict[int, np.ndarray] = field(default_factory=dict)
    numbers_are_open: bool | None = None
    own_rules: tuple[OwnRule, ...] = ()

    def new_value(self, aval: Any) -> int:
        """Number a new value."""
        self.avals.append(aval)
        return len(self.avals) - 1

    def aval(self, operand: Operand | Literal) -> Any:
        """The abstract value of an operand."""
        return operand.aval if isinstance(operand, Literal) else self.avals[operand.value]
