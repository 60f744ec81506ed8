"""Hints to an exercise, each giving away a little more than the one before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from blockjac.base import compat
from blockjac.blocks import Block
from blockjac.checking.dictionary import Dictionary
from blockjac.checking.passes import Passes
from blockjac.checking.program_mistakes import Program

Blocks = Sequence[tuple[str, tuple[int, ...]]]
"""The name and the shape of each block."""


def block_hints(blocks: Blocks, exact: Sequence[Any]) -> list[str]:
    """The shapes of blocks, their structures, and one entry of each.

    Args:
        blocks: names and shapes.
        exact: the blocks of the derivative.
    """
    shapes = [f"{name} has shape {shape}" for name, shape in blocks]
    structures = [
        f"{name} = {block.structure}"
        for (name, _), block in zip(blocks, exact, strict=True)
        if isinstance(block, Block)
    ]
    entries: list[str] = []
    for (name, shape), block in zip(blocks, exact, strict=True):
        array = np.asarray(block.dense() if isinstance(block, Block) else block)
        if array.size:
            place = np.unravel_index(int(np.abs(array).argmax()), array.shape)
            index = f"[{', '.join(str(int(i)) for i in place)}]" if shape else ""
            entries.append(
                f"the largest entry of {name} is {array[place].item():.6g}, {name}{index}"
            )
    return ["\n".join(lines) for lines in (shapes, structures, entries) if lines]


def chain_hints(program: Program, blocks: Blocks) -> tuple[list[str], list[str]]:
    """What every path from a variable to the result passes, and what the last step contracts.

    Args:
        program: of a function with one number.
        blocks: names and shapes, one per variable.

    Returns:
        A line for each block, twice; empty where the program cannot be followed.
    """
    tape = program.tape()
    if tape is None:
        return [], []
    passes = Passes(tape, [np.ones(())])
    known = Dictionary(passes, program.names(tape))
    chains: list[str] = []
    last: list[str] = []
    for (name, shape), value in zip(blocks, tape.wrt, strict=True):
        steps = [
            tape.entries[passes.makers[v]] for v in _passed(passes, value) if v in passes.makers
        ]
        places = [entry.name for entry in steps if entry.primitive is not None]
        chains.append(f"{name}: every path from {known.name(value)} passes {', '.join(places)}")
        for position, place in passes.readers.get(value, ()):
            entry = tape.entries[position]
            result = tape.shape(entry.results[0])
            line = (
                f"{name}: {known.name(value)} is read by {entry.name}"
                f"{compat.at_place(entry.source)}, whose cotangent q has shape {result}"
            )
            if entry.name == "dot_general":
                partner = entry.operands[1 - place]
                line += f"; contract q with {known.name(partner)}, of shape {tape.shape(partner)}"
            elif result != shape:
                line += f"; sum q to shape {shape}"
            last.append(line)
    return chains, last


def _passed(passes: Passes, start: int) -> list[int]:
    """The values that every path from a value to the result passes, in order.

    These are the values through which as many paths lead as there are.
    """
    tape = passes.tape
    end = tape.results[0]
    ahead = {start: 1}
    for position, places in enumerate(passes.edges):
        entry = tape.entries[position]
        count = sum(ahead.get(entry.operands[place], 0) for place in places)
        for value in entry.results:
            if count and value in tape.active:
                ahead[value] = count
    back = {end: 1}
    for position in range(len(tape.entries) - 1, -1, -1):
        entry = tape.entries[position]
        count = sum(back.get(value, 0) for value in entry.results)
        for place in passes.edges[position]:
            value = entry.operands[place]
            back[value] = back.get(value, 0) + count
    total = ahead.get(end, 0)
    return [v for v in ahead if v != start and ahead[v] * back.get(v, 0) == total]
