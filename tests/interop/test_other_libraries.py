"""Optimizers, modules and samplers take this library's derivatives as they are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac

RNG = np.random.default_rng(0)
X, Y = jnp.asarray(RNG.normal(size=(16, 3))), jnp.asarray(RNG.normal(size=(16, 2)))


def same(found, wanted, rtol=1e-9):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=rtol, atol=1e-12), found, wanted
    )


def mean_square(outputs):
    return jnp.mean((outputs - Y) ** 2)


# optax


def losses_of(value_and_grad, optimizer, params, loss, steps=5):
    """The losses of a training loop of optax."""
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        value, gradient = value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return jax.tree.map(jnp.add, params, updates), state, value

    values = []
    for _ in range(steps):
        params, state, value = step(params, state)
        values.append(float(value))
    return values


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_optax(name):
    optax = pytest.importorskip("optax", reason="optax is not installed")
    optimizer = (getattr(optax, name, None) or optax.contrib.muon)(1e-2)
    params = {"W": jnp.asarray(RNG.normal(size=(3, 4))), "V": jnp.asarray(RNG.normal(size=(4, 2)))}

    def loss(params):
        return mean_square(jnp.tanh(X @ params["W"]) @ params["V"])

    found = losses_of(blockjac.value_and_grad, optimizer, params, loss)
    np.testing.assert_allclose(
        found, losses_of(jax.value_and_grad, optimizer, params, loss), rtol=1e-10
    )
    assert found[-1] < found[0]


@pytest.mark.slow
def test_optax_line_search():
    """L-BFGS evaluates the loss and its gradient within its own loop."""
    optax = pytest.importorskip("optax", reason="optax is not installed")

    def loss(w):
        return mean_square(jnp.tanh(X @ w))

    def path(value_and_grad):
        optimizer, w = optax.lbfgs(), jnp.zeros((3, 2))
        state = optimizer.init(w)
        for _ in range(3):
            value, gradient = value_and_grad(loss)(w)
            updates, state = optimizer.update(
                gradient, state, w, value=value, grad=gradient, value_fn=loss
            )
            w = optax.apply_updates(w, updates)
        return w

    same(path(blockjac.value_and_grad), path(jax.value_and_grad), rtol=1e-8)


# equinox


def network_of(equinox):
    return equinox.nn.MLP(3, 2, 8, 2, key=jax.random.key(0))


def test_equinox_partition():
    """A module is a tree; its arrays are differentiated and the rest is combined again."""
    equinox = pytest.importorskip("equinox", reason="equinox is not installed")
    params, static = equinox.partition(network_of(equinox), equinox.is_inexact_array)

    def loss(params):
        return mean_square(jax.vmap(equinox.combine(params, static))(X))

    same(jax.jit(blockjac.value_and_grad(loss))(params), jax.value_and_grad(loss)(params))


def test_equinox_chosen_parameters():
    """A last layer alone: its Gauss-Newton matrix is that of a linear model."""
    equinox = pytest.importorskip("equinox", reason="equinox is not installed")
    network = network_of(equinox)
    is_last = jax.tree.map(lambda _: False, network)
    is_last = equinox.tree_at(lambda tree: tree.layers[-1].weight, is_last, replace=True)
    params, static = equinox.partition(network, is_last)

    def model(params, X):
        return jax.vmap(equinox.combine(params, static))(X)

    matrix = blockjac.ggn(model, lambda Y, Q: jnp.sum((Q - Y) ** 2) / 2)(params, X, Y)
    jacobian = jax.jacrev(model)(params, X)
    (dense,) = jax.tree.leaves(jacobian)
    flat = dense.reshape(32, -1)
    np.testing.assert_allclose(matrix.dense(), flat.T @ flat, rtol=1e-9, atol=1e-12)


def test_equinox_filter_jit():
    equinox = pytest.importorskip("equinox", reason="equinox is not installed")

    @equinox.filter_jit
    def gradient(network, X):
        params, static = equinox.partition(network, equinox.is_inexact_array)
        return blockjac.grad(
            lambda params: mean_square(jax.vmap(equinox.combine(params, static))(X))
        )(params)

    network = network_of(equinox)
    wanted = equinox.filter_grad(lambda network: mean_square(jax.vmap(network)(X)))(network)
    found = gradient(network, X)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


# flax


@pytest.mark.slow
def test_flax_linen():
    linen = pytest.importorskip("flax.linen", reason="flax is not installed")
    model = linen.Sequential([linen.Dense(8), linen.LayerNorm(), jnp.tanh, linen.Dense(2)])
    params = model.init(jax.random.key(0), X)

    def loss(params):
        return mean_square(model.apply(params, X))

    same(jax.jit(blockjac.value_and_grad(loss))(params), jax.value_and_grad(loss)(params), 1e-6)
    norms = blockjac.per_example_norms(
        lambda params, X, Y: jnp.sum((model.apply(params, X) - Y) ** 2, axis=1)
    )(params, X, Y)
    assert norms.shape == (16,)


def test_flax_nnx():
    nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(3, 8, rngs=rngs)
            self.dropout = nnx.Dropout(0.0, rngs=rngs)
            self.last = nnx.Linear(8, 2, rngs=rngs)

        def __call__(self, X):
            return self.last(self.dropout(jnp.tanh(self.first(X))))

    graph, params, rest = nnx.split(Network(nnx.Rngs(0)), nnx.Param, ...)

    def loss(params):
        return mean_square(nnx.merge(graph, params, rest)(X))

    found = jax.jit(blockjac.value_and_grad(loss))(params)
    same(found, jax.value_and_grad(loss)(params), 1e-5)


# numpyro


def potential():
    """The potential of a hierarchical regression, and where it is evaluated."""
    numpyro = pytest.importorskip("numpyro", reason="numpyro is not installed")
    distributions = pytest.importorskip("numpyro.distributions")
    initialize_model = pytest.importorskip("numpyro.infer.util").initialize_model
    groups = np.arange(16) % 4

    def model(y):
        mean = numpyro.sample("mean", distributions.Normal(0.0, 1.0))
        scale = numpyro.sample("scale", distributions.HalfNormal(1.0))
        with numpyro.plate("groups", 4):
            effect = numpyro.sample("effect", distributions.Normal(mean, scale))
        numpyro.sample("y", distributions.Normal(effect[groups], 0.5), obs=y)

    found = initialize_model(jax.random.key(0), model, model_args=(Y[:, 0],))
    return found.potential_fn, found.param_info.z


@pytest.mark.slow
def test_numpyro_laplace():
    """The Hessian of a potential: effects of groups do not meet, which its structure shows."""
    energy, point = potential()
    hessian = blockjac.block_hessian(energy)(point)
    wanted = jax.hessian(energy)(point)
    for row, name in zip(hessian.rows, sorted(point), strict=True):
        for block, other in zip(row, sorted(point), strict=True):
            expected = wanted[name][other]
            np.testing.assert_allclose(block.dense(), expected, rtol=1e-9, atol=1e-12)
    assert "δ" in hessian[0, 0].structure  # of the effects of the groups
    same(blockjac.value_and_grad(energy)(point), jax.value_and_grad(energy)(point))
    flat, unravel = jax.flatten_util.ravel_pytree(point)
    dense = jax.hessian(lambda flat: energy(unravel(flat)))(flat)
    factors = blockjac.factorize(hessian)
    np.testing.assert_allclose(factors.slogdet()[1], jnp.linalg.slogdet(dense)[1], rtol=1e-9)


# blackjax


@pytest.mark.slow
def test_blackjax_with_a_mass_matrix():
    """Hamiltonian Monte Carlo whose inverse mass matrix is that of a Laplace approximation."""
    blackjax = pytest.importorskip("blackjax", reason="blackjax is not installed")
    scales = jnp.array([1.0, 0.1, 10.0])
    mean = jnp.array([1.0, -2.0, 3.0])

    def energy(x):
        return 0.5 * jnp.sum(((x - mean) / scales) ** 2) + 0.1 * (x[1] - mean[1]) ** 2

    hessian = blockjac.block_hessian(energy)(mean)
    kernel = blackjax.hmc(
        lambda x: -energy(x),
        step_size=0.5,
        inverse_mass_matrix=blockjac.factorize(hessian).inverse_diagonal(),
        num_integration_steps=5,
    )

    def step(state, key):
        state, info = kernel.step(key, state)
        return state, (state.position, info.acceptance_rate)

    keys = jax.random.split(jax.random.key(0), 2000)
    _, (positions, rates) = jax.lax.scan(step, kernel.init(jnp.zeros(3)), keys)
    np.testing.assert_allclose(positions[200:].mean(0), mean, atol=0.3 * scales.max() / 3)
    assert rates.mean() > 0.8


def test_blackjax_with_this_gradient():
    """A density with a rule that gives this library's gradient, in a kernel of Langevin's."""
    blackjax = pytest.importorskip("blackjax", reason="blackjax is not installed")

    def density(x):
        return -jnp.sum(jnp.cosh(x[1:] - x[:-1])) - jnp.sum(x**2)

    @jax.custom_vjp
    def ours(x):
        return density(x)

    ours.defvjp(blockjac.value_and_grad(density), lambda gradient, ct: (ct * gradient,))

    def path(density):
        kernel = blackjax.mala(density, 0.1)
        state = kernel.init(jnp.linspace(-1.0, 1.0, 5))
        for key in jax.random.split(jax.random.key(1), 5):
            state, _ = jax.jit(kernel.step)(key, state)
        return state.position

    np.testing.assert_allclose(path(ours), path(density), rtol=1e-10)


# A Jacobian that is used again and again


def test_linearized_once_and_applied_often():
    """What `jax.linearize` is for: the block is the Jacobian at a point, for both directions."""

    def fun(x):
        return jnp.sin(x[1:]) * x[:-1] ** 2

    x = jnp.linspace(0.1, 1.0, 8)
    block = jax.jit(blockjac.block_jacobian(fun))(x)
    value, pushed = jax.linearize(fun, x)
    _, pulled = jax.vjp(fun, x)
    apply = jax.jit(lambda block, v: block.matvec(v))
    for key in jax.random.split(jax.random.key(0), 3):
        v, q = jax.random.normal(key, 8), jax.random.normal(key, 7)
        np.testing.assert_allclose(apply(block, v), pushed(v), rtol=1e-12)
        np.testing.assert_allclose(block.vecmat(q), pulled(q)[0], rtol=1e-12)
    assert value.shape == block.out_shape
