"""Loops, branches and calls: they stay what they are, and compute what JAX computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.emitted import differences, job, run

import blockjac

x = jnp.linspace(0.1, 1, 4)
A = jnp.arange(16.0).reshape(4, 4) / 20
rows = jnp.sin(jnp.arange(24.0)).reshape(6, 4)
three, one = jnp.array(3), jnp.array(1)


def recurrent(h, A, rows):
    def step(h, row):
        h = jnp.tanh(A @ h + row)
        return h, jnp.sum(h)

    return lax.scan(step, h, rows)


def backward(h, A, rows):
    return lax.scan(lambda h, row: (jnp.tanh(A @ h + row), h * row), h, rows, reverse=True)


def without_rows(h, A):
    return lax.scan(lambda h, _: (jnp.tanh(A @ h), None), h, length=5)[0]


def without_carry(rows):
    return lax.scan(lambda _, row: (None, jnp.sin(row)), None, rows)[1]


def swapped(a, b):
    return lax.scan(lambda c, _: ((c[1], c[0] + c[1]), c[0]), (a, b), length=5)


def nested(h, rows):
    def inner(c, entry):
        return c * entry + 1, c

    def outer(h, row):
        last, all_of_them = lax.scan(inner, jnp.sum(h), row)
        return h * last, all_of_them

    return lax.scan(outer, h, rows)


def of_several(h, rows):
    def step(carry, each):
        (a, b), (row, number) = carry, each
        return (a + row * number, b * 0.5 + a), {"a": a, "b": b * number}

    return lax.scan(step, (h, h), (rows, jnp.arange(6.0)))


def with_constants(h):
    return lax.scan(lambda h, row: (h + row, None), h, jnp.ones((5, 4)))[0]


def counted(x):
    return lax.fori_loop(0, 4, lambda i, c: c * x[i] + i, 1.0)


def counted_from(x):
    return lax.fori_loop(1, 4, lambda i, c: c * x[i] + jnp.sin(i * 1.0), 1.0)


def counted_so_far(x, n):
    return lax.fori_loop(0, n, lambda i, c: c * x[i % 4], 1.0)


def rewritten(x):
    return lax.fori_loop(0, 4, lambda i, c: c.at[i].set(c[i - 1] * 2), x)


def halved(x):
    return lax.while_loop(
        lambda c: jnp.sum(c[0] ** 2) > 0.1, lambda c: (c[0] * 0.5, c[1] + 1), (x, 0)
    )


def long_test(x):
    def proceeds(c):
        lengths = jnp.sqrt(jnp.sum(c * c) + jnp.sum(jnp.abs(c)) + jnp.max(c) ** 2)
        return jnp.sin(lengths) * jnp.cos(lengths) + lengths * 2 > 0.5 + jnp.min(c) * 0.01

    return lax.while_loop(proceeds, lambda c: c * 0.5, x)


def chosen(x):
    return lax.cond(x[0] > 0, jnp.sin, lambda x: jnp.cos(x) * 2, x) * 3


def chosen_two(x):
    return lax.cond(x[0] > 5, lambda x: (x, x * 2), lambda x: (jnp.cos(x), x), x)


def switched(x, n):
    return lax.switch(n, [jnp.sin, jnp.cos, lambda x: x], x)


def branch_in_loop(h, rows):
    def step(h, row):
        return lax.cond(row[0] > 0, lambda h: h * row, lambda h: h - row, h), jnp.sum(h)

    return lax.scan(step, h, rows)


@jax.custom_jvp
def clipped_exp(x):
    return jnp.exp(jnp.minimum(x, 2.0))


clipped_exp.defjvp(lambda p, t: (clipped_exp(*p), clipped_exp(*p) * t[0]))


@jax.custom_vjp
def rounded_sine(x):
    return jnp.sin(x)


rounded_sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


@jax.jit
def smooth(x, a):
    return jnp.tanh(x) * a + jnp.sin(x)


def called_twice(x):
    return smooth(smooth(x, 2.0), 3.0) + smooth(x, 1.0)


PROGRAMS = {
    "recurrent": (recurrent, (x, A, rows), 1),
    "backward": (backward, (x, A, rows), 1),
    "without_rows": (without_rows, (x, A), 1),
    "without_carry": (without_carry, (rows,), 1),
    "swapped": (swapped, (x, 2 * x), 1),
    "nested": (nested, (x, rows), 2),
    "of_several": (of_several, (x, rows), 1),
    "with_constants": (with_constants, (x,), 1),
    "counted": (counted, (x,), 1),
    "counted_from": (counted_from, (x,), 1),
    "counted_so_far": (counted_so_far, (x, three), 0),
    "rewritten": (rewritten, (x,), 1),
    "halved": (halved, (x,), 0),
    "long_test": (long_test, (x,), 0),
    "chosen": (chosen, (x,), 0),
    "chosen_two": (chosen_two, (x,), 0),
    "switched": (switched, (x, one), 0),
    "branch_in_loop": (branch_in_loop, (x, rows), 1),
    "checkpoint": (jax.checkpoint(lambda x: jnp.sin(x @ A) * x), (x,), 0),
    "custom_jvp": (clipped_exp, (x * 3,), 0),
    "custom_vjp": (rounded_sine, (x,), 0),
    "called_twice": (called_twice, (x,), 0),
}
"""A function, its arguments, and how many loops over a range it has."""


def number_of(function):
    def number(*arguments):
        leaves = jax.tree.leaves(function(*arguments))
        return sum(jnp.sum(jnp.sin(leaf * 1.0)) for leaf in leaves)

    return number


def functions_of(name):
    """A program, and what there is of its derivatives."""
    function, arguments, _ = PROGRAMS[name]
    floats = tuple(n for n, a in enumerate(arguments) if jnp.issubdtype(a.dtype, jnp.floating))
    functions = {"function": function}
    if name != "custom_vjp":  # has no forward mode
        functions["tangent"] = forward(function, arguments, floats)
    if name not in ("counted_so_far", "halved", "long_test"):  # unknown lengths: forward only
        functions["gradient"] = jax.grad(number_of(function), floats)
        functions["ours"] = blockjac.value_and_grad(number_of(function), floats)
        functions["jacobian"] = blockjac.jacobian(function, floats)
    return functions


def forward(function, arguments, floats):
    """The derivative in the direction of ones."""

    def tangent(*arguments):
        def of_floats(*values):
            every = list(arguments)
            for place, value in zip(floats, values, strict=True):
                every[place] = value
            return [leaf * 1.0 for leaf in jax.tree.leaves(function(*every))]

        values = [arguments[place] for place in floats]
        return jax.jvp(of_floats, values, [jnp.ones_like(value) for value in values])[1]

    return tangent


@pytest.mark.parametrize("target", ["numpy", "jax"])
def test_programs(target):
    check(target, lambda name: {"function": PROGRAMS[name][0]})


@pytest.mark.slow
@pytest.mark.parametrize("target", ["numpy", "jax"])
def test_derivatives(target):
    check(target, functions_of)


def check(target, functions_of):
    """Print all programs, run them in one process, and compare."""
    jobs, wanted = [], []
    for name in PROGRAMS:
        functions, arguments = functions_of(name), PROGRAMS[name][1]
        jobs.append(job(name, target, functions, arguments, jitted=target == "jax"))
        wanted.append([jax.jit(function)(*arguments) for function in functions.values()])
    wrong = []
    for each, results, right in zip(jobs, run(jobs), wanted, strict=True):
        text = differences(results, right)
        wrong += [f"{each.name}:\n{text}"] if text else []
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("name", PROGRAMS)
def test_loops_stay_loops(name):
    function, arguments, loops = PROGRAMS[name]
    source = job(name, "numpy", {"function": function}, arguments).source
    body = source[source.index("def function(") :]
    assert body.count("for ") == loops or name == "counted_so_far"
    assert ("while " in body) == (name in ("halved", "long_test"))
    has_branch = "if " in body
    assert has_branch == (
        name in ("chosen", "chosen_two", "switched", "branch_in_loop", "long_test")
    )


def test_a_counted_while_is_a_for():
    source = job("f", "numpy", {"function": counted_so_far}, (x, three)).source
    assert "for i in range(x1):\n        c = c * x0[i % 4]\n" in source


def test_a_function_called_twice_is_one_of_the_module():
    source = job("f", "numpy", {"function": called_twice}, (x,)).source
    assert source.count("def smooth(x, a):") == 1
    assert source.count("np.tanh") == 1


def test_lengths_that_are_not_known_agree_at_other_arguments():
    emitted = job("f", "numpy", {"function": counted_so_far}, (x, three))
    emitted.calls = [("function", (np.asarray(x), np.asarray(n)), {}) for n in range(6)]
    (results,) = run([emitted])
    assert not differences(results, [counted_so_far(x, n) for n in range(6)])


def test_branches_agree_on_both_sides():
    emitted = job("f", "numpy", {"function": chosen}, (x,))
    emitted.calls = [("function", (np.asarray(sign * x),), {}) for sign in (1, -1)]
    (results,) = run([emitted])
    assert not differences(results, [chosen(x), chosen(-x)])


@pytest.mark.parametrize("target", ["numpy", "jax"])
def test_a_number_past_the_branches_takes_the_last(target):
    emitted = job("f", target, {"function": switched}, (x, one))
    emitted.calls = [("function", (np.asarray(x), np.asarray(n)), {}) for n in (-3, 0, 2, 9)]
    (results,) = run([emitted])
    assert not differences(results, [switched(x, n) for n in (-3, 0, 2, 9)])
