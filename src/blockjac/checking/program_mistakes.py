"""The mistakes that the program of a function suggests, for leaves that nothing else explains."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.blocks import Block
from blockjac.checking.candidates import Target, chosen
from blockjac.checking.compare import Tolerance, in_double, largest, same
from blockjac.checking.dictionary import Dictionary
from blockjac.checking.explanations import Evidence
from blockjac.checking.passes import Passes
from blockjac.checking.report import LeafReport, Mistake
from blockjac.checking.rounding import noise
from blockjac.checking.search import of_leaves, search_program
from blockjac.checking.sums import Axes, wrong_axis
from blockjac.checking.tape import Tape, tape_of
from blockjac.engine.call import Call
from blockjac.engine.leaves import separated
from blockjac.rules.complex_parts import is_complex

MAX_STORED = 2**25
"""A program whose values have more entries together is not searched."""

PLAIN = 1
"""Mistakes up to this rank need no search if all wrong leaves have the same."""

Pairs = Sequence[tuple[Any, Block]]
"""What was given, an array or a Block, and the exact block, one per leaf."""


@dataclass(frozen=True, eq=False)
class Program:
    """The function that is differentiated, at its arguments.

    Attributes:
        fun: as the user gave it.
        args: positional arguments.
        kwargs: keyword arguments.
        call: the same traced.
    """

    fun: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    call: Call

    def tape(self) -> Tape | None:
        """Its values at the point; None where they are complex, or too many."""
        call = self.call
        if any(is_complex(array) for array in call.graph.avals):
            return None
        stored = sum(math.prod(aval.shape) for aval in call.graph.avals)
        if stored > MAX_STORED:
            return None
        arrays, rebuilt = separated((self.args, self.kwargs))

        def of_arrays(*leaves: Any) -> Any:
            args, kwargs = rebuilt(leaves)
            return jax.tree.leaves(self.fun(*args, **kwargs))

        order = {value: position for position, value in enumerate(call.graph.inputs)}
        return tape_of(of_arrays, arrays, [order[value] for value in call.smooth])

    @property
    def axes(self) -> Axes:
        """The axes of the arguments, by the names that they have in the function."""
        graph = self.call.graph
        shapes = {
            graph.names[value]: tuple(graph.avals[value].shape)
            for value in graph.inputs
            if value in graph.names
        }
        return Axes(shapes)

    def names(self, tape: Tape) -> dict[int, str]:
        """What the user calls the values of the tape."""
        names = self.call.graph.names
        pairs = zip(tape.inputs, self.call.graph.inputs, strict=True)
        return {value: names[number] for value, number in pairs if number in names}


def with_explanations(
    reports: Sequence[LeafReport],
    pairs: Pairs,
    program: Program,
    tolerance: Tolerance,
) -> list[LeafReport]:
    """The reports, with the mistakes that explain most leaves of each result.

    Args:
        reports: one per leaf: results outside, differentiated inputs inside.
        pairs: what was given and the exact block, one per leaf.
        program: the function.
        tolerance: of equal entries.
    """
    answer = list(reports)
    width = len(program.call.smooth)
    rows = {
        position // width
        for position, report in enumerate(reports)
        if _is_open(report) or _has_unknown_shape(report)
    }
    rows -= {row for row in rows if _is_plain(reports[row * width : (row + 1) * width])}
    tape = program.tape() if rows else None
    if tape is None:
        return answer
    for row in sorted(rows):
        positions = range(row * width, (row + 1) * width)
        row_pairs = [pairs[position] for position in positions]
        known = Dictionary(Passes(tape, _cotangents(tape, row)), program.names(tape))
        row_reports = [reports[position] for position in positions]
        if tolerance.is_default:
            row_reports = _without_rounding(row_reports, row_pairs, known.passes)
            for position, report in zip(positions, row_reports, strict=True):
                answer[position] = report
        mistakes = _row_mistakes(row_reports, row_pairs, known, row, tolerance)
        mistakes.update(_sums(row_reports, row_pairs, known, tolerance, program.axes))
        for leaf, mistake in mistakes.items():
            old = answer[positions[leaf]]
            answer[positions[leaf]] = replace(old, mistakes=_joined(old, mistake))
    return answer


def _joined(report: LeafReport, mistake: Mistake) -> tuple[Mistake, ...]:
    """The mistake in the shape of a leaf, if it had one, and that in its values.

    A term that was added to each example's gradient counts as often as there are examples once
    these are summed: that is not a second mistake.
    """
    first = () if report.mended is None else report.mistakes[:1]
    if not first or mistake.name == "summed over the wrong axis":
        return (mistake,)
    summed = math.prod(report.given_shape) / max(1, math.prod(report.wrt_shape))
    is_due_to_the_sum = (
        first[0].name == "missing sum"
        and mistake.name == "constant factor of a term"
        and mistake.factor is not None
        and abs(mistake.factor - summed) <= 1e-3 * summed
    )
    return first if is_due_to_the_sum else (*first, mistake)


def _is_open(report: LeafReport) -> bool:
    """Whether entries differ in an array of the right shape, or mended into it."""
    shape = report.out_shape + report.wrt_shape
    return report.count > 0 and (report.given_shape == shape or report.mended is not None)


def _without_rounding(
    reports: Sequence[LeafReport], pairs: Pairs, passes: Passes
) -> list[LeafReport]:
    """The reports, where the rounding of a sum that cancels counts for right."""
    if not any(_is_open(report) and np.isfinite(report.largest) for report in reports):
        return list(reports)
    dtypes = [leaf.dtype for pair in pairs for leaf in pair]
    errors = noise(passes, dtypes)
    return [
        replace(report, count=0, differences=(), mistakes=())
        if report.count and _is_rounding(report, errors[value])
        else report
        for report, value in zip(reports, passes.tape.wrt, strict=True)
    ]


def _is_plain(reports: Sequence[LeafReport]) -> bool:
    """Whether every wrong leaf by itself shows one and the same simple mistake, such as a sign."""
    wrong = [report.mistakes for report in reports if not report.right]
    names = {(m.name, m.hint) for mistakes in wrong for m in mistakes if m.rank <= PLAIN}
    return len(names) == 1 and all(len(m) == 1 and m[0].rank <= PLAIN for m in wrong)


def _is_rounding(report: LeafReport, error: float) -> bool:
    """Whether all that differs in the gradient by one variable is rounding."""
    is_shaped = report.given_shape == report.wrt_shape
    return is_shaped and not report.out_shape and report.largest <= error


def _has_unknown_shape(report: LeafReport) -> bool:
    """Whether the derivative of a scalar has a wrong shape that its values do not explain."""
    names = {mistake.name for mistake in report.mistakes}
    is_doubtful = report.count > 0 and "axes of size 1" in names
    return not report.out_shape and (is_doubtful or "wrong shape" in names)


def _sums(
    reports: Sequence[LeafReport],
    pairs: Pairs,
    known: Dictionary,
    tolerance: Tolerance,
    axes: Axes,
) -> dict[int, Mistake]:
    """The sums over wrong axes behind wrong shapes, by leaf."""
    mistakes: dict[int, Mistake] = {}
    rows = zip(reports, pairs, known.tape.wrt, strict=True)
    for leaf, (report, (given, block), value) in enumerate(rows):
        if _has_unknown_shape(report) and np.prod(given.shape) <= MAX_STORED:
            array = in_double(given)
            limit = tolerance.limit(given.dtype, block.dtype, largest(array))
            guess = wrong_axis(known.passes, array, value, axes, limit)
            is_unknown = any(mistake.name == "wrong shape" for mistake in report.mistakes)
            if guess is not None and (is_unknown or guess[1]):
                mistakes[leaf] = guess[0]
    return mistakes


def _cotangents(tape: Tape, row: int) -> list[np.ndarray]:
    """Random cotangents of one result, 1 if it is a scalar, and zeros for all other results."""
    generator = np.random.default_rng(row)
    shapes = [tape.shape(value) for value in tape.results]
    return [
        np.zeros(shape)
        if position != row
        else np.ones(shape)
        if shape == ()
        else generator.normal(size=shape)
        for position, shape in enumerate(shapes)
    ]


def _row_mistakes(
    reports: Sequence[LeafReport],
    pairs: Pairs,
    known: Dictionary,
    row: int,
    tolerance: Tolerance,
) -> dict[int, Mistake]:
    """The mistakes of one result by leaf."""
    passes = known.passes
    targets: list[Target] = []
    for report, (given, block), value in zip(reports, pairs, known.tape.wrt, strict=True):
        seed = passes.seeds[row]
        exact = _pulled(block, seed)
        shaped = given if report.mended is None else report.mended
        array = _pulled(shaped, seed) if _is_open(report) or report.right else None
        sizes = [exact] if array is None or not np.isfinite(array).all() else [exact, array]
        limit = tolerance.limit(given.dtype, block.dtype, max(map(largest, sizes)))
        recorded = passes.exact.get(value, np.zeros(exact.shape))
        if not same(np.asarray(recorded, exact.dtype), exact, limit):
            return {}  # a rule of the user's own disagrees with the program that it belongs to
        if array is not None and not np.isfinite(array).all():
            array = None
        targets.append(Target(value, array, limit, report.right))
    evidence = Evidence(passes, targets)
    evidence.explanations += of_leaves(reports, evidence)
    if evidence.wrong:
        search_program(evidence, known)
    return chosen(evidence.explanations, evidence.wrong)


def _pulled(value: Any, cotangent: np.ndarray) -> np.ndarray:
    """The product y ⋆ A of an array or Block."""
    if isinstance(value, Block):
        return in_double(value.vecmat(jnp.asarray(cotangent, value.dtype)))
    return np.tensordot(cotangent, in_double(value), axes=cotangent.ndim)
