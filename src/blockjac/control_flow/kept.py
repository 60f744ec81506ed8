"""What the steps of a loop keep: each array once, and one copy of what no step changes.

A checkpoint, a solve or a loop inside a loop keeps its operands for the way back. Those that are
constants of the outer loop, or computed from these alone, are the same in every step: to stack them
would take as many copies as there are steps. The slices of each step are available already, and an
array that several parts of a step keep is stacked once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base import compat

Arrays = Sequence[Any]

ScanStep = Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]
"""A step as `jax.lax.scan` takes it: it gives the next carry, and slices to be stacked."""

KeepingStep = Callable[[Arrays, Arrays], tuple[Arrays, Arrays, Sequence[Any]]]
"""The same, with the trees that a step keeps."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Kept:
    """A tree of arrays for each step of a loop.

    Attributes:
        arrays: the stacked leaves, with the number of the step as first axis.
        fixed: the leaves that are the same in all steps.
        tree: how the leaves of a step are put together.
        stacks: which of the `arrays` each leaf is a slice of; None if it is the next `fixed` one.
    """

    arrays: tuple[Any, ...]
    fixed: tuple[Any, ...]
    tree: Any = field(metadata={"static": True})
    stacks: tuple[int | None, ...] = field(metadata={"static": True})

    def at(self, slices: Arrays) -> Any:
        """The tree of a step, from its slices of the `arrays`."""
        fixed = iter(self.fixed)
        leaves = [next(fixed) if stack is None else slices[stack] for stack in self.stacks]
        return jax.tree.unflatten(self.tree, leaves)


def run_keeping(
    run: Callable[[ScanStep], tuple[Arrays, Arrays]],
    step: KeepingStep,
    types: Sequence[Arrays],
    stacks: Arrays,
) -> tuple[Arrays, Arrays, list[Kept]]:
    """Run a loop whose steps keep something; what no step changes is computed before the loop.

    Args:
        run: the loop, from its step.
        step: one step.
        types: those of the carry, and those of the slices.
        stacks: the stacked slices that the loop takes.

    Returns:
        The carry at the end, the results of all steps, and what they keep, tree by tree.
    """
    trees: list[tuple[list[Any], Any]] = []

    def flat(carry: Arrays, slices: Arrays) -> list[Any]:
        after, results, kept = step(carry, slices)
        trees.extend(map(jax.tree.flatten, kept))
        return [*after, *results, *(leaf for leaves, _ in trees for leaf in leaves)]

    program = _Program(jax.make_jaxpr(flat)(*types))
    carried = len(types[0])
    slices = program.inputs[carried:]
    first = len(program.outs) - sum(len(leaves) for leaves, _ in trees)
    results, kept_atoms = program.outs[carried:first], program.outs[first:]
    available = {*program.values, *slices, *filter(compat.is_variable, results)}
    unstacked = [
        atom
        for atom in dict.fromkeys(filter(compat.is_variable, kept_atoms))
        if atom not in available
    ]

    def lean(carry: Arrays, slices: Arrays) -> tuple[Arrays, Arrays]:
        arrays = program.run([*carry, *slices], [*program.outs[:first], *unstacked])
        return arrays[:carried], arrays[carried:]

    final, arrays = run(lean)
    stacked = zip([*results, *unstacked, *slices], [*arrays, *stacks], strict=True)
    stack_of = {atom: array for atom, array in stacked if compat.is_variable(atom)}
    atoms = iter(kept_atoms)
    kept = [
        _kept(tree, leaves, [next(atoms) for _ in leaves], program.values, stack_of)
        for leaves, tree in trees
    ]
    return final, arrays[: len(results)], kept


def _kept(
    tree: Any,
    leaves: Sequence[Any],
    atoms: Sequence[Any],
    values: Mapping[Any, Any],
    stack_of: Mapping[Any, Any],
) -> Kept:
    """One tree of all steps.

    Args:
        tree: its structure.
        leaves: its leaves as a step gave them while it was traced.
        atoms: the leaves in the traced program.
        values: the arrays of those atoms that no step changes.
        stack_of: the stacked arrays of the others.
    """
    fixed: list[Any] = []
    numbers: dict[Any, int] = {}
    stacks: list[int | None] = []
    for leaf, atom in zip(leaves, atoms, strict=True):
        is_fixed = not compat.is_variable(atom) or atom in values
        stacks.append(None if is_fixed else numbers.setdefault(atom, len(numbers)))
        if is_fixed:
            fixed.append(_read(atom, values) if isinstance(leaf, compat.Tracer) else leaf)
    return Kept(tuple(stack_of[atom] for atom in numbers), tuple(fixed), tree, tuple(stacks))


class _Program:
    """A traced step; what no step changes has been computed already.

    Masks and zeros, which have no operands, are cheaper to make in each step than to read.

    Attributes:
        inputs: the carry and the slices.
        outs: all outputs of the step.
        values: by variable, the arrays that no step changes.
        hoisted: those of them that no step computes.
        equations: those that each step evaluates.
    """

    def __init__(self, closed: Any) -> None:
        jaxpr = compat.open_jaxpr(closed)
        self.inputs, self.outs = list(jaxpr.invars), list(jaxpr.outvars)
        self.hoisted = dict(zip(jaxpr.constvars, compat.constants(closed), strict=True))
        self.values = dict(self.hoisted)
        self.equations = []
        for equation in jaxpr.eqns:
            operands = list(filter(compat.is_variable, equation.invars))
            is_fixed = not equation.effects and all(atom in self.values for atom in operands)
            results = dict(_results(equation, self.values)) if is_fixed else {}
            self.values.update(results)
            if is_fixed and any(atom in self.hoisted for atom in operands):
                self.hoisted.update(results)
            else:
                self.equations.append(equation)

    def run(self, arguments: Arrays, atoms: Sequence[Any]) -> list[Any]:
        """The values of some atoms in a step."""
        values = {**self.hoisted, **dict(zip(self.inputs, arguments, strict=True))}
        for equation in self.equations:
            values.update(_results(equation, values))
        return [_read(atom, values) for atom in atoms]


def _results(equation: Any, values: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    operands = [values[atom] if compat.is_variable(atom) else atom.val for atom in equation.invars]
    with compat.as_if_at(equation.source_info):
        results = compat.bind(equation.primitive, operands, equation.params)
    return zip(equation.outvars, results, strict=True)


def _read(atom: Any, values: Mapping[Any, Any]) -> Any:
    return values[atom] if compat.is_variable(atom) else jnp.asarray(atom.val, atom.aval.dtype)
