"""A model seen as its layers: what enters each use of its parameters, and what arrives there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from blockjac.blocks import Block, BlockMatrix
from blockjac.engine.arguments import ArgNums, positions_of, traced_call
from blockjac.engine.auxiliary import Record
from blockjac.engine.call import Call
from blockjac.engine.leaves import separated
from blockjac.graph.example_states import Apart
from blockjac.graph.examples import Walk
from blockjac.kronecker_factors.layers import Examples
from blockjac.kronecker_factors.search import program_of
from blockjac.kronecker_factors.uses import Kind, Program, Use
from blockjac.planning import Order
from blockjac.transforms.first_order import block_jacobian
from blockjac.transforms.linearization import Linearization, blocks_of, linearized
from blockjac.transforms.traced_once import Function


@dataclass(frozen=True, eq=False)
class Arguments:
    """The leaves of a model's arguments.

    Attributes:
        arrays: those that are arrays; the others stay Python values.
        chosen: which of these are the parameters.
        rebuilt: the positional arguments from such arrays.
    """

    arrays: list[Any]
    chosen: list[int]
    rebuilt: Callable[[Sequence[Any]], Sequence[Any]]

    @staticmethod
    def of(argnums: ArgNums, args: Sequence[Any]) -> Arguments:
        """Sort the leaves of some arguments."""
        arrays, rebuilt = separated(tuple(args))
        owners = [number for number, arg in enumerate(args) for _ in separated(arg)[0]]
        chosen = [
            index
            for position in positions_of(argnums, len(args))
            for index, owner in enumerate(owners)
            if owner == position
        ]
        return Arguments(arrays, chosen, rebuilt)


@dataclass(frozen=True, eq=False)
class Layered:
    """A model with a shift of zeros at each use of its parameters.

    Attributes:
        arguments: of the model.
        program: the model, with its uses found.
        record: what the model returned.
        call: the model as a function of the shifts, traced; its auxiliary results are what the uses
            give, what they have recorded, and the arrays of the model's own.
    """

    arguments: Arguments
    program: Program
    record: Record
    call: Call

    @staticmethod
    def of(
        name: str, model: Function, argnums: ArgNums, args: Sequence[Any], has_aux: bool
    ) -> Layered:
        """Find the uses of a model's parameters, and trace it with shifts there.

        Args:
            name: of the transform, for messages.
            model: the user's function.
            argnums: which positional arguments are parameters.
            args: the positional arguments.
            has_aux: whether the model returns `(outputs, aux)`.
        """
        arguments = Arguments.of(argnums, args)
        record = Record(name)

        def flat(*arrays: Any) -> list[Any]:
            return record.flat(model(*arguments.rebuilt(arrays)), has_aux)

        closed = jax.make_jaxpr(flat)(*arguments.arrays)
        kinds: list[Kind] = [None if np.ndim(array) else frozenset() for array in arguments.arrays]
        for number, index in enumerate(arguments.chosen):
            kinds[index] = frozenset([number])
        program = program_of(closed, kinds)
        count = len(record.results)
        direct = {leaf for kind in program.results[:count] for leaf in kind or ()}
        program = replace(program, refused=program.refused | direct)

        def shifted(shifts: Any, arrays: list[Any]) -> tuple[list[Any], Any]:
            outs, records, values = program.run(arrays, shifts)
            return outs[:count], (values, records, outs[count:])

        example = program.zeros(), arguments.arrays
        call = traced_call(name, shifted, 0, example, {}, has_aux=True)
        return Layered(arguments, program, record, call)

    def linear(
        self, order: Order, in_blocks: bool
    ) -> tuple[Sequence[Any], Linearization | BlockMatrix | None]:
        """The results of the call, and its Jacobian by the shifts; None if there are none.

        Args:
            order: of elimination.
            in_blocks: whether the Jacobian is to be in blocks, and not a linear map.
        """
        if not self.program.uses:
            outs, _, _ = self.program.run(self.arguments.arrays, self.program.zeros())
            return outs, None
        return (blocks_of if in_blocks else linearized)(self.call, order)

    def outputs(self, outs: Sequence[Any]) -> Any:
        """The tree of the model's outputs, from the results of the call."""
        return jax.tree.unflatten(self.record.out_tree, outs[: self.call.count])

    @property
    def parameters(self) -> list[Any]:
        """The leaves of the parameters."""
        return [self.arguments.arrays[index] for index in self.arguments.chosen]

    def by_weights(self, use: Use, records: Sequence[Any], leaf: int) -> Block:
        """The result of a use by one of its parameters.

        Args:
            use: the use.
            records: what it has recorded.
            leaf: the number of the parameter.
        """
        inputs = self.program.jaxpr.invars
        values = {inputs[index]: self.arguments.arrays[index] for index in self.arguments.chosen}
        own = inputs[self.arguments.chosen[leaf]]

        def result(weights: Any) -> Any:
            return use.apply({**values, own: weights}, records)

        return block_jacobian(result)(values[own])

    def examples(self) -> list[Examples | None]:
        """Where the results of the uses have the examples of the model's first output.

        None where examples have met, as behind batch norm.
        """
        graph, uses = self.call.graph, self.program.uses
        if not self.call.results[0].shape:
            return [None] * len(uses)
        count = self.call.results[0].shape[0]
        shifts = len(uses)
        inputs = [
            Apart(0, 1) if number >= shifts and self._is_data(number - shifts, count) else None
            for number in range(len(graph.inputs))
        ]
        states = Walk(graph, count).results(inputs)[self.call.count :][: len(uses)]
        return [
            Examples(count, state) if isinstance(state, Apart) and state.axis >= 0 else None
            for state in states
        ]

    def _is_data(self, index: int, count: int) -> bool:
        """Whether an argument holds the examples, on its first axis."""
        shape = np.shape(self.arguments.arrays[index])
        return index not in self.arguments.chosen and shape[:1] == (count,)
