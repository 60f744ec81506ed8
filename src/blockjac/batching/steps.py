"""What is known about the steps of a loop before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.base import compat
from blockjac.batching.writes import at_all_steps
from blockjac.graph.demanded import computed
from blockjac.graph.graph import Atom, Equation, Known, Operand, values_of
from blockjac.graph.known_inside import Inside, mask_operands, may_be_known, place_operands
from blockjac.graph.known_places import with_known_places
from blockjac.graph.linearity import RECOMPUTED
from blockjac.graph.trace import graph_of

COPIES = frozenset({"copy", "convert_element_type", "reshape"})
"""Primitives that may do nothing."""


class Steps:
    """The steps of a scan, before it runs.

    Attributes:
        closed: the body of the loop, a closed jaxpr.
        graph: the body, as a graph.
        numbers: the loop's operands, if they are known integers or booleans; None for the others.
        length: how many steps there are.
        reverse: whether the first step reads the last slice.
        consts: how many constants the loop has.
        carry: how many arrays it carries.
    """

    def __init__(self, equation: Equation, numbers: Sequence[np.ndarray | None]) -> None:
        """Make a graph of the body of a scan, given the operands that are known."""
        params = equation.params
        self.closed, self.length, self.reverse = (
            params[name] for name in ("jaxpr", "length", "reverse")
        )
        self.consts, self.carry = compat.scan_counts(params)
        self.numbers = numbers
        # A batch of steps keeps what a checkpoint would compute again.
        self.graph = graph_of(self.closed, [False] * len(equation.operands), calls=RECOMPUTED)

    @cached_property
    def carried(self) -> tuple[int, ...]:
        """The carried values, at the start of a step."""
        return self.graph.inputs[self.consts : self.consts + self.carry]

    @cached_property
    def incoming(self) -> tuple[int, ...]:
        """The values that a step reads slice by slice."""
        return self.graph.inputs[self.consts + self.carry :]

    @cached_property
    def steady(self) -> list[int]:
        """Positions of the carried arrays that no step changes."""
        return [
            position
            for position, value in enumerate(self.carried)
            if self._source(self.graph.outputs[position]) == value
        ]

    @cached_property
    def counters(self) -> list[int]:
        """Positions of the other carried arrays that are known at every step."""
        inside = Inside(compat.open_jaxpr(self.closed), 0, self.consts, self.carry, counts=True)
        may = may_be_known(inside, [number is not None for number in self.numbers])
        known = [position for position in range(self.carry) if may[self.consts + position]]
        return [position for position in known if position not in self.steady]

    @cached_property
    def constants(self) -> dict[int, np.ndarray]:
        """The inputs that are known, and the same at every step."""
        steady = (self.carried[position] for position in self.steady)
        same = {*self.graph.inputs[: self.consts], *steady}
        return {value: number for value, number in self._numbers.items() if value in same}

    @cached_property
    def _numbers(self) -> dict[int, np.ndarray]:
        """The known operands, by the input of the body that they become."""
        inputs = zip(self.graph.inputs, self.numbers, strict=True)
        return {value: number for value, number in inputs if number is not None}

    @property
    def _slices(self) -> dict[int, np.ndarray]:
        """The known operands that are read slice by slice."""
        return {value: self._numbers[value] for value in self.incoming if value in self._numbers}

    @cached_property
    def counts(self) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
        """The counters at all steps, stacked in the order of the slices, and at the end."""
        values = [self.carried[position] for position in self.counters]
        outputs = [self.graph.outputs[position] for position in self.counters]

        def step(counts: Any, slices: Any) -> Any:
            known = {**self.constants, **dict(zip(values, counts, strict=True)), **slices}
            return computed(self.graph, outputs, known), counts

        with jax.ensure_compile_time_eval():
            init = [jnp.asarray(self._numbers[value]) for value in values]
            last, stacked = lax.scan(step, init, self._slices, self.length, self.reverse)
        return (
            dict(zip(values, map(np.asarray, stacked), strict=True)),
            dict(zip(values, map(np.asarray, last), strict=True)),
        )

    @cached_property
    def counted(self) -> set[int]:
        """The values that are known at every step, and differ from step to step."""
        varying = {self.carried[position] for position in self.counters} | set(self._slices)
        known = {*self.constants, *varying, *self.graph.constants}
        for equation in self.graph.equations:
            operands = values_of(equation.operands)
            if known.issuperset(operands):
                known.update(equation.results)
                if not varying.isdisjoint(operands):
                    varying.update(equation.results)
        return varying

    @cached_property
    def _fixed(self) -> set[int]:
        """The values that are known, and the same at every step."""
        inputs = [
            Known(numbers=self.constants[value]) if value in self.constants else None
            for value in self.graph.inputs
        ]
        indices = [
            value
            for equation in self.graph.equations
            for value in values_of(place_operands(equation.primitive.name, equation.operands))
        ]
        return set(with_known_places(self.graph, inputs, indices).known)

    def is_known(self, atoms: Iterable[Atom]) -> bool:
        """Whether integers or booleans are known at every step."""
        return all(value in self.counted or value in self._fixed for value in values_of(atoms))

    def at_all(self, atoms: Sequence[Atom]) -> list[np.ndarray]:
        """The numbers of some values at all steps, stacked.

        Args:
            atoms: the values, for which `is_known` is true.
        """
        varying = {**self.counts[0], **self._slices} or {-1: np.zeros(self.length)}

        def at_step(atom: Atom, known: Any) -> Any:
            return computed(self.graph, [atom], {**self.constants, **known})[0]

        return [at_all_steps(partial(at_step, atom), varying) for atom in atoms]

    def gains(self) -> bool:
        """Whether a batch has more structure: steps read, write or choose at different indices."""
        return any(
            not self.counted.isdisjoint(
                values_of(
                    (
                        *place_operands(equation.primitive.name, equation.operands),
                        *mask_operands(equation.primitive.name, equation.params, equation.operands),
                    )
                )
            )
            for equation in self.graph.equations
        )

    @cached_property
    def makers(self) -> dict[int, Equation]:
        """The equation that computes each value of the body."""
        return {value: equation for equation in self.graph.equations for value in equation.results}

    def _source(self, atom: Atom) -> int | None:
        """The value that an atom is a copy of; None for a literal."""
        while isinstance(atom, Operand):
            maker = self.makers.get(atom.value)
            if maker is None or not self.is_copy(maker):
                return atom.value
            atom = maker.operands[0]
        return None

    def is_copy(self, equation: Equation) -> bool:
        """Whether an equation changes neither shape nor dtype nor numbers."""
        if equation.primitive.name not in COPIES:
            return False
        before, after = self.graph.aval(equation.operands[0]), self.graph.avals[equation.results[0]]
        return before.shape == after.shape and before.dtype == after.dtype
