"""A row holds ours against the fastest of JAX's ways, and the worst row stands on top."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
import harness
import never_slower
import overview
from real_programs import PROGRAMS

NO_OVERVIEW = {
    "adbench",
    "banded",
    "cameras",
    "gradbench",
    "interop_training",
    "least_squares",
    "matrix_products",
    "natural_gradients",
    "stiff_equations",
    "large_tables",
    "table_intervals",
    "tables",
    "nonlinear_programs",
    "calls",
    "harness",
    "kfac",
    "networks",
    "never_slower",
    "lecture_training",
    "cutest_patterns",
    "first_answers",
}
"""Not scripts of derivatives that `never_slower` could gather, or public ones with a page."""


def measurement(seconds, memory=None):
    return harness.Measurement(np.array([seconds]), None, memory)


def row(name="row", **measured):
    ways = tuple(way for way in measured if way in overview.WAYS)
    return overview.Row(name, measured, ways)


@pytest.fixture
def ordinary():
    return row(
        blockjac=measurement(1.0, 300),
        jacfwd=measurement(4.0, 100),
        jacrev=measurement(2.0, 200),
        floor=measurement(0.5),
    )


def test_row_compares_with_the_fastest(ordinary):
    assert ordinary.best[0] == "jacrev"
    assert (ordinary.ratio, ordinary.memory_ratio, ordinary.floor_ratio) == (0.5, 1.5, 0.25)
    assert overview.line(ordinary) == (
        "| row | 1 s | 2 s | jacrev | 0.5 x | 300 B | **1.5 x** | 0.25 x |  |"
    )


def test_row_without_a_way_to_compare_with_has_no_ratio():
    alone = row(blockjac=measurement(1.0), jacfwd=harness.Failure("needs 9 GiB"))
    assert math.isnan(alone.ratio)
    assert overview.line(alone).endswith("jacfwd needs 9 GiB |")


def test_failing_where_jax_answers_is_the_worst_of_all(ordinary):
    failing = row("bad", blockjac=harness.Failure("no"), jacrev=measurement(1.0))
    alone = row(blockjac=measurement(1.0), jacrev=harness.Failure("no"))
    assert never_slower.worst_first([alone, ordinary, failing]) == [failing, ordinary, alone]
    assert "**missed** by 1: bad (fails)" in overview.never_slower([alone, ordinary, failing])
    assert "geometric mean 0.5 x" in overview.never_slower([alone, ordinary, failing])


def test_limits_are_those_of_the_claims(ordinary):
    assert overview.never_slower([ordinary]).endswith("geometric mean 0.5 x: met")
    assert overview.never_larger([ordinary]).endswith("**missed** by 1: row (1.5 x)")
    slow = row("slow", blockjac=measurement(1.06), **{"jax.grad": measurement(1.0)})
    text = never_slower.conclusion([ordinary, slow])
    assert "**missed** by 1: slow (1.06 x)" in text.partition("Gradients:")[2]
    assert "the 1 of them whose result takes less than 0.3 x" in text
    assert "geometric mean at most 0.3 x: 0.5 x, **missed**" in text


def test_task_is_reduced_to_ours_and_jax_and_measured_again_where_it_is_slow():
    task = harness.Task(
        title="",
        arguments=(jnp.arange(3.0),),
        contenders={
            "blockjac": blockjac.jacobian(jnp.sin),
            "by hand": lambda x: jnp.diag(jnp.cos(x)),
            "jacrev": jax.jacrev(jnp.sin),
        },
        others={"peer": harness.Peer(lambda: pytest.fail("is not made"))},
        alike=("blockjac", "by hand", "jacrev"),
    )
    assert overview.ways_of(task) == ("jacrev",)
    once = overview.compare("sine", task, ("jacrev",), rounds=2)
    assert set(once.measured) == {"blockjac", "jacrev", "floor"}
    twice = overview.compare("sine", task, ("jacrev",), rounds=2, again_over=0.0)
    assert [len(one.rounds) for one in (once.ours, twice.ours)] == [2, 4]


def test_every_script_is_in_the_overview():
    scripts = {path.stem for path in Path(harness.__file__).parent.glob("*.py")} - NO_OVERVIEW
    assert set(never_slower.SCRIPTS) - {"program_jacobians"} == scripts
    assert set(never_slower.JACOBIAN_SIZES) == {
        name for name, program in PROGRAMS.items() if program.output is not None
    }
