"""Un-jitted calls: what compiles once, what gets its own program, and what is kept."""

import gc
import threading
import weakref
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import blockjac
from blockjac.engine import run as program
from blockjac.engine.keys import graph_key
from blockjac.graph.trace import trace

V = jnp.asarray(np.random.default_rng(0).normal(size=4))

_compiled = []


def _listen(event, duration, **_):
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(duration)


jax.monitoring.register_event_duration_secs_listener(_listen)


def compilations(call):
    """How many programs one call compiles."""
    jax.block_until_ready(call())
    before = len(_compiled)
    jax.block_until_ready(call())
    return len(_compiled) - before


def compiled_by(call):
    """How many programs the first run of a call compiles."""
    before = len(_compiled)
    jax.block_until_ready(call())
    return len(_compiled) - before


def relu_scan(x):
    def step(carry, _):
        return jax.nn.relu(carry * x), jnp.sum(carry)

    return lax.scan(step, x, None, length=3)[0]


@jax.custom_vjp
def own_rule(x):
    return jnp.sin(x)


own_rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, q: (q * jnp.cos(x),))

FUNCTIONS = {
    "sin": jnp.sin,
    "scan-of-relu": relu_scan,
    "custom_vjp": own_rule,
    "softplus": jax.nn.softplus,
    "solve": lambda x: jnp.linalg.solve(jnp.eye(4) * 2 + jnp.outer(x, x), x),
    "cond": lambda x: lax.cond(x[0] > 0, jnp.sin, jax.nn.relu, x),
}


def fresh(name):
    """The same function as a new object."""
    fun = FUNCTIONS[name]
    return lambda x: fun(x)


def test_compilations_are_counted():
    """The other tests mean nothing unless a program that is new is seen to compile."""
    assert compiled_by(lambda: jax.jit(lambda x: x * 1.2345)(V)) == 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_second_call_does_not_compile(name):
    assert compilations(lambda: blockjac.jacobian(fresh(name))(V)) == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_products_do_not_compile_twice(name):
    if name != "custom_vjp":
        assert compilations(lambda: blockjac.jvp(fresh(name), (V,), (V,))) == 0
    assert compilations(lambda: blockjac.vjp(fresh(name), V)[1](V)) == 0


def test_a_fresh_lambda_with_other_captured_arrays_does_not_compile():
    def slope(by):
        return blockjac.grad(lambda x: jnp.sum(jnp.sin(x) * by))(V)

    first, shifted = slope(V), V + 1
    before = len(_compiled)
    other = slope(shifted)
    assert len(_compiled) == before
    np.testing.assert_allclose(first, jnp.cos(V) * V, rtol=1e-12)
    np.testing.assert_allclose(other, jnp.cos(V) * shifted, rtol=1e-12)


def test_other_python_floats_do_not_compile():
    def total(x, rate):
        return jnp.sum(x * rate)

    blockjac.grad(total)(V, 0.5)
    before = len(_compiled)
    np.testing.assert_allclose(blockjac.grad(total)(V, 0.25), 0.25)
    assert len(_compiled) == before


@pytest.mark.parametrize(
    "other",
    [
        lambda: blockjac.jacobian(lambda x: x**2 * 3.5)(V),
        lambda: blockjac.jacobian(lambda x: x**3 * 2.5)(V),
        lambda: blockjac.jacobian(lambda x: x**2 * 2.5)(V[:3]),
        lambda: blockjac.jacobian(lambda x: x**2 * 2.5)(V.astype(jnp.float32)),
        lambda: blockjac.jacobian(lambda x: x**2 * 2.5, order="forward")(V),
        lambda: blockjac.block_jacobian(lambda x: x**2 * 2.5)(V),
    ],
    ids=["literal", "exponent", "shape", "dtype", "order", "transform"],
)
def test_what_differs_gets_its_own_program(other):
    wanted = blockjac.jacobian(lambda x: x**2 * 2.5)(V)
    blockjac.clear_caches()
    np.testing.assert_allclose(blockjac.jacobian(lambda x: x**2 * 2.5)(V), wanted)
    other()
    assert len(program._programs) == 2


def test_literals_are_told_apart_by_value_sign_and_type():
    keys = [
        graph_key(trace(lambda x, by=by: [x * by], [V], [0]))
        for by in (2.0, 3.0, 0.0, -0.0, jnp.inf, float("nan"))
    ]
    assert len(set(keys)) == 6


def test_x64_gets_its_own_program():
    def fun(x):
        return x * jnp.arange(4)

    values = np.arange(4.0)
    assert blockjac.jacobian(fun)(values).dtype == jnp.float64
    with jax.enable_x64(False):
        assert blockjac.jacobian(fun)(values).dtype == jnp.float32
    assert blockjac.jacobian(fun)(values).dtype == jnp.float64


def test_a_branch_that_differs_is_a_program_that_differs():
    """Functions that differ inside a sub-program alone are not confused."""
    up = blockjac.jacobian(lambda x: lax.scan(lambda c, _: (c * 2.0, None), x, None, length=2)[0])
    down = blockjac.jacobian(lambda x: lax.scan(lambda c, _: (c * 0.5, None), x, None, length=2)[0])
    np.testing.assert_allclose(np.diag(up(V)), 4.0)
    np.testing.assert_allclose(np.diag(down(V)), 0.25)


def test_own_rules_that_differ_are_told_apart():
    def with_slope(factor):
        @jax.custom_vjp
        def fun(x):
            return jnp.sin(x)

        fun.defvjp(lambda x: (jnp.sin(x), x), lambda x, q: (factor * q,))
        return fun

    for factor in (2.0, 5.0):
        np.testing.assert_allclose(np.diag(blockjac.jacobian(with_slope(factor))(V)), factor)


def test_captured_arrays_are_let_go():
    def slope():
        captured = jnp.full(4, 1.25)
        blockjac.grad(lambda x: jnp.sum(x * captured))(V)
        return weakref.ref(captured)

    alive = slope()
    gc.collect()
    assert alive() is None


def test_arguments_are_let_go():
    def slope():
        argument = jnp.full(4, 1.25)
        blockjac.grad(lambda x: jnp.sum(jnp.sin(x)))(argument)
        return weakref.ref(argument)

    alive = slope()
    gc.collect()
    assert alive() is None


def test_the_number_of_programs_is_bounded(monkeypatch):
    monkeypatch.setattr(program._programs, "max_entries", 2)
    blockjac.clear_caches()
    for size in (1, 2, 3, 4):
        blockjac.jacobian(lambda x: jnp.sin(x))(V[:size])
    assert len(program._programs) == 2


CHANGING = {
    "jacobian": lambda library, f: library.jacobian(f)(V),
    "gradient": lambda library, f: library.grad(lambda x: jnp.sum(f(x)))(V),
    "hessian": lambda library, f: library.hessian(lambda x: jnp.sum(f(x)))(V),
    "jvp": lambda library, f: library.jvp(f, (V,), (V,))[1],
    "vjp": lambda library, f: library.vjp(f, V)[1](V)[0],
}
"""Transforms of a function that closes over a number."""


class Jax:
    """JAX's functions by our names."""

    jacobian, grad, hessian = staticmethod(jax.jacrev), staticmethod(jax.grad), jax.hessian
    jvp, vjp = staticmethod(jax.jvp), staticmethod(jax.vjp)


@pytest.mark.parametrize("name", CHANGING)
def test_a_number_that_changes_compiles_twice_and_no_more(name):
    blockjac.clear_caches()
    entries = []
    for c in (1.6, 2.7, 2, 0.3, 1.6, -3.2):

        def f(x, c=c):
            return jnp.tanh(c * x) + abs(x) ** (c + 0.5) / (4 - c)

        np.testing.assert_allclose(
            CHANGING[name](blockjac, f), CHANGING[name](Jax, f), rtol=1e-12, atol=1e-14
        )
        entries.append(blockjac.cache_info()["programs"].entries)
    assert entries[1] == entries[-1] <= 2 * entries[0]


def test_numbers_that_structure_depends_on_are_told_apart():
    """With 0 a term is gone, with 1 and -1 a product."""
    for c in (2.5, 3.5, 0.0, 1.0, -1.0, 4.5):
        found = blockjac.jacobian(lambda x, c=c: c * x + x[::-1])(V)
        wanted = jax.jacfwd(lambda x, c=c: c * x + x[::-1])(V)
        np.testing.assert_allclose(found, wanted)


def test_blocks_keep_their_numbers_as_structure():
    for c in (2.5, 3.5, 4.5):
        assert blockjac.block_jacobian(lambda x, c=c: c * x)(V).stored == 0


def test_sparse_matrices_of_a_step_that_changes():
    blockjac.clear_caches()
    for step in (0.1, 0.2, 0.05, 0.025):
        found = blockjac.sparse_jacobian(lambda y, h=step: y - h * (y[::-1] ** 2))(V)
        wanted = jax.jacfwd(lambda y, h=step: y - h * (y[::-1] ** 2))(V)
        np.testing.assert_allclose(found.toarray(), wanted, rtol=1e-12)
    assert blockjac.cache_info()["programs"].entries == 2


def test_numbers_of_a_narrow_type_stay_of_it():
    x = V.astype(jnp.bfloat16)
    for c in (1.5, 2.5, 3.5):
        found = blockjac.grad(lambda x, c=c: jnp.sum(c * x))(x)
        assert found.dtype == jnp.bfloat16
        np.testing.assert_array_equal(found, c)


def test_threads_get_their_own_answers():
    answers, errors = {}, []

    def work(number):
        try:
            for turn in range(5):
                size, scale = 1 + (number + turn) % 3, float(number)
                found = blockjac.jacobian(lambda x, s=scale: jnp.sin(x) * jnp.asarray(s))(V[:size])
                np.testing.assert_allclose(np.diag(found), number * np.cos(V[:size]), rtol=1e-12)
            answers[number] = True
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(answers) == 4


def test_a_new_rule_is_used_at_once():
    from blockjac.rules import RULES, elementwise

    own = RULES["sin"]
    before = blockjac.grad(jnp.sin)(0.5)
    try:
        elementwise("sin", lambda y, x: 100.0)
        assert blockjac.grad(jnp.sin)(0.5) == 100.0
    finally:
        from blockjac.rules import registry

        registry._enter(own)
    assert blockjac.grad(jnp.sin)(0.5) == before


def test_a_program_that_is_kept_is_looked_up_once(monkeypatch):
    looks = []

    def counted(graph):
        looks.append(graph)
        return graph_key(graph)

    monkeypatch.setattr(program, "graph_key", counted)
    kept = program.compiled_at(lambda x: {"sum": jnp.sum(x * V)}, V)
    answers = [kept(scale * V)["sum"] for scale in (1.0, 2.0, 3.0)]
    np.testing.assert_allclose(answers, np.array([1.0, 2.0, 3.0]) * np.sum(V * V), rtol=1e-5)
    first = len(looks)
    kept(V)
    assert len(looks) == first > 0
    assert first <= 2  # with Python numbers as they are, and open


def test_products_of_a_derivative_have_the_precision_that_the_function_asks_for():
    def function(x, precision):
        return jnp.sum(jnp.sin(jnp.dot(x, x, precision=precision)))

    def precisions(precision):
        gradient = blockjac.grad(partial(function, precision=precision))
        equations = jax.make_jaxpr(gradient)(jnp.ones((3, 3))).eqns
        return {str(one.params["precision"]) for one in equations if "precision" in one.params}

    assert precisions(None) == {"None"}
    assert all("HIGHEST" in one for one in precisions("highest"))
