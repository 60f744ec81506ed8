"""What the steps of a loop depend on: what is known of them, and what they write."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.base import compat
from blockjac.batching.writes import SUMS, WRITTEN, Write, at_all_steps, numbered
from blockjac.graph.demanded import computed
from blockjac.graph.graph import Atom, Equation, Known, Literal, Operand, values_of
from blockjac.graph.known_inside import Inside, mask_operands, may_be_known, place_operands
from blockjac.graph.known_places import with_known_places
from blockjac.graph.linearity import RECOMPUTED
from blockjac.graph.trace import graph_of

COPIES = frozenset({"copy", "convert_element_type", "reshape"})
"""Primitives that may do nothing."""

READS = frozenset({"dynamic_slice", "gather"})
"""Primitives that read at places."""


@dataclass
class Chain:
    """What a step does to an array that is carried, one thing after the other.

    Attributes:
        values: the array at the start of the step and after each change.
        writes: the changes.
        reads: equations that read the array, each with how many writes come before it.
        cleared: where a read gives zero at each step, by its result; elsewhere it gives what was
            there at the start.
    """

    values: list[int]
    writes: list[Write] = field(default_factory=list)
    reads: list[tuple[Equation, int]] = field(default_factory=list)
    cleared: dict[int, np.ndarray] = field(default_factory=dict)


class Steps:
    """The steps of a scan, before it runs.

    Attributes:
        graph: the body.
        numbers: of the loop's operands those that are known: integers and booleans.
        length: how many steps there are.
        reverse: whether the last slice is the first step's.
        consts: how many constants the loop has.
        carry: how many arrays it carries.
    """

    def __init__(self, equation: Equation, numbers: Sequence[np.ndarray | None]) -> None:
        params = equation.params
        self.closed, self.length, self.reverse = (
            params[name] for name in ("jaxpr", "length", "reverse")
        )
        self.consts, self.carry = compat.scan_counts(params)
        self.numbers = numbers
        # What a checkpoint computes again is kept in a batch.
        self.graph = graph_of(self.closed, [False] * len(equation.operands), calls=RECOMPUTED)

    # What is known

    @cached_property
    def carried(self) -> tuple[int, ...]:
        """The values that are carried, at the start of a step."""
        return self.graph.inputs[self.consts : self.consts + self.carry]

    @cached_property
    def incoming(self) -> tuple[int, ...]:
        """The values that come in at a step."""
        return self.graph.inputs[self.consts + self.carry :]

    @cached_property
    def steady(self) -> list[int]:
        """Which of the arrays that are carried stay as they are."""
        return [
            place
            for place, value in enumerate(self.carried)
            if self._source(self.graph.outputs[place]) == value
        ]

    @cached_property
    def counters(self) -> list[int]:
        """Which of the others are known at every step."""
        inside = Inside(compat.open_jaxpr(self.closed), 0, self.consts, self.carry, counts=True)
        may = may_be_known(inside, [one is not None for one in self.numbers])
        known = [place for place in range(self.carry) if may[self.consts + place]]
        return [place for place in known if place not in self.steady]

    @cached_property
    def constants(self) -> dict[int, np.ndarray]:
        """The inputs that are known and the same at every step."""
        same = {*self.graph.inputs[: self.consts], *(self.carried[one] for one in self.steady)}
        return {value: own for value, own in self._numbers.items() if value in same}

    @cached_property
    def _numbers(self) -> dict[int, np.ndarray]:
        given = zip(self.graph.inputs, self.numbers, strict=True)
        return {value: own for value, own in given if own is not None}

    @cached_property
    def counts(self) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
        """The counters, stacked by the number of the slice, and what they are at the end."""
        values = [self.carried[place] for place in self.counters]
        wanted = [self.graph.outputs[place] for place in self.counters]
        slices = {one: self._numbers[one] for one in self.incoming if one in self._numbers}

        def step(counts: Any, slices: Any) -> Any:
            given = {**self.constants, **dict(zip(values, counts, strict=True)), **slices}
            return computed(self.graph, wanted, given), counts

        with jax.ensure_compile_time_eval():
            init = [jnp.asarray(self._numbers[value]) for value in values]
            last, stacked = lax.scan(step, init, slices, self.length, self.reverse)
        return (
            dict(zip(values, map(np.asarray, stacked), strict=True)),
            dict(zip(values, map(np.asarray, last), strict=True)),
        )

    @cached_property
    def counted(self) -> set[int]:
        """Values that are known at every step, and are not the same in all."""
        varying = {self.carried[place] for place in self.counters}
        varying.update(value for value in self.incoming if value in self._numbers)
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
        """Values that are known and the same in all steps."""
        told = [
            Known(numbers=self.constants[value]) if value in self.constants else None
            for value in self.graph.inputs
        ]
        places = [
            value
            for equation in self.graph.equations
            for value in values_of(place_operands(equation.primitive.name, equation.operands))
        ]
        return set(with_known_places(self.graph, told, places).known)

    def is_known(self, atoms: Iterable[Atom]) -> bool:
        """Whether integers or booleans are known at every step."""
        return all(value in self.counted or value in self._fixed for value in values_of(atoms))

    def at_all(self, atoms: Sequence[Atom]) -> list[np.ndarray]:
        """What is known of values at all steps, stacked.

        Args:
            atoms: the values, which `is_known`.
        """
        slices = {one: self._numbers[one] for one in self.incoming if one in self._numbers}
        varying = {**self.counts[0], **slices} or {-1: np.zeros(self.length)}

        def at(atom: Atom, given: Any) -> Any:
            return computed(self.graph, [atom], {**self.constants, **given})[0]

        return [at_all_steps(partial(at, atom), varying) for atom in atoms]

    def gains(self) -> bool:
        """Whether a step reads, writes or chooses at places of its own."""
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

    def of_each(self) -> set[int]:
        """Values that are others in each step."""
        found = {*self.incoming, *(self.carried[place] for place in self.counters)}
        found.update(
            value
            for chain in (self.chains or {}).values()
            for equation, _ in chain.reads
            for value in equation.results
        )
        for equation in self.graph.equations:
            if not found.isdisjoint(values_of(equation.operands)):
                found.update(equation.results)
        return found

    # What is done to what is carried

    @cached_property
    def chains(self) -> dict[int, Chain] | None:
        """Of each other array that is carried what a step does to it; None where that matters.

        An array may be read where no step has written yet, or nothing but zeros.
        """
        readers: dict[int, list[Equation]] = {}
        for equation in self.graph.equations:
            for value in values_of(equation.operands):
                readers.setdefault(value, []).append(equation)
        chains = {}
        for place in set(range(self.carry)) - set(self.counters) - set(self.steady):
            chain = self._chain(place, readers)
            if chain is None or not self._is_readable(chain):
                return None
            chains[place] = chain
        return chains

    def _chain(self, place: int, readers: Mapping[int, Sequence[Equation]]) -> Chain | None:
        """What a step does to one of the arrays; None where it does not only read and write."""
        results = values_of(self.graph.outputs)
        chain = Chain([self.carried[place]])
        while True:
            value = chain.values[-1]
            reads = [one for one in readers.get(value, ()) if self._is_read(one, value)]
            rest = [one for one in readers.get(value, ()) if one not in reads]
            chain.reads += [(one, len(chain.writes)) for one in reads]
            if not rest:
                break
            if len(rest) > 1 or value in results:
                return None
            writes = self._writes(rest[0], value)
            if writes is None or not all(self.is_known(write.places) for write in writes):
                return None
            chain.writes += writes
            chain.values += rest[0].results
        last = self.graph.outputs[place]
        ends = isinstance(last, Operand) and last.value == value and results.count(value) == 1
        return chain if ends and len({write.adds for write in chain.writes}) < 2 else None

    def _is_read(self, equation: Equation, value: int) -> bool:
        """Whether an equation only reads an array, at known places."""
        name, operands = equation.primitive.name, equation.operands
        return (
            name in READS
            and _is_value(operands[0], value)
            and self.is_known(place_operands(name, operands))
        )

    def _is_readable(self, chain: Chain) -> bool:
        """Whether each entry that is read is as at the start, or zero, which is noted."""
        if not chain.reads:
            return True
        shape = self.graph.avals[chain.values[0]].shape
        never = (self.length + 1) * (len(chain.writes) + 1)
        written, cleared = (np.full(math.prod(shape), never) for _ in range(2))
        for count, write in enumerate(chain.writes):
            own = (self.length, *self.graph.aval(write.own).shape)
            entries = write.entries(self.at_all(write.places), shape, own)
            first = cleared if not write.adds and self._is_zero(write.own) else written
            np.minimum.at(first, entries.positions, self._times(entries.steps, count, chain))
        for equation, count in chain.reads:
            (result,) = equation.results
            read = self._read_entries(equation, shape)
            flat = read.reshape(self.length, -1)
            steps, numbers = np.nonzero(flat >= 0)
            now, found = self._times(steps, count, chain), flat[steps, numbers]
            if (written[found] < now).any():
                return False
            mask = np.zeros(flat.shape, bool)
            mask[steps, numbers] = cleared[found] < now
            if mask.any():
                chain.cleared[result] = mask.reshape(read.shape)
        return True

    def _read_entries(self, equation: Equation, shape: Sequence[int]) -> np.ndarray:
        """Which entries of an array are read at each step; below 0 for none."""
        numbers, params = jnp.asarray(numbered(shape)), dict(equation.params)
        if params.get("fill_value") is not None:  # what is read off the array is no entry
            params["fill_value"] = -1

        def read(places: Sequence[Any]) -> Any:
            return compat.bind(equation.primitive, [numbers, *places], params)[0]

        return at_all_steps(
            read, self.at_all(place_operands(equation.primitive.name, equation.operands))
        )

    def _times(self, slices: np.ndarray, writes: int, chain: Chain) -> np.ndarray:
        """When something is done: by step, then by how many writes come before in the step."""
        steps = self.length - 1 - slices if self.reverse else slices
        return steps * (len(chain.writes) + 1) + writes

    def _writes(self, equation: Equation, value: int) -> list[Write] | None:
        """What an equation does to an array; None where it does something else than write."""
        name, operands = equation.primitive.name, equation.operands
        place = next(n for n, one in enumerate(operands) if _is_value(one, value))
        others = [one for one in operands if not _is_value(one, value)]
        if len(others) != len(operands) - 1:
            return None
        if self._is_copy(equation):
            return []
        if name in ("add", "add_any") or (name == "sub" and place == 0):
            return self._summands(others[0], -1 if name == "sub" else 1)
        if name == "select_n" and place > 0 and self._is_mask(operands, value):
            return [Write(others[1], adds=False, at=equation)]
        if place > 0 or name not in WRITTEN:
            return None
        sign = -1 if name == "scatter-sub" else 1
        return [Write(operands[WRITTEN[name]], name in SUMS, sign, equation)]

    def _is_mask(self, operands: Sequence[Atom], value: int) -> bool:
        """Whether a choice is one between two arrays, entry by entry."""
        return (
            len(operands) == 3
            and self.graph.aval(operands[0]).shape == self.graph.avals[value].shape
        )

    def _summands(self, atom: Atom, sign: int) -> list[Write]:
        """What is added to an array, sums in it apart, and what is written into zeros."""
        if self._is_zero(atom):
            return []
        whole = Write(atom, True, sign)
        maker = self._makers.get(atom.value) if isinstance(atom, Operand) else None
        if maker is None:
            return [whole]
        name, operands = maker.primitive.name, maker.operands
        if name in ("add", "add_any", "sub"):
            second = -sign if name == "sub" else sign
            return [*self._summands(operands[0], sign), *self._summands(operands[1], second)]
        if name == "neg":
            return self._summands(operands[0], -sign)
        placed = self._into_zeros(maker, sign)
        return [placed if placed is not None and self.is_known(placed.places) else whole]

    def _into_zeros(self, maker: Equation, sign: int) -> Write | None:
        """What is written into an array of zeros; None where an equation does something else."""
        name, operands = maker.primitive.name, maker.operands
        if name in WRITTEN and self._is_zero(operands[0]):
            sign = -sign if name == "scatter-sub" else sign
            return Write(operands[WRITTEN[name]], True, sign, maker)
        if name == "select_n" and self._is_mask(operands, maker.results[0]):
            rest = [one for one in operands[1:] if not self._is_zero(one)]
            return Write(rest[0], True, sign, maker) if len(rest) == 1 else None
        return None

    def _is_zero(self, atom: Atom) -> bool:
        """Whether a value is an array of zeros."""
        if isinstance(atom, Literal):
            return not np.any(atom.array)
        maker = self._makers.get(atom.value)
        return (
            maker is not None
            and maker.primitive.name == "broadcast_in_dim"
            and self._is_zero(maker.operands[0])
        )

    @cached_property
    def _makers(self) -> dict[int, Equation]:
        return {value: one for one in self.graph.equations for value in one.results}

    def _source(self, atom: Atom) -> int | None:
        """The value that an atom is a copy of; None for a literal."""
        while isinstance(atom, Operand):
            maker = self._makers.get(atom.value)
            if maker is None or not self._is_copy(maker):
                return atom.value
            atom = maker.operands[0]
        return None

    def _is_copy(self, equation: Equation) -> bool:
        """Whether an equation changes neither shape nor dtype nor numbers."""
        if equation.primitive.name not in COPIES:
            return False
        before, after = self.graph.aval(equation.operands[0]), self.graph.avals[equation.results[0]]
        return before.shape == after.shape and before.dtype == after.dtype


def _is_value(atom: Atom, value: int) -> bool:
    return isinstance(atom, Operand) and atom.value == value
