"""The contraction at the places where it is easy to get wrong, and the structure that it keeps."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac.algebra.star import chain_along, star_along
from blockjac.algebra.sums import MAX_TERMS
from blockjac.blocks import Block, Factor, Index, Label, Lookup, Term, add, star
from blockjac.errors import BlockShapeError
from blockjac.planning.jaxpr_cost import operations


def numbers(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def block_of(out_shape, wrt_shape, *terms):
    return Block(out_shape, wrt_shape, np.float64, terms)


def pair(one, other):
    """The mixed-radix number of two labels, most significant first."""
    return Index(0, ((one, other.size), (other, 1)))


def same_window(size, width):
    """`y[o] = sum_k x[o + k - width // 2]`: a SAME convolution with ones."""
    place, tap = Label(size), Label(width)
    wrt = Index(-(width // 2), ((place, 1), (tap, 1)))
    return block_of((size,), (size,), Term((), (Index.of(place),), (wrt,)))


def reshape_block(out_shape, wrt_shape):
    """The Jacobian of `x.reshape`, from `wrt_shape` to `out_shape`, by way of the flat axis."""
    flat = int(np.prod(out_shape))
    outs = tuple(map(Label, out_shape))
    ins = tuple(map(Label, wrt_shape))
    to_flat = block_of((flat,), wrt_shape, Term((), (pair(*ins),), tuple(map(Index.of, ins))))
    from_flat = block_of(out_shape, (flat,), Term((), tuple(map(Index.of, outs)), (pair(*outs),)))
    return star(from_flat, to_flat)


def lookup_block(places, size, bounds=None):
    """`y[l] = x[places[l]]`."""
    label = Label(len(places))
    lookup = Lookup(jnp.asarray(places), (label,), bounds)
    return block_of((len(places),), (size,), Term((), (Index.of(label),), (Index(0, (), lookup),)))


# The traps


def test_two_same_windows_in_a_row_lose_what_leaves_the_axis_in_between():
    window = same_window(3, 3)
    np.testing.assert_array_equal(star(window, window).dense(), [[2, 2, 1], [2, 3, 2], [1, 2, 2]])


def test_three_same_windows_in_a_row():
    window = same_window(7, 3)
    banded = np.asarray(window.dense())
    wanted = banded @ banded @ banded
    np.testing.assert_array_equal(star(star(window, window), window).dense(), wanted)
    np.testing.assert_array_equal(star(window, star(window, window)).dense(), wanted)


def test_a_sum_of_a_broadcast_counts_the_summed_values():
    n, h, m = Label(5), Label(3), Label(5)
    broadcast = block_of((5, 3), (3,), Term((), (Index.of(n), Index.of(h)), (Index.of(h),)))
    total = block_of((), (5, 3), Term((), (), (Index.of(m), Index.of(Label(3)))))
    product = star(total, broadcast)
    np.testing.assert_array_equal(product.dense(), [5, 5, 5])
    assert product.stored == 0


def test_a_sum_of_a_broadcast_counts_only_the_values_in_range():
    """The window of two ends up on an axis of five in four places, with a sum over all of them."""
    spread = block_of((5,), (), Term((), (Index.of(Label(9), 1, -4),), ()))
    total = block_of((), (5,), Term((), (), (Index.of(Label(9), 1, -2),)))
    assert star(total, spread).dense() == 5.0


@pytest.mark.parametrize(
    ("out_shape", "wrt_shape"),
    [((3, 2), (2, 3)), ((2, 3), (3, 2)), ((4, 6), (6, 4)), ((6, 4), (3, 8))],
)
def test_reshapes_whose_boundaries_do_not_divide(out_shape, wrt_shape):
    size = int(np.prod(out_shape))
    block = reshape_block(out_shape, wrt_shape)
    np.testing.assert_array_equal(block.dense(), np.eye(size).reshape(*out_shape, *wrt_shape))
    assert block.nnz == size
    values = numbers(*wrt_shape)
    np.testing.assert_array_equal(block.matvec(values), values.reshape(out_shape))
    back = star(reshape_block(wrt_shape, out_shape), block)
    np.testing.assert_array_equal(back.dense(), Block.identity(wrt_shape).dense())


def test_a_reshape_there_and_back_is_the_identity():
    n, h, a, b = Label(4), Label(6), Label(4), Label(6)
    flatten = block_of((24,), (4, 6), Term((), (pair(n, h),), (Index.of(n), Index.of(h))))
    unflatten = block_of((4, 6), (24,), Term((), (Index.of(a), Index.of(b)), (pair(a, b),)))
    assert star(unflatten, flatten).structure == Block.identity((4, 6)).structure
    split = star(flatten.T, star(Block.diag(numbers(24)), flatten))
    assert split.stored == 24
    assert split.structure == "δ[i,i'] δ[j,j'] A[i,j]"


def test_the_start_of_an_axis_in_a_longer_one():
    """`x[:5]` at both ends: of an axis of 8 it takes the first 5 into an axis of 7."""
    label = Label(5)
    head = block_of((7,), (8,), Term((), (Index.of(label),), (Index.of(label),)))
    diagonal = Block.diag(numbers(7))
    wanted = np.zeros((7, 8))
    wanted[range(5), range(5)] = np.asarray(diagonal.diagonal())[:5]
    product = star(diagonal, head)
    np.testing.assert_array_equal(product.dense(), wanted)
    assert product.stored == 5
    np.testing.assert_array_equal(star(head, Block.identity((8,))).dense(), head.dense())


def test_a_label_on_two_axes():
    """`x[i, i]`, of a matrix product, and its transpose after itself."""
    i = Label(4)
    trace_part = block_of((4,), (4, 4), Term((), (Index.of(i),), (Index.of(i), Index.of(i))))
    matrix = numbers(4, 4, 3)
    block = star(trace_part, Block.from_dense(matrix, 2))
    np.testing.assert_array_equal(block.dense(), np.einsum("iik->ik", matrix))
    assert block.stored == 12
    assert star(trace_part, trace_part.T).structure == "δ[i,i']"
    spread = star(trace_part.T, trace_part)
    assert (spread.stored, spread.nnz) == (0, 4)
    shifted = Term((), (Index.of(i),), (Index.of(i), Index.of(i, -1, 3)))
    antidiagonal = block_of((4,), (4, 4), shifted)
    np.testing.assert_array_equal(star(trace_part, antidiagonal.T).dense(), np.zeros((4, 4)))


def test_twenty_doublings_stay_bounded():
    """`x <- x + x[p]` twenty times has 2^20 paths, and a bounded number of terms."""
    size = 12
    shuffle = np.random.default_rng(1).permutation(size)
    step = add(Block.identity((size,), np.float64), lookup_block(shuffle, size, (0, size - 1)))
    wanted = np.linalg.matrix_power(np.eye(size) + np.eye(size)[shuffle], 20)
    block = step
    for _ in range(19):
        block = star(step, block)
        assert len(block.terms) <= MAX_TERMS
        assert block.stored <= size * size + MAX_TERMS * size
    np.testing.assert_array_equal(block.dense(), wanted)


def test_negative_and_clipped_indices():
    """A rule wraps or clips before it builds a lookup; what is still outside is no entry."""
    places = np.array([-1, 0, 5, 2, 7])
    wrapped, clipped = np.where(places < 0, places + 4, places), np.clip(places, 0, 3)
    outer = Block.diag(numbers(5))
    inner = Block.from_dense(numbers(4, 2), 1)
    for found in (places, wrapped, clipped):
        selection = np.array([[float(place == j) for j in range(4)] for place in found])
        for bounds in (None, (int(found.min()), int(found.max()))):
            block = lookup_block(found, 4, bounds)
            np.testing.assert_array_equal(block.dense(), selection)
            product = star(star(outer, block), inner)
            np.testing.assert_allclose(
                product.dense(), outer.dense() @ selection @ inner.dense(), rtol=1e-15
            )
            np.testing.assert_array_equal(block.vecmat(np.arange(5.0)), np.arange(5.0) @ selection)


def test_strides_that_meet_every_sixth_place():
    every_second = block_of((6,), (12,), Term((), (Index.of(s := Label(6)),), (Index.of(s, 2),)))
    every_third = block_of((12,), (4,), Term((), (Index.of(t := Label(4), 3),), (Index.of(t),)))
    product = star(every_second, every_third)
    np.testing.assert_array_equal(
        product.dense(), np.asarray(every_second.dense()) @ np.asarray(every_third.dense())
    )
    assert product.nnz == 2


def test_a_structural_zero_stays_zero_beside_infinity():
    label = Label(3)
    shift = block_of((3,), (3,), Term((), (Index.of(label),), (Index.of(label, 1, 1),)))
    wild = Block.diag(jnp.array([jnp.inf, jnp.nan, 2.0]))
    np.testing.assert_array_equal(star(shift, wild).dense(), [[0, np.nan, 0], [0, 0, 2], [0, 0, 0]])


# Structure


def test_the_products_of_a_network_stay_factors():
    """`X[n,k] * B[n,m,h]`, the derivative by the first weights, is never multiplied out."""
    n, k, h, m = 32, 7, 5, 4
    x, w2, slope = numbers(n, k), numbers(h, m, seed=1), numbers(n, h, seed=2)
    rows, hidden, column = Label(n), Label(h), Label(k)
    wrt_w1 = block_of(
        (n, h),
        (k, h),
        Term(
            (Factor(x, (rows, column), "X"),),
            (Index.of(rows), Index.of(hidden)),
            (Index.of(column), Index.of(hidden)),
        ),
    )
    rows2, hidden2, out = Label(n), Label(h), Label(m)
    wrt_activation = block_of(
        (n, m),
        (n, h),
        Term(
            (Factor(w2, (hidden2, out), "W2"),),
            (Index.of(rows2), Index.of(out)),
            (Index.of(rows2), Index.of(hidden2)),
        ),
    )
    back = star(wrt_activation, Block.diag(slope, "S"))
    assert back.stored == h * m + n * h
    block = star(back, wrt_w1)
    assert block.stored == n * k + h * m + n * h
    np.testing.assert_allclose(
        block.dense(), jnp.einsum("nk,hm,nh->nmkh", x, w2, slope), rtol=1e-14
    )


def test_elementwise_chains_multiply_as_they_meet():
    chain = Block.diag(numbers(6, 4))
    for seed in range(5):
        chain = star(Block.diag(numbers(6, 4, seed=seed)), chain)
    assert chain.stored == 24
    assert len(chain.terms[0].factors) == 1


def test_add_pulls_out_what_both_share():
    """`q W + q V` along two paths: the shared factor is stored once."""
    n, h, k = Label(9), Label(5), Label(4)
    shared, one, other = numbers(9, 5), numbers(5, 4, seed=1), numbers(5, 4, seed=2)

    def path(weights):
        factors = (Factor(shared, (n, h)), Factor(weights, (h, k)))
        return block_of((9, 5), (4,), Term(factors, (Index.of(n), Index.of(h)), (Index.of(k),)))

    both = add(path(one), path(other))
    assert len(both.terms) == 1
    assert both.stored == 45 + 20
    np.testing.assert_allclose(both.dense(), jnp.einsum("nh,hk->nhk", shared, one + other))


def test_a_residual_keeps_its_identity():
    residual = add(Block.identity((30,)), Block.from_dense(numbers(30, 30), 1))
    np.testing.assert_array_equal(residual.dense(), np.eye(30) + numbers(30, 30))
    assert residual.stored <= 900
    deltas = add(Block.identity((30,), np.float64), Block.diag(numbers(30)))
    assert (len(deltas.terms), deltas.stored) == (1, 30)


def test_what_cancels_leaves_nothing():
    """`f - f` along two paths has no entry."""
    block = Block.from_dense(numbers(3, 4), 1)
    assert add(block, -block).stored == 0
    assert (block - block).nnz == 0
    assert (0 * block).stored == 0


# Bad input


def test_shapes_that_differ_are_both_named():
    left, right = Block.from_dense(numbers(2, 3), 1), Block.from_dense(numbers(4, 5), 1)
    with pytest.raises(BlockShapeError, match=r"\(2,\).*\(3,\).*\(4,\).*\(5,\)"):
        star(left, right)
    with pytest.raises(BlockShapeError, match=r"\(2,\).*\(3,\).*\(4,\).*\(5,\)"):
        left @ right
    with pytest.raises(BlockShapeError, match=r"equal shapes.*\(2,\).*\(3,\).*\(4,\).*\(5,\)"):
        left + right


def test_an_array_that_does_not_fit_is_named_with_what_would():
    block = Block.from_dense(numbers(2, 3), 1)
    with pytest.raises(BlockShapeError, match=r"wrt_shape \(3,\) on the right.*shape \(2,\)"):
        block.matvec(jnp.ones(2))
    with pytest.raises(BlockShapeError, match=r"out_shape \(2,\) on the left.*shape \(3,\)"):
        block.vecmat(jnp.ones(3))
    with pytest.raises(BlockShapeError, match=r"wrt_shape \(3,\) on the right.*shape \(3, 1\)"):
        block @ jnp.ones((3, 1))


def test_two_arrays_are_sent_to_chain_rule():
    with pytest.raises(BlockShapeError, match=r"found .* and .*chain_rule\(Dg, Df, var_shape\)"):
        star(jnp.ones((2, 3)), jnp.ones((3, 4)))


def test_a_batched_and_a_single_block_contract_both_ways():
    left = jax.vmap(lambda x: Block.from_dense(x, 1))(numbers(5, 2, 3))
    right = Block.from_dense(numbers(3, 4), 1)
    assert star(left, right).batch_shape == (5,)
    np.testing.assert_allclose(
        star(left, right).dense(), jnp.einsum("bij,jk->bik", left.dense(), right.dense())
    )
    np.testing.assert_allclose(
        star(right.T, left.T).dense(), jnp.einsum("jk,bij->bki", right.dense(), left.dense())
    )
    np.testing.assert_allclose(
        star(left, left.T).dense(), jnp.einsum("bij,bkj->bik", left.dense(), left.dense())
    )
    vectors = numbers(5, 3)
    np.testing.assert_allclose(
        left.matvec(vectors), jnp.einsum("bij,bj->bi", left.dense(), vectors)
    )
    np.testing.assert_allclose(
        left.matvec(vectors[0]), jnp.einsum("bij,j->bi", left.dense(), vectors[0])
    )


def test_windows_that_other_axes_make_plain_stay_on_their_axis():
    """The taps of two windows are fixed by further axes; what is left starts before the axis."""
    o, k = Label(4), Label(2)
    m, j = Label(4), Label(2)
    window, other = Index(-1, ((o, 1), (k, 1))), Index(-1, ((m, 1), (j, 1)))
    left = block_of((4,), (4, 2, 2), Term((), (Index.of(o),), (window, Index.of(k), Index(0))))
    right = block_of((4, 2, 2), (4,), Term((), (other, Index(0), Index.of(j)), (Index.of(m),)))
    wanted = np.tensordot(left.dense(), right.dense(), axes=3)
    assert wanted.sum() == 3
    np.testing.assert_array_equal(star(left, right).dense(), wanted)


@pytest.mark.slow
def test_many_terms_are_not_merged_into_what_fits_nowhere():
    """A stencil of twenty taps on an axis of a million places stays in its diagonals."""
    size = 1_000_000

    def shift(offset):
        label = Label(size - offset)
        return Term((), (Index.of(label),), (Index.of(label, 1, offset),), 1 + offset)

    block = block_of((size,), (size,), *map(shift, range(MAX_TERMS + 4)))
    both = add(block, block)
    assert (len(both.terms), both.stored) == (MAX_TERMS + 4, 0)
    assert both.terms[1].coefficient == 4


@pytest.mark.slow
@pytest.mark.parametrize("width", [2, 3, 5])
def test_two_windows_that_meet_on_an_axis(width):
    """`W W'`: both sides leave the axis in between at the same places."""
    window = same_window(4, width)
    dense = np.asarray(window.dense())
    np.testing.assert_array_equal(star(window, window.T).dense(), dense @ dense.T)
    np.testing.assert_array_equal(star(window.T, window).dense(), dense.T @ dense)


# At a diagonal alone


def multiplications(function, *blocks):
    return operations(jax.make_jaxpr(lambda *blocks: function(*blocks).dense())(*blocks))


def test_the_diagonal_of_a_product_is_its_entries():
    A, B = numbers(6, 7), numbers(7, 6, seed=1)
    left, right = Block.from_dense(A, 1), Block.from_dense(B, 1)
    found = star_along(left, right, [(0, 0)])
    assert found.out_shape == (6,)
    assert found.wrt_shape == ()
    np.testing.assert_allclose(found.dense(), np.diagonal(A @ B), rtol=1e-14)
    cost = multiplications(lambda left, right: star_along(left, right, [(0, 0)]), left, right)
    assert cost.multiplications == 6 * 7


def test_a_pair_ties_lookups_so_that_no_axis_is_written():
    """Rows looked up by each of n meet those of the same n: a mask of t x t, no table."""
    n, t, size = Label(50), Label(5), 1000
    places = Lookup(jnp.arange(250).reshape(50, 5) % 5, (n, t), (0, size - 1))
    values = Factor(numbers(50, 5), (n, t))
    block = block_of((50,), (size,), Term((values,), (Index.of(n),), (Index(0, (), places),)))
    function = lambda block: star_along(block, block.T, [(0, 0)])  # noqa: E731
    np.testing.assert_allclose(function(block).dense(), (block.dense() ** 2).sum(1), rtol=1e-13)
    program = jax.make_jaxpr(lambda block: function(block).dense())(block)
    assert max(np.prod(one.outvars[0].aval.shape) for one in program.jaxpr.eqns) < 50 * size


def test_a_chain_begins_in_the_middle_where_that_is_cheaper():
    """Squared rows of `Q X`: `(Q Q') . (X X')` over a short sum, with no array of all sides."""
    n, t, k, h = Label(5), Label(2), Label(30), Label(40)
    q, x = numbers(5, 2, 40), numbers(5, 2, 30)
    above = block_of(
        (5,),
        (5, 2, 40),
        Term((Factor(q, (n, t, h)),), (Index.of(n),), (*map(Index.of, (n, t, h)),)),
    )
    m, s, g = Label(5), Label(2), Label(40)
    weight = block_of(
        (5, 2, 40),
        (30, 40),
        Term((Factor(x, (m, s, k)),), tuple(map(Index.of, (m, s, g))), (Index.of(k), Index.of(g))),
    )
    chain = lambda a, w: chain_along([a, w, w.T, a.T], [(0, 0)])  # noqa: E731
    wanted = (np.einsum("nth,ntk->nkh", q, x) ** 2).sum((1, 2))
    np.testing.assert_allclose(chain(above, weight).dense(), wanted, rtol=1e-12)
    cost = multiplications(chain, above, weight)
    assert cost.multiplications <= 5 * 2 * 2 * (30 + 40 + 1) < 5 * 2 * 30 * 40


def straight_pairs():
    """Blocks that meet in whole labels, alike, transposed, summed, repeated and masked."""
    square, wide = numbers(4, 4), numbers(4, 3)
    mask = Block.diag(jnp.arange(4) % 2 == 0)
    turned = Block.from_dense(numbers(4, 3, 4), 2)
    n, m = Label(4), Label(3)
    spread = block_of((4,), (4, 3), Term((), (Index.of(n),), (Index.of(n), Index.of(m)), 0.5))
    diagonal = block_of((4,), (4, 4), Term((), (Index.of(n),), (Index.of(n), Index.of(n)), 2))
    half = Block.diag(numbers(4)) + Block.from_dense(square, 1)
    return {
        "diagonals": (Block.diag(numbers(4)), Block.diag(numbers(4) + 1)),
        "itself": (half, half),
        "matrices": (Block.from_dense(square, 1), Block.from_dense(wide, 1)),
        "row": (Block.from_dense(numbers(4), 0), half),
        "mask": (mask, Block.diag(numbers(4))),
        "number of values": (spread, Block.from_dense(numbers(4, 3), 2)),
        "nothing carried": (spread, spread.T),
        "several axes": (Block.from_dense(numbers(4, 4, 3), 1), turned),
        "a diagonal in between": (diagonal, diagonal.T),
        "a diagonal on the left": (diagonal, Block.from_dense(numbers(4, 4, 3), 2)),
        "a diagonal on the right": (Block.from_dense(numbers(3, 4, 4), 1), diagonal.T),
        "size one": (Block.from_dense(numbers(4, 1), 1), Block.from_dense(numbers(1, 4), 1)),
        "scalars": (Block.from_dense(numbers(), 0), Block.from_dense(numbers(4), 0)),
    }


@pytest.mark.parametrize("name", straight_pairs())
def test_labels_that_meet_whole_need_no_solving(name, monkeypatch):
    left, right = straight_pairs()[name]
    found = star(left, right)
    rank = len(left.wrt_shape)
    expected = jnp.tensordot(left.dense() * 1.0, right.dense() * 1.0, rank)
    np.testing.assert_allclose(found.dense(), expected, rtol=1e-13, atol=1e-14)

    module = importlib.import_module("blockjac.algebra.star")
    monkeypatch.setattr(module, "straight", lambda *given: None)
    solved = star(left, right)
    assert found.structure == solved.structure
    np.testing.assert_allclose(found.dense(), solved.dense(), rtol=1e-15, atol=0)


def test_the_side_with_a_coefficient_is_multiplied_by_it():
    """Then the compiler finds the product again, where the same block meets others."""

    def products(a, b, x):
        tangent = Block.diag(x) * 0.5
        return [star(Block.diag(one), tangent).dense() for one in (a, b)]

    program = jax.make_jaxpr(products)(numbers(4), numbers(4), numbers(4))
    point = program.jaxpr.invars[2]
    scaled = [
        equation
        for equation in program.jaxpr.eqns
        if equation.primitive.name == "mul" and equation.invars[0] is point
    ]
    assert len(scaled) == 2
    assert all(float(equation.invars[1].val) == 0.5 for equation in scaled)
