"""Convolutions: one bilinear map, whose block with respect to each operand is the other one.

On the way of a gradient it is applied, and ends in XLA's own convolution; where its block is asked
for, it is a term that stores the other operand. The cheaper of the two is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra import arrays
from blockjac.algebra.arrays import is_known_mask
from blockjac.algebra.backend import backend, planning
from blockjac.algebra.nonzeros import without_zeros
from blockjac.algebra.star import star
from blockjac.algebra.sums import summed
from blockjac.algebra.views import View
from blockjac.base import compat
from blockjac.blocks import Block, Index, Label, Term
from blockjac.graph.graph import Equation
from blockjac.operators.batched_map import LinearMap, Side, through
from blockjac.operators.map_group import MapGroup
from blockjac.operators.operator import OperatorGroup
from blockjac.rules.fallback import BY_JAX
from blockjac.rules.registry import OPERATOR_RULES, OperatorRule, Rows, labels_of, plain
from blockjac.terms.block import delta_pairs, rebuilt
from blockjac.terms.factor import Factor
from blockjac.terms.index import collect
from blockjac.terms.known_indices import known_lookup, mask_at

EXAMPLE = "example"
"""The name of the batch axes of the left operand and of the result."""


@dataclass(frozen=True)
class Places:
    """Where the labels of a convolution meet its arrays, an index for each axis.

    `out[places.out] = sum over labels of lhs[places.lhs] rhs[places.rhs]`.
    """

    lhs: tuple[Index, ...]
    rhs: tuple[Index, ...]
    out: tuple[Index, ...]


@dataclass(frozen=True)
class Window:
    """One spatial axis: `o` and `k` meet the input at `i` where `b i = s o + d k - p`."""

    size: int
    width: int
    count: int
    stride: int
    low: int
    base: int
    dilation: int

    def by_result(self) -> tuple[Index, Index, Index]:
        """Input, kernel and result over the labels `o` and `k`; exact where `b` is 1."""
        o, k = Label(self.count), Label(self.width)
        strides = collect([(o, self.stride), (k, self.dilation)])
        return Index(-self.low, strides), Index.of(k), Index.of(o)

    def by_input(self) -> tuple[Index, Index, Index]:
        """Input, kernel and result over the labels `i` and `k`; exact where `s` is 1."""
        i, k = Label(self.size), Label(self.width)
        strides = collect([(i, self.base), (k, -self.dilation)])
        return Index.of(i), Index.of(k), Index(self.low, strides)

    def by_table(self) -> tuple[Index, Index, Index]:
        """Input, kernel and result over the labels `o` and `k`, for any strides."""
        o, k = Label(self.count), Label(self.width)
        places = (
            self.stride * np.arange(o.size)[:, None]
            + self.dilation * np.arange(k.size)[None, :]
            - self.low
        )
        met = (places % self.base == 0) & (places >= 0)
        places = np.where(met, places // self.base, self.size)
        carried = tuple(label for label in (o, k) if label.size != 1)
        table = known_lookup(places.reshape(arrays.sizes(carried)), carried)
        return Index(0, (), table), Index.of(k), Index.of(o)

    def indices(self, input_is_stored: bool) -> tuple[Index, Index, Index]:
        """Input, kernel and result, so that the stored one of the operands is not copied."""
        one_each = 1 in (self.count, self.width)
        if self.base == 1 and (not input_is_stored or one_each or self.stride != 1):
            return self.by_result()
        return self.by_input() if self.stride == 1 or self.count == 1 else self.by_table()


@dataclass(frozen=True, eq=False)
class Convolution:
    """The shapes and parameters of one `conv_general_dilated`."""

    primitive: Any
    params: dict[str, Any]
    lhs: jax.ShapeDtypeStruct
    rhs: jax.ShapeDtypeStruct
    out: jax.ShapeDtypeStruct

    def __call__(self, lhs: Any, rhs: Any) -> Any:
        """The convolution of two arrays."""
        (out,) = compat.bind(self.primitive, [lhs, rhs], self.params)
        return out

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        feature = self.params["dimension_numbers"].rhs_spec[0]
        taps = math.prod(size for axis, size in enumerate(self.rhs.shape) if axis != feature)
        return 2 * math.prod(self.out.shape) * taps

    def block(self, operand: int, other: Any, may: np.ndarray | None = None) -> Block:
        """The block with respect to the left (0) or right (1) operand, over the other one.

        Args:
            operand: which.
            other: the other one.
            may: where that one may hold another number than zero; None for everywhere.
        """
        variable = (self.lhs, self.rhs)[operand]
        if 0 in (*self.out.shape, *self.lhs.shape, *self.rhs.shape):
            return Block.zeros(self.out.shape, variable.shape, variable.dtype)
        places = self.places(input_is_stored=operand == 1)
        wrt, stored = (places.lhs, places.rhs) if operand == 0 else (places.rhs, places.lhs)
        factors = [View(other, stored).read()]
        if may is not None:
            labels = arrays.unique([label for index in stored for label in index.labels])
            factors.append(Factor(mask_at(may, stored, labels), labels))
        term = Term(tuple(factors), places.out, wrt)
        block = Block(self.out.shape, variable.shape, variable.dtype, [term])
        return block if may is None else _without_mask(block)

    def places(self, input_is_stored: bool) -> Places:
        """Where labels meet the three arrays.

        Groups are the high digit of the output feature, and of the input feature or the batch.
        """
        numbers, params = self.params["dimension_numbers"], self.params
        group = Label(params["feature_group_count"] * params["batch_group_count"])
        batch = Label(self.out.shape[numbers.out_spec[0]])
        feature = Label(self.rhs.shape[numbers.rhs_spec[0]] // group.size)
        inner = Label(self.rhs.shape[numbers.rhs_spec[1]])

        def grouped(low: Label, count: int) -> Index:
            return Index(0, collect([(group, low.size if count != 1 else 0), (low, 1)]))

        outer = grouped(feature, group.size)
        spatial = [window.indices(input_is_stored) for window in self.windows()]
        lhs, rhs, out = ([each[place] for each in spatial] for place in range(3))
        lhs_batch = grouped(batch, params["batch_group_count"])
        lhs_feature = grouped(inner, params["feature_group_count"])
        return Places(
            _arranged(numbers.lhs_spec, [lhs_batch, lhs_feature, *lhs]),
            _arranged(numbers.rhs_spec, [outer, Index.of(inner), *rhs]),
            _arranged(numbers.out_spec, [Index.of(batch), outer, *out]),
        )

    @property
    def example_axis(self) -> int:
        """The batch axis of the result."""
        return self.params["dimension_numbers"].out_spec[0]

    @property
    def examples_are_apart(self) -> bool:
        """Whether the batch axes of left operand and result are one."""
        return self.params["batch_group_count"] == 1

    def names(self, axes: Sequence[int]) -> tuple[str | None, ...]:
        """A name for the batch axis of an array whose axes these are, if examples are apart."""
        batch = axes[0] if self.examples_are_apart else None
        return tuple(EXAMPLE if axis == batch else None for axis in range(len(axes)))

    def kernel_cotangents(self, lhs: Any, cotangents: Any) -> Any:
        """The cotangents of the kernel from each example apart, which is the first axis."""
        lhs_axis = self.params["dimension_numbers"].lhs_spec[0]

        def of_one(example: Any, cotangent: Any) -> Any:
            example = jnp.expand_dims(example, lhs_axis)
            backwards = jax.linear_transpose(lambda rhs: self(example, rhs), self.rhs)
            return backwards(jnp.expand_dims(cotangent, self.example_axis))[0]

        return jax.vmap(of_one, (lhs_axis, self.example_axis))(lhs, cotangents)

    def windows(self) -> list[Window]:
        """The spatial axes, in the order of the parameters."""
        numbers, params = self.params["dimension_numbers"], self.params
        return [
            Window(
                self.lhs.shape[numbers.lhs_spec[2 + axis]],
                self.rhs.shape[numbers.rhs_spec[2 + axis]],
                self.out.shape[numbers.out_spec[2 + axis]],
                params["window_strides"][axis],
                params["padding"][axis][0],
                params["lhs_dilation"][axis]
                if self.lhs.shape[numbers.lhs_spec[2 + axis]] > 1
                else 1,
                params["rhs_dilation"][axis],
            )
            for axis in range(len(params["window_strides"]))
        ]


def _without_mask(block: Block) -> Block:
    """The block over the places that its mask leaves, in the cheapest form."""
    if not block.terms:
        return block
    (term,) = block.terms
    masks = [one for one in term.factors if is_known_mask(one)]
    numbers = tuple(one for one in term.factors if one not in masks)
    if len(masks) != 1 or len(numbers) != 1 or set(masks[0].labels) != set(numbers[0].labels):
        return block
    (mask,), (number,) = masks, numbers
    may = np.transpose(mask.array, [mask.labels.index(label) for label in number.labels])
    bare = rebuilt(block.out_shape, block.wrt_shape, block.dtype, [replace(term, factors=numbers)])
    return without_zeros(bare, 0, may)


def _arranged(axes: Sequence[int], indices: Sequence[Index]) -> tuple[Index, ...]:
    """The indices of batch, feature and spatial axes in the order of an array's own axes."""
    own = dict(zip(axes, indices, strict=True))
    return tuple(own[axis] for axis in range(len(own)))


class OneOperand(MapGroup):
    """A convolution as a linear map of one operand.

    An example of the result depends on the same example of the left operand alone.
    """

    def __init__(self, convolution: Convolution, operand: int, other: Any) -> None:
        variable = (convolution.lhs, convolution.rhs)[operand]
        numbers = convolution.params["dimension_numbers"]
        lhs_names = convolution.names(numbers.lhs_spec)
        super().__init__(
            out_shapes=[tuple(convolution.out.shape)],
            wrt_shapes=[tuple(variable.shape)],
            dtypes=[variable.dtype],
            out_dtypes=[convolution.out.dtype],
            pull=self.pulled,
            push=self.pushed,
            name="conv_general_dilated",
            row_axes=[convolution.names(numbers.out_spec)],
            column_axes=[lhs_names if operand == 0 else (None,) * len(variable.shape)],
            structured=True,
        )
        self.convolution, self.operand, self.other = convolution, operand, other
        self.may: np.ndarray | None = None

    def without_zeros(self, place: int, may: np.ndarray) -> OperatorGroup:
        """Without the places where the other operand is known to be zero, once written down."""
        return self.changed(may=may) if place == self.operand else self

    def pushed(self, tangents: Sequence[Any]) -> list[Any]:
        """The convolution of one tangent with the other operand."""
        operands = (*tangents, self.other) if self.operand == 0 else (self.other, *tangents)
        return [self.convolution(*operands)]

    def pulled(self, cotangents: Sequence[Any]) -> list[Any]:
        """The transpose of the above, from JAX: again a convolution."""
        variable = (self.convolution.lhs, self.convolution.rhs)[self.operand]
        (backwards,) = jax.linear_transpose(self.pushed, [variable])(list(cotangents))
        return list(backwards)

    def written(self, row: int, column: int) -> Block:
        """The term that stores the other operand."""
        del row, column
        return self.convolution.block(self.operand, self.other, self.may)

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`cotangent star J`."""
        (cotangent,) = cotangents
        return [None if cotangent is None else self._sent(cotangent, backwards=True)]

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`J star tangent`: the transpose through the transpose."""
        (tangent,) = tangents
        return [None if tangent is None else self._sent(tangent.T, backwards=False).T]

    def _sent(self, block: Block, backwards: bool) -> Block:
        """`block star J`, or `block star J.T` forwards; each term in the way that is cheapest."""
        shape, dtype = (
            (self.wrt_shapes[0], self.dtypes[0]) if backwards else (self.out_shapes[0], block.dtype)
        )
        terms: list[Term] = []
        for term in block.terms:
            one = rebuilt(block.out_shape, block.wrt_shape, block.dtype, [term])
            sent = _cheapest(self._ways(one, backwards))
            terms += [_typed(made, dtype) for made in sent.terms]
        return summed(block.out_shape, shape, np.dtype(dtype), terms)

    def _ways(self, block: Block, backwards: bool) -> list[Callable[[], Block]]:
        """How a block may be sent through; that of one number only by a convolution."""
        ways = [lambda: self._applied(block, self._backward() if backwards else self._forward())]
        if math.prod(block.out_shape) == 1:
            return ways
        if backwards and self._keeps_examples(block):
            ways.append(lambda: self._example_by_example(block))
        return [
            *ways,
            lambda: star(block, self.block(0, 0) if backwards else self.block(0, 0).T),
        ]

    def _applied(self, block: Block, linear: LinearMap) -> Block:
        """By XLA's convolution: in a plan, so many operations for each number that it gives."""
        answer = through(block, linear)[0]
        entries = sum(term.factors[-1].numel for term in answer.terms)
        made = max(math.prod(linear.made.shapes[0]), 1)
        backend().charge(self.convolution.operations * entries // made, 0)
        return answer

    def _keeps_examples(self, block: Block) -> bool:
        """Whether an output axis of the block is a delta of the examples of the convolution."""
        axis = self.convolution.example_axis
        return (
            self.operand == 1
            and self.convolution.examples_are_apart
            and any(j == axis for _, j in delta_pairs(block))
        )

    def _example_by_example(self, block: Block) -> Block:
        """With respect to a kernel for each example, all of which then are the same kernel."""
        (out,), (kernel,), (dtype,) = self.out_shapes, self.wrt_shapes, self.dtypes
        examples = out[self.convolution.example_axis]
        each = Side(((examples, *kernel),), (dtype,), ((EXAMPLE, *(None for _ in kernel)),))
        pull = lambda parts: [self.convolution.kernel_cotangents(self.other, parts[0])]  # noqa: E731
        answer = self._applied(block, LinearMap(pull, self._results(), each))
        labels = labels_of((examples, *kernel))
        same = Term((), plain(labels), plain(labels[1:]))
        return star(answer, Block((examples, *kernel), kernel, dtype, [same]))


class BothOperands(OperatorGroup):
    """A convolution as a linear map of both operands, each in its own cheapest way."""

    def __init__(self, *parts: OneOperand) -> None:
        super().__init__(
            out_shapes=parts[0].out_shapes,
            wrt_shapes=[shape for part in parts for shape in part.wrt_shapes],
            dtypes=[dtype for part in parts for dtype in part.dtypes],
            out_dtypes=parts[0].out_dtypes,
            name=parts[0].name,
        )
        self.parts = parts

    def written(self, row: int, column: int) -> Block:
        """The term that stores the other operand."""
        return self.parts[column].block(row, 0)

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`cotangent star J`, for each operand."""
        return [one for part in self.parts for one in part.pullback(cotangents)]

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`J star tangent`, summed over the operands."""
        total: Block | None = None
        for part, tangent in zip(self.parts, tangents, strict=True):
            (pushed,) = part.pushforward([tangent])
            if pushed is not None:
                total = pushed if total is None else total + pushed
        return [total]


def _typed(term: Term, dtype: Any) -> Term:
    """The term with its numbers in another dtype; masks stay masks."""
    factors = (one if arrays.is_mask(one) else arrays.cast(one, dtype) for one in term.factors)
    return replace(term, factors=tuple(factors))


def _cheapest(ways: Sequence[Callable[[], Block]]) -> Block:
    """What the way gives whose plan takes the least time; the first of equals."""
    return (ways[0] if len(ways) == 1 else min(ways, key=_seconds))()


def _seconds(way: Callable[[], Block]) -> float:
    """Of the numbers alone: a contraction that computes none is free."""
    with planning() as cost:
        way()
    return replace(cost, contractions=0).seconds()


def _evaluate(
    equation: Equation, inputs: Sequence[Any], active: Sequence[bool]
) -> tuple[Sequence[Any], Any]:
    """The result, and of each operand what the derivative by the other one needs."""
    if _is_complex(inputs):
        return BY_JAX.evaluate(equation, inputs, active)
    results = compat.bind(equation.primitive, inputs, equation.params)
    return results, [
        one if wanted else None for one, wanted in zip(inputs, active[::-1], strict=True)
    ]


def _edges(
    equation: Equation,
    inputs: Sequence[Any],
    outs: Sequence[Any],
    residuals: Any,
    active: Sequence[bool],
) -> Rows:
    """An operator for each operand."""
    if _is_complex(inputs):
        return BY_JAX.edges(equation, inputs, outs, residuals, active)
    shapes = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in (*inputs, *outs)]
    convolution = Convolution(equation.primitive, equation.params, *shapes)
    parts = [
        OneOperand(convolution, operand, residuals[1 - operand])
        for operand, wanted in enumerate(active)
        if wanted
    ]
    group = parts[0] if len(parts) == 1 else BothOperands(*parts)
    own = iter(group.edges()[0])
    return [[next(own) if wanted else None for wanted in active]]


def _is_complex(inputs: Sequence[Any]) -> bool:
    return any(jnp.issubdtype(one.dtype, jnp.complexfloating) for one in inputs)


OPERATOR_RULES["conv_general_dilated"] = OperatorRule(_evaluate, _edges)
