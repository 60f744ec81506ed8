"""Gradients by hand with a mistake at random: the report names it. Right ones: it names nothing."""

import jax
import numpy as np
import pytest
from support.gradient_families import FAMILIES
from support.more_gradient_families import MORE
from support.mutated_gradients import NAMING, Writer, draw, is_same

from blockjac import check_grad, check_jacobian
from blockjac.checking.values import PLACES

ALL = {**FAMILIES, **MORE}

SHARE = 0.95
"""At least this share of the mistakes is named, and nothing else with it."""


def report_on(family, problem, gradient):
    """The report of the function that learners would call."""
    given = tuple(gradient) if isinstance(problem.argnums, tuple) else gradient
    check = check_jacobian if family.endswith("Jacobian") else check_grad
    return check(problem.fun, given, *problem.args, argnums=problem.argnums)


def unnamed(seeds):
    """The draws whose mistake is not named, or named together with a wrong one."""
    failures = []
    for seed in seeds:
        drawn = draw(seed, ALL)
        report = report_on(drawn.family, drawn.problem, drawn.gradient)
        assert not report.right, f"{seed}: {drawn} passes"
        names = set(report.mistakes) - PLACES
        if not names or not names <= drawn.accepted:
            failures.append(f"{seed}: {drawn}: named {report.mistakes}")
    return failures


def right_gradient(seed):
    """A family, its problem, and a right gradient in one of three forms."""
    rng = np.random.default_rng(seed)
    family = sorted(ALL)[seed % len(ALL)]
    dtype = (np.float64, np.float32)[rng.integers(2)]
    problem = ALL[family](rng, dtype)
    gradient = problem.write(Writer())
    form = rng.integers(3)
    if form == 1:  # as another order of the same sums would round it
        unit = np.finfo(dtype).eps
        gradient = jax.tree.map(
            lambda a: np.asarray(a * (1 + unit * rng.uniform(-2, 2, np.shape(a))), dtype), gradient
        )
    elif form == 2:
        gradient = jax.tree.map(lambda a: np.asarray(a, np.float32), gradient)
    return family, problem, gradient


def called_wrong(seeds):
    """The right gradients that are called wrong, or of which a mistake is named."""
    reports = {seed: report_on(*right_gradient(seed)) for seed in seeds}
    return [f"{seed}: {report}" for seed, report in reports.items() if not report]


@pytest.mark.slow
@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_families_without_a_mistake_are_right(family, dtype):
    for seed in range(3):
        problem = ALL[family](np.random.default_rng(seed), dtype)
        derivative = jax.jacobian if family.endswith("Jacobian") else jax.grad
        exact = derivative(problem.fun, problem.argnums)(*problem.args)
        assert is_same(problem.write(Writer()), list(exact) if isinstance(exact, tuple) else exact)


def test_every_mistake_is_offered_by_some_family():
    offered = set()
    for family in ALL.values():
        for seed in range(6):
            writer = Writer()
            family(np.random.default_rng(seed), np.float64).write(writer)
            offered |= {name for name, _ in writer.offers}
    assert offered == set(NAMING)


@pytest.mark.slow
def test_mistakes_are_named():
    failures = unnamed(range(1000, 1040))
    assert len(failures) <= (1 - SHARE) * 40, "\n".join(failures)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 1000, 100))
def test_a_thousand_mistakes_are_named(start):
    failures = unnamed(range(start, start + 100))
    assert len(failures) <= (1 - SHARE) * 100, "\n".join(failures)


@pytest.mark.slow
def test_right_gradients_are_right():
    assert called_wrong(range(1000, 1000 + len(ALL))) == []


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 1000, 100))
def test_a_thousand_right_gradients_are_right(start):
    assert called_wrong(range(start, start + 100)) == []
