"""Linear operators: elemental Jacobians that are better applied than written down.

An `OperatorGroup` stands for all blocks of one equation at once, since one backward (or forward)
pass gives them together; an `Operator` is one of them and what an edge of the graph holds. Other
axes of what it is applied to are batch axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.blocks import factor as arrays
from blockjac.blocks.block import Block, Term, tidy
from blockjac.blocks.dense import as_dense_axes
from blockjac.blocks.factor import Abstract, Factor
from blockjac.blocks.index import Index, Label
from blockjac.blocks.star import star, summed
from blockjac.errors import report_lost_structure

Arrays = Sequence[Any]

WORK = 8
"""Scalar operations that a plan counts an entry of an operator's input and output, applied once."""


@dataclass(eq=False)
class OperatorGroup:
    """The Jacobian of one equation as a linear map, applied and never written down.

    Attributes:
        out_shapes: shapes of the results.
        wrt_shapes: shapes of the inputs.
        dtypes: dtypes of the inputs.
        out_dtypes: dtypes of the results.
        pull: cotangents of all results (a list of arrays) to cotangents of all inputs; None if only
            `push` exists.
        push: tangents of all inputs to tangents of all results; None if only `pull` exists.
        name: what it is, for explanations.
    """

    out_shapes: Sequence[tuple[int, ...]]
    wrt_shapes: Sequence[tuple[int, ...]]
    dtypes: Sequence[Any]
    out_dtypes: Sequence[Any]
    pull: Callable[[Arrays], Arrays] | None
    push: Callable[[Arrays], Arrays] | None
    name: str = ""
    _blocks: dict[tuple[int, int], Block] = field(default_factory=dict)

    @property
    def held(self) -> Any:
        """The arrays that a rule has made this of, as a pytree; a pass keeps its own."""
        return ()

    def edges(self) -> list[list[Operator]]:
        """One operator for each output and input."""
        return [
            [Operator(self, row, column) for column in range(len(self.wrt_shapes))]
            for row in range(len(self.out_shapes))
        ]

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`sum over outputs of cotangent star J`, for each input; None for no cotangent."""
        present = [
            place for place, block in enumerate(cotangents) if block is not None and block.terms
        ]
        if not present:
            return [None] * len(self.wrt_shapes)
        self._tell_of(cotangents[present[0]])
        if self.pull is None:
            return self._by_blocks(cotangents)
        if len(present) == 1:
            return self._pull_one(present[0], cotangents)
        return self._pull_jointly(cotangents)

    def _tell_of(self, block: Block | None) -> None:
        """Note the structure that is lost where more than one number is differentiated."""
        if block is not None and block.out_shape and block.wrt_shape and not arrays.is_planning():
            report_lost_structure(self.name)

    def _by_blocks(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        answers: list[Block | None] = []
        for column in range(len(self.wrt_shapes)):
            parts = [
                star(block, self.block(row, column))
                for row, block in enumerate(cotangents)
                if block is not None
            ]
            answers.append(_sum(parts))
        return answers

    def _pull_one(self, row: int, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """One output: axes that do not meet the operator stay as they are, deltas included."""
        block = cotangents[row]
        if block is None:
            raise ValueError("no cotangent to pull back")
        terms: list[list[Term]] = [[] for _ in self.wrt_shapes]
        for term in block.terms:
            written = as_dense_axes(term, range(len(term.wrt)), block.wrt_shape, block.dtype)
            targets = [label for index in written.wrt for label in index.labels]
            inside, outside = _partition(written.factors, targets)
            batch = (
                [label for label in arrays.union(inside) if label not in targets] if inside else []
            )
            values = _spread(inside, batch, targets, block.wrt_shape, self.out_dtypes[row])
            results = self._run(
                self._pull_row(row),
                values,
                len(batch),
                self.wrt_shapes,
                self.dtypes,
            )
            for column, array in enumerate(results):
                labels = [Label(size) for size in self.wrt_shapes[column]]
                factor = Factor(array, (*batch, *labels))
                made = Term(
                    (*outside, factor),
                    written.out,
                    tuple(map(Index.of, labels)),
                    written.coefficient,
                )
                tidied = tidy(made, block.out_shape, self.wrt_shapes[column])
                if tidied is not None:
                    terms[column].append(tidied)
        return [
            summed(block.out_shape, tuple(shape), np.dtype(dtype), parts)
            for shape, dtype, parts in zip(self.wrt_shapes, self.dtypes, terms, strict=True)
        ]

    def _pull_row(self, row: int) -> Callable[[Any], Arrays]:
        def pull(cotangent: Any) -> Arrays:
            full = [
                jnp.zeros(shape, dtype)
                for shape, dtype in zip(self.out_shapes, self.out_dtypes, strict=True)
            ]
            full[row] = cotangent
            if self.pull is None:
                raise ValueError("this operator has no pullback")
            return self.pull(full)

        return pull

    def _pull_jointly(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """Several outputs: one pass for all, batched over the entries of the final output."""
        given = [block for block in cotangents if block is not None]
        out_shape = given[0].out_shape
        labels = [Label(size) for size in out_shape]
        if arrays.is_planning():
            for block in given:
                _price(block.size, block.dtype)
            self._price(math.prod(out_shape))
            results: Arrays = [
                Abstract((*out_shape, *shape), dtype)
                for shape, dtype in zip(self.wrt_shapes, self.dtypes, strict=True)
            ]
        else:
            dense = [
                jnp.zeros((*out_shape, *shape), dtype)
                if block is None
                else block.dense().astype(dtype)
                for block, shape, dtype in zip(
                    cotangents, self.out_shapes, self.out_dtypes, strict=True
                )
            ]
            function: Callable[..., Any] = lambda *parts: list(self.pull(list(parts)))  # pyright: ignore[reportOptionalCall]  # noqa: E731
            for _ in out_shape:
                function = jax.vmap(function)
            results = function(*dense)
        answers: list[Block | None] = []
        for array, shape, dtype in zip(results, self.wrt_shapes, self.dtypes, strict=True):
            wrt = [Label(size) for size in shape]
            term = Term(
                (Factor(array, (*labels, *wrt)),),
                tuple(map(Index.of, labels)),
                tuple(map(Index.of, wrt)),
            )
            answers.append(Block(out_shape, shape, dtype, (term,)))
        return answers

    def _run(
        self,
        function: Callable[[Any], Arrays],
        values: Any,
        depth: int,
        shapes: Sequence[Any],
        dtypes: Sequence[Any],
    ) -> Arrays:
        batch = tuple(values.shape[:depth])
        if arrays.is_planning():
            self._price(math.prod(batch))
            return [
                Abstract((*batch, *shape), dtype)
                for shape, dtype in zip(shapes, dtypes, strict=True)
            ]
        for shape, dtype in zip(shapes, dtypes, strict=True):
            arrays.check_fits([Label(size) for size in (*batch, *shape)], dtype)
        for _ in range(depth):
            function = jax.vmap(function)
        return function(values)

    def _price(self, times: int) -> None:
        size = sum(map(math.prod, self.out_shapes)) + sum(map(math.prod, self.wrt_shapes))
        _price(times * size * WORK, np.dtype(self.dtypes[0]))

    def block(self, row: int, column: int) -> Block:
        """One of the blocks, written out by whichever direction is narrower."""
        if arrays.is_planning():
            narrow = min(math.prod(self.out_shapes[row]), math.prod(self.wrt_shapes[column]))
            self._price(narrow)
            return _abstract(self.out_shapes[row], self.wrt_shapes[column], self.dtypes[column])
        if (row, column) not in self._blocks:
            self._blocks[row, column] = self._written(row, column)
        return self._blocks[row, column]

    def _written(self, row: int, column: int) -> Block:
        out_shape, wrt_shape = tuple(self.out_shapes[row]), tuple(self.wrt_shapes[column])
        by_rows = self.push is None or (
            self.pull is not None and math.prod(out_shape) <= math.prod(wrt_shape)
        )
        shape, dtype = (
            (out_shape, self.out_dtypes[row]) if by_rows else (wrt_shape, self.dtypes[column])
        )
        arrays.check_fits([Label(size) for size in (*out_shape, *wrt_shape)], dtype)
        count = math.prod(shape)
        basis = jnp.reshape(jnp.eye(count, dtype=dtype), (count, *shape))
        one = (
            (lambda array: self._pull_row(row)(array)[column])
            if by_rows
            else self._push_entry(row, column)
        )
        rows = jax.vmap(one)(basis)
        if by_rows:
            return Block.from_dense(jnp.reshape(rows, (*out_shape, *wrt_shape)), len(out_shape))
        dense = (
            jnp.moveaxis(
                jnp.reshape(rows, (*wrt_shape, *out_shape)),
                range(len(wrt_shape)),
                range(-len(wrt_shape), 0),
            )
            if wrt_shape
            else jnp.reshape(rows, out_shape)
        )
        return Block.from_dense(dense.astype(self.dtypes[column]), len(out_shape))

    def _push_entry(self, row: int, column: int) -> Callable[[Any], Any]:
        def push(tangent: Any) -> Any:
            full = [
                jnp.zeros(shape, dtype)
                for shape, dtype in zip(self.wrt_shapes, self.dtypes, strict=True)
            ]
            full[column] = tangent
            if self.push is None:
                raise ValueError("this operator has no pushforward")
            return self.push(full)[row]

        return push

    def pushforward(self, row: int, column: int, tangent: Block) -> Block:
        """`J star tangent` for one output and one input."""
        self._tell_of(tangent)
        if self.push is None or math.prod(self.wrt_shapes[column]) <= math.prod(tangent.wrt_shape):
            return star(self.block(row, column), tangent)
        flipped = OperatorGroup(
            [self.wrt_shapes[column]],
            [self.out_shapes[row]],
            [self.out_dtypes[row]],
            [self.dtypes[column]],
            lambda parts: [self._push_entry(row, column)(parts[0])],
            None,
            self.name,
        )
        answer = flipped.pullback([tangent.T])[0]
        if answer is None:
            return Block.zeros(self.out_shapes[row], tangent.wrt_shape, tangent.dtype)
        pushed = answer.T
        return Block(pushed.out_shape, pushed.wrt_shape, tangent.dtype, pushed.terms)


@dataclass(frozen=True, eq=False)
class Operator:
    """One block of an operator group."""

    group: OperatorGroup
    row: int
    column: int

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return tuple(self.group.out_shapes[self.row])

    @property
    def wrt_shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        return tuple(self.group.wrt_shapes[self.column])

    def block(self) -> Block:
        """The block written out."""
        return self.group.block(self.row, self.column)


Edge = Block | Operator


def written(edge: Edge) -> Block:
    """An edge as a block."""
    return edge.block() if isinstance(edge, Operator) else edge


def compose(left: Edge, right: Edge) -> Block:
    """`left star right` where either may be an operator."""
    if isinstance(right, Operator):
        block = written(left)
        if not block.terms:
            return Block.zeros(block.out_shape, right.wrt_shape, right.group.dtypes[right.column])
        cotangents: list[Block | None] = [None] * len(right.group.out_shapes)
        cotangents[right.row] = block
        answer = right.group.pullback(cotangents)[right.column]
        return (
            answer
            if answer is not None
            else Block.zeros(block.out_shape, right.wrt_shape, block.dtype)
        )
    if isinstance(left, Operator):
        return left.group.pushforward(left.row, left.column, right)
    return star(left, right)


def _sum(blocks: Sequence[Block]) -> Block | None:
    total: Block | None = None
    for block in blocks:
        total = block if total is None else total + block
    return total


def _partition(
    factors: Sequence[Factor], targets: Sequence[Label]
) -> tuple[list[Factor], list[Factor]]:
    inside = [factor for factor in factors if set(factor.labels) & set(targets)]
    return inside, [factor for factor in factors if factor not in inside]


def _spread(
    factors: Sequence[Factor],
    batch: Sequence[Label],
    targets: Sequence[Label],
    shape: Sequence[int],
    dtype: Any,
) -> Any:
    """The product of factors with the batch axes first and then every axis of the shape."""
    full = (*arrays.sizes(batch), *shape)
    if arrays.is_planning():
        _price(math.prod(full), np.dtype(dtype))
        return Abstract(full, dtype)
    arrays.check_fits([Label(size) for size in full], dtype)
    if not factors:
        return jnp.ones(full, dtype)
    value = arrays.product(list(factors))
    array = jnp.broadcast_to(
        arrays.aligned(value, [*batch, *targets]), arrays.sizes([*batch, *targets])
    )
    return jnp.reshape(array, full).astype(dtype)


def _price(operations: int, dtype: Any) -> None:
    arrays.charge(operations, operations * np.dtype(dtype).itemsize // WORK)


def _abstract(out_shape: Sequence[int], wrt_shape: Sequence[int], dtype: Any) -> Block:
    labels = [Label(size) for size in (*out_shape, *wrt_shape)]
    indices = tuple(map(Index.of, labels))
    factor = Factor(Abstract((*out_shape, *wrt_shape), np.dtype(dtype)), tuple(labels))
    return Block(
        out_shape,
        wrt_shape,
        dtype,
        (Term((factor,), indices[: len(out_shape)], indices[len(out_shape) :]),),
    )
