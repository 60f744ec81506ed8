"""Results beside the value that is differentiated (`has_aux`), of every transform that takes them.

What each gives without `has_aux` is tested where the transform is; here the answer with it must be
the same, and aux must be what the function returned: arrays, and anything else as it is.
"""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac.blocks import Block

RNG = np.random.default_rng(5)
X, W = RNG.normal(size=(5, 3)), RNG.normal(size=(3, 3))
Y = RNG.normal(size=(5, 3))


def outputs(X, W):
    """Every example's result depends on its own row of X."""
    return jnp.tanh(X @ W)


def losses(W, X):
    return jnp.sum(outputs(X, W) ** 2, axis=1)


def scalar(W, X):
    return jnp.sum(losses(W, X))


def square_loss(Y, Q):
    return 0.5 * jnp.sum((Q - Y) ** 2)


def model(W, X):
    return outputs(X, W)


def of_one(name, fun, arguments):
    """A transform of one function."""
    return name, lambda fun, **options: getattr(blockjac, name)(fun, **options), fun, arguments


def of_model(name):
    """A transform of a model and a loss; aux is the model's."""

    def transform(fun, **options):
        return getattr(blockjac, name)(fun, square_loss, **options)

    return name, transform, model, (W, X, Y)


def hvp(fun, **options):
    return lambda W, X: blockjac.hvp(fun, W, 2 * W, X, **options)


CASES = {
    case[0]: case[1:]
    for case in [
        of_one("jacobian", model, (W, X)),
        of_one("block_jacobian", model, (W, X)),
        of_one("sparse_jacobian", model, (W, X)),
        of_one("sparse_hessian", scalar, (W, X)),
        of_one("grad", scalar, (W, X)),
        of_one("hessian", scalar, (W, X)),
        of_one("block_hessian", scalar, (W, X)),
        of_one("jacobian_diagonal", outputs, (X, W)),
        of_one("divergence", outputs, (X, W)),
        of_one("hessian_diagonal", scalar, (W, X)),
        of_one("laplacian", model, (W, X)),
        (
            "partial_derivatives",
            partial(
                blockjac.partial_derivatives, derivatives="ab", coordinates={"a": (0, 0), "b": 1}
            ),
            lambda W, X: jnp.sin(W[..., 0]) * X,
            (W[:, :1], X[: W.shape[0], 0]),
        ),
        of_one("per_example_grad", losses, (W, X)),
        of_one("per_example_norms", losses, (W, X)),
        of_one("per_example_gram", losses, (W, X)),
        of_one("per_example_jacobian", outputs, (X, W)),
        of_one("batch_jacobian", outputs, (X, W)),
        of_one("ntk", lambda W, X: outputs(X, W), (W, X)),
        ("clipped_grad", partial(blockjac.clipped_grad, max_norm=0.5), losses, (W, X)),
        of_model("ggn"),
        of_model("fisher"),
        of_model("kfac"),
        of_model("ekfac"),
        ("hvp", hvp, scalar, (W, X)),
    ]
}

OTHERWISE = {"value_and_grad", "value_and_jacobian", "value_grad_laplacian", "vjp", "jvp", "plan"}
"""Where aux stands elsewhere in the answer, or in none; tested apart, beside JAX."""


def arrays(answer):
    """The dense arrays of an answer: of trees, Blocks, matrices."""
    if isinstance(answer, blockjac.BlockMatrix):
        return [answer.dense()]
    if hasattr(answer, "toarray"):
        return [answer.toarray()]
    leaves = jax.tree.leaves(answer, is_leaf=lambda leaf: isinstance(leaf, Block))
    return [leaf.dense() if isinstance(leaf, Block) else leaf for leaf in leaves]


def beside(fun):
    """The function, with an auxiliary result that holds arrays, numbers, texts and None."""

    def with_aux(*args):
        value = fun(*args)
        extra = {"total": jnp.sum(args[0]), "shape": args[0].shape, "numpy": np.ones(2)}
        return value, (extra, "text", None, 3, [args[1]])

    return with_aux


def without_texts(with_aux):
    """The function with an auxiliary result that `jax.jit` takes."""

    def numeric(*args):
        value, (extra, _, none, count, rest) = with_aux(*args)
        return value, (extra, none, count, rest)

    return numeric


@pytest.mark.parametrize("jitted", [False, True], ids=["plain", "under jit"])
@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_the_same_and_aux_is_what_was_returned(name, jitted):
    transform, fun, arguments = CASES[name]
    with_aux = beside(fun)
    if jitted:
        with_aux = jax.jit(without_texts(with_aux))
    wanted = transform(fun)(*arguments)
    found, aux = transform(with_aux, has_aux=True)(*arguments)
    for own, other in zip(arrays(found), arrays(wanted), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-12, atol=1e-14)
    expected = with_aux(*arguments[:2])[1]
    assert jax.tree.structure(aux) == jax.tree.structure(expected)
    for own, other in zip(jax.tree.leaves(aux), jax.tree.leaves(expected), strict=True):
        assert type(own) is type(other) or isinstance(own, jax.Array)
        assert np.array_equal(own, other)


def test_every_transform_takes_it_second():
    """A transform that gets no `has_aux` fails here, and so does one that puts it elsewhere."""
    of_matrices = {"chain_rule", "factorize", "lstsq", "solve", "star"}
    checks = {"check_grad", "check_jacobian", "exercise", "explain"}
    without = {"cache_info", "clear_caches", "step", *checks, *of_matrices}
    for name in blockjac.__all__:
        function = getattr(blockjac, name)
        if not inspect.isfunction(function) or name in without:
            continue
        parameters = list(inspect.signature(function).parameters)
        assert "has_aux" in parameters, name
        assert name in CASES or name in OTHERWISE, name
        if "argnums" in parameters:
            assert parameters.index("has_aux") == parameters.index("argnums") + 1, name


@pytest.mark.parametrize("transform", [blockjac.jacobian, blockjac.grad, blockjac.hessian])
def test_a_jitted_function_is_traced_once_with_aux_too(transform):
    runs = []

    @jax.jit
    def fun(x):
        runs.append(x)
        return jnp.sum(jnp.sin(x)), {"x": x}

    transformed = transform(fun, has_aux=True)
    transformed(jnp.ones(3))
    count = len(runs)
    for scale in (2.0, 3.0):
        _, aux = transformed(scale * jnp.ones(3))
        np.testing.assert_array_equal(aux["x"], np.full(3, scale))
    assert len(runs) == count


def test_with_a_plan_static_aux_is_kept():
    runs = []

    def fun(x):
        runs.append(x)
        return jnp.sin(x), ("text", jnp.sum(x))

    x = jnp.ones(3)
    transformed = blockjac.jacobian(fun, has_aux=True, order=blockjac.plan(fun, has_aux=True)(x))
    transformed(x)
    count = len(runs)
    _, (text, total) = transformed(2 * x)
    assert (text, float(total), len(runs)) == ("text", 6.0, count)


@pytest.mark.parametrize("name", [*CASES, "value_and_grad", "value_and_jacobian"])
def test_what_is_no_pair_is_named(name):
    transform, fun, arguments = CASES.get(name, (getattr(blockjac, name, None), scalar, (W, X)))
    with pytest.raises(TypeError, match=r"two-element tuple, \(value, aux\)"):
        transform(lambda *args: [fun(*args)], has_aux=True)(*arguments)


def test_values_and_jacobians():
    def fun(params, x):
        return {"y": jnp.sin(params["a"]) * x, "z": jnp.sum(params["b"] ** 2)}

    params = {"a": jnp.asarray(X[0]), "b": jnp.asarray(Y)}
    value, found = blockjac.value_and_jacobian(fun)(params, 2.0)
    jax.tree.map(np.testing.assert_array_equal, value, fun(params, 2.0))
    wanted = jax.jacrev(fun)(params, 2.0)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, wanted)


@pytest.mark.parametrize("chunk_size", [None, 1, 4, "auto"])
def test_values_and_jacobians_beside_aux_and_in_chunks(chunk_size):
    def fun(x):
        return jnp.cumsum(x) ** 2, {"x": x, "k": "text"}

    x = jnp.asarray(X.ravel())
    made = blockjac.value_and_jacobian(fun, has_aux=True, chunk_size=chunk_size)
    (value, aux), found = made(x)
    np.testing.assert_array_equal(value, fun(x)[0])
    np.testing.assert_array_equal(aux["x"], x)
    assert aux["k"] == "text"
    np.testing.assert_allclose(found, jax.jacfwd(lambda x: fun(x)[0])(x), rtol=1e-12)


def test_a_value_is_computed_once_with_its_jacobian():
    calls = []

    def fun(x):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sin(x)

    blockjac.value_and_jacobian(fun)(jnp.ones(2))
    jax.effects_barrier()
    assert len(calls) == 1
