"""Every public function of JAX that has a derivative: ours is JAX's, by rules of our own."""

from functools import partial

import jax
import numpy as np
import pytest
from support.agreement import ORACLES, ORDERS, agree, differentiated
from support.function_table import BETTER, TABLE, resolved

import blockjac
from blockjac.elimination import active_graph
from blockjac.rules.registry import OperatorRule

EVERY = 2
"""Each so many rows are tried in every run, the others by `--thorough`."""


def _marks(row, place):
    marks = [pytest.mark.slow] if row.slow else []
    return [*marks, pytest.mark.thorough] if place % EVERY else marks


def rows(table):
    return [
        pytest.param(row, id=name, marks=_marks(row, place))
        for place, (name, row) in enumerate(table.items())
    ]


@pytest.mark.parametrize("row", rows(TABLE))
def test_function(row):
    arguments = row.values()
    every = differentiated(arguments)
    if row.refusal is not None:
        for transform in (*ORACLES.values(), blockjac.jacobian):
            with pytest.raises(row.refusal):
                transform(row.function, every)(*arguments)
        return

    @jax.jit
    def both(*arguments):
        theirs = [ORACLES[mode](row.function, every)(*arguments) for mode in row.modes]
        ours = [
            blockjac.jacobian(row.function, every, order=order)(*arguments) for order in row.modes
        ]
        return ours, theirs

    ours, theirs = both(*arguments)
    for wanted in theirs:
        for one in ours:
            agree(one, wanted, row.holes, row.rtol, 1e-11)
    for mode in set(ORDERS) - set(row.modes):
        for transform in (ORACLES[mode], partial(blockjac.jacobian, order=mode)):
            with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
                transform(row.function, every)(*arguments)


@pytest.mark.parametrize("row", rows(BETTER))
def test_function_that_jax_does_not_differentiate(row):
    arguments = row.values()
    every = differentiated(arguments)
    for place in every:
        for order in ORDERS:
            ours = blockjac.jacobian(row.function, place, order=order)(*arguments)
            np.testing.assert_allclose(
                ours, differences(row.function, arguments, place), rtol=1e-6, atol=1e-8
            )


def differences(function, arguments, place, step=1e-6):
    """The Jacobian by central differences."""
    function = jax.jit(function)
    point = np.asarray(arguments[place])

    def at(shift):
        moved = point + shift
        return np.asarray(function(*arguments[:place], moved, *arguments[place + 1 :]))

    units = np.eye(point.size).reshape(-1, *point.shape) * step
    columns = [(at(unit) - at(-unit)) / (2 * step) for unit in units]
    return np.reshape(np.stack(columns, -1), (*columns[0].shape, *point.shape))


def left_to_jax(row):
    """The primitives whose equations are differentiated by JAX, inside loops and branches too."""
    names = set()
    usual = active_graph.BY_JAX

    def edges(equation, *rest):
        names.add(equation.primitive.name)
        return usual.edges(equation, *rest)

    arguments = row.values()
    derivative = blockjac.jacobian(row.function, differentiated(arguments), order=row.modes[-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(active_graph, "BY_JAX", OperatorRule(usual.evaluate, edges))
        jax.eval_shape(derivative, *arguments)
    return names


def function_name(key):
    return key.split()[0]


@pytest.mark.slow
def test_few_functions_are_left_to_jax():
    rows = {name: row for name, row in (TABLE | BETTER).items() if row.refusal is None}
    left = {name: left_to_jax(row) for name, row in rows.items()}
    for name, primitives in left.items():
        if primitives:
            print(f"{name}: {' '.join(sorted(primitives))}")  # noqa: T201
    ours = {function_name(name) for name, primitives in left.items() if not primitives}
    every = {function_name(name) for name in left}
    print(f"{len(ours)} of {len(every)} functions by rules of our own")  # noqa: T201
    assert len(ours) >= 500


def test_the_count_sees_the_fallback():
    row = TABLE["numpy.sin"]
    with blockjac.rules.kept():
        del blockjac.rules.RULES["sin"]
        assert left_to_jax(row) == {"sin"}


def test_every_name_is_public():
    names = {function_name(name) for name in TABLE | BETTER}
    assert len(names) >= 290
    assert all(callable(resolved(name)) for name in names)
