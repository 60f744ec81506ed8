"""Hessians by symmetric elimination, beside those of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.laplacian_programs import PROGRAMS, W1, W2, V, array
from support.random_functions import random_function
from support.sampling import sampled

from blockjac.base.promises import keeping_structure
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.linearize import linearize_to_results
from blockjac.engine.run import structured
from blockjac.graph.trace import trace
from blockjac.second_order.symmetric import NotSymmetricError, SymmetricHessian

pytestmark = pytest.mark.slow

NOT_WRITTEN_DOWN = {
    "determinant of orbitals",
    "several determinants",
    "softplus",
    "sinc",
    "a rule that is no derivative",
    "a rule of two results",
    "backwards only",
    "scan",
    "fori",
    "a loop forwards only",
    "cond",
    "convolved",
    "cholesky",
    "solve",
    "eigenvalues",
    "complex slogdet",
}
"""Programs with operators, or with rules whose second derivatives need not be symmetric."""

NUMBERS = {
    name: (fun, jnp.asarray(x))
    for name, (fun, x) in PROGRAMS.items()
    for value in [jax.eval_shape(fun, x)]
    if value.shape == () and not jnp.issubdtype(value.dtype, jnp.complexfloating)
}


def rows_of(fun, *arguments, dense=True, unasked=frozenset()):
    """The answer of the computation, for a function of some arrays."""

    def rows(*arguments):
        graph = structured(
            trace(lambda *parts: [fun(*parts)], arguments, range(len(arguments)), second=True)
        )
        computation = SymmetricHessian(graph.independents, dense, unasked)
        return computation(graph, arguments, graph.captured, ())[1]

    return jax.jit(rows)(*arguments)


def same(found, wanted, rtol=1e-9):
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    single = found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-5 if single else rtol, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in NUMBERS if name not in NOT_WRITTEN_DOWN])
def test_programs(name):
    fun, x = NUMBERS[name]
    wanted = jax.jit(jax.hessian(fun))(x)
    ((found,),) = rows_of(fun, x)
    same(found, wanted)
    ((block,),) = rows_of(fun, x, dense=False)
    same(block.dense(), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NOT_WRITTEN_DOWN))
def test_what_is_not_written_down_is_refused(name):
    fun, x = NUMBERS[name]
    with pytest.raises(NotSymmetricError):
        rows_of(fun, x)


@pytest.mark.parametrize("seed", sampled(range(60), 6))
def test_random_programs(seed):
    fun, x = random_function(seed)
    total = lambda x: jnp.sum(fun(x) ** 2)  # noqa: E731
    try:
        ((found,),) = rows_of(total, x)
    except NotSymmetricError:
        return
    same(found, jax.jit(jax.hessian(total))(x), 1e-8)


def form(x, y, z):
    """Each pair of arguments meets once, and one of them itself."""
    q, k = jnp.tanh(x @ W1), jnp.sin(y @ W1)
    return q @ W2 @ k * jnp.sum(z**3) + q @ q + jnp.sum(x * x)


POINT = V, V[::-1] + 1, array(2, 3)


def test_several_inputs():
    rows = rows_of(form, *POINT)
    wanted = jax.hessian(form, (0, 1, 2))(*POINT)
    for row, own in zip(rows, wanted, strict=True):
        for found, block in zip(row, own, strict=True):
            same(found, block)
    upper = rows_of(form, *POINT, dense=False)
    assert [len(row) for row in upper] == [3, 2, 1]
    for number, row in enumerate(upper):
        for found, block in zip(row, wanted[number][number:], strict=True):
            same(found.dense(), block)


def test_pairs_that_are_not_asked_for_are_zero():
    unasked = frozenset({(0, 1), (1, 0), (1, 2), (2, 1)})
    rows = rows_of(form, *POINT, dense=False, unasked=unasked)
    assert [[block.is_zero for block in row] for row in rows] == [
        [False, True, False],
        [False, True],
        [False],
    ]


def test_an_operand_that_is_given_twice():
    for fun in (
        lambda x: x @ x,
        lambda x: jnp.sum(x * x * jnp.sin(x)),
        lambda x: x @ W2[:5, :5] @ x,
    ):
        ((found,),) = rows_of(fun, V)
        same(found, jax.hessian(fun)(V))


def multiplications(fun, *arguments):
    """Those of the blocks, with one product where two mirror each other."""
    from blockjac.algebra.backend import planning

    graph = structured(
        trace(lambda *parts: [fun(*parts)], arguments, range(len(arguments)), second=True)
    )
    with keeping_structure(True), planning() as cost:
        SymmetricHessian(graph.independents, True).blocks(graph, arguments, graph.captured)
    return cost.multiplications


N, H = 40, 60
INTO, OUT = array(N, H), array(H, H)


def test_one_of_two_mirrored_products_is_made():
    """Of `q(x)' A k(x)` the product `J_q' A J_k` comes once, and is transposed."""
    half = multiplications(lambda x: (x @ INTO) @ OUT @ jnp.tanh(x @ INTO), array(N))
    assert half <= 2.2 * N * H * H + 3.2 * N * N * H + 20 * N * H


def test_a_layer_is_pushed_once_and_multiplied_once():
    fun = lambda x: jnp.sum(jnp.tanh(jnp.tanh(x @ INTO) @ OUT))  # noqa: E731
    assert multiplications(fun, array(N)) <= 1.1 * (N * H * H + 2 * N * N * H) + 20 * N * H


def test_the_function_is_left_as_it_is():
    graph = trace(lambda x: [form(x, *POINT[1:])], POINT[:1], (0,), second=True)
    linear = linearize_to_results(ActiveGraph.of(graph, graph.outputs), POINT[:1], graph.captured)
    before = {tail: dict(heads) for tail, heads in linear.edges.leaving.items()}
    SymmetricHessian(graph.independents, True).blocks(graph, POINT[:1], graph.captured)
    assert {tail: dict(heads) for tail, heads in linear.edges.leaving.items()} == before
