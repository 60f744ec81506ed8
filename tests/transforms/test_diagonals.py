"""Diagonals, divergences and Laplacians beside the dense ones of JAX, and what they cost."""

import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import blockjac
from blockjac import Search
from blockjac.errors import ArgumentError, BlockShapeError, DifferentiationTypeError, OrderError
from blockjac.planning.jaxpr_cost import operations

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(7)


def array(*shape):
    return jnp.asarray(RNG.normal(size=shape))


A, B, W1, W2, V, S = array(5, 5), array(5, 5), array(5, 7), array(7, 5), array(5), array(3, 4)
KERNEL = array(3)


def mlp(x):
    return jnp.tanh(x @ W1) @ W2


def scanned(x):
    return lax.scan(lambda c, a: (jnp.tanh(A @ c) * a, jnp.sin(c) @ V), x, jnp.sin(x))[1]


FIELDS = {
    "mlp": (mlp, V),
    "residual": (lambda x: x + mlp(x), V),
    "deep residual": (lambda x: mlp(mlp(x) + x) * x, V),
    "elementwise": (lambda x: jnp.sin(x) * x**2, S),
    "linear": (lambda x: A @ (B @ x), V),
    "identity": (lambda x: x, S),
    "constant": (lambda x: jnp.ones(5), V),
    "floor": (jnp.floor, V),
    "stopped": (lambda x: lax.stop_gradient(x) * x, V),
    "reversed": (lambda x: x[::-1] * x, V),
    "transposed": (lambda x: x.T * 2, A),
    "reshaped": (lambda x: (x.reshape(4, 3) * 2).reshape(3, 4), S),
    "gathered": (lambda x: x[jnp.array([1, 0, 0, 4, 2])] * x, V),
    "sorted": (lambda x: jnp.sort(x) * x, V),
    "maximum": (lambda x: jnp.max(x) * x, V),
    "softmax": (jax.nn.softmax, S),
    "attention": (lambda x: jax.nn.softmax(x @ x.T) @ x, S),
    "rows apart": (lambda x: jnp.tanh(x @ W1[:4]) @ W2[:, :4], S),
    "scalar": (lambda x: x**3, jnp.array(2.0)),
    "python float": (lambda x: jnp.sin(x) * x, 2.0),
    "numpy": (lambda x: jnp.cumsum(x**2), np.arange(4.0)),
    "empty": (lambda x: jnp.sin(x) @ jnp.ones((3, 3)), jnp.zeros((0, 3))),
    "axes of size 1": (lambda x: jnp.sin(x) * jnp.sum(x), array(1, 3, 1)),
    "cumulative": (lambda x: A @ jnp.cumsum(jnp.sin(x)), V),
    "convolved": (lambda x: jnp.convolve(jnp.sin(x), KERNEL, mode="same") ** 2, V),
    "scan": (scanned, V),
    "loop": (lambda x: lax.fori_loop(0, 3, lambda _, y: y + 0.1 * mlp(y), x), V),
    "cond": (lambda x: lax.cond(x[0] > 9, jnp.cos, mlp, x * 2) * x, V),
    "solve": (lambda x: jnp.linalg.solve(A + jnp.diag(9 + x**2), B @ x), V),
    "inverse": (lambda x: jnp.linalg.inv(x @ x.T + jnp.eye(5)), A),
    "fourier": (lambda x: jnp.real(jnp.fft.ifft(jnp.fft.fft(x) * jnp.arange(5))), V),
    "float32": (lambda x: jnp.sin(x) * jnp.sum(x), V.astype(jnp.float32)),
}


def dense_diagonal(fun):
    def diagonal(x):
        shape = jnp.shape(x)
        size = math.prod(shape)
        return jnp.diagonal(jax.jit(jax.jacfwd(fun))(x).reshape(size, size)).reshape(shape)

    return diagonal


def same(found, wanted, rtol=1e-10):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        rtol = 1e-5 if one.dtype == jnp.float32 else rtol
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-11)


@pytest.mark.parametrize("name", FIELDS)
def test_diagonal_and_divergence(name):
    fun, x = FIELDS[name]
    wanted = jax.jit(dense_diagonal(fun))(jnp.asarray(x))
    same(blockjac.jacobian_diagonal(fun)(x), wanted)
    same(jax.jit(blockjac.divergence(fun))(x), jnp.sum(wanted))


TRANSFORMED = ["mlp", "deep residual", "scalar", "attention", "empty", "scan", "solve", "convolved"]


@pytest.mark.parametrize("name", TRANSFORMED)
def test_batched_and_differentiated(name):
    fun, x = FIELDS[name]
    several = jnp.stack([x, 1.1 * x, -x])
    found = jax.jit(jax.vmap(blockjac.jacobian_diagonal(fun)))(several)
    same(found, jax.jit(jax.vmap(dense_diagonal(fun)))(several))

    def total(transform):
        return lambda x: jnp.sum(jnp.sin(transform(fun)(x)))

    found = jax.jit(jax.grad(total(blockjac.jacobian_diagonal)))(x)
    same(found, jax.jit(jax.grad(total(dense_diagonal)))(x), 1e-8)


ORDERS = ["reverse", "forward", "greedy", Search(steps=20)]


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("name", ["deep residual", "attention", "scan", "solve"])
def test_any_order(name, order):
    fun, x = FIELDS[name]
    found = blockjac.jacobian_diagonal(fun, order=order)(x)
    same(found, jax.jit(dense_diagonal(fun))(x), 1e-9)


@pytest.mark.parametrize("name", ["deep residual", "solve", "cumulative", "cond"])
def test_any_vertex_may_be_the_last(name):
    fun, x = FIELDS[name]
    order = blockjac.plan(fun)(x).order
    wanted = dense_diagonal(fun)(x)
    for place in range(len(order)):
        turned = (*order[place:], *order[:place])
        same(jax.jit(blockjac.jacobian_diagonal(fun, order=turned))(x), wanted, 1e-9)


def test_a_plan_is_an_order():
    plan = blockjac.plan(mlp, order="forward")(V)
    same(blockjac.jacobian_diagonal(mlp, order=plan)(V), dense_diagonal(mlp)(V))


@jax.custom_vjp
def clipping(x):
    return jnp.sin(x)


clipping.defvjp(
    lambda x: (jnp.sin(x), x), lambda x, cotangent: (jnp.clip(cotangent, -0.5, 0.5) * jnp.cos(x),)
)


def test_a_backward_rule_that_is_not_linear_sees_whole_cotangents():
    def fun(x):
        return A @ clipping(jnp.sin(B @ clipping(x)) + x)

    wanted = jnp.diagonal(jax.jit(jax.jacrev(fun))(V))
    assert not np.allclose(
        wanted, dense_diagonal(lambda x: A @ jnp.sin(jnp.sin(B @ jnp.sin(x))))(V)
    )
    same(blockjac.jacobian_diagonal(fun)(V), wanted)
    with pytest.raises(DifferentiationTypeError, match="forward-mode"):
        blockjac.jacobian_diagonal(fun, order="forward")(V)


# Trees and arguments


def test_trees():
    """Each leaf is differentiated by itself; what mixes them has no place on the diagonal."""

    def fun(state):
        q, (p, m) = state["q"], state["p"]
        return {"q": p * q**2 + m, "p": (jnp.sin(p) * q[0], m**2 * jnp.sum(p))}

    state = {"q": V, "p": (array(5), jnp.array(0.5))}
    jacobian = jax.jit(jax.jacfwd(fun))(state)
    wanted = {
        "q": jnp.diagonal(jacobian["q"]["q"]),
        "p": (jnp.diagonal(jacobian["p"][0]["p"][0]), jacobian["p"][1]["p"][1]),
    }
    same(blockjac.jacobian_diagonal(fun)(state), wanted)
    total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(wanted))
    same(blockjac.divergence(fun)(state), total)


def test_arguments_beside():
    def fun(t, x, *, scale, power=2):
        return jnp.sin(x * t) ** power * scale["s"] + A @ x

    wanted = dense_diagonal(lambda x: fun(3.0, x, scale={"s": B[0]}, power=3))(V)
    found = blockjac.jacobian_diagonal(fun, 1)(3.0, V, scale={"s": B[0]}, power=3)
    same(found, wanted)
    same(blockjac.divergence(fun, -1)(3.0, V, scale={"s": B[0]}, power=3), jnp.sum(wanted))


def test_two_arguments_are_one_tree():
    def fun(x, y):
        return x * jnp.sum(y), jnp.sin(y) * x[0]

    x, y = array(3), array(2)
    wanted = jnp.full(3, jnp.sum(y)), jnp.cos(y) * x[0]
    same(blockjac.jacobian_diagonal(fun, (0, 1))(x, y), wanted)


# Second derivatives

SCALARS = {
    "mlp": (lambda x: jnp.sum(mlp(x)), V),
    "several": (lambda x: mlp(x)[:3], V),
    "radial": (lambda x: jnp.sum(x**2) ** 2, V),
    "scalar": (lambda x: x**4, 2.0),
    "determinant": (jnp.linalg.det, A),
    "linear": (lambda x: x @ V, V),
    "constant": (lambda x: jnp.ones(()), V),
    "quadratic": (lambda x: x @ A @ x, V),
    "elementwise": (jnp.sin, S),
    "empty": (lambda x: jnp.sum(x**2), jnp.zeros(0)),
    "no result": (lambda x: x[:0] * 2, V),
    "logsumexp": (jax.nn.logsumexp, V),
    "scan": (lambda x: jnp.sum(scanned(x)), V),
    "convolved": (lambda x: jnp.sum(jnp.convolve(jnp.sin(x), KERNEL) ** 2), V),
    "float32": (lambda x: jnp.sum(jnp.sin(x)) ** 2, V.astype(jnp.float32)),
}


def dense_hessian_diagonal(fun):
    def diagonal(x):
        shape, hessian = jnp.shape(x), jax.jit(jax.hessian(fun))(x)
        out = hessian.shape[: hessian.ndim - 2 * len(shape)]
        flat = hessian.reshape(*out, math.prod(shape), math.prod(shape))
        return jnp.diagonal(flat, axis1=-2, axis2=-1).reshape(*out, *shape)

    return diagonal


def dense_laplacian(fun):
    def laplacian(x):
        diagonal = dense_hessian_diagonal(fun)(x)
        return jnp.sum(diagonal, axis=tuple(range(diagonal.ndim - jnp.ndim(x), diagonal.ndim)))

    return laplacian


@pytest.mark.parametrize("name", SCALARS)
def test_hessian_diagonal_and_laplacian(name):
    fun, x = SCALARS[name]
    point = jnp.asarray(x)
    same(blockjac.hessian_diagonal(fun)(x), jax.jit(dense_hessian_diagonal(fun))(point), 1e-9)
    same(jax.jit(blockjac.laplacian(fun))(x), jax.jit(dense_laplacian(fun))(point), 1e-9)


@pytest.mark.parametrize(
    "name", ["mlp", "several", "scalar", pytest.param("scan", marks=pytest.mark.slow)]
)
def test_laplacians_batched_and_differentiated(name):
    fun, x = SCALARS[name]
    several = jnp.stack([jnp.asarray(x), 1.1 * jnp.asarray(x)])
    found = jax.jit(jax.vmap(blockjac.laplacian(fun)))(several)
    same(found, jax.jit(jax.vmap(dense_laplacian(fun)))(several), 1e-9)

    def total(transform):
        return lambda x: jnp.sum(transform(fun)(x) ** 2)

    found = jax.jit(jax.grad(total(blockjac.laplacian)))(x)
    same(found, jax.jit(jax.grad(total(dense_laplacian)))(x), 1e-8)


def test_laplacians_over_trees():
    """Of each result, over all leaves of the argument; the diagonal has a leaf for each pair."""

    def fun(point):
        return {"u": jnp.sum(point["x"] ** 3) * point["t"] ** 2, "v": jnp.sin(point["x"])}

    x, t = V, jnp.array(0.7)
    found = blockjac.laplacian(fun)({"x": x, "t": t})
    u = jnp.sum(6 * x) * t**2 + 2 * jnp.sum(x**3)
    same(found, {"u": u, "v": -jnp.sin(x)})
    diagonals = blockjac.hessian_diagonal(fun)({"x": x, "t": t})
    assert jax.tree.map(jnp.shape, diagonals) == {
        "u": {"x": (5,), "t": ()},
        "v": {"x": (5, 5), "t": (5,)},
    }
    same(diagonals["u"], {"x": 6 * x * t**2, "t": 2 * jnp.sum(x**3)})


def test_a_heat_equation():
    """`u_t - laplacian u` of a network is differentiated by its weights, as training does."""
    params = {"W": array(3, 6), "v": array(6)}

    def u(params, t, x):
        return jnp.tanh(jnp.concatenate([t[None], x]) @ params["W"]) @ params["v"]

    def residual(laplacian):
        def loss(params, t, x):
            rate = jax.grad(u, 1)(params, t, x)
            return (rate - laplacian(params, t, x)) ** 2

        return lambda params, T, X: jnp.mean(jax.vmap(loss, (None, 0, 0))(params, T, X))

    ours = residual(blockjac.laplacian(u, 2))
    theirs = residual(lambda params, t, x: jnp.trace(jax.hessian(u, 2)(params, t, x)))
    T, X = array(4), array(4, 2)
    wanted = jax.jit(jax.grad(theirs))(params, T, X)
    same(jax.jit(jax.grad(ours))(params, T, X), wanted, 1e-9)


# What it costs

N, H = 40, 60
LEFT, RIGHT = array(N, N), array(N, N)
INTO, OUT, INNER = array(N, H), array(H, N), array(H, H)
POINT = array(N)


def products(fun, *args):
    """Multiplications of the emitted program, unused ones too."""
    return operations(jax.make_jaxpr(fun)(*args)).multiplications


def extra(transform, fun, *args):
    """Multiplications beyond those of the function itself."""
    return products(transform(fun), *args) - products(fun, *args)


@pytest.mark.parametrize("transform", [blockjac.jacobian_diagonal, blockjac.divergence])
def test_diagonal_of_a_product_costs_its_entries(transform):
    assert extra(transform, lambda x: LEFT @ (RIGHT @ x), POINT) == N**2
    assert extra(blockjac.jacobian, lambda x: LEFT @ (RIGHT @ x), POINT) == N**3


def test_diagonal_of_an_elementwise_function_costs_its_derivative():
    assert extra(blockjac.jacobian_diagonal, jnp.sin, POINT) == 0
    assert products(blockjac.jacobian_diagonal(lambda x: x**3), POINT) <= 4 * N


def test_diagonal_of_a_stencil_costs_its_entries():
    def stencil(x):
        return jnp.sin(jnp.concatenate([x[1:], x[:1]])) * x

    assert products(blockjac.jacobian_diagonal(stencil), POINT) <= 4 * N


def test_diagonal_through_an_operator_costs_its_entries():
    assert extra(blockjac.jacobian_diagonal, lambda x: LEFT @ jnp.cumsum(RIGHT @ x), POINT) == N**2


def test_divergence_of_a_network():
    """One hidden layer: an entry of each weight matrix meets one of the other, N H and no more."""
    layer = lambda x: jnp.tanh(x @ INTO) @ OUT  # noqa: E731
    bound = 2 * N * H + 4 * H
    assert extra(blockjac.divergence, layer, POINT) <= bound
    assert extra(blockjac.divergence, lambda x: x + layer(x), POINT) <= bound
    two = lambda x: jnp.tanh(jnp.tanh(x @ INTO) @ INNER) @ OUT  # noqa: E731
    assert extra(blockjac.divergence, two, POINT) <= N * H**2 + 2 * (2 * N * H + H**2)


def test_the_narrow_vertex_comes_last():
    """Two entries between two layers: one product into them, and two products an entry."""
    up, down = OUT[:2].T, array(H, 2)
    fun = lambda x: up @ jnp.tanh(jnp.tanh(x @ INTO) @ down)  # noqa: E731
    assert extra(blockjac.divergence, fun, POINT) < 2 * N * H + N * H


def test_divergence_of_a_batch_stays_in_the_batch():
    X = array(8, N)
    layer = lambda X: jnp.tanh(X @ INTO) @ OUT  # noqa: E731
    assert extra(blockjac.jacobian_diagonal, layer, X) <= 8 * (2 * N * H + 4 * H)


def test_laplacian_of_a_network():
    """`sum_h v[h] tanh''(z[h]) |W[:, h]|^2`: no Hessian of N^2 entries, each a sum of H."""
    u = lambda x: jnp.sum(jnp.tanh(x @ INTO))  # noqa: E731
    assert extra(blockjac.laplacian, u, POINT) <= 4 * N * H
    assert extra(blockjac.hessian, u, POINT) >= N**2 * H


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vectors", "scalars"])
def test_planning_a_thousand_equations_is_quick(kind):
    """About 0.8 s, of which the whole Jacobian takes 0.6: trials of a last vertex are bounded."""

    def vectors(x):
        for _ in range(250):
            x = jnp.sin(LEFT @ x) + jnp.tanh(x)
        return x

    def scalars(x):
        a, b = x[0], x[1]
        for _ in range(250):
            a, b = jnp.sin(a) * b, b + a * 0.5
        return jnp.stack([a, b])

    fun, x = (vectors, POINT) if kind == "vectors" else (scalars, POINT[:2])
    assert len(jax.make_jaxpr(fun)(x).eqns) >= 1000

    def seconds(transform):
        start = time.process_time()
        jax.make_jaxpr(transform(fun))(x)
        return time.process_time() - start

    whole = seconds(blockjac.jacobian)
    assert seconds(blockjac.jacobian_diagonal) < whole + 1.5


# Misuse


def test_shapes_must_be_those_of_the_argument():
    with pytest.raises(BlockShapeError, match=r"the shapes of .* \[\(5,\)\] .* gives \[\(3,\)\]"):
        blockjac.jacobian_diagonal(lambda x: x[:3])(V)
    with pytest.raises(BlockShapeError, match=r"divergence needs a function .* use batch_jacobian"):
        blockjac.divergence(jnp.sum)(V)
    with pytest.raises(BlockShapeError, match=r"gives \[\(5,\), \(5,\)\]"):
        blockjac.jacobian_diagonal(lambda x: (x, x))(V)


@pytest.mark.parametrize(
    "name", ["jacobian_diagonal", "divergence", "hessian_diagonal", "laplacian"]
)
def test_misuse(name):
    transform = getattr(blockjac, name)
    with pytest.raises(DifferentiationTypeError, match=f"{name} requires real- or complex-valued"):
        transform(lambda x: x)(jnp.arange(3))
    with pytest.raises(DifferentiationTypeError, match="requires real-valued"):
        transform(lambda x: x * 2)(V + 1j)
    with pytest.raises(DifferentiationTypeError, match="requires real-valued outputs"):
        transform(lambda x: jnp.arange(5))(V)
    with pytest.raises(ArgumentError, match=r"argnums=2 requires at least 3 positional"):
        transform(lambda x: x, 2)(V)
    with pytest.raises(DifferentiationTypeError, match=rf"Expected a callable value .*{name}"):
        transform(3)
    with pytest.raises(OrderError, match="order is 'sideways', but must be one of"):
        transform(lambda x: x, order="sideways")


def test_other_trees_of_the_same_shapes():
    """Leaves would pair by the order of their names: refused."""

    def flow(state):
        return {"rate of x": state["x"], "momentum": state["y"]}

    with pytest.raises(BlockShapeError, match=r"'x'.* 'y'.* gives .*'momentum'.* 'rate of x'"):
        blockjac.jacobian_diagonal(flow)({"x": V, "y": V})
