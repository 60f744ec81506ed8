import sys
import weakref
from functools import reduce
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import nn

RANDOM = np.random.default_rng(5)
X, Y = jnp.asarray(RANDOM.normal(size=(6, 4))), jnp.eye(2)[RANDOM.integers(2, size=6)]


def draw(*shape):
    return jnp.asarray(RANDOM.normal(size=shape))


def affine(x, theta):
    return nn.affine(x, theta["W"], theta["b"])


def squash(x, theta):
    return jnp.tanh(theta * x)


def plain_logistic(x, theta):
    return nn.logistic(x)


def loss(x, theta):
    return nn.softmax_cross_entropy(Y, x) + 0.1 * jnp.sum(theta**2)


def both_ways(x, theta):
    return x["left"] @ theta[0], jnp.sin(x["right"]) + theta[1]


def joined(x, theta):
    return jnp.sum(x[0] ** 2) + jnp.sum(x[1]) * theta


def gathered(x, theta):
    return theta[x]


NETWORKS = {
    "four layers": (
        [affine, squash, affine, loss],
        [{"W": draw(4, 5), "b": draw(5)}, draw(5), {"W": draw(5, 2), "b": draw(1, 2)}, draw(3)],
        X,
    ),
    "one layer": ([loss], [draw(3)], draw(6, 2)),
    "layers without parameters": (
        [plain_logistic, affine, plain_logistic, loss],
        [(), {"W": draw(4, 2), "b": draw(2)}, (), draw(2)],
        X,
    ),
    "trees between layers": (
        [lambda x, theta: {"left": x * theta, "right": x + theta}, both_ways, joined],
        [draw(4), (draw(4, 3), draw(4)), draw()],
        X,
    ),
    "whole numbers come in": (
        [gathered, affine, loss],
        [draw(7, 4), {"W": draw(4, 2), "b": draw(2)}, draw(1)],
        jnp.array([3, 1, 1, 6, 0, 2]),
    ),
}


def composed(layers, x):
    def value(params):
        y = x
        for layer, theta in zip(layers, params, strict=True):
            y = layer(y, theta)
        return y

    return value


@jax.jit
def dense(blocks):
    return jax.tree.map(
        lambda block: block.dense(), blocks, is_leaf=lambda leaf: isinstance(leaf, blockjac.Block)
    )


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("wrap", [lambda function: function, jax.jit], ids=["plain", "jit"])
def test_the_sweep_is_a_plain_gradient_step(network, wrap):
    layers, params, x = network
    gradient = jax.jit(jax.grad(composed(layers, x)))(params)
    stepped = jax.tree.map(lambda theta, change: theta - 0.3 * change, params, gradient)
    swept = wrap(lambda params: nn.sweep(layers, params, x, 0.3))(params)
    jax.tree.map(close, swept, stepped)


def test_the_wisconsin_network_as_layers():
    params = nn.initial_params(4, 5, 2, sigma=0.5)
    layers = [affine, plain_logistic, affine, lambda x, theta: nn.softmax_cross_entropy(Y, x)]
    thetas = [{"W": params.W1, "b": params.b1}, (), {"W": params.W2, "b": params.b2}, ()]
    first, _, second, _ = nn.sweep(layers, thetas, X, 1.0)
    gradient = blockjac.grad(nn.loss)(params, X, Y)
    close(first["W"], params.W1 - gradient.W1)
    close(first["b"], params.b1 - gradient.b1)
    close(second["W"], params.W2 - gradient.W2)
    close(second["b"], params.b2 - gradient.b2)


def test_parameters_keep_their_types():
    layers = [lambda x, theta: x * theta, lambda x, theta: jnp.sum(x) * theta]
    swept = nn.sweep(layers, [jnp.float32(2), jnp.float64(3)], jnp.ones(2), jnp.float64(0.1))
    assert [theta.dtype for theta in swept] == ["float32", "float64"]


def most_gradients_alive(function, params):
    """How many layers' parameter-shaped intermediate values live at one time in a jaxpr."""
    jaxpr = jax.make_jaxpr(function)(params).jaxpr
    layer_of = {theta.shape: place for place, theta in enumerate(params)}
    last_use = {}
    for place, equation in enumerate(jaxpr.eqns):
        last_use.update({id(value): place for value in equation.invars})
    results, alive, most = {id(value) for value in jaxpr.outvars}, {}, 0
    for place, equation in enumerate(jaxpr.eqns):
        for value in equation.outvars:
            if value.aval.shape in layer_of and id(value) not in results:
                alive[id(value)] = layer_of[value.aval.shape]
        most = max(most, len(set(alive.values())))
        alive = {value: layer for value, layer in alive.items() if last_use[value] > place}
    return most


def test_never_more_than_one_layer_s_gradient_is_alive():
    widths = [4, 11, 13, 17, 19]
    params = [draw(*shape) for shape in pairwise(widths)]
    layers = [lambda x, theta: jnp.tanh(x @ theta)] * 3 + [lambda x, theta: jnp.sum(x @ theta)]

    def plain_step(params):
        gradient = blockjac.grad(composed(layers, X))(params)
        return [theta - 0.1 * change for theta, change in zip(params, gradient, strict=True)]

    assert most_gradients_alive(lambda params: nn.sweep(layers, params, X, 0.1), params) == 1
    assert most_gradients_alive(plain_step, params) == len(params)


def test_a_gradient_is_gone_before_the_next_one_is_computed(monkeypatch):
    gradients, alive = [], []

    def watched(layer, *primals):
        value, pullback = blockjac.vjp(layer, *primals)

        def watched_pullback(q):
            alive.append(sum(gradient() is not None for gradient in gradients))
            answer = pullback(q)
            gradients.append(weakref.ref(answer[-1]))
            return answer

        return value, watched_pullback

    monkeypatch.setattr(sys.modules["blockjac.nn.sweep"], "vjp", watched)
    layers = [lambda x, theta: jnp.tanh(x * theta)] * 3 + [lambda x, theta: jnp.sum(x * theta)]
    nn.sweep(layers, [draw(4) for _ in layers], X, 0.1)
    assert alive == [0, 0, 0, 0]


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_product_of_the_stages_is_the_gradient(network):
    layers, params, x = network
    if not jax.tree.leaves(params[0]):
        layers, params, x = layers[1:], params[1:], layers[0](x, params[0])
    stages = nn.stage_jacobians(layers, params, x)
    product = reduce(lambda later, earlier: later @ earlier, reversed(stages))
    gradient = jax.jit(jax.grad(composed(layers, x)))(params)
    jax.tree.map(close, dense(product[0]), gradient)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)])
    close(jax.jit(lambda matrix: matrix.dense())(product), flat[None])


def test_a_stage_is_the_jacobian_of_its_map():
    layers, params, x = NETWORKS["four layers"]
    stages = nn.stage_jacobians(layers, params, x)
    x1 = layers[0](x, params[0])
    x2 = layers[1](x1, params[1])

    def second(x1, scale, W, b, penalty):
        return squash(x1, scale), W, b, penalty

    leaves = (x1, params[1], params[2]["W"], params[2]["b"], params[3])
    expected = jax.jit(jax.jacfwd(second, argnums=tuple(range(5))))(*leaves)
    assert stages[1].out_shapes == ((6, 5), (5, 2), (1, 2), (3,))
    assert stages[1].wrt_shapes == tuple(leaf.shape for leaf in leaves)
    jax.tree.map(close, dense(stages[1].rows), expected)
    assert stages[2].wrt_shapes[0] == x2.shape
    assert [len(stage.rows) for stage in stages] == [5, 4, 2, 1]


def test_waiting_parameters_store_nothing():
    layers, params, x = NETWORKS["four layers"]
    first = nn.stage_jacobians(layers, params, x)[0]
    assert sum(block.stored for row in first.rows[1:] for block in row) == 0
    assert sum(block.stored for block in first.rows[0]) == X.size


def test_one_array_may_be_the_parameter_of_two_layers():
    shared = draw(4)
    layers = [lambda x, theta: x * theta] * 2 + [lambda x, theta: jnp.sum(x**2) * theta]
    params = [shared, shared, draw()]
    stages = nn.stage_jacobians(layers, params, X)
    gradient = jax.jit(jax.grad(composed(layers, X)))(params)
    product = stages[2] @ stages[1] @ stages[0]
    jax.tree.map(close, dense(product[0]), gradient)


@pytest.mark.parametrize("function", [nn.stage_jacobians, lambda *args: nn.sweep(*args, 0.1)])
def test_lists_that_do_not_belong_together_are_refused(function):
    with pytest.raises(TypeError, match="2 layers and parameters of 1; wanted as many of both"):
        function([affine, loss], [draw(3)], X)
    with pytest.raises(TypeError, match=r"0 layers and parameters of 0; .* at least one"):
        function([], [], X)


@pytest.mark.parametrize("function", [nn.stage_jacobians, lambda *args: nn.sweep(*args, 0.1)])
def test_the_last_layer_gives_one_number(function):
    with pytest.raises(TypeError, match=r"the last layer gives float64\[6, 4\]; wanted one real"):
        function([lambda x, theta: x * theta], [draw(4)], X)
    with pytest.raises(TypeError, match="the last layer gives 2 arrays; wanted one real number"):
        function([lambda x, theta: (jnp.sum(x * theta), theta)], [draw()], X)
