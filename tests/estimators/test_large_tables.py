"""Tables for batches: no second table in memory, the same answers from wherever rows come."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from blockjac.estimators.tables import Scale


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scales_are_those_of_all_rows_at_once(dtype):
    generator = np.random.RandomState(0)
    X = (generator.normal(size=(40_000, 3)) * [1, 1e-3, 0] + [0, 1e2, 7.7]).astype(dtype)
    weights = generator.uniform(size=len(X))
    scale = Scale.of(X, weights)
    mean = np.average(X.astype(float), axis=0, weights=weights)
    spread = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights))
    np.testing.assert_allclose(scale.mean, mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(scale.spread, [*spread[:2], 1], rtol=1e-10)


def alone(code):
    """What a program prints that runs in a process of its own."""
    usual = {name: one for name, one in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=usual
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of memory")
def test_a_large_table_is_not_copied():
    code = "import json, large_tables as t; print(json.dumps(t.peak({}, 200, 'numbers')))"
    small, large = (alone(code.format(rows)) for rows in (100_000, 250_000))
    more = large["data"] - small["data"]
    assert more == 150_000 * 200 * 4
    assert large["predict"] - small["predict"] < 1.5 * more
