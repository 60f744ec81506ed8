"""The program that is differentiated, flat: equations over numbered values.

Values and vertices are apart. A *value* is what an equation computes; a *vertex* is a variable of
the chain rule. Nearly always they coincide, but a function with its own derivative rule is inlined
as two programs, one for its values and one for its linear part, and the results of the first belong
to the vertices of the second.
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
        value: as the jaxpr holds it: a Python number, a NumPy scalar or an array.
        aval: its type, which the value alone does not tell.
    """

    value: Any
    aval: Any

    @property
    def array(self) -> np.ndarray:
        """The constant as an array of its type, whatever holds it: all that rules see of it."""
        return np.asarray(self.value, self.aval.dtype)


@dataclass(frozen=True)
class Operand:
    """A use of a value: its number, and the vertex of its derivative (None: constant)."""

    value: int
    vertex: int | None


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of an operand while a program is traced.

    Attributes:
        numbers: the operand itself, where it decides on structure; None where it is not known.
        may: where it may be another number than zero, boolean; None where that may be anywhere.
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
        told: of an equation with a program inside, what is known of each operand; None where
            structure is not asked for.
    """

    primitive: Any
    operands: tuple[Operand | Literal, ...]
    results: tuple[int, ...]
    params: dict[str, Any]
    source: Any = None
    told: tuple[Known | None, ...] | None = None


@dataclass(eq=False)
class Graph:
    """A flat program.

    Attributes:
        avals: abstract value (shape, dtype) of each value, by number.
        inputs: values of the function's arguments.
        constants: values of captured arrays, with the arrays beside them in `captured`.
        captured: the captured arrays.
        equations: in order of evaluation.
        outputs: the function's results.
        independents: vertices of the differentiated inputs.
        names: names of values that have one; inputs have those of the function's arguments, such as
            `params['W1']`.
        known: values of places that are constants, where the structure may depend on them.
        zeros: where values that multiply tangents may be other numbers than zero, likewise.
        numbers_are_open: whether its programs take the Python numbers in it as arguments; None
            until the first of them runs, which all others then follow.
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

    def new_value(self, aval: Any) -> int:
        """Number a new value."""
        self.avals.append(aval)
        return len(self.avals) - 1

    def aval(self, operand: Operand | Literal) -> Any:
        """The abstract value of an operand."""
        return operand.aval if isinstance(operand, Literal) else self.avals[operand.value]
