"""Rules from outside: define, what a rule that does not fit says, and check."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import mlir

import blockjac
from blockjac import rules
from blockjac.blocks import Block
from blockjac.errors import NoDerivativeError, RuleError, WrongRuleError

X = jnp.array([0.5, -1.0, 2.0])


def primitive(name, function, shape=None):
    """A primitive that JAX can run and not differentiate."""
    new = Primitive(name)
    new.def_impl(function)
    new.def_abstract_eval(
        lambda *avals, **_: avals[0] if shape is None else avals[0].update(shape=shape)
    )
    mlir.register_lowering(new, mlir.lower_fun(function, multiple_results=False))
    return new


@pytest.fixture(autouse=True)
def rules_put_back():
    with rules.kept():
        yield


cube = primitive("cube", lambda x: x * x * x)
blend = primitive("blend", lambda x, w: (1 - w) * x + w * x * x)


def test_an_elementwise_rule():
    rules.define(cube, elementwise=lambda y, x: 3 * x * x)
    rules.check(cube, X)
    block = blockjac.block_jacobian(lambda x: cube.bind(x))(X)
    assert block.stored == 3
    assert blockjac.grad(lambda x: jnp.sum(cube.bind(x)))(X).tolist() == [0.75, 3.0, 12.0]


def test_an_elementwise_rule_of_several_operands():
    rules.define(blend, elementwise=(lambda y, x, w: 1 - w + 2 * w * x, lambda y, x, w: x * x - x))
    rules.check(blend, X, X[::-1])


def test_a_replaced_rule_counts_at_once():
    rules.define(cube, elementwise=lambda y, x: 3 * x * x)
    assert blockjac.grad(lambda x: cube.bind(x))(2.0) == 12
    rules.define(cube, elementwise=lambda y, x: 7.0)
    assert blockjac.grad(lambda x: cube.bind(x))(2.0) == 7
    rules.define(cube, zero=True)
    assert blockjac.grad(lambda x: cube.bind(x))(2.0) == 0
    rules.define(cube, elementwise=lambda y, x: 3 * x * x)
    assert blockjac.grad(lambda x: cube.bind(x))(2.0) == 12


def test_a_builtin_rule_can_be_replaced():
    rules.define("sin", elementwise=lambda y, x: 5.0)
    assert blockjac.grad(jnp.sin)(0.0) == 5


def test_a_rule_gets_the_parameters_that_it_names():
    seen = []

    def slope(out, x, *, y):
        seen.append(y)
        return y * x ** (y - 1)

    rules.define("integer_pow", elementwise=slope)
    rules.check("integer_pow", X, y=4)
    assert set(seen) == {4}
    rules.define(
        "integer_pow", elementwise=lambda out, x, **params: params["y"] * x ** (params["y"] - 1)
    )
    rules.check("integer_pow", X, y=4)


def test_a_structural_rule_as_decorator_and_with_several_results():
    both = Primitive("sum_and_difference")
    both.multiple_results = True
    both.def_impl(lambda a, b: [a + b, a - b])
    both.def_abstract_eval(lambda a, b: (a, a))
    mlir.register_lowering(both, mlir.lower_fun(lambda a, b: [a + b, a - b], multiple_results=True))

    @rules.define(both, multiple_results=True)
    def rule(outs, a, b, **_):
        one = Block.identity(a.shape, a.dtype)
        return (one, one), (one, -one)

    rules.check(both, X, X[::-1])


def test_a_rule_may_leave_an_equation_to_jax():
    rules.define("tanh", lambda out, x, **_: NotImplemented)
    rules.check(jnp.tanh, X)


# What does not fit


def test_wrong_number_of_blocks():
    rules.define(blend, lambda out, x, w: (None,))
    with pytest.raises(
        RuleError, match=r"'blend' must give a block for each operand: there are 2, but it gave 1"
    ):
        blockjac.jacobian(blend.bind)(X, X)


def test_wrong_number_of_derivatives():
    rules.define(blend, elementwise=lambda y, x, w: w)
    with pytest.raises(
        RuleError,
        match=r"'blend' must give a derivative for each operand: there are 2, but it gave 1",
    ):
        blockjac.jacobian(blend.bind)(X, X)


def test_wrong_shape():
    rules.define(cube, lambda out, x: (Block.identity((3, 1)),))
    message = r"operand 0 a block of \(3,\) with respect to \(3,\), but gave one of \(3, 1\)"
    with pytest.raises(RuleError, match=message):
        blockjac.jacobian(cube.bind)(X)


def test_no_block():
    rules.define(cube, lambda out, x: (3 * x,))
    with pytest.raises(
        RuleError, match=r"'cube' must give a Block \(or None\) for operand 0, but gave .*Tracer"
    ):
        blockjac.jacobian(cube.bind)(X)


def test_no_tuple():
    rules.define(cube, lambda out, x: Block.diag(x))
    with pytest.raises(
        RuleError, match="'cube' must give a tuple with a block for each operand, but gave Block"
    ):
        blockjac.jacobian(cube.bind)(X)


@pytest.mark.parametrize("shape", [(2,), (1, 3)])
def test_wrong_shape_of_a_derivative(shape):
    rules.define(cube, elementwise=lambda y, x: jnp.ones(shape))
    with pytest.raises(
        RuleError,
        match=rf"for operand 0 a derivative of shape \({shape[0]},.*result's shape \(3,\)",
    ):
        blockjac.jacobian(cube.bind)(X)


def test_no_derivative():
    rules.define(cube, elementwise=lambda y, x: "x")
    with pytest.raises(
        RuleError, match="an array or a number as derivative of operand 0, but gave str"
    ):
        blockjac.jacobian(cube.bind)(X)


def test_two_kinds_of_rule():
    with pytest.raises(
        RuleError, match="one of rule, elementwise and zero for 'cube', but found 2"
    ):
        rules.define(cube, zero=True, elementwise=lambda y, x: x)


def test_a_rule_for_nothing():
    with pytest.raises(RuleError, match="for a primitive, its name, or a function, but found int"):
        rules.define(3, zero=True)


# check


def test_check_finds_the_first_wrong_entry():
    rules.define("sin", elementwise=lambda y, x: jnp.where(x > 1, 0.25, jnp.cos(x)))
    message = (
        r"the Jacobian of 'sin', result 0 with respect to argument 0, differs at \[2, 2\]: "
        r"the rule gives 0.25, jax.jacfwd gives -0.416146\d*; 1 of 9 entries differ"
    )
    with pytest.raises(WrongRuleError, match=message):
        rules.check("sin", X)


def test_check_finds_a_wrong_rule_in_a_function():
    rules.define("cos", elementwise=lambda y, x: jnp.sin(x))
    with pytest.raises(WrongRuleError, match="result 1 with respect to argument 1, differs at"):
        rules.check(lambda x, y: (x, jnp.cos(y) * x), X, X)


def test_check_by_differences():
    rules.define(cube, elementwise=lambda y, x: 3 * x * x + 1e-4)
    with pytest.raises(WrongRuleError, match=r"rule gives 0.7501, differences give 0.75\d*;"):
        rules.check(cube, X)


def test_check_uses_a_reverse_rule():
    @jax.custom_vjp
    def odd(x):
        return jnp.sin(x)

    odd.defvjp(lambda x: (odd(x), x), lambda x, q: (7 * jnp.cos(x) * q,))
    rules.check(odd, X)


def test_check_in_single_precision_compares_in_double():
    rules.check("exp", X.astype(jnp.float32))


def test_check_without_rule():
    with pytest.raises(RuleError, match="there is no rule for 'cholesky' to check"):
        rules.check("cholesky", jnp.eye(2))


def test_check_of_an_unknown_name():
    with pytest.raises(RuleError, match="no primitive of the name 'nonsense' is known"):
        rules.check("nonsense", X)


def test_check_without_floats():
    with pytest.raises(RuleError, match="checking 'neg' needs a float among its arguments"):
        rules.check("neg", jnp.arange(3))


# Primitives that JAX cannot differentiate at all, or in one operand


def test_nextafter_moves_with_its_first_operand():
    assert blockjac.jacobian(jnp.nextafter, (0, 1))(1.0, 2.0) == (1.0, 0.0)


def test_zeta_in_its_second_argument():
    rules.check(lambda q: lax.zeta(jnp.full_like(q, 2.5), q), jnp.array([0.7, 2.0]))


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: lax.polygamma(x, jnp.ones_like(x)), "polygamma with respect to its order"),
        (
            lambda x: lax.betainc(x, jnp.ones_like(x), jnp.full_like(x, 0.5)),
            "betainc with respect to a",
        ),
        (
            lambda x: lax.betainc(jnp.ones_like(x), x, jnp.full_like(x, 0.5)),
            "betainc with respect to b",
        ),
    ],
)
def test_unknown_derivatives_are_no_silent_zeros(function, what):
    with pytest.raises(NoDerivativeError, match=what):
        blockjac.jacobian(function)(jnp.ones(2))


def test_scalar_bounds_of_clamp():
    x = jnp.array([-2.0, 0.3, 0.4, 5.0])
    bounds = [jnp.float64(0.0), jnp.float64(1.0)]
    found = blockjac.jacobian(lambda low, high: lax.clamp(low, x, high), (0, 1))(*bounds)
    assert found[0].tolist() == [1, 0, 0, 0]
    assert found[1].tolist() == [0, 0, 0, 1]
