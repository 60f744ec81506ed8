"""Every row of the table of rules: the function and its derivatives as modules that run alone."""

import jax
import jax.numpy as jnp
import pytest
from support.agreement import differentiated
from support.cases import CASES
from support.emitted import differences, job, run

import blockjac

CHUNK = 45
"""So many rows share a process."""

ACCURACY = {
    "erf_inv-tails": "SciPy's inverse of erf differs from JAX's in the eleventh digit near one",
    "lgamma-large": "the sine of 1e11 has six digits less than its argument",
}
"""Rows that agree less well, each with the reason."""

LOOSE = 1e-4
"""How well those agree at least, but for derivatives that are infinite within rounding."""


def functions_of(case, arguments):
    """The function of a row, its Jacobian by this library, and a number with its gradient."""
    every = differentiated(arguments)

    def number(*parts):
        return sum(jnp.sum(jnp.sin(one)) for one in jax.tree.leaves(case.function(*parts)))

    return {
        "function": case.function,
        "jacobian": blockjac.jacobian(case.function, every),
        "value_and_gradient": blockjac.value_and_grad(number, every),
    }


def check(names, target):
    """Print the rows, run them in one process, and compare."""
    jobs, wanted = [], []
    for name in names:
        arguments = CASES[name].values()
        functions = functions_of(CASES[name], arguments)
        jobs.append(job(name, target, functions, arguments, jitted=target == "jax"))
        wanted.append([jax.jit(function)(*arguments) for function in functions.values()])
    wrong = []
    for name, results, right in zip(names, run(jobs), wanted, strict=True):
        if name in ACCURACY:
            results, right = results[:1], right[:1]
        text = differences(results, right, LOOSE if name in ACCURACY else 1e-12)
        wrong += [f"{name}:\n{text}"] if text else []
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["numpy", pytest.param("jax", marks=pytest.mark.slow)])
def test_some_rows(target):
    check(list(CASES)[::26], target)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["numpy", "jax"])
@pytest.mark.parametrize("start", range(0, len(CASES), CHUNK))
def test_rows(start, target):
    check(list(CASES)[start : start + CHUNK], target)


CALL_JAX = {
    "igamma",
    "igammac",
    "random_gamma",
    "random_gamma-log",
    "reduce_precision",
}
"""Rows that need JAX also in NumPy's modules: random numbers and what SciPy has not."""


@pytest.mark.slow
def test_numpy_needs_jax_for_few():
    sources = {
        name: job(name, "numpy", functions_of(case, case.values()), case.values()).source
        for name, case in CASES.items()
    }
    assert {name for name, source in sources.items() if "jax" in source} == CALL_JAX


def test_a_wrong_module_is_noticed():
    case = CASES["sin-scalar"]
    arguments = case.values()
    emitted = job("sin", "numpy", {"function": case.function}, arguments)
    emitted.source = emitted.source.replace("np.sin", "np.cos")
    (results,) = run([emitted])
    assert "differs by" in differences(results, [case.function(*arguments)])


def test_blockjac_cannot_be_imported_there():
    emitted = job("sin", "numpy", {"function": jnp.sin}, [jnp.ones(2)])
    emitted.source += "\nimport blockjac\n"
    (results,) = run([emitted])
    assert "emitted modules run without blockjac" in results
