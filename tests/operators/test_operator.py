"""Operators against dense arithmetic: named axes stay as they are, everything else is applied."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from blockjac import Block
from blockjac.algebra.backend import planning
from blockjac.blocks import Factor, Index, Label, Term
from blockjac.operators.compose import compose
from blockjac.operators.map_group import MapGroup

B, N, M, K, P = 5, 3, 2, 4, 6

random = np.random.default_rng(0)
U = jnp.asarray(random.normal(size=(B, N, M)))
V = jnp.asarray(random.normal(size=(B, N, K)))
W = jnp.asarray(random.normal(size=(B, N, P)))
S = jnp.asarray(random.normal(size=(B, P)))

passes = []


def group(pull=True, push=True, named=True):
    """Results `y[b, n]` and `s[b]` of inputs `x[b, m]`, `z[k, b]` and shared `w[p]`, linear."""

    def pushed(tangents):
        x, z, w = tangents
        passes.append(("push", x.shape))
        y = (
            jnp.einsum("bnm,bm->bn", U, x)
            + jnp.einsum("bnk,kb->bn", V, z)
            + jnp.einsum("bnp,p->bn", W, w)
        )
        return [y, jnp.sum(x, 1) + jnp.einsum("bp,p->b", S, w)]

    def pulled(cotangents):
        y, s = cotangents
        passes.append(("pull", y.shape))
        return [
            jnp.einsum("bnm,bn->bm", U, y) + s[:, None],
            jnp.einsum("bnk,bn->kb", V, y),
            jnp.einsum("bnp,bn->p", W, y) + jnp.einsum("bp,b->p", S, s),
        ]

    return MapGroup(
        out_shapes=[(B, N), (B,)],
        wrt_shapes=[(B, M), (K, B), (P,)],
        dtypes=[jnp.float64] * 3,
        out_dtypes=[jnp.float64] * 2,
        pull=pulled if pull else None,
        push=pushed if push else None,
        name="linear",
        row_axes=[("batch", None), ("batch",)] if named else None,
        column_axes=[("batch", None), (None, "batch"), (None,)] if named else None,
        structured=True,
    )


def dense_blocks():
    eye = jnp.eye(B)
    return [
        [
            jnp.einsum("bc,bnm->bncm", eye, U),
            jnp.einsum("bc,bnk->bnkc", eye, V),
            W,
        ],
        [
            jnp.einsum("bc,m->bcm", eye, jnp.ones(M)),
            jnp.zeros((B, K, B)),
            S,
        ],
    ]


WAYS = {"both": {}, "pull": {"push": False}, "push": {"pull": False}, "unnamed": {"named": False}}


def close(block, wanted):
    assert block.shape == wanted.shape
    np.testing.assert_allclose(block.dense(), wanted, rtol=1e-12, atol=1e-14)


def term(factors, out, wrt, coefficient=1):
    return Term(tuple(factors), tuple(out), tuple(wrt), coefficient)


def cotangents_of_y():
    """Blocks with respect to y, each with another structure on the batch axis."""
    b, n, m, short = Label(B), Label(N), Label(7), Label(3)
    per_b = Factor(jnp.asarray(random.normal(size=B)), (b,))
    mixed = Factor(jnp.asarray(random.normal(size=(7, B))), (m, b))
    mask = Factor(jnp.asarray(random.uniform(size=B) > 0.5), (b,))
    core = Factor(jnp.asarray(random.normal(size=N)), (n,))
    full = Factor(jnp.asarray(random.normal(size=(3, N))), (short, n))
    over_b, over_n, over_m = Index.of(b), Index.of(n), Index.of(m)
    same = Label(3)
    lookup = Block.from_dense(jnp.asarray(random.normal(size=(4, B, N))), 1)
    return {
        "identity": Block.identity((B, N)),
        "dense": lookup,
        "sum": Block((), (B, N), float, [term([], [], [over_b, over_n])]),
        "per example": Block((B,), (B, N), float, [term([per_b], [over_b], [over_b, over_n])]),
        "weights": Block((7,), (B, N), float, [term([mixed, core], [over_m], [over_b, over_n], 2)]),
        "weights and delta": Block(
            (7, B), (B, N), float, [term([mixed, core], [over_m, over_b], [over_b, over_n])]
        ),
        "mask": Block((B,), (B, N), float, [term([mask, core], [over_b], [over_b, over_n], -1)]),
        "mask summed": Block((), (B, N), float, [term([mask, core], [], [over_b, over_n])]),
        "slice": Block(
            (3, N),
            (B, N),
            float,
            [term([full], [Index.of(short), over_n], [Index.of(short, 1, 2), over_n])],
        ),
        "every second, backwards": Block(
            (3,), (B, N), float, [term([full], [Index.of(short)], [Index.of(short, -2, 4), over_n])]
        ),
        "flattened": Block(
            (B * N,),
            (B, N),
            float,
            [term([], [Index(0, ((b, N), (n, 1)))], [over_b, over_n])],
        ),
        "diagonal": Block(
            (3,), (B, N), float, [term([], [Index.of(same)], [Index.of(same), Index.of(same)])]
        ),
        "two terms": Block.identity((B, N)) + 2.0 * Block.from_dense(jnp.ones((B, N, B, N)), 2),
        "one entry": Block((), (B, N), float, [term([], [], [Index(2), Index(1)])]),
    }


COTANGENTS = cotangents_of_y()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", COTANGENTS)
def test_pullback_is_star_with_the_dense_blocks(name, way):
    cotangent = COTANGENTS[name]
    flat = cotangent.dense().reshape(-1, B * N)
    answers = group(**WAYS[way]).pullback([cotangent, None])
    for answer, block in zip(answers, dense_blocks()[0], strict=True):
        wanted = flat @ block.reshape(B * N, -1)
        close(answer, wanted.reshape(cotangent.out_shape + block.shape[2:]))


@pytest.mark.parametrize("way", ["both", "push"])
@pytest.mark.parametrize("name", COTANGENTS)
def test_pushforward_is_the_transpose(name, way):
    """The same blocks transposed, pushed through the transposed group."""
    tangent = COTANGENTS[name].T
    own = group(**WAYS[way])
    transposed = MapGroup(
        own.wrt_shapes,
        own.out_shapes,
        own.out_dtypes,
        own.dtypes,
        own.push,
        own.pull,
        "transposed",
        own.column_axes,
        own.row_axes,
        structured=True,
    )
    answers = transposed.pushforward([tangent, None])
    for answer, block in zip(answers, dense_blocks()[0], strict=True):
        wanted = block.reshape(B * N, -1).T @ tangent.dense().reshape(B * N, -1)
        close(answer, wanted.reshape(block.shape[2:] + tangent.wrt_shape))


@pytest.mark.parametrize("way", WAYS)
def test_blocks(way):
    own = group(**WAYS[way])
    for row, column in itertools.product(range(2), range(3)):
        close(own.block(row, column), dense_blocks()[row][column])


def test_blocks_store_no_zeros_of_the_batch():
    own = group()
    assert own.block(0, 0).stored == B * N * M
    assert own.block(0, 1).stored == B * N * K
    assert own.block(0, 2).stored == B * N * P
    assert own.block(1, 0).stored == B * M


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("identity", [B * N * M, B * N * K, B * N * P]),
        ("per example", [B * M, B * K, B * P]),
        ("sum", [B * M, B * K, P]),
        ("weights", [7 * B + B * M, 7 * B + B * K, 7 * P]),
        ("weights and delta", [7 * B + B * M, 7 * B + B * K, 7 * B * P]),
        ("mask", [B + B * M, B + B * K, None]),
        ("slice", [3 * N * M, 3 * N * K, 3 * N * P]),
        ("flattened", [B * N * M, B * N * K, B * N * P]),
    ],
)
def test_a_label_of_a_named_axis_stays(name, stored):
    answers = group(push=False).pullback([COTANGENTS[name], None])
    for answer, wanted in zip(answers, stored, strict=True):
        assert wanted is None or answer.stored == wanted


def test_a_sum_over_the_batch_is_one_pass_without_a_batch_axis():
    passes.clear()
    group().pullback([COTANGENTS["sum"], None])
    assert passes == [("pull", (B, N))]


def test_several_results_share_one_pass():
    y = Block((B,), (B, N), float, COTANGENTS["per example"].terms)
    s = Block.identity((B,))
    blocks = dense_blocks()
    answers = group().pullback([y, s])
    for column, answer in enumerate(answers):
        wanted = jnp.tensordot(y.dense(), blocks[0][column], 2) + jnp.tensordot(
            s.dense(), blocks[1][column], 1
        )
        close(answer, wanted)
    assert answers[0].stored == B * M


def test_results_of_different_structure_add_up():
    y, s = Block.identity((B, N)), Block.from_dense(jnp.ones((B, N, B)), 2)
    blocks = dense_blocks()
    for column, answer in enumerate(group().pullback([y, s])):
        wanted = jnp.tensordot(y.dense(), blocks[0][column], 2) + jnp.tensordot(
            s.dense(), blocks[1][column], 1
        )
        close(answer, wanted)


def test_joint_pushforward():
    tangents = [
        Block.from_dense(jnp.asarray(random.normal(size=(*shape, 2))), len(shape))
        for shape in ((B, M), (K, B), (P,))
    ]
    passes.clear()
    answers = group().pushforward(tangents)
    assert len(passes) == 1
    blocks = dense_blocks()
    for row, answer in enumerate(answers):
        wanted = sum(
            jnp.tensordot(block, tangent.dense(), len(tangent.out_shape))
            for block, tangent in zip(blocks[row], tangents, strict=True)
        )
        close(answer, wanted)


def test_nothing_given_gives_nothing():
    own = group()
    assert own.pullback([None, Block.zeros((2,), (B,))]) == [None, None, None]
    assert own.pushforward([None, None, Block.zeros((P,), (2,))]) == [None, None]


def test_wide_cotangents_are_contracted_with_the_written_block():
    cotangent = Block.from_dense(jnp.asarray(random.normal(size=(500, B, N))), 1)
    passes.clear()
    answer = group().pullback([cotangent, None])[0]
    close(answer, jnp.tensordot(cotangent.dense(), dense_blocks()[0][0], 2))
    assert len(passes) <= 3


def test_compose_with_either_side():
    edge = group().edges()[0][1]
    left, right = Block.identity((B, N)), Block.identity((K, B))
    close(compose(left, edge), dense_blocks()[0][1])
    close(compose(edge, right), dense_blocks()[0][1])
    close(compose(Block.zeros((2,), (B, N)), edge), jnp.zeros((2, K, B)))
    close(compose(edge, Block.zeros((K, B), (2,))), jnp.zeros((B, N, 2)))


@pytest.mark.parametrize("name", COTANGENTS)
def test_a_plan_has_the_structure_of_what_it_plans(name):
    cotangent = COTANGENTS[name]
    with planning() as cost:
        planned = group().pullback([cotangent, None])
    for one, other in zip(planned, group().pullback([cotangent, None]), strict=True):
        assert one.stored == other.stored
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
    assert cost.operator_operations > 0


def test_one_value_on_a_named_axis_has_no_label():
    own = MapGroup(
        [(1, 2)],
        [(1, 2)],
        [jnp.float64],
        [jnp.float64],
        lambda parts: [3.0 * parts[0]],
        None,
        "scaling",
        [("batch", None)],
        [("batch", None)],
        structured=True,
    )
    close(own.block(0, 0), 3.0 * jnp.eye(2).reshape(1, 2, 1, 2))
    close(own.pullback([Block.identity((1, 2))])[0], 3.0 * jnp.eye(2).reshape(1, 2, 1, 2))


def scaled_columns():
    """`y[i, r] = sum_j M[i, j] x[j, r] + sum_j N[i, j] t[j]`, alike for each column r."""
    left, right = U[0, :, :2], V[0, :, :2]
    widths = []

    def pull(cotangents):
        (y,) = cotangents
        widths.append(y.shape[-1])
        return [left.T @ y, right.T @ jnp.sum(jnp.broadcast_to(y, (N, K)), 1)]

    own = MapGroup(
        [(N, K)],
        [(2, K), (2,)],
        [jnp.float64] * 2,
        [jnp.float64],
        pull,
        None,
        "columns",
        [(None, "column")],
        [(None, "column"), (None,)],
        uniform=frozenset(["column"]),
        structured=True,
    )
    return own, widths, left, right


def test_a_constant_along_a_uniform_axis_goes_through_once():
    own, widths, left, right = scaled_columns()
    by_x, by_t = own.pullback([Block.identity((N, K))])
    assert by_x.stored == N * 2
    assert set(widths) == {1, K}
    close(by_x, jnp.einsum("ij,rs->irjs", left, jnp.eye(K)))
    close(by_t, jnp.broadcast_to(right[:, None], (N, K, 2)))


def test_what_varies_along_a_uniform_axis_goes_through_as_it_is():
    own, widths, left, right = scaled_columns()
    values = jnp.asarray(random.normal(size=(N, K)))
    by_x, by_t = own.pullback([Block.from_dense(values, 0)])
    assert widths == [K]
    close(by_x, left.T @ values)
    close(by_t, right.T @ jnp.sum(values, 1))
    assert own.block(0, 0).stored == N * 2
