"""Rules of a user's own functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import rules
from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.errors import RuleError, WrongRuleError

X = jnp.array([0.5, -1.0, 2.0])


@pytest.fixture(autouse=True)
def rules_put_back():
    with rules.kept():
        yield


def delayed(x, *, steps=1):
    return jnp.concatenate([jnp.zeros(steps, x.dtype), x[: len(x) - steps]])


def delay_rule(out, x, *, steps=1):
    label = Label(len(x) - steps)
    return (
        Block(
            out.shape,
            x.shape,
            x.dtype,
            [Term((), (Index.of(label, offset=steps),), (Index.of(label),))],
        ),
    )


def affine(parameters, x):
    return {"y": x @ parameters["W"] + parameters["b"], "norm": jnp.sum(x**2)}


def affine_rule(out, parameters, x):
    k, h = Label(len(x)), Label(len(parameters["b"]))
    by_x = Term((Factor(parameters["W"], (k, h)),), (Index.of(h),), (Index.of(k),))
    by_w = Term((Factor(x, (k,)),), (Index.of(h),), (Index.of(k), Index.of(h)))
    y = out["y"].shape
    return {
        "y": (
            {
                "W": Block(y, parameters["W"].shape, x.dtype, [by_w]),
                "b": Block.identity(y, x.dtype),
            },
            Block(y, x.shape, x.dtype, [by_x]),
        ),
        "norm": (
            {"W": None, "b": None},
            Block((), x.shape, x.dtype, [Term((Factor(2 * x, (k,)),), (), (Index.of(k),))]),
        ),
    }


def soft_sign(x):
    return x / (1 + jnp.abs(x))


def close(found, wanted):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13), found, wanted
    )


def of_both_kinds():
    seen = []

    def slope(y, x):
        seen.append(1)
        return 1 / (1 + jnp.abs(x)) ** 2

    return seen, rules.define(soft_sign, elementwise=slope), rules.define(delayed, delay_rule)


@pytest.mark.slow
def test_the_function_is_what_it_was():
    _, sign, delay = of_both_kinds()
    close(sign(X), soft_sign(X))
    close(jax.jit(lambda x: delay(x, steps=2))(X), delayed(X, steps=2))
    close(jax.vmap(delay)(jnp.outer(X, X)), jax.vmap(delayed)(jnp.outer(X, X)))
    for transform in (jax.jacfwd, jax.jacrev, lambda f: jax.hessian(lambda x: jnp.sum(f(x)))):
        close(transform(sign)(X), transform(soft_sign)(X))
    assert sign.__name__ == "soft_sign"
    assert sign(2.0).shape == ()


def test_the_rule_counts_in_every_order():
    seen, sign, delay = of_both_kinds()
    rules.check(sign, X)
    rules.check(delay, X, steps=2)
    assert seen
    both = lambda x: delay(sign(x) * x) ** 2  # noqa: E731
    wanted = jax.jit(jax.jacrev(lambda x: delayed(soft_sign(x) * x) ** 2))(X)
    for order in ("auto", "greedy", "forward", "reverse"):
        close(blockjac.jacobian(both, order=order)(X), wanted)
    block = blockjac.block_jacobian(delay)(X)
    assert (block.stored, block.nnz) == (0, 2)


@pytest.mark.slow
def test_higher_orders():
    _, sign, delay = of_both_kinds()
    ours = lambda x: jnp.sum(sign(delay(x) * x) ** 2)  # noqa: E731
    theirs = lambda x: jnp.sum(soft_sign(delayed(x) * x) ** 2)  # noqa: E731
    close(blockjac.jacobian(blockjac.grad(ours))(X), jax.jit(jax.jacrev(jax.grad(theirs)))(X))
    close(
        blockjac.grad(lambda x: blockjac.grad(lambda x: blockjac.grad(ours)(x)[1])(x)[0])(X),
        jax.grad(lambda x: jax.grad(lambda x: jax.grad(theirs)(x)[1])(x)[0])(X),
    )
    close(blockjac.grad(lambda x: jnp.sum(jax.grad(ours)(x)))(X), jax.hessian(theirs)(X).sum(0))


def test_under_vmap_the_rule_is_applied_example_by_example():
    _, sign, delay = of_both_kinds()
    batch = jnp.outer(X, X)
    block = blockjac.block_jacobian(jax.vmap(delay))(batch)
    assert block.stored == 0
    close(block.dense(), jax.jit(jax.jacrev(jax.vmap(delayed)))(batch))
    block = blockjac.block_jacobian(jax.vmap(sign, in_axes=1))(batch)
    assert block.stored == 9
    close(block.dense(), jax.jit(jax.jacrev(jax.vmap(soft_sign, in_axes=1)))(batch))
    twice = jax.vmap(jax.vmap(delay))
    stack = jnp.stack([batch, batch + 1])
    close(blockjac.jacobian(twice)(stack), jax.jit(jax.jacrev(jax.vmap(jax.vmap(delayed))))(stack))
    close(jax.vmap(blockjac.jacobian(delay))(batch), jax.vmap(jax.jacrev(delayed))(batch))


def test_trees_of_arguments_and_results():
    ours = rules.define(affine, affine_rule)
    parameters = {"W": jnp.outer(X, X[:2]), "b": X[:2]}
    rules.check(ours, parameters, X)
    close(ours(parameters, X), affine(parameters, X))
    close(
        blockjac.jacobian(ours, (0, 1))(parameters, X),
        jax.jit(jax.jacrev(affine, (0, 1)))(parameters, X),
    )
    mapped = jax.vmap(ours, in_axes=(None, 0))
    batch = jnp.outer(X, X)
    close(
        blockjac.jacobian(mapped, (0, 1))(parameters, batch),
        jax.jit(jax.jacrev(jax.vmap(affine, in_axes=(None, 0)), (0, 1)))(parameters, batch),
    )
    assert blockjac.block_jacobian(mapped, 1)(parameters, batch)["y"].stored == 3 * 3 * 2


def test_other_kinds():
    flat = rules.define(jnp.round, zero=True)
    assert blockjac.grad(lambda x: flat(x) * x)(2.2) == 2
    left = rules.define(soft_sign, lambda out, x: NotImplemented)
    rules.check(left, X)
    close(blockjac.jacobian(jax.vmap(left))(X), jax.jit(jax.jacrev(soft_sign))(X))


def test_a_wrong_rule_is_found():
    wrong = rules.define(soft_sign, elementwise=lambda y, x: 1 - y**2)
    message = (
        r"the Jacobian of soft_sign, result 0 with respect to argument 0, differs at \[0, 0\]: "
        r"the rule gives 0.888888888889, jax.jacfwd gives 0.444444444444; 3 of 9 entries differ"
    )
    with pytest.raises(WrongRuleError, match=message):
        rules.check(wrong, X)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda out, x: None, "must give a tuple with a block for each argument, .* NoneType"),
        (lambda out, x: (None, None), "must give blocks in the tree of its arguments"),
        (lambda out, x: (Block.identity((3, 1)),), r"a block of \(3,\) with respect to \(3,\)"),
        (lambda out, x: (2 * x,), r"must give a Block \(or None\) for operand 0"),
        (lambda out, x: x.missing, "raised AttributeError"),
        (lambda out: (None,), "raised TypeError"),
        (
            lambda out, x: (Block.identity(x.shape, jnp.float32),),
            "a block of float64 for operand 0, but gave one of float32",
        ),
    ],
)
def test_a_rule_that_does_not_fit(rule, message):
    broken = rules.define(soft_sign, rule)
    with pytest.raises(RuleError, match=rf"'soft_sign.*{message}"):
        blockjac.jacobian(broken)(X)


@pytest.mark.parametrize(
    ("function", "argument", "message"),
    [
        (
            lambda x: jnp.concatenate([x, x]),
            X,
            r"operand 0 of shape \(3,\) does not broadcast .* \(6,\)",
        ),
        (lambda x: jnp.sum(x, keepdims=True), X, r"\(3,\) does not broadcast .* \(1,\)"),
        (lambda x: x[None] * jnp.ones((2, 1)), X, r"\(3,\) does not broadcast .* \(2, 3\)"),
        (jnp.sum, X, r"\(3,\) does not broadcast .* \(\)"),
        (lambda x: (x, x), X, "for arrays and one result"),
        (lambda tree: tree["x"], {"x": X}, "for arrays and one result"),
    ],
)
def test_a_function_that_is_not_elementwise(function, argument, message):
    broken = rules.define(function, elementwise=lambda y, x: 1.0)
    for call in (blockjac.jacobian(broken), lambda value: rules.check(broken, value)):
        with pytest.raises(RuleError, match=message):
            call(argument)


def test_arguments_that_do_not_fit():
    delay = rules.define(delayed, delay_rule)
    with pytest.raises(RuleError, match="arrays and trees of them, but found 'x'"):
        delay("x")
    with pytest.raises(RuleError, match="keyword arguments of delayed are static, but x holds"):
        delay(x=X)
    with pytest.raises(RuleError, match=r"one of rule, elementwise and zero .* but found 0"):
        rules.define(delayed)
