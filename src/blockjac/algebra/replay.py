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
from dataclasses import replace
from typing import Any

from blockjac.algebra.scores import (
    MAX_KEPT,
    Score,
    block_of,
    form_of_block,
    forms,
    surroundings,
    traced,
)
from blockjac.base.caches import Table
from blockjac.terms.block import Block, arrays_of, rebuilt, unflatten
from blockjac.terms.factor import Factor
from blockjac.terms.index import Index, Label
from blockjac.terms.structure import Names
from blockjac.terms.term import Term

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
    first, second = form_of_block(left), form_of_block(right)
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
    formed = form_of_block(block)
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
    return block_of(form, arrays, called)


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
    key = (key, tuple(pattern), surroundings())
    score = _scores.get(key)
    if score is None and key not in _scores:
        met = _met.pop(key, 0) + 1
        if max(len(_scores), len(_met), len(forms)) >= MAX_KEPT:
            forget()
        if met < FREQUENT:  # there may be few of its kind
            _met[key] = met
            return None
        score = _scores[key] = traced(again, pattern, distinct)
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
    key = (key, tuple(pattern), surroundings())
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
        formed = form_of_block(block)
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
    forms.clear()
