"""Indices of gathers and scatters that are known while a program is traced.

The structure of a Jacobian depends on which entries a gather reads. If the indices are constants of
the program (captured index arrays, and what is computed from them), they are computed once, before
the program is compiled, and the structure of the Jacobian may depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from blockjac.base import compat
from blockjac.devices import host_limit
from blockjac.graph.demanded import demanded
from blockjac.graph.graph import Atom, Equation, Graph, Known, Literal, Operand, values_of
from blockjac.graph.known_arithmetic import computed
from blockjac.graph.known_counts import patterns_of_counts
from blockjac.graph.known_inside import (
    has_inside,
    is_index,
    mask_operands,
    place_operands,
    read_inside,
)
from blockjac.graph.known_inside import told as told_of
from blockjac.graph.known_zeros import is_number, patterns_of, zeros_of
from blockjac.graph.zero_rules import LARGEST as LARGEST_MASK

BYTES_A_PLACE = 32
"""Bytes that a known index takes: in the program, in the structure, and in lists made from it.

An index array stays a value of the program if it would take more than the host's share of memory.
The limit is not lower because unknown indices cost far more: where two arrays of them meet, every
pair of indices is compared. Masks, which have as many entries as what they mask, are known up to
`LARGEST_MASK` entries.
"""


def with_known_places(
    graph: Graph, told: Sequence[Known | None] = (), beside: Sequence[int] = ()
) -> Graph:
    """The graph, with its constant indices and masks in `known`.

    Args:
        graph: the traced function, or the program inside of an equation.
        told: what is known about each of its inputs.
        beside: further integers and booleans to find, if they are known.
    """
    inside = {
        equation: read_inside(equation) for equation in graph.equations if has_inside(equation)
    }

    def indices_of(equation: Equation) -> Sequence[Atom]:
        own = place_operands(equation.primitive.name, equation.operands)
        if equation not in inside:
            return own
        return [*own, *_operands_of(equation, inside[equation].numbers)]

    def masks_of(equation: Equation) -> Sequence[Atom]:
        return mask_operands(equation.primitive.name, equation.params, equation.operands)

    def chosen(operands_of: Callable[[Equation], Sequence[Atom]]) -> list[int]:
        return values_of(atom for equation in graph.equations for atom in operands_of(equation))

    indices = demanded(graph, [*beside, *chosen(indices_of)])
    needed = indices | demanded(graph, chosen(masks_of))
    inputs = {
        value: facts for value, facts in zip(graph.inputs, told, strict=False) if facts is not None
    }
    known = _known(graph, indices, needed, inputs)
    masks = {
        value
        for equation in graph.equations
        if _is_choice(equation)
        for value in values_of(equation.operands[:1])
        if graph.avals[value].size <= LARGEST_MASK
    }
    retained = {value for value in (indices | masks) & set(known) if is_index(graph.avals[value])}
    patterns = patterns_of(
        graph,
        known,
        {
            **patterns_of_counts(graph),
            **{value: facts.may for value, facts in inputs.items() if facts.may is not None},
        },
        {
            value
            for equation, decides in inside.items()
            for value in values_of(_operands_of(equation, decides.zeros))
        },
    )
    return replace(
        graph,
        equations=[
            replace(equation, told=told_of(equation, inside[equation], known, patterns))
            if equation in inside
            else equation
            for equation in graph.equations
        ],
        known={value: known[value] for value in sorted(retained)},
        zeros=zeros_of(graph, patterns),
    )


def _known(
    graph: Graph, indices: set[int], needed: set[int], inputs: Mapping[int, Known]
) -> dict[int, np.ndarray]:
    """The needed values that are constants: captured, known as inputs, or computed from these."""
    known: dict[int, np.ndarray] = {
        value: np.asarray(array)
        for value, array in zip(graph.constants, graph.captured, strict=False)
        if value in needed
        and not isinstance(array, compat.Tracer)
        and _is_small(graph.avals[value])
    }
    known.update(
        (value, facts.numbers) for value, facts in inputs.items() if facts.numbers is not None
    )
    for equation in graph.equations:
        if needed.isdisjoint(equation.results) or not _is_computed(equation, known, graph):
            continue
        if indices.isdisjoint(equation.results) and not _is_small_mask(equation, graph):
            continue
        known.update(zip(equation.results, computed(equation, known, graph), strict=True))
    return known


def _operands_of(equation: Equation, chosen: Sequence[bool]) -> list[Atom]:
    return [atom for atom, is_chosen in zip(equation.operands, chosen, strict=True) if is_chosen]


def _is_choice(equation: Equation) -> bool:
    """Whether an equation chooses among differentiated values."""
    return equation.primitive.name == "select_n" and any(
        isinstance(operand, Operand) and operand.vertex is not None
        for operand in equation.operands[1:]
    )


def _is_small_mask(equation: Equation, graph: Graph) -> bool:
    return all(graph.avals[value].size <= LARGEST_MASK for value in equation.results)


def _is_computed(equation: Equation, known: Mapping[int, Any], graph: Graph) -> bool:
    """Whether an equation computes few numbers, from constants alone and on a single device."""
    if "axis_name" in equation.params or not (equation.operands or _is_iota(equation)):
        return False
    return all(_is_small(graph.avals[value]) for value in equation.results) and all(
        isinstance(operand, Literal) or operand.value in known for operand in equation.operands
    )


def _is_iota(equation: Equation) -> bool:
    return equation.primitive.name == "iota"


def _is_small(aval: Any) -> bool:
    return is_number(aval) and BYTES_A_PLACE * aval.size <= host_limit()
