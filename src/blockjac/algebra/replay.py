"""Computations emitted before, emitted again from their list of operations.

The contraction of two blocks, and the operations that it takes, depend only on their structure and
on the types of their arrays, and so do the blocks that a rule makes of an equation. A program
unrolled in Python has thousands of both, but of a few kinds: a frequent kind is traced by itself,
and from then on its operations are bound to the arrays at hand, without solving for indices and
without the Python of `jax.numpy` around each product.

This excludes answers that depend on more than types: on NumPy constants, which are structure, and
in a batch of `jax.vmap` or over several devices, for which products are laid out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from blockjac.algebra.scores import (
    MAX_KEPT,
    Form,
    NamesOfFactors,
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
"""Scores by everything that decides what is emitted; None for what cannot be replayed."""

_met = Table("operations that were met", MAX_KEPT)
"""How often each computation that is not yet traced by itself was emitted."""

FREQUENT = 4
"""From this count on a computation is traced, which takes about as long as emitting it 4 times."""


def replayed(operation: Callable[[Block, Block], Block], left: Block, right: Block) -> Block:
    """`operation(left, right)`, which depends on structure and types alone.

    Args:
        operation: a contraction or sum of two blocks that emits JAX operations.
        left: a block.
        right: a block.
    """
    first, second = form_of_block(left), form_of_block(right)
    if first is None or second is None:
        return operation(left, right)
    (left_form, left_arrays, left_names), (right_form, right_arrays, right_names) = first, second
    names, numbered = _numbered((*left_names, *right_names))

    def again(arrays: Sequence[Any]) -> list[Block | None]:
        """The operation on blocks of these arrays, with numbers for names."""
        parts = (
            replace(left_form.structure, names=Names(numbered[: len(left_names)])),
            replace(right_form.structure, names=Names(numbered[len(left_names) :])),
        )
        count = len(left_arrays)
        return [operation(unflatten(parts[0], arrays[:count]), unflatten(parts[1], arrays[count:]))]

    key = operation, left_form, right_form, numbered if names else None
    operands = [*left_arrays, *right_arrays]
    (replay,) = played(key, operands, again) or (None,)
    if replay is None:
        block = operation(left, right)
        if not names:
            note(key, operands, [block])
        return block
    return _called(replay, names) if names else replay


def replayed_array(key: Any, function: Callable[[Block], Any], block: Block) -> Any:
    """The array `function(block)`, which depends on structure and types alone.

    Args:
        key: a hashable key that identifies the function.
        function: a function of a block that emits JAX operations.
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

    (replay,) = played((key, form), arrays, again) or (None,)
    return function(block) if replay is None else replay.form[1][0]


def _numbered(
    names: Sequence[Sequence[str]],
) -> tuple[list[str], tuple[tuple[str, ...], ...]]:
    """The distinct names, and numbers in their place: a kind does not depend on the names."""
    numbers: dict[str, str] = {}
    numbered = tuple(
        [
            tuple([numbers.setdefault(name, str(len(numbers))) if name else "" for name in factors])
            for factors in names
        ]
    )
    return list(numbers), numbered


def _called(block: Block, names: Sequence[str]) -> Block:
    """A block with names in place of their numbers."""
    form, arrays, numbered = block.form
    named = tuple(
        tuple(names[int(number)] if number else "" for number in factors) for factors in numbered
    )
    return block_of(form, arrays, named)


def played(
    key: Any,
    arrays: Sequence[Any],
    again: Callable[[Sequence[Any]], Sequence[Block | None] | None],
) -> list[Block | None] | None:
    """The blocks of a computation, from the operations that it emitted before.

    Args:
        key: all that decides what is emitted, except the types of the arrays; hashable.
        arrays: arrays that have a `type_of`; the same array may occur twice.
        again: the computation, which is traced by itself once it is frequent; it returns None if it
            must not be replayed.

    Returns:
        The blocks; None if they have to be computed now, as at the first few calls.
    """
    distinct, pattern = _distinct(arrays)
    key = (key, tuple(pattern), surroundings())
    score = _scores.get(key)
    if score is None and key not in _scores:
        met = _met.pop(key, 0) + 1
        if max(len(_scores), len(_met), len(forms)) >= MAX_KEPT:
            forget()
        if met < FREQUENT:
            _met[key] = met
            return None
        score = _scores[key] = traced(again, pattern, distinct)
    return None if score is None else score.played(distinct)


def note(key: Any, arrays: Sequence[Any], blocks: Sequence[Block | None]) -> None:
    """Remember a computation that has just been made, if it only rearranged its arrays.

    Most do: a coefficient, a delta or a transposed operand takes no operation. Then nothing
    need be traced.

    Args:
        key: the key for which `played` has returned None.
        arrays: the arrays that were passed to it.
        blocks: the blocks that were computed.
    """
    distinct, pattern = _distinct(arrays)
    key = (key, tuple(pattern), surroundings())
    if key in _scores:
        return
    position = {id(array): number for number, array in enumerate(distinct)}
    results: list[tuple[Form, tuple[int, ...], NamesOfFactors] | None] = []
    for block in blocks:
        if block is None:
            results.append(None)
            continue
        if any(id(array) not in position for array in arrays_of(block)):
            return
        formed = form_of_block(block)
        if formed is None or any(id(array) not in position for array in formed[1]):
            return  # a lookup may be a constant
        form, used, names = formed
        results.append((form, tuple([position[id(array)] for array in used]), names))
    _met.pop(key, None)
    _scores[key] = Score((), (), tuple(results))


def _distinct(arrays: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The distinct arrays, and for each array its position among them."""
    position: dict[int, int] = {}
    distinct: list[Any] = []
    pattern: list[int] = []
    for array in arrays:
        number = position.setdefault(id(array), len(distinct))
        if number == len(distinct):
            distinct.append(array)
        pattern.append(number)
    return distinct, pattern


def forget() -> None:
    """Forget all that was remembered."""
    _scores.clear()
    _met.clear()
    forms.clear()
