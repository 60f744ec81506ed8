"""Random programs: any order gives the same Jacobian, and JAX's, at first and second order.

A program is a list of instructions on a stack of arrays of any shape: shared subexpressions, loops,
branches, lookups and solves, with two results. Places and matrices are made up from the arrays, so
that every operation takes every shape.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax
from support.agreement import primitives_of

import blockjac

LIMIT = 24
"""A value of more entries is summed over its first axis before it is used again."""


def along(function):
    """A function of an array with at least one axis, for any array."""
    return lambda a, b, n: function(a if a.ndim else a[None], n)


def together(function):
    """A function of two arrays whose shapes broadcast, for any two: else the second is summed."""

    def of_any(a, b, n):
        try:
            np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            b = jnp.sum(b)
        return function(a, b)

    return of_any


def places(a, n):
    return jnp.array([n, 0, n + 1]) % max(len(a), 1)


def found_place(a):
    """A place along the first axis that depends on the values."""
    return jnp.argmax(jnp.ravel(a)) % len(a)


def nonempty(function):
    """A function of an array with at least one entry along at least one axis; others pass."""

    def of_any(a, n):
        return function(a, n) if a.size else a

    return along(of_any)


def rows(a):
    """The array as a matrix."""
    return a.reshape(len(a), a.size // len(a))


def matrix(a):
    """A well-conditioned symmetric matrix made of up to three entries."""
    v = jnp.tanh(jnp.ravel(a)[:3])
    return jnp.outer(v, v) + jnp.diag(3 + jnp.cos(v))


def pooled(operation, start):
    def pool(a, n):
        window = (min(2, len(a)),) + (1,) * (a.ndim - 1)
        padding = [(n % 2, 0)] + [(0, 0)] * (a.ndim - 1)
        strides = (1 + n // 2,) + (1,) * (a.ndim - 1)
        return lax.reduce_window(a, start, operation, window, strides, padding)

    return nonempty(pool)


def convolved(a, b, n):
    if not a.size or not b.size:
        return a
    return jnp.convolve(jnp.ravel(a), jnp.ravel(b)[:3], ("full", "same", "full")[n % 3])


def looped(a, n):
    def step(state, row):
        state = jnp.tanh(state * (1 + n) + row)
        return state, state * row

    final, results = lax.scan(step, jnp.full(a.shape[1:], 0.3), a, reverse=n % 2 > 0)
    return jnp.concatenate([results, final[None]])


def driven(a, b, n):
    """A loop whose steps share an array, for a number of times."""
    rate = jnp.tanh(jnp.sum(b))
    return lax.fori_loop(0, n, lambda i, state: jnp.sin(state) * rate + i * state, a)


def switched(a, b, n):
    kind = (jnp.sum(b) > 0).astype(int) + n % 2
    return lax.switch(kind, [jnp.sin, lambda x: x, lambda x: x * jnp.sum(x)], a)


def checkpointed(a, n):
    policy = [None, jax.checkpoint_policies.dots_saveable][n % 2]
    return jax.checkpoint(lambda x: jnp.tensordot(jnp.sin(x), jnp.cos(x), (0, 0)), policy=policy)(a)


@jax.custom_jvp
def steeper(x):
    return jnp.sin(x)


steeper.defjvp(lambda x, dx: (steeper(*x), 3 * jnp.exp(-(x[0] ** 2)) * dx[0]))


@jax.custom_vjp
def backwards_steeper(x):
    return jnp.sin(x)


backwards_steeper.defvjp(lambda x: (jnp.sin(x), x), lambda x, q: (3 * jnp.exp(-(x**2)) * q,))


@jax.custom_vjp
def damped(x):
    return jnp.sin(x)


damped.defvjp(lambda x: (jnp.sin(x), x), lambda x, q: (jnp.tanh(q) * x,))

ELEMENTWISE = {
    "sin": jnp.sin,
    "cos": jnp.cos,
    "tan": lambda a: jnp.tan(jnp.sin(a)),
    "asin": lambda a: jnp.arcsin(0.9 * jnp.sin(a)),
    "acos": lambda a: jnp.arccos(0.9 * jnp.sin(a)),
    "atan": jnp.arctan,
    "sinh": lambda a: jnp.sinh(jnp.sin(a)),
    "cosh": lambda a: jnp.cosh(jnp.sin(a)),
    "tanh": jnp.tanh,
    "asinh": jnp.arcsinh,
    "acosh": lambda a: jnp.arccosh(1.5 + a * a),
    "atanh": lambda a: jnp.arctanh(0.9 * jnp.sin(a)),
    "exp": lambda a: jnp.exp(-jnp.abs(a)),
    "exp2": lambda a: jnp.exp2(jnp.sin(a)),
    "expm1": lambda a: jnp.expm1(jnp.sin(a)),
    "log": lambda a: jnp.log(1.5 + a * a),
    "log1p": lambda a: jnp.log1p(a * a),
    "sqrt": lambda a: jnp.sqrt(1 + lax.square(a)),
    "rsqrt": lambda a: lax.rsqrt(1 + a * a),
    "cbrt": lambda a: jnp.cbrt(1.5 + jnp.sin(a)),
    "logistic": lax.logistic,
    "softplus": jax.nn.softplus,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "erf": lax.erf,
    "erfc": lax.erfc,
    "erf_inv": lambda a: lax.erf_inv(0.9 * jnp.sin(a)),
    "lgamma": lambda a: lax.lgamma(2 + jnp.sin(a)),
    "digamma": lambda a: lax.digamma(2 + jnp.sin(a)),
    "bessel": lambda a: lax.bessel_i1e(a),
    "sign": lambda a: a * jnp.sign(a),
    "floor": lambda a: a - jnp.floor(a),
    "round": lambda a: a * jnp.round(a),
    "neg": lambda a: -a,
    "clamp": lambda a: lax.clamp(-0.9, a, 0.8),
    "stop": lambda a: a * lax.stop_gradient(a),
    "complex": lambda a: jnp.abs(jnp.exp(1j * a) + 2) * jnp.angle(2 + 1j * a),
    "conjugate": lambda a: (jnp.conj(a + 2j) * (1j + a * a)).imag,
    "jitted": jax.jit(lambda a: jnp.sin(a) * a),
    "custom-jvp": steeper,
    "branch": lambda a: lax.cond(jnp.sum(a) > 0, jnp.sin, lambda x: x * x, a),
}

TOGETHER = {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "div": lambda a, b: a / (2 + b * b),
    "rem": lambda a, b: lax.rem(*jnp.broadcast_arrays(a, 2 + b * b)),
    "pow": lambda a, b: (1.5 + jnp.sin(a)) ** jnp.tanh(b),
    "max": jnp.maximum,
    "min": jnp.minimum,
    "atan2": lambda a, b: jnp.arctan2(a, 2 + b * b),
    "hypot": lambda a, b: jnp.hypot(1 + a * a, b),
    "logaddexp": jnp.logaddexp,
    "where": lambda a, b: jnp.where(a > 0.1, a, b),
    "igamma": lambda a, b: lax.igamma(*jnp.broadcast_arrays(lax.stop_gradient(2.0 + a * a), b**2)),
    "einsum": lambda a, b: jnp.einsum("...,...->", *jnp.broadcast_arrays(a, b)),
}

ALONG = {
    "gram": lambda a, n: jnp.tensordot(a, a, (0, 0)),
    "sum": lambda a, n: jnp.sum(a, axis=n % a.ndim),
    "prod": lambda a, n: jnp.prod(a, axis=n % a.ndim),
    "running-sum": lambda a, n: lax.cumsum(a, n % a.ndim, reverse=n > 1),
    "running-product": lambda a, n: lax.cumprod(a, n % a.ndim, reverse=n > 1),
    "running-max": lambda a, n: lax.cummax(a, n % a.ndim, reverse=n > 1),
    "running-min": lambda a, n: lax.cummin(a, n % a.ndim, reverse=n > 1),
    "running-logsumexp": lambda a, n: lax.cumlogsumexp(a, n % a.ndim, reverse=n > 1),
    "slice": lambda a, n: a[n % 2 :: 1 + n % 3],
    "reverse": lambda a, n: a[::-1],
    "differences": lambda a, n: a[1:] - a[:-1],
    "pad": lambda a, n: jnp.pad(a, [(1, n)] + [(0, 0)] * (a.ndim - 1)),
    "pad-edge": lambda a, n: jnp.pad(a, 1, "edge") if a.size and a.ndim < 3 else a,
    "concatenate": lambda a, n: jnp.concatenate([a, jnp.sin(a)], axis=n % a.ndim),
    "tile": lambda a, n: jnp.tile(a, (2,) + (1,) * (a.ndim - 1)),
    "roll": lambda a, n: jnp.roll(a, n, 0),
    "swap": lambda a, n: jnp.moveaxis(a, n % a.ndim, 0),
    "loop": looped,
    "map": lambda a, n: lax.map(lambda row: jnp.sin(row) * jnp.sum(row), a),
    "batched": lambda a, n: jax.vmap(lambda row: jnp.outer(row, row + n))(a),
    "checkpoint": checkpointed,
    "associative": lambda a, n: lax.associative_scan(jnp.multiply, a) if len(a) else a,
}

NONEMPTY = {
    "largest": lambda a, n: jnp.max(a, axis=n % a.ndim),
    "smallest": lambda a, n: jnp.min(a, axis=n % a.ndim),
    "logsumexp": lambda a, n: jax.nn.logsumexp(a, axis=n % a.ndim),
    "softmax": lambda a, n: jax.nn.softmax(a, axis=n % a.ndim),
    "variance": lambda a, n: jnp.var(a, axis=n % a.ndim, keepdims=True),
    "reduce": lambda a, n: lax.reduce(a, 0.0, lambda x, y: x + y + x * y, (0,)),
    "split": lambda a, n: jnp.split(a, [len(a) // 2])[n % 2],
    "unstacked": lambda a, n: jnp.unstack(a)[n % len(a)],
    "gather": lambda a, n: a[places(a, n)],
    "gather-last": lambda a, n: jnp.take(a, jnp.array([n, 0, 7]), axis=-1, mode="clip"),
    "gather-fill": lambda a, n: jnp.take(a, jnp.array([n, 0, 7]), axis=0, fill_value=0.5),
    "gather-along": lambda a, n: jnp.take_along_axis(a, jnp.argsort(a, axis=0) // 2, axis=0),
    "gather-found": lambda a, n: a[found_place(a)],
    "diagonal": lambda a, n: jnp.diagonal(jnp.outer(a, a)),
    "scatter": lambda a, n: a.at[places(a, n)].add(a[0] * 2),
    "scatter-multiply": lambda a, n: (
        a.at[places(a, n)[::2]].multiply(a[0] * 2, unique_indices=True) if len(a) > 1 else a
    ),
    "scatter-max": lambda a, n: a.at[n % len(a)].max(a[0] * 3 + 0.1),
    "scatter-min": lambda a, n: a.at[n % len(a)].min(a[0] * 3 - 0.1),
    "scatter-subtract": lambda a, n: a.at[places(a, n)].subtract(a[-1] * 2),
    "scatter-drop": lambda a, n: a.at[jnp.array([n, 9])].set(a[:1] * 3, mode="drop"),
    "set": lambda a, n: a.at[n % len(a)].set(a[0] * 3),
    "window": lambda a, n: lax.dynamic_slice_in_dim(a, n, len(a) // 2),
    "window-found": lambda a, n: lax.dynamic_slice_in_dim(a, found_place(a), 1),
    "update-found": lambda a, n: lax.dynamic_update_slice_in_dim(a, a[:1] * 2, found_place(a), 0),
    "sort": lambda a, n: jnp.sort(a, axis=n % a.ndim),
    "sort-together": lambda a, n: lax.sort([jnp.sin(a), a * a], dimension=0, num_keys=1)[n % 2],
    "top-k": lambda a, n: lax.top_k(a, (a.shape[-1] + 1) // 2)[0],
    "median": lambda a, n: jnp.median(a, axis=0),
    "solve": lambda a, n: jnp.linalg.solve(matrix(a), jnp.ravel(a)[:3]),
    "cholesky": lambda a, n: jnp.linalg.cholesky(matrix(a)),
    "inverse": lambda a, n: jnp.linalg.inv(matrix(a)),
    "determinant": lambda a, n: jnp.linalg.slogdet(matrix(a))[1],
    "triangular": lambda a, n: lax.linalg.triangular_solve(
        matrix(a), jnp.outer(jnp.ravel(a)[:3], jnp.arange(2.0)), left_side=True, transpose_a=n > 1
    ),
    "qr": lambda a, n: jnp.linalg.qr(matrix(a))[n % 2],
    "fourier": lambda a, n: jnp.fft.rfft(a, axis=n % a.ndim).real,
    "fourier-back": lambda a, n: jnp.fft.ifft(jnp.fft.fft(rows(a)) * (1 + 2j)).imag,
    "product-with-rows": lambda a, n: jnp.einsum("bi,ci->bc", rows(a), jnp.cos(rows(a))),
    "batch-product": lambda a, n: jnp.einsum("bi,bj->bij", rows(a), rows(a)[:, ::-1]),
}

OPERATIONS = {
    **{name: lambda a, b, n, f=f: f(a) for name, f in ELEMENTWISE.items()},
    **{name: together(f) for name, f in TOGETHER.items()},
    **{name: along(f) for name, f in ALONG.items()},
    **{name: nonempty(f) for name, f in NONEMPTY.items()},
    "pool-largest": pooled(lax.max, -jnp.inf),
    "pool-smallest": pooled(lax.min, jnp.inf),
    "pool-sum": pooled(lax.add, 0.0),
    "power": lambda a, b, n: lax.integer_pow(a, n) * 0.1,
    "outer": lambda a, b, n: jnp.outer(a, b),
    "flat": lambda a, b, n: jnp.ravel(a),
    "transpose": lambda a, b, n: a.T,
    "reshape": lambda a, b, n: a.reshape(a.shape[::-1]),
    "halves": lambda a, b, n: a.reshape(2, a.size // 2) if a.size % 2 == 0 else a,
    "newaxis": lambda a, b, n: jnp.expand_dims(a, n % (a.ndim + 1)) if a.ndim < 4 else a,
    "squeeze": lambda a, b, n: jnp.squeeze(a),
    "stack": lambda a, b, n: jnp.stack([a, a * a], axis=n % (a.ndim + 1)),
    "convolve": convolved,
    "loop-shared": driven,
    "switch": switched,
}
"""Functions of two arrays, of which many leave the second aside, and of a number from 0 to 3."""

BACKWARDS_ONLY = {
    "custom-vjp": lambda a, b, n: backwards_steeper(a),
    "custom-vjp-not-linear": lambda a, b, n: damped(a),
}
"""Operations that JAX, too, differentiates backwards only."""

SHAPES = [
    (),
    (1,),
    (3,),
    (4,),
    (2, 3),
    (1, 3),
    (3, 1),
    (0, 2),
    (2, 1, 2),
    (1, 0, 3),
    (1, 2, 1, 2),
    (2, 1, 3, 1),
]


def programs(names, size=7):
    """Lists of instructions: an operation, its two operands and its number."""
    instruction = st.tuples(
        st.sampled_from(sorted(names)), st.integers(0, 7), st.integers(0, 7), st.integers(0, 3)
    )
    return st.lists(instruction, min_size=1, max_size=size)


def run(program, *arguments):
    """The last two values of a program, its operands counted from the last value back."""
    values = list(arguments)
    for name, one, other, number in program:
        a, b = values[-1 - one % len(values)], values[-1 - other % len(values)]
        value = {**OPERATIONS, **BACKWARDS_ONLY}[name](a, b, number)
        while value.size > LIMIT:
            value = jnp.sum(value, axis=0)
        values.append(value)
    return values[-2:]


def compare(program, order, shapes, seed, jax_jacobian=jax.jacfwd):
    random = np.random.default_rng(seed)
    arguments = [jnp.asarray(random.uniform(-1.5, 1.5, size)) for size in shapes]

    def function(x, y):
        return run(program, x, y)

    def number(x, y):
        return sum(jnp.sum(jnp.sin(one)) for one in function(x, y))

    @jax.jit
    def all_of_them(x, y):
        return (
            blockjac.jacobian(function, (0, 1), order=order)(x, y),
            jax_jacobian(function, (0, 1))(x, y),
            blockjac.jacobian(blockjac.grad(number))(x, y),
            jax.jit(jax.jacfwd(jax.grad(number)))(x, y),
        )

    first, wanted, second, wanted_second = all_of_them(*arguments)
    assume(all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((wanted, wanted_second))))
    same(first, wanted, 1e-9)
    same(second, wanted_second, 1e-7)


def same(found, wanted, rtol):
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        scale = np.abs(two).max(initial=1.0)
        np.testing.assert_allclose(one, two, rtol=rtol, atol=rtol * scale)


orders = st.sampled_from(["forward", "reverse", "greedy", "auto"])
shape_pairs = st.tuples(st.sampled_from(SHAPES), st.sampled_from(SHAPES))
seeds = st.integers(0, 10**6)


@pytest.mark.slow
@settings(max_examples=10)
@given(programs(OPERATIONS), orders, shape_pairs, seeds)
def test_random_programs(program, order, shapes, seed):
    compare(program, order, shapes, seed)


@pytest.mark.slow
@settings(max_examples=settings.default.max_examples // 2)
@given(programs(OPERATIONS), orders, shape_pairs, seeds)
def test_many_random_programs(program, order, shapes, seed):
    compare(program, order, shapes, seed)


@pytest.mark.slow
@settings(max_examples=settings.default.max_examples // 4)
@given(
    programs(OPERATIONS, 3),
    programs(BACKWARDS_ONLY, 2),
    programs(OPERATIONS, 3),
    shape_pairs,
    seeds,
)
def test_many_random_programs_that_go_backwards_only(before, rules, after, shapes, seed):
    compare(before + rules + after, "reverse", shapes, seed, jax.jacrev)


@pytest.mark.slow
def test_the_programs_use_many_primitives():
    found = set()
    for name, operation in {**OPERATIONS, **BACKWARDS_ONLY}.items():
        for shape in SHAPES:
            x = jax.ShapeDtypeStruct(shape, jnp.float64)
            jaxpr = jax.make_jaxpr(lambda x, f=operation: f(x, x, 1))(x)
            found |= primitives_of(jaxpr)
        assert found, name
    assert len(found) >= 110, sorted(found)
