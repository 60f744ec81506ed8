"""Rules of `jax.custom_jvp` functions: what the rule does to a whole tangent is the derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import lax

import blockjac
from blockjac.errors import NoWayBackError

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(3)
N = 4
A = jnp.asarray(RNG.normal(size=(N, N)) / 3)
L = jnp.asarray(np.tril(RNG.normal(size=(N, N)) / 3) + 2 * np.eye(N))
X, V = jnp.asarray(RNG.normal(size=N)), jnp.asarray(RNG.normal(size=N))


def same(found, wanted, rtol=1e-9, atol=1e-10):
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=atol)


@jax.custom_jvp
def inner(x):
    return jnp.sin(x)


inner.defjvp(lambda primals, tangents: (jnp.sin(primals[0]), 3 * primals[0] * tangents[0]))


@jax.custom_vjp
def linear_with_rule_backwards(t):
    return A @ t


linear_with_rule_backwards.defvjp(lambda t: (A @ t, None), lambda _, g: (7 * g,))


def repeated(x, t):
    """As often as the primal says."""
    return lax.while_loop(
        lambda s: s[0] < 1 + jnp.sum(x > 0),
        lambda s: (s[0] + 1, A @ s[1] + jnp.cos(x) * s[1]),
        (0, t),
    )[1]


def scanned(x, t):
    carry, ys = lax.scan(lambda c, a: (0.5 * c + a * t, jnp.sum(c) * a), t, x)
    return carry + ys


STAGES = {
    "scaled": lambda x, t: jnp.cos(x) * t,
    "matrix": lambda x, t: A @ t,
    "solved": lambda x, t: jnp.linalg.solve(L + jnp.diag(x**2), t),
    "triangular": lambda x, t: jax.scipy.linalg.solve_triangular(L, t, lower=True),
    "fori": lambda x, t: lax.fori_loop(0, 3, lambda k, c: 0.5 * c + k * x * c, t),
    "repeated": repeated,
    "scanned": scanned,
    "branch": lambda x, t: lax.cond(x[0] > 0, lambda: x * t, lambda: A.T @ t),
    "switch": lambda x, t: lax.switch(
        jnp.argmax(x), [jnp.flip, lambda t: x * t, lambda t: 0 * t, lambda t: A @ t], t
    ),
    "nested": lambda x, t: jax.jvp(inner, (x,), (t,))[1],
    "nested-forwards": lambda x, t: jax.jvp(lambda x: inner(x) * x, (x,), (t,))[1],
    "rule-backwards": lambda x, t: linear_with_rule_backwards(t),
    "sorted": lambda x, t: t[jnp.argsort(x)],
    "where": lambda x, t: jnp.where(x > 0, t, -2 * t),
    "written": lambda x, t: jnp.zeros(N).at[:2].set(t[2:]).at[1:].add(t[1:] * x[1:]),
    "cumulative": lambda x, t: jnp.cumsum(t) * x,
    "checkpoint": lambda x, t: jax.checkpoint(lambda t: A @ (t * jnp.exp(x)))(t),
    "relu-of-primal": lambda x, t: jax.nn.relu(x) * t + jax.nn.softplus(x) * t,
    "fourier": lambda x, t: jnp.fft.ifft(jnp.fft.fft(t) * jnp.arange(N)).real,
    "not-proved": lambda x, t: lax.fori_loop(0, 2, lambda _, c: inner_identity(c) * x, t),
}


@jax.custom_jvp
def inner_identity(t):
    return 1.0 * t


inner_identity.defjvp(lambda primals, tangents: (primals[0], 1.0 * tangents[0]))


def with_rule(stages, factors=1):
    """A function whose rule sends a tangent through the stages, one after the other."""

    @jax.custom_jvp
    def function(x, k):
        return jnp.tanh(x) * k

    @function.defjvp
    def rule(primals, tangents):
        (x, k), (t, _) = primals, tangents
        for name in stages:
            t = factors * t + STAGES[name](x, t)
        return function(x, k), t

    return lambda x: function(x, 2)


def around(function):
    """The function in the middle of others, used twice, beside a path that goes past it."""
    return lambda x: jnp.sin(function(x * x)) * x + function(jnp.cos(x))


def in_a_loop(function):
    return lambda x: lax.scan(lambda c, a: (function(c) + a, jnp.sum(c) * a), x, x)[0]


def in_a_branch(function):
    return lambda x: lax.cond(x[1] > 0, lambda x: function(x) * x, lambda x: function(2 * x), x)


PROGRAMS = {
    "alone": lambda function: function,
    "around": around,
    "in a loop": in_a_loop,
    "in a branch": in_a_branch,
    "in while": lambda function: (
        lambda x: lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, function(s[1])), (0, x))[
            1
        ]
    ),
    "in checkpoint": lambda function: jax.checkpoint(around(function)),
    "in jit": lambda function: jax.jit(around(function)),
}


def check_forwards(program, x):
    """All transforms that go forwards agree with JAX."""
    wanted = jax.jit(jax.jacfwd(program))(x)
    for order in ("auto", "forward", "greedy"):
        same(blockjac.jacobian(program, order=order)(x), wanted)
    same(blockjac.block_jacobian(program)(x).dense(), wanted)
    same(jax.jit(blockjac.jacobian(program))(x), wanted)
    same(blockjac.jvp(program, (x,), (V,))[1], jax.jvp(program, (x,), (V,))[1])
    points = jnp.stack([x, x[::-1] + 0.1])
    same(jax.vmap(blockjac.jacobian(program))(points), jax.vmap(jax.jacfwd(program))(points))
    same(blockjac.jacobian_diagonal(program)(x), jnp.diagonal(wanted))


QUICK = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
THOROUGH = settings(QUICK, max_examples=150)

rules = st.lists(st.sampled_from(sorted(STAGES)), min_size=1, max_size=3)


def check_random(stages, name):
    program = PROGRAMS[name](with_rule(stages))
    check_forwards(program, X)
    check_forwards(program, -X)


@given(rules, st.sampled_from(sorted(PROGRAMS)))
@QUICK
def test_random_rules(stages, name):
    check_random(stages, name)


@pytest.mark.thorough
@given(rules, st.sampled_from(sorted(PROGRAMS)))
@THOROUGH
def test_many_random_rules(stages, name):
    check_random(stages, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage", sorted(set(STAGES) - {"not-proved", "repeated", "rule-backwards"})
)
def test_a_linear_rule_goes_backwards_too_and_has_a_second_derivative(stage):
    """It is eliminated as any program is.

    A loop of unknown length has no way back, and a backward rule no second derivative forwards.
    """
    program = around(with_rule([stage]))
    same(blockjac.jacobian(program, order="reverse")(X), jax.jit(jax.jacfwd(program))(X))
    same(blockjac.grad(lambda x: program(x) @ V)(X), V @ jax.jacfwd(program)(X))
    wanted = jax.jit(jax.jacfwd(jax.jacfwd(program)))(X)
    same(blockjac.jacobian(blockjac.jacobian(program))(X), wanted, rtol=1e-8, atol=1e-9)


# Rules that are not linear as they are written


def conjugate_gradients(matvec, b, tolerance=1e-12):
    def step(state):
        x, r, p, k = state
        q = matvec(p)
        alpha = (r @ r) / (p @ q)
        s = r - alpha * q
        return x + alpha * p, s, s + (s @ s) / (r @ r) * p, k + 1

    return lax.while_loop(
        lambda s: (s[1] @ s[1] > tolerance**2) & (s[3] < 50), step, (jnp.zeros_like(b), b, b, 0)
    )[0]


def fixed_point(step, x, tolerance=1e-13):
    return lax.while_loop(
        lambda s: jnp.sum((s[0] - s[1]) ** 2) > tolerance**2,
        lambda s: (step(s[0]), s[0]),
        (step(x), x),
    )[0]


SPD = L @ L.T


def by_conjugate_gradients():
    @jax.custom_jvp
    def solve(x):
        return conjugate_gradients(lambda v: SPD @ v + x**2 * v, jnp.ones(N))

    @solve.defjvp
    def rule(primals, tangents):
        (x,), (t,) = primals, tangents
        y = solve(x)
        return y, conjugate_gradients(lambda v: SPD @ v + x**2 * v, -2 * x * t * y)

    return solve


def by_fixed_point():
    @jax.custom_jvp
    def solve(x):
        return fixed_point(lambda y: 0.3 * jnp.tanh(A @ y) + x, jnp.zeros(N))

    @solve.defjvp
    def rule(primals, tangents):
        (x,), (t,) = primals, tangents
        y = solve(x)
        linear = lambda v: jax.jvp(lambda y: 0.3 * jnp.tanh(A @ y), (y,), (v,))[1]  # noqa: E731
        return y, fixed_point(lambda v: linear(v) + t, jnp.zeros(N))

    return solve


def of_tangent(change):
    @jax.custom_jvp
    def function(x):
        return jnp.sin(x)

    function.defjvp(lambda p, t: (jnp.sin(p[0]), change(p[0], t[0])))
    return function


ODD = {
    "conjugate gradients": by_conjugate_gradients(),
    "fixed point": by_fixed_point(),
    "clipped": of_tangent(lambda x, t: jnp.clip(t, -0.5, 0.5)),
    "rectified": of_tangent(lambda x, t: jax.nn.relu(t) * x),
    "constant": of_tangent(lambda x, t: jnp.ones(N)),
    "affine": of_tangent(lambda x, t: x * t + 1.0),
    "normalised": of_tangent(lambda x, t: t / jnp.sqrt(1e-3 + t @ t)),
    "branch on the tangent": of_tangent(lambda x, t: lax.cond(t[0] > 0, lambda: 2 * t, lambda: t)),
    "halved until small": of_tangent(
        lambda x, t: lax.while_loop(lambda c: c @ c > 0.1, lambda c: c / 2, t)
    ),
}
SOLVERS = ("conjugate gradients", "fixed point")


@pytest.mark.parametrize(
    ("name", "place"),
    [(name, "around") for name in sorted(ODD)]
    + [("clipped", place) for place in sorted(PROGRAMS) if place != "around"]
    + [("fixed point", "in a loop"), ("affine", "in a branch"), ("constant", "alone")],
)
def test_whole_tangents_go_through_any_rule(name, place):
    program = PROGRAMS[place](ODD[name])
    wanted = jax.jit(jax.jacfwd(program))(X)
    for order in ("auto", "forward", "greedy"):
        same(blockjac.jacobian(program, order=order)(X), wanted)
    same(blockjac.block_jacobian(program)(X).dense(), wanted)
    for direction in (V, 5 * V, -V):
        same(blockjac.jvp(program, (X,), (direction,))[1], jax.jvp(program, (X,), (direction,))[1])
    points = jnp.stack([X, -X])
    same(jax.vmap(blockjac.jacobian(program))(points), jax.vmap(jax.jacfwd(program))(points))


@pytest.mark.parametrize("name", SOLVERS)
def test_second_derivatives_of_solvers(name):
    scalar = lambda x: jnp.sum(ODD[name](x) ** 2 * x)  # noqa: E731
    wanted = jax.jit(jax.jacfwd(jax.jacfwd(scalar)))(X)
    same(blockjac.jacobian(blockjac.jacobian(scalar))(X), wanted, rtol=1e-7, atol=1e-8)
    same(blockjac.hessian(scalar)(X), wanted, rtol=1e-7, atol=1e-8)
    same(blockjac.hessian_diagonal(scalar)(X), jnp.diagonal(wanted), rtol=1e-7, atol=1e-8)
    same(blockjac.laplacian(scalar)(X), jnp.trace(wanted), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("place", ["alone", "around", "in a loop", "in a branch", "in checkpoint"])
def test_without_a_way_back_the_function_and_its_line_are_named(place):
    program = PROGRAMS[place](ODD["conjugate gradients"])
    message = "does not work for solve.*custom_jvp rule is not known to be linear.*jacobian"
    with pytest.raises(NoWayBackError, match=message):
        blockjac.grad(lambda x: jnp.sum(program(x)))(X)
    with pytest.raises(NoWayBackError, match=message):
        blockjac.jacobian(program, order="reverse")(X)
    with pytest.raises(ValueError, match=r"test_custom_jvp\.py"):
        blockjac.vjp(program, X)


@pytest.mark.slow
def test_a_rule_that_only_jax_can_transpose_has_a_way_back():
    program = around(with_rule(["not-proved"]))
    wanted = jax.jit(jax.jacfwd(program))(X)
    for order in ("auto", "reverse", "forward", "greedy"):
        same(blockjac.jacobian(program, order=order)(X), wanted)
    same(blockjac.grad(lambda x: program(x) @ V)(X), V @ wanted)


def test_vertices_by_hand_are_refused_where_whole_tangents_are_needed():
    program = around(ODD["clipped"])
    plan = blockjac.plan(program)(X)
    same(blockjac.jacobian(program, order=plan)(X), jax.jit(jax.jacfwd(program))(X))
    with pytest.raises(blockjac.errors.OrderError, match=r"whole tangents.*order='forward'"):
        blockjac.jacobian(program, order=plan.order[::-1])(X)


def test_integers_and_constant_tangents_beside():
    """As in JAX's own tests: a rule may give a tangent whatever it gets."""

    @jax.custom_jvp
    def function(x, k):
        return x

    function.defjvp(lambda primals, _: (primals[0], 1.0))
    zero = np.zeros((), jax.dtypes.float0)
    assert blockjac.jvp(function, (2.0, 3), (1.0, zero)) == (2.0, 1.0)
    looped = lambda x, k: lax.scan(lambda c, _: (function(c, k), None), x, None, length=1)[0]  # noqa: E731
    wanted = jax.jvp(looped, (2.0, 3), (1.0, zero))
    assert blockjac.jvp(looped, (2.0, 3), (1.0, zero)) == wanted
    chosen = lambda x, k: lax.cond(k > 2, lambda: function(x, k), lambda: x)  # noqa: E731
    assert blockjac.jvp(chosen, (2.0, 3), (1.0, zero)) == jax.jvp(chosen, (2.0, 3), (1.0, zero))


def test_symbolic_zeros():
    @jax.custom_jvp
    def function(x, y):
        return x * y

    def rule(primals, tangents):
        (x, y), (s, t) = primals, tangents
        zero = jax.custom_derivatives.SymbolicZero
        s = jnp.zeros_like(x) if isinstance(s, zero) else jnp.clip(s, -0.5, 0.5)
        t = jnp.zeros_like(y) if isinstance(t, zero) else t
        return x * y, s * y + x * t

    function.defjvp(rule, symbolic_zeros=True)
    for argnums in (0, 1, (0, 1)):
        found = blockjac.jacobian(function, argnums)(X, V)
        wanted = jax.jit(jax.jacfwd(function, argnums))(X, V)
        jax.tree.map(same, found, wanted)


def test_two_rules_that_jax_transposes_alike_are_told_apart():
    """A compiled program is found again by what the rule does to tangents, not to cotangents."""
    found = [
        blockjac.jvp(of_tangent(change), (X,), (V,))[1]
        for change in (lambda x, t: x * t, lambda x, t: x * t + 1.0, lambda x, t: x * t)
    ]
    same(found[0], X * V)
    same(found[1], X * V + 1.0)
    same(found[2], X * V)


def test_structure_is_taken_from_linear_rules():
    """A rule by elements keeps the diagonal, also one that is written as a loop."""
    x = jnp.linspace(0.0, 1.0, 500)

    def through(change):
        function = of_tangent(change)
        return blockjac.block_jacobian(lambda x: function(x) * x)(x)

    assert through(lambda x, t: jnp.cos(x) * t).stored == 500
    looped = through(lambda x, t: lax.fori_loop(0, 3, lambda _, c: x * c, t))
    assert looped.stored == 500
    assert through(lambda x, t: jnp.clip(t, -1, 1)).stored == 500**2  # and it is said in the log
    for function in (jax.nn.relu, jax.nn.softplus, jax.nn.gelu, jax.scipy.special.logit):
        assert blockjac.block_jacobian(function)(0.1 + x / 2).stored == 500
