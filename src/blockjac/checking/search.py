"""The search for mistakes: what is known of each leaf, then the program, place by place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from blockjac.base import compat
from blockjac.checking.candidates import Candidate, Explanation
from blockjac.checking.cotangent_mistakes import cotangent_candidates, scaled_cotangent
from blockjac.checking.dictionary import Dictionary
from blockjac.checking.edge_mistakes import edge_candidates
from blockjac.checking.explanations import Evidence
from blockjac.checking.loop_mistakes import loop_passes, pairs_of_paths, with_residual
from blockjac.checking.passes import Change, Edge, Passes
from blockjac.checking.report import LeafReport, Mistake
from blockjac.checking.step_groups import group_changes, step_groups
from blockjac.checking.step_mistakes import Steps
from blockjac.checking.tape import Arrays, Tape
from blockjac.checking.values import PLACES

MAX_TARGETS = 60
"""How many constants are left out by themselves, at most."""


def of_leaves(reports: Sequence[LeafReport], evidence: Evidence) -> Iterator[Explanation]:
    """What is known of each leaf by itself; one mistake where several have the same."""
    groups: dict[tuple[str, str], list[int]] = {}
    mistakes: dict[tuple[str, str], Mistake] = {}
    for leaf in evidence.wrong:
        of_shape = 0 if reports[leaf].mended is None else 1
        for mistake in reports[leaf].mistakes[of_shape:]:
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


def search_program(evidence: Evidence, known: Dictionary) -> None:
    """Try mistakes until one explains everything, the likelier kinds first."""
    steps = Steps(known.passes)
    _in_places(evidence, known, steps)
    for search in (_in_steps, _in_values, _repeated, _without_targets, _in_pairs):
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


def _in_steps(evidence: Evidence, known: Dictionary, steps: Steps) -> None:
    """In whole functions and lines of the user's code."""
    for step in steps.steps:
        evidence.try_at(step.start, list(steps.candidates(step, known)))


def _in_values(evidence: Evidence, known: Dictionary, _: Steps) -> None:
    """In the cotangents of values as a whole."""
    for value in known.passes.exact:
        evidence.try_at(value, list(cotangent_candidates(known, value)))


def _repeated(evidence: Evidence, known: Dictionary, steps: Steps) -> None:
    """Each time a loop passes, or wherever the same is done."""
    for group in step_groups(steps.steps):
        evidence.try_passes(group_changes(steps, group))
    evidence.try_passes(loop_passes(known))


def _in_pairs(evidence: Evidence, known: Dictionary, _: Steps) -> None:
    """Two paths that are left out together."""
    evidence.try_passes(pairs_of_paths(known))


def _without_targets(evidence: Evidence, known: Dictionary, _: Steps) -> None:
    """The derivative of the function without a constant that is added or subtracted.

    A constant that one line takes each time is left out each time, too.
    """
    tape = known.tape
    shifts: dict[int, np.ndarray] = {}
    lines: dict[object, list[int]] = {}
    for entry in tape.entries:
        active = [place for place, value in enumerate(entry.operands) if value in tape.active]
        if entry.name not in ("add", "sub") or len(active) != 1:
            continue
        constant = entry.operands[1 - active[0]]
        sign = 1.0 if entry.name == "sub" and active == [0] else -1.0
        value = entry.results[0]
        shifts[value] = np.broadcast_to(sign * tape.values[constant], tape.shape(value))
        lines.setdefault((entry.name, compat.at_place(entry.source)), []).append(value)
    several = [values for values in lines.values() if len(values) > 1]
    for values in [*several, *([value] for value in shifts)][:MAX_TARGETS]:
        entry = tape.entries[known.passes.makers[values[0]]]
        constants = [v for v in entry.operands if v not in tape.active]
        name = known.name(constants[0]) + ", each time" * (len(values) > 1)
        left_out = f"{name} was left out, as if the function did not {entry.name} it"
        turned = f"{name} was taken with the other sign, in the {entry.name} of the function"
        for count, mistake in (
            (1, Mistake("missing term", left_out)),
            (2, Mistake("sign of a term", turned)),
        ):
            there = tape.read_at({value: count * shifts[value] for value in values})
            evidence.try_pass(mistake, Passes(there, known.passes.seeds).exact, 20)
            nearby: dict[Edge, Change] = {}
            for value in values:
                nearby.update(_slopes_there(known, value, there))
            evidence.try_passes([(mistake, nearby, 23)] if nearby else [])


def _slopes_there(known: Dictionary, value: int, there: Tape) -> dict[Edge, Change]:
    """The derivatives of what reads a value as they are at another point, all others as here."""
    changes: dict[Edge, Change] = {}
    for edge in known.passes.readers.get(value, ()):
        entry = known.tape.entries[edge[0]]
        if entry.is_elementwise:
            changes[edge] = partial(_times, there.slopes[edge])
        elif entry.name == "dot_general":
            residual = there.values[entry.operands[1 - edge[1]]]
            changes[edge] = with_residual(known, edge, residual)
    return changes


def _times(slope: np.ndarray, cotangent: np.ndarray, _: Arrays) -> np.ndarray:
    return slope * cotangent
