"""Random programs of one flat vector: groups of its entries through loops and operators.

Each step takes the vector apart into groups (runs of neighbours, or every n-th entry), does the
same to each group under `vmap` or `lax.map`, and puts it together; or it moves entries: rolls,
slices, pads, concatenates, looks up. Which entries depend on which is known by construction, so
that the numbers stored can be held against the true places.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.sampling import sampled

import blockjac

WEIGHTS = jnp.asarray(np.random.default_rng(3).normal(size=(8, 8)) / 3)


def mixed(x):
    """A product with a matrix, so that each entry depends on all of its group."""
    return WEIGHTS[: x.size, : x.size] @ x


def positive(x):
    """A positive definite matrix of all entries."""
    outer = jnp.outer(jnp.sin(x), jnp.sin(x))
    return outer + jnp.diag(2 + x**2)


def scanned(x):
    return lax.scan(lambda x, _: (jnp.tanh(mixed(x) + 0.1), None), x, None, length=4)[0]


def scanned_slices(x):
    """Each step sees an entry and what was carried; the results of all steps are kept."""

    def step(total, one):
        total = jnp.sin(total + one)
        return total, total * one

    total, ys = lax.scan(step, jnp.sum(x), x)
    return ys + total


def iterated(x):
    return lax.fori_loop(0, 3, lambda i, x: x + jnp.sin(mixed(x)) / (i + 2), x)


def until_small(x):
    return lax.while_loop(
        lambda state: state[0] < 3,
        lambda state: (state[0] + 1, jnp.cos(mixed(state[1]))),
        (0, x),
    )[1]


def nested(x):
    def outer(x, _):
        return lax.fori_loop(0, 2, lambda _, y: jnp.sin(mixed(y)), x) + x, None

    return lax.scan(outer, x, None, length=2)[0]


def branched(x):
    return lax.cond(jnp.sum(x) > 0, lambda x: jnp.sin(mixed(x)), lambda x: x * jnp.sum(x**2), x)


def factorized(x):
    return jnp.linalg.cholesky(positive(x)) @ jnp.cos(x + 0.3)


def solved(x):
    return jnp.linalg.solve(positive(x), jnp.cos(x))


def transformed(x):
    return jnp.fft.ifft(jnp.fft.fft(x) * jnp.exp(-0.3 * jnp.arange(x.size))).real + jnp.sum(x)


def convolved(x):
    kernel = jnp.arange(1.0, 2 * x.size)
    return jnp.convolve(jnp.sin(x), kernel, mode="same")[: x.size] + jnp.sum(x**2)


def summed_up(x):
    return jnp.sin(jnp.cumsum(x)) + jnp.sum(x)


def normalized(x):
    return jax.nn.softmax(x) * jnp.sum(jnp.sin(x))


@jax.custom_vjp
def ruled(x):
    return jnp.sin(x) * jnp.sum(x)


def _ruled_bwd(x, q):
    return (q * jnp.cos(x) * jnp.sum(x) + jnp.sum(q * jnp.sin(x)),)


ruled.defvjp(lambda x: (ruled(x), x), _ruled_bwd)


@jax.custom_jvp
def own_jvp(x):
    return jnp.tanh(x) * jnp.sum(x)


@own_jvp.defjvp
def _own_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return own_jvp(x), (1 - jnp.tanh(x) ** 2) * t * jnp.sum(x) + jnp.tanh(x) * jnp.sum(t)


OF_A_GROUP = (
    scanned,
    scanned_slices,
    iterated,
    until_small,
    nested,
    branched,
    factorized,
    solved,
    transformed,
    convolved,
    summed_up,
    normalized,
    ruled,
    own_jvp,
)
FORWARD_ONLY = (until_small,)
BACKWARD_ONLY = (ruled,)
MAPPINGS = ("vmap", "vmap-columns", "lax.map")


PIECES = ("roll", "concatenate")


class Program:
    """Steps from a flat vector to a flat vector, with the pattern of its Jacobian.

    Attributes:
        steps: functions of a vector.
        names: of the steps.
        pattern: of the Jacobian so far.
        size: of each group.
        in_pieces: whether a step has put entries together from pieces.
        looked_up: whether a step has looked entries up.
        neighbours: whether the entries of a group are neighbours; else they are n entries apart.
        forwards: whether tangents can be pushed through all steps.
        backwards: whether cotangents can be pulled back.
    """

    def __init__(self, groups, size):
        self.steps, self.names = [], []
        self.pattern = np.eye(groups * size, dtype=bool)
        self.size = size
        self.forwards = self.backwards = self.neighbours = True
        self.in_pieces = self.looked_up = False

    @staticmethod
    def random(seed, groups, size, of_a_group=OF_A_GROUP):
        """Up to three steps of groups, with moves between them."""
        rng = np.random.default_rng(seed)
        self = Program(groups, size)
        for _ in range(rng.integers(1, 4)):
            for _ in range(rng.integers(0, 2)):
                self.moves(rng)
            function = of_a_group[rng.integers(len(of_a_group))]
            if (function in FORWARD_ONLY and not self.forwards) or (
                function in BACKWARD_ONLY and not self.backwards
            ):
                continue
            self.acts(function, MAPPINGS[rng.integers(len(MAPPINGS))])
        for _ in range(rng.integers(0, 3)):
            self.moves(rng)
        return self

    @property
    def width(self):
        return len(self.pattern)

    def __call__(self, v):
        for step in self.steps:
            v = step(v)
        return v

    def acts(self, function, mapping):
        """The same function of each group of neighbours, or of every n-th entry."""
        self.backwards &= function not in FORWARD_ONLY
        self.forwards &= function not in BACKWARD_ONLY
        size, groups = self.size, self.width // self.size
        where = np.arange(self.width)
        if mapping == "vmap-columns" and self.neighbours:
            where = where.reshape(groups, size)
            step = lambda v: jax.vmap(function, 1, 1)(v.reshape(groups, size).T).T.ravel()  # noqa: E731
        elif mapping == "vmap-columns":
            where = where.reshape(size, groups).T
            step = lambda v: jax.vmap(function, 1, 1)(v.reshape(size, groups)).ravel()  # noqa: E731
        else:
            over = jax.vmap(function) if mapping == "vmap" else (lambda x: lax.map(function, x))
            if self.neighbours:
                where = where.reshape(groups, size)
                step = lambda v: over(v.reshape(groups, size)).ravel()  # noqa: E731
            else:
                where = where.reshape(size, groups).T
                step = lambda v: over(v.reshape(size, groups).T).T.ravel()  # noqa: E731
        self.steps.append(step)
        self.names.append(f"{mapping} {function.__name__}{'' if self.neighbours else ' strided'}")
        made = np.zeros_like(self.pattern)
        for group in where:
            made[group] = self.pattern[group].any(0)
        self.pattern = made

    def moves(self, rng):
        """Whole groups moved, or the entries put in another order."""
        size, groups = self.size, self.width // self.size
        kind = rng.integers(8)
        first = int(rng.integers(1, 3))
        order = rng.permutation(groups)
        if kind == 0:
            self.add(self.turned(), "transpose")
            self.neighbours = not self.neighbours
            return
        whole = {
            1: ("roll", lambda X: jnp.roll(X, first, 0)),
            2: ("slice", lambda X: X[first:]),
            3: ("every second", lambda X: X[::2]),
            4: ("pad", lambda X: jnp.pad(X, ((first, 1), (0, 0)), constant_values=0.7)),
            5: ("lookup", lambda X: X[order]),
            6: ("concatenate", lambda X: jnp.concatenate([X[first:], X, X[:2]])),
            7: ("reverse", lambda X: X[::-1]),
        }
        name, move = whole[kind]
        # Each piece of a sum of pieces is a term as long as all of a lookup: not both.
        if (name in PIECES and self.looked_up) or (name == "lookup" and self.in_pieces):
            return
        self.in_pieces |= name in PIECES
        self.looked_up |= name == "lookup"
        if name in ("slice", "every second") and groups < 20:
            return
        if name == "concatenate" and groups > 40:
            return
        if self.neighbours:
            step = lambda v: move(v.reshape(-1, size)).ravel()  # noqa: E731
        else:
            step = lambda v: move(v.reshape(size, -1).T).T.ravel()  # noqa: E731
        self.add(step, name)

    def turned(self):
        size, neighbours = self.size, self.neighbours
        if neighbours:
            return lambda v: v.reshape(-1, size).T.ravel()
        return lambda v: v.reshape(size, -1).T.ravel()

    def add(self, step, name):
        """A step that moves entries: it does to the pattern's rows what it does to numbers."""
        numbers = np.asarray(step(jnp.arange(1.0, self.width + 1)))
        moved = np.zeros((len(numbers), self.pattern.shape[1]), bool)
        for place, number in enumerate(numbers):
            if number == int(number) and number > 0:
                moved[place] = self.pattern[int(number) - 1]
        self.pattern = moved
        self.steps.append(step)
        self.names.append(name)


def limit(places):
    """The most numbers that may be stored for so many places."""
    return 2 * places + 1000


def check_stored(block, pattern, what):
    """The numbers stored and the places of a block, against the true places."""
    places = int(pattern.sum())
    assert block.stored <= limit(places), (what, block)
    assert block.nnz <= limit(places), (what, block)


def jacobian_of(program):
    return jax.jacfwd(program) if program.forwards else jax.jacrev(program)


def point(groups, size):
    return jnp.asarray(np.random.default_rng(groups).normal(size=groups * size))


def orders_of(program):
    """The orders that a program can be eliminated in; "auto" is one of the others."""
    return ["forward"] * program.forwards + ["reverse"] * program.backwards


def check_jacobians(program, groups, size):
    v = point(groups, size)
    want = jacobian_of(program)(v)
    assert not np.any(np.asarray(want)[~program.pattern])
    for order in orders_of(program):
        block = blockjac.block_jacobian(program, order=order)(v)
        np.testing.assert_allclose(
            block.dense(), want, rtol=1e-9, atol=1e-11, err_msg=str(program.names)
        )
        check_stored(block, program.pattern, (order, program.names))


@pytest.mark.slow
@pytest.mark.parametrize("seed", sampled(range(16), 4))
def test_stored_numbers_follow_the_pattern(seed):
    groups, size = 36 + seed % 7, 2 + seed % 3
    check_jacobians(Program.random(seed, groups, size), groups, size)


TWICE = tuple(one for one in OF_A_GROUP if one not in (until_small, ruled, own_jvp))


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.thorough) for seed in (1, 2, 3))]
)
def test_stored_numbers_of_hessians(seed):
    groups, size = 36 + seed % 7, 2 + seed % 3
    program = Program.random(1000 + seed, groups, size, TWICE)
    v = point(groups, size)
    loss = lambda v: jnp.sum(jnp.sin(program(v)))  # noqa: E731
    block = blockjac.block_hessian(loss)(v)[0, 0]
    want = jax.jit(jax.hessian(loss))(v)
    np.testing.assert_allclose(
        block.dense(), want, rtol=1e-8, atol=1e-10, err_msg=str(program.names)
    )
    pattern = program.pattern.astype(int)
    check_stored(block, pattern.T @ pattern > 0, program.names)


@pytest.mark.parametrize("function", OF_A_GROUP, ids=lambda one: one.__name__)
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_every_operator_alone(function, mapping):
    program = Program(37, 3)
    program.acts(function, mapping)
    check_jacobians(program, 37, 3)
