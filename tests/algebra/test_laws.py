"""The laws of the block algebra, on random blocks, against loops over the definition."""

import math
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracle import dense_of, places_of, star_of
from support.strategies import blocks, shapes

from blockjac.algebra.dense import along
from blockjac.algebra.star import chain_along, star_along
from blockjac.blocks import Block, Factor, Lookup, Term, add, star
from blockjac.terms.block import leaves

QUICK = settings(max_examples=min(40, settings.default.max_examples))
THOROUGH = settings(max_examples=max(50, settings.default.max_examples // 2))


def labels_all_count(block):
    """Whether no factor has a label of size 1, which stands in no index and so has no place."""
    return all(
        label.size != 1 for term in block.terms for one in term.factors for label in one.labels
    )


def numbers_of(block):
    """All numbers of a block, those of known lookups too, which `stored` leaves out."""
    return sum(math.prod(array.shape) for array, _ in leaves(block))


def check_dense(data):
    out_shape, wrt_shape = data.draw(shapes()), data.draw(shapes())
    block, terms = data.draw(blocks(out_shape, wrt_shape))
    dense = block.dense()
    assert dense.shape == block.shape
    assert dense.dtype == block.dtype
    np.testing.assert_array_equal(dense, dense_of(terms, block.shape))


def check_star(data):
    out_shape, middle, wrt_shape = data.draw(shapes(1)), data.draw(shapes()), data.draw(shapes(1))
    left, left_terms = data.draw(blocks(out_shape, middle, most_terms=2))
    right, right_terms = data.draw(blocks(middle, wrt_shape, most_terms=2))
    wanted = star_of(
        dense_of(left_terms, left.shape), dense_of(right_terms, right.shape), len(out_shape)
    )
    product = star(left, right)
    assert product.shape == wanted.shape
    assert product.dtype == np.float64
    assert labels_all_count(product)
    np.testing.assert_array_equal(product.dense(), wanted)


def check_chain(data):
    """Three blocks after each other, in both orders."""
    ends = [data.draw(shapes(1, zero=False)) for _ in range(2)]
    middles = [data.draw(shapes(2, zero=False)) for _ in range(2)]
    places = [ends[0], *middles, ends[1]]
    made = [data.draw(blocks(places[i], places[i + 1], most_terms=2)) for i in range(3)]
    first, second, third = (block for block, _ in made)
    dense = [dense_of(terms, block.shape) for block, terms in made]
    wanted = star_of(star_of(dense[0], dense[1], len(ends[0])), dense[2], len(ends[0]))
    np.testing.assert_array_equal(star(star(first, second), third).dense(), wanted)
    np.testing.assert_array_equal(star(first, star(second, third)).dense(), wanted)


def check_add(data):
    out_shape, wrt_shape = data.draw(shapes()), data.draw(shapes())
    left, left_terms = data.draw(blocks(out_shape, wrt_shape))
    right, right_terms = data.draw(blocks(out_shape, wrt_shape))
    wanted = dense_of([*left_terms, *right_terms], left.shape)
    total = add(left, right)
    assert labels_all_count(total)
    np.testing.assert_array_equal(total.dense(), wanted)
    doubled = 2 * dense_of(left_terms, left.shape)
    np.testing.assert_array_equal((left - right).dense(), doubled - wanted)
    twice = add(left, left)
    np.testing.assert_array_equal(twice.dense(), doubled)
    assert numbers_of(twice) <= numbers_of(left)


def check_views(data):
    """Transpose, products with tensors, entries."""
    out_shape, wrt_shape = data.draw(shapes()), data.draw(shapes())
    block, terms = data.draw(blocks(out_shape, wrt_shape))
    wanted = dense_of(terms, block.shape)
    rank = len(out_shape)
    turned = np.transpose(wanted, [*range(rank, wanted.ndim), *range(rank)])
    np.testing.assert_array_equal(block.T.dense(), turned)
    tangent = np.arange(1.0, 1 + np.prod(wrt_shape)).reshape(wrt_shape)
    cotangent = np.arange(1.0, 1 + np.prod(out_shape)).reshape(out_shape)
    np.testing.assert_array_equal(block.matvec(tangent), star_of(wanted, tangent, rank))
    np.testing.assert_array_equal(block.vecmat(cotangent), star_of(cotangent, wanted, 0))
    assert block.nnz == len(places_of([t for t in terms if t.coefficient], block.shape))


def check_diagonal(data):
    shape = data.draw(shapes())
    block, terms = data.draw(blocks(shape, shape))
    size = int(np.prod(shape))
    wanted = dense_of(terms, block.shape).reshape(size, size).diagonal().reshape(shape)
    np.testing.assert_array_equal(block.diagonal(), wanted)


def pairs_of(data, out_shape, wrt_shape):
    """Some output axes with input axes of their sizes, each axis once at most."""
    fitting = [(i, j) for i, a in enumerate(out_shape) for j, b in enumerate(wrt_shape) if a == b]
    pairs = []
    for i, j in data.draw(st.permutations(fitting)):
        free = all(i != one and j != other for one, other in pairs)
        if free and data.draw(st.integers(0, 2)):
            pairs.append((i, j))
    return pairs


def entries_along(dense, out_rank, pairs):
    """`dense` where the pairs agree: the output axes, then the input axes in no pair."""
    axes = list(range(dense.ndim))
    for i, j in pairs:
        axes[out_rank + j] = i
    kept = [*axes[:out_rank], *(axis for axis in axes[out_rank:] if axis >= out_rank)]
    return np.einsum(dense, axes, kept)


def matching_shapes(data, most_axes):
    """Two shapes, of which the second has axes of the first more often than not."""
    out_shape = data.draw(shapes(most_axes))
    own = data.draw(st.permutations(out_shape))[: data.draw(st.integers(0, len(out_shape)))]
    return out_shape, (*own, *data.draw(shapes(1)))[:most_axes]


def check_along(data):
    out_shape, wrt_shape = matching_shapes(data, 2)
    block, terms = data.draw(blocks(out_shape, wrt_shape))
    pairs = pairs_of(data, out_shape, wrt_shape)
    wanted = entries_along(dense_of(terms, block.shape), len(out_shape), pairs)
    found = along(block, pairs)
    assert found.out_shape == out_shape
    assert (found.shape, found.dtype) == (wanted.shape, np.float64)
    np.testing.assert_array_equal(found.dense(), wanted)


def check_star_along(data):
    out_shape, wrt_shape = matching_shapes(data, 2)
    middle = data.draw(shapes())
    left, left_terms = data.draw(blocks(out_shape, middle, most_terms=2))
    right, right_terms = data.draw(blocks(middle, wrt_shape, most_terms=2))
    pairs, rank = pairs_of(data, out_shape, wrt_shape), len(out_shape)
    product = star_of(dense_of(left_terms, left.shape), dense_of(right_terms, right.shape), rank)
    wanted = entries_along(product, rank, pairs)
    found = star_along(left, right, pairs)
    assert found.out_shape == out_shape
    assert (found.shape, found.dtype) == (wanted.shape, np.float64)
    np.testing.assert_array_equal(found.dense(), wanted)


def check_chain_along(data):
    """Three blocks as one network, or a product and its transpose."""
    out_shape, wrt_shape = matching_shapes(data, 1)
    places = [out_shape, data.draw(shapes(1)), data.draw(shapes(1)), wrt_shape]
    made = [data.draw(blocks(*places[i : i + 2], most_terms=2)) for i in range(3)]
    pairs, rank = pairs_of(data, out_shape, wrt_shape), len(out_shape)
    dense = [dense_of(terms, block.shape) for block, terms in made]
    product = star_of(star_of(dense[0], dense[1], rank), dense[2], rank)
    found = chain_along([block for block, _ in made], pairs)
    np.testing.assert_array_equal(found.dense(), entries_along(product, rank, pairs))

    half = star_of(dense[0], dense[1], rank)
    turned = np.transpose(half, [*range(rank, half.ndim), *range(rank)])
    square = star_of(half, turned, rank)
    (first, _), (second, _) = made[:2]
    chain = [first, second, second.T, first.T]
    norms = [(axis, axis) for axis in range(rank)]
    np.testing.assert_array_equal(chain_along(chain, []).dense(), square)
    found = chain_along(chain, norms).dense()
    np.testing.assert_array_equal(found, entries_along(square, rank, norms))


def check_pytree(data):
    out_shape, middle, wrt_shape = data.draw(shapes(1)), data.draw(shapes(1)), data.draw(shapes(1))
    left, left_terms = data.draw(blocks(out_shape, middle, most_terms=2))
    right, right_terms = data.draw(blocks(middle, wrt_shape, most_terms=2))
    leaves, tree = jax.tree.flatten(left)
    again = jax.tree.unflatten(tree, leaves)
    assert jax.tree.structure(again) == tree
    assert again.structure == left.structure
    assert (again.stored, again.nbytes) == (left.stored, left.nbytes)
    np.testing.assert_array_equal(again.dense(), dense_of(left_terms, left.shape))
    product = jax.jit(star)(left, right)
    wanted = star_of(
        dense_of(left_terms, left.shape), dense_of(right_terms, right.shape), len(out_shape)
    )
    np.testing.assert_array_equal(product.dense(), wanted)


def check_batches(data):
    """A block built under `vmap` stands for a batch of blocks; one without leaves for all alike."""
    out_shape, middle, wrt_shape = data.draw(shapes(1)), data.draw(shapes(1)), data.draw(shapes(1))
    _, left_terms = data.draw(blocks(out_shape, middle, most_terms=2))
    right, right_terms = data.draw(blocks(middle, wrt_shape, most_terms=2))
    shape, steps = (*out_shape, *middle), np.arange(3)
    lookups_vary = data.draw(st.booleans())

    def build(step):
        made = [varied(term, step, lookups_vary) for term in left_terms]
        return Block(out_shape, middle, np.float64, made)

    batch = jax.vmap(build)(steps)
    each = np.stack(
        [dense_of([varied(t, step, lookups_vary) for t in left_terms], shape) for step in steps]
    )
    assert batch.shape == shape
    assert batch.batch_shape in ((), (3,))
    np.testing.assert_array_equal(np.broadcast_to(batch.dense(), each.shape), each)

    one = dense_of(right_terms, right.shape)
    wanted = np.stack([star_of(dense, one, len(out_shape)) for dense in each])
    product = star(batch, right)
    np.testing.assert_array_equal(np.broadcast_to(product.dense(), wanted.shape), wanted)
    from_left = star(right.T, batch.T)
    rank = 1 + len(out_shape)
    turned = np.transpose(wanted, (0, *range(rank, wanted.ndim), *range(1, rank)))
    np.testing.assert_array_equal(np.broadcast_to(from_left.dense(), turned.shape), turned)


def varied(term, step, lookups_vary):
    """The term with numbers that grow by `step`, and run-time indices too where they vary."""

    def index(index):
        if index.lookup is None or not lookups_vary:
            return index
        return replace(index, lookup=Lookup(index.lookup.array + step, index.lookup.labels))

    factors = tuple(
        factor if factor.array.dtype == bool else Factor(factor.array + step, factor.labels)
        for factor in term.factors
    )
    return Term(factors, tuple(map(index, term.out)), tuple(map(index, term.wrt)), term.coefficient)


CHECKS = [
    check_dense,
    check_star,
    check_chain,
    check_add,
    check_views,
    check_diagonal,
    check_along,
    check_star_along,
    check_chain_along,
    check_pytree,
    check_batches,
]


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@QUICK
@given(data=st.data())
def test_law(check, data):
    check(data)


@pytest.mark.thorough
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@THOROUGH
@given(data=st.data())
def test_law_thoroughly(check, data):
    check(data)
    if data.draw(st.integers(0, 99)) == 0:
        jax.clear_caches()  # thousands of small programs would fill the memory
