"""Losses of each example of a batch: a table of kinds of networks, and random ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

RNG = np.random.default_rng(3)


def array(*shape):
    return jnp.asarray(RNG.normal(size=shape))


def whole(*shape, below):
    return jnp.asarray(RNG.integers(0, below, shape))


def same(found, wanted, rtol=1e-10):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        rtol, atol = (1e-4, 1e-5) if one.dtype == jnp.float32 else (rtol, 1e-11)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


N, T, D, H, C = 4, 3, 5, 6, 2
X, SEQUENCES, TOKENS = array(N, D), array(N, T, D), whole(N, T, below=10)
LABELS = jax.nn.one_hot(whole(N, below=C), C)
IMAGES = array(N, 6, 6, 2)


def cross_entropy(logits, labels):
    return -jnp.sum(labels * jax.nn.log_softmax(logits), axis=-1)


def network(params, x, labels):
    return cross_entropy(jnp.tanh(x @ params["W"] + params["b"]) @ params["V"], labels)


def indexed(params, x, classes):
    """The usual way to pick the probability of the right class."""
    logits = jax.nn.log_softmax(jnp.tanh(x @ params["W"]) @ params["V"])
    return -logits[jnp.arange(x.shape[0]), classes]


def taken(params, x, classes):
    logits = jax.nn.log_softmax(jnp.tanh(x @ params["W"]) @ params["V"])
    return -jnp.take_along_axis(logits, classes[:, None], axis=1)[:, 0]


def convolution(params, x):
    dimensions = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, params["K"], (2, 1), "SAME", dimension_numbers=dimensions)
    y = jax.nn.relu(y + params["b"])
    y = lax.conv_general_dilated(
        y, params["L"], (1, 1), ((1, 0), (0, 2)), (1, 1), (1, 2), dimension_numbers=dimensions
    )
    return jnp.mean(y**2, axis=(1, 2, 3)) + jnp.sum(
        lax.reduce_window(y, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"), axis=(1, 2, 3)
    )


def recurrent(params, x):
    """A gated cell: weights that are shared over time, in a loop."""

    def cell(carry, x):
        h, c = carry
        gates = jax.nn.sigmoid(x @ params["W"] + h @ params["U"] + params["b"])
        c = gates[:, :H] * c + gates[:, H:] * jnp.tanh(x @ params["Z"])
        h = jnp.tanh(c)
        return (h, c), h @ params["V"]

    start = jnp.zeros((x.shape[0], H)), jnp.zeros((x.shape[0], H))
    (h, _), ys = lax.scan(cell, start, jnp.swapaxes(x, 0, 1), reverse=True)
    return jnp.sum(h**2, axis=-1) + jnp.sum(jnp.sin(ys), axis=(0, 2))


def cast_in_the_loop(params, x):
    """What a loop makes of its weights before it uses them."""

    def cell(h, x):
        return jnp.tanh(x @ jnp.exp(params["W"]).T + jnp.einsum("nh,hk->nk", h, params["U"])), None

    start = jnp.zeros((x.shape[0], H))
    h, _ = lax.scan(cell, start, jnp.swapaxes(x, 0, 1))
    return jnp.sum(h**2, axis=-1)


def embedding_in_the_loop(params, tokens):
    def cell(h, token):
        return jnp.tanh(params["E"][token] + h @ params["U"]), None

    h, _ = lax.scan(cell, jnp.zeros((tokens.shape[0], H)), tokens.T)
    return jnp.sum(h**2, axis=-1)


def embedding(params, tokens):
    return jnp.sum(jnp.sin(params["E"][tokens] @ params["W"]) ** 2, axis=(1, 2))


def layer_norm(x, scale):
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return scale * centred * lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-3)


def transformer(params, tokens):
    h = params["E"][tokens] + params["P"]
    u = layer_norm(h, params["g"])
    q, k, v = (jnp.einsum("ntd,dhe->nthe", u, params[name]) for name in "qkv")
    scores = jnp.einsum("nthe,nshe->nhts", q, k)
    mask = jnp.tril(jnp.ones((T, T), bool))
    weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf))
    h = h + jnp.einsum("nhts,nshe,hed->ntd", weights, v, params["o"])
    h = h + jax.nn.gelu(h @ params["m"]) @ params["M"]
    logits = h.reshape(-1, D) @ params["E"].T
    return jnp.mean(cross_entropy(logits, jax.nn.one_hot(tokens.reshape(-1), 10)).reshape(-1, T), 1)


def one_by_one(params, x):
    """A loop over the examples, as `lax.map` writes it."""
    return lax.map(lambda one: jnp.sum(jnp.tanh(one @ params["W"]) ** 2), x)


def group_norm(params, x):
    groups = (x @ params["W"]).reshape(x.shape[0], 2, -1)
    centred = groups - jnp.mean(groups, axis=2, keepdims=True)
    return jnp.sum(jnp.tanh(centred.reshape(x.shape[0], -1)) @ params["V"], axis=-1)


def by_vmap(one, params, *batch):
    return jax.vmap(one, (None, *(0 for _ in batch)))(params, *batch)


def alone(params, image):
    """A convolution of one example, which `vmap` makes one of all."""
    y = lax.conv_general_dilated(
        image[None], params["K"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    chosen = jnp.sort(jnp.ravel(jnp.tanh(y)))[-5:]
    return jnp.sum(chosen**2) + jnp.linalg.norm(
        jnp.linalg.solve(jnp.eye(2) + params["A"], y[0, 0, 0, :2])
    )


# Weights in every place that an elimination treats in a way of its own


@jax.custom_vjp
def own_layer(W, h):
    return jnp.tanh(h @ W)


def _own_forwards(W, h):
    y = jnp.tanh(h @ W)
    return y, (W, h, y)


def _own_backwards(kept, cotangent):
    W, h, y = kept
    q = cotangent * (1 - y**2)
    return h.T @ q, q @ W.T


own_layer.defvjp(_own_forwards, _own_backwards)


def by_own_rule(params, x):
    return jnp.sum(own_layer(params["U"], own_layer(params["W"], x)) ** 2, axis=1)


def with_rules_of_jax(params, x):
    z = x @ params["W"]
    return jnp.sum(jax.nn.relu(z) + jax.nn.softplus(z @ params["U"]), axis=1) + jax.nn.logsumexp(
        z, axis=1
    )


def in_an_inner_loop(params, x):
    def outer(h, x):
        inner = lambda i, h: jnp.tanh(x @ params["W"] + h @ params["U"])  # noqa: E731
        return lax.fori_loop(0, 2, inner, h), None

    h, _ = lax.scan(outer, jnp.zeros((x.shape[0], H)), jnp.swapaxes(x, 0, 1))
    return jnp.sum(h**2, axis=1)


def in_two_loops(params, x):
    """The second loop reads what the first makes, and both share weights."""

    def cell(h, x):
        return jnp.tanh(x @ params["W"] + h @ params["U"]), None

    h, _ = lax.scan(cell, jnp.zeros((x.shape[0], H)), jnp.swapaxes(x, 0, 1))
    h, _ = lax.scan(cell, h, jnp.swapaxes(x, 0, 1))
    return jnp.sum(h**2, axis=1)


def in_checkpoints(params, x):
    @jax.checkpoint
    def cell(h, x):
        return jnp.tanh(x @ params["W"] + h @ params["U"]), None

    h, _ = lax.scan(cell, jnp.zeros((x.shape[0], H)), jnp.swapaxes(x, 0, 1))
    return jnp.sum(h**2, axis=1)


def in_a_branch(params, x):
    straight, bent = lambda h: h @ params["W"], lambda h: jnp.tanh(h @ params["W"])
    return jnp.sum(lax.cond(params["U"][0, 0] > 0, straight, bent, x) ** 2, axis=1)


def computed_first(params, x):
    """What all examples share is made of the weights before it meets them."""
    W = params["W"] / jnp.linalg.norm(params["W"], axis=0)
    L = jnp.linalg.cholesky(params["U"] @ params["U"].T + jnp.eye(H))
    return jnp.sum(jnp.tanh(x @ W) @ L.T, axis=1) * jnp.sum(params["U"][0])


LAYER = {"W": array(D, H), "V": array(H, C)}
SQUARE = {"W": array(D, H), "U": 0.5 * array(H, H)}

PROGRAMS = {
    "network": (network, {**LAYER, "b": array(H)}, (X, LABELS)),
    "by class": (indexed, LAYER, (X, whole(N, below=C))),
    "by class taken": (taken, LAYER, (X, whole(N, below=C))),
    "convolution": (
        convolution,
        {"K": array(3, 2, 2, 3), "b": array(3), "L": array(2, 2, 3, 4)},
        (IMAGES,),
    ),
    "recurrent": (
        recurrent,
        {
            "W": array(D, 2 * H),
            "U": array(H, 2 * H),
            "Z": array(D, H),
            "b": array(2 * H),
            "V": array(H, C),
        },
        (SEQUENCES,),
    ),
    "cast in the loop": (
        cast_in_the_loop,
        {"W": 0.3 * array(H, D), "U": array(H, H)},
        (SEQUENCES,),
    ),
    "embedding in the loop": (
        embedding_in_the_loop,
        {"E": array(10, H), "U": array(H, H)},
        (TOKENS,),
    ),
    "embedding": (embedding, {"E": array(10, D), "W": array(D, H)}, (TOKENS,)),
    "transformer": (
        transformer,
        {
            "E": array(10, D),
            "P": array(T, D),
            "g": array(D),
            **{name: array(D, 2, 3) for name in "qkv"},
            "o": array(2, 3, D),
            "m": array(D, 2 * D),
            "M": array(2 * D, D),
        },
        (TOKENS,),
    ),
    "one by one": (one_by_one, {"W": array(D, H)}, (X,)),
    "group norm": (group_norm, LAYER, (X,)),
    "of vmap": (
        functools.partial(by_vmap, alone),
        {"K": array(2, 2, 2, 3), "A": 0.1 * array(2, 2)},
        (IMAGES,),
    ),
    "by a rule of its own": (by_own_rule, SQUARE, (X,)),
    "with rules of jax": (with_rules_of_jax, SQUARE, (X,)),
    "in an inner loop": (in_an_inner_loop, SQUARE, (SEQUENCES,)),
    "in two loops": (in_two_loops, SQUARE, (SEQUENCES,)),
    "in checkpoints": (in_checkpoints, SQUARE, (SEQUENCES,)),
    "in a branch": (in_a_branch, SQUARE, (X,)),
    "computed first": (computed_first, SQUARE, (X,)),
    "scalar parameter": (lambda a, x: jnp.sum(jnp.sin(a * x), axis=1), jnp.array(0.3), (X,)),
    "not used": (lambda p, x: jnp.sum(x * p["a"], axis=1), {"a": array(D), "b": array(2)}, (X,)),
    "constant": (lambda p, x: jnp.sum(x, axis=1), array(3), (X,)),
    "one example": (network, {**LAYER, "b": array(H)}, (X[:1], LABELS[:1])),
}


# Random programs


def _dense(rng, h, params):
    width = int(rng.integers(2, 6))
    params.append(rng.normal(size=(h.shape[-1], width)))
    number = len(params) - 1
    return lambda p, h: h @ p[number]


def _bias(rng, h, params):
    params.append(rng.normal(size=h.shape[-1]))
    number = len(params) - 1
    return lambda p, h: h + p[number]


def _again(rng, h, params):
    """A square weight, used twice."""
    params.append(rng.normal(size=(h.shape[-1], h.shape[-1])))
    number = len(params) - 1
    return lambda p, h: jnp.tanh(h @ p[number]) @ p[number].T


def _loop(rng, h, params):
    width = h.shape[-1]
    params += [rng.normal(size=(width, width)), rng.normal(size=(width, width))]
    number = len(params) - 2

    def layer(p, h):
        def cell(c, x):
            c = jnp.tanh(x @ p[number] + c @ p[number + 1])
            return c, c

        return jnp.swapaxes(lax.scan(cell, 0.1 * h[:, 0], jnp.swapaxes(h, 0, 1))[1], 0, 1)

    return layer


def _filter(rng, h, params):
    width = h.shape[-1]
    params.append(rng.normal(size=(2, width, width)))
    number = len(params) - 1
    return lambda p, h: lax.conv_general_dilated(
        h, p[number], (1,), "SAME", dimension_numbers=("NTC", "TIO", "NTC")
    )


def _mix(rng, h, params):
    return lambda p, h: jax.nn.softmax(h @ jnp.swapaxes(h, 1, 2), axis=-1) @ h


def _plain(function):
    return lambda rng, h, params: lambda p, h: function(h)


LAYERS = [
    _dense,
    _bias,
    _again,
    _loop,
    _filter,
    _mix,
    _plain(jnp.tanh),
    _plain(jax.nn.silu),
    _plain(lambda h: h[:, ::-1]),
    _plain(lambda h: jnp.cumsum(h, axis=1)),
    _plain(lambda h: h + jnp.roll(h, 1, axis=1)),
    _plain(lambda h: h - jnp.mean(h, axis=(1, 2), keepdims=True)),
    _plain(lambda h: h.reshape(h.shape[0] * h.shape[1], -1).reshape(h.shape)),
    _plain(lambda h: jnp.concatenate([h, jnp.sin(h)], axis=2)),
    _plain(lambda h: jnp.sort(h, axis=1)),
    _plain(lambda h: jnp.where(h > jnp.max(h, axis=1, keepdims=True) - 1, h, 0.1 * h)),
]


def random_program(seed):
    """Losses of random layers of arrays (examples, time, width), with parameters and a batch."""
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=(3, 4, 3)))
    params, layers, h = [], [], x
    for number in [0, *rng.integers(0, len(LAYERS), 5)]:
        layer = LAYERS[number](rng, h, params)
        layers.append(layer)
        h = layer([jnp.asarray(one) for one in params], h) / 2

    def outputs(params, x):
        for layer in layers:
            x = layer(params, x) / 2
        return jnp.tanh(jnp.mean(x, axis=1))

    return outputs, [jnp.asarray(one) for one in params], x
