"""`require_structure=True` and `plan` name each equation that loses structure, and no other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir

import blockjac
from blockjac.algebra.backend import planning
from blockjac.algebra.losses import recording
from blockjac.blocks import Block
from blockjac.errors import BlockjacError, Loss, StructureLostError
from blockjac.operators.compose import pulled_through, pushed_through
from blockjac.operators.map_group import MapGroup

SIZE = 40
RNG = np.random.default_rng(0)
X = jnp.linspace(0.1, 1.0, SIZE)
LONG = jnp.linspace(0.1, 1.0, 400)
WEIGHTS = jnp.asarray(RNG.normal(size=(SIZE, SIZE)))
PLACES, OTHERS = (jnp.asarray(RNG.integers(0, SIZE, SIZE)) for _ in range(2))
MANY = jnp.asarray(RNG.integers(0, len(LONG) - 40, len(LONG)))

third = Primitive("cube_without_a_rule")
third.def_impl(lambda x: x**3)
third.def_abstract_eval(lambda x: x)
mlir.register_lowering(third, mlir.lower_fun(lambda x: x**3, multiple_results=False))


@pytest.fixture(autouse=True)
def derivative_of_third(monkeypatch):
    """JAX knows its derivative, within these tests alone."""
    monkeypatch.setitem(ad.primitive_jvps, third, None)  # taken out again at the end
    ad.defjvp(third, lambda g, x: 3 * g * x * x)


@jax.custom_vjp
def clipped(x: jax.Array) -> jax.Array:
    return 2 * x


clipped.defvjp(lambda x: (2 * x, None), lambda _, q: (jnp.clip(2 * q, -1, 1),))


@jax.custom_jvp
def guarded(x: jax.Array) -> jax.Array:
    return 2 * x


@guarded.defjvp
def _guarded_rule(primals: Any, tangents: Any) -> Any:
    return guarded(*primals), jnp.clip(2 * tangents[0], -1, 1)


@jax.custom_jvp
def doubled(x: jax.Array) -> jax.Array:
    return 2 * x


@doubled.defjvp
def _doubled_rule(primals: Any, tangents: Any) -> Any:
    return doubled(*primals), 2 * tangents[0]


def smooth(x: jax.Array) -> jax.Array:
    return x + 0.1 * (jnp.roll(x, 1) - 2 * x + jnp.roll(x, -1))


# Programs that lose structure; the equation that does is on a line with the mark LOST.


def no_rule(x):
    y = jnp.sin(x)
    z = third.bind(y)  # LOST
    return jnp.cos(z)


def no_rule_in_a_loop(x):
    def step(_, y):
        return 0.5 * third.bind(y)  # LOST

    return jax.lax.fori_loop(0, 3, step, x)


def no_rule_in_a_branch(x):
    return jax.lax.cond(
        x[0] > 0,
        lambda y: 2 * third.bind(y),  # LOST
        lambda y: y,
        x,
    )


def no_rule_in_a_checkpoint(x):
    @jax.checkpoint
    def inner(y):
        return third.bind(jnp.sin(y)) * y  # LOST

    return inner(x)


def no_rule_before_another_operator(x):
    rows = third.bind(x).reshape(8, 5)  # LOST
    return jnp.linalg.cholesky(9 * jnp.eye(5) + rows[:, :, None] * rows[:, None])


def a_callback(x):
    @jax.custom_jvp
    def sine(x):
        return jax.pure_callback(np.sin, jax.typeof(x), x, vmap_method="sequential")

    def rule(primals, tangents):
        cosine = jax.pure_callback(np.cos, jax.typeof(x), primals[0], vmap_method="sequential")
        return sine(*primals), jnp.where(tangents[0] > 1e9, 0, cosine * tangents[0])

    sine.defjvp(rule)
    return 2 * sine(x)  # LOST


def backward_rule(x):
    return jnp.sin(clipped(x))  # LOST


def forward_rule(x):
    return jnp.sin(guarded(x))  # LOST


def rule_in_a_map(x):
    return jax.lax.map(lambda row: guarded(row), x.reshape(8, 5))  # LOST


def a_band_through_a_loop(x):
    return jax.lax.fori_loop(0, 60, lambda _, y: smooth(y), x)  # LOST


def a_permutation_through_a_long_loop(x):
    return jax.lax.fori_loop(0, 1000, lambda _, y: 1.1 * jnp.roll(y, 7), x)  # LOST


def a_band_through_a_while_loop(x):
    return jax.lax.while_loop(  # LOST
        lambda state: state[1] < 3 + (x[0] > 9),
        lambda state: (smooth(state[0]), state[1] + 1),
        (x, 0),
    )[0]


def lookups_through_a_loop(x, i):
    return jax.lax.fori_loop(0, 1000, lambda _, y: jnp.sin(y[i]), x)  # LOST


def branches_that_differ(x, i):
    return jax.lax.cond(x[0] > 0, lambda y: 2 * y, lambda y: y[i], x)  # LOST


def many_branches(x, k, i):
    shifts = [lambda y, s=s: y[(i + s) % SIZE] for s in range(4)]
    return jax.lax.switch(k, shifts, x)  # LOST


def branches_of_known_places(x):
    return jax.lax.cond(x[0] > 0, lambda y: 2 * y, lambda y: y[::-1], x)


def many_branches_of_known_places(x, k):
    return jax.lax.switch(k, [lambda y, s=s: jnp.roll(y, s) for s in range(4)], x)


def a_turn_through_a_long_loop(x):
    return jax.lax.fori_loop(0, 1000, lambda _, y: 1.1 * y[::-1], x)


def lookups_of_additions(x, i, j):
    summed = jnp.zeros(SIZE).at[i].add(2 * x)  # LOST
    return summed[j] ** 2


def segments_looked_up(x, i, j):
    totals = jax.ops.segment_sum(jnp.sin(x), i, SIZE)  # LOST
    return totals[j]


def many_lookups(x, i):
    return sum(jnp.sin(x[i + k]) * x for k in range(40))


def reshapes_across_boundaries(x):
    rows = jnp.sin(x.reshape(8, 5))
    return rows.T.reshape(8, 5).T.reshape(8, 5) ** 2


LOSING: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    function.__name__: (function, tuple(arguments))
    for function, *arguments in (
        (no_rule, X),
        (no_rule_in_a_loop, X),
        (no_rule_in_a_branch, X),
        (no_rule_in_a_checkpoint, X),
        (no_rule_before_another_operator, X),
        (a_callback, X),
        (backward_rule, X),
        (forward_rule, X),
        (rule_in_a_map, X),
        (a_band_through_a_loop, LONG),
        (a_permutation_through_a_long_loop, X),
        (a_band_through_a_while_loop, LONG),
        (lookups_through_a_loop, X, PLACES),
        (branches_that_differ, X, PLACES),
        (many_branches, X, jnp.int32(1), PLACES),
        (lookups_of_additions, X, PLACES, OTHERS),
        (segments_looked_up, X, PLACES, OTHERS),
    )
}


def lost_line(function: Callable[..., Any]) -> str:
    """File and line of the mark in a function of this file."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    first = function.__code__.co_firstlineno
    marks = (n for n, line in enumerate(lines, 1) if n >= first and line.endswith("# LOST"))
    return f"{Path(__file__).name}:{next(marks)}"


def lines_of(losses: tuple[Loss, ...]) -> set[str]:
    """File and line of each loss."""
    return {":".join(Path(loss.source).name.split(":")[:2]).split(" ")[0] for loss in losses}


def losses_of(transform: Callable[..., Any], *arguments: Any) -> tuple[Loss, ...]:
    """What a transform with `require_structure=True` refuses; traced, and not compiled."""
    try:
        jax.eval_shape(transform, *arguments)
    except StructureLostError as error:
        return error.losses
    return ()


@pytest.mark.parametrize("name", LOSING)
def test_a_loss_is_refused_and_names_its_line(name):
    function, arguments = LOSING[name]
    lost = losses_of(blockjac.block_jacobian(function, require_structure=True), *arguments)
    assert lost_line(function) in lines_of(lost)
    assert all(loss.stored > 0 and loss.reason and loss.advice for loss in lost)
    # It is a loss indeed: without the option more than twice the true places are stored.
    stored = jax.eval_shape(blockjac.block_jacobian(function), *arguments).stored
    oracle = jax.jacrev if function is backward_rule else jax.jacfwd
    assert stored > 2 * np.count_nonzero(oracle(function)(*arguments))


@pytest.mark.parametrize("order", ["forward", "greedy"])
@pytest.mark.parametrize(
    "name", ["no_rule", "forward_rule", "a_band_through_a_loop", "branches_that_differ"]
)
def test_a_loss_is_refused_in_every_order(name, order):
    function, arguments = LOSING[name]
    transform = blockjac.block_jacobian(function, order=order, require_structure=True)
    assert lost_line(function) in lines_of(losses_of(transform, *arguments))


# Programs that are dense by nature, or keep what they have.


def rows_of(x: jax.Array) -> jax.Array:
    return x.reshape(8, 5)


def recurrent(x):
    def step(carry, row):
        hidden, cell = carry
        cell = 0.5 * cell + jnp.tanh(WEIGHTS[:5, :5] @ hidden + row)
        return (jnp.tanh(cell), cell), hidden

    return jax.lax.scan(step, (jnp.zeros(5), jnp.zeros(5)), rows_of(x))[1]


def attention(x):
    rows = rows_of(x)
    return jax.nn.softmax(rows @ rows.T) @ rows


KEEPING: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "perceptron": (lambda x: WEIGHTS[:5] @ jnp.tanh(WEIGHTS @ x), (X,)),
    "perceptron by its weights": (lambda W: jnp.tanh(W @ X), (WEIGHTS,)),
    "matmul chain": (lambda x: WEIGHTS @ (WEIGHTS @ x), (X,)),
    "batch": (lambda x: jnp.tanh(rows_of(x) @ WEIGHTS[:5, :6]) @ WEIGHTS[:6, :3], (X,)),
    "softmax": (jax.nn.softmax, (X,)),
    "softmax of rows": (lambda x: jax.nn.softmax(rows_of(x)), (X,)),
    "attention": (attention, (X,)),
    "convolutions": (
        lambda x: jax.nn.relu(jnp.convolve(jax.nn.relu(jnp.convolve(x, jnp.ones(3))), jnp.ones(3))),
        (LONG,),
    ),
    "images": (
        lambda x: jax.scipy.signal.convolve(x.reshape(20, 20), jnp.ones((3, 3)), mode="same"),
        (LONG,),
    ),
    "cumsum": (lambda x: jnp.cumsum(jnp.sin(x)), (X,)),
    "cumsum twice": (lambda x: jnp.cumsum(jnp.sin(jnp.cumsum(x))), (X,)),
    "cumprod": (jnp.cumprod, (X,)),
    "solve": (lambda x: jnp.linalg.solve(WEIGHTS + jnp.diag(x), X), (X,)),
    "cholesky": (lambda x: jnp.linalg.cholesky(SIZE * jnp.eye(SIZE) + jnp.outer(x, x)), (X,)),
    "fft": (lambda x: jnp.abs(jnp.fft.rfft(x)), (X,)),
    "sort": (jnp.sort, (X,)),
    "maximum": (lambda x: rows_of(x).max(1), (X,)),
    "lookups": (lambda x, i: jnp.sin(x[i]), (X, PLACES)),
    "additions": (lambda x, i: jnp.zeros(SIZE).at[i].add(jnp.sin(x)), (X, PLACES)),
    "lookups around a product": (lambda x, i, j: (WEIGHTS @ x[i])[j], (X, PLACES, OTHERS)),
    "constant lookups": (
        lambda x: jnp.zeros(SIZE).at[np.asarray(PLACES)].add(x)[np.asarray(OTHERS)],
        (X,),
    ),
    "stencil": (smooth, (X,)),
    "bands": (lambda x: sum(jnp.sin(x[k : k + 20]) for k in range(20)), (X,)),
    "many lookups": (many_lookups, (LONG, MANY)),
    "reshapes across boundaries": (reshapes_across_boundaries, (X,)),
    "band through a loop": (lambda x: jax.lax.fori_loop(0, 3, lambda _, y: smooth(y), x), (LONG,)),
    "reshapes": (lambda x: jnp.sin(rows_of(x)).T.ravel() ** 2, (X,)),
    "checkpoint": (jax.checkpoint(lambda x: jnp.sin(x) * x), (X,)),
    "linear rule": (lambda x: jnp.sin(doubled(x)), (X,)),
    "elementwise loop": (
        lambda x: jax.lax.fori_loop(0, 30, lambda _, y: y + 0.1 * jnp.sin(y), x),
        (X,),
    ),
    "loop that fills": (lambda x: jax.lax.fori_loop(0, 60, lambda _, y: smooth(y), x), (X,)),
    "dense loop": (
        lambda x: jax.lax.fori_loop(0, 5, lambda _, y: jnp.tanh(WEIGHTS @ y), x),
        (X,),
    ),
    "dense while": (
        lambda x: jax.lax.while_loop(lambda y: y[0] > 9, lambda y: jnp.tanh(WEIGHTS @ y), x),
        (X,),
    ),
    "recurrent": (recurrent, (X,)),
    "mapped": (lambda x: jax.lax.map(lambda r: jnp.tanh(r * r.sum()), rows_of(x)).ravel(), (X,)),
    "running mean": (
        lambda x: jax.lax.scan(lambda c, t: (0.9 * c + t, c + t), 0.0, x)[1],
        (X,),
    ),
    "equal branches": (
        lambda x: jax.lax.cond(x[0] > 0, lambda y: 2 * y, jnp.sin, x),
        (X,),
    ),
    "a dense branch": (
        lambda x: jax.lax.cond(x[0] > 0, lambda y: WEIGHTS @ y, lambda y: y, x),
        (X,),
    ),
    "one number without a rule": (lambda x: jnp.sum(third.bind(x)), (X,)),
    "no rule inside of dense layers": (lambda x: WEIGHTS @ third.bind(WEIGHTS @ x), (X,)),
    "a rule of one number": (lambda x: jnp.sum(clipped(x)), (X,)),
}


@pytest.mark.parametrize("name", KEEPING)
def test_what_is_dense_by_nature_is_not_refused(name):
    function, arguments = KEEPING[name]
    transform = blockjac.block_jacobian(function, require_structure=True)
    assert losses_of(transform, *arguments) == ()


def test_the_answer_is_the_same():
    function, (x,) = KEEPING["bands"]
    for transform in (blockjac.block_jacobian, blockjac.sparse_jacobian):
        found = transform(function, require_structure=True)(x)
        dense = found.dense() if isinstance(found, Block) else found.toarray()
        np.testing.assert_allclose(dense, jax.jit(jax.jacfwd(function))(x), rtol=1e-12)
    matrix = blockjac.block_hessian(lambda x: jnp.sum(x[1:] * x[:-1] ** 2), require_structure=True)
    exact = jax.jit(jax.hessian(lambda x: jnp.sum(x[1:] * x[:-1] ** 2)))(x)
    np.testing.assert_allclose(matrix(x)[0, 0].dense(), exact, rtol=1e-12)


# The error


def test_the_error_names_equation_line_numbers_and_what_to_do():
    line = lost_line(no_rule)
    with pytest.raises(StructureLostError) as caught:
        blockjac.block_jacobian(no_rule, require_structure=True)(X)
    message = str(caught.value)
    assert "blockjac.block_jacobian of 'no_rule' would lose structure" in message
    assert "'cube_without_a_rule' at " in message
    assert line in message
    assert "1,600 numbers" in message
    assert "docs/how-to/add-a-rule.md" in message
    assert isinstance(caught.value, BlockjacError)
    assert isinstance(caught.value, ValueError)
    again = blockjac.block_jacobian(no_rule, require_structure=True)
    with pytest.raises(StructureLostError, match="cube_without_a_rule"):
        again(X)  # found again, and refused again


@pytest.mark.parametrize(
    ("function", "arguments", "places"),
    [
        (branches_of_known_places, (X,), 2 * SIZE),
        (many_branches_of_known_places, (X, jnp.int32(1)), 4 * SIZE),
        (a_turn_through_a_long_loop, (X,), SIZE),
    ],
)
def test_places_that_all_branches_and_steps_reach_are_kept(function, arguments, places):
    block = blockjac.block_jacobian(function, require_structure=True)(*arguments)
    assert block.nnz == places
    np.testing.assert_allclose(block.dense(), jax.jacfwd(function)(*arguments))


def test_the_error_counts_the_places():
    with pytest.raises(StructureLostError, match=r"\(1,600 numbers for at most 80 places\)"):
        blockjac.block_jacobian(branches_that_differ, require_structure=True)(X, PLACES)


def test_it_is_refused_under_jit_and_vmap_and_with_a_plan():
    strict = blockjac.block_jacobian(backward_rule, require_structure=True)
    for function, x in ((jax.jit(strict), X), (jax.vmap(strict), X[None])):
        with pytest.raises(StructureLostError, match=lost_line(backward_rule)):
            function(x)
    plan = blockjac.plan(backward_rule, dense=False)(X)
    with pytest.raises(StructureLostError, match=lost_line(backward_rule)):
        blockjac.block_jacobian(backward_rule, order=plan, require_structure=True)(X)
    kept = jax.jit(blockjac.block_jacobian(jnp.sin, require_structure=True))(X)
    assert kept.stored == SIZE


def test_a_rule_of_a_function_that_is_called_directly_is_named_by_its_own_line():
    with pytest.raises(StructureLostError, match=rf"{Path(__file__).name}:\d+ \(clipped\)"):
        blockjac.block_jacobian(clipped, require_structure=True)(X)


def test_two_functions_of_one_program_are_told_by_their_own_lines():
    first = lambda x: clipped(x)  # noqa: E731
    second = lambda x: clipped(x)  # noqa: E731
    for function in (first, second):
        with pytest.raises(StructureLostError, match=f":{function.__code__.co_firstlineno}:"):
            blockjac.block_jacobian(function, require_structure=True)(X)


# Of Hessians


def hessian_of_a_band(x):
    moved = jax.lax.fori_loop(0, 60, lambda _, y: smooth(y) ** 2, x)  # LOST
    return jnp.sum(moved**3)


def hessian_of_lookups(x, i, j):
    summed = jnp.zeros(SIZE).at[i].add(x)  # LOST
    return jnp.sum(summed[j] ** 3)


def hessian_of_branches(x, i):
    found = jax.lax.cond(x[0] > 0, lambda y: y**3, lambda y: (y + y[i]) ** 3, x)  # LOST
    return jnp.sum(found)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (hessian_of_a_band, (LONG,)),
        (hessian_of_lookups, (X, PLACES, OTHERS)),
        (jax.jit(hessian_of_lookups), (X, PLACES, OTHERS)),
        (hessian_of_branches, (X, PLACES)),
    ],
)
def test_a_hessian_names_the_line_of_the_function(function, arguments):
    strict = blockjac.block_hessian(function, require_structure=True)
    own = getattr(function, "__wrapped__", function)
    assert lines_of(losses_of(strict, *arguments)) == {lost_line(own)}


def test_a_hessian_that_is_dense_is_not_refused():
    strict = blockjac.block_hessian(
        lambda x: jnp.sum(jnp.tanh(WEIGHTS @ jnp.tanh(WEIGHTS @ x))), require_structure=True
    )
    assert losses_of(strict, X) == ()


# Plans


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("name", ["no_rule", "branches_that_differ", "segments_looked_up"])
def test_a_plan_tells_where_structure_is_lost(name, dense):
    function, arguments = LOSING[name]
    plan = blockjac.plan(function, order="reverse", dense=dense)(*arguments)
    assert lost_line(function) in lines_of(plan.losses)
    text = str(plan)
    assert "structure is lost:" in text
    assert plan.losses[0].reason in text
    assert plan.losses[0].source in text


def test_a_plan_that_loses_nothing_says_so(tmp_path):
    plan = blockjac.plan(lambda x: WEIGHTS @ jnp.sin(x))(X)
    assert plan.losses == ()
    assert str(plan).endswith("structure is lost nowhere")
    lossy = blockjac.plan(no_rule)(X)
    for one in (plan, lossy):
        one.save(tmp_path / "plan.json")
        assert blockjac.Plan.load(tmp_path / "plan.json").losses == one.losses


# What is noted, and when


def test_nothing_is_noted_without_being_asked_for(monkeypatch):
    def refuse(*_: Any) -> None:
        raise AssertionError("something was noted")

    monkeypatch.setattr("blockjac.algebra.losses.Loss", refuse)
    jax.eval_shape(blockjac.block_jacobian(no_rule), X)
    with pytest.raises(AssertionError, match="something was noted"):
        jax.eval_shape(blockjac.block_jacobian(no_rule, require_structure=True), X)


class Shifting(MapGroup):
    """A shift: structured as a block, and dense where it is applied."""

    def __init__(self) -> None:
        shift = lambda parts: [jnp.roll(parts[0], 1)]  # noqa: E731
        back = lambda parts: [jnp.roll(parts[0], -1)]  # noqa: E731
        shape = [(SIZE,)]
        super().__init__(shape, shape, [X.dtype], [X.dtype], back, shift, structured=True)

    def block(self, row: int, column: int) -> Block:
        return Block.identity((SIZE,), X.dtype)

    def _is_wide(self, given: dict[int, Block]) -> bool:
        return False


@pytest.mark.parametrize("through", [pulled_through, pushed_through])
def test_an_operator_applied_to_a_basis_is_noted(through):
    identity = Block.identity((SIZE,), X.dtype)
    with recording() as record:
        through(Shifting(), [identity])
    (loss,) = record.losses
    assert (loss.stored, loss.places) == (SIZE**2, SIZE)
    assert "applied to a basis" in loss.reason
    with recording() as record, planning():
        through(Shifting(), [identity])
    assert record.losses == ()


# Bad input


TRANSFORMS = (blockjac.block_jacobian, blockjac.block_hessian, blockjac.sparse_jacobian)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("value", [1, 0, "yes", None, [True], jnp.bool_(True)])
def test_another_value_is_refused_with_those_that_there_are(transform, value):
    with pytest.raises(TypeError, match=r"require_structure is .*must be True .* or False"):
        transform(jnp.sum, require_structure=value)
