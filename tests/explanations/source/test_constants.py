"""Small arrays that a program captures, and numbers that stand beside them and beside a counter."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from support.emitted import differences, job, run

SHARES = jnp.array([0.25, 0.5])
STEPS = jnp.array([0, 2, 5])

PROGRAMS = {
    "an axis behind a scaled array": (lambda x: jnp.floor(SHARES * 6.0)[:, None] * x, (2, 2)),
    "an axis behind a clipped array": (
        lambda x: jnp.clip(jnp.floor(SHARES * 7.0), 0.0, 2.0)[:, None] + x,
        (2, 2),
    ),
    "the remainder of an array": (lambda x: (STEPS % 2)[:, None] * x, (3, 3)),
    "an array of indices": (lambda x: x[(STEPS + 1) // 2][:, None] * x, (4,)),
    "quantiles": (lambda x: jnp.quantile(x, SHARES), (7,)),
    "an array beside a counter": (
        lambda x: lax.fori_loop(0, 3, lambda t, s: s + (t + STEPS)[:, None] * x, jnp.zeros((3, 3))),
        (3, 3),
    ),
    "a number beside a counter": (
        lambda x: lax.fori_loop(0, 3, lambda t, s: s + x * (2 * t + 1), jnp.zeros(2)),
        (2,),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["numpy", "jax"])
def test_arrays_keep_their_axes(target):
    jobs, wanted = [], []
    for number, (name, (function, shape)) in enumerate(PROGRAMS.items()):
        x = jax.random.normal(jax.random.key(number), shape)
        functions = {"f": function, "D_f": jax.jacfwd(function)}
        jobs.append(job(name, target, functions, (x,)))
        wanted.append([own(x) for own in functions.values()])
    wrong = [
        f"{own.name}: {text}"
        for own, results, given in zip(jobs, run(jobs), wanted, strict=True)
        if (text := differences(results, given))
    ]
    assert not wrong, "\n\n".join(wrong)


def test_arguments_of_modules_of_jax_may_be_arrays_of_numpy():
    def function(x, v):
        return x.at[jnp.array([0, 2])].add(v**2).at[1].set(3.0)

    x, v = jnp.arange(4.0), jnp.array([0.5, -1.0])
    own = job("writes", "jax", {"f": function}, (x, v))
    (results,) = run([own])
    assert not differences(results, [function(x, v)])
