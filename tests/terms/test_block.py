"""Blocks as values: construction, what they store, and their life inside JAX's transformations."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac.blocks import Block, Factor, Index, Label, Lookup, Term, add, star
from blockjac.errors import BlockShapeError, DenseTooLargeError


def numbers(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def affine_x(weights, rows):
    """`D_X (X W + b)`: the other operand, and a delta in the rows."""
    inputs, outputs = weights.shape
    n, k, h = Label(rows), Label(inputs), Label(outputs)
    factor = Factor(weights, (k, h), "W")
    term = Term((factor,), (Index.of(n), Index.of(h)), (Index.of(n), Index.of(k)))
    return Block((rows, outputs), (rows, inputs), weights.dtype, [term])


def softmax_block(probabilities):
    """`D_Z softmax` by rows: `diag(p) - p p'` of each row."""
    rows, classes = probabilities.shape
    n, i = Label(rows), Label(classes)
    diagonal = Term((Factor(probabilities, (n, i), "P"),), *(((Index.of(n), Index.of(i)),) * 2))
    m, a, b = Label(rows), Label(classes), Label(classes)
    outer = Term(
        (Factor(probabilities, (m, a), "P"), Factor(probabilities, (m, b), "P")),
        (Index.of(m), Index.of(a)),
        (Index.of(m), Index.of(b)),
        -1,
    )
    shape = probabilities.shape
    return Block(shape, shape, probabilities.dtype, [diagonal, outer])


def gather_block(places, size):
    label = Label(len(places))
    index = Index(0, (), Lookup(jnp.asarray(places), (label,)))
    term = Term((), (Index.of(label),), (index,))
    return Block((len(places),), (size,), jnp.float64, [term])


# What is stored


def test_affine_x_stores_the_weights_alone():
    block = affine_x(numbers(256, 64), 1024)
    assert block.shape == (1024, 64, 1024, 256)
    assert block.stored == 16_384
    assert block.nbytes == 8 * 16_384
    assert block.nnz == 1024 * 256 * 64


@pytest.mark.slow
def test_softmax_stores_its_probabilities_once():
    block = softmax_block(jax.nn.softmax(numbers(512, 10)))
    assert block.stored == 5_120
    assert block.nnz == 51_200
    product = star(block, Block.diag(numbers(512, 10)))
    assert product.stored <= 51_200 + 5_120
    twice = star(block, block)
    assert twice.stored <= 51_200 + 5_120
    one = softmax_block(jax.nn.softmax(numbers(3, 4)))
    wanted = jax.vmap(jax.jacfwd(jax.nn.softmax))(numbers(3, 4))
    dense = np.zeros((3, 4, 3, 4))
    for row in range(3):
        dense[row, :, row] = wanted[row]
    np.testing.assert_allclose(one.dense(), dense, rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(
        star(one, one).dense(), np.einsum("iajb,jbkc->iakc", dense, dense), rtol=1e-12, atol=1e-16
    )


def test_deltas_store_nothing():
    assert Block.identity((100, 200)).stored == 0
    assert Block.identity((100, 200)).nnz == 20_000
    assert Block.zeros((3,), (4,)).nnz == 0
    np.testing.assert_array_equal(Block.zeros((3,), (4,)).dense(), np.zeros((3, 4)))


def test_a_shared_array_counts_once():
    values = numbers(50)
    block = add(Block.diag(values), Block.from_dense(jnp.ones((50, 50)), 1))
    total = add(Block.diag(values), star(Block.diag(values), gather_block(range(49, -1, -1), 50)))
    assert block.stored <= 2500
    assert total.stored == 50 + 50  # the values and the gather's places


def test_sizes_and_dtypes():
    block = Block.from_dense(jnp.ones((2, 3, 4), jnp.float32), 1)
    assert (block.out_shape, block.wrt_shape, block.shape) == ((2,), (3, 4), (2, 3, 4))
    assert (block.size, block.nbytes, block.dtype) == (24, 96, np.float32)
    assert block.dense().dtype == np.float32
    assert Block.identity((2,), jnp.float32).dense().dtype == np.float32
    assert star(block, Block.identity((3, 4), jnp.float32)).dtype == np.float32


@pytest.mark.slow
def test_numpy_arrays_follow_the_precision_of_jax():
    """Without x64 a float64 array of numpy becomes float32, with no warning, as in JAX."""
    program = (
        "import warnings, numpy as np; warnings.simplefilter('error')\n"
        "from blockjac.blocks import Block\n"
        "block = Block.diag(np.ones(3))\n"
        "assert block.dtype == block.dense().dtype == np.float32\n"
        "assert (block @ block).dense().dtype == np.float32\n"
        "assert block.matvec(np.ones(3)).dtype == np.float32\n"
        "assert Block.zeros((2,), (3,), np.float64).dtype == np.float32\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_scalars_and_signs():
    block = Block.diag(numbers(4))
    np.testing.assert_array_equal((2 * block).dense(), 2 * block.dense())
    np.testing.assert_array_equal((block * -0.5).dense(), -0.5 * block.dense())
    np.testing.assert_array_equal((-block).dense(), -block.dense())
    with pytest.raises(TypeError):
        block * numbers(4)
    with pytest.raises(TypeError):
        block + 1


def test_arrays_on_either_side():
    block = Block.from_dense(numbers(2, 3), 1)
    vector, covector = numbers(3), numbers(2)
    np.testing.assert_allclose(block @ vector, block.dense() @ vector)
    np.testing.assert_allclose(covector @ block, covector @ block.dense())
    np.testing.assert_allclose(np.asarray(covector) @ block, covector @ block.dense())


# Inside JAX's transformations


def test_equal_structures_compile_once():
    traces = []

    @jax.jit
    def twice(block):
        traces.append(block.structure)
        return star(block, block)

    for seed in range(3):
        for name in ("", f"name{seed}"):
            values = numbers(6, 4, seed=seed)
            block = twice(Block.diag(values, name))
            np.testing.assert_allclose(block.diagonal(), values**2)
    assert len(traces) == 1
    twice(Block.diag(numbers(4, 6)))
    assert len(traces) == 2


def test_blocks_go_in_and_out_of_jit():
    block = softmax_block(jax.nn.softmax(numbers(5, 3)))
    again = jax.jit(lambda block: block)(block)
    assert jax.tree.structure(again) == jax.tree.structure(block)
    assert again.stored == block.stored
    np.testing.assert_array_equal(again.dense(), block.dense())
    product = jax.jit(star)(block, block)
    np.testing.assert_allclose(product.dense(), star(block, block).dense(), atol=1e-16)


def test_blocks_are_carried_through_scan():
    steps = numbers(10, 6)

    def step(carry, values):
        carry = star(Block.diag(values), carry)
        return carry, carry

    last, every = jax.lax.scan(step, Block.diag(jnp.ones(6)), steps)
    np.testing.assert_allclose(last.diagonal(), jnp.prod(steps, axis=0))
    assert last.stored == 6
    assert every.batch_shape == (10,)
    np.testing.assert_allclose(every.diagonal(), jnp.cumprod(steps, axis=0))


def test_blocks_go_through_cond():
    def of_either(flag, values):
        return jax.lax.cond(flag, lambda: Block.diag(values), lambda: Block.diag(2 * values))

    np.testing.assert_array_equal(of_either(False, numbers(3)).diagonal(), 2 * numbers(3))


def test_a_batch_of_blocks_has_the_batch_axis_first():
    values = numbers(5, 3)
    batch = jax.vmap(Block.diag)(values)
    assert (batch.shape, batch.batch_shape) == ((3, 3), (5,))
    assert batch.dense().shape == (5, 3, 3)
    np.testing.assert_array_equal(batch.diagonal(), values)
    np.testing.assert_array_equal(batch.T.dense(), batch.dense())
    np.testing.assert_array_equal((batch + batch).diagonal(), 2 * values)
    assert "batch=(5,)" in repr(batch)


def test_an_identity_is_one_identity_for_the_whole_batch():
    batch = jax.vmap(lambda _: Block.identity((3,)))(jnp.ones(5))
    assert batch.batch_shape == ()
    np.testing.assert_array_equal(batch.dense(), np.eye(3))
    diagonals = jax.vmap(Block.diag)(numbers(5, 3))
    np.testing.assert_array_equal(star(batch, diagonals).diagonal(), numbers(5, 3))
    np.testing.assert_array_equal(star(diagonals, batch).diagonal(), numbers(5, 3))
    np.testing.assert_array_equal((batch + diagonals).diagonal(), 1 + numbers(5, 3))


def test_batches_of_batches():
    values = numbers(2, 5, 3)
    batch = jax.vmap(jax.vmap(Block.diag))(values)
    assert batch.batch_shape == (2, 5)
    np.testing.assert_array_equal(batch.diagonal(), values)
    inner = jax.vmap(Block.diag)(values[0])
    np.testing.assert_array_equal(star(batch, inner).diagonal(), values * values[0])


def test_blocks_of_a_batch_go_back_into_vmap():
    batch = jax.vmap(Block.diag)(numbers(5, 3))
    np.testing.assert_array_equal(jax.vmap(lambda block: block.dense())(batch), batch.dense())


def test_blocks_differentiate():
    """A block is a function of its leaves like any other."""

    def total(values):
        return star(Block.diag(values), Block.diag(values)).dense().sum()

    np.testing.assert_allclose(jax.grad(total)(numbers(4)), 2 * numbers(4))


def test_a_round_trip_keeps_shared_arrays_and_lookups_shared():
    label = Label(4)
    lookup = Lookup(jnp.array([2, 0, 1, 2]), (label,))
    index = Index(0, (), lookup)
    values = numbers(4)
    term = Term((Factor(values, (label,)),), (Index.of(label), index), (index,))
    block = Block((4, 3), (3,), np.float64, [term, term])
    leaves, tree = jax.tree.flatten(block)
    assert len(leaves) == 2
    again = jax.tree.unflatten(tree, leaves)
    assert again.terms[0].out[1].lookup is again.terms[0].wrt[0].lookup
    assert again.terms[0].factors[0].array is again.terms[1].factors[0].array


# Bad input


def test_from_dense_wants_its_axes_within_the_array():
    with pytest.raises(BlockShapeError, match=r"out_ndim is 3.*\(2, 3\) has 2 axes.*0 and 2"):
        Block.from_dense(jnp.ones((2, 3)), 3)
    with pytest.raises(BlockShapeError, match=r"out_ndim is -1"):
        Block.from_dense(jnp.ones((2, 3)), -1)


def test_a_diagonal_wants_equal_shapes():
    with pytest.raises(BlockShapeError, match=r"equal output and input.*\(2,\).*\(3,\)"):
        Block.from_dense(jnp.ones((2, 3)), 1).diagonal()


def test_a_dense_result_over_the_limit_is_refused_with_the_way_out():
    block = affine_x(jnp.ones((256, 64)), 1024)
    with pytest.raises(
        DenseTooLargeError,
        match=r"float64\[1024, 64, 1024, 256\].*needs 128 GiB.*limit of 1 GiB.*"
        r"the Block holds it in 128 KiB.*matvec.*max_bytes=",
    ):
        block.dense(max_bytes=2**30)
    with pytest.raises(DenseTooLargeError, match=r"needs 2 PiB"):
        Block.identity((2**23, 2), np.float64).dense()


def test_a_term_with_the_wrong_number_of_axes_is_refused():
    with pytest.raises(BlockShapeError, match=r"1 output.*0 input.*\(2, 3\).*\(\)"):
        Block((2, 3), (), np.float64, [Term((), (Index(),), ())])


def test_trees_of_masks_and_axes_keep_every_leaf():
    """As equinox's partition and `in_axes` make them: equal leaves stay as many as the arrays."""
    terms = [*Block.diag(numbers(3)).terms, *Block.from_dense(numbers(3, 3), 1).terms]
    block = Block((3,), (3,), np.float64, terms)
    tree = jax.tree.structure(block)
    assert tree.num_leaves == 2
    masks = jax.tree.map(lambda _: True, block)
    assert jax.tree.structure(masks) == tree
    assert jax.tree.leaves(masks) == [True, True]
    chosen = jax.tree.map(lambda mask, leaf: leaf if mask else None, masks, block)
    np.testing.assert_array_equal(chosen.dense(), block.dense())
    nothing = jax.tree.map(lambda _: None, block)
    back = jax.tree.map(lambda _, leaf: leaf, nothing, block, is_leaf=lambda leaf: leaf is None)
    np.testing.assert_array_equal(back.dense(), block.dense())
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), block)
    axes = jax.tree.map(lambda _: 0, block)
    found = jax.vmap(lambda block: block.dense(), in_axes=(axes,))(stacked)
    np.testing.assert_array_equal(found, [block.dense(), 2 * block.dense()])


def test_the_names_of_sparse_arrays_give_the_entries():
    block = Block.diag(jnp.arange(1.0, 4.0))
    assert isinstance(block.todense(), jax.Array)
    assert type(block.toarray()) is np.ndarray
    np.testing.assert_array_equal(block.todense(), block.dense())
    np.testing.assert_array_equal(block.toarray(), block.dense())
    whole = blockjac.block_hessian(lambda p: jnp.sum(p["a"] ** 2) * p["b"])(
        {"a": jnp.arange(1.0, 3.0), "b": jnp.array(2.0)}
    )
    np.testing.assert_array_equal(whole.toarray(), whole.dense())


def test_numpy_gets_the_entries_written_out():
    block = blockjac.block_jacobian(lambda x: x[1:] * x[:-1])(jnp.arange(1.0, 5.0))
    array = np.asarray(block)
    assert array.shape == (3, 4)
    assert array.dtype == block.dtype
    np.testing.assert_array_equal(array, block.dense())
    assert np.allclose(block, array)
    assert np.asarray(block, np.float32).dtype == np.float32
    np.testing.assert_array_equal(jnp.asarray(block), array)
    with pytest.raises(ValueError, match="copy=False"):
        np.asarray(block, copy=False)
    with pytest.raises(jax.errors.TracerArrayConversionError):
        jax.jit(lambda x: np.asarray(blockjac.block_jacobian(jnp.sin)(x)))(jnp.ones(3))


def test_an_index_is_answered_with_what_to_write():
    block = blockjac.block_jacobian(jnp.sin)(jnp.arange(3.0))
    with pytest.raises(TypeError, match=r"a Block takes no index.*block\.dense\(\)"):
        block[0, 1]


def test_numpy_gets_the_entries_of_a_grid():
    matrix = blockjac.block_hessian(lambda p: jnp.sum(p["a"] * p["b"] ** 2))(
        {"a": jnp.ones(2), "b": jnp.full(2, 3.0)}
    )
    np.testing.assert_array_equal(np.asarray(matrix), matrix.dense())


def test_numpy_is_refused_what_does_not_fit():
    block = blockjac.block_jacobian(jnp.sin)(jnp.ones((2000, 3000)))
    with pytest.raises(blockjac.errors.DenseTooLargeError):
        np.asarray(block)
