"""A program evaluated stage by stage, with the logarithm of the determinant of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.graph.square_stages import Program, Stage, Step, square_stages
from blockjac.interop.narrow_stages import beside_the_diagonal, through_narrow
from blockjac.linear_systems.determinants import MOVES, determinant
from blockjac.transforms.first_order import block_jacobian


@dataclass(frozen=True)
class Note:
    """How the determinant of a stage was found.

    Attributes:
        place: where the stage ends in the user's code, as in " at file:line (function)".
        method: how, in words.
        is_dense: whether no structure is of use.
    """

    place: str
    method: str
    is_dense: bool


@dataclass(frozen=True, eq=False)
class Chain:
    """A map from some inputs of a program to as many numbers of its results.

    Attributes:
        program: the program.
        inputs: the numbers of the values to differentiate by.
        outputs: the numbers of the results.
    """

    program: Program
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def __call__(self, arguments: Sequence[Any], notes: list[Note]) -> tuple[list[Any], Any]:
        """All results of the program, and the logarithm of the absolute determinant.

        Args:
            arguments: the values of the program's inputs.
            notes: of each stage, to add to.
        """
        values = {
            **self.program.constants,
            **dict(zip(self.program.inputs, arguments, strict=True)),
        }
        dtype = jnp.result_type(*(self.program.avals[value].dtype for value in self.inputs))
        total = jnp.zeros((), dtype)
        for stage in square_stages(self.program, self.inputs, self.outputs):
            moved = self.program.dependent(stage.old, stage.steps)
            own = [step for step in stage.steps if moved.intersection(step.operands)]
            _run([step for step in stage.steps if step not in own], values)
            if stage.old or stage.new:
                total = total + self._passed(stage, own, values, notes).astype(dtype)
        return [values[number] for number in self.program.outputs], total

    def _passed(
        self, stage: Stage, own: list[Step], values: dict[int, Any], notes: list[Note]
    ) -> Any:
        """Add the values of a stage; the logarithm of its determinant."""
        loop = _Loop.of(self.program, stage, own)
        if loop is not None:
            return loop.passed(values, notes)
        if self.program.size(set(stage.old)) != self.program.size(set(stage.new)):
            _run(own, values)
            notes.append(Note(own[-1].place if own else "", "singular: numbers are lost", False))
            return jnp.full((), -jnp.inf)
        results = [value for step in own for value in step.results if value in self._used]
        known = {**self._captured(own), **self._parameters(own, values)}
        free = self._free(own)

        def mapped(*old: Any) -> tuple[Any, Any]:
            """The stage, with what is computed of parameters alone, which may show masks."""
            inside = run(dict(zip(stage.old, old, strict=True)))
            return tuple(inside[value] for value in stage.new), [inside[v] for v in results]

        def run(given: dict[int, Any]) -> dict[int, Any]:
            """All values of the stage, from some; those that are given are not computed."""
            inside = {**known, **given}
            _run(free, inside)
            _run(own, inside, set(given))
            return inside

        by = tuple(range(len(stage.old)))
        rows, aux = block_jacobian(mapped, by, has_aux=True)(*(values[v] for v in stage.old))
        values.update(zip(results, aux, strict=True))
        found = determinant(rows)
        if found.method == MOVES:
            return jnp.zeros(())
        method, is_dense = found.method, found.is_dense
        if is_dense:
            found = through_narrow(self.program, stage, own, run, values) or found
            method, is_dense = found.method, found.is_dense
        elif method.startswith("triangular"):
            found = beside_the_diagonal(stage, own, run, values) or found
        notes.append(Note(own[-1].place, method, is_dense and found.systems == 1))
        return found.logarithm()

    @cached_property
    def _used(self) -> set[int]:
        """Values that some step takes, or that are results."""
        return {*self.program.outputs, *(v for step in self.program.steps for v in step.operands)}

    @cached_property
    def _by_parameters(self) -> list[Step]:
        """The steps that do not depend on the inputs to differentiate by."""
        moved = self.program.dependent(self.inputs)
        return [step for step in self.program.steps if not moved.intersection(step.results)]

    def _free(self, own: Sequence[Step]) -> list[Step]:
        """The steps of parameters alone that some steps need, in order."""
        needed = {value for step in own for value in step.operands}
        chosen: list[Step] = []
        for step in reversed(self._by_parameters):
            if needed.intersection(step.results):
                chosen.append(step)
                needed.update(step.operands)
        return chosen[::-1]

    def _captured(self, own: Sequence[Step]) -> dict[int, Any]:
        """The constants that some steps need, and the steps of parameters before them."""
        needed = {value for step in (*own, *self._free(own)) for value in step.operands}
        return {
            value: self.program.constants[value] for value in needed & {*self.program.constants}
        }

    def _parameters(self, own: Sequence[Step], values: Mapping[int, Any]) -> dict[int, Any]:
        """What else these steps take, that the stage does not compute."""
        free = self._free(own)
        made = {value for step in (*own, *free) for value in step.results}
        needed = {value for step in (*own, *free) for value in step.operands}
        return {value: values[value] for value in needed - made if value in values}


@dataclass(frozen=True, eq=False)
class _Loop:
    """A stage that is a loop whose carried values are the inputs: the sum over its steps.

    Attributes:
        step: the loop.
        first: the number of its first carried operand.
        carried: how many values it carries.
        chosen: which of them are differentiated.
    """

    step: Step
    first: int
    carried: int
    chosen: list[int]

    @staticmethod
    def of(program: Program, stage: Stage, own: Sequence[Step]) -> _Loop | None:
        """The loop of a stage; None if it is anything else."""
        if len(own) != 1 or own[0].primitive.name != "scan":
            return None
        step = own[0]
        first, carried = compat.scan_counts(step.params)
        carry = step.operands[first : first + carried]
        chosen = [number for number, value in enumerate(carry) if value in stage.old]
        outside = {*step.operands[:first], *step.operands[first + carried :]}
        is_carried = (
            len(chosen) == len(stage.old)
            and not outside.intersection(stage.old)
            and sorted(step.results[number] for number in chosen) == sorted(stage.new)
        )
        return _Loop(step, first, carried, chosen) if is_carried else None

    def passed(self, values: dict[int, Any], notes: list[Note]) -> Any:
        """Add the results of the loop; the logarithm of its determinant."""
        params, last = self.step.params, self.first + self.carried
        operands = [values[value] for value in self.step.operands]
        body = Program.of(params["jaxpr"])
        chain = Chain(
            body,
            tuple(body.inputs[self.first + number] for number in self.chosen),
            tuple(body.outputs[number] for number in self.chosen),
        )
        inside: list[Note] = []

        same = {number: _same_slice(value) for number, value in enumerate(operands[last:])}

        def step(state: tuple[list[Any], Any], slices: list[Any]) -> Any:
            """The body, with the logarithm of its determinant added up."""
            carry, total = state
            inside.clear()
            slices = [
                part if same[number] is None else same[number] for number, part in enumerate(slices)
            ]
            results, logarithm = chain([*operands[: self.first], *carry, *slices], inside)
            after = results[: self.carried]
            return (after, total + logarithm), results[self.carried :]

        carry = [jnp.asarray(operand) for operand in operands[self.first : last]]
        dtype = jnp.result_type(*(carry[number].dtype for number in self.chosen))
        (carry, total), stacked = jax.lax.scan(
            step,
            (carry, jnp.zeros((), dtype)),
            operands[last:],
            length=params["length"],
            reverse=params["reverse"],
        )
        values.update(zip(self.step.results, [*carry, *stacked], strict=True))
        notes += [
            Note(note.place, f"{params['length']} times {note.method}", note.is_dense)
            for note in inside
        ]
        return total


def _same_slice(stacked: Any) -> Any:
    """What all steps of a loop get alike, such as a mask; None if they do not, or if not known."""
    if compat.is_traced(stacked) or not stacked.shape[0]:
        return None
    array = np.asarray(stacked)
    return array[0] if np.all(array == array[:1]) else None


def _run(steps: Sequence[Step], values: dict[int, Any], given: Set[int] = frozenset()) -> None:
    """Evaluate steps, and add their results, but for those that are given."""
    for step in steps:
        operands = [values[value] for value in step.operands]
        results = compat.bind(step.primitive, operands, step.params)
        values.update(
            (value, result)
            for value, result in zip(step.results, results, strict=True)
            if value not in given
        )
