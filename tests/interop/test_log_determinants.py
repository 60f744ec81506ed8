"""Logarithms of determinants of maps, beside `slogdet` of the dense Jacobian and beside flows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import interop
from blockjac.errors import ArgumentError, BlockShapeError, ExamplesMeetError, StructureLostError

RNG = np.random.default_rng(0)
SIZE = 6
HALF = SIZE // 2


def array(*shape):
    return jnp.asarray(0.4 * RNG.normal(size=shape))


x, X = array(SIZE), array(4, SIZE)
PARAMS = {
    "W": array(HALF, 8),
    "V": array(8, SIZE),
    "A": array(SIZE, SIZE) + jnp.eye(SIZE),
    "B": array(SIZE, SIZE),
    "u": array(SIZE),
    "w": array(SIZE),
    "spline": array(HALF, 15),
}
BELOW = np.tril(np.ones((SIZE, SIZE)), -1)
ORDER = np.array([3, 0, 5, 1, 4, 2])


def coupling(params, x):
    """A layer of RealNVP."""
    a, b = jnp.split(x, 2)
    scale, shift = jnp.split(jnp.tanh(a @ params["W"]) @ params["V"], 2)
    return jnp.concatenate([a, b * jnp.exp(scale) + shift])


def masked_coupling(params, x):
    """The same with a mask, as in the paper."""
    mask = jnp.arange(SIZE) % 2
    hidden = jnp.tanh(params["B"] @ (x * mask))
    return x * mask + (1 - mask) * (x * jnp.exp(hidden) + jnp.cos(hidden))


def autoregressive(params, x):
    """A layer of a masked autoregressive flow."""
    hidden = jnp.tanh((params["A"] * (BELOW + np.eye(SIZE))) @ x)
    return x * jnp.exp((params["B"] * BELOW) @ hidden) + (params["A"] * BELOW) @ hidden


def spline(params, x):
    """A coupling layer of rational quadratic splines, after Durkan et al., 2019."""
    a, b = jnp.split(x, 2)
    raw = params["spline"] + jnp.sin(a)[:, None]
    widths, heights = (jax.nn.softmax(part) for part in (raw[:, :5], raw[:, 5:10]))
    xs, ys = (jnp.pad(jnp.cumsum(part, 1), ((0, 0), (1, 0))) * 8 - 4 for part in (widths, heights))
    slopes = jnp.pad(jax.nn.softplus(raw[:, 10:14]), ((0, 0), (1, 1)), constant_values=1.0)

    def one(x, xs, ys, slopes):
        k = jnp.clip(jnp.searchsorted(xs, x) - 1, 0, 4)
        width, height = xs[k + 1] - xs[k], ys[k + 1] - ys[k]
        t, mean = (x - xs[k]) / width, height / width
        above = height * (mean * t**2 + slopes[k] * t * (1 - t))
        below = mean + (slopes[k + 1] + slopes[k] - 2 * mean) * t * (1 - t)
        return ys[k] + above / below

    return jnp.concatenate([a, jax.vmap(one)(b, xs, ys, slopes)])


def planar(params, x):
    return x + params["u"] * jnp.tanh(params["w"] @ x + 0.1)


def sylvester(params, x):
    return x + params["A"][:, :2] @ jnp.tanh(params["B"][:2] @ x)


def radial(params, x):
    return x + 0.5 * (x - params["u"]) / (1.0 + jnp.linalg.norm(x - params["u"]))


def triangular_factors(params, x):
    """A linear layer by its LU factors, as in Glow."""
    lower = params["A"] * BELOW + np.eye(SIZE)
    return lower @ (jnp.triu(params["A"]) @ x[ORDER])


def pixels(params, x):
    """A dense 1x1 convolution."""
    return (x.reshape(2, 3) @ params["A"][:3, :3]).ravel()


def residual(params, x):
    return x + 0.3 * params["A"] @ jnp.tanh(params["B"] @ x)


def leapfrog(params, x):
    """A step of Hamiltonian dynamics, of which the determinant is 1."""
    q, p = x[:HALF], x[HALF:]
    force = jax.grad(lambda q: jnp.sum(jnp.sin(params["A"][:HALF, :HALF] @ q)))
    p = p - 0.1 * force(q)
    q = q + 0.2 * p
    return jnp.concatenate([q, p - 0.1 * force(q)])


def layers(params, x):
    """All after each other, in a Python loop and in a scan."""
    for layer in (coupling, planar, autoregressive, spline):
        x = layer(params, x)[ORDER]

    def step(x, scale):
        x = coupling(params, x * jnp.exp(scale))[::-1]
        return x, jnp.sum(x)

    return jax.lax.scan(step, x, jnp.linspace(0.0, 0.3, 3))[0]


def activations(params, x):
    return jax.nn.softplus(jnp.sinh(x)) * jnp.arange(1.0, SIZE + 1)


MAPS = {
    activations: "diagonal of 6",
    coupling: "diagonal of 3",
    masked_coupling: "triangular of 6",
    autoregressive: "triangular of 6",
    spline: "diagonal of 3",
    planar: "diagonal of 6 plus rank 1",
    sylvester: "diagonal of 6 plus rank 2",
    radial: "diagonal of 6 plus rank 1",
    triangular_factors: "triangular of 6",
    pixels: "2 systems with one matrix: dense LU of 3",
    leapfrog: "volume preserved",
    residual: "dense LU of 6",
    layers: "3 times diagonal of 3",
}


def by_dense(fun):
    def call(params, x):
        return jnp.linalg.slogdet(jax.jacfwd(lambda x: fun(params, x))(x))[1]

    return call


@pytest.mark.parametrize("fun", MAPS, ids=lambda fun: fun.__name__)
def test_value_determinant_and_method(fun):
    transform = interop.log_abs_det_jacobian(fun, 1)
    value, logarithm = jax.jit(transform)(PARAMS, x)
    np.testing.assert_allclose(value, fun(PARAMS, x), rtol=1e-12)
    np.testing.assert_allclose(logarithm, by_dense(fun)(PARAMS, x), rtol=1e-10, atol=1e-12)
    assert MAPS[fun] in transform.method(PARAMS, jax.ShapeDtypeStruct(x.shape, x.dtype))
    if fun not in (residual, pixels):
        assert "dense" not in transform.method(PARAMS, x)


@pytest.mark.slow
@pytest.mark.parametrize("fun", MAPS, ids=lambda fun: fun.__name__)
def test_gradients_for_training(fun):
    """By the parameters and by x, of values and determinants of a batch."""

    def loss(logarithm_of):
        def call(params, X):
            return jnp.mean(jax.vmap(lambda x: logarithm_of(params, x))(X))

        return jax.jit(jax.grad(call, (0, 1)))(PARAMS, X)

    transform = interop.log_abs_det_jacobian(fun, 1)
    found, wanted = loss(lambda params, x: transform(params, x)[1]), loss(by_dense(fun))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


def test_what_passes_a_coupling_layer_is_not_differentiated():
    """The network takes no part: its value may even have no derivative."""

    @jax.custom_vjp
    def network(a):
        return jnp.tanh(a)

    def refused(*_):
        raise AssertionError("the network is differentiated")

    network.defvjp(refused, refused)

    def fun(x):
        a, b = x[:HALF], x[HALF:]
        return jnp.concatenate([b * jnp.exp(network(a)), a])

    value, logarithm = interop.log_abs_det_jacobian(fun)(x)
    np.testing.assert_allclose(logarithm, jnp.sum(jnp.tanh(x[:HALF])), rtol=1e-12)
    np.testing.assert_allclose(value, fun(x), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("fun", [coupling, planar, autoregressive])
def test_batches(fun):
    def batch(params, X):
        return jax.vmap(fun, (None, 0))(params, X)

    wanted = jax.vmap(by_dense(fun), (None, 0))(PARAMS, X)
    value, logarithms = interop.log_abs_det_jacobian(batch, 1, batch_axes=1)(PARAMS, X)
    np.testing.assert_allclose(logarithms, wanted, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(value, batch(PARAMS, X), rtol=1e-12)
    _, total = interop.log_abs_det_jacobian(batch, 1)(PARAMS, X)
    np.testing.assert_allclose(total, jnp.sum(wanted), rtol=1e-10)


def test_images():
    """A 1x1 convolution of all pixels, and space put into channels."""
    image, kernel = array(4, 4, 3), array(3, 3) + jnp.eye(3)

    def fun(kernel, image):
        image = image @ kernel
        image = image.reshape(2, 2, 2, 2, 3).transpose(0, 2, 1, 3, 4).reshape(2, 2, 12)
        return jnp.tanh(image)

    transform = interop.log_abs_det_jacobian(fun, 1)
    _, logarithm = transform(kernel, image)
    jacobian = jax.jacfwd(fun, 1)(kernel, image).reshape(48, 48)
    np.testing.assert_allclose(logarithm, jnp.linalg.slogdet(jacobian)[1], rtol=1e-10)
    assert "16 systems with one matrix: dense LU of 3, at" in transform.method(kernel, image)
    interop.log_abs_det_jacobian(fun, 1, require_structure=True)(kernel, image)


def test_conditions_are_examples_too():
    """Of a conditional flow; parameters whose first axis happens to fit are of all examples."""

    def fun(params, X, conditions, *, labels):
        hidden = jnp.tanh(conditions["c"] @ params["W"] + params["table"][labels])
        scale, shift = jnp.split(hidden + params["b"], 2, axis=-1)
        return X * jnp.exp(scale) + shift

    params = {"W": array(4, 4), "table": array(4, 4), "b": array(4)}
    inputs, conditions = array(4, 2), {"c": array(4, 4)}
    labels = jnp.array([2, 0, 1, 1])
    transform = interop.log_abs_det_jacobian(fun, 1, batch_axes=1)
    value, logarithms = jax.jit(transform)(params, inputs, conditions, labels=labels)
    np.testing.assert_allclose(value, fun(params, inputs, conditions, labels=labels), rtol=1e-12)
    hidden = jnp.tanh(conditions["c"] @ params["W"] + params["table"][labels]) + params["b"]
    np.testing.assert_allclose(logarithms, jnp.sum(hidden[:, :2], axis=1), rtol=1e-12)


def test_trees():
    """Positions and momenta as separate arguments."""

    def fun(q, p):
        p = p - jnp.sin(q)
        return {"q": q + 2.0 * p, "p": 3.0 * p}

    value, logarithm = interop.log_abs_det_jacobian(fun, (0, 1))(x[:HALF], x[HALF:])
    np.testing.assert_allclose(logarithm, HALF * np.log(3.0), rtol=1e-12)
    assert set(value) == {"q", "p"}


def test_permutations():
    order = interop.log_abs_det_jacobian(lambda x: -x[ORDER][::-1])
    assert float(order(x)[1]) == 0.0
    assert order.method(x) == "volume preserved"


def test_indices_of_the_running_program():
    def fun(indices, x):
        return (2.0 * x)[indices]

    transform = jax.jit(interop.log_abs_det_jacobian(fun, 1))
    np.testing.assert_allclose(transform(ORDER, x)[1], SIZE * np.log(2.0), rtol=1e-12)
    assert transform(np.zeros(SIZE, int), x)[1] == -jnp.inf


def test_singular_maps():
    for fun in (
        lambda x: jnp.full(SIZE, jnp.sum(x)),
        lambda x: x[np.array([0, 0, 1, 2, 3, 4])],
        lambda x: x - jnp.mean(x),
        lambda x: jnp.ones(SIZE),
    ):
        _, logarithm = interop.log_abs_det_jacobian(fun)(x)
        assert logarithm < -30


@pytest.mark.slow
def test_a_dense_determinant_is_refused_on_request():
    strict = interop.log_abs_det_jacobian(residual, 1, require_structure=True)
    with pytest.raises(StructureLostError, match=r"dense LU of 6: no structure .* 6 x 6 entries"):
        strict(PARAMS, x)
    interop.log_abs_det_jacobian(layers, 1, require_structure=True)(PARAMS, x)


def test_misuse():
    with pytest.raises(BlockShapeError, match="has no determinant: it has 5 results of 6"):
        interop.log_abs_det_jacobian(lambda x: x[1:])(x)
    with pytest.raises(ArgumentError, match="needs real floats"):
        interop.log_abs_det_jacobian(lambda x: x)(jnp.arange(3))
    with pytest.raises(ArgumentError, match="batch_axes is -1"):
        interop.log_abs_det_jacobian(lambda x: x, batch_axes=-1)
    with pytest.raises(ExamplesMeetError, match=r"examples meet, .* in 'reduce_sum'"):
        interop.log_abs_det_jacobian(lambda X: X - X.mean(0), batch_axes=1)(X)
    with pytest.raises(BlockShapeError, match="same examples in front of all arrays, on 3 axes"):
        interop.log_abs_det_jacobian(lambda X: X, batch_axes=3)(X)
    with pytest.raises(ArgumentError, match="needs real results, but '<lambda>' gives complex"):
        interop.log_abs_det_jacobian(lambda x: 1j * x)(x)
    with pytest.raises(TypeError, match="callable"):
        interop.log_abs_det_jacobian(3)


def test_its_derivative_by_this_library():
    transform = interop.log_abs_det_jacobian(coupling, 1)
    found = blockjac.grad(lambda x: transform(PARAMS, x)[1])(x)
    np.testing.assert_allclose(found, jax.grad(by_dense(coupling), 1)(PARAMS, x), rtol=1e-10)


# Flows of other libraries


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("coupling", "2 times diagonal of 3"),
        ("spline", "2 times diagonal of 3"),
        ("planar", "2 times diagonal of 6 plus rank 1"),
        ("neural", "triangular of 6"),
        ("triangular", "triangular of 6"),
        ("autoregressive", "dense"),
    ],
)
def test_flowjax(name, method):
    """Masks of layers that a scan goes over are values of its steps, so that they are not seen."""
    flows = pytest.importorskip("flowjax.flows", reason="flowjax is not installed")
    bijections = pytest.importorskip("flowjax.bijections")
    unwrap = pytest.importorskip("paramax").unwrap
    base = pytest.importorskip("flowjax.distributions").Normal(jnp.zeros(SIZE))
    own = {"base_dist": base, "invert": False}
    network = {"nn_width": 8, "nn_depth": 1, "flow_layers": 2}
    knots = bijections.RationalQuadraticSpline(knots=4, interval=4)
    key = jax.random.key(0)
    flow = {
        "coupling": lambda: flows.coupling_flow(key, **own, **network),
        "spline": lambda: flows.coupling_flow(key, **own, **network, transformer=knots),
        "planar": lambda: flows.planar_flow(key, **own, flow_layers=2),
        "neural": lambda: flows.block_neural_autoregressive_flow(key, **own, flow_layers=1),
        "triangular": lambda: flows.triangular_spline_flow(key, **own, flow_layers=1),
        "autoregressive": lambda: flows.masked_autoregressive_flow(key, **own, **network),
    }[name]()
    bijection = unwrap(flow.bijection)
    transform = interop.log_abs_det_jacobian(lambda x: bijection.transform(x))
    value, logarithm = jax.jit(transform)(x)
    expected = jax.jit(lambda x: bijection.transform_and_log_det(x))(x)
    np.testing.assert_allclose(value, expected[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(logarithm, expected[1], rtol=1e-6, atol=1e-6)
    assert method in transform.method(x)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coupling", "affine", "lower", "chain", "sigmoid"])
def test_distrax(name):
    distrax = pytest.importorskip("distrax", reason="distrax is not installed")
    lower = distrax.LowerUpperTriangularAffine(PARAMS["A"], jnp.zeros(SIZE))
    coupling = distrax.MaskedCoupling(
        mask=jnp.arange(SIZE) % 2 == 0,
        conditioner=lambda x: jnp.stack([jnp.sin(x), jnp.tanh(PARAMS["B"] @ x)], axis=-1),
        bijector=lambda params: distrax.ScalarAffine(params[..., 0], log_scale=params[..., 1]),
    )
    bijector = {
        "coupling": coupling,
        "affine": distrax.UnconstrainedAffine(PARAMS["A"], PARAMS["u"]),
        "lower": lower,
        "chain": distrax.Chain([coupling, lower, distrax.Block(distrax.Tanh(), 1)]),
        "sigmoid": distrax.Block(distrax.Sigmoid(), 1),
    }[name]
    transform = interop.log_abs_det_jacobian(lambda x: bijector.forward(x))
    value, logarithm = jax.jit(transform)(x)
    expected = bijector.forward_and_log_det(x)
    np.testing.assert_allclose(value, expected[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(logarithm, expected[1], rtol=1e-5, atol=1e-6)
