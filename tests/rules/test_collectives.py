"""Collectives inside `jax.shard_map`, and functions around one, beside JAX on eight devices."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("collective_programs.py")


@pytest.fixture(scope="module")
def report():
    """What the program found; it runs apart, as devices are forced before JAX starts."""
    run = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_every_answer_is_that_of_jax(report):
    assert len(report["differences"]) > 30
    assert not {name: text for name, text in report["differences"].items() if text}


def test_deltas_of_the_local_axes_stay(report):
    assert report["stored"] == {"ppermute": 6, "psum": 6, "all_gather": 150}
