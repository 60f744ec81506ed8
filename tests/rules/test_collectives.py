"""Collectives inside `jax.shard_map`, and functions around one, beside JAX on eight devices."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import blockjac

PROGRAM = Path(__file__).with_name("collective_programs.py")


@pytest.fixture(scope="module")
def report():
    """What the program found; it runs apart, as devices are forced before JAX starts."""
    run = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.slow
def test_every_answer_is_that_of_jax(report):
    assert len(report["differences"]) > 30
    assert not {name: text for name, text in report["differences"].items() if text}


def test_deltas_of_the_local_axes_stay(report):
    assert report["stored"] == {"ppermute": 6, "psum": 6, "all_gather": 150}


SUMS = {
    "psum": lambda x: jnp.sin(lax.psum(x**2, "i")) * x,
    "pmean": lambda x: lax.pmean(jnp.sin(x), "i"),
    "all_gather": lambda x: jnp.sum(lax.all_gather(x, "i") ** 2),
    "ppermute": lambda x: lax.ppermute(x**2, "i", [(0, 1), (1, 2), (2, 3), (3, 0)]),
}


@pytest.mark.parametrize("name", SUMS)
def test_over_the_axis_of_a_vmap(name):
    x = jnp.array([0.5, -1.0, 2.0, 0.3])
    ours, theirs = (
        jax.vmap(module.grad(SUMS[name]), axis_name="i")(x) for module in (blockjac, jax)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
