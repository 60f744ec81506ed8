"""Every rule against JAX: each row of the table, in both orders, at first and second order."""

import jax
import jax.numpy as jnp
import pytest
from support.agreement import ORACLES, ORDERS, agree, differentiated, primitives_of
from support.cases import CASES
from support.sampling import sampled

import blockjac
from blockjac.rules import RULES, ZERO

SMOOTH = [name for name, case in CASES.items() if case.smooth]


@pytest.mark.parametrize("name", CASES)
def test_rule(name):
    case = CASES[name]
    arguments = case.values()
    every = differentiated(arguments)

    @jax.jit
    def all_of_them(*arguments):
        def each(transform, **options):
            return [transform(case.function, place, **options)(*arguments) for place in every]

        # JAX too operand by operand: jointly, the nan of one spoils its columns of the others.
        theirs = [each(ORACLES[mode]) for mode in case.modes]
        jointly = [
            blockjac.jacobian(case.function, every, order=order)(*arguments) for order in ORDERS
        ]
        ours = [each(blockjac.jacobian, order=order) for order in ORDERS]
        return theirs, jointly, ours

    theirs, jointly, ours = all_of_them(*arguments)
    for place in range(len(every)):
        for wanted in theirs:
            for one, joint in zip(ours, jointly, strict=True):
                agree(one[place], wanted[place], case.holes)
                agree(by_operand(joint, place), wanted[place], case.holes)


def by_operand(jacobians, place):
    """From the Jacobians of a result, or of several, those with respect to one operand."""
    if isinstance(jacobians, tuple) and all(isinstance(one, jax.Array) for one in jacobians):
        return jacobians[place]
    return type(jacobians)(by_operand(one, place) for one in jacobians)


@pytest.mark.parametrize("name", sampled(SMOOTH, 80))
def test_second_order(name):
    case = CASES[name]
    arguments = case.values()
    every = differentiated(arguments)

    def number(*parts):
        return sum(jnp.sum(jnp.sin(one)) for one in jax.tree.leaves(case.function(*parts)))

    @jax.jit
    def both(*arguments):
        theirs = jax.jit(jax.jacfwd(jax.jacrev(number, every), every))(*arguments)
        ours = blockjac.jacobian(blockjac.grad(number, every), every)(*arguments)
        return ours, theirs

    ours, theirs = both(*arguments)
    agree(ours, theirs, case.holes, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", sampled(CASES, 100))
def test_single_precision_stays(name):
    case = CASES[name]
    arguments = [
        value.astype(jnp.float32) if jnp.issubdtype(value.dtype, jnp.floating) else value
        for value in case.values()
    ]
    every = differentiated(arguments)
    for order in ORDERS:
        answer = jax.eval_shape(blockjac.jacobian(case.function, every, order=order), *arguments)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(answer)} == {"float32"}


def primitives_traced():
    return set().union(
        *(primitives_of(jax.make_jaxpr(case.function)(*case.values())) for case in CASES.values())
    )


WITHOUT_ORACLE = {"nextafter", "zeta"}
"""JAX 0.10 knows no derivative of these: test_define.py compares them with differences."""

_NEW = {"log2", "one_minus_square", "polynomial"}
LATER = {name for name in _NEW if not hasattr(jax.lax, name)}
"""Primitives that came after this JAX."""

ELSEWHERE = {"reshard"}
"""Needs a mesh: test_programs.py."""

WAVE_NAMES = """
    mul select_n add sub div reduce_sum broadcast_in_dim max abs log squeeze exp dot_general neg
    stop_gradient slice transpose gather reshape reduce_max sqrt min concatenate log1p square
    integer_pow convert_element_type pow logistic tanh acos acosh asin asinh atan atanh bessel_i0e
    bessel_i1e cbrt cos cosh digamma erf erf_inv erfc exp2 expm1 lgamma rsqrt sin sinh tan rem atan2
    clamp igamma igammac polygamma regularized_incomplete_beta add_any rev pad dynamic_slice
    dynamic_update_slice split stack unstack tile scatter scatter-add sort top_k cumsum
    reduce_window_sum reduce_window_max reduce_window_min copy reduce_min reduce_prod cumprod
    cumlogsumexp device_put optimization_barrier reduce_precision name select_and_gather_add
    scatter-min scatter-max scatter-sub scatter-mul
"""


def test_every_rule_has_a_case():
    untested = set(RULES) - primitives_traced() - WITHOUT_ORACLE - LATER - ELSEWHERE
    assert not untested, f"give each a row in tests/support/cases.py: {sorted(untested)}"


PROGRAMS = {"cond", "custom_jvp_call", "jit", "platform_index", "reduce"}
"""Primitives of the cases that hold programs of their own, or are expanded into others."""


def test_every_primitive_of_the_cases_has_a_rule():
    left_to_jax = primitives_traced() - set(RULES) - set(ZERO) - PROGRAMS
    assert not left_to_jax, f"without a rule, though a case has it: {sorted(left_to_jax)}"


def test_every_primitive_of_the_waves_has_a_rule():
    assert not [name for name in WAVE_NAMES.split() if name not in RULES and name not in ZERO]


def test_jaxpr_walk_sees_inner_jaxprs():
    assert "sin" in primitives_of(jax.make_jaxpr(jax.jit(jnp.sin))(1.0))
