"""Which way a Hessian takes: one answer by both, and the one that is predicted to be faster."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import Block
from blockjac.transforms import symmetric_way

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(8)


def array(*shape):
    return jnp.asarray(RNG.normal(size=shape))


WIDE = [array(6, 64) / 3, array(64, 64) / 8, array(64, 64) / 8, array(64) / 8]
X, Y = array(100, 30), jnp.sign(array(100))


def network(x, layers=WIDE):
    for W in layers[:-1]:
        x = jnp.tanh(x @ W)
    return x @ layers[-1]


def likelihood(w):
    return jnp.mean(jnp.log1p(jnp.exp(-Y * (X @ w))))


def two(x, y):
    return network(x) * jnp.sum(y**3) + jnp.sin(x[:3]) @ y


def loop(x):
    return network(jax.lax.fori_loop(0, 3, lambda _, v: jnp.sin(v) * x, x))


@pytest.fixture(params=["symmetric", "by the gradient"])
def way(request, monkeypatch):
    """Makes one way look cheaper than the other."""
    symmetric_way._ways.clear()
    margin = math.inf if request.param == "symmetric" else -1.0
    monkeypatch.setattr(symmetric_way, "MARGIN", margin)
    yield request.param
    symmetric_way._ways.clear()


@pytest.fixture
def asked(monkeypatch):
    """What is asked for, by the names of computations."""
    symmetric_way._ways.clear()
    found = []
    own = symmetric_way.SymmetricHessian.__call__

    def noted(self, *args):
        found.append(self)
        return own(self, *args)

    monkeypatch.setattr(symmetric_way.SymmetricHessian, "__call__", noted)
    yield found
    symmetric_way._ways.clear()


def same(found, wanted, rtol=1e-9):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (own.shape, own.dtype, own.weak_type) == (other.shape, other.dtype, other.weak_type)
        np.testing.assert_allclose(own, other, rtol=rtol, atol=1e-10)


CASES = {
    "one input": (network, 0, (array(6),)),
    "two inputs": (two, (0, 1), (array(6), array(3))),
    "their order": (two, (1, 0), (array(6), array(3))),
    "the second": (two, 1, (array(6), array(3))),
    "a tree": (lambda p: two(p["x"], p["y"]), 0, ({"x": array(6), "y": array(3)},)),
    "several results": (lambda x: {"a": network(x), "b": x**2}, 0, (array(6),)),
    "a list": (lambda x: [network(x)], 0, (array(6),)),
    "a vector": (lambda x: jnp.tanh(x @ WIDE[0]), 0, (array(6),)),
    "a Python float": (lambda x: jnp.sin(x) * x, 0, (2.0,)),
    "float32": (lambda x: jnp.sum(jnp.sin(x) * x[0]), 0, (jnp.ones(3, jnp.float32),)),
    "linear": (lambda x: jnp.sum(3 * x), 0, (array(3),)),
    "a loop": (loop, 0, (array(6),)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_both_ways_give_the_same(name, way):
    function, argnums, arguments = CASES[name]
    wanted = jax.hessian(function, argnums)(*arguments)
    rtol = 1e-5 if name == "float32" else 1e-9
    same(blockjac.hessian(function, argnums)(*arguments), wanted, rtol)
    same(jax.jit(blockjac.hessian(function, argnums))(*arguments), wanted, rtol)
    value = jax.eval_shape(function, *arguments)
    if not isinstance(value, jax.ShapeDtypeStruct) or value.shape:
        return
    tree = blockjac.block_hessian(function, argnums)(*arguments).tree()
    found = jax.tree.map(Block.dense, tree, is_leaf=lambda leaf: isinstance(leaf, Block))
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(own, other, rtol=rtol, atol=1e-10)


def test_aux_pairs_batches_and_gradients(way):
    fun = lambda x, y: (two(x, y), {"x": x, "name": "two"})  # noqa: E731
    x, y = array(6), array(3)
    hessian, aux = blockjac.hessian(fun, has_aux=True)(x, y)
    same(hessian, jax.hessian(two)(x, y))
    assert aux["name"] == "two"
    np.testing.assert_array_equal(aux["x"], x)
    matrix, aux = blockjac.block_hessian(fun, (0, 1), has_aux=True, pairs="diagonal")(x, y)
    assert matrix[0, 1].is_zero
    np.testing.assert_allclose(matrix[1, 1].dense(), jax.hessian(two, 1)(x, y), rtol=1e-9)
    several = jnp.stack([x, 2 * x])
    same(
        jax.vmap(blockjac.hessian(two), (0, None))(several, y),
        jax.vmap(jax.hessian(two), (0, None))(several, y),
    )
    found = jax.grad(lambda y: jnp.sum(blockjac.hessian(two)(x, y) ** 2))(y)
    same(found, jax.grad(lambda y: jnp.sum(jax.hessian(two)(x, y) ** 2))(y))


@pytest.mark.parametrize("place", [7, -9, 1])
def test_places_off_the_array(place, way):
    """A row of the Hessian is a cotangent, which falls off; a column is a tangent."""

    def fun(x, place):
        return network(x) * jnp.sum(x[place + jnp.arange(2)]) + jnp.sum(x**3)

    x = array(6)
    same(blockjac.hessian(fun)(x, place), jax.hessian(fun)(x, place))
    same(blockjac.hessian(fun)(x, jnp.asarray(place)), jax.hessian(fun)(x, jnp.asarray(place)))


# Which one


@pytest.mark.parametrize("transform", [blockjac.hessian, blockjac.block_hessian])
def test_a_network_of_few_inputs_is_eliminated_symmetrically(transform, asked):
    jax.jit(transform(network)).lower(array(6))
    assert len(asked) == 1


def test_points_of_a_batch_too(asked):
    jax.jit(jax.vmap(blockjac.hessian(network))).lower(array(50, 6))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("fun", "point"),
    [
        (likelihood, array(30)),
        (lambda W: network(array(6), [W, *WIDE[1:]]), WIDE[0]),
        (loop, array(6)),
    ],
    ids=["likelihood", "parameters", "loop"],
)
def test_elsewhere_it_is_by_the_gradient(fun, point, asked):
    jax.jit(blockjac.hessian(fun)).lower(point)
    assert not asked


@pytest.mark.parametrize(
    "options", [{"order": "reverse"}, {"chunk_size": 2}, {"max_bytes": 10**8}], ids=str
)
def test_who_asks_for_more_gets_the_gradient(options, asked):
    jax.jit(blockjac.hessian(network, **options)).lower(array(6))
    assert not asked


def test_less_is_multiplied():
    x = array(6)
    ours = jax.jit(blockjac.hessian(network)).lower(x).compile().cost_analysis()["flops"]
    usual = jax.jit(blockjac.hessian(network, order="reverse")).lower(x).compile()
    assert ours <= 0.75 * usual.cost_analysis()["flops"]


def test_a_function_is_traced_beside_its_gradient_once():
    runs = []

    def fun(w):
        runs.append(w)
        return likelihood(w)

    symmetric_way._ways.clear()
    hessian = blockjac.hessian(fun)
    counts = []
    for _ in range(3):
        hessian(array(30))
        counts.append(len(runs))
    assert counts == [2, 3, 4]
