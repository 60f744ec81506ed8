"""What the elemental Jacobians of one equation are built from, as a graph that is differentiated.

A rule is a function from operands and results to the arrays of its Blocks. Traced like any other
function, it gives second derivatives by the rules for first ones: `exp` has the coefficient `y`, a
product has the other operand. A function with a rule of its own has the arrays of its block
Jacobian. Coefficients that do not vary belong to a linear map, or to one that is linear piecewise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import jax
import numpy as np

from blockjac.algebra.backend import emitting
from blockjac.base import compat
from blockjac.base.caches import Cache
from blockjac.base.promises import is_structure_kept
from blockjac.blocks import Block
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.elemental import rule_edges
from blockjac.engine.computations import Jacobian
from blockjac.graph.graph import Equation, Graph, Operand, OwnRule
from blockjac.graph.linearity import is_inexact
from blockjac.graph.trace import trace
from blockjac.operators.operator import Operator
from blockjac.rules import RULES
from blockjac.rules.registry import edition
from blockjac.terms.block import flatten, unflatten
from blockjac.terms.structure import Structure


@dataclass(frozen=True, eq=False)
class Form:
    """A Block without its arrays.

    Attributes:
        structure: the rest of it.
        parts: for each of its arrays the number of a result of the graph, or a constant of NumPy.
    """

    structure: Structure
    parts: tuple[int | np.ndarray, ...]

    @property
    def numbers(self) -> list[int]:
        """The numbers of the results of the graph among the arrays."""
        return [part for part in self.parts if isinstance(part, int)]

    def filled(self, arrays: Sequence[Any]) -> Block:
        """The Block, from all results of the graph."""
        parts = [arrays[part] if isinstance(part, int) else part for part in self.parts]
        return unflatten(self.structure, parts)


@dataclass(eq=False)
class Coefficients:
    """The arrays of an equation's elemental Jacobians, as a graph of its operands and results.

    Attributes:
        graph: from the arrays among operands and results to all arrays of the Blocks.
        taken: which of operands and results, in this order, the graph takes; the others are
            constants.
        blocks: for each result and operand the form of its Block; None for the zero block.
        is_symmetric: whether the mixed derivatives by two operands are the same in either order:
            those of a primitive are, those of a rule that a user wrote need not be.
    """

    graph: Graph
    taken: tuple[int, ...]
    blocks: tuple[tuple[Form | None, ...], ...]
    is_symmetric: bool

    def varying(self, row: int, column: int) -> list[int]:
        """The numbers of those results of the graph in a Block that vary."""
        form = self.blocks[row][column]
        return [] if form is None else [part for part in form.numbers if part in self.varying_all]

    @cached_property
    def varying_all(self) -> frozenset[int]:
        """The numbers of all results of the graph that vary with operands or results."""
        vertices = ActiveGraph.of(self.graph, self.graph.outputs).vertices
        return frozenset(
            number
            for number, output in enumerate(self.graph.outputs)
            if isinstance(output, Operand) and output.vertex in vertices
        )

    def block(self, row: int, column: int, arrays: Sequence[Any]) -> Block | None:
        """A Block from all results of the graph."""
        form = self.blocks[row][column]
        return None if form is None else form.filled(arrays)


_cache: Cache[Coefficients | None] = Cache("coefficients of equations", 1024)


def of_rule(
    primitive: Any,
    params: dict[str, Any],
    operands: Sequence[Any],
    results: Sequence[Any],
    active: Sequence[bool],
) -> Coefficients | None:
    """The coefficients of a primitive with a rule; None if the rule gives more than Blocks.

    Args:
        primitive: the JAX primitive.
        params: its parameters.
        operands: its operands; constants that the rule may depend on as NumPy arrays.
        results: its results.
        active: which operands are differentiated.
    """
    if primitive.name not in RULES:
        return None

    def rows_of(operands: Sequence[Any], results: Sequence[Any]) -> list[list[Any]] | None:
        rows = rule_edges(Equation(primitive, (), (), params), operands, results, active)
        has_operators = any(isinstance(edge, Operator) for row in rows or () for edge in row)
        return None if rows is None or has_operators else rows

    make = partial(_traced, rows_of, operands, results, active, True)
    key = _key(primitive.name, params, operands, results, active)
    return make() if key is None else _cache.made(key, make)


def of_own_rule(
    own: OwnRule, operands: Sequence[Any], results: Sequence[Any], active: Sequence[bool]
) -> Coefficients | None:
    """The coefficients of a function with a derivative rule of its own.

    Args:
        own: the function.
        operands: its operands.
        results: its results.
        active: which operands are differentiated.
    """
    moving = [number for number, is_active in enumerate(active) if is_active]

    def rows_of(operands: Sequence[Any], results: Sequence[Any]) -> list[list[Any]]:
        """The block Jacobian of the function, by its rule."""
        del results
        inner = list(operands)

        def results_of(*parts: Any) -> list[Any]:
            for number, part in zip(moving, parts, strict=True):
                inner[number] = part
            return compat.bind(own.primitive, inner, own.params)

        point = [operands[number] for number in moving]
        graph = trace(results_of, point, range(len(point)))
        smooth = [n for n, output in enumerate(graph.outputs) if is_inexact(graph.aval(output))]
        graph.outputs = tuple(graph.outputs[n] for n in smooth)
        jacobian = Jacobian(len(smooth), graph.independents, "auto", dense=False)
        _, answer = jacobian(graph, point, graph.captured, ())
        rows: list[list[Any]] = [[None] * len(active) for _ in results_shapes]
        for number, row in zip(smooth, answer, strict=True):
            for column, block in zip(moving, row, strict=True):
                rows[number][column] = block
        return rows

    results_shapes = results
    return _traced(rows_of, operands, results, active, False)


def _traced(
    rows_of: Callable[[Sequence[Any], Sequence[Any]], list[list[Any]] | None],
    operands: Sequence[Any],
    results: Sequence[Any],
    active: Sequence[bool],
    is_symmetric: bool,
) -> Coefficients | None:
    """The graph of a function that gives rows of Blocks."""
    values = [*operands, *results]
    taken = [number for number, value in enumerate(values) if not isinstance(value, np.ndarray)]
    moves = [*active, *(is_inexact(result) for result in results)]
    blocks: list[tuple[Form | None, ...]] = []
    is_written = True

    def arrays_of_rows(*arrays: Any) -> list[Any]:
        """All arrays of all Blocks but constants; notes their forms in `blocks`."""
        nonlocal is_written
        full = list(values)
        for number, array in zip(taken, arrays, strict=True):
            full[number] = array
        rows = rows_of(full[: len(operands)], full[len(operands) :])
        if rows is None:
            is_written = False
            return []
        found: list[Any] = []
        blocks.extend(tuple(_form(block, found) for block in row) for row in rows)
        return found

    shapes = [compat.struct(jax.typeof(values[number])) for number in taken]
    differentiated = [place for place, number in enumerate(taken) if moves[number]]
    with emitting():
        graph = trace(arrays_of_rows, shapes, differentiated, second=True)
    return Coefficients(graph, tuple(taken), tuple(blocks), is_symmetric) if is_written else None


def _form(block: Block | None, found: list[Any]) -> Form | None:
    """A Block without its arrays, which are added to those found before; constants stay in it."""
    if block is None or block.is_zero:
        return None
    arrays, structure = flatten(block)
    parts: list[int | np.ndarray] = []
    for array in arrays:
        if isinstance(array, np.ndarray):
            parts.append(cast("np.ndarray", array))
        else:
            parts.append(len(found))
            found.append(array)
    return Form(structure, tuple(parts))


def _key(
    name: str,
    params: dict[str, Any],
    operands: Sequence[Any],
    results: Sequence[Any],
    active: Sequence[bool],
) -> Any:
    """What the coefficients of a rule depend on, hashable; None where they cannot be shared."""
    if any(map(compat.is_jaxpr, params.values())):
        return None
    values = *operands, *results
    if any(compat.is_placed(_type_of(value)) for value in values):
        return None
    types = tuple(map(_value_key, values))
    key: tuple[Any, ...] = (
        edition(),
        name,
        types,
        tuple(params.items()),
        tuple(active),
        is_structure_kept(),
    )
    try:
        hash(key)
    except TypeError:  # a parameter without a hash
        return None
    return key


def _value_key(value: Any) -> tuple[Any, ...]:
    """The type of an array, and of a constant its numbers."""
    if isinstance(value, np.ndarray):
        array = cast("np.ndarray", value)
        return array.shape, str(array.dtype), hashlib.sha256(array.tobytes()).digest()
    return value.shape, value.dtype, getattr(value, "weak_type", False)


def _type_of(value: Any) -> Any:
    return getattr(value, "aval", value)
