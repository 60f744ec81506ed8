"""What the steps of a loop keep: each array once, and once for all steps what no step changes.

A checkpoint, a solve or a loop inside of a loop keeps its operands for the way back. Those that are
constants of the outer loop, and what is computed of these alone, are the same in every step: to
stack them would take as many copies as there are steps. What comes in step by step is there
already, and what several parts of a step keep is stacked once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base import compat

Arrays = Sequence[Any]

ScanStep = Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]
"""A step as `jax.lax.scan` takes it: what is carried on, and what is stacked."""

KeepingStep = Callable[[Arrays, Arrays], tuple[Arrays, Arrays, Sequence[Any]]]
"""The same with the trees that a step keeps."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Kept:
    """A tree of arrays for each step of a loop.

    Attributes:
        arrays: stacked, with the number of the step as first axis.
        fixed: the same in all steps.
        tree: how the leaves of a step are put together.
        stacks: of each leaf, which of the `arrays` it is a slice of; None if it is the next of
            those that are `fixed`.
    """

    arrays: tuple[Any, ...]
    fixed: tuple[Any, ...]
    tree: Any = field(metadata={"static": True})
    stacks: tuple[int | None, ...] = field(metadata={"static": True})

    def at(self, slices: Arrays) -> Any:
        """The tree of a step, from the slices of the `arrays`."""
        fixed = iter(self.fixed)
        leaves = [next(fixed) if place is None else slices[place] for place in self.stacks]
        return jax.tree.unflatten(self.tree, leaves)


def run_keeping(
    run: Callable[[ScanStep], tuple[Arrays, Arrays]],
    step: KeepingStep,
    types: tuple[Sequence[Any], Sequence[Any]],
    slices: Arrays,
) -> tuple[Arrays, Arrays, list[Kept]]:
    """Run a loop whose steps keep something; what no step changes is computed before it.

    Args:
        run: the loop, from its step.
        step: one step.
        types: of what is carried, and of what comes in at a step.
        slices: what comes in, stacked.

    Returns:
        What is carried at the end, the results of all steps, and what they keep, tree by tree.
    """
    trees: list[tuple[list[Any], Any]] = []

    def flat(carry: Arrays, given: Arrays) -> list[Any]:
        moved, results, kept = step(carry, given)
        trees.extend(map(jax.tree.flatten, kept))
        return [*moved, *results, *(leaf for leaves, _ in trees for leaf in leaves)]

    program = _Program(jax.make_jaxpr(flat)(*types))
    carried = len(types[0])
    incoming = program.inputs[carried:]
    first = len(program.outs) - sum(len(leaves) for leaves, _ in trees)
    moved, results = program.outs[:carried], program.outs[carried:first]
    there = {*program.values, *incoming, *_variables(results)}
    own = [one for one in dict.fromkeys(_variables(program.outs[first:])) if one not in there]

    def lean(carry: Arrays, given: Arrays) -> tuple[Arrays, Arrays]:
        found = program.run([*carry, *given], [*moved, *results, *own])
        return found[:carried], found[carried:]

    final, stacks = run(lean)
    stacked = dict(_read_at([*results, *own], stacks))
    stacked.update(zip(incoming, slices, strict=True))
    atoms = iter(program.outs[first:])
    kept = []
    for leaves, tree in trees:
        sources = [next(atoms) for _ in leaves]
        kept.append(_kept(tree, leaves, sources, program.values, stacked))
    return final, stacks[: len(results)], kept


def _kept(
    tree: Any,
    leaves: Sequence[Any],
    atoms: Sequence[Any],
    values: Mapping[Any, Any],
    stacked: Mapping[Any, Any],
) -> Kept:
    """One tree of all steps.

    Args:
        tree: its structure.
        leaves: its leaves as a step gave them while it was traced.
        atoms: the same in the traced program.
        values: those that no step changes.
        stacked: the stacks of the others.
    """
    fixed: list[Any] = []
    places: dict[Any, int] = {}
    stacks: list[int | None] = []
    for leaf, atom in zip(leaves, atoms, strict=True):
        is_fixed = not compat.is_variable(atom) or atom in values
        stacks.append(None if is_fixed else places.setdefault(atom, len(places)))
        if is_fixed:
            fixed.append(_read(atom, values) if isinstance(leaf, compat.Tracer) else leaf)
    return Kept(tuple(stacked[atom] for atom in places), tuple(fixed), tree, tuple(stacks))


class _Program:
    """A traced step, of which what no step changes has been computed.

    Masks and zeros, which are made of nothing, are cheaper to make in each step than to read.

    Attributes:
        inputs: what is carried and what comes in.
        outs: all that the step gives.
        values: by variable, what no step changes.
        hoisted: of these, what no step computes.
        equations: those of each step.
    """

    def __init__(self, closed: Any) -> None:
        jaxpr = compat.open_jaxpr(closed)
        self.inputs, self.outs = list(jaxpr.invars), list(jaxpr.outvars)
        self.hoisted = dict(zip(jaxpr.constvars, compat.constants(closed), strict=True))
        self.values = dict(self.hoisted)
        self.equations = []
        for equation in jaxpr.eqns:
            operands = list(_variables(equation.invars))
            is_fixed = not equation.effects and all(one in self.values for one in operands)
            results = dict(_results(equation, self.values)) if is_fixed else {}
            self.values.update(results)
            if is_fixed and any(one in self.hoisted for one in operands):
                self.hoisted.update(results)
            else:
                self.equations.append(equation)

    def run(self, arguments: Arrays, atoms: Sequence[Any]) -> list[Any]:
        """Some of what a step computes."""
        values = {**self.hoisted, **dict(zip(self.inputs, arguments, strict=True))}
        for equation in self.equations:
            values.update(_results(equation, values))
        return [_read(atom, values) for atom in atoms]


def _results(equation: Any, values: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    operands = [values[one] if compat.is_variable(one) else one.val for one in equation.invars]
    with compat.as_if_at(equation.source_info):
        results = compat.bind(equation.primitive, operands, equation.params)
    return zip(equation.outvars, results, strict=True)


def _read(atom: Any, values: Mapping[Any, Any]) -> Any:
    return values[atom] if compat.is_variable(atom) else jnp.asarray(atom.val, atom.aval.dtype)


def _read_at(atoms: Sequence[Any], arrays: Arrays) -> Iterator[tuple[Any, Any]]:
    """Variables with their arrays; the literals among the atoms have none."""
    return ((one, own) for one, own in zip(atoms, arrays, strict=True) if compat.is_variable(one))


def _variables(atoms: Iterable[Any]) -> Iterator[Any]:
    return filter(compat.is_variable, atoms)
