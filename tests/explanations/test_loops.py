"""What an explanation says of loops gives their Jacobians, followed step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.explained_programs import kalman, normal, recurrent

import blockjac
from blockjac.explanations.chain_rule import Rule
from blockjac.explanations.loops import loops_of


def weighted(w, xs):
    def one(carry, x):
        total, weight = carry
        total = total + weight * jnp.sin(w * x)
        return (total, weight * w), total**2

    return lax.scan(one, (jnp.zeros(()), jnp.ones(())), xs, reverse=True)


LOOPS = {
    "recurrence": (recurrent, (0, 1, 2, 3), normal(2, 2), normal(2, 3), normal(2), normal(4, 3)),
    "Kalman filter": (kalman, (0, 1, 2), jnp.eye(2) + 0.1 * normal(2, 2), jnp.eye(2), normal(3)),
    "two carried numbers, reversed": (weighted, (0, 1), jnp.array(0.7), normal(5)),
}


def by_the_equations(loop, is_active, equations, operands, cotangents):
    """The Jacobians of a combination of a loop's results by its operands, as the equations say.

    Args:
        loop: the loop.
        is_active: whether a result of the body depends on an argument.
        equations: of the explanation.
        operands: values of what the loop reads.
        cotangents: of the carried values at the end, and of the stacked results.
    """
    constants, carries = len(loop.read), len(loop.carried)
    values, carried = list(operands[:constants]), list(operands[constants : constants + carries])
    slices = operands[constants + carries :]
    order = range(loop.length)[:: -1 if loop.is_reversed else 1]
    points = []
    for t in order:
        points.append([*values, *carried, *(own[t] for own in slices)])
        results = loop.function(*points[-1])
        carried = list(results[:carries] if isinstance(results, tuple) else [results])
    q = {
        str(name): np.asarray(own)
        for name, own in zip(loop.carried, cotangents[:carries], strict=True)
    }
    totals = {}
    for t, point in reversed(list(zip(order, points, strict=True))):
        several = isinstance(loop.function(*point), tuple)
        blocks = jax.jacrev(loop.function, tuple(range(len(point))))(*point)
        blocks = blocks if several else (blocks,)
        now = {
            str(name): np.asarray(own[t])
            for name, own in zip(loop.given, cotangents[carries:], strict=True)
        }
        known = {**q, **now}
        fresh = {}
        for equation in equations:
            names = list(map(str, loop.arguments))
            by = equation.derivative.by
            is_rule = isinstance(equation, Rule)
            own = str(type(by)(by.base, by.below[:-1])) if is_rule else str(by)
            total = 0
            for term in equation.paths.terms:
                prefix, block = term.factors
                result, time = prefix.below
                position = int(block.of.below[-1]) - 1 if several else 0
                assert (time == "t+1") == (position < carries)
                array = np.asarray(blocks[position][names.index(str(block.by))])
                cotangent = known[str(result)]
                total = total + np.tensordot(cotangent, array, cotangent.ndim)
            if is_rule:
                fresh[own] = total
            else:
                totals[own] = totals.get(own, 0) + total
        for name in map(str, loop.taken):
            if name in fresh:
                totals.setdefault(name, {})[t] = fresh[name]
        q = {str(name): fresh.get(str(name), np.zeros(())) for name in loop.carried}
    return {**totals, **q}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_equations_of_a_loop_give_its_jacobian(name):
    function, argnums, *arguments = LOOPS[name]
    explanation = blockjac.explain(function, argnums)(*arguments)
    (loop,) = loops_of(explanation.program)
    body = blockjac.explain(loop.function, loop.differentiated)(*loop.shapes)
    assert body.checked is True
    active = {
        (position, argument)
        for position, rule in enumerate(body.rules)
        for argument, variable in zip(loop.differentiated, body.program.independents, strict=True)
        if rule.uses.get(variable.number)
    }
    equations = loop.equations(lambda result, argument: (result, argument) in active)
    equation = loop.step.equation
    _ = explanation.numbers.values
    operands = [
        jnp.asarray(
            operand.array
            if not hasattr(operand, "vertex")
            else explanation.numbers.values[operand.value]
        )
        for operand in equation.operands
    ]
    results = [explanation.numbers.values[value] for value in equation.results]
    rng = np.random.default_rng(1)
    cotangents = [jnp.asarray(rng.normal(size=own.shape)) for own in results]

    def combined(*operands):
        given = equation.primitive.bind(*operands, **equation.params)
        return sum(jnp.vdot(a, b) for a, b in zip(cotangents, given, strict=True))

    exact = jax.grad(combined, tuple(range(len(operands))))(*operands)
    found = by_the_equations(loop, active, equations, operands, cotangents)
    for own, array in zip(loop.arguments, exact, strict=True):
        wanted = found[str(own)]
        if isinstance(wanted, dict):
            wanted = np.stack([wanted[t] for t in range(loop.length)])
        np.testing.assert_allclose(wanted, array, rtol=1e-9, atol=1e-12, err_msg=str(own))


@pytest.mark.slow
def test_loops_have_a_section_in_every_form():
    function, argnums, *arguments = LOOPS["recurrence"]
    explanation = blockjac.explain(function, argnums)(*arguments)
    text = explanation.text(width=100)
    assert "Inside of scan: one of 4 steps" in text
    assert "  D_W scan = Σ_t q_h,t+1 ⋆ D_W f    back through the steps" in text.splitlines()
    assert "\\sum_{t} q_{h,\\mathrm{t+1}} \\star D_{W} f" in explanation.latex()
    assert "Inside of scan" in explanation.html()
