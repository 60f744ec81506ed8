"""Where structure is lost: blocks that are stored dense though their parts were structured.

A block has *places*: the entries that its index maps reach, at most. An equation loses structure
if its result, or a block joined there, is stored over more than `TOLERANCE` times the places of its
parts, or if nothing is known of its Jacobian. A product with a dense matrix, a solve or a softmax
loses nothing: all of its places are real.

Losses are noted only while a Jacobian is emitted inside `recording()`: what a plan tries and
rejects does not count, and no other call pays for the notes.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from blockjac.algebra.backend import backend
from blockjac.algebra.cost import Cost
from blockjac.algebra.place_counts import TOLERANCE, places_of, term_places
from blockjac.base import compat
from blockjac.base.context import setting
from blockjac.errors import Loss
from blockjac.terms.block import Block
from blockjac.terms.term import Term

BY_RULE = (
    "give it a rule of its own (docs/how-to/add-a-rule.md), or write it in operations of JAX that "
    "have one"
)
"""Advice for an equation whose Jacobian has no known structure."""


@dataclass(frozen=True)
class Unknown:
    """Why nothing is known of an equation's structure, with advice."""

    reason: str
    advice: str = BY_RULE


@dataclass(frozen=True)
class Written:
    """A term that others were written into, and how many places those had.

    Attributes:
        term: the term, kept alive so that its `id` stays unique.
        places: the number of places that were written.
        loss: the number of the loss noted for it; None without one.
    """

    term: Term
    places: int
    loss: int | None


@dataclass
class Record:
    """The notes taken while a Jacobian is emitted.

    Attributes:
        found: the losses so far, by number.
        equations: the equations under way, innermost last.
        written: terms that others were written into, by identity.
        followed: the cost of the plan that follows the first steps of a loop, if any: unknown
            equations are noted in it too, since all that the loop carries later is dense anyway.
        numbers: a counter that numbers the losses.
    """

    found: dict[int, Loss] = field(default_factory=dict)
    equations: list[Any] = field(default_factory=list)
    written: dict[int, Written] = field(default_factory=dict)
    followed: Cost | None = None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """One loss for each equation and reason, the largest first."""
        kept: dict[tuple[str, str, str], Loss] = {}
        for loss in sorted(self.found.values(), key=lambda loss: -loss.stored):
            kept.setdefault((loss.primitive, loss.source, loss.reason), loss)
        return tuple(kept.values())


_record: contextvars.ContextVar[Record | None] = contextvars.ContextVar(
    "blockjac_losses", default=None
)


@contextlib.contextmanager
def recording() -> Generator[Record]:
    """Note losses of structure in the record that this yields."""
    record = Record()
    with setting(_record, record):
        yield record


def is_recording() -> bool:
    """Whether losses are noted: inside `recording()`, while emitting and not pricing."""
    return _record.get() is not None and backend().cost is None


def is_following() -> bool:
    """Whether unknown structure is noted: as `is_recording`, and in the first steps of a loop."""
    record = _record.get()
    if record is None:  # asked at every contraction
        return False
    cost = backend().cost
    return cost is None or record.followed is cost


@contextlib.contextmanager
def following(cost: Cost) -> Generator[None]:
    """Note unknown structure in a plan that follows the first steps of a loop.

    Args:
        cost: the cost of the plan; plans inside it, which may be rejected, take no notes.
    """
    record = _record.get()
    if record is None:
        yield
        return
    before, record.followed = record.followed, cost
    try:
        yield
    finally:
        record.followed = before


_lines: contextvars.ContextVar[bool] = contextvars.ContextVar("blockjac_lines", default=False)


def keeping_lines(wanted: bool = True) -> contextlib.AbstractContextManager[None]:
    """Trace derivatives with the source lines of what they are derivatives of.

    A Hessian is the Jacobian of a gradient that this library writes: its losses should be reported
    at lines of the function.
    """
    return setting(_lines, wanted)


def at_equation(equation: Any) -> contextlib.AbstractContextManager[Any]:
    """Attribute losses to an equation; None leaves them with the surrounding one."""
    record = _record.get()
    if equation is None or equation.source is None or (record is None and not _lines.get()):
        return contextlib.nullcontext()
    return _at_equation(equation, record)


@contextlib.contextmanager
def _at_equation(equation: Any, record: Record | None) -> Generator[None]:
    """The context of `at_equation` where a record is kept, or source lines are."""
    with compat.as_if_at(equation.source) if _lines.get() else contextlib.nullcontext():
        if record is None:
            yield
            return
        record.equations.append(equation)
        try:
            yield
        finally:
            record.equations.pop()


def note(reason: str, advice: str, stored: int, places: int | None, name: str = "") -> int | None:
    """Note a loss at the current equation; returns its number, or None if nothing is noted.

    Args:
        reason: what happens.
        advice: what to do about it.
        stored: the numbers that the result stores.
        places: how many of them can be nonzero; None if that is unknown.
        name: a name for the equation; its primitive by default.
    """
    record = _record.get()
    if record is None or not is_following():
        return None
    equation = record.equations[-1] if record.equations else None
    primitive = name or ("jacobian" if equation is None else equation.primitive.name)
    sources = map(_source, reversed(record.equations))
    source = next((line for line in sources if line), "")
    number = next(record.numbers)
    record.found[number] = Loss(primitive, source, reason, advice, stored, places)
    return number


def _source(equation: Any) -> str:
    """The source line of an equation; that of its function if no user code calls the operation."""
    place = compat.place(equation.source)
    jaxprs = (value for value in equation.params.values() if compat.is_jaxpr(value))
    name, _, line = next(map(compat.function_source, jaxprs), "").partition(" at ")
    return place or (f"{line} ({name})" if line else "")


def note_sum(terms: Sequence[Term], total: Sequence[Term], size: int, reason: Reason) -> None:
    """Note the loss if terms were written into others with many more numbers than their places.

    Terms are added up one by one: the places of terms written before are remembered, and the loss
    noted for a part of the sum is replaced by that of the whole.

    Args:
        terms: the terms that were added up.
        total: the terms of the sum.
        size: the entries of the dense block: overlapping terms together have no more places.
        reason: what happens, and what to do about it.
    """
    record = _record.get()
    if record is None:
        return
    before = {id(term) for term in terms}
    new = [term for term in total if id(term) not in before]
    after = {id(term) for term in total}
    gone = [term for term in terms if id(term) not in after]
    for term in gone:
        known = record.written.get(id(term))
        if known is not None and known.loss is not None:
            record.found.pop(known.loss, None)
    counted, stored = sum(map(_places_written, gone)), sum(map(term_places, new))
    places = min(counted, size)
    number = note(*reason, stored, places) if stored > TOLERANCE * max(counted, 1) else None
    for term in new:
        if places < term_places(term):
            record.written[id(term)] = Written(term, places, number)


def _places_written(term: Term) -> int:
    """The places of a term, or of the terms written into it if those have fewer."""
    record = _record.get()
    known = None if record is None else record.written.get(id(term))
    return term_places(term) if known is None else min(known.places, term_places(term))


Reason = tuple[str, str]
"""What happens, and what to do about it."""


def note_joined(
    stored: int, parts: Iterable[Block | None], limit: int, reason: str, advice: str
) -> None:
    """Note the loss if parts were joined in an array with many more numbers than their places.

    Args:
        stored: the numbers of the array.
        parts: the blocks that were joined.
        limit: the entries of the dense block: overlapping parts together have no more places.
        reason: what happens.
        advice: what to do about it.
    """
    note_excess(stored, min(sum(map(places_of, parts)), limit), reason, advice)


def note_excess(stored: int, places: int, reason: str, advice: str) -> None:
    """Note the loss if many more numbers are stored than there are places."""
    if stored > TOLERANCE * max(places, 1):
        note(reason, advice, stored, places)
