"""The program with all steps of a loop taken at once, in place of the loop."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.batching.chains import Chains, chains_of, varying_values
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
"""The loops, and the parameters that hold their programs."""

BRANCHING = frozenset({"cond", "while"})
"""Primitives that take all branches in a batch, or as many steps as the longest run."""


def with_batched_steps(graph: Graph) -> Graph:
    """The graph with a batch of steps in place of each loop that allows it.

    Args:
        graph: the traced function.
    """
    if not any(map(_is_loop, graph.equations)):
        return graph
    if graph not in _batched:
        _batched[graph] = _with_batches(graph)
    return _batched[graph] or graph


_batched: weakref.WeakKeyDictionary[Graph, Graph | None] = weakref.WeakKeyDictionary()
"""Remembered by graph, since a jitted function has one graph for all calls."""


def _with_batches(graph: Graph) -> Graph | None:
    """The graph with batches in place of loops; None if nothing changes."""
    batched = replace(graph, avals=list(graph.avals), captured=list(graph.captured), equations=[])
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
        replacement = _replacement(equation, batched) if _is_loop(equation) else None
        if replacement is None:
            batched.equations.append(equation)
            continue
        before = len(batched.equations)
        results = Inliner(batched).inline_closed(replacement, operands)
        renamed.update(zip(equation.results, results, strict=True))
        if equation.primitive.name == "while":  # a scan now, which may become a batch
            waiting += reversed(batched.equations[before:])
            del batched.equations[before:]
    if not renamed:
        return None
    batched.outputs = tuple(map(current, graph.outputs))
    return batched


def _is_loop(equation: Equation) -> bool:
    """Whether an equation is a differentiated loop of at least one step, without effects."""
    programs = [equation.params[name] for name in PROGRAMS.get(equation.primitive.name, ())]
    return (
        bool(programs)
        and equation.params.get("length") != 0
        and not any(map(compat.effects, programs))
        and any(
            isinstance(operand, Operand) and operand.vertex is not None
            for operand in equation.operands
        )
    )


def _replacement(equation: Equation, before: Graph) -> Any:
    """What replaces a loop, a closed jaxpr of its operands; None if the loop stays as it is.

    Args:
        equation: the loop.
        before: the program up to it.
    """
    if not any(is_index(before.aval(operand)) for operand in equation.operands):
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
        run = _as_batch(Steps(equation, numbers))
    if run is None:
        return None
    shapes = [compat.struct(before.aval(atom)) for atom in equation.operands]
    try:
        return jax.make_jaxpr(run)(*shapes)
    except NotImplementedError:  # a primitive without a batching rule
        return None


def _as_batch(steps: Steps) -> Callable[..., list[Any]] | None:
    """The function that takes all steps at once; None if that is impossible or gains nothing."""
    chains = chains_of(steps) if steps.gains() else None
    if chains is None:
        return None
    varying = varying_values(steps, chains)
    if any(
        equation.primitive.name in BRANCHING
        and not varying.isdisjoint(values_of(equation.operands))
        for equation in steps.graph.equations
    ):
        return None
    nbytes = sum(8 * steps.graph.avals[value].size for value in varying)
    if steps.length * nbytes > memory_limit():
        return None
    return partial(_all_steps, steps, chains)


def _all_steps(steps: Steps, chains: Chains, *operands: Any) -> list[Any]:
    """The results of a loop.

    Args:
        steps: the steps of the loop.
        chains: what they do to what is carried.
        operands: the constants of the loop, the initial carry, and the arrays it reads in slices.
    """
    inputs = dict(zip(steps.graph.inputs, operands, strict=True))
    counts, last = steps.counts
    same = {value: inputs[value] for value in steps.graph.inputs[: steps.consts]}
    same.update((steps.carried[n], inputs[steps.carried[n]]) for n in steps.steady)
    for position, chain in chains.items():  # only read where no step has written yet
        same.update(dict.fromkeys(chain.values, inputs[steps.carried[position]]))
    writes = [write for chain in chains.values() for write in chain.writes]
    needed = [*(write.own for write in writes), *steps.graph.outputs[steps.carry :]]
    varying = {**counts, **{value: inputs[value] for value in steps.incoming}}
    cleared = {value: mask for chain in chains.values() for value, mask in chain.cleared.items()}
    stacked = jax.vmap(
        lambda own, masks: computed(steps.graph, needed, {**same, **own}, masks),
        axis_size=steps.length,
    )(varying, cleared)
    written = iter(stacked[: len(writes)])
    finals = [last.get(value, inputs[value]) for value in steps.carried]
    for position, chain in chains.items():
        parts = [_Part(write, steps.at_all(write.places), next(written)) for write in chain.writes]
        finals[position] = _final(finals[position], parts, steps.reverse)
    return [*finals, *stacked[len(writes) :]]


@dataclass(frozen=True)
class _Part:
    """What all steps write by one equation.

    Attributes:
        write: what the equation does.
        places: the operands that say where, stacked.
        own: the numbers that are written, stacked.
    """

    write: Write
    places: Sequence[np.ndarray]
    own: Any

    def entries(self, shape: Sequence[int]) -> Entries:
        """Where in an array each of these numbers goes."""
        return self.write.entries(self.places, shape, self.own.shape)

    @property
    def rows(self) -> Any:
        """The numbers, one row per step."""
        return self.own.reshape(len(self.own), -1)


def _final(start: Any, parts: Sequence[_Part], reverse: bool) -> Any:
    """A carried array after all steps.

    Args:
        start: the array before the first step.
        parts: what the steps write, in the order within a step; either all of them add, or none.
        reverse: whether the first step reads the last slice.
    """
    if all(part.write.adds for part in parts):
        for part in parts:
            start = _summed(start, part)
        return start
    return _written(start, parts, reverse)


def _written(start: Any, parts: Sequence[_Part], reverse: bool) -> Any:
    """The array whose entries are what was written there last."""
    rows = jnp.concatenate([part.rows for part in parts], axis=1)
    entries = [part.entries(start.shape) for part in parts]
    before = np.cumsum([0, *(part.rows.shape[1] for part in parts)])
    steps = np.concatenate([part.steps for part in entries])
    numbers = np.concatenate([part.numbers + n for part, n in zip(entries, before, strict=False)])
    positions = np.concatenate([part.positions for part in entries])
    order = np.lexsort((numbers, -steps if reverse else steps))
    last = np.full(start.size, -1)
    last[positions[order]] = order  # where several write, the last assignment stays
    is_written = last >= 0
    if not is_written.any():
        return start
    chosen = rows[steps[last], numbers[last]]
    if not is_written.all():
        chosen = jnp.where(is_written, chosen, start.reshape(-1))
    return chosen.reshape(start.shape)


def _summed(start: Any, part: _Part) -> Any:
    """An array plus what all steps add to it by one equation."""
    rows = part.rows if part.write.sign == 1 else -part.rows
    if part.write.at is None:
        return start + jnp.sum(rows, axis=0).reshape(start.shape)
    entries = part.entries(start.shape)
    chosen = rows[entries.steps, entries.numbers]
    return start.reshape(-1).at[entries.positions].add(chosen).reshape(start.shape)
