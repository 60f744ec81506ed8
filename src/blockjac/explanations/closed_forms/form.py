"""What a closed form is: arrays that are traced, and terms of which they are factors.

Complex numbers are pairs of real ones in the chain rule, with an axis for the two in front. There a
complex factor `z` is the matrix `[[Re z, -Im z], [Im z, Re z]]`, which turns and stretches pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.explanations.contraction import Partial
from blockjac.explanations.expressions import Expression, Letter, Place
from blockjac.explanations.places import equal, fresh
from blockjac.graph.graph import Equation

IN_PAIRS = "[Re, -Im; Im, Re] of {}"
"""What complex numbers are where others are pairs of real ones."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("array", "sources"),
    meta_fields=("word", "is_complex"),
)
@dataclass(frozen=True)
class Helper:
    """An array that a closed form reads.

    Attributes:
        array: traced.
        word: what computes it, with `{}` for each source; empty for an array of the program, or
            one that is written by a formula.
        sources: the arrays of the program that it is computed from.
        is_complex: whether it stands for complex numbers.
    """

    array: Any
    word: str = ""
    sources: tuple[Any, ...] = ()
    is_complex: bool = False

    @property
    def in_pairs(self) -> Helper:
        """The same for the chain rule: complex numbers as matrices of two rows and columns."""
        if not np.issubdtype(self.array.dtype, np.complexfloating):
            return self
        word = IN_PAIRS.format(self.word or "{}")
        sources = self.sources if self.word else (self.array,)
        return Helper(turns(self.array), word, sources, True)


def turns(array: Any) -> Any:
    """Complex numbers as matrices of two rows and columns, on axes in front."""
    real, imaginary = jnp.real(array), jnp.imag(array)
    return jnp.stack([jnp.stack([real, -imaginary]), jnp.stack([imaginary, real])])


@dataclass(frozen=True)
class Factor:
    """An array that terms of a closed form have entries of.

    Attributes:
        entry: an entry, by the places on its axes but for those of the stack; those of a complex
            array have two places in front.
        is_complex: whether it is one.
    """

    entry: Callable[..., Expression]
    is_complex: bool


@dataclass(frozen=True)
class Request:
    """The block of one result of an equation by one of its operands.

    Attributes:
        equation: the equation.
        result: number of the result.
        operand: number of the operand.
        shape: of the operand.
        is_complex: whether the operand is complex.
        phase: the place on the axis of real and imaginary parts of the result; 0 if it is real.
        rows: the places on its other axes.
        batch: the places on the first axes of the operand, if it is a stack of what the form is of.
        factors: the arrays of the closed form.
    """

    equation: Equation
    result: int
    operand: int
    shape: tuple[int, ...]
    is_complex: bool
    phase: Place
    rows: tuple[Place, ...]
    batch: tuple[Place, ...]
    factors: Mapping[str, Factor]

    def chain(self) -> Chain:
        """A term to which factors are added."""
        return Chain(self)


@dataclass
class Chain:
    """A term that is put together factor by factor.

    Attributes:
        request: the block that it is of.
        at: the place of the last complex factor on the axis of real and imaginary parts.
        factors: so far.
        bound: letters that are summed.
    """

    request: Request
    at: Place = field(init=False)
    factors: list[Expression] = field(default_factory=list)
    bound: list[Letter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.at = self.request.phase

    def letter(self, size: int) -> Place:
        """The place of a new letter that is summed, unless an axis has it."""
        letter = fresh(size)
        if size != 1:
            self.bound.append(letter)
        return Place.of(letter)

    def times(self, *factors: Expression) -> Chain:
        """The term with more factors."""
        self.factors += factors
        return self

    def entry(self, name: str, *places: Place) -> Chain:
        """The term with an entry of an array as a factor, batch axes left out."""
        factor = self.request.factors[name]
        if factor.is_complex:
            after = self.letter(2)
            self.factors.append(factor.entry(self.at, after, *places))
            self.at = after
        else:
            self.factors.append(factor.entry(*places))
        return self

    def by(self, *places: Place) -> Partial:
        """The complete term, by an entry of the operand; batch axes left out."""
        axes = (*self.request.batch, *places)
        if self.request.is_complex:
            axes = (self.at, *axes)
        elif self.at != Place():
            self.times(equal(self.at, Place()))
        return Partial(tuple(self.factors), axes, tuple(self.bound))


@dataclass(frozen=True)
class ClosedForm:
    """The Jacobians of a primitive in closed form.

    Attributes:
        arrays: `(equation, inputs, outs)` to what terms are made of, by name; nothing of an
            equation that has no closed form.
        terms: of a block.
        is_closed: whether an equation has a closed form.
        results: words for each result that has no name in a program, with `{}` for the operands.
    """

    arrays: Callable[[Equation, Sequence[Any], Sequence[Any]], dict[str, Helper]]
    terms: Callable[[Request], list[Partial]]
    is_closed: Callable[[Equation, Sequence[Any]], bool] = lambda equation, inputs: True
    results: tuple[str, ...] = ()


CLOSED_FORMS: dict[str, ClosedForm] = {}
"""By primitive name."""


def conjugated(helper: Helper) -> Helper:
    """The conjugate of an array; itself if it is real."""
    if not np.issubdtype(helper.array.dtype, np.complexfloating):
        return helper
    return Helper(jnp.conj(helper.array), f"conj({helper.word or '{}'})", helper.sources)


def of_program(array: Any) -> Helper:
    """An array that the program has."""
    return Helper(array, "", (array,))


def is_real(array: Any) -> bool:
    """Whether an array is real."""
    return bool(np.issubdtype(array.dtype, np.floating))


def identity_like(array: Any) -> Any:
    """The identity of the size of an array's last axis, to be added to stacks of matrices."""
    return np.eye(array.shape[-1], dtype=array.dtype)


def inverse_of_triangle(matrix: Any, is_lower: bool, has_ones: bool = False) -> Any:
    """The inverse of a triangle of a matrix, or of each of a stack.

    Args:
        matrix: square, of which the other triangle is not read.
        is_lower: which triangle.
        has_ones: whether the diagonal is taken to be 1.
    """
    right = jnp.broadcast_to(identity_like(matrix), matrix.shape)
    options = {"left_side": True, "lower": is_lower, "unit_diagonal": has_ones}
    return lax.linalg.triangular_solve(matrix, right, **options)
