"""What a user's derivative rule may answer: numbers of any kind, constants, nothing, float0.

The facts are those that JAX's own tests of custom_jvp and custom_vjp check.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import blockjac

KINDS = {
    "Python float": 2.0,
    "Python int": 2,
    "NumPy scalar": np.float64(2),
    "NumPy array": np.array(2.0),
    "single precision": np.float32(2),
    "integer array": jnp.array(2),
    "weak array": jnp.asarray(2.0),
    "strong array": jnp.array(2.0, jnp.float64),
}
X = jnp.array([0.5, -1.2, 2.0])


def backwards(function, fwd, bwd):
    made = jax.custom_vjp(function)
    made.defvjp(fwd, bwd)
    return made


def forwards(function, rule):
    made = jax.custom_jvp(function)
    made.defjvp(rule)
    return made


def in_scan(function):
    return lambda x: lax.scan(lambda c, _: (function(c), None), x, None, length=1)[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("around", [lambda function: function, jax.jit, in_scan])
def test_a_backward_rule_may_answer_a_constant_of_any_kind(kind, around):
    """Whatever it is, it is the gradient, in the dtype of the argument."""
    answer = KINDS[kind]
    f = around(backwards(jnp.sin, lambda x: (jnp.sin(x), None), lambda r, q: (answer,)))
    for x in (1.5, jnp.float32(1.5)):
        for transform in (blockjac.grad, blockjac.jacobian, lambda f: jax.jit(blockjac.grad(f))):
            found = transform(lambda x: 3 * f(x))(x)
            assert found == 2
            assert found.dtype == jnp.asarray(x).dtype


@pytest.mark.parametrize("kind", KINDS)
def test_a_backward_rule_may_multiply_by_a_residual_of_any_kind(kind):
    residual = KINDS[kind]
    f = backwards(jnp.sin, lambda x: (jnp.sin(x), residual), lambda r, q: (r * q,))
    block = blockjac.block_jacobian(f)(X)
    np.testing.assert_array_equal(block.dense(), 2 * np.eye(3))
    np.testing.assert_array_equal(blockjac.grad(lambda x: f(x).sum())(X), np.full(3, 2.0))
    np.testing.assert_array_equal(in_scan_gradient(f), 2)


def in_scan_gradient(function):
    return blockjac.grad(in_scan(function))(1.5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_forward_rule_may_multiply_by_a_number_of_any_kind(kind):
    factor = KINDS[kind]
    f = forwards(jnp.sin, lambda p, t: (jnp.sin(p[0]), factor * t[0]))
    for order in ("forward", "reverse"):
        found = blockjac.jacobian(f, order=order)(X)
        np.testing.assert_array_equal(found, 2 * np.eye(3))
    np.testing.assert_array_equal(blockjac.jvp(f, (X,), (X,))[1], 2 * X)


@pytest.mark.parametrize("kind", ["Python float", "NumPy scalar", "NumPy array", "strong array"])
@pytest.mark.parametrize("around", [lambda function: function, jax.jit, in_scan])
def test_a_forward_rule_may_answer_a_constant_of_any_kind(kind, around):
    """It drops its tangent, which makes it no derivative; JAX takes it at its word, and so we."""
    answer = KINDS[kind]
    f = around(forwards(jnp.sin, lambda p, t: (jnp.sin(p[0]), answer)))
    for tangent in (1.0, 5.0):
        assert blockjac.jvp(f, (0.5,), (tangent,))[1] == 2 == jax.jvp(f, (0.5,), (tangent,))[1]
    assert blockjac.jacobian(f, order="forward")(0.5) == 2 == jax.jit(jax.jacfwd(f))(0.5)


def test_float0_tangents_beside_a_constant_one():
    """The function has an integer too, whose tangent the rule makes from its value."""

    def rule(primals, tangents):
        return primals, (2.0, jax.custom_derivatives.zero_from_primal(primals[1]))

    f = forwards(lambda x, n: (x, n), rule)
    looped = in_scan(lambda pair: f(*pair))
    nothing = np.zeros((), jax.dtypes.float0)
    for function in (f, lambda x, n: looped((x, n))):
        values, rates = blockjac.jvp(function, (2.0, 3), (1.0, nothing))
        assert values == (2, 3)
        assert rates[0] == 2
        assert rates[1].dtype == jax.dtypes.float0


def test_a_backward_rule_that_answers_an_integer_and_drops_the_cotangent_is_no_zero():
    """A constant is not linear in the cotangent, and an integer one is a constant all the same."""
    f = backwards(jnp.sin, lambda x: (jnp.sin(x), None), lambda r, q: (3,))
    assert blockjac.grad(f)(0.5) == 3 == jax.grad(f)(0.5)


def test_integers_beside_floats_have_no_derivative_by_a_rule():
    f = backwards(lambda x, n: x, lambda x, n: (x, (2.0, 1)), lambda *_: (2.0, 1))
    by_both = blockjac.grad(f, (0, 1), allow_int=True)(2.0, 3)
    assert by_both[0] == 2
    assert by_both[1].dtype == jax.dtypes.float0
    assert blockjac.grad(f)(2.0, 3) == 2


def test_float0_answers_of_a_rule_inside_a_loop():
    """The carry is a pair of a float and an integer; the rule answers float0 for the latter."""
    nothing = np.zeros((), jax.dtypes.float0)
    f = backwards(lambda pair: pair, lambda pair: (pair, None), lambda *_: ((2.0, nothing),))
    looped = in_scan(f)
    by_both = blockjac.grad(lambda x, n: looped((x, n))[0], (0, 1), allow_int=True)(2.0, 3)
    assert by_both[0] == 2
    assert by_both[1].dtype == jax.dtypes.float0


@pytest.mark.slow
@pytest.mark.parametrize("remat", [jax.checkpoint, jax.remat])
def test_a_loop_of_recomputed_steps_keeps_what_it_carries_alone(remat):
    """The pullback computes the cosines of the steps again, in its one loop."""

    def looped(x):
        return lax.scan(remat(lambda c, x: (jnp.sin(c), None)), x, np.arange(3.0))[0]

    def plain(x):
        return lax.scan(lambda c, x: (jnp.sin(c), None), x, np.arange(3.0))[0]

    np.testing.assert_allclose(blockjac.grad(looped)(4.0), jax.grad(plain)(4.0), rtol=1e-14)
    np.testing.assert_allclose(looped(4.0), plain(4.0))
    pull = blockjac.vjp(looped, 4.0)[1]
    loops = [
        str(equation.params["jaxpr"])
        for equation in jax.make_jaxpr(pull)(1.0).eqns
        if equation.primitive.name == "scan"
    ]
    assert len(loops) == 1
    assert " cos " in loops[0]


def test_arguments_and_results_of_several_precisions():
    """Every block has the dtype of its input, as of jax.jacrev, in whatever order."""
    x, y = np.array([2.0], np.float16), np.array([3.0], np.float32)

    def f(pair):
        assert [one.dtype for one in pair] == [np.float16, np.float32]
        return (*pair, pair[0] + pair[1])

    wanted = jax.jit(jax.jacrev(f))((x, y))
    for order in ("reverse", "forward", "auto"):
        found = blockjac.jacobian(f, order=order)((x, y))
        for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            assert own.dtype == other.dtype
            np.testing.assert_array_equal(own, other)
    values, rates = blockjac.jvp(f, ((x, y),), ((x, y),))
    assert [one.dtype for one in rates] == [one.dtype for one in values]


LAX = {
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "round": jnp.round,
    "exp": lax.exp,
    "exp2": lax.exp2,
    "expm1": lax.expm1,
    "neg": lax.neg,
    "log": lax.log,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAX)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_pullbacks_and_pushforwards_of_any_precision_differentiate_again(name, dtype):
    """As JAX's tests of `lax` do: vjp and jvp at any shape, and both of each of them once more."""
    if dtype.startswith("complex") and name in ("floor", "ceil", "round"):
        pytest.skip("of real numbers only")
    function, random = LAX[name], np.random.default_rng(0)
    rtol = 1e-4 if dtype in ("float32", "complex64") else 1e-11
    for shape in ((), (3,), (2, 1, 4)):
        x, t = (drawn(random, shape, dtype) for _ in range(2))
        found, wanted = (twice(transforms, function, x, t) for transforms in (blockjac, jax))
        for own, other in zip(found, wanted, strict=True):
            assert own.dtype == other.dtype
            np.testing.assert_allclose(own, other, rtol=rtol, atol=rtol)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.float32, np.complex64])
def test_products_of_any_precision_differentiate_again(dtype):
    random = np.random.default_rng(0)
    for left, right in (((2,), (2,)), ((2, 3), (3,)), ((3, 3), (3, 2)), ((3,), (3, 2))):
        x, t = (drawn(random, left, dtype) for _ in range(2))
        other = drawn(random, right, dtype)
        found, wanted = (
            twice(transforms, lambda x, y=other: lax.dot(x, y) * x.ravel()[0], x, t)
            for transforms in (blockjac, jax)
        )
        for own, one in zip(found, wanted, strict=True):
            assert own.dtype == one.dtype
            rtol = 0.05 if dtype in (jnp.bfloat16, np.float16) else 1e-4
            wide = [np.asarray(value, np.complex128) for value in (own, one)]
            np.testing.assert_allclose(*wide, rtol=rtol, atol=rtol)


def drawn(random, shape, dtype):
    real, imaginary = random.uniform(0.1, 0.4, (2, *shape))
    is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
    return np.asarray(real + 1j * imaginary if is_complex else real, dtype)


def twice(transforms, function, x, t):
    """The pullback and the pushforward of a function, and again both of each."""

    def pulled(x):
        value, pull = transforms.vjp(function, x)
        return pull(value * t if value.shape == t.shape else value)[0]

    def pushed(x):
        return transforms.jvp(function, (x,), (t * x,))[1]

    @jax.jit
    def all_of_them(x):
        answers = []
        for first in (pulled, pushed):
            value, pull = transforms.vjp(first, x)
            answers += [value, pull(value)[0], transforms.jvp(first, (x,), (x,))[1]]
        return answers

    return all_of_them(x)
