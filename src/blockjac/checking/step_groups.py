"""One mistake in several steps: each time a loop passes, or in all steps that do the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from blockjac.checking.passes import Change, Edge
from blockjac.checking.report import Mistake
from blockjac.checking.step_mistakes import MOST_OTHERS, OTHERS_RANK, Steps
from blockjac.checking.steps import Step
from blockjac.checking.variant import Variant


def step_groups(steps: Sequence[Step]) -> list[list[Step]]:
    """The steps in which one mistake may be made each time.

    These are those that one line of code makes several times, one after another, then those of
    one kind wherever they are: all layers' activations, both softmaxes.
    """
    by_line: dict[object, list[Step]] = {}
    by_kind: dict[object, list[Step]] = {}
    for step in steps:
        by_line.setdefault(step.key, []).append(step)
        by_kind.setdefault(step.kind, []).append(step)
    groups = [group for group in by_line.values() if len(group) > 1]
    known = {frozenset(map(id, group)) for group in groups}
    for group in by_kind.values():
        positions = [position for step in group for position in step.positions]
        is_new = frozenset(map(id, group)) not in known
        if len(group) > 1 and is_new and len(set(positions)) == len(positions):
            groups.append(group)
    return groups


def group_changes(
    steps: Steps, group: Sequence[Step]
) -> Iterator[tuple[Mistake, dict[Edge, Change], int]]:
    """The mistakes that are made in each step of a group, as changes of the reverse pass."""
    makers = [steps.variants(step) for step in group]
    for number, variant in _numbered(steps, group[0]):
        changes: dict[Edge, Change] = {}
        for step, make in zip(group, makers, strict=True):
            if make is not None:
                changes.update(steps.changed(step, make, (variant.name, number)))
        hint = variant.hint.format(step=f"{group[0]}, each time")
        yield Mistake(variant.name, hint), changes, steps.rank(group[0]) + variant.doubt - 1
    yield from _exchanged(steps, group)


def _numbered(steps: Steps, step: Step) -> Iterator[tuple[int, Variant]]:
    """The variants of a step at the exact cotangent, numbered among those of their name."""
    make = steps.variants(step)
    seen: dict[str, int] = {}
    if make is None:
        return
    for variant in make(steps.passes.exact[step.end]):
        seen[variant.name] = seen.get(variant.name, 0) + 1
        yield seen[variant.name], variant


def _exchanged(
    steps: Steps, group: Sequence[Step]
) -> Iterator[tuple[Mistake, dict[Edge, Change], int]]:
    """The derivative of each step is taken for that of the next or of the last one."""
    slopes = [steps.slopes.get(step.start, {}).get(step.end) for step in group]
    shapes = {None if slope is None else slope.shape for slope in slopes}
    if len(shapes) != 1 or None in shapes or len(group) > MOST_OTHERS:
        return
    for shift in (1, -1)[: len(group) - 1]:
        changes: dict[Edge, Change] = {}
        for n, step in enumerate(group):
            slope = slopes[(n + shift) % len(group)]

            def make(c: np.ndarray, slope: Any = slope) -> Iterator[Variant]:
                yield Variant("wrong factor", "", c * slope)

            changes.update(steps.changed(step, make, ("wrong factor", 1)))
        hint = f"the derivatives of {group[0]} and of {group[1]} were exchanged"
        yield Mistake("wrong factor", hint), changes, OTHERS_RANK
