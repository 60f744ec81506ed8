"""Deltas between digits of axes, and index maps of outer axes that are set aside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac.algebra.mixed_radix import Pair, block_pairs, meet
from blockjac.algebra.outside import outside_parts
from blockjac.blocks import Block, Index, Label, Term
from blockjac.control_flow.carry_structure import carry_structure_of, joined


def flat_rows(groups, size):
    """Rows of groups in one flat axis: `A[i, k, m]` at `(size i + k, i, m)`."""
    i, k, m = Label(groups), Label(size), Label(size)
    entries = np.random.default_rng(0).normal(size=(groups, size, size))
    factor = blockjac.blocks.Factor(jnp.asarray(entries), (i, k, m))
    out = (Index(0, ((i, size), (k, 1))),)
    return Block(
        (groups * size,), (groups, size), float, [Term((factor,), out, (Index.of(i), Index.of(m)))]
    )


def test_a_delta_in_a_digit_is_found():
    assert block_pairs(flat_rows(5, 3)) == {Pair(0, 3, 0, 1, 5)}


def test_neighbouring_digits_are_one_delta():
    i, k = Label(5), Label(3)
    number = (Index(0, ((i, 3), (k, 1))),)
    block = Block((15,), (15,), float, [Term((), number, number)])
    assert block_pairs(block) == block_pairs(Block.identity(15, float)) == {Pair(0, 1, 0, 1, 15)}


@pytest.mark.parametrize(
    ("size", "offset", "found"),
    [(15, 0, {Pair(0, 3, 0, 1, 5)}), (18, 0, set()), (18, 1, set()), (18, 3, set())],
)
def test_a_digit_begins_and_ends_where_its_axis_does(size, offset, found):
    i, k = Label(5), Label(3)
    out = (Index(offset, ((i, 3), (k, 1))),)
    block = Block((size,), (5, 3), float, [Term((), out, (Index.of(i), Index.of(k)))])
    assert {pair for pair in block_pairs(block) if pair.wrt_axis == 0} == found


def test_deltas_meet_in_their_common_digits():
    whole, high = frozenset({Pair(0, 1, 0, 1, 12)}), frozenset({Pair(0, 4, 0, 4, 3)})
    assert meet(whole, high) == high
    assert meet(frozenset({Pair(0, 3, 0, 3, 4)}), high) == frozenset()
    assert meet(frozenset({Pair(0, 2, 0, 2, 6)}), high) == high
    assert meet(frozenset({Pair(0, 4, 0, 1, 3)}), high) == frozenset()


def test_a_form_writes_and_reads_digits():
    block = flat_rows(5, 3)
    form = carry_structure_of(block)
    assert form.shape == (5, 3, 3)
    again = form.block(form.array(block))
    np.testing.assert_array_equal(again.dense(), block.dense())
    assert again.stored == 45


def test_a_form_is_refused_a_block_that_lacks_its_delta():
    with pytest.raises(ValueError, match="lacks a delta"):
        carry_structure_of(flat_rows(5, 3)).array(Block.from_dense(jnp.ones((15, 5, 3)), 1))


def test_forms_join_in_digits():
    flat = joined([carry_structure_of(Block.identity(12, float)), form_of_groups(12, 4)])
    assert flat.pairs == {Pair(0, 4, 0, 4, 3)}


def form_of_groups(size, group):
    """The form of a flat block diagonal."""
    i, k, m = Label(size // group), Label(group), Label(group)
    factor = blockjac.blocks.Factor(jnp.ones((size // group, group, group)), (i, k, m))
    out, wrt = Index(0, ((i, group), (k, 1))), Index(0, ((i, group), (m, 1)))
    return carry_structure_of(Block((size,), (size,), float, [Term((factor,), (out,), (wrt,))]))


def test_index_maps_of_outer_axes_are_set_aside():
    block = flat_rows(5, 3)
    (part,) = outside_parts([block, None])
    assert part.blocks[0].out_shape == (5, 3)
    assert part.blocks[1] is None
    (answer, nothing) = part.through(lambda blocks: [*blocks])
    assert nothing is None
    np.testing.assert_array_equal(answer.dense(), block.dense())


def test_plain_outer_axes_stay():
    (part,) = outside_parts([Block.identity((3, 4), float)])
    assert part.embedding is None


def test_a_padded_map_is_set_aside_unless_every_place_counts():
    i = Label(4)
    block = Block((6,), (4,), float, [Term((), (Index.of(i, 1, 1),), (Index.of(i),))])
    assert outside_parts([block])[0].blocks[0].out_shape == (4,)
    assert outside_parts([block], whole=True)[0].embedding is None


def flat_loop(x):
    """A loop whose state is flat, though its steps act on groups of four."""
    step = lambda x: jax.vmap(lambda y: jnp.sin(y) * jnp.sum(y))(x.reshape(-1, 4)).ravel()  # noqa: E731
    return jax.lax.fori_loop(0, 3, lambda _, x: step(x), x)


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_the_state_of_a_loop_may_be_flat(order):
    v = jnp.linspace(0.1, 1.0, 160)
    block = blockjac.block_jacobian(flat_loop, order=order)(v)
    assert block.stored == 640
    np.testing.assert_allclose(block.dense(), jax.jit(jax.jacfwd(flat_loop))(v), rtol=1e-10)


def test_groups_of_two_sizes_one_after_the_other():
    def both(v):
        by_four = jax.vmap(lambda y: jnp.sin(y) * jnp.sum(y))(v.reshape(-1, 4)).ravel()
        return jax.lax.map(lambda y: jnp.cos(y) * jnp.sum(y), by_four.reshape(-1, 8)).ravel()

    v = jnp.linspace(0.1, 1.0, 160)
    block = blockjac.block_jacobian(both)(v)
    assert block.nnz == 160 * 8
    assert block.stored <= 2 * 160 * 8
    np.testing.assert_allclose(block.dense(), jax.jit(jax.jacfwd(both))(v), rtol=1e-10)


@pytest.mark.parametrize("mapped", [jax.vmap, lambda f: lambda x: jax.lax.map(f, x)])
def test_a_ravelled_lookup_is_followed_digit_by_digit(mapped):
    order = np.random.default_rng(0).permutation(40)

    def function(v):
        return mapped(lambda y: jnp.sin(y) * jnp.sum(y))(
            v.reshape(-1, 4)[order].ravel().reshape(-1, 4)
        ).ravel()

    v = jnp.linspace(0.1, 1.0, 160)
    for by in ("forward", "reverse"):
        block = blockjac.block_jacobian(function, order=by)(v)
        assert block.nnz == 640
        assert block.stored <= 1000
        np.testing.assert_allclose(block.dense(), jax.jit(jax.jacfwd(function))(v), rtol=1e-10)


def test_terms_of_one_cotangent_go_through_a_factorization_together():
    """Of `a + a.T` the Cholesky's tangents take one pass, not one for each term."""
    a = jnp.eye(4) * 5 + 0.1
    counted = str(jax.make_jaxpr(blockjac.jacobian(jnp.linalg.cholesky, order="forward"))(a))
    assert counted.count("triangular_solve") == 2
    np.testing.assert_allclose(
        blockjac.jacobian(jnp.linalg.cholesky, order="forward")(a),
        jax.jit(jax.jacfwd(jnp.linalg.cholesky))(a),
        rtol=1e-12,
    )
