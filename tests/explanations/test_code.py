"""Modules that `explain` writes run without the library, and give a function and its Jacobian."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.emitted import Job, differences, host, run
from support.explained_programs import CASES, lecture, normal
from support.random_functions import random_function

import blockjac
from blockjac.errors import InvalidOptionError

TARGETS = ("numpy", "jax")


def module(name, target, function, argnums, arguments, **keywords):
    """The job of running a module, and what its functions should give."""
    explanation = blockjac.explain(function, argnums)(*arguments, **keywords)
    source = explanation.code(target)
    captured = {
        str(variable.name): host(explanation.program.graph.captured[position])
        for position, number in enumerate(explanation.program.graph.constants)
        for variable in [explanation.program.variables[number]]
    }
    own = next(line for line in source.splitlines() if line.startswith("def D_"))
    calls = []
    for called in (own[6 : own.index("(")], own[4 : own.index("(")]):
        head = source[source.index(f"def {called}(") :].split(":\n", 1)[0]
        taken = {key: captured[key] for key in re.findall(r"\w+", head) if key in captured}
        values = jax.tree.map(host, (tuple(arguments), keywords))
        calls.append((called, values[0], {**values[1], **taken}))
    wanted = [
        function(*arguments, **keywords),
        jax.jacrev(function, argnums)(*arguments, **keywords),
    ]
    return Job(f"{name} ({target})", source, calls, target == "jax"), wanted


def check(jobs):
    """Run all modules in one process, and compare."""
    wrong = []
    for (job, wanted), results in zip(jobs, run([job for job, _ in jobs]), strict=True):
        text = differences(results, wanted, rtol=1e-11, atol=1e-12)
        if text:
            wrong.append(f"{job.name}: {text}")
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.slow
def test_module_of_the_lectures_network_solves_its_group_problem():
    arguments = normal(3, 4), normal(1, 4), normal(4, 2), normal(1, 2)
    jobs = [module("lecture", target, lecture, (0, 1, 2, 3), arguments) for target in TARGETS]
    check(jobs)
    source = jobs[0][0].source
    assert "blockjac" not in source
    assert "jax" not in source
    for line in (
        "    # Z₁ = φ₁(DATA, W₁, b₁) ∈ T_(5,4)",
        "    Z1 = DATA @ W1 + b1",
        "    q_X = q_Z2 @ W2.T",
        "    D_W2 = X.T @ q_Z2",
        "    D_W1 = DATA.T @ q_Z1",
        "    # (D_W₁ lecture)[i,j] = Σ_l q_Z₁[l,j] DATA[l,i], shape (3, 4)",
    ):
        assert line in source.splitlines(), source


@pytest.mark.slow
def test_modules_give_the_function_and_its_jacobian():
    jobs = [
        module(name, target, function, argnums, arguments)
        for name, (function, argnums, *arguments) in CASES.items()
        for target in TARGETS
    ]
    check(jobs)


@pytest.mark.slow
def test_modules_of_random_programs_give_the_function_and_its_jacobian():
    jobs = []
    for seed in range(40):
        function, x = random_function(seed)
        jobs += [module(f"seed {seed}", target, function, 0, (x,)) for target in TARGETS]
    check(jobs)


def net(params, x, *, scale=1.0):
    hidden = jnp.tanh(x @ params["W"] + params["b"])
    return scale * jnp.sum(hidden @ params["V"])


@pytest.mark.slow
def test_trees_keywords_and_fixed_arguments():
    params = {"W": normal(3, 4), "b": normal(4), "V": normal(4, 2)}
    jobs = [module("net", target, net, 0, (params, normal(5, 3)), scale=2.5) for target in TARGETS]

    def power(x, n):
        return x**n

    jobs += [module("power", "numpy", lambda x: power(x, 3), 0, (normal(3),))]
    check(jobs)


def test_loops_stay_loops_and_branches_branches():
    def loop(h, xs):
        return jax.lax.scan(lambda h, x: (jnp.tanh(h * x), None), h, xs)[0]

    source = blockjac.explain(loop)(normal(2), normal(4, 2)).code()
    assert source.count("for ") >= 2
    source = blockjac.explain(loop)(normal(2), normal(4, 2)).code("jax")
    assert "lax.scan(" in source

    def branch(x):
        return jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x)

    source = blockjac.explain(branch)(normal(3)).code()
    assert "if " in source
    assert "else:" in source


def test_comments_read_what_the_explanation_names():
    """The Jacobian by the sum and by one of its terms are one array, with one name."""

    @blockjac.step("psi", result="y")
    def hidden(w, x):
        return jnp.tanh(x @ w)

    @blockjac.step("rho", result="z")
    def residual(x, y):
        return x + y

    def loss(w, x):
        return jnp.sum(jnp.sin(residual(x, hidden(w, x))) ** 2)

    explanation = blockjac.explain(loss, (0, 1))(normal(4, 4), normal(3, 4))
    comment = next(line for line in explanation.code().splitlines() if "(D_w loss)" in line)
    formula = next(line for line in str(explanation.formulas).splitlines() if "(D_w" in line)
    assert formula in comment
    assert "q_z" in formula


def test_shapes_suffice():
    shape = jax.ShapeDtypeStruct((3,), jnp.float64)
    assert "def D_f(x):" in blockjac.explain(lambda x: jnp.sin(x))(shape).code()


def test_unknown_target_is_refused():
    with pytest.raises(InvalidOptionError, match="target must be 'numpy' or 'jax', but is 'torch'"):
        blockjac.explain(jnp.sin)(np.ones(3)).code("torch")


@pytest.mark.slow
def test_arguments_that_are_left_at_their_defaults():
    def norm(x, scale, eps=1e-6):
        return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + eps) * scale

    def rest(x, power=2.0, *more, shift=1.0):
        return x**power + sum(more) + shift

    jobs = [module("norm", target, norm, (0, 1), (normal(3, 4), normal(4))) for target in TARGETS]
    jobs += [module("rest", "numpy", rest, 0, (normal(3),))]
    jobs += [module("more", "numpy", rest, (0, 2), (normal(3), 2.0, normal(3)))]
    check(jobs)
