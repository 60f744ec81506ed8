"""Lists of operations: how to trace them, and the kinds of blocks that they are for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax

from blockjac.base import compat
from blockjac.base.caches import Table
from blockjac.base.promises import is_forwards, is_structure_kept
from blockjac.base.tracing import is_in_a_step, is_tracing
from blockjac.terms.block import Block, flat_parts, flatten, unflatten
from blockjac.terms.structure import Names, Structure, bytes_of

MAX_KEPT = 20_000
"""The number of kinds to remember; beyond it all are forgotten."""

LARGEST_CONSTANT = 4096
"""The largest number of bytes of constants to keep with a list of operations."""

NamesOfFactors = tuple[tuple[str, ...], ...]
"""The names of factors, by term; empty strings for factors without a name."""


@dataclass(frozen=True, eq=False)
class Form:
    """A kind of block: all that the operations on it depend on. Equal forms are one object.

    Attributes:
        structure: the terms, with arrays by number, without names.
        types: the JAX types of the arrays.
    """

    structure: Structure
    types: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation of a list.

    Attributes:
        primitive: a JAX primitive.
        params: its parameters.
        operands: positions among the values so far.
    """

    primitive: Any
    params: dict[str, Any]
    operands: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Score:
    """The operations and results of a computation.

    Its values are numbered: the input arrays, then the constants, then the operations' results.

    Attributes:
        constants: the constants.
        operations: the operations.
        results: for each block its form, the positions of its arrays among all values, and the
            names of its factors; None for a block that is None.
    """

    constants: tuple[Any, ...]
    operations: tuple[Operation, ...]
    results: tuple[tuple[Form, tuple[int, ...], NamesOfFactors] | None, ...]

    def played(self, arrays: Sequence[Any]) -> list[Block | None]:
        """The blocks that the computation makes of distinct arrays."""
        values = [*arrays, *self.constants]
        for operation in self.operations:
            operands = [values[position] for position in operation.operands]
            values.extend(compat.bind(operation.primitive, operands, operation.params))
        blocks: list[Block | None] = []
        for result in self.results:
            if result is None:
                blocks.append(None)
            else:
                form, positions, names = result
                blocks.append(block_of(form, [values[position] for position in positions], names))
        return blocks


forms = Table("structures that were emitted", MAX_KEPT)


def surroundings() -> tuple[Any, ...]:
    """The settings and contexts that also decide which operations are emitted."""
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
    """The block of a form with these arrays, its factors called by these names."""
    structure = form.structure
    if any(map(any, names)):
        structure = replace(structure, names=Names(names))
    block = unflatten(structure, arrays)
    block.form = form, arrays, names
    return block


def form_of_block(block: Block) -> tuple[Form, Sequence[Any], NamesOfFactors] | None:
    """The form of a block, its arrays and their names; None if more than types counts."""
    if block.form is None:
        arrays, structure = flat_parts(block)
        types = tuple(map(type_of, arrays))
        if None in types:
            return None
        block.form = _form_of(structure, types), arrays, tuple(structure.names)
    return block.form


def _form_of(structure: Structure, types: tuple[Any, ...]) -> Form:
    """The form of a structure with arrays of these types; equal forms are one object."""
    # The coefficients 1, 1.0 and True are equal, but are emitted differently.
    key = (structure, tuple(term.coefficient.__class__ for term in structure.terms), types)
    form = forms.get(key)
    if form is None:
        bare = replace(structure, names=structure.names.without())
        form = forms[key] = Form(bare, types)
    return form


def type_of(array: Any) -> Any:
    """The type of an array; None if it is a constant, in a batch, or over several devices."""
    if not isinstance(array, jax.Array) or compat.is_batched(array):
        return None
    aval = jax.typeof(array)
    return None if compat.is_placed(aval) else aval


def traced(
    again: Callable[[Sequence[Any]], Sequence[Block | None] | None],
    pattern: Sequence[int],
    arrays: Sequence[Any],
) -> Score | None:
    """The score of a computation; None if its blocks hold constants, or it uses large ones."""
    recorded: list[tuple[Structure, list[int]] | None] = []
    is_fit = True

    def emitted(*stand_ins: Any) -> list[Any]:
        """The inputs, then the arrays of the blocks; records where each block has its arrays."""
        nonlocal is_fit
        blocks = again([stand_ins[number] for number in pattern])
        values = list(stand_ins)
        position = {id(array): number for number, array in enumerate(values)}
        for block in blocks or ():
            if block is None:
                recorded.append(None)
                continue
            results, structure = flatten(block)
            for array in results:
                if position.setdefault(id(array), len(values)) == len(values):
                    values.append(array)
            is_fit = is_fit and all(isinstance(array, compat.Tracer) for array in results)
            recorded.append((structure, [position[id(array)] for array in results]))
        is_fit = is_fit and blocks is not None
        return values if is_fit else []

    closed = jax.make_jaxpr(emitted)(*[compat.struct(jax.typeof(array)) for array in arrays])
    return _written(closed, recorded) if is_fit else None


def _written(closed: Any, blocks: Sequence[tuple[Structure, Sequence[int]] | None]) -> Score | None:
    """The score of a jaxpr, whose results are its arguments and then the blocks' arrays."""
    jaxpr = compat.open_jaxpr(closed)
    constants = list(compat.constants(closed))
    if bytes_of(constants) > LARGEST_CONSTANT:
        return None
    slots: dict[Any, int] = {}
    for variable in (*jaxpr.invars, *jaxpr.constvars):
        slots[variable] = len(slots)
    atoms = [atom for equation in jaxpr.eqns for atom in equation.invars] + list(jaxpr.outvars)
    literals = {id(atom): atom for atom in atoms if hasattr(atom, "val")}
    literal_slots = {name: len(slots) + count for count, name in enumerate(literals)}
    constants += [atom.val for atom in literals.values()]
    after = len(jaxpr.invars) + len(constants)

    def slot(atom: Any) -> int:
        return literal_slots[id(atom)] if hasattr(atom, "val") else slots[atom]

    operations: list[Operation] = []
    for equation in jaxpr.eqns:
        operands = tuple(map(slot, equation.invars))
        operations.append(Operation(equation.primitive, equation.params, operands))
        for variable in equation.outvars:
            slots[variable] = after
            after += 1
    results: list[tuple[Form, tuple[int, ...], NamesOfFactors] | None] = []
    for block in blocks:
        if block is None:
            results.append(None)
            continue
        structure, positions = block
        outs = [jaxpr.outvars[position] for position in positions]
        form = _form_of(structure, tuple(atom.aval for atom in outs))
        results.append((form, tuple(map(slot, outs)), tuple(structure.names)))
    return Score(tuple(constants), tuple(operations), tuple(results))
