"""Bad input to the transforms: JAX's types of error, what was found, and the way out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac.errors import BlockjacError, DenseTooLargeError

V = jnp.arange(3.0)
DIFFERENTIATORS = [
    blockjac.jacobian,
    blockjac.block_jacobian,
    blockjac.grad,
    blockjac.value_and_grad,
]


@pytest.fixture(params=DIFFERENTIATORS, ids=lambda one: one.__name__)
def transform(request):
    return request.param


def total(x, *_):
    return jnp.sum(x)


def test_what_is_not_callable(transform):
    with pytest.raises(TypeError, match=r"Expected a callable value.*got 3 of type <class 'int'>"):
        transform(3)
    with pytest.raises(TypeError, match=r"Expected a callable value for blockjac.vjp"):
        blockjac.vjp(3, 1.0)
    with pytest.raises(TypeError, match=r"Expected a callable value for blockjac.jvp"):
        blockjac.jvp(None, (1.0,), (1.0,))


@pytest.mark.parametrize(("argnums", "least"), [(3, 4), ((0, 2), 3), (-3, 3)])
def test_argnums_out_of_range(transform, argnums, least):
    message = f"requires at least {least} positional arguments.*got only 2 positional arguments"
    with pytest.raises(ValueError, match=message):
        transform(total, argnums)(V, V)
    with pytest.raises(TypeError, match=message):  # JAX raises this type for some of them
        transform(total, argnums)(V, V)


@pytest.mark.parametrize("argnums", ["x", 1.0, (0, "x"), None, ("0",), V])
def test_argnums_of_a_wrong_type(transform, argnums):
    """At once, and not only when the function is called."""
    with pytest.raises(
        TypeError, match=r"argnums must be an int or a sequence of ints, but .* was.*second call"
    ):
        transform(total, argnums)


@pytest.mark.parametrize("argnums", [True, False])
def test_argnums_that_were_meant_for_another_option(transform, argnums):
    with pytest.raises(TypeError, match=rf"argnums must be an int .* but {argnums} was.*has_aux"):
        transform(total, argnums)


def params_with(leaf):
    return {"layers": [{"n": V}, {"n": V}, {"n": V}, {"n": leaf}], "w": V}


def loss(params):
    return sum(jnp.sum(jnp.real(leaf)) for leaf in jax.tree.leaves(params))


def of_examples(params, x):
    return loss(params) * x


REFUSALS = {
    "jacobian": blockjac.jacobian(loss),
    "block_jacobian": blockjac.block_jacobian(loss),
    "grad": blockjac.grad(loss),
    "value_and_grad": blockjac.value_and_grad(loss),
    "hessian": blockjac.hessian(loss),
    "block_hessian": blockjac.block_hessian(loss),
    "hessian_diagonal": blockjac.hessian_diagonal(loss),
    "sparse_jacobian": blockjac.sparse_jacobian(loss),
    "plan": blockjac.plan(loss),
    "hvp": lambda params: blockjac.hvp(loss, params, jax.tree.map(_direction, params)),
    "ggn": lambda params: blockjac.ggn(of_examples, _squares)(params, V, V),
    "fisher": lambda params: blockjac.fisher(of_examples, _squares)(params, V, V),
    "per_example_grad": lambda params: blockjac.per_example_grad(of_examples)(params, V),
}


def _squares(targets, outputs):
    return jnp.sum((targets - outputs) ** 2)


def _direction(leaf):
    return np.zeros((), jax.dtypes.float0) if isinstance(leaf, int) else leaf


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize(("leaf", "found"), [(3, "but got int64, as"), ("s", "valid JAX type, as")])
def test_an_error_names_the_transform_and_the_leaf(name, leaf, found):
    with pytest.raises(TypeError) as caught:
        REFUSALS[name](params_with(leaf))
    message = str(caught.value)
    assert f"{found} params['layers'][3]['n']" in message
    assert f"{name} requires" in message or f": {name} differentiates" in message


@pytest.mark.parametrize("name", ["block_jacobian", "block_hessian", "hvp", "ggn", "fisher"])
def test_an_error_about_complex_numbers_names_the_leaf(name):
    message = rf"{name} requires real-valued inputs.*, as params\['layers'\]\[3\]\['n'\]; "
    with pytest.raises(TypeError, match=message):
        REFUSALS[name](params_with(V * 1j))


def test_an_error_about_a_tangent_names_the_leaf():
    params = params_with(3)
    message = r"blockjac.jvp do not match.*: params\['layers'\]\[3\]\['n'\]: leaf 3 is int64\[\]"
    with pytest.raises(TypeError, match=message):
        blockjac.jvp(loss, (params,), (params,))
    with pytest.raises(TypeError, match=message.replace("jvp", "hvp")):
        blockjac.hvp(loss, params, params)


def test_leaves_of_starred_arguments_have_numbers():
    with pytest.raises(TypeError, match=r"got int64, as args\[0\]\[1\]\."):
        blockjac.grad(lambda *args: args[0][0])((V, 3))


@pytest.mark.parametrize("limit", ["1GB", -1, True, np.nan])
def test_a_limit_that_is_no_number_of_bytes(limit):
    for call in (
        lambda: blockjac.jacobian(jnp.sin, max_bytes=limit)(V),
        lambda: blockjac.hessian(total, max_bytes=limit)(V),
        lambda: blockjac.block_jacobian(jnp.sin)(V).dense(max_bytes=limit),
    ):
        with pytest.raises(ValueError, match=r"max_bytes is .*, but must be a number of bytes"):
            call()


@pytest.mark.parametrize("argnums", [(0, 0), (1, -1)])
def test_argnums_twice(transform, argnums):
    with pytest.raises(ValueError, match=r"names one of the 2 arguments twice"):
        transform(total, argnums)(V, V)


def test_no_argnums(transform):
    with pytest.raises(ValueError, match=r"argnums must name at least one argument"):
        transform(total, ())(V)


@pytest.mark.parametrize("value", [3, True, jnp.arange(3), np.array([True])], ids=repr)
def test_integer_inputs(transform, value):
    with pytest.raises(
        TypeError,
        match=r"requires real- or complex-valued inputs.*use vjp or set allow_int to True",
    ):
        transform(total)(value)


@pytest.mark.parametrize("value", ["s", object(), {"a": "s"}, lambda: 0], ids=lambda _: "value")
def test_inputs_that_are_no_arrays(transform, value):
    with pytest.raises(TypeError, match=r"of type <class '.*'> is not a valid JAX type.*argnums"):
        transform(lambda x: 1.0)(value)


def test_a_random_key_as_input():
    with pytest.raises(TypeError, match=r"requires real- or complex-valued inputs"):
        blockjac.grad(lambda key: jnp.sum(jax.random.normal(key)))(jax.random.key(0))


def test_integer_results(transform):
    with pytest.raises(TypeError, match=r"requires real-valued outputs.*but got int64.*vjp"):
        transform(lambda x: jnp.sum(x).astype(int))(V)


def test_complex_results(transform):
    if transform in (blockjac.jacobian, blockjac.block_jacobian):
        return  # as jax.jacfwd: tests/test_complex_results.py
    with pytest.raises(TypeError, match=r"real-valued outputs.*complex128.*pass holomorphic=True"):
        transform(lambda x: jnp.sum(x) * 1j)(V)


def test_holomorphic_wants_complex_numbers():
    for transform in (blockjac.jacobian, blockjac.grad):
        with pytest.raises(TypeError, match=r"requires inputs with complex dtype, but got float64"):
            transform(total, holomorphic=True)(V)
        with pytest.raises(
            TypeError, match=r"requires outputs with complex dtype, but got float64"
        ):
            transform(lambda z: jnp.sum(z.real), holomorphic=True)(V * 1j)


def test_blocks_of_complex_inputs():
    with pytest.raises(TypeError, match=r"block_jacobian requires real-valued inputs.*holomorphic"):
        blockjac.block_jacobian(jnp.abs)(V * 1j)


@pytest.mark.parametrize("value", ["s", None, object()], ids=lambda value: type(value).__name__)
def test_results_that_are_no_arrays(value):
    if value is not None:  # an empty tree to a Jacobian, as in JAX
        with pytest.raises(TypeError, match=r"the result .* is not a valid JAX type.*has_aux=True"):
            blockjac.jacobian(lambda x: value)(V)
    with pytest.raises(TypeError, match=r"not a valid JAX type|Gradient only defined for scalar"):
        blockjac.grad(lambda x: value)(V)


@pytest.mark.parametrize("transform", [blockjac.grad, blockjac.value_and_grad])
def test_gradients_of_what_is_no_scalar(transform):
    scalar_only = "Gradient only defined for scalar-output functions. Output"
    with pytest.raises(TypeError, match=scalar_only + r" had shape: \(3,\); use blockjac.jacobian"):
        transform(jnp.sin)(V)
    with pytest.raises(TypeError, match=scalar_only + r" was a tree, PyTreeDef\(\(\*, \*\)\)"):
        transform(lambda x: (jnp.sum(x), x))(V)


@pytest.mark.parametrize("answer", [1.0, (1.0, 2.0, 3.0), [1.0, 2.0]])
def test_aux_wants_a_pair(transform, answer):
    with pytest.raises(
        TypeError, match=r"expected function with aux output to return a two-element"
    ):
        transform(lambda x: answer, has_aux=True)(V)


@pytest.mark.parametrize("transform", [blockjac.jacobian, blockjac.block_jacobian])
@pytest.mark.parametrize("order", ["backward", "", None, 3])
def test_orders_that_do_not_exist(transform, order):
    with pytest.raises(ValueError, match=r"but must be one of 'auto', 'reverse', 'forward', 'gre"):
        transform(total, order=order)


# Python code that needs values

NEEDS_VALUES = {
    "branch": (lambda x: x if x[0] > 0 else -x, jax.errors.TracerBoolConversionError),
    "range": (lambda x: x * len(range(x[0].astype(int))), jax.errors.TracerIntegerConversionError),
    "float": (lambda x: x * float(x[0]), jax.errors.ConcretizationTypeError),
    "numpy": (lambda x: x * np.sum(np.asarray(x)), jax.errors.TracerArrayConversionError),
    "mask": (lambda x: x[x > 0], jax.errors.NonConcreteBooleanIndexError),
}


@pytest.mark.parametrize("name", NEEDS_VALUES)
def test_python_code_on_values(name):
    fun, error = NEEDS_VALUES[name]

    def named(state):
        return fun(state)

    with pytest.raises(error) as caught:
        blockjac.jacobian(named)(V)
    (note,) = [note for note in caught.value.__notes__ if "blockjac" in note]
    assert "blockjac.jacobian traces the function" in note
    assert "use jnp.where or jax.lax.cond" in note
    if name in ("branch", "range"):
        assert "the function named at" in str(caught.value)
        assert "the argument state" in str(caught.value)


def test_errors_of_the_function_itself_come_through():
    with pytest.raises(TypeError, match=r"shapes? .*\(3,\).*\(4,\)|dot_general|incompatible"):
        blockjac.grad(lambda x: jnp.sum(x @ jnp.ones(4)))(V)
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'y'"):
        blockjac.grad(lambda x, y: x)(1.0)
    with pytest.raises(KeyError, match=r"weights"):
        blockjac.grad(lambda p: p["weights"])({"weight": V})


# Products


def test_cotangents_that_do_not_fit():
    _, pullback = blockjac.vjp(lambda x: (jnp.sin(x), x[0]), V)
    with pytest.raises(ValueError, match=r"unexpected tree structure.*PyTreeDef\(\(\*, \*\)\)"):
        pullback(V)
    with pytest.raises(ValueError, match=r"leaf 0 is float64\[2\], but must be float64\[3\]"):
        pullback((V[:2], 1.0))
    with pytest.raises(ValueError, match=r"leaf 0 is int64\[3\], but must be float64\[3\]"):
        pullback((jnp.arange(3), 1.0))
    with pytest.raises(ValueError, match=r"leaf 1 is complex\[\], but must be float64\[\]"):
        pullback((V, 1j))


def test_tangents_that_do_not_fit():
    with pytest.raises(TypeError, match=r"must be tuples or lists; found .* and float"):
        blockjac.jvp(jnp.sin, V, 1.0)
    with pytest.raises(
        TypeError, match=r"primal and tangent arguments to blockjac.jvp must have the same tree"
    ):
        blockjac.jvp(jnp.sin, (V,), (V, V))
    with pytest.raises(ValueError, match=r"leaf 0 is float64\[3\] with a tangent float64\[2\]"):
        blockjac.jvp(jnp.sin, (V,), (V[:2],))
    with pytest.raises(
        TypeError, match=r"dtypes must be equal.*tangent int64\[3\], wanted float64"
    ):
        blockjac.jvp(jnp.sin, (V,), (jnp.arange(3),))
    with pytest.raises(TypeError, match=r"tangent dtype must be float0.*wanted float0"):
        blockjac.jvp(lambda x: x * 2, (3,), (1,))


def test_chain_rule_names_both_shapes():
    with pytest.raises(ValueError, match=r"shape \(3,\).*\(2, 4\).*\(3, 5\)"):
        blockjac.chain_rule(jnp.ones((2, 4)), jnp.ones((3, 5)), (3,))
    with pytest.raises(ValueError, match=r"shape \(3, 4\).*\(4,\)"):
        blockjac.chain_rule(jnp.ones(4), jnp.ones((3, 4)), (3, 4))


# Size


def test_a_dense_result_that_is_too_large_is_refused_before_anything_runs():
    ran = []

    def identity(x):
        jax.debug.callback(lambda: ran.append(1))
        return x * 2

    x = jnp.ones((1 << 17,))
    with pytest.raises(
        DenseTooLargeError,
        match=r"dense Jacobian of 'identity' \(float64\[131072, 131072\]\) needs 128 GiB, over the "
        r"limit of 1 GiB; blockjac.block_jacobian keeps its structure, or raise .* max_bytes=",
    ):
        blockjac.jacobian(identity, max_bytes=1 << 30)(x)
    jax.effects_barrier()
    assert not ran
    assert blockjac.block_jacobian(identity)(x).nbytes <= x.nbytes


def test_the_default_limit_is_a_share_of_the_memory():
    with pytest.raises(ValueError, match=r"needs 8 TiB, over the limit of"):
        blockjac.jacobian(jnp.sin)(jnp.ones(1 << 20))


def test_the_limit_counts_all_leaves_together():
    def fun(x):
        return {"a": x, "b": 2 * x}

    assert blockjac.jacobian(fun, max_bytes=1_000)(V)["a"].shape == (3, 3)
    with pytest.raises(DenseTooLargeError, match=r"in 2 arrays, together.* needs 144 bytes"):
        blockjac.jacobian(fun, max_bytes=143)(V)


def test_dense_has_a_limit_too():
    block = blockjac.block_jacobian(jnp.sin)(jnp.ones(1 << 10))
    with pytest.raises(DenseTooLargeError, match=r"needs 8 MiB, over the limit of 1 MiB"):
        block.dense(max_bytes=1 << 20)


def test_every_error_is_one_of_ours():
    for call in (
        lambda: blockjac.grad(jnp.sin)(V),
        lambda: blockjac.grad(total, 5)(V),
        lambda: blockjac.jacobian(jnp.sin, max_bytes=1)(V),
        lambda: blockjac.jacobian(jnp.sin, order="?"),
    ):
        with pytest.raises(BlockjacError):
            call()


def test_arrays_of_objects_and_strings(transform):
    for value in (np.array([1, 2], dtype=object), np.array(["a"])):
        with pytest.raises(TypeError, match=r"is not a valid JAX type.*argnums"):
            transform(total)(value)
    with pytest.raises(TypeError, match=r"the result .* is not a valid JAX type"):
        blockjac.jacobian(lambda x: np.array([x.ndim], dtype=object))(V)


def test_a_pullback_takes_one_cotangent():
    def pair(x):
        return x, x

    _, pullback = blockjac.vjp(pair, 1.0)
    with pytest.raises(TypeError, match=r"applied to pair was called with 2 arguments.*one tuple"):
        pullback(1.0, 1.0)
    with pytest.raises(TypeError, match=r"applied to pair was called with 0 arguments"):
        pullback()


def test_tangents_are_checked_before_anything_is_traced():
    def fun(x, y):
        raise AssertionError

    with pytest.raises(TypeError, match=r"must have the same tree structure; primals have"):
        blockjac.jvp(fun, (3.0,), (4.0, 5.0))
    with pytest.raises(TypeError, match=r"leaf 1 is float64\[3\] and its tangent float32\[3\]"):
        blockjac.jvp(fun, (V, V), (V, V.astype(jnp.float32)))


def test_chain_rule_takes_an_int_for_a_shape():
    assert blockjac.chain_rule(jnp.ones((2, 3)), jnp.ones((3, 4)), 3).shape == (2, 4)
    with pytest.raises(TypeError, match=r"a shape must be ints"):
        blockjac.chain_rule(jnp.ones((2, 3)), jnp.ones((3, 4)), 3.0)
