"""The mistakes that the program of a function suggests, for leaves that nothing else explains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.blocks import Block
from blockjac.checking.compare import Tolerance, in_double, largest, same
from blockjac.checking.dictionary import Dictionary
from blockjac.checking.edge_mistakes import cotangent_candidates, edge_candidates, scaled_cotangent
from blockjac.checking.explanations import (
    Candidate,
    Evidence,
    Explanation,
    Target,
    chosen,
)
from blockjac.checking.loop_mistakes import loop_passes, pairs_of_paths
from blockjac.checking.passes import Passes
from blockjac.checking.report import LeafReport, Mistake
from blockjac.checking.rounding import noise
from blockjac.checking.step_mistakes import Steps
from blockjac.checking.sums import Axes, wrong_axis
from blockjac.checking.tape import Tape, tape_of
from blockjac.checking.values import PLACES
from blockjac.engine.call import Call
from blockjac.engine.leaves import separated
from blockjac.rules.complex_parts import is_complex

MAX_STORED = 2**25
"""A program whose values have more entries together is not searched."""

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
        if any(is_complex(array) for array in (*call.inputs, *call.results)):
            return None
        stored = sum(int(np.prod(aval.shape)) for aval in call.graph.avals)
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
            answer[positions[leaf]] = replace(old, mistakes=(mistake,))
    return answer


def _is_open(report: LeafReport) -> bool:
    """Whether entries differ in an array of the right shape."""
    shape = report.out_shape + report.wrt_shape
    return report.count > 0 and report.given_shape == shape


def _without_rounding(
    reports: Sequence[LeafReport], pairs: Pairs, passes: Passes
) -> list[LeafReport]:
    """The reports, where differences that are the rounding of a sum that cancels count for right."""
    if not any(_is_open(report) and np.isfinite(report.largest) for report in reports):
        return list(reports)
    dtypes = [leaf.dtype for pair in pairs for leaf in pair]
    errors = noise(passes, dtypes)
    return [
        replace(report, count=0, differences=(), mistakes=())
        if _is_open(report) and not report.out_shape and report.largest <= errors[value]
        else report
        for report, value in zip(reports, passes.tape.wrt, strict=True)
    ]


def _has_unknown_shape(report: LeafReport) -> bool:
    """Whether the derivative of a scalar has a shape that nothing explains."""
    return not report.out_shape and any(m.name == "wrong shape" for m in report.mistakes)


def _sums(
    reports: Sequence[LeafReport],
    pairs: Pairs,
    known: Dictionary,
    tolerance: Tolerance,
    axes: Axes,
) -> dict[int, Mistake]:
    """The sums over wrong axes behind wrong shapes, by leaf."""
    mistakes: dict[int, Mistake] = {}
    for leaf, (report, (given, block)) in enumerate(zip(reports, pairs, strict=True)):
        if _has_unknown_shape(report) and np.prod(given.shape) <= MAX_STORED:
            array = in_double(given)
            limit = tolerance.limit(given.dtype, block.dtype, largest(array))
            mistake = wrong_axis(known.passes, array, block.shape, axes, limit)
            mistakes.update({} if mistake is None else {leaf: mistake})
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
        array = _pulled(given, seed) if _is_open(report) or report.right else None
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
        _search(evidence, known)
    return chosen(evidence.explanations, evidence.wrong)


def _pulled(value: Any, cotangent: np.ndarray) -> np.ndarray:
    """The product y ⋆ A of an array or Block."""
    if isinstance(value, Block):
        return in_double(value.vecmat(jnp.asarray(cotangent, value.dtype)))
    return np.tensordot(cotangent, in_double(value), axes=cotangent.ndim)


def of_leaves(reports: Sequence[LeafReport], evidence: Evidence) -> Iterator[Explanation]:
    """What is known of each leaf by itself; one mistake where several have the same."""
    groups: dict[tuple[str, str], list[int]] = {}
    mistakes: dict[tuple[str, str], Mistake] = {}
    for leaf in evidence.wrong:
        for mistake in reports[leaf].mistakes:
            if mistake.name not in PLACES:
                key = mistake.name, mistake.hint.partition(";")[0]
                groups.setdefault(key, []).append(leaf)
                mistakes.setdefault(key, mistake)
    for key, leaves in groups.items():
        mistake = mistakes[key]
        entries = sum(int(np.prod(reports[leaf].wrt_shape)) for leaf in leaves)
        is_likely = mistake.factor is None or evidence.is_likely(mistake.factor)
        rank = mistake.rank if is_likely else 35
        yield Explanation(mistake, frozenset(leaves), 0, not is_likely and entries < 3, rank)


def _search(evidence: Evidence, known: Dictionary) -> None:
    """Try mistakes until one explains everything, the likelier kinds first."""
    steps = Steps(known.passes)
    _in_places(evidence, known, steps)
    for search in (_in_steps, _in_values, _in_loops, _without_targets, _in_pairs):
        if search is not _in_pairs or not evidence.explanations:
            search(evidence, known, steps)
        if evidence.is_settled:
            return


def _in_places(evidence: Evidence, known: Dictionary, _: Steps) -> None:
    """On the edges of the program."""
    by_value: dict[int, list[Candidate]] = {}
    for position, places in enumerate(known.passes.edges):
        for place in places:
            for candidate in edge_candidates(known, (position, place)):
                by_value.setdefault(candidate.value, []).append(candidate)
    for value in known.passes.exact:
        by_value.setdefault(value, []).extend(scaled_cotangent(known, value))
    for value, candidates in by_value.items():
        evidence.try_at(value, candidates)


def _in_steps(evidence: Evidence, _: Dictionary, steps: Steps) -> None:
    """In whole functions and lines of the user's code."""
    for step in steps.steps:
        evidence.try_at(step.start, list(steps.candidates(step)))


def _in_values(evidence: Evidence, known: Dictionary, _: Steps) -> None:
    """In the cotangents of values as a whole."""
    for value in known.passes.exact:
        evidence.try_at(value, list(cotangent_candidates(known, value)))


def _in_loops(evidence: Evidence, known: Dictionary, steps: Steps) -> None:
    """Each time a loop passes."""
    for group in steps.loops():
        for mistake, changes, rank in steps.changes(group):
            evidence.try_pass(mistake, known.passes.reverse(changes), rank)
    for mistake, changes, rank in loop_passes(known):
        evidence.try_pass(mistake, known.passes.reverse(changes), rank)


def _in_pairs(evidence: Evidence, known: Dictionary, _: Steps) -> None:
    """Two paths that are left out together."""
    for mistake, changes, rank in pairs_of_paths(known):
        evidence.try_pass(mistake, known.passes.reverse(changes), rank)


def _without_targets(evidence: Evidence, known: Dictionary, _: Steps) -> None:
    """The derivative of the function without a constant that is added or subtracted."""
    tape = known.tape
    for entry in tape.entries:
        active = [place for place, value in enumerate(entry.operands) if value in tape.active]
        if entry.name not in ("add", "sub") or len(active) != 1:
            continue
        constant = entry.operands[1 - active[0]]
        sign = 1.0 if entry.name == "sub" and active == [0] else -1.0
        shift = np.broadcast_to(sign * tape.values[constant], tape.shape(entry.results[0]))
        predicted = Passes(tape.read_at({entry.results[0]: shift}), known.passes.seeds).exact
        name = known.name(constant)
        hint = f"{name} was left out, as if the function did not {entry.name} it"
        evidence.try_pass(Mistake("missing term", hint), predicted, 20)
