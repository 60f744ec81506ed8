"""Random derivative rules: linear by construction, and not linear at all.

A linear rule is a list of steps that a tangent goes through: loops, branches on the values at hand,
functions with rules of their own. Every transform agrees with JAX, whether the library proves it
linear or not. Rules that clip, take absolute values or solve by a loop have to see the tangents of
`jax.jacfwd`, wherever the function stands.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from support.sampling import sampled

import blockjac

pytestmark = pytest.mark.slow

SIZE = 3
X = jnp.array([0.5, -0.7, 1.2])
MATRIX = np.random.default_rng(0).normal(size=(SIZE, SIZE)) / 2
CONE = jnp.asarray(MATRIX @ MATRIX.T + np.eye(SIZE))


def forwards(function, rule, **options):
    made = jax.custom_jvp(function)
    made.defjvp(rule, **options)
    return made


# What is linear in a tangent t, at p


turned = forwards(
    lambda t, p: t * jnp.cos(p),
    lambda p, t: (turned(*p), t[0] * jnp.cos(p[1]) - p[0] * jnp.sin(p[1]) * t[1]),
)
doubled = forwards(lambda t: t * 2, lambda p, t: (doubled(*p), 7 * t[0]))


@jax.custom_vjp
def backwards(t, p):
    return t * jnp.sin(p + 1)


backwards.defvjp(lambda t, p: (backwards(t, p), p), lambda p, q: (q * jnp.sin(p + 1), q * 0))


def while_small(t, p):
    """Halves as long as the values are large, which the tangent has no part in."""

    def step(state):
        values, tangent = state
        return values / 2, tangent * jnp.cos(values) + tangent[::-1]

    return lax.while_loop(lambda state: jnp.sum(jnp.abs(state[0])) > 0.7, step, (p, t))[1]


def solved(t, p):
    matrix = CONE + jnp.diag(p**2)
    return lax.custom_linear_solve(
        lambda v: matrix @ v, t, lambda _, b: jnp.linalg.solve(matrix, b), symmetric=True
    )


STEPS = {
    "scaled": lambda t, p: t * jnp.sin(p),
    "divided": lambda t, p: t / (2 + p * p),
    "multiplied": lambda t, p: CONE @ t,
    "reversed": lambda t, p: t[::-1] - t,
    "summed": lambda t, p: jnp.cumsum(t) + jnp.sum(t) * p,
    "chosen": lambda t, p: jnp.where(p > 0, t, 2 * t),
    "looked up": lambda t, p: t[jnp.argsort(p)],
    "written into": lambda t, p: jnp.zeros(SIZE).at[jnp.argsort(p)].add(t * p),
    "fori": lambda t, p: lax.fori_loop(0, 2, lambda i, s: jnp.cos(p) * s + i * t, t),
    "scan": lambda t, p: lax.scan(lambda c, s: (c + s[0], c * s[1]), jnp.sum(t), (t, p))[1],
    "mapped": lambda t, p: lax.map(lambda s: s[0] * jnp.exp(s[1]), (t, p)),
    "branch": lambda t, p: lax.cond(p[0] > 0.4, lambda v: v * p, lambda v: v[::-1], t),
    "switch": lambda t, p: lax.switch(
        (p[1] > 0).astype(int), [lambda v: 3 * v, lambda v: v * p, jnp.cumsum], t
    ),
    "checkpoint": lambda t, p: jax.checkpoint(lambda v: v * jnp.cos(p))(t),
    "jitted": lambda t, p: jax.jit(lambda v: v - v[::-1] * p)(t),
    "solved": solved,
    "spectrum": lambda t, p: jnp.fft.ifft(jnp.fft.fft(t) * (1 + 2j)).real,
    "custom_jvp": turned,
    "custom_jvp of the tangent alone": lambda t, p: doubled(t) * p,
    "custom_jvp in a loop": lambda t, p: lax.scan(lambda c, s: (doubled(c) * s, c), t[0], p)[1] + t,
    "custom_jvp of the values": lambda t, p: t * jax.nn.softplus(p) + t * doubled(p),
}
ONLY_FORWARDS = {
    "while": while_small,
    "custom_vjp of the tangent": lambda t, p: backwards(t, lax.stop_gradient(p)),
}
EVERY_STEP = {**STEPS, **ONLY_FORWARDS}

# The rule of `doubled` contradicts its function, which shows that a first derivative takes the one
# of them that JAX takes. A second derivative takes both, in an order of its own: jacfwd(jacfwd) and
# jacfwd(grad) of JAX differ from each other.
ONCE = {"custom_jvp of the tangent alone", "custom_jvp in a loop"}
ONCE_BACKWARDS = {*ONCE, "custom_jvp of the values"}

PLACES = {
    "alone": lambda f: f,
    "middle": lambda f: lambda x: f(jnp.sin(x) * x[0]) * x + f(x),
    "scan": lambda f: lambda x: lax.scan(lambda c, s: (f(c * s) + c, f(c) * s), x, x)[1],
    "cond": lambda f: lambda x: lax.cond(x[0] > 0, lambda x: f(x * 2), jnp.cos, x) * x,
    "checkpoint": lambda f: lambda x: jax.checkpoint(lambda x: f(x) * x)(jnp.sin(x)),
    "vmap": lambda f: lambda x: jax.vmap(f)(jnp.outer(x, x) + x),
    "jvp": lambda f: lambda x: jax.jvp(f, (jnp.sin(x),), (x**2,))[1],
    "linearize": lambda f: lambda x: jax.linearize(f, jnp.sin(x))[1](x),
}


def in_while(f):
    """The function in a loop of unknown length."""
    return lambda x: lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, f(s[1]) * x), (0, x))[
        1
    ]


def with_rule(steps):
    """A function whose rule takes the tangent through these steps, one after another."""

    def rule(primals, tangents):
        (x,), (rate,) = primals, tangents
        for step in steps:
            rate = EVERY_STEP[step](rate, x)
        return jnp.sin(x), rate

    return forwards(jnp.sin, rule)


def close(found, wanted, rtol=1e-9):
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        scale = np.abs(two).max(initial=1.0)
        np.testing.assert_allclose(one, two, rtol=rtol, atol=rtol * scale)


def compare_forwards(function, x=X, order="auto", twice=True):
    """All that goes forwards, compiled at once: Jacobians, products, second derivatives."""

    def of(module, options):
        def number(x):
            return jnp.sum(jnp.sin(function(x)))

        first = module.jacobian(function, **options)
        answers = {
            "jacobian": first(x),
            "jvp": module.jvp(function, (x,), (jnp.cos(x),)),
            "vmap": jax.vmap(first)(jnp.stack([x, x + 0.1])),
        }
        if twice:
            second = (lambda f: blockjac.jacobian(f, order="forward")) if options else jax.jacfwd
            answers["second"] = second(module.jacobian(number, **options))(x)
        return answers

    agree(
        lambda: of(blockjac, {"order": order}),
        lambda: of(JaxForwards, {}),
    )
    agree(lambda: blockjac.block_jacobian(function)(x).dense(), lambda: jax.jacfwd(function)(x))


class JaxForwards:
    """JAX's transforms, forwards."""

    jacobian = staticmethod(jax.jacfwd)
    jvp = staticmethod(jax.jvp)


def compare_backwards(function, x=X, twice=True):
    def number(x):
        return jnp.sum(jnp.sin(function(x)))

    def by_us():
        first = blockjac.jacobian(function, order="reverse")(x), blockjac.grad(number)(x)
        return (*first, blockjac.jacobian(blockjac.grad(number))(x)) if twice else first

    def by_jax():
        first = jax.jit(jax.jacrev(function))(x), jax.grad(number)(x)
        return (*first, jax.jit(jax.jacfwd(jax.grad(number)))(x)) if twice else first

    agree(by_us, by_jax)


REFUSALS = (TypeError, NotImplementedError, blockjac.errors.NoWayBackError)


def agree(by_us, by_jax):
    """Compile and compare both; what JAX refuses, we either refuse or have something better for."""
    try:
        jax.eval_shape(by_jax)
    except (TypeError, NotImplementedError):
        with contextlib.suppress(*REFUSALS):
            jax.eval_shape(by_us)
        return
    close(*jax.jit(lambda: (by_us(), by_jax()))())


def steps_of(names, size=3):
    return st.lists(st.sampled_from(sorted(names)), min_size=1, max_size=size)


places = st.sampled_from(sorted(PLACES))
orders = st.sampled_from(["auto", "forward", "greedy"])


@settings(max_examples=8)
@given(steps_of(EVERY_STEP), places, orders)
def test_random_linear_rules(steps, place, order):
    compare_forwards(PLACES[place](with_rule(steps)), order=order, twice=ONCE.isdisjoint(steps))


@settings(max_examples=5)
@given(steps_of(STEPS), places)
def test_random_linear_rules_backwards(steps, place):
    compare_backwards(PLACES[place](with_rule(steps)), twice=ONCE_BACKWARDS.isdisjoint(steps))


@pytest.mark.thorough
@given(steps_of(EVERY_STEP, 4), places, orders)
def test_many_random_linear_rules(steps, place, order):
    compare_forwards(PLACES[place](with_rule(steps)), order=order, twice=ONCE.isdisjoint(steps))


@pytest.mark.thorough
@given(steps_of(STEPS, 4), places)
def test_many_random_linear_rules_backwards(steps, place):
    compare_backwards(PLACES[place](with_rule(steps)), twice=ONCE_BACKWARDS.isdisjoint(steps))


@pytest.mark.parametrize("step", sampled(EVERY_STEP, 8))
def test_each_step(step):
    compare_forwards(with_rule([step]))
    if step in STEPS:
        compare_backwards(with_rule([step]))


# Rules that are not linear


def conjugate_gradients(t, p):
    """Of a system at p, until the residual is small: which the tangent alone decides."""
    apply = lambda v: CONE @ v + v * p**2  # noqa: E731

    def step(state):
        x, r, d, k = state
        image = apply(d)
        length = (r @ r) / (d @ image)
        rest = r - length * image
        return x + length * d, rest, rest + (rest @ rest) / (r @ r) * d, k + 1

    start = jnp.zeros_like(t), t, t, 0
    return lax.while_loop(lambda s: (s[1] @ s[1] > 1e-20) & (s[3] < 20), step, start)[0]


def fixed_point(t, p):
    """Of v = t + cos(p) v / 3, until it stays where it is."""
    step = lambda v: t + jnp.cos(p) * v / 3  # noqa: E731
    moves = lambda s: jnp.max(jnp.abs(s[0] - s[1])) > 1e-13  # noqa: E731
    return lax.while_loop(moves, lambda s: (step(s[0]), s[0]), (step(t), t))[0]


def quadrature(t, p):
    """The integral of t exp(-p s) over [0, 1] by midpoints, twice as many until it settles."""

    def step(state):
        n, _, new = state
        at = (jnp.arange(64) + 0.5) / n
        values = jnp.where((jnp.arange(64) < n)[:, None], jnp.exp(-at[:, None] * p) * t / n, 0.0)
        return n * 2, new, jnp.sum(values, 0)

    unsettled = lambda s: (jnp.sum(jnp.abs(s[1] - s[2])) > 1e-3) & (s[0] <= 64)  # noqa: E731
    return lax.while_loop(unsettled, step, (4, t + 1, t))[2]


def on_the_host(t, p):
    shape = jax.ShapeDtypeStruct(t.shape, t.dtype)
    return jax.pure_callback(lambda t: 2 * np.asarray(t), shape, t, vmap_method="sequential") * p


BENT = {
    "clip": lambda t, p: jnp.clip(t, -0.3, 0.3) * p,
    "absolute value": lambda t, p: jnp.abs(t) * p,
    "largest": lambda t, p: jnp.max(t) * p + t,
    "sign": lambda t, p: t * jnp.sign(t) * p,
    "square": lambda t, p: t * t * p,
    "norm": lambda t, p: t / (1 + jnp.sqrt(jnp.sum(t * t))) * p,
    "choice by the tangent": lambda t, p: jnp.where(t > 0.1, t, p * t),
    "branch by the tangent": lambda t, p: lax.cond(
        jnp.sum(t) > 0.2, lambda v: 2 * v, lambda v: v * p, t
    ),
    "place by the tangent": lambda t, p: t[jnp.argsort(t)] * p,
    "loop by the tangent": lambda t, p: lax.while_loop(
        lambda s: jnp.max(jnp.abs(s)) > 0.1, lambda s: s / 2 * jnp.tanh(p + 2), t
    ),
    "carried into a product": lambda t, p: lax.fori_loop(0, 2, lambda i, s: s * (t + p), t),
    "by way of integers": lambda t, p: t * (3 * t).astype(int).astype(float) * p,
    "stopped": lambda t, p: lax.stop_gradient(t) * p,
    "affine": lambda t, p: t * p + 1.0,
    "constant": lambda t, p: jnp.cos(p),
    "conjugate gradients": conjugate_gradients,
    "fixed point": fixed_point,
    "quadrature": quadrature,
    "relu": lambda t, p: jax.nn.relu(t) * p,
}


def bent(name, own_value=False):
    """A function with such a rule, which gives the function's value by itself, or by its body.

    In a loop or a checkpoint a second derivative is that of the function, whatever the rule gives
    for its value: there the two have to be the same.
    """
    value = lambda p: made(p) if own_value else jnp.sin(p)  # noqa: E731
    made = forwards(jnp.sin, lambda p, t: (value(p[0]), BENT[name](t[0], p[0])))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", BENT)
def test_rules_that_are_not_linear(name):
    compare_forwards(PLACES["middle"](bent(name)))


@pytest.mark.slow
@pytest.mark.parametrize("place", [*PLACES, "while"])
def test_a_rule_that_is_not_linear_anywhere(place):
    placed = in_while if place == "while" else PLACES[place]
    own_value = place in ("while", "checkpoint")
    compare_forwards(placed(bent("clip", own_value)))
    if place not in ("scan", "while"):
        compare_forwards(placed(bent("fixed point", own_value)), order="greedy")


def test_a_rule_on_the_host():
    function = forwards(jnp.sin, lambda p, t: (jnp.sin(p[0]), on_the_host(t[0], p[0])))
    close(blockjac.jacobian(function)(X), jax.jit(jax.jacfwd(function))(X))
    close(blockjac.jvp(function, (X,), (X,))[1], jax.jvp(function, (X,), (X,))[1])


@pytest.mark.parametrize("order", ["auto", "forward", "greedy", "search"])
def test_no_order_contracts_what_a_rule_has_to_see(order):
    function = PLACES["middle"](bent("clip"))
    close(blockjac.jacobian(function, order=order)(X), jax.jit(jax.jacfwd(function))(X))


def test_several_operands_are_pushed_together():
    @jax.custom_jvp
    def product(x, y):
        return x * y

    product.defjvp(lambda p, t: (product(*p), jnp.clip(t[0] + t[1] * p[0], -0.4, 0.4)))
    for function in (
        lambda x: product(x, x),
        lambda x: product(x, jnp.sin(x)) * x,
        lambda x: jnp.sum(product(jnp.outer(x, x), x)),
    ):
        compare_forwards(function)
    by_both = blockjac.jacobian(product, (0, 1))(X, X + 1)
    close(by_both, jax.jit(jax.jacfwd(product, (0, 1)))(X, X + 1))


def test_chunks_of_columns():
    function = PLACES["middle"](bent("clip"))
    close(blockjac.jacobian(function, chunk_size=2)(X), jax.jit(jax.jacfwd(function))(X))


def test_diagonals_and_traces_of_second_derivatives():
    function = lambda x: jnp.sum(jnp.sin(bent("fixed point")(x)))  # noqa: E731
    hessian = jax.jit(jax.jacfwd(jax.jacfwd(function)))(X)
    close(blockjac.hessian(function)(X), hessian, 1e-7)
    close(blockjac.hessian_diagonal(function)(X), jnp.diag(hessian), 1e-7)
    close(blockjac.laplacian(function)(X), jnp.trace(hessian), 1e-7)
    for place in ("alone", "middle"):
        placed = PLACES[place](bent("clip"))
        close(blockjac.jacobian_diagonal(placed)(X), jnp.diag(jax.jit(jax.jacfwd(placed))(X)))


def test_symbolic_zeros():
    rule = lambda p, t: (  # noqa: E731
        p[0] * p[1],
        jnp.clip(t[0], -0.4, 0.4) * (5 if type(t[1]).__name__ == "SymbolicZero" else 2) * p[1],
    )
    function = forwards(lambda x, y: x * y, rule, symbolic_zeros=True)
    compare_forwards(lambda x: function(jnp.sin(x), jnp.ones(SIZE)) + function(x, x))


def test_complex_tangents():
    rule = lambda p, t: (p[0] ** 2, t[0] * jnp.abs(t[0]) * p[0])  # noqa: E731
    function = forwards(lambda z: z**2, rule)
    of_real = lambda x: jnp.abs(function(x + 1j * x[::-1]))  # noqa: E731
    close(blockjac.jacobian(of_real)(X), jax.jit(jax.jacfwd(of_real))(X))
    close(blockjac.jvp(of_real, (X,), (X,)), jax.jvp(of_real, (X,), (X,)))


def test_custom_root_with_a_loop_for_its_tangent():
    def root(x):
        return lax.custom_root(
            lambda z: z**3 - x,
            jnp.full(SIZE, 1.1),
            lambda f, z: jnp.cbrt(x),
            lambda g, y: fixed_point(y, y * 0) * 2 / 3 / g(jnp.ones_like(y)),
        )

    compare_forwards(lambda x: root(x + 2) * x)


# Integers, and what has no tangent


def test_integers_beside_a_constant_rate():
    function = forwards(lambda x, n: x, lambda p, t: (p[0], 1.0))
    zero = np.zeros((), jax.dtypes.float0)
    close(blockjac.jvp(function, (2.0, 3), (1.0, zero)), (2.0, 1.0))


@pytest.mark.parametrize("loop", ["scan", "cond"])
def test_integers_beside_a_constant_rate_in_a_loop(loop):
    function = forwards(lambda x, n: x, lambda p, t: (p[0], 2.0))

    def looped(x, n):
        if loop == "scan":
            return lax.scan(lambda c, _: ((function(*c), c[1]), None), (x, n), None, length=1)[0]
        return lax.cond(True, lambda x, n: (function(x, n), n), lambda x, n: (x, n), x, n)

    zero = np.zeros((), jax.dtypes.float0)
    found = blockjac.jvp(looped, (2.0, 3), (1.0, zero))
    wanted = jax.jvp(looped, (2.0, 3), (1.0, zero))
    close((found[0], found[1][0]), (wanted[0], wanted[1][0]))
    close(found[1][0], 2.0)


# The way back


def test_a_rule_without_a_way_back_is_named():
    @jax.custom_jvp
    def crooked(x):
        return jnp.sin(x)

    @crooked.defjvp
    def crooked_rule(primals, tangents):
        return crooked(*primals), jnp.clip(tangents[0], -1, 1)

    placed = [crooked, lambda x: lax.scan(lambda c, s: (crooked(c) * s, c), x[0], x)[0]]
    for function in placed:
        number = lambda x, f=function: jnp.sum(f(x))  # noqa: E731
        with pytest.raises(ValueError, match=r"crooked.* at .*test_random_rules\.py"):
            blockjac.grad(number)(X)
        with pytest.raises(blockjac.errors.NoWayBackError, match=r"blockjac\.jacobian"):
            blockjac.jacobian(number, order="reverse")(X)


@pytest.mark.parametrize("name", ["affine", "custom_jvp"])
def test_the_way_back_is_that_of_jax(name):
    function = bent(name) if name in BENT else with_rule([name])
    compare_backwards(function)
    compare_backwards(PLACES["middle"](function))


# Structure


def elementwise(t, p):
    """Diagonal, by loops and branches that the tangent has no part in."""
    t = lax.fori_loop(0, 3, lambda i, s: s * jnp.cos(p), t)
    t = lax.cond(p[0] > 0, lambda v: v * p, lambda v: v * 2, t)
    return jnp.where(p > 0, t, doubled(t) / (1 + p**2))


def test_what_is_proved_keeps_its_structure():
    x = jnp.linspace(-1, 1, 100)
    function = forwards(jnp.sin, lambda p, t: (jnp.sin(p[0]), elementwise(t[0], p[0])))
    assert blockjac.block_jacobian(function)(x).stored == 100
    for name in ("relu", "softplus", "gelu", "silu", "elu", "relu6"):
        assert blockjac.block_jacobian(getattr(jax.nn, name))(x).stored == 100, name


def test_a_backward_rule_with_loops_keeps_its_structure():
    @jax.custom_vjp
    def function(x):
        return jnp.sin(x)

    function.defvjp(lambda x: (jnp.sin(x), x), lambda x, q: (elementwise(q, x),))
    x = jnp.linspace(-1, 1, 100)
    assert blockjac.block_jacobian(function)(x).stored == 100
    close(blockjac.jacobian(function)(x), jax.jit(jax.jacrev(function))(x))


def test_a_backward_rule_is_not_differentiated_by_the_rules_of_its_steps():
    @jax.custom_vjp
    def function(x):
        return jnp.sin(x)

    function.defvjp(lambda x: (jnp.sin(x), x), lambda x, q: (doubled(q) * x,))
    close(blockjac.jacobian(function)(X), jax.jit(jax.jacrev(function))(X))
