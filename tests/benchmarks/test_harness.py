"""The harness compares like with like, and says what it found."""

import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import harness

SCRIPTS = sorted(
    path
    for path in (Path(__file__).resolve().parents[2] / "benchmarks").glob("*.py")
    if path.stem != "harness"
)


def measurement(*rounds):
    return harness.Measurement(np.array(rounds), first_call=0.25)


def squares(**changes):
    fields = {
        "title": "Squares",
        "arguments": (jnp.arange(3.0),),
        "contenders": {"blockjac": lambda x: x * x, "power": lambda x: x**2},
        "uncompiled": {"NumPy": lambda x: np.square(x)},
        "dense": "power",
        "alike": ("blockjac", "power", "NumPy"),
        "claims": (harness.Claim(1e9, ("power", "NumPy")),),
    }
    return harness.Task(**{**fields, **changes})


def test_every_contender_and_the_floor_are_measured_each_round():
    measured = harness.measure(squares(), rounds=3)
    assert list(measured) == ["blockjac", "power", "floor", "NumPy"]
    assert all(
        np.isfinite(one.rounds).all() and one.rounds.shape == (3,) for one in measured.values()
    )
    assert measured["NumPy"].first_call is None
    page = harness.table(squares(), measured)
    assert page.startswith("## Squares\n")
    assert "the fastest of power and NumPy: " in page
    assert page.rstrip().endswith(", met")


@pytest.mark.parametrize("wrong", [lambda x: x * x + 1e-6, lambda x: (x * x)[:2], lambda x: (x, x)])
def test_contenders_that_disagree_are_not_timed(wrong):
    task = squares(contenders={"blockjac": lambda x: x * x, "power": wrong})
    with pytest.raises(ArithmeticError, match="'power' and 'blockjac' disagree; nothing was timed"):
        harness.measure(task, rounds=1)


def test_ratio_is_the_median_of_the_rounds_that_both_took_part_in():
    ours, theirs = measurement(1.0, 2.0, 30.0, 7.0), measurement(2.0, 2.0, 10.0, np.nan)
    assert harness.ratio(ours, theirs) == 1.0


@pytest.mark.parametrize(("limit", "answer"), [(2.0, "2 x, met"), (1.9, "2 x, **missed**")])
def test_a_claim_is_held_against_the_fastest_peer(limit, answer):
    measured = {"blockjac": measurement(2.0), "slow": measurement(5.0), "fast": measurement(1.0)}
    line = harness.verdict(harness.Claim(limit, ("slow", "fast")), measured)
    assert line == f"- blockjac at most {limit:g} x fast, the fastest of slow and fast: {answer}"


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.56e-6, "4.56 us")]
)
def test_durations_have_a_unit_that_suits_them(value, text):
    assert harness.duration(value) == text


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_benchmark_starts(script):
    done = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout
