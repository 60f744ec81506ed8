"""Where examples meet, found from the primitives alone: of many, whether they keep them apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from blockjac.graph.example_meetings import meeting_of
from blockjac.graph.example_rules import RULES
from blockjac.graph.example_states import Apart, Meeting
from blockjac.graph.examples import Walk
from blockjac.graph.trace import trace

N = 3
X, Y = jnp.ones((N, 4, 5)), jnp.ones((N, 2))
W, TABLE = jnp.ones((5, 2)), jnp.ones((7, 5))
PLACES = jnp.zeros((N, 4), int)
KEYS = jax.random.split(jax.random.key(0), N)


def put(x, y):
    return x.at[:, 1].set(y[:, :1]).at[:, 0, 2].add(y[:, 0])


APART = {
    "elementwise": (lambda x, w: jnp.sin(x) * w[0, 0] + jnp.where(x > 0, x, -x), (X, W)),
    "reductions": (lambda x: jnp.max(x, (1, 2)) + jnp.argmax(x, 1).sum(1) + x.prod((2, 1)), (X,)),
    "flattened and back": (lambda x, w: (x.reshape(-1, 5) @ w).reshape(N, 4, 2), (X, W)),
    "merged the other way": (
        lambda x: x.transpose(1, 0, 2).reshape(-1, 5).reshape(4, N, 5)[2],
        (X,),
    ),
    "parts of axes": (lambda x: x[:, 1:3, ::2] + x[:, 2:, :3], (X,)),
    "padded and joined": (
        lambda x: jnp.concatenate([jnp.pad(x, ((0, 0), (1, 0), (0, 0))), x], 1),
        (X,),
    ),
    "views one after the other": (
        lambda x: sum(jnp.split(jnp.concatenate([x, -x, x]) * 2, 3)) + jnp.concatenate([x, x])[N:],
        (X,),
    ),
    "backwards in time": (lambda x: jnp.roll(x[:, ::-1], 2, axis=2), (X,)),
    "products": (lambda x, w: jnp.einsum("ntd,nsd->nts", x, x) @ (x @ w), (X, W)),
    "sorted": (lambda x: jnp.sort(x, axis=1) + lax.top_k(x, 5)[0], (X,)),
    "running": (lambda x: jnp.cumsum(x, 1) + lax.cummax(x, 2), (X,)),
    "windows": (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 1), (1, 1, 1), "VALID"), (X,)),
    "looked up": (lambda i, t: t[i], (PLACES, TABLE)),
    "looked up at shared places": (lambda x, i: x[:, i], (X, jnp.zeros(2, int))),
    "looked up by numpy": (lambda x: x[np.arange(N), 2], (X,)),
    "each its own": (lambda x, i: jnp.take_along_axis(x[..., 0], i, axis=1), (X, PLACES)),
    "by counting": (lambda x, i: x[jnp.arange(N), i[:, 0]], (X, PLACES)),
    "by counting last": (lambda x, i: x.transpose(1, 2, 0)[i[:, 0], 2, jnp.arange(N)], (X, PLACES)),
    "by vmap": (jax.vmap(lambda x, i: x[i[0]]), (X, PLACES)),
    "written": (put, (X, Y)),
    "written by vmap": (jax.vmap(lambda x, i: x.at[i[0]].set(1.0)), (X, PLACES)),
    "run-time slices": (lambda x, k: lax.dynamic_slice_in_dim(x, k, 2, 1), (X, jnp.asarray(1))),
    "run-time writes": (
        lambda x, k: lax.dynamic_update_slice(x, x[:, :2], (0, k, 0)),
        (X, jnp.asarray(1)),
    ),
    "transformed": (lambda x: jnp.abs(jnp.fft.fft(x, axis=2)), (X,)),
    "matrices": (lambda x: jnp.linalg.cholesky(x @ x.transpose(0, 2, 1) + 9 * jnp.eye(4)), (X,)),
    "solved": (lambda x, y: jnp.linalg.solve(x[:, :2, :2] + 9 * jnp.eye(2), y[..., None]), (X, Y)),
    "random": (lambda k, x: jax.vmap(lambda k: jax.random.normal(k, (5,)))(k) + x[:, 0], (KEYS, X)),
    "dropout": (lambda x: x * jax.random.bernoulli(jax.random.key(0), 0.5, x.shape), (X,)),
    "one-hot": (lambda i: jax.nn.one_hot(i, 7), (PLACES,)),
    "branches": (
        lambda x, w: lax.cond(w[0, 0] > 0, lambda x: x + 1, lambda x: x[..., ::-1], x),
        (X, W),
    ),
    "loop over time": (
        lambda x: lax.scan(lambda c, x: (jnp.tanh(c + x), c), x[:, 0], x.transpose(1, 0, 2))[0],
        (X,),
    ),
    "loop over time, stacked": (
        lambda x: lax.scan(lambda c, x: (c + x, c), x[:, 0], x.transpose(1, 0, 2))[1][1],
        (X,),
    ),
    "loop of unknown length": (
        lambda x, w: lax.while_loop(
            lambda c: c[0] < w[0, 0], lambda c: (c[0] + 1, c[1] * 2), (0.0, x)
        )[1],
        (X, W),
    ),
    "loop over the examples": (lambda x, w: lax.map(lambda x: jnp.sum(jnp.sort(x @ w)), x), (X, W)),
    "in a remat": (jax.checkpoint(lambda x, w: jnp.tanh(x @ w)), (X, W)),
    "with rules of their own": (
        lambda x: jax.nn.relu(x) + jax.nn.softplus(x) + jax.nn.silu(x),
        (X,),
    ),
    "convolved": (
        lambda x: lax.conv_general_dilated(
            x, jnp.ones((2, 5, 3)), (1,), "SAME", dimension_numbers=("NTC", "TIO", "NTC")
        ),
        (X,),
    ),
    "stacked": (lambda x, y: jnp.stack([x[:, 0, 0], y[:, 0], jnp.ones(N)], -1) @ W[:3], (X, Y)),
    "stacked in front": (lambda x: jnp.stack([x, x])[1], (X,)),
    "taken apart": (lambda x: jnp.unstack(x, axis=1)[2] + jnp.unstack(x, axis=2)[0][:, :1], (X,)),
    "repeated": (lambda x: jnp.tile(x, (1, 1, 2)), (X,)),
    "data that is not used": (lambda x, w: jnp.ones(N) * w[0, 0], (X, W)),
    "nothing but constants": (lambda x: jnp.zeros(N), (X,)),
}


MEET = {
    "sum": (lambda x: x - jnp.sum(x, axis=0), (X,)),
    "sum of parts": (lambda x: jnp.sum(x.reshape(-1, 5), axis=0) + x[:, 0], (X,)),
    "misaligned": (lambda x: x.reshape(4, N, 5).transpose(1, 0, 2), (X,)),
    "one of a stack": (lambda x: jnp.unstack(x)[0], (X,)),
    "repeated one after the other": (lambda x: jnp.tile(x[:, 0, 0], 2)[:N], (X,)),
    "kernel": (lambda x: x[:, 0] @ x[:, 0].T, (X,)),
    "against itself shifted": (lambda x: x + jnp.roll(x, 1, axis=0), (X,)),
    "parts of two views": (lambda x: jnp.concatenate([x, x])[1 : N + 1], (X,)),
    "split off": (lambda x: jnp.concatenate(jnp.split(x, [1])[::-1]), (X,)),
    "reordered": (lambda x: x[::-1], (X,)),
    "permuted": (lambda x: x[jnp.array([1, 0, 2])], (X,)),
    "permuted by data": (lambda x, i: x[i[:, 0]], (X, PLACES)),
    "one for all": (lambda x: x * x[0, 0, 0], (X,)),
    "columns of it": (lambda x: x[:, :N, 0] * x[:, 0, 0], (X,)),
    "chosen by all": (lambda x: lax.cond(jnp.sum(x) > 0, jnp.sin, jnp.cos, x), (X,)),
    "as long as one goes on": (
        lambda x: lax.while_loop(lambda x: jnp.max(x) < 9, lambda x: x * 2, x),
        (X,),
    ),
    "carried over the examples": (lambda x: lax.scan(lambda c, x: (c + x, c), x[0], x)[1], (X,)),
    "scattered": (lambda x, i: jnp.zeros((N, 5)).at[i[:, 0]].add(x[:, 0]), (X, PLACES)),
    "sorted over them": (lambda x: jnp.sort(x, axis=0), (X,)),
    "in a jitted part": (jax.jit(lambda x: x - jnp.mean(x, axis=0)), (X,)),
    "matrices of them": (lambda x: jnp.linalg.qr(x[:, 0])[0], (X,)),
}


def meeting(fun, arguments):
    graph = trace(lambda *a: [fun(*a)], arguments, ())
    examples = {
        value: 0
        for value, array in zip(graph.inputs, arguments, strict=True)
        if array.shape[:1] == (N,)
    }
    return meeting_of(graph, examples, N, 0)


@pytest.mark.parametrize("name", APART)
def test_examples_stay_apart(name):
    assert meeting(*APART[name]) is None


@pytest.mark.parametrize("name", MEET)
def test_examples_meet(name):
    assert isinstance(meeting(*MEET[name]), Meeting)


@pytest.mark.parametrize("name", APART)
def test_apart_means_that_no_other_example_matters(name):
    """What is found to be apart is apart: other data of one example change nothing elsewhere."""
    fun, arguments = APART[name]
    rng = np.random.default_rng(0)

    def drawn(array):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            return array
        return jnp.asarray(rng.normal(size=array.shape))

    first = [drawn(array) for array in arguments]
    second = [
        one.at[1].set(drawn(one)[1]) if one.shape[:1] == (N,) and one.dtype == float else one
        for one in first
    ]
    results = fun(*first), fun(*second)
    others = np.array([0, 2])
    np.testing.assert_array_equal(*(np.asarray(one)[others] for one in results))


def test_an_axis_is_followed_through_reshapes():
    graph = trace(lambda x: [x.transpose(1, 0, 2).reshape(4, -1)], [X], ())
    assert Walk(graph, N).results([Apart(0, 1)]) == [Apart(1, 5)]


def test_a_primitive_without_a_rule_lets_examples_meet():
    found = meeting(lambda x: jax.scipy.linalg.schur(x)[0], (jnp.ones((N, N)),))
    assert found is not None
    assert found.name not in RULES


@pytest.mark.parametrize("count", [0, 1])
def test_one_example_meets_none(count):
    graph = trace(lambda x: [x - jnp.sum(x, axis=0)], [X[:count]], ())
    assert meeting_of(graph, {graph.inputs[0]: 0}, count, 0) is None
