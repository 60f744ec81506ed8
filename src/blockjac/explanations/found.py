"""What the numbers of a program show: that formulas are right, and that a product is simple."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any, cast

import jax.numpy as jnp
import numpy as np

from blockjac.base import compat
from blockjac.explanations import expressions as ex
from blockjac.explanations.chain_rule import ChainRule
from blockjac.explanations.formulas import Formulas
from blockjac.explanations.layout import Claim
from blockjac.explanations.names import Derivative
from blockjac.explanations.numbers import MOST_ENTRIES, Numbers
from blockjac.explanations.program import Program, Variable
from blockjac.explanations.traversal import entries

NEAR = 0.05
"""How far from the arguments a simplification must hold too, in parts of their size."""

MOST_VARIABLES = 12
"""Of more variables of one shape, those nearest to the product in the program are tried."""


def tolerance(program: Program) -> float:
    """The relative error that formulas may have: by the coarsest precision in the program."""
    dtypes = {own.dtype for own in program.variables.values()}
    coarse = [
        float(cast("Any", jnp.finfo(own)).eps) for own in dtypes if jnp.issubdtype(own, jnp.inexact)
    ]
    unit = max(coarse, default=0.0)
    if unit > SINGLE:
        return 16 * unit
    return 1e-3 if unit == SINGLE else 1e-9


SINGLE = float(np.finfo(np.float32).eps)


CANCELED = 1e-4
"""Below this part of what it is computed from, a Jacobian may be left over from a cancellation."""


def is_close(given: np.ndarray, exact: np.ndarray, relative: float, least: float = 0.0) -> bool:
    """Whether arrays agree but for rounding; what is not finite is so in both, inf or nan.

    Args:
        given: an array.
        exact: what it should be.
        relative: the error allowed, of the largest number.
        least: the size that rounding errors are relative to where `exact` is smaller.
    """
    finite = np.isfinite(exact)
    if (np.isfinite(given) != finite).any():
        return False
    scale = np.max(np.abs(exact[finite]), initial=least)
    bound = relative * (scale or 1.0)
    return bool(np.allclose(given[finite], exact[finite], rtol=0, atol=bound))


def checked(
    program: Program,
    rules: Sequence[ChainRule],
    numbers: Numbers,
    exact: Callable[[Sequence[Any]], tuple[list[np.ndarray], list[list[np.ndarray]]]],
) -> bool | None:
    """Whether every formula gives the Jacobian; None where that would take too much.

    Args:
        program: the program.
        rules: the chain rule of each active result.
        numbers: at a point.
        exact: gives results and Jacobian at a point.
    """
    sizes = [
        math.prod((*rule.result.axes, *variable.axes))
        for rule in rules
        for variable in program.independents
    ]
    if sum(sizes) > MOST_ENTRIES:
        return None
    _, rows = exact(numbers.arguments)
    positions = {
        variable.number: position
        for position, variable in reversed(list(enumerate(program.results)))
        if variable is not None
    }
    relative = tolerance(program)
    for rule in rules:
        row = rows[positions[rule.result.number]]
        for variable, block in zip(program.independents, row, strict=True):
            given = numbers.adjoint(rule, variable.number)
            if given is None:
                return None
            if not is_close(given, block, relative, CANCELED * numbers.largest):
                return False
    return True


def simplifications(
    program: Program, rules: Sequence[ChainRule], numbers: Numbers, formulas: Formulas
) -> tuple[Claim, ...]:
    """The products of a scalar's chain rule that are differences or multiples of variables.

    Args:
        program: the program.
        rules: the chain rule of each active result.
        numbers: at a point.
        formulas: of the program.
    """
    claims: list[Claim] = []
    relative = tolerance(program)
    points = [numbers, *(_near(numbers, formulas, seed) for seed in (1, 2))]
    for rule in rules:
        if rule.result.shape:
            continue
        for number in rule.intermediates:
            shape = program.variables[number].axes
            if math.prod(shape) < 2 or len(rule.intermediates) > 10 * MOST_VARIABLES:
                continue
            if _is_plain(rule, number, formulas):
                continue
            products = [point.adjoint(rule, number) for point in points]
            if any(product is None or not np.any(product) for product in products):
                continue
            alike = _alike(program, number)
            for body, factors in _candidates(alike):
                values = [_value(factors, point) for point in points]
                multiple = _multiple(products[0], values[0], shape)  # pyright: ignore[reportArgumentType]
                if multiple is None:
                    continue
                pairs = zip(products, values, strict=True)
                if all(
                    is_close(multiple * value, product, relative)  # pyright: ignore[reportArgumentType]
                    for product, value in pairs
                ):
                    claims.append(Claim(rule.adjoint(number), _scaled(body, multiple)))
                    break
    return tuple(claims)


def _is_plain(rule: ChainRule, number: int, formulas: Formulas) -> bool:
    """Whether the formula of a product reads variables alone, so that nothing is to be found."""
    formula, _ = formulas.adjoint(rule, number)
    return not any(
        isinstance(entry.name, Derivative) or entry.name.base == "q"
        for entry in entries(formula.body)
    )


def _near(numbers: Numbers, formulas: Formulas, seed: int) -> Numbers:
    """The numbers at a point near by."""
    generator = np.random.default_rng(seed)
    arguments: list[Any] = []
    for own in numbers.arguments:
        if not jnp.issubdtype(own.dtype, jnp.floating):
            arguments.append(own)  # an index, a mask or a random key
            continue
        array = np.asarray(own)
        size = np.max(np.abs(array), initial=0.0) or 1.0
        moved = array + NEAR * size * generator.normal(size=array.shape)
        arguments.append(compat.jax_array(moved.astype(array.dtype)))
    return Numbers(numbers.program, formulas, arguments)


def _alike(program: Program, number: int) -> list[Variable]:
    """The named variables with the axes of another, those nearest to it first."""
    shape = program.variables[number].axes
    alike = [
        own
        for own in program.variables.values()
        if own.shape == shape and not own.is_numbered and jnp.issubdtype(own.dtype, jnp.floating)
    ]
    return sorted(alike, key=lambda own: abs(own.number - number))[:MOST_VARIABLES]


def _candidates(
    variables: Sequence[Variable],
) -> Iterator[tuple[ex.Expression, tuple[tuple[Variable, int], ...]]]:
    """What a product may be a multiple of: differences of two variables, or one of them."""
    entries = {own.number: ex.Entry(own.name, (), own.shape) for own in variables}
    for own in variables:
        yield entries[own.number], ((own, 1),)
    for pair in combinations(variables, 2):
        first, second = sorted(pair, key=lambda own: (own.kind != "computed", own.number))
        difference = ex.Total((entries[first.number], ex.Negative(entries[second.number])))
        yield difference, ((first, 1), (second, -1))


def _value(factors: Iterable[tuple[Variable, int]], numbers: Numbers) -> np.ndarray:
    """The numbers of a difference."""
    _ = numbers.values
    return sum(sign * numbers.arrays[own.name] for own, sign in factors)  # pyright: ignore[reportReturnType]


def _multiple(product: np.ndarray, value: np.ndarray, shape: Sequence[int]) -> float | None:
    """A simple number that a value is multiplied by to give a product; None if there is none."""
    square = float(np.vdot(value, value))
    if not square or not np.isfinite(square):
        return None
    ratio = float(np.vdot(value, product)) / square
    sizes = {1, *shape, math.prod(shape)}
    for size in sorted(sizes):
        for number in (1.0, 2.0, 0.5):
            for simple in (number / size, -number / size, number * size):
                if abs(ratio - simple) <= 1e-6 * abs(simple):
                    return simple
    return None


def _scaled(body: ex.Expression, multiple: float) -> ex.Expression:
    """A multiple as a fraction: `(Q - Y) / 400`."""
    if abs(multiple) < 1 and abs(round(1 / multiple) * multiple - 1) < 1e-12:
        whole = ex.Quotient(body, ex.Number(round(1 / abs(multiple))))
        return ex.Negative(whole) if multiple < 0 else whole
    return ex.product([ex.Number(multiple), body])
