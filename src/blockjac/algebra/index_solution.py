"""How the equations between indices are solved: the first step that applies removes one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from blockjac.algebra import arrays, index_arrays
from blockjac.algebra.index_arrays import (
    equal,
    in_range,
    quotient,
    scaled_lookup,
)
from blockjac.algebra.index_digits import cut_digits
from blockjac.algebra.index_equations import Contradiction, IndexEquations
from blockjac.algebra.views import View
from blockjac.terms.index import Index, Label, collect, radix
from blockjac.terms.known_indices import (
    digit,
    index_along,
    is_known,
    known_lookup,
    known_values,
    meetings,
)


def solve(system: IndexEquations, equations: Sequence[tuple[Index, Index, int]]) -> None:
    """Make each pair of indices agree on its axis.

    Raises:
        Contradiction: if no label values satisfy all of them.
    """
    system.equations = list(equations)
    for number, (_, _, size) in enumerate(equations):
        for side in (0, 1):
            index = system.equations[number][:2][side]  # after the trims so far
            if index.single is not None and not index.within(size):
                system.trim(index, size)
    while system.equations:
        system.equations.sort(key=_difficulty)
        _solve_one(system, *system.equations.pop(0))


def _solve_one(system: IndexEquations, left: Index, right: Index, size: int) -> None:
    """Remove one equation by the first step that applies, else by a comparison."""
    if left == right:
        system.require(left, size)
        return
    for attempt in ATTEMPTS:
        if attempt(system, left, right, size):
            return
    _compare(system, left, right, size)


def _compare(system: IndexEquations, left: Index, right: Index, size: int) -> None:
    """List where two known indices meet, along with all equations like it; else add a mask."""
    if _is_countable(left, right):
        countable = [pair for pair in system.equations if _is_countable(pair[0], pair[1])]
        system.equations = [pair for pair in system.equations if pair not in countable]
        _meet(system, [(left, right, size), *countable])
        return
    system.views.append(View.of(equal(left, right, size)))


def _meet(system: IndexEquations, equations: Sequence[tuple[Index, Index, int]]) -> None:
    """Replace the labels of known indices by one label over all places where they meet."""
    count, values_of = meetings(*map(list, zip(*equations, strict=True)))
    if not count:
        raise Contradiction
    joint = Label(count)
    for label, values in values_of.items():
        system.substitute(label, index_along(values, joint))


# Steps of the solver: each returns whether it has dealt with the equation


def _constants(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """The sides differ by a constant, or one side is constant."""
    if left.lookup is None and right.lookup is None:
        difference = collect(
            [*left.strides, *((label, -stride) for label, stride in right.strides)]
        )
        if not difference:
            if left.offset != right.offset:
                raise Contradiction
            system.require(left, size)
            return True
    for constant, index in ((left, right), (right, left)):
        if constant.constant:
            if not 0 <= constant.offset < size:
                raise Contradiction
            if index.single is not None:
                label, stride = index.single
                value, rest = divmod(constant.offset - index.offset, stride)
                if rest:
                    raise Contradiction
                system.fix(label, value)
                return True
    return False


def _singles(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """`a + s*l == b + t*m`, a linear Diophantine equation; l and m may be one label."""
    if left.single is None or right.single is None:
        return False
    (first, s), (second, t) = left.single, right.single
    if first is second:
        value, rest = divmod(right.offset - left.offset, s - t)
        if rest or not 0 <= left.offset + s * value < size:
            raise Contradiction
        system.fix(first, value)
        return True
    if (left.offset, s, first.size) == (right.offset, t, second.size) and left.within(size):
        system.substitute(second, Index.of(first))  # a renaming
        return True
    low = max(0, min(left.offset, left.offset + s * (first.size - 1)))
    low = max(low, min(right.offset, right.offset + t * (second.size - 1)))
    high = min(size - 1, max(left.offset, left.offset + s * (first.size - 1)))
    high = min(high, max(right.offset, right.offset + t * (second.size - 1)))
    common = math.gcd(s, t)
    if (right.offset - left.offset) % common:
        raise Contradiction
    step = abs(s * t) // common
    # The smallest position on the axis that both sides reach, then every `step`-th one.
    start = next(
        (
            x
            for x in range(low, low + step)
            if (x - left.offset) % s == 0 and (x - right.offset) % t == 0
        ),
        None,
    )
    if start is None or start > high:
        raise Contradiction
    joint = Label((high - start) // step + 1)
    system.substitute(first, Index.of(joint, step // s, (start - left.offset) // s))
    system.substitute(second, Index.of(joint, step // t, (start - right.offset) // t))
    return True


def _substitution(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """A label of stride 1 or -1 on one side only is solved for: it is the rest of the equation."""
    solutions: list[tuple[int, Label, Index]] = []
    for side, opposite in ((left, right), (right, left)):
        lookup = side.lookup
        for label, stride in side.strides:
            if label in opposite.labels or (lookup is not None and label in lookup.labels):
                continue
            value = _difference(opposite, side.without(label), stride)
            if value is not None:
                # Alone on its side a label costs no window; prefer it, then the largest label.
                rank = (0 if side.single is not None else 1) * 2**62 - label.size
                solutions.append((rank, label, value))
    if not solutions:
        return False
    _, label, value = min(solutions, key=lambda solution: solution[0])
    if len(value.labels) > 1 and system.is_placed(label):
        # Replacing a placed label puts all labels of its value into the answer, though some might
        # be summed, and hides digits unless it is one itself: prefer a window of a factor.
        is_digit = system.is_digit(label)
        least = label.size if is_digit else label.size / 2
        free = [
            (rank, candidate, rest)
            for rank, candidate, rest in solutions
            if candidate.size >= least
            and not system.is_placed(candidate)
            and (is_digit or not all(map(system.is_placed, rest.labels)))
        ]
        _, label, value = min(free, key=lambda solution: solution[0], default=(0, label, value))
    if left.single is None and right.single is None and not right.within(size):
        system.require(left, size)
    system.solve_for(label, value)
    return True


def _difference(index: Index, rest: Index, stride: int) -> Index | None:
    """`(index - rest) / stride` as an index, or None where it cannot be written as one."""
    if rest.lookup is not None and index.lookup is not None:
        return None
    if abs(stride) != 1:
        return None
    strides = collect([*index.strides, *((label, -step) for label, step in rest.strides)])
    lookup, sign = (index.lookup, 1) if rest.lookup is None else (rest.lookup, -1)
    lookup = scaled_lookup(lookup, sign * stride) if lookup is not None else None
    return Index(
        (index.offset - rest.offset) * stride,
        tuple((label, step * stride) for label, step in strides),
        lookup,
    )


def _flattening(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """Two complete mixed radices that do not refine each other become lookups of one flat label."""
    lhs, rhs = radix(left), radix(right)
    if lhs is None or rhs is None or len(lhs) == 1 or len(rhs) == 1 or set(lhs) & set(rhs):
        return False
    flat = Label(min(arrays.numel(lhs), arrays.numel(rhs), size))
    for digits in (lhs, rhs):
        weight = 1
        for label in reversed(digits):
            system.substitute(label, digit(flat, weight, label.size))
            weight *= label.size
    return True


def _known_digits(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """A complete mixed radix equal to a known lookup: each of its digits becomes a lookup."""
    for index, number in ((left, right), (right, left)):
        digits, labels = radix(number), index.labels
        if index.lookup is None or not is_known(index) or digits is None or len(digits) == 1:
            continue
        if set(digits) & set(labels) or arrays.numel(labels) > index_arrays.LARGEST_KNOWN:
            continue
        limit = min(arrays.numel(digits), size)
        if not index.within(limit):
            system.views.append(View.of(in_range(index, limit)))
        values = np.broadcast_to(known_values(index, labels), arrays.sizes(labels))
        values, weight = np.clip(values, 0, limit - 1), 1
        for label in reversed(digits):
            lookup = known_lookup(values // weight % label.size, labels)
            system.substitute(label, Index(0, (), lookup))
            weight *= label.size
        return True
    return False


def _division(system: IndexEquations, left: Index, right: Index, size: int) -> bool:
    """Solve for a label of any stride by an integer division, masked to where it is exact."""
    for index, rest in ((left, right), (right, left)):
        for label, stride in index.strides:
            if label in rest.labels or index.lookup is not None:
                continue
            value = _difference(rest, index.without(label), 1)
            if value is None:
                continue
            system.require(index, size)
            system.substitute(label, Index(0, (), quotient(value, stride, None)))
            system.mask(value, label.size, stride)
            return True
    return False


ATTEMPTS = (
    _constants,
    _singles,
    cut_digits,
    _flattening,
    _known_digits,
    _substitution,
    _division,
)


def _difficulty(equation: tuple[Index, Index, int]) -> int:
    """The sort key of an equation; easy ones first, since they fix labels of the harder ones."""
    left, right, _ = equation
    if left.constant or right.constant:
        return 0
    if left.single is not None and right.single is not None:
        return 1
    if left.lookup is None and right.lookup is None:
        return 2
    return 4 if _is_countable(left, right) else 3


def _is_countable(left: Index, right: Index) -> bool:
    """Whether two indices are known lookups without a label that can be solved for.

    Then the places where they meet are listed, once everything that can be solved is. This takes
    time in proportion to the places of both sides; comparing them takes that of all their pairs.
    """
    return all(not index.strides and is_known(index) for index in (left, right))
