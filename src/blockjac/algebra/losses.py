"""Where structure is lost: what is stored dense though what it is made of was structured.

A block has *places*: the entries that its index maps reach, at most. An equation loses structure
where what comes out of it, or of joining blocks there, is stored over more than `TOLERANCE` times
the places that its parts have, or where nothing is known of its Jacobian. A product with a dense
matrix, a solve or a softmax loses nothing: all of its places are real.

Losses are noted while a Jacobian is emitted inside `recording()`, and nowhere else: what a plan
tries and rejects loses nothing, and no other call pays for it.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
from collections.abc import Iterable, Iterator, Sequence
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
"""What to do about an equation of which nothing is known."""


@dataclass(frozen=True)
class Unknown:
    """Why nothing is known of an equation's structure, and what to do about it."""

    reason: str
    advice: str = BY_RULE


@dataclass(frozen=True)
class Written:
    """A term that others were written into, and how many places these had.

    Attributes:
        term: kept, so that its identity stays its own.
        places: of what was written.
        loss: that was noted for it, by its number; None if there was none.
    """

    term: Term
    places: int
    loss: int | None


@dataclass
class Record:
    """What is noted while a Jacobian is emitted.

    Attributes:
        found: the losses so far.
        equations: those that are being passed, innermost last.
        written: terms that others were written into, by identity.
        followed: the plan that follows the first steps of a loop, if one does: equations of which
            nothing is known are noted in it too, since what is carried later on is dense anyway.
        numbers: of the losses; none is given twice.
    """

    found: dict[int, Loss] = field(default_factory=dict)
    equations: list[Any] = field(default_factory=list)
    written: dict[int, Written] = field(default_factory=dict)
    followed: Cost | None = None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """One for each equation and reason, the largest first."""
        kept: dict[tuple[str, str, str], Loss] = {}
        for loss in sorted(self.found.values(), key=lambda loss: -loss.stored):
            kept.setdefault((loss.primitive, loss.source, loss.reason), loss)
        return tuple(kept.values())


_record: contextvars.ContextVar[Record | None] = contextvars.ContextVar(
    "blockjac_losses", default=None
)


@contextlib.contextmanager
def recording() -> Iterator[Record]:
    """Within, losses of structure are noted in the record that this yields."""
    record = Record()
    with setting(_record, record):
        yield record


def is_recording() -> bool:
    """Whether losses are noted: a Jacobian is being emitted for that, and not priced."""
    return _record.get() is not None and backend().cost is None


def is_following() -> bool:
    """Whether what is unknown is noted: as `is_recording`, and in a loop's first steps."""
    record = _record.get()
    if record is None:  # asked at every contraction
        return False
    cost = backend().cost
    return cost is None or record.followed is cost


@contextlib.contextmanager
def following(cost: Cost) -> Iterator[None]:
    """Within, a plan follows the first steps of a loop.

    Args:
        cost: of the plan; plans inside it, of ways that may be rejected, are left alone.
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
    """Within, derivatives that are traced come from the lines of what they are derivatives of.

    A Hessian is the Jacobian of a gradient that this library writes: its losses are to be told by
    lines of the function.
    """
    return setting(_lines, wanted)


def at_equation(equation: Any) -> contextlib.AbstractContextManager[Any]:
    """Within, losses are those of an equation; None for that of the surroundings."""
    record = _record.get()
    if equation is None or equation.source is None or (record is None and not _lines.get()):
        return contextlib.nullcontext()
    return _at_equation(equation, record)


@contextlib.contextmanager
def _at_equation(equation: Any, record: Record | None) -> Iterator[None]:
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
    """Note a loss at the equation under way; gives its number, None where nothing is noted.

    Args:
        reason: what happens.
        advice: what to do about it.
        stored: over how many numbers the result is stored.
        places: how many of them can be other than zero; None where that is not known.
        name: what to call the equation, if not by its primitive.
    """
    record = _record.get()
    if record is None or not is_following():
        return None
    equation = record.equations[-1] if record.equations else None
    primitive = name or ("jacobian" if equation is None else equation.primitive.name)
    source = next(filter(None, map(_source, reversed(record.equations))), "")
    number = next(record.numbers)
    record.found[number] = Loss(primitive, source, reason, advice, stored, places)
    return number


def _source(equation: Any) -> str:
    """The line of an equation; where the user's code calls no operation, that of its function."""
    place = compat.place(equation.source)
    own = (one for one in equation.params.values() if compat.is_jaxpr(one))
    name, _, line = next(map(compat.function_source, own), "").partition(" at ")
    return place or (f"{line} ({name})" if line else "")


def note_sum(terms: Sequence[Term], found: Sequence[Term], size: int, reason: Reason) -> None:
    """Note the loss where terms were written into others of many more numbers than their places.

    Terms are added up one by one: the places of those that were written before are remembered, and
    what was noted of a part of the sum is forgotten. All of it counts.

    Args:
        terms: what was added up.
        found: what came out.
        size: the entries of the dense block: terms that overlap have no more places.
        reason: what happens, and what to do about it.
    """
    record = _record.get()
    if record is None:
        return
    before = {id(term) for term in terms}
    made = [term for term in found if id(term) not in before]
    after = {id(term) for term in found}
    gone = [term for term in terms if id(term) not in after]
    for term in gone:
        known = record.written.get(id(term))
        if known is not None and known.loss is not None:
            record.found.pop(known.loss, None)
    counted, stored = sum(map(_places_written, gone)), sum(map(term_places, made))
    places = min(counted, size)
    number = note(*reason, stored, places) if stored > TOLERANCE * max(counted, 1) else None
    for term in made:
        if places < term_places(term):
            record.written[id(term)] = Written(term, places, number)


def _places_written(term: Term) -> int:
    record = _record.get()
    known = None if record is None else record.written.get(id(term))
    return term_places(term) if known is None else min(known.places, term_places(term))


Reason = tuple[str, str]
"""What happens, and what to do about it."""


def note_joined(
    stored: int, parts: Iterable[Block | None], limit: int, reason: str, advice: str
) -> None:
    """Note the loss where parts were joined in one array of many more numbers than their places.

    Args:
        stored: the numbers of the array.
        parts: what went into it.
        limit: the entries of the dense block: parts that overlap have no more places.
        reason: what happens.
        advice: what to do about it.
    """
    note_excess(stored, min(sum(map(places_of, parts)), limit), reason, advice)


def note_excess(stored: int, places: int, reason: str, advice: str) -> None:
    """Note the loss where many more numbers are stored than there are places."""
    if stored > TOLERANCE * max(places, 1):
        note(reason, advice, stored, places)
