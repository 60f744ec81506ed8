"""Places that are known while a program is traced: constant indices of gathers and scatters.

The structure of a Jacobian depends on which entries a gather reads. Where these are constants of
the program (captured index arrays, and what is computed of them), they are computed once, before
the program is, and the Jacobian's structure may look at them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.devices import host_limit
from blockjac.graph.graph import Equation, Graph, Known, Literal, Operand, values_of
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
"""What a place takes that is known: as the program has it, in the structure, and in lists of it.

Arrays of places stay values of the program where that is more than the machine's share of memory.
No fewer, since places that are not known cost far more: where two arrays of them meet, each pair of
places is compared. Masks, which have as many entries as what they mask, are known up to
`LARGEST_MASK` entries.
"""


def with_known_places(
    graph: Graph, told: Sequence[Known | None] = (), beside: Sequence[int] = ()
) -> Graph:
    """The graph with the places that are constants in `known`.

    Args:
        graph: the traced function, or the program inside of an equation.
        told: what is known of each of its inputs.
        beside: integers and booleans that are wanted as well, where they are known.
    """
    inside = {one: read_inside(one) for one in graph.equations if has_inside(one)}
    places = _wanted(
        graph,
        lambda one: (
            *place_operands(one.primitive.name, one.operands),
            *(_operands_of(one, inside[one].numbers) if one in inside else ()),
        ),
        beside,
    )
    wanted = places | _wanted(
        graph, lambda one: mask_operands(one.primitive.name, one.params, one.operands)
    )
    given = {value: one for value, one in zip(graph.inputs, told, strict=False) if one is not None}
    captured = {
        value: np.asarray(array)
        for value, array in zip(graph.constants, graph.captured, strict=False)
        if value in wanted
        and not isinstance(array, compat.Tracer)
        and _is_small(graph.avals[value])
    }
    known: dict[int, np.ndarray] = dict(captured)
    known.update((value, one.numbers) for value, one in given.items() if one.numbers is not None)
    for equation in graph.equations:
        if wanted.isdisjoint(equation.results) or not _is_computed(equation, known, graph):
            continue
        if places.isdisjoint(equation.results) and not _is_small_mask(equation, graph):
            continue
        with jax.ensure_compile_time_eval():
            operands = [_value(operand, known) for operand in equation.operands]
            results = compat.bind(equation.primitive, operands, equation.params)
        for value, result in zip(equation.results, results, strict=True):
            known[value] = np.asarray(result)
    masks = {
        value
        for equation in graph.equations
        if _is_choice(equation)
        for value in values_of(equation.operands[:1])
        if graph.avals[value].size <= LARGEST_MASK
    }
    kept = {value for value in (places | masks) & set(known) if is_index(graph.avals[value])}
    patterns = patterns_of(
        graph,
        known,
        {
            **patterns_of_counts(graph),
            **{value: one.may for value, one in given.items() if one.may is not None},
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
            replace(one, told=told_of(one, inside[one], known, patterns)) if one in inside else one
            for one in graph.equations
        ],
        known={value: known[value] for value in sorted(kept)},
        zeros=zeros_of(graph, patterns),
    )


def _operands_of(equation: Equation, chosen: Sequence[bool]) -> list[Operand | Literal]:
    return [one for one, wanted in zip(equation.operands, chosen, strict=True) if wanted]


def _wanted(
    graph: Graph, chosen: Callable[[Equation], Sequence[Any]], beside: Sequence[int] = ()
) -> set[int]:
    """The values that the chosen operands of equations, and others, are computed from."""
    wanted = set(beside)
    for equation in reversed(graph.equations):
        wanted.update(values_of(chosen(equation)))
        if not wanted.isdisjoint(equation.results):
            wanted.update(values_of(equation.operands))
    return wanted


def _is_choice(equation: Equation) -> bool:
    """Whether an equation chooses among differentiated values."""
    return equation.primitive.name == "select_n" and any(
        isinstance(operand, Operand) and operand.vertex is not None
        for operand in equation.operands[1:]
    )


def _is_small_mask(equation: Equation, graph: Graph) -> bool:
    return all(graph.avals[value].size <= LARGEST_MASK for value in equation.results)


def _is_computed(equation: Equation, known: Mapping[int, Any], graph: Graph) -> bool:
    """Whether an equation computes few numbers, of nothing but constants of one device."""
    if "axis_name" in equation.params or not (equation.operands or _is_iota(equation)):
        return False
    return all(_is_small(graph.avals[value]) for value in equation.results) and all(
        isinstance(operand, Literal) or operand.value in known for operand in equation.operands
    )


def _is_iota(equation: Equation) -> bool:
    return equation.primitive.name == "iota"


def _is_small(aval: Any) -> bool:
    return is_number(aval) and BYTES_A_PLACE * aval.size <= host_limit()


def _value(operand: Operand | Literal, known: Mapping[int, Any]) -> Any:
    return operand.value if isinstance(operand, Literal) else jnp.asarray(known[operand.value])
