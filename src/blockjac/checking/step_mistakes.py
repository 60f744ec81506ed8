"""Mistakes within one step of the chain rule, each made in the exact derivative.

A step is a part of the program, from a value u to a value v of the same shape, that everything on
the way to v passes. With cotangents y of the results and r = y ⋆ D_v f, the derivative in which the
step has another Jacobian C is

    y ⋆ D_w f + (r ⋆ C - r ⋆ D_u v) ⋆ D_w u,

one gradient for each C. Where that is what was given, the step and its C are the mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.blocks import Block
from blockjac.checking.compare import Tolerance, in_double, largest, same
from blockjac.checking.report import LeafReport, Mistake
from blockjac.checking.step_variants import Local, variants_of
from blockjac.checking.steps import Step, steps_of
from blockjac.checking.values import PLACES
from blockjac.engine.call import Call
from blockjac.graph.demanded import computed
from blockjac.graph.graph import Graph, Operand, values_of
from blockjac.rules.complex_parts import is_complex
from blockjac.transforms.diagonals import jacobian_diagonal
from blockjac.transforms.first_order import grad

MAX_STEPS = 200
"""How many steps are tried, the likeliest first."""

Arrays = Mapping[int, Any]
"""Arrays by the value of the graph that they belong to."""


class Steps:
    """The steps of a function at a point, and its derivative with a mistake in one of them.

    Args:
        call: the traced function, all of whose results and differentiated inputs are real.
    """

    def __init__(self, call: Call) -> None:
        self.graph: Graph = call.graph
        self.inputs: dict[int, Any] = dict(zip(call.graph.inputs, call.arguments, strict=True))
        self.wrt = call.smooth
        self.results = call.graph.outputs[: call.count]
        self.steps = tuple(steps_of(self.graph, self.wrt, values_of(self.results)))[:MAX_STEPS]

    @cached_property
    def _watched(self) -> tuple[int, ...]:
        """The values whose cotangents are needed."""
        ends = [value for step in self.steps for value in (step.start, step.end)]
        return tuple(dict.fromkeys((*self.wrt, *ends)))

    @cached_property
    def _values(self) -> Arrays:
        """The watched values at the point."""
        atoms = [Operand(value, None) for value in self._watched]

        def run(inputs: Any) -> list[Any]:
            return computed(self.graph, atoms, inputs)

        jitted = cast("Callable[..., list[Any]]", jax.jit(run))
        return dict(zip(self._watched, jitted(self.inputs), strict=True))

    @cached_property
    def _pull(self) -> Callable[[Sequence[Any], Arrays], Arrays]:
        """From cotangents of the results and of watched values, those of all watched values."""

        def weighed(shifts: Any, cotangents: Any, inner: Any) -> Any:
            moved = {value: self.inputs[value] + shifts[value] for value in self.wrt}
            atoms = [*self.results, *(Operand(value, None) for value in self._watched)]
            arrays = computed(self.graph, atoms, {**self.inputs, **moved}, added=shifts)
            weights = [*cotangents, *(inner[value] for value in self._watched)]
            return sum(jnp.sum(w * a) for w, a in zip(weights, arrays, strict=True))

        shifts = {value: jnp.zeros_like(self._values[value]) for value in self._watched}

        def pull(cotangents: Any, inner: Any) -> Any:
            return grad(weighed)(shifts, cotangents, inner)

        return jax.jit(pull)

    @cached_property
    def _no_cotangents(self) -> Arrays:
        """A zero for each watched value."""
        return {value: jnp.zeros_like(array) for value, array in self._values.items()}

    def exact(self, cotangents: Sequence[np.ndarray]) -> Arrays:
        """The derivative y ⋆ D_v f without a mistake, by watched value, inputs among them.

        Args:
            cotangents: y, one per result.
        """
        return self._pull(cotangents, self._no_cotangents)

    def variants(self, exact: Arrays) -> Iterator[tuple[Mistake, Arrays]]:
        """Each mistake with the derivative that it leads to: y ⋆ D_w f by differentiated input.

        Args:
            exact: the derivative without a mistake.
        """
        silent = [jnp.zeros(self.graph.aval(result).shape) for result in self.results]
        for step, local in zip(self.steps, self._locals(exact), strict=True):
            for variant in variants_of(local):
                with np.errstate(invalid="ignore"):
                    changed = np.asarray(exact[step.end]) * variant.diagonal - local.pulled
                inner = {**self._no_cotangents, step.start: jnp.asarray(changed)}
                change = self._pull(silent, inner)
                mistake = Mistake(variant.name, variant.hint.format(step=step))
                yield mistake, {w: np.asarray(exact[w] + change[w]) for w in self.wrt}

    def cotangents(self, row: int) -> list[np.ndarray]:
        """Random cotangents of one result, 1 if it is a scalar, and zeros for all other results."""
        generator = np.random.default_rng(row)
        shapes = [self.graph.aval(result).shape for result in self.results]
        return [
            np.zeros(shape)
            if position != row
            else np.ones(shape)
            if shape == ()
            else generator.normal(size=shape)
            for position, shape in enumerate(shapes)
        ]

    def _locals(self, exact: Arrays) -> list[Local]:
        """Each step's own numbers, from one program.

        Args:
            exact: r = y ⋆ D_v f, by watched value.
        """
        generator = np.random.default_rng(0)
        starts = [self._values[step.start] for step in self.steps]
        probes = [jnp.asarray(generator.normal(size=u.shape), u.dtype) for u in starts]

        def numbers(step: Step, arrays: Any, cotangent: Any, probe: Any) -> Any:
            """The diagonals at start and end, r ⋆ D_u v, and the same of the probe."""
            fixed = {value: array for value, array in self.inputs.items() if value != step.start}
            start, end = arrays[step.start], arrays[step.end]

            def run(array: Any) -> Any:
                inputs = {**fixed, step.start: array}
                return computed(self.graph, [Operand(step.end, None)], inputs)[0]

            def pull(cotangent: Any) -> Any:
                def weighed(array: Any) -> Any:
                    return jnp.sum(cotangent * run(array))

                return grad(weighed)(start)

            diagonals = jacobian_diagonal(run)(start), jacobian_diagonal(run)(end)
            return *diagonals, pull(cotangent), pull(probe)

        def numbers_of_all(arrays: Any, cotangents: Any, probes: Any) -> Any:
            return [
                numbers(step, arrays, cotangents[step.end], probe)
                for step, probe in zip(self.steps, probes, strict=True)
            ]

        answer: list[Local] = []
        jitted = cast("Callable[..., list[Any]]", jax.jit(numbers_of_all))
        all_numbers = jitted(self._values, dict(exact), probes)
        for step, probe, numbers_of_step in zip(self.steps, probes, all_numbers, strict=True):
            ends = self._values[step.start], self._values[step.end]
            arrays: list[Any] = [np.asarray(array) for array in (*ends, *numbers_of_step)]
            start, end, diagonal, at_end, pulled, probed = arrays
            machine = cast("Any", jnp.finfo(diagonal.dtype))
            wanted: Any = np.asarray(probe) * diagonal
            limit = float(machine.eps) ** 0.5 * (largest(wanted) or 1.0)
            is_elementwise = same(probed, wanted, limit)
            answer.append(Local(start, end, diagonal, at_end, is_elementwise, pulled))
        return answer


def with_steps(
    reports: Sequence[LeafReport],
    pairs: Sequence[tuple[Any, Block]],
    call: Call,
    tolerance: Tolerance,
) -> list[LeafReport]:
    """The reports, with the mistake named where it lies within one step of the chain rule.

    Args:
        reports: one per leaf: results outside, differentiated inputs inside.
        pairs: what was given and the exact block, one per leaf.
        call: the traced function.
        tolerance: of equal entries.
    """
    answer = list(reports)
    width = len(call.smooth)
    unnamed = [position for position, report in enumerate(reports) if _is_unnamed(report)]
    if not unnamed or any(is_complex(array) for array in (*call.inputs, *call.results)):
        return answer
    steps = Steps(call)
    for row in dict.fromkeys(position // width for position in unnamed):
        leaves = [position for position in unnamed if position // width == row]
        mistakes = _mistakes(leaves, [pairs[leaf] for leaf in leaves], steps, row, tolerance)
        for leaf, mistake in mistakes.items():
            answer[leaf] = replace(answer[leaf], mistakes=(mistake,))
    return answer


def _is_unnamed(report: LeafReport) -> bool:
    """Whether entries differ, and nothing but where they lie is known."""
    return report.count > 0 and all(mistake.name in PLACES for mistake in report.mistakes)


def _mistakes(
    leaves: Sequence[int],
    pairs: Sequence[tuple[Any, Block]],
    steps: Steps,
    row: int,
    tolerance: Tolerance,
) -> dict[int, Mistake]:
    """The mistakes of one result by leaf: for each the first variant that equals what was given."""
    cotangents = steps.cotangents(row)
    inputs = [steps.wrt[leaf % len(steps.wrt)] for leaf in leaves]
    given = [_pulled(value, cotangents[row]) for value, _ in pairs]
    exact = [_pulled(block, cotangents[row]) for _, block in pairs]
    limits = [
        tolerance.limit(value.dtype, block.dtype, largest(wanted))
        for (value, block), wanted in zip(pairs, exact, strict=True)
    ]
    pulled = steps.exact(cotangents)
    if not all(
        same(np.asarray(pulled[w], wanted.dtype), wanted, limit)
        for w, wanted, limit in zip(inputs, exact, limits, strict=True)
    ):
        return {}  # a rule of the user's own disagrees with the program that it belongs to
    mistakes: dict[int, Mistake] = {}
    for mistake, variant in steps.variants(pulled):
        explained = [
            leaf
            for leaf, w, array, limit in zip(leaves, inputs, given, limits, strict=True)
            if leaf not in mistakes and same(array, np.asarray(variant[w], array.dtype), limit)
        ]
        mistakes.update(dict.fromkeys(explained, mistake))
        if len(mistakes) == len(leaves):
            break
    return mistakes


def _pulled(value: Any, cotangent: np.ndarray) -> np.ndarray:
    """The product y ⋆ A of an array or Block."""
    if isinstance(value, Block):
        return in_double(value.vecmat(jnp.asarray(cotangent, value.dtype)))
    return np.tensordot(cotangent, in_double(value), axes=cotangent.ndim)
