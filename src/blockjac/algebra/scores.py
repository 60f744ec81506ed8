"""Lists of operations: how one is traced, and the kinds of blocks that it is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from blockjac.base import compat
from blockjac.base.caches import Table
from blockjac.base.promises import is_forwards, is_structure_kept
from blockjac.base.tracing import is_in_a_step, is_tracing
from blockjac.terms.block import Block, flat_parts, flatten, unflatten
from blockjac.terms.structure import Names, Structure

MAX_KEPT = 20_000
"""How many kinds are remembered; past that all are forgotten."""

LARGEST_CONSTANT = 4096
"""Bytes of the constants that may be kept with a list of operations."""


NamesOfFactors = tuple[tuple[str, ...], ...]
"""By term; empty for those without one."""


@dataclass(frozen=True, eq=False)
class Form:
    """A kind of block: all that the operations on it depend on. Equal ones are one object.

    Attributes:
        structure: the terms, with arrays by number, without names.
        types: of the arrays, as JAX has them.
    """

    structure: Structure
    types: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation of a list.

    Attributes:
        primitive: of JAX.
        params: its parameters.
        operands: places among the values so far.
    """

    primitive: Any
    params: dict[str, Any]
    operands: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Score:
    """What gives the blocks of a computation.

    Attributes:
        constants: values that stand behind the arrays that it is given.
        operations: whose results stand behind those, in order.
        results: of each block its kind, the places of its arrays among all of these values, and
            the names of its factors; None for one that is not there.
    """

    constants: tuple[Any, ...]
    operations: tuple[Operation, ...]
    results: tuple[tuple[Form, tuple[int, ...], NamesOfFactors] | None, ...]

    def played(self, arrays: Sequence[Any]) -> list[Block | None]:
        """The blocks from the arrays, each of these once."""
        values = [*arrays, *self.constants]
        for one in self.operations:
            operands = [values[place] for place in one.operands]
            values.extend(compat.bind(one.primitive, operands, one.params))
        return [
            None if one is None else block_of(one[0], [values[place] for place in one[1]], one[2])
            for one in self.results
        ]


forms = Table("structures that were emitted", MAX_KEPT)


def surroundings() -> tuple[Any, ...]:
    """What else decides which operations are emitted."""
    config: Any = jax.config
    return (
        is_tracing(),
        is_in_a_step(),
        is_forwards(),
        is_structure_kept(),
        compat.mesh_axes(),
        config.jax_enable_x64,
        config.jax_default_matmul_precision,
        config.jax_numpy_dtype_promotion,
        config.jax_numpy_rank_promotion,
    )


def block_of(form: Form, arrays: list[Any], names: NamesOfFactors) -> Block:
    """The block of a kind with these arrays, its factors called by their names."""
    structure = form.structure
    if any(map(any, names)):
        structure = replace(structure, names=Names(names))
    block = unflatten(structure, arrays)
    block.form = form, arrays, names
    return block


def form_of_block(block: Block) -> tuple[Form, Sequence[Any], NamesOfFactors] | None:
    """The kind of a block, its arrays and their names; None where more than types count."""
    if block.form is None:
        arrays, structure = flat_parts(block)
        types = tuple(map(type_of, arrays))
        if None in types:
            return None
        block.form = _form_of(structure, types), arrays, tuple(structure.names)
    return block.form


def _form_of(structure: Structure, types: tuple[Any, ...]) -> Form:
    # 1, 1.0 and True are equal, and are emitted differently.
    key = (structure, tuple(type(term[1]) for term in structure.terms), types)
    found = forms.get(key)
    if found is None:
        bare = replace(structure, names=structure.names.without())
        found = forms[key] = Form(bare, types)
    return found


def type_of(array: Any) -> Any:
    """The type of an array; None where it is a constant, in a batch, or over several devices."""
    if not isinstance(array, jax.Array) or compat.is_batched(array):
        return None
    found = jax.typeof(array)
    return None if compat.is_placed(found) else found


def traced(
    again: Callable[[Sequence[Any]], Sequence[Block | None] | None],
    pattern: Sequence[int],
    arrays: Sequence[Any],
) -> Score | None:
    """The operations that a computation emits; None where blocks hold constants or large ones."""
    found: list[tuple[Structure, list[int]] | None] = []
    is_fit = True

    def emitted(*stand_ins: Any) -> list[Any]:
        nonlocal is_fit
        blocks = again([stand_ins[number] for number in pattern])
        values = list(stand_ins)
        place = {id(array): number for number, array in enumerate(values)}
        for block in blocks or ():
            made, structure = ([], None) if block is None else flatten(block)
            for array in made:
                if place.setdefault(id(array), len(values)) == len(values):
                    values.append(array)
            is_fit = is_fit and all(isinstance(array, compat.Tracer) for array in made)
            places = [place[id(array)] for array in made]
            found.append(None if structure is None else (structure, places))
        is_fit = is_fit and blocks is not None
        return values if is_fit else []

    closed = jax.make_jaxpr(emitted)(*[compat.struct(jax.typeof(array)) for array in arrays])
    return _written(closed, found) if is_fit else None


def _written(closed: Any, found: Sequence[tuple[Structure, Sequence[int]] | None]) -> Score | None:
    """The operations of a jaxpr, whose results are its arguments and then the blocks' arrays."""
    jaxpr = compat.open_jaxpr(closed)
    constants = list(compat.constants(closed))
    if sum(np.size(one) * np.dtype(one.dtype).itemsize for one in constants) > LARGEST_CONSTANT:
        return None
    slots: dict[Any, int] = {}
    for variable in (*jaxpr.invars, *jaxpr.constvars):
        slots[variable] = len(slots)
    atoms = [atom for equation in jaxpr.eqns for atom in equation.invars] + list(jaxpr.outvars)
    literals = {id(atom): atom for atom in atoms if hasattr(atom, "val")}
    number = {name: len(slots) + place for place, name in enumerate(literals)}
    constants += [atom.val for atom in literals.values()]
    after = len(jaxpr.invars) + len(constants)

    def slot(atom: Any) -> int:
        return number[id(atom)] if hasattr(atom, "val") else slots[atom]

    operations = []
    for equation in jaxpr.eqns:
        operands = tuple(map(slot, equation.invars))
        operations.append(Operation(equation.primitive, equation.params, operands))
        for variable in equation.outvars:
            slots[variable] = after
            after += 1
    results = []
    for one in found:
        outs = [] if one is None else [jaxpr.outvars[place] for place in one[1]]
        form = None if one is None else _form_of(one[0], tuple(atom.aval for atom in outs))
        names = () if one is None else tuple(one[0].names)
        results.append(None if form is None else (form, tuple(map(slot, outs)), names))
    return Score(tuple(constants), tuple(operations), tuple(results))
