"""What all transforms have in common: options, old forms of them, tracing a function once."""

import inspect
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac.engine.computations import Jacobian
from blockjac.errors import FormatError, InvalidOptionError
from blockjac.transforms.shell import Transform, formerly_third

X = np.linspace(0.1, 1.0, 6)


def stencil(x):
    return x[1:] * x[:-1]


def with_aux(x):
    return stencil(x), {"first": x[0]}


def scalar(x):
    return jnp.sum(stencil(x) ** 2)


# Where options stand


PUBLIC = [
    name
    for name in blockjac.__all__
    if inspect.isfunction(getattr(blockjac, name))
    and "argnums" in inspect.signature(getattr(blockjac, name)).parameters
    and name not in {"check_grad", "check_jacobian", "exercise", "explain"}
]

AS_IN_JAX = {"holomorphic", "allow_int"}
"""Options that JAX's namesakes take by position too."""


@pytest.mark.parametrize("name", PUBLIC)
def test_options_are_taken_by_name_alone(name):
    parameters = list(inspect.signature(getattr(blockjac, name)).parameters.values())
    after = [one.name for one in parameters].index("has_aux") + 1
    for one in parameters[after:]:
        assert one.kind is one.KEYWORD_ONLY or one.name in AS_IN_JAX, one


def test_the_format_of_a_sparse_jacobian_may_still_come_third():
    wanted = jax.jacfwd(stencil)(X)
    old = blockjac.sparse_jacobian(stencil, 0, "csc")(X)
    new = blockjac.sparse_jacobian(stencil, 0, format="csc")(X)
    assert old.format == new.format == "csc"
    for matrix in (old, new):
        np.testing.assert_allclose(matrix.toarray(), wanted, rtol=1e-12)


def test_has_aux_may_still_follow_the_format():
    for made in (
        blockjac.sparse_jacobian(with_aux, 0, "coo", True),
        blockjac.sparse_jacobian(with_aux, 0, "coo", has_aux=True),
        blockjac.sparse_jacobian(with_aux, 0, True, format="coo"),
    ):
        matrix, aux = made(X)
        assert (matrix.format, float(aux["first"])) == ("coo", X[0])


@pytest.mark.parametrize("order", ["reverse", blockjac.Search(steps=5), [5, 4, 3, 2, 1]])
def test_the_order_of_a_plan_may_still_come_third(order):
    def fun(x):
        return jnp.sum(jnp.sin(x) * jnp.cos(x))

    if isinstance(order, list):
        order = list(blockjac.plan(fun, order="forward")(X).order)
    old = blockjac.plan(fun, 0, order)(X)
    new = blockjac.plan(fun, 0, order=order)(X)
    assert (old.order, old.method) == (new.order, new.method)
    assert blockjac.plan(fun, 0, new)(X).order == new.order


def test_a_plan_takes_has_aux_second():
    assert blockjac.plan(with_aux, 0, True)(X).results == ("float64[5]",)


def test_what_is_given_twice_is_refused():
    with pytest.raises(TypeError, match="multiple values for keyword argument 'format'"):
        blockjac.sparse_jacobian(stencil, 0, "csc", format="csr")
    with pytest.raises(TypeError, match="positional argument"):
        blockjac.sparse_jacobian(stencil, 0, "csc", False, "auto")


def test_the_old_form_does_not_change_what_help_shows():
    shown = inspect.signature(blockjac.sparse_jacobian)
    assert list(shown.parameters)[:4] == ["fun", "argnums", "has_aux", "format"]
    assert "csr" in inspect.getdoc(blockjac.sparse_jacobian)


@pytest.mark.parametrize("given", [np.True_, True])
def test_a_bool_is_has_aux(given):
    @formerly_third("format")
    def transform(fun, argnums=0, has_aux=False, *, format="csr"):
        return has_aux, format

    assert transform(stencil, 0, given) == (given, "csr")


# Bad options


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: blockjac.sparse_jacobian(stencil, format="bsr"), r"format must be one of 'csr', "),
        (lambda: blockjac.jacobian(stencil, order="sideways"), "order is 'sideways', but must be"),
        (lambda: blockjac.plan(stencil, order="sideways"), "order is 'sideways', but must be"),
        (lambda: blockjac.jacobian(stencil, chunk_size="some")(X), "chunk_size is 'some', but"),
        (lambda: blockjac.hessian(scalar, chunk_size=0)(X), "chunk_size is 0, but must be at"),
        (lambda: blockjac.block_hessian(scalar, pairs="some"), "pairs is 'some', but must be"),
        (lambda: blockjac.block_hessian(scalar, pairs=[(0, 1)])(X), "each between 0 and 0"),
        (lambda: blockjac.block_jacobian(stencil, require_structure="yes"), "is 'yes', but must"),
        (lambda: blockjac.fisher(scalar, scalar, kind="some"), "kind must be 'exact' or"),
        (lambda: blockjac.jacobian(stencil, argnums=3)(X), "requires at least 4 positional"),
    ],
)
def test_every_bad_option_is_an_invalid_option_and_a_value_error(make, message):
    for error in (InvalidOptionError, ValueError):
        with pytest.raises(error, match=message):
            make()


def test_a_format_that_does_not_exist_is_also_a_type_error():
    with pytest.raises(FormatError, match="'dense', but is 'bsr'") as caught:
        blockjac.sparse_jacobian(stencil, format="bsr")
    assert isinstance(caught.value, TypeError)


# Traced once


@pytest.fixture
def traces(monkeypatch):
    """The names of the transforms that trace a function, as they do."""
    from blockjac.transforms import shell

    found = []
    own = shell.traced_call

    def counted(name, *args, **kwargs):
        found.append(name)
        return own(name, *args, **kwargs)

    monkeypatch.setattr(shell, "traced_call", counted)
    return found


ONCE = {
    "jacobian": stencil,
    "value_and_jacobian": stencil,
    "block_jacobian": stencil,
    "sparse_jacobian": stencil,
    "sparse_hessian": lambda x: jnp.sum(stencil(x) ** 2),
    "grad": scalar,
    "value_and_grad": scalar,
    "hessian": scalar,
    "block_hessian": scalar,
    "jacobian_diagonal": jnp.sin,
    "divergence": jnp.sin,
    "hessian_diagonal": scalar,
    "laplacian": scalar,
    "value_grad_laplacian": scalar,
    "per_example_grad": jnp.sin,
    "per_example_norms": jnp.sin,
    "per_example_gram": jnp.sin,
    "per_example_jacobian": jnp.sin,
    "batch_jacobian": jnp.sin,
}


def test_every_transform_of_one_function_is_here():
    of_models = {
        "ggn",
        "fisher",
        "kfac",
        "ekfac",
        "plan",
    }  # of fresh closures, and of no jitted program
    of_more = {"clipped_grad"}  # it needs examples too, and has a test of its own
    assert set(PUBLIC) - of_models - of_more == set(ONCE)


@pytest.mark.parametrize("has_aux", [False, True], ids=["plain", "aux"])
@pytest.mark.parametrize("name", ONCE)
def test_a_jitted_function_is_traced_once_by_all_that_transform_it(name, has_aux, traces):
    fun = ONCE[name]
    jitted = jax.jit((lambda x: (fun(x), {"twice": 2 * x})) if has_aux else lambda x: fun(x))
    transform = getattr(blockjac, name)
    transform(jitted, has_aux=has_aux)(jnp.asarray(X))
    count = traces.count(name)
    assert count == 1
    transformed = transform(jitted, has_aux=has_aux)
    answers = [transformed(jnp.asarray(scale * X)) for scale in (1.0, 2.0)]
    assert traces.count(name) == count
    if has_aux:
        for scale, answer in zip((1.0, 2.0), answers, strict=True):
            aux = answer[0][1] if name.startswith("value") else answer[1]
            np.testing.assert_allclose(aux["twice"], 2 * scale * X, rtol=1e-15)


# A transform of one's own


@dataclass(frozen=True)
class RowSums:
    """The sums of the rows of a Jacobian times a number."""

    jacobian: Jacobian
    scale: float

    def __call__(self, graph, arguments, captured, extra):
        aux, rows = self.jacobian(graph, arguments, captured, extra)
        return aux, [self.scale * sum(jnp.sum(one, axis=-1) for one in row) for row in rows]


def row_sums(fun, argnums=0, has_aux=False, *, scale=1.0, order="auto"):
    def asked(call, order):
        blocks = Jacobian(call.count, call.smooth, order, dense=True)
        return RowSums(blocks, scale), call.value

    return Transform("row_sums", "Row sums", fun, argnums, has_aux, order)(asked)


def test_an_own_transform_needs_a_question_and_a_function():
    wanted = jax.jacfwd(stencil)(X).sum(axis=1)
    np.testing.assert_allclose(row_sums(stencil)(X), wanted, rtol=1e-12)
    sums, aux = row_sums(with_aux, has_aux=True, order="forward")(X)
    np.testing.assert_allclose(sums, wanted, rtol=1e-12)
    assert float(aux["first"]) == X[0]
    assert row_sums(stencil).__doc__.startswith("Row sums of stencil with respect to")


def test_programs_that_differ_in_an_option_are_told_apart():
    """Two transforms of one jitted function share what is compiled only if they ask the same."""
    jitted = jax.jit(stencil)
    wanted = jax.jacfwd(stencil)(X).sum(axis=1)
    for scale in (1.0, 3.0, 1.0):
        found = row_sums(jitted, scale=scale)(jnp.asarray(X))
        np.testing.assert_allclose(found, scale * wanted, rtol=1e-12)


def test_sums_of_a_laplacian_follow_the_tree_of_the_function():
    """Trees of functions that look like trees of arguments are not taken for them."""

    def fun(x, y):
        return {"a": (jnp.sum(x**2), jnp.sum(y**3)), "b": [(x[0] * y, y**2)], "c": ()}

    x, y = jnp.asarray(X[:2]), jnp.asarray(X[2:4])
    found = blockjac.laplacian(fun, (0, 1))(x, y)
    hessian = jax.hessian(fun, (0, 1))(x, y)
    wanted = jax.tree.map(
        lambda value, by: jnp.trace(by[0][0], 0, -2, -1) + jnp.trace(by[1][1], 0, -2, -1),
        fun(x, y),
        hessian,
    )
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, wanted)
