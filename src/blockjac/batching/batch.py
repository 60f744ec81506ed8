"""A loop as the program of all of its steps at once."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.batching.counted import as_scan
from blockjac.batching.steps import Steps
from blockjac.batching.writes import Entries, Write
from blockjac.devices import memory_limit
from blockjac.graph.demanded import computed
from blockjac.graph.graph import Atom, Equation, Graph, Literal, Operand, values_of
from blockjac.graph.inline import Inliner
from blockjac.graph.known_inside import is_index
from blockjac.graph.known_places import with_known_places

PROGRAMS: Mapping[str, Sequence[str]] = {
    "scan": ("jaxpr",),
    "while": ("cond_jaxpr", "body_jaxpr"),
}
"""The loops, and the parameters that are their programs."""

BRANCHING = frozenset({"cond", "while"})
"""Primitives of which a batch would take all branches, or the most steps."""


def with_batched_steps(graph: Graph) -> Graph:
    """The graph with those loops as batches that can be.

    Args:
        graph: the traced function.
    """
    if not any(map(_is_loop, graph.equations)):
        return graph
    if graph not in _made:
        _made[graph] = _with_batches(graph)
    return _made[graph] or graph


_made: weakref.WeakKeyDictionary[Graph, Graph | None] = weakref.WeakKeyDictionary()
"""By the graph: a jitted function has one for all calls."""


def _with_batches(graph: Graph) -> Graph | None:
    """The same; None where nothing changes."""
    made = replace(graph, avals=list(graph.avals), captured=list(graph.captured), equations=[])
    renamed: dict[int, Atom] = {}

    def current(atom: Atom) -> Atom:
        while isinstance(atom, Operand) and atom.value in renamed:
            atom = renamed[atom.value]
        return atom

    waiting = list(reversed(graph.equations))
    while waiting:
        equation = waiting.pop()
        operands = tuple(map(current, equation.operands))
        if operands != equation.operands:
            equation = replace(equation, operands=operands)
        other = _other_program(equation, made) if _is_loop(equation) else None
        if other is None:
            made.equations.append(equation)
            continue
        before = len(made.equations)
        results = Inliner(made).inline_closed(other, operands)
        renamed.update(zip(equation.results, results, strict=True))
        if equation.primitive.name == "while":  # a scan now, which may be a batch
            waiting += reversed(made.equations[before:])
            del made.equations[before:]
    if not renamed:
        return None
    made.outputs = tuple(map(current, graph.outputs))
    return made


def _is_loop(equation: Equation) -> bool:
    """Whether an equation is a loop with a derivative, of one step or more and without effects."""
    programs = [equation.params[name] for name in PROGRAMS.get(equation.primitive.name, ())]
    return (
        bool(programs)
        and equation.params.get("length") != 0
        and not any(map(compat.effects, programs))
        and any(isinstance(one, Operand) and one.vertex is not None for one in equation.operands)
    )


def _other_program(equation: Equation, before: Graph) -> Any:
    """A loop as a closed jaxpr of its operands, written otherwise; None where it stays as it is.

    Args:
        equation: the loop.
        before: the program up to it.
    """
    if not any(is_index(before.aval(one)) for one in equation.operands):
        return None  # nothing is counted
    values = [value for value in values_of(equation.operands) if is_index(before.avals[value])]
    known = with_known_places(before, beside=values).known

    def number(atom: Atom) -> np.ndarray | None:
        if isinstance(atom, Literal):
            return atom.array if is_index(atom.aval) else None
        return known.get(atom.value)

    numbers = [number(atom) for atom in equation.operands]
    if equation.primitive.name == "while":
        run = as_scan(equation, numbers)
    else:
        steps = Steps(equation, numbers)
        run = partial(_all_steps, steps) if _may_be_at_once(steps) else None
    if run is None:
        return None
    shapes = [compat.struct(before.aval(atom)) for atom in equation.operands]
    try:
        return jax.make_jaxpr(run)(*shapes)
    except NotImplementedError:  # a primitive that knows no batches
        return None


def _may_be_at_once(steps: Steps) -> bool:
    """Whether the steps may be taken at once, and gain structure by it."""
    if not steps.gains() or steps.chains is None:
        return False
    varying = steps.of_each()
    if any(
        equation.primitive.name in BRANCHING
        and not varying.isdisjoint(values_of(equation.operands))
        for equation in steps.graph.equations
    ):
        return False
    nbytes = sum(8 * steps.graph.avals[value].size for value in varying)
    return steps.length * nbytes <= memory_limit()


def _all_steps(steps: Steps, *operands: Any) -> list[Any]:
    """The results of a loop.

    Args:
        steps: of the loop.
        operands: its constants, what it carries at the start, and what comes in.
    """
    given = dict(zip(steps.graph.inputs, operands, strict=True))
    chains = steps.chains or {}
    counts, last = steps.counts
    same = {value: given[value] for value in steps.graph.inputs[: steps.consts]}
    same.update((steps.carried[place], given[steps.carried[place]]) for place in steps.steady)
    for place, chain in chains.items():  # it is read where no step has written yet
        same.update(dict.fromkeys(chain.values, given[steps.carried[place]]))
    writes = [write for chain in chains.values() for write in chain.writes]
    wanted = [*(write.own for write in writes), *steps.graph.outputs[steps.carry :]]
    varying = {**counts, **{value: given[value] for value in steps.incoming}}
    cleared = {value: mask for chain in chains.values() for value, mask in chain.cleared.items()}
    found = jax.vmap(
        lambda own, masks: computed(steps.graph, wanted, {**same, **own}, masks),
        axis_size=steps.length,
    )(varying, cleared)
    own = iter(found[: len(writes)])
    final = [last.get(value, given[value]) for value in steps.carried]
    for place, chain in chains.items():
        parts = [_Part(one, steps.at_all(one.places), next(own)) for one in chain.writes]
        final[place] = _together(final[place], parts, steps.reverse)
    return [*final, *found[len(writes) :]]


@dataclass(frozen=True)
class _Part:
    """What all steps write by one equation.

    Attributes:
        write: the equation.
        places: what says where, stacked.
        own: what is written, stacked.
    """

    write: Write
    places: Sequence[np.ndarray]
    own: Any

    def entries(self, shape: Sequence[int]) -> Entries:
        """Which of these numbers go where in an array."""
        return self.write.entries(self.places, shape, self.own.shape)

    @property
    def rows(self) -> Any:
        """The numbers, one row per step."""
        return self.own.reshape(len(self.own), -1)


def _together(start: Any, parts: Sequence[_Part], reverse: bool) -> Any:
    """What is carried at the end.

    Args:
        start: what is carried at the start.
        parts: what the steps write, in the order in which a step does; all of it adds, or none.
        reverse: whether the last slice is the first step's.
    """
    if all(part.write.adds for part in parts):
        for part in parts:
            start = _summed(start, part)
        return start
    return _written(start, parts, reverse)


def _written(start: Any, parts: Sequence[_Part], reverse: bool) -> Any:
    """An array of which each entry is what the last write put there."""
    rows = jnp.concatenate([part.rows for part in parts], axis=1)
    entries = [part.entries(start.shape) for part in parts]
    before = np.cumsum([0, *(part.rows.shape[1] for part in parts)])
    steps = np.concatenate([one.steps for one in entries])
    numbers = np.concatenate([one.numbers + n for one, n in zip(entries, before, strict=False)])
    positions = np.concatenate([one.positions for one in entries])
    order = np.lexsort((numbers, -steps if reverse else steps))
    last = np.full(start.size, -1)
    last[positions[order]] = order  # of several, the last
    is_written = last >= 0
    if not is_written.any():
        return start
    chosen = rows[steps[last], numbers[last]]
    if not is_written.all():
        chosen = jnp.where(is_written, chosen, start.reshape(-1))
    return chosen.reshape(start.shape)


def _summed(start: Any, part: _Part) -> Any:
    """An array with what all steps add to it by one equation."""
    own = part.rows if part.write.sign == 1 else -part.rows
    if part.write.at is None:
        return start + jnp.sum(own, axis=0).reshape(start.shape)
    entries = part.entries(start.shape)
    chosen = own[entries.steps, entries.numbers]
    return start.reshape(-1).at[entries.positions].add(chosen).reshape(start.shape)
