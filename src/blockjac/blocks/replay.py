"""What was emitted before, emitted again as the list of its operations.

What two blocks contract to, and by which operations, depends on their structure and on the types of
their arrays alone, and so does what a rule makes of an equation. A program unrolled in Python has
thousands of both, of a few kinds: the second of a kind is traced by itself, and from then on its
operations are bound to the arrays at hand, without solving for indices and without the Python of
`jax.numpy` around each product.

Not so where an answer depends on more than types: on constants of NumPy, which are structure, and
in a batch of `jax.vmap` or over several devices, where products are laid out for those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from blockjac import compat
from blockjac.blocks.block import Block, Structure, flat_parts, flatten, unflatten
from blockjac.promises import is_forwards, is_structure_kept
from blockjac.tracing import is_tracing

MAX_KEPT = 20_000
"""How many kinds of pairs are remembered; past that all are forgotten."""

LARGEST_CONSTANT = 4096
"""Bytes of the constants that may be kept with a list of operations."""


@dataclass(frozen=True, eq=False)
class Form:
    """A kind of block: all that the operations on it depend on. Equal ones are one object.

    Attributes:
        structure: the terms, with arrays by number.
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
        results: of each block its kind and the places of its arrays among all of these values;
            None for one that is not there.
    """

    constants: tuple[Any, ...]
    operations: tuple[Operation, ...]
    results: tuple[tuple[Form, tuple[int, ...]] | None, ...]

    def played(self, arrays: Sequence[Any]) -> list[Block | None]:
        """The blocks from the arrays, each of these once."""
        values = [*arrays, *self.constants]
        for one in self.operations:
            operands = [values[place] for place in one.operands]
            values.extend(compat.bind(one.primitive, operands, one.params))
        return [
            None if one is None else _block(one[0], [values[place] for place in one[1]])
            for one in self.results
        ]


_forms: dict[Any, Form] = {}
_scores: dict[Any, Score | None] = {}
"""By all that decides what is emitted; None for what cannot be replayed."""

_met: set[Any] = set()
"""What was emitted once, and not yet traced by itself."""


def replayed(operation: Callable[[Block, Block], Block], left: Block, right: Block) -> Block:
    """`operation(left, right)`, which looks at structure and types alone.

    Args:
        operation: a contraction or sum of two blocks, emitted in JAX.
        left: a block.
        right: a block.
    """
    first, second = _form(left), _form(right)
    if first is None or second is None:
        return operation(left, right)
    (one, own), (other, others) = first, second

    def again(arrays: Sequence[Any]) -> list[Block | None]:
        count = len(own)
        parts = unflatten(one.structure, arrays[:count]), unflatten(other.structure, arrays[count:])
        return [operation(*parts)]

    (found,) = played((operation, one, other), [*own, *others], again) or (None,)
    return operation(left, right) if found is None else found


def played(
    key: Any,
    arrays: Sequence[Any],
    again: Callable[[Sequence[Any]], Sequence[Block | None] | None],
) -> list[Block | None] | None:
    """The blocks that a computation gives, by the operations that it emitted before.

    Args:
        key: with the types of the arrays, all that decides what is emitted; hashable.
        arrays: of a `type_of`; the same array may stand there twice.
        again: the computation, which is traced by itself at the second time; None for what must not
            be replayed.

    Returns:
        The blocks; None where it has to be computed now, as at the first time.
    """
    number: dict[int, int] = {}
    distinct: list[Any] = []
    pattern = []
    for array in arrays:
        place = number.setdefault(id(array), len(distinct))
        if place == len(distinct):
            distinct.append(array)
        pattern.append(place)
    key = (key, tuple(pattern), _surroundings())
    if key not in _scores:
        if key not in _met:  # it may be the only one of its kind
            _met.add(key)
            return None
        if len(_scores) >= MAX_KEPT:
            forget()
            return None
        _scores[key] = _traced(again, pattern, distinct)
    score = _scores[key]
    return None if score is None else score.played(distinct)


def forget() -> None:
    """Forget all that was remembered."""
    _scores.clear()
    _met.clear()
    _forms.clear()


def _surroundings() -> tuple[Any, ...]:
    """What else decides which operations are emitted."""
    config: Any = jax.config
    return (
        is_tracing(),
        is_forwards(),
        is_structure_kept(),
        compat.mesh_axes(),
        config.jax_enable_x64,
        config.jax_default_matmul_precision,
        config.jax_numpy_dtype_promotion,
        config.jax_numpy_rank_promotion,
    )


def _block(form: Form, arrays: list[Any]) -> Block:
    block = unflatten(form.structure, arrays)
    block.form = form, arrays
    return block


def _form(block: Block) -> tuple[Form, Sequence[Any]] | None:
    """The kind of a block and its arrays; None where more than types count."""
    if block.form is None:
        arrays, structure = flat_parts(block)
        types = tuple(map(type_of, arrays))
        if None in types:
            return None
        block.form = _form_of(structure, types), arrays
    return block.form


def _form_of(structure: Structure, types: tuple[Any, ...]) -> Form:
    # 1, 1.0 and True are equal, and are emitted differently; names ride along with the factors.
    numbers = tuple(type(term[1]) for term in structure.terms)
    key = (structure, tuple(map(tuple, structure.names)), numbers, types)
    found = _forms.get(key)
    if found is None:
        found = _forms[key] = Form(structure, types)
    return found


def type_of(array: Any) -> Any:
    """The type of an array; None where it is a constant, in a batch, or over several devices."""
    if not isinstance(array, jax.Array) or compat.is_batched(array):
        return None
    found = jax.typeof(array)
    return None if compat.is_placed(found) else found


def _traced(
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
        results.append(None if form is None else (form, tuple(map(slot, outs))))
    return Score(tuple(constants), tuple(operations), tuple(results))
