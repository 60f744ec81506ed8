"""Tangents of several variables through one loop: values, and what a step of the program does."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.same_as_jax import assert_same
from support.sampling import sampled

import blockjac
from blockjac.algebra.backend import backend
from blockjac.blocks import Block
from blockjac.operators import direct_sum
from blockjac.operators.direct_sum import DirectSum

# Programs: a loop whose parameters are leaves of all shapes, which enter it in all ways

SIZE, STEPS = 3, 12


def scaled(leaf, state):
    return leaf * jnp.sin(state)


def bilinear(leaf, state):
    return leaf[0] * state[::-1] + leaf[1] * jnp.sum(state)


def turned(leaf, state):
    return jnp.real(leaf * jnp.exp(1j * state)) + jnp.imag(leaf) ** 2


def stiff(leaf, state):
    return jnp.linalg.solve(leaf @ leaf.T + 4 * jnp.eye(SIZE), state)


USES = {
    "number": ((), float, scaled),
    "vector": ((SIZE,), float, scaled),
    "matrix": ((SIZE, SIZE), float, jnp.matmul),
    "solve": ((SIZE, SIZE), float, stiff),
    "pair": ((2, SIZE), float, bilinear),
    "row": ((1, SIZE), float, lambda leaf, state: leaf[0] * state**2),
    "deep": ((2, SIZE, SIZE), float, lambda leaf, state: leaf[0] @ jnp.tanh(leaf[1] @ state)),
    "complex": ((SIZE,), complex, turned),
    "complex number": ((), complex, turned),
    "start": ((SIZE,), float, None),
    "slices": ((STEPS, SIZE), float, None),
}
LOOPS = ("scan", "reversed", "fori", "while", "branch")


class Program:
    """A loop over parameters that are drawn from a seed; called with a dict of its leaves."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.loop = LOOPS[seed % len(LOOPS)]
        kinds = rng.choice([*USES], rng.integers(2, 6), replace=False)
        self.kinds = dict(zip("edcba", map(str, kinds), strict=False))
        if self.loop not in ("scan", "reversed"):  # the others have no slices
            self.kinds = {
                name: "deep" if kind == "slices" else kind for name, kind in self.kinds.items()
            }
        self.gives_slices = rng.random() < 0.8
        self.leaves = {}
        for name, kind in self.kinds.items():
            shape, dtype, _ = USES[kind]
            leaf = 0.5 * rng.normal(size=shape)
            self.leaves[name] = jnp.asarray(
                leaf + 0.5j * rng.normal(size=shape) if dtype is complex else leaf
            )

    def __call__(self, leaves):
        """Mostly more results than the leaves have entries, so that loops are taken forwards."""
        start = jnp.linspace(0.2, 0.7, SIZE)
        slices = jnp.linspace(-0.3, 0.4, STEPS * SIZE).reshape(STEPS, SIZE)
        used = []
        for name, kind in self.kinds.items():
            if kind == "start":
                start = start + jnp.tanh(leaves[name])
            elif kind == "slices":
                slices = slices * leaves[name]
            else:
                used.append((USES[kind][2], leaves[name]))

        def step(state, given):
            moved = sum((use(leaf, state) for use, leaf in used), given)
            return jnp.tanh(0.5 * moved) + 0.1 * state

        if self.loop == "fori":

            def written(place, both):
                state = step(both[0], 0.3)
                return state, both[1].at[place].set(state)

            return lax.fori_loop(0, STEPS, written, (start, jnp.zeros((STEPS, SIZE))))[1]
        if self.loop == "while":
            norm = lambda state: jnp.sum(state**2)  # noqa: E731
            state, _ = lax.while_loop(
                lambda both: (both[1] < 4) & (norm(both[0]) < 100),
                lambda both: (step(both[0], 0.2), both[1] + 1),
                (start, 0),
            )
            return state
        if self.loop == "branch":
            cube = lambda state: jnp.outer(jnp.outer(state, jnp.sin(state)), state)  # noqa: E731
            up = lambda state: cube(step(state, 0.2))  # noqa: E731
            down = lambda state: cube(2 * step(state * state, 0.1))  # noqa: E731
            return lax.cond(jnp.sum(start) > 0, up, down, start)
        last, every = lax.scan(
            lambda state, given: (step(state, given),) * 2,
            start,
            slices,
            reverse=self.loop == "reversed",
        )
        return (last, every) if self.gives_slices else last

    @property
    def is_real(self):
        return not any(jnp.iscomplexobj(leaf) for leaf in self.leaves.values())

    def of_one_vector(self, vector):
        """The same where the leaves are slices of one flat vector."""
        leaves, reached = {}, 0
        for name, leaf in self.leaves.items():
            leaves[name] = jnp.reshape(vector[reached : reached + leaf.size], leaf.shape)
            reached += leaf.size
        return self(leaves)


@pytest.mark.slow
@pytest.mark.parametrize("seed", sampled(range(200), 24))
def test_loops_by_several_leaves(seed):
    program = Program(seed)
    # JAX takes complex variables backwards only, and while loops forwards only.
    oracle = jax.jacfwd if program.is_real else jax.jacrev
    if program.loop == "while" and not program.is_real:
        pytest.skip("no oracle in JAX")
    wanted = oracle(program)(program.leaves)
    for order in ("forward", "auto"):
        assert_same(blockjac.jacobian(program, order=order)(program.leaves), wanted)
        if not program.is_real:
            continue
        blocks = blockjac.block_jacobian(program, order=order)(program.leaves)
        is_block = lambda one: isinstance(one, Block)  # noqa: E731
        assert_same(jax.tree.map(lambda one: one.dense(), blocks, is_leaf=is_block), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", sampled(range(1000, 1100), 9))
def test_loops_by_slices_of_one_vector(seed):
    program = Program(seed)
    if not program.is_real:
        program.kinds = {
            name: "vector" if kind.startswith("complex") else kind
            for name, kind in program.kinds.items()
        }
        program.leaves = {
            name: jnp.zeros(USES[kind][0]) + 0.3 for name, kind in program.kinds.items()
        }
    vector = jnp.concatenate([jnp.ravel(leaf) for leaf in program.leaves.values()])
    wanted = jax.jacfwd(program.of_one_vector)(vector)
    for order in ("forward", "auto"):
        assert_same(blockjac.jacobian(program.of_one_vector, order=order)(vector), wanted)


# The emitted program


def loops_of(jaxpr):
    """The equations of loops in a program, those of functions that it calls included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation
        elif "jaxpr" in equation.params:
            yield from loops_of(
                getattr(equation.params["jaxpr"], "jaxpr", equation.params["jaxpr"])
            )


def counted(jaxpr):
    """How often each primitive stands in a program and in what it calls; a solve counts once."""
    counts = Counter()
    for equation in jaxpr.eqns:
        counts[equation.primitive.name] += 1
        if "jaxpr" in equation.params:
            counts += counted(getattr(equation.params["jaxpr"], "jaxpr", equation.params["jaxpr"]))
    return counts


def steps_of(function, *arguments):
    """How often each primitive stands in the bodies of the program's loops."""
    program = jax.make_jaxpr(function)(*arguments).jaxpr
    return sum((counted(one.params["jaxpr"].jaxpr) for one in loops_of(program)), Counter())


def solved(leaves):
    """Steps of one solve and one product, whose matrices all leaves make together."""
    matrix = sum(jnp.outer(leaf, jnp.roll(leaf, place)) for place, leaf in enumerate(leaves))

    def step(state, _):
        state = jnp.linalg.solve(matrix + 3 * jnp.eye(4), jnp.tanh(matrix @ state))
        return state, state

    return lax.scan(step, jnp.linspace(0.3, 1.0, 4), None, 10)[1]


def mixed(leaves):
    """Steps in which each leaf has a use of its own beside a solve."""
    matrix, first, *rest = leaves

    def step(state, _):
        state = jnp.linalg.solve(jnp.diag(first) + matrix, jnp.tanh(matrix.T @ state))
        return sum((leaf * state for leaf in rest), state), state

    return lax.scan(step, jnp.linspace(0.3, 1.0, 4), None, 10)[1]


def vectors(count):
    return [jnp.linspace(0.1, 0.3 + 0.1 * place, 4) for place in range(count)]


CALLS = ("dot_general", "custom_linear_solve", "lu", "triangular_solve")


@pytest.mark.parametrize("count", [2, 3, 5])
def test_calls_of_a_step_do_not_grow_with_the_leaves(count):
    def calls(leaves):
        found = steps_of(blockjac.jacobian(solved, order="forward"), leaves)
        return {name: found[name] for name in CALLS}

    one = calls([jnp.concatenate(vectors(1))])
    assert one["custom_linear_solve"] > 0
    assert calls(vectors(count)) == one


@pytest.mark.parametrize("count", [2, 3, 5])
def test_each_leaf_adds_its_own_use_alone(count):
    leaves = [0.1 * jnp.ones((4, 4)) + jnp.eye(4), *vectors(count - 1)]
    ours = steps_of(blockjac.jacobian(mixed, order="forward"), leaves)
    theirs = steps_of(jax.jacfwd(mixed), leaves)
    for name in ("custom_linear_solve", "lu"):
        assert ours[name] <= theirs[name]


def several(count):
    """Numbers that are made of all states of a loop with a solve in each step."""

    def function(matrix):
        def step(state, _):
            moved = jnp.linalg.solve(matrix + 3 * jnp.eye(4), jnp.tanh(matrix @ state))
            return moved, moved

        last, every = lax.scan(step, jnp.linspace(0.3, 1.0, 4), None, 10)
        made = [last, jnp.sum(every**2), jnp.mean(every, 0), jnp.max(every), every[::4]]
        return dict(zip("edcba", made[:count], strict=False))

    return function


MATRIX = 0.3 * jnp.eye(4) + 0.1 * jnp.ones((4, 4))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_calls_of_a_step_do_not_grow_with_the_results(count):
    def calls(function):
        found = steps_of(blockjac.jacobian(function, order="reverse"), MATRIX)
        return {name: found[name] for name in CALLS[1:]}

    found = blockjac.jacobian(several(count), order="reverse")(MATRIX)
    assert_same(found, jax.jacrev(several(count))(MATRIX))
    assert calls(several(count)) == calls(several(1))


@pytest.mark.slow
@pytest.mark.parametrize("seed", sampled(range(2000, 2060), 6))
def test_loops_with_several_results_backwards(seed):
    program = Program(seed)
    if program.loop == "while":
        pytest.skip("no way back through a loop of unknown length")

    def results(leaves):
        found = jax.tree.leaves(program(leaves))
        return [jnp.sum(jnp.sin(found[-1]), 0), jnp.max(found[0]), *found, jnp.sum(found[0]) ** 2]

    found = blockjac.jacobian(results, order="reverse")(program.leaves)
    assert_same(found, jax.jacrev(results)(program.leaves))


# Structure


def test_leaves_whose_blocks_keep_a_delta_stay_apart():
    def batch(leaves):
        def step(state, _):
            return jnp.tanh(leaves["a"] * state + leaves["b"]), None

        return lax.scan(step, leaves["c"], None, 20)[0]

    leaves = {name: jnp.linspace(0.1, 0.9, 400) for name in "abc"}
    program = jax.make_jaxpr(blockjac.jacobian(batch, order="forward"))(leaves).jaxpr
    sizes = [one.aval.size for loop in loops_of(program) for one in loop.outvars]
    assert max(sizes) <= 20 * 400  # each carried block is a diagonal
    wanted = jax.jacfwd(batch)(leaves)
    assert_same(blockjac.jacobian(batch, order="forward")(leaves), wanted)


def test_a_result_that_a_leaf_does_not_reach_is_zero_at_an_infinite_derivative():
    def function(leaves):
        def step(state, _):
            one, other = state
            return (jnp.tanh(leaves["a"] @ one), jnp.sqrt(other) * leaves["b"]), None

        return lax.scan(step, (jnp.ones(3), jnp.zeros(3)), None, 3)[0]

    leaves = {"a": jnp.eye(3) * 0.3, "b": jnp.full(3, 2.0), "c": jnp.ones(2)}
    found = blockjac.jacobian(function, order="forward")(leaves)
    assert not np.any(np.asarray(found[0]["b"]))
    assert not np.any(np.asarray(found[1]["a"]))


# The direct sum itself


def test_parts_of_what_was_joined_are_what_went_in():
    rng = np.random.default_rng(0)
    shapes = {"a": (2, 3), "b": (), "c": (4,), "d": (1, 2, 2)}
    space = DirectSum(shapes)
    blocks = {
        name: [
            Block.from_dense(jnp.asarray(rng.normal(size=(2, 3, *shape))), 2),
            Block.identity(shape, float) if name == "a" else None,
        ]
        for name, shape in shapes.items()
    }
    joined = space.joined(blocks)
    assert [one and one.wrt_shape for one in joined] == [(15,), (15,)]
    flat = [np.reshape(own[0].dense(), (2, 3, -1)) for own in blocks.values()]
    np.testing.assert_array_equal(joined[0].dense(), np.concatenate(flat, -1))
    assert joined[1].stored == 0  # an identity stays one
    for name, parts in space.parted(joined).items():
        for part, own in zip(parts, blocks[name], strict=True):
            wanted = np.zeros((2, 3, *shapes[name])) if own is None else own.dense()
            np.testing.assert_array_equal(part.dense(), wanted)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("function", [solved, mixed])
def test_a_plan_takes_the_way_that_the_program_takes(function, dense, monkeypatch):
    decided, decide = [], direct_sum._jointly

    def noted(*arguments):
        answers = decide(*arguments)
        decided.append((backend().cost is not None, len(answers)))
        return answers

    monkeypatch.setattr(direct_sum, "_jointly", noted)
    leaves = vectors(3) if function is solved else [jnp.eye(4) + 0.1, *vectors(3)]
    plan = blockjac.plan(function, order="forward", dense=dense)(leaves)
    assert {planned for planned, _ in decided} <= ({True, False} if dense else set())
    assert len({count for _, count in decided}) == dense  # one decision, wherever it is taken
    decided.clear()
    compute = blockjac.jacobian if dense else blockjac.block_jacobian
    jax.make_jaxpr(compute(function, order=plan))(leaves)
    assert {count for _, count in decided} == ({len(leaves)} if dense else set())
