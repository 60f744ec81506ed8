"""Random programs and their derivatives as modules."""

import jax
import pytest
from support.emitted import differences, job, run
from support.random_functions import random_function

import blockjac


def check(seeds, target):
    """Print the programs and their Jacobians, run them, and compare."""
    jobs, wanted = [], []
    for seed in seeds:
        function, x = random_function(seed)
        functions = {"function": function, "jacobian": blockjac.jacobian(function)}
        jobs.append(job(f"seed {seed}", target, functions, (x,), jitted=target == "jax"))
        # Not under jit, where JAX without optimizations has nan for the abs of a complex number.
        wanted.append([function(x), jax.jacfwd(function)(x)])
    wrong = []
    for each, results, right in zip(jobs, run(jobs), wanted, strict=True):
        text = differences(results, right, 1e-11)
        wrong += [f"{each.name}:\n{text}"] if text else []
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["numpy", "jax"])
def test_few_programs(target):
    check(range(4), target)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 150, 30))
def test_programs_in_numpy(start):
    check(range(start, start + 30), "numpy")


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 60, 30))
def test_programs_in_jax(start):
    check(range(start, start + 30), "jax")
