"""What was emitted before, emitted again as the list of its operations.

What two blocks contract to, and by which operations, depends on their structure and on the types of
their arrays alone, and so does what a rule makes of an equation. A program unrolled in Python has
thousands of both, of a few kinds: a frequent kind is traced by itself, and from then on its
operations are bound to the arrays at hand, without solving for indices and without the Python of
`jax.numpy` around each product.

Not so where an answer depends on more than types: on constants of NumPy, which are structure, and
in a batch of `jax.vmap` or over several devices, where products are laid out for those.
"""

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
from blockjac.terms.block import Block, arrays_of, flat_parts, flatten, rebuilt, unflatten
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.structure import Names, Structure
from blockjac.terms.term import Term

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
            None if one is None else _block(one[0], [values[place] for place in one[1]], one[2])
            for one in self.results
        ]


_forms = Table("structures that were emitted", MAX_KEPT)
_scores = Table("operations that were emitted", MAX_KEPT)
"""By all that decides what is emitted; None for what cannot be replayed."""

_met = Table("operations that were met", MAX_KEPT)
"""How often what is not yet traced by itself was emitted."""

FREQUENT = 4
"""From so many times on: to trace takes about as long as to emit four times."""


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
    (one, own, names), (other, others, more) = first, second
    called, numbered = _numbered((*names, *more))

    def again(arrays: Sequence[Any]) -> list[Block | None]:
        parts = (
            replace(one.structure, names=Names(numbered[: len(names)])),
            replace(other.structure, names=Names(numbered[len(names) :])),
        )
        count = len(own)
        return [operation(unflatten(parts[0], arrays[:count]), unflatten(parts[1], arrays[count:]))]

    key = operation, one, other, numbered if called else None
    given = [*own, *others]
    (found,) = played(key, given, again) or (None,)
    if found is None:
        made = operation(left, right)
        if not called:
            note(key, given, [made])
        return made
    return _called(found, called) if called else found


def replayed_array(key: Any, function: Callable[[Block], Any], block: Block) -> Any:
    """The array `function(block)`, which looks at structure and types alone.

    Args:
        key: what tells the function; hashable.
        function: of a block, emitted in JAX.
        block: the block.
    """
    formed = _form(block)
    if formed is None:
        return function(block)
    form, arrays, _ = formed

    def again(parts: Sequence[Any]) -> list[Block | None]:
        array = function(unflatten(form.structure, parts))
        labels = tuple(map(Label, array.shape))
        term = Term((Factor(array, labels),), (), tuple(map(Index.of, labels)))
        return [rebuilt((), array.shape, array.dtype, [term])]

    (found,) = played((key, form), arrays, again) or (None,)
    return function(block) if found is None else found.form[1][0]


def _numbered(
    names: Sequence[Sequence[str]],
) -> tuple[list[str], tuple[tuple[str, ...], ...]]:
    """The names, each once, and numbers in their place: a kind does not depend on what they are."""
    numbers: dict[str, str] = {}
    numbered = tuple(
        [
            tuple([numbers.setdefault(name, str(len(numbers))) if name else "" for name in own])
            for own in names
        ]
    )
    return list(numbers), numbered


def _called(block: Block, names: Sequence[str]) -> Block:
    """A block with names in place of their numbers."""
    form, arrays, numbered = block.form
    called = tuple(tuple(names[int(one)] if one else "" for one in own) for own in numbered)
    return _block(form, arrays, called)


def played(
    key: Any,
    arrays: Sequence[Any],
    again: Callable[[Sequence[Any]], Sequence[Block | None] | None],
) -> list[Block | None] | None:
    """The blocks that a computation gives, by the operations that it emitted before.

    Args:
        key: with the types of the arrays, all that decides what is emitted; hashable.
        arrays: of a `type_of`; the same array may stand there twice.
        again: the computation, which is traced by itself when it is frequent; None for what must
            not be replayed.

    Returns:
        The blocks; None where it has to be computed now, as at the first times.
    """
    distinct, pattern = _distinct(arrays)
    key = (key, tuple(pattern), _surroundings())
    score = _scores.get(key)
    if score is None and key not in _scores:
        met = _met.pop(key, 0) + 1
        if max(len(_scores), len(_met), len(_forms)) >= MAX_KEPT:
            forget()
        if met < FREQUENT:  # there may be few of its kind
            _met[key] = met
            return None
        score = _scores[key] = _traced(again, pattern, distinct)
    return None if score is None else score.played(distinct)


def note(key: Any, arrays: Sequence[Any], blocks: Sequence[Block | None]) -> None:
    """Remember a computation that has just been made, if it only put its arrays in other places.

    Most do: a coefficient, a delta or a transposed operand takes no operation. Nothing is to be
    traced then.

    Args:
        key: as in `played`, which has given None for it.
        arrays: likewise.
        blocks: what was computed.
    """
    distinct, pattern = _distinct(arrays)
    key = (key, tuple(pattern), _surroundings())
    if key in _scores:
        return
    place = {id(array): number for number, array in enumerate(distinct)}
    results = []
    for block in blocks:
        if block is None:
            results.append(None)
            continue
        if any(id(array) not in place for array in arrays_of(block)):
            return
        formed = _form(block)
        places = [] if formed is None else [place.get(id(array)) for array in formed[1]]
        if formed is None or None in places:  # a lookup may be a constant
            return
        results.append((formed[0], tuple(places), formed[2]))
    _met.pop(key, None)
    _scores[key] = Score((), (), tuple(results))


def _distinct(arrays: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """Each array once, and for each of those given its place among them."""
    number: dict[int, int] = {}
    distinct: list[Any] = []
    pattern = []
    for array in arrays:
        place = number.setdefault(id(array), len(distinct))
        if place == len(distinct):
            distinct.append(array)
        pattern.append(place)
    return distinct, pattern


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
        is_in_a_step(),
        is_forwards(),
        is_structure_kept(),
        compat.mesh_axes(),
        config.jax_enable_x64,
        config.jax_default_matmul_precision,
        config.jax_numpy_dtype_promotion,
        config.jax_numpy_rank_promotion,
    )


def _block(form: Form, arrays: list[Any], names: NamesOfFactors) -> Block:
    structure = form.structure
    if any(map(any, names)):
        structure = replace(structure, names=Names(names))
    block = unflatten(structure, arrays)
    block.form = form, arrays, names
    return block


def _form(block: Block) -> tuple[Form, Sequence[Any], NamesOfFactors] | None:
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
    found = _forms.get(key)
    if found is None:
        bare = replace(structure, names=structure.names.without())
        found = _forms[key] = Form(bare, types)
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
        names = () if one is None else tuple(one[0].names)
        results.append(None if form is None else (form, tuple(map(slot, outs)), names))
    return Score(tuple(constants), tuple(operations), tuple(results))
