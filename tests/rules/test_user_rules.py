"""Functions with rules of their own, and what stands between a function and its derivative."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero, closure_convert, linear_call

import blockjac
from blockjac import rules
from blockjac.errors import NoDerivativeError

X = jnp.array([0.5, -1.2, 2.0])


def backwards(function, fwd, bwd, **options):
    """A custom_vjp function; the rules are wrong on purpose, so that it shows when they count."""
    nondiff = options.pop("nondiff_argnums", ())
    made = jax.custom_vjp(function, nondiff_argnums=nondiff)
    made.defvjp(fwd, bwd, **options)
    return made


odd = backwards(jnp.sin, lambda x: (jnp.sin(x), x), lambda x, q: (7 * jnp.cos(x) * q,))
power = backwards(
    lambda f, x, n: f(x) ** n,
    lambda f, x, n: (f(x) ** n, x),
    lambda f, n, x, q: (5 * n * q * x,),
    nondiff_argnums=(0, 2),
)
no_second = backwards(
    lambda x, y: x * y, lambda x, y: (x * y, (x, y)), lambda r, q: (q * r[1] * 3, None)
)
in_trees = backwards(
    lambda p, n: {"a": p["w"] * p["b"] * n, "c": n},
    lambda p, n: ({"a": p["w"] * p["b"] * n, "c": n}, (p, n)),
    lambda r, q: ({"w": 2 * q["a"] * r[0]["b"], "b": jnp.sum(q["a"] * r[0]["w"]) * r[1]}, None),
)
once = backwards(
    jnp.sin, lambda x: (jnp.sin(x), 2 * jnp.cos(x)), lambda c, q: (c * q,), optimize_remat=True
)
clipped = backwards(
    lambda low, high, x: x,
    lambda low, high, x: (x, (low, high)),
    lambda r, q: (None, None, jnp.clip(q, *r)),
)
constant = backwards(lambda x: x**2, lambda x: (x**2, None), lambda r, q: (jnp.ones(3),))
twice = backwards(
    lambda x, y: x * y,
    lambda x, y: (x * y, (x, y)),
    lambda r, q: (jnp.clip(q * r[1], -1, 1), jnp.clip(q * r[0], -1, 1)),
)


def tells_zeros(residuals, cotangents):
    x, y, moves = residuals
    first, second = (0 if isinstance(one, SymbolicZero) else one for one in cotangents)
    return first * y * (2 if moves else 3) + second, first * x


symbolic = backwards(
    lambda x, y: (x * y, x + y),
    lambda x, y: ((x.value * y.value, x.value + y.value), (x.value, y.value, y.perturbed)),
    tells_zeros,
    symbolic_zeros=True,
)


def converted(x):
    called, constants = closure_convert(lambda z: z * (x * 3), x)

    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def apply(f, z, *rest):
        return f(z, *rest)

    apply.defvjp(
        lambda f, z, *rest: (f(z, *rest), rest),
        lambda f, rest, q: (q * 2, *(q * 5 for _ in rest)),
    )
    return apply(called, x, *constants)


@jax.custom_gradient
def gradient_given(x):
    return x**2, lambda q: (q * x * 7,)


BACKWARDS = {
    "plain": lambda x: odd(x) * x,
    "jit": lambda x: jax.jit(odd)(x) * x,
    "vmap": lambda x: jax.vmap(odd)(x) * x,
    "scan": lambda x: lax.scan(lambda c, t: (odd(c) * t, odd(c)), jnp.sum(x), x)[1],
    "cond": lambda x: lax.cond(x[0] > 0, odd, jnp.cos, x),
    "checkpoint": jax.checkpoint(lambda x: odd(x) * x),
    "nondiff_argnums": lambda x: power(jnp.cos, x, 3),
    "None": lambda x: no_second(x, x**2),
    "trees and integers": lambda x: in_trees({"w": x, "b": jnp.sum(x)}, 3.0)["a"],
    "symbolic zeros": lambda x: symbolic(x, x**2)[0] * 1.0,
    "symbolic zeros of a constant": lambda x: sum(symbolic(x, jnp.ones(3))),
    "optimize_remat": lambda x: once(x) * x,
    "custom_gradient": lambda x: gradient_given(x) * x,
    "closure_convert": converted,
    "clipped gradients": lambda x: clipped(-0.3, 0.3, x * x) ** 2,
    "clipped, of one number": lambda x: jnp.sum(clipped(-0.3, 0.3, x) ** 2) ** 2,
    "clipped, the same operand twice": lambda x: twice(x, x) * 3,
    "a constant for a gradient": lambda x: constant(x) * x,
}


def forwards(function, rule, **options):
    made = jax.custom_jvp(function, nondiff_argnums=options.pop("nondiff_argnums", ()))
    made.defjvp(rule, **options)
    return made


sine = forwards(jnp.sin, lambda p, t: (sine(p[0]), 3 * jnp.cos(p[0]) * t[0]))
nested = forwards(lambda x: sine(x) ** 2, lambda p, t: (nested(p[0]), 2 * sine(p[0]) * t[0]))
raised = forwards(
    lambda f, x, n: f(x) ** n,
    lambda f, n, p, t: (f(p[0]) ** n, 5 * n * t[0] * p[0]),
    nondiff_argnums=(0, 2),
)
product = forwards(
    lambda x, y: x * y,
    lambda p, t: (
        product(*p),
        11 * t[0] * p[1] if type(t[1]) is SymbolicZero else 2 * t[0] * p[1] + t[1] * p[0],
    ),
    symbolic_zeros=True,
)
signed = forwards(
    lambda x: (jnp.where(x > 0, x, 0.0), x > 0),
    lambda p, t: (signed(*p), (t[0] * p[0], np.zeros(3, jax.dtypes.float0))),
)
integer = forwards(
    lambda x, n: x**n, lambda p, t: (integer(*p), 2 * p[1] * p[0] ** (p[1] - 1) * t[0])
)
in_parts = jax.custom_jvp(lambda x, y: x * y)
in_parts.defjvps(lambda t, out, x, y: 2 * t * y, None)
on_the_host = forwards(
    lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct((3,), x.dtype), x),
    lambda p, t: (on_the_host(p[0]), jnp.cos(p[0]) * t[0]),
)


@custom_vmap
def batched(x):
    return jnp.sin(x) * 2


@batched.def_vmap
def _(size, are_batched, x):
    return jnp.sin(x) * 2, True


def root(x):
    return lax.custom_root(
        lambda z: z**3 - x,
        jnp.full(3, 2.0),
        lambda f, z: jnp.cbrt(x),
        lambda g, y: y / g(jnp.ones_like(y)),
    )


def printing(x):
    jax.debug.print("{}", x[0], ordered=True)
    return x**2


EITHER_WAY = {
    "plain": lambda x: sine(x) * x,
    "vmap": jax.vmap(sine),
    "scan": lambda x: lax.scan(lambda c, t: (sine(c) * t, sine(c)), jnp.sum(x), x)[1],
    "nested": nested,
    "nondiff_argnums": lambda x: raised(jnp.cos, x, 3),
    "symbolic zeros": lambda x: product(x, x**2),
    "symbolic zeros of a constant": lambda x: product(x, jnp.ones(3)),
    "booleans": lambda x: jnp.where(signed(x)[1], signed(x)[0] * x, 1.0),
    "integers": lambda x: integer(x, jnp.int32(3)),
    "defjvps": lambda x: in_parts(x, x**2),
    "custom_root": root,
    "stop_gradient": lambda x: lax.stop_gradient(x) * x,
    "optimization_barrier": lambda x: jnp.prod(jnp.stack(lax.optimization_barrier((x, x**2))), 0),
    "platform_dependent": lambda x: lax.platform_dependent(x, cpu=jnp.sin, default=jnp.cos),
    "custom_vmap": lambda x: jax.vmap(batched)(x) * x,
    "named_call": jax.named_call(jnp.sin, name="named"),
    "named_scope": lambda x: jax.named_scope("named")(jnp.sin)(x),
    "checkpoint_name": lambda x: checkpoint_name(jnp.sin(x), "name") * x,
    "a callback with a rule": lambda x: on_the_host(x) * x,
    "debug.print": printing,
}


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def squares(function):
    return lambda x: jnp.sum(function(x) ** 2)


@pytest.mark.parametrize("name", BACKWARDS)
def test_backward_rules_count(name):
    function = BACKWARDS[name]
    wanted = jax.jit(jax.jacrev(function))(X)
    for order in ("auto", "greedy", "reverse"):
        close(blockjac.jacobian(function, order=order)(X), wanted)
    close(blockjac.grad(squares(function))(X), jax.grad(squares(function))(X))
    value, pullback = blockjac.vjp(function, X)
    close(value, function(X))
    close(pullback(value)[0], jax.vjp(function, X)[1](value)[0])


# JAX refuses the first; it takes the slope of the values from the forward rule in the second.
NOT_AGAIN = ("optimize_remat", "checkpoint")


@pytest.mark.parametrize("name", [name for name in BACKWARDS if name not in NOT_AGAIN])
def test_backward_rules_count_again(name):
    loss = squares(BACKWARDS[name])
    close(blockjac.jacobian(blockjac.grad(loss))(X), jax.jit(jax.jacrev(jax.grad(loss)))(X))


@pytest.mark.parametrize("name", ["plain", "scan", "cond", "clipped gradients"])
def test_backward_rules_are_refused_forwards_as_in_jax(name):
    function = BACKWARDS[name]
    message = r"can't apply forward-mode autodiff \(jvp\) to a custom_vjp function"
    for transform in (jax.jacfwd(function), blockjac.jacobian(function, order="forward")):
        with pytest.raises(TypeError, match=message):
            transform(X)
    with pytest.raises(TypeError, match=message):
        blockjac.jvp(function, (X,), (X,))


def test_linear_backward_rules_keep_structure():
    assert blockjac.block_jacobian(odd)(jnp.ones(100)).stored == 100
    assert blockjac.block_jacobian(jax.vmap(lambda x: odd(x) * 2))(jnp.ones((9, 5))).stored == 45


def test_a_forward_pass_runs_once():
    calls = []

    def counted(x):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sin(x), jnp.cos(x)

    function = backwards(jnp.sin, counted, lambda c, q: (c * q,))
    blockjac.grad(lambda x: jnp.sum(function(x)))(X)
    jax.effects_barrier()
    assert calls == [1]


@pytest.mark.parametrize("name", EITHER_WAY)
def test_both_orders_and_derivatives_of_derivatives(name):
    function = EITHER_WAY[name]
    wanted = jax.jit(jax.jacrev(function))(X)
    for order in ("forward", "reverse"):
        close(blockjac.jacobian(function, order=order)(X), wanted)
    close(blockjac.jvp(function, (X,), (X,))[1], jax.jvp(function, (X,), (X,))[1])
    if name != "scan":  # where JAX's second derivative is not that of the loop written out
        loss = squares(function)
        close(blockjac.jacobian(blockjac.grad(loss))(X), jax.jit(jax.jacrev(jax.grad(loss)))(X))


def test_a_rule_counts_again_in_a_loop_as_in_the_loop_written_out():
    def looped(x):
        return jnp.sum(lax.scan(lambda c, t: (sine(c) * t, sine(c)), x[0], x)[1] ** 2)

    def unrolled(x):
        first = sine(x[0])
        second = sine(first * x[0])
        return first**2 + second**2 + sine(second * x[1]) ** 2

    close(blockjac.jacobian(blockjac.grad(looped))(X), jax.jit(jax.jacrev(jax.grad(unrolled)))(X))


@pytest.mark.parametrize("name", ["plain", "nested", "symbolic zeros", "booleans"])
def test_third_order(name):
    loss = squares(EITHER_WAY[name])
    first = lambda module: lambda x: jnp.sum(module.grad(loss)(x) ** 2)  # noqa: E731
    second = lambda module: lambda x: jnp.sum(module.grad(first(module))(x) ** 2)  # noqa: E731
    close(blockjac.grad(second(blockjac))(X), jax.grad(second(jax))(X))


def test_a_composite_function_is_differentiated_where_jax_refuses():
    tripled = lax.composite(lambda x: jnp.sin(x) * 3, name="tests.tripled")
    with pytest.raises(ValueError, match="JVP rule for composite"):
        jax.jit(jax.jacfwd(tripled))(X)
    close(blockjac.jacobian(tripled)(X), jnp.diag(3 * jnp.cos(X)))


def test_debug_print_prints_once(capfd):
    blockjac.grad(lambda x: jnp.sum(printing(x)))(X)
    jax.effects_barrier()
    assert capfd.readouterr().out == "0.5\n"


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (jax.pure_callback, "Pure callbacks do not support JVP. Please use `jax.custom_jvp`"),
        (jax.experimental.io_callback, "IO callbacks do not support JVP"),
    ],
)
def test_callbacks_without_a_rule(callback, message):
    function = lambda x: callback(np.sin, jax.ShapeDtypeStruct((3,), x.dtype), x)  # noqa: E731
    for order in ("forward", "reverse"):
        with pytest.raises(ValueError, match=message):
            blockjac.jacobian(function, order=order)(X)


def test_a_print_in_a_backward_rule_shows_the_cotangent(capfd):
    def bwd(x, q):
        jax.debug.print("{q}", q=q)
        return (2 * q,)

    function = backwards(jnp.sin, lambda x: (jnp.sin(x), x), bwd)
    blockjac.grad(lambda x: 5 * function(x))(0.5)
    jax.effects_barrier()
    assert capfd.readouterr().out == "5.0\n"


def test_a_custom_jvp_may_call_itself_on_its_tangent():
    @jax.custom_jvp
    def scaled(x, y):
        return x * y

    @scaled.defjvp
    def _(primals, tangents):
        (x, y), (dx, dy) = primals, tangents
        return scaled(x, y), 3 * scaled(dx, y) + x * dy

    both = lambda x: jnp.sum(scaled(x, 2 * x) ** 2)  # noqa: E731
    close(blockjac.grad(both)(X), jax.grad(both)(X))
    by_both = blockjac.jacobian(scaled, (0, 1))(X, 2 * X)
    close(by_both, jax.jit(jax.jacfwd(scaled, (0, 1)))(X, 2 * X))


def test_symbolic_zeros_tell_what_is_differentiated():
    seen = []

    def fwd(x, y):
        seen.append((x.perturbed, y.perturbed))
        if y.perturbed:
            raise AssertionError("y is not differentiated")
        return x.value * y.value, y.value

    function = backwards(
        lambda x, y: x * y, fwd, lambda y, q: (7 * q * y, None), symbolic_zeros=True
    )
    close(blockjac.grad(lambda x: function(x, 3.0))(2.0), 21.0)
    assert set(seen) == {(True, False)}


def test_a_linear_call_of_a_constant():
    def function(x):
        return linear_call(lambda r, y: r * y, lambda r, q: r * q, jnp.arange(3.0), x**2)

    close(blockjac.grad(squares(function))(X), jax.grad(squares(function))(X))


def test_lost_structure_is_told_once_with_its_place(caplog):
    with rules.kept():
        left = rules.define(lambda x: jnp.cumsum(x) ** 2, lambda out, x: NotImplemented)
        for _ in range(2):
            blockjac.block_jacobian(lambda x: left(x) * 2)(X)
    (record,) = caplog.records
    assert re.search(
        r"no structured rule for '.*<lambda>.*', used at .*test_user_rules.py:\d+", record.message
    )


# Mutable arrays


def written(x):
    array = jax.new_ref(jnp.zeros(3))
    array[...] = x**2
    return array[...]


def begun(x):
    array = jax.new_ref(x)
    array[0] = 1.0
    return array[...]


def in_a_loop(x):
    total = jax.new_ref(jnp.zeros(()))
    lax.fori_loop(0, 3, lambda i, _: total.addupdate(x[i]) if False else _add(total, x[i]), None)
    return total[...]


def _add(reference, value):
    reference[...] += value


@pytest.mark.parametrize("function", [written, begun, in_a_loop])
def test_a_write_to_a_mutable_array_is_no_silent_zero(function):
    message = r"differentiated value meets a mutable array .* at .*test_user_rules.py:\d+"
    for transform in (blockjac.jacobian(function), lambda x: blockjac.jvp(function, (x,), (x,))):
        with pytest.raises(NoDerivativeError, match=message):
            transform(X)


def test_a_mutable_array_beside_the_derivative():
    def function(x):
        array = jax.new_ref(jnp.ones(3))
        array[...] *= 2
        return x * array[...]

    close(blockjac.jacobian(function)(X), 2 * np.eye(3))
