"""What the steps of a loop do to the arrays that it carries: where they read, and where they write.

The steps can be taken as a batch if each entry of these arrays is read only before any step has
written to it, or is known to be zero when it is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.batching.steps import Steps
from blockjac.batching.writes import SUMS, WRITTEN, Write, at_all_steps, numbered
from blockjac.graph.graph import Atom, Equation, Literal, Operand, values_of
from blockjac.graph.known_inside import place_operands

READS = frozenset({"dynamic_slice", "gather"})
"""Primitives that read at indices."""


@dataclass
class Chain:
    """What a step does to a carried array, one change after the other.

    Attributes:
        values: the array at the start of the step, and after each change.
        writes: the changes.
        reads: equations that read the array, each with the number of writes before it.
        cleared: for the result of a read, where it is zero at each step; elsewhere the result is
            what the array had there at the start of the loop.
    """

    values: list[int]
    writes: list[Write] = field(default_factory=list)
    reads: list[tuple[Equation, int]] = field(default_factory=list)
    cleared: dict[int, np.ndarray] = field(default_factory=dict)


Chains = Mapping[int, Chain]
"""The chain of each carried array that steps change and that is not known, by its position."""


def chains_of(steps: Steps) -> Chains | None:
    """What a step does to the carried arrays; None if a step depends on what others have written.

    Args:
        steps: the steps of the loop.
    """
    readers: dict[int, list[Equation]] = {}
    for equation in steps.graph.equations:
        for value in values_of(equation.operands):
            readers.setdefault(value, []).append(equation)
    chains = {}
    for position in set(range(steps.carry)) - set(steps.counters) - set(steps.steady):
        chain = _chain(steps, position, readers)
        if chain is None or not _is_readable(steps, chain):
            return None
        chains[position] = chain
    return chains


def varying_values(steps: Steps, chains: Chains) -> set[int]:
    """The values that differ from step to step.

    Args:
        steps: the steps of the loop.
        chains: from `chains_of`.
    """
    varying = {*steps.incoming, *(steps.carried[position] for position in steps.counters)}
    for chain in chains.values():
        for equation, _ in chain.reads:
            varying.update(equation.results)
    for equation in steps.graph.equations:
        if not varying.isdisjoint(values_of(equation.operands)):
            varying.update(equation.results)
    return varying


def _chain(steps: Steps, position: int, readers: Mapping[int, Sequence[Equation]]) -> Chain | None:
    """What a step does to one carried array; None if it does not only read and write."""
    results = values_of(steps.graph.outputs)
    chain = Chain([steps.carried[position]])
    while True:
        value = chain.values[-1]
        reads = [user for user in readers.get(value, ()) if _is_read(steps, user, value)]
        writers = [user for user in readers.get(value, ()) if user not in reads]
        chain.reads += [(read, len(chain.writes)) for read in reads]
        if not writers:
            break
        if len(writers) > 1 or value in results:
            return None
        writes = _writes(steps, writers[0], value)
        if writes is None or not all(steps.is_known(write.places) for write in writes):
            return None
        chain.writes += writes
        chain.values += writers[0].results
    is_carried_on = _is_value(steps.graph.outputs[position], value) and results.count(value) == 1
    return chain if is_carried_on and len({write.adds for write in chain.writes}) < 2 else None


# Reads


def _is_read(steps: Steps, equation: Equation, value: int) -> bool:
    """Whether an equation only reads an array, at known indices."""
    name, operands = equation.primitive.name, equation.operands
    return (
        name in READS
        and _is_value(operands[0], value)
        and steps.is_known(place_operands(name, operands))
    )


def _is_readable(steps: Steps, chain: Chain) -> bool:
    """Whether each entry that is read is as at the start of the loop, or zero.

    Zeros are noted in `chain.cleared`.
    """
    if not chain.reads:
        return True
    shape = steps.graph.avals[chain.values[0]].shape
    never = (steps.length + 1) * (len(chain.writes) + 1)
    written, cleared = (np.full(math.prod(shape), never) for _ in range(2))
    for count, write in enumerate(chain.writes):
        stacked_shape = (steps.length, *steps.graph.aval(write.own).shape)
        entries = write.entries(steps.at_all(write.places), shape, stacked_shape)
        first = cleared if not write.adds and _is_zero(steps, write.own) else written
        np.minimum.at(first, entries.positions, _times(steps, entries.steps, count, chain))
    for equation, count in chain.reads:
        (result,) = equation.results
        read = _read_entries(steps, equation, shape)
        flat = read.reshape(steps.length, -1)
        slices, numbers = np.nonzero(flat >= 0)
        now, entries_read = _times(steps, slices, count, chain), flat[slices, numbers]
        if (written[entries_read] < now).any():
            return False
        mask = np.zeros(flat.shape, bool)
        mask[slices, numbers] = cleared[entries_read] < now
        if mask.any():
            chain.cleared[result] = mask.reshape(read.shape)
    return True


def _read_entries(steps: Steps, equation: Equation, shape: Sequence[int]) -> np.ndarray:
    """The flat numbers of the entries that are read at each step; negative off the array."""
    numbers, params = jnp.asarray(numbered(shape)), dict(equation.params)
    if params.get("fill_value") is not None:  # what is read off the array is not an entry
        params["fill_value"] = -1

    def read(indices: Sequence[np.ndarray]) -> np.ndarray:
        return compat.bind(equation.primitive, [numbers, *indices], params)[0]

    indices = steps.at_all(place_operands(equation.primitive.name, equation.operands))
    return at_all_steps(read, indices)


def _times(steps: Steps, slices: np.ndarray, writes: int, chain: Chain) -> np.ndarray:
    """Numbers in the order of time: by step, then by how many writes of the step come before."""
    step_numbers = steps.length - 1 - slices if steps.reverse else slices
    return step_numbers * (len(chain.writes) + 1) + writes


# Writes


def _writes(steps: Steps, equation: Equation, value: int) -> list[Write] | None:
    """What an equation writes into an array; None if it does anything else with it."""
    name, operands = equation.primitive.name, equation.operands
    position = next(n for n, operand in enumerate(operands) if _is_value(operand, value))
    remaining = [operand for operand in operands if not _is_value(operand, value)]
    if len(remaining) != len(operands) - 1:
        return None
    if steps.is_copy(equation):
        return []
    if name in ("add", "add_any") or (name == "sub" and position == 0):
        return _summands(steps, remaining[0], -1 if name == "sub" else 1)
    if name == "select_n" and position > 0 and _is_mask(steps, operands, value):
        return [Write(remaining[1], adds=False, at=equation)]
    if position > 0 or name not in WRITTEN:
        return None
    sign = -1 if name == "scatter-sub" else 1
    return [Write(operands[WRITTEN[name]], name in SUMS, sign, equation)]


def _is_mask(steps: Steps, operands: Sequence[Atom], value: int) -> bool:
    """Whether a `select_n` chooses between two arrays, entry by entry."""
    return (
        len(operands) == 3 and steps.graph.aval(operands[0]).shape == steps.graph.avals[value].shape
    )


def _summands(steps: Steps, atom: Atom, sign: int) -> list[Write]:
    """What is added to an array: each summand of a sum separately, and only what is not zero."""
    if _is_zero(steps, atom):
        return []
    whole = Write(atom, True, sign)
    maker = steps.makers.get(atom.value) if isinstance(atom, Operand) else None
    if maker is None:
        return [whole]
    name, operands = maker.primitive.name, maker.operands
    if name in ("add", "add_any", "sub"):
        second = -sign if name == "sub" else sign
        return [*_summands(steps, operands[0], sign), *_summands(steps, operands[1], second)]
    if name == "neg":
        return _summands(steps, operands[0], -sign)
    part = _into_zeros(steps, maker, sign)
    return [part if part is not None and steps.is_known(part.places) else whole]


def _into_zeros(steps: Steps, maker: Equation, sign: int) -> Write | None:
    """What is written into an array of zeros; None if an equation does anything else."""
    name, operands = maker.primitive.name, maker.operands
    if name in WRITTEN and _is_zero(steps, operands[0]):
        sign = -sign if name == "scatter-sub" else sign
        return Write(operands[WRITTEN[name]], True, sign, maker)
    if name == "select_n" and _is_mask(steps, operands, maker.results[0]):
        cases = [operand for operand in operands[1:] if not _is_zero(steps, operand)]
        return Write(cases[0], True, sign, maker) if len(cases) == 1 else None
    return None


def _is_zero(steps: Steps, atom: Atom) -> bool:
    """Whether a value is an array of zeros."""
    if isinstance(atom, Literal):
        return not np.any(atom.array)
    maker = steps.makers.get(atom.value)
    return (
        maker is not None
        and maker.primitive.name == "broadcast_in_dim"
        and _is_zero(steps, maker.operands[0])
    )


def _is_value(atom: Atom, value: int) -> bool:
    return isinstance(atom, Operand) and atom.value == value
