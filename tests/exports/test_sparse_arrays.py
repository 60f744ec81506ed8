"""Exports against loops over the definition: random blocks, odd sizes, and what is refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.oracle import dense_of, places_of
from support.strategies import blocks, shapes

import blockjac
from blockjac.blocks import Block, BlockMatrix, Factor, Index, Label, Lookup, Term, add
from blockjac.errors import BlockShapeError, BlockTypeError, DenseTooLargeError

QUICK = settings(max_examples=min(40, settings.default.max_examples))
FEW = settings(max_examples=min(8, settings.default.max_examples))
BILLIONS = 2**33


def positions(block, terms):
    """The places of a block's matrix, sorted, by the definition."""
    rank = len(block.out_shape)

    def flat(place, shape):
        return int(np.ravel_multi_index(place, shape)) if shape else 0

    return sorted(
        (flat(place[:rank], block.out_shape), flat(place[rank:], block.wrt_shape))
        for place in places_of([term for term in terms if term.coefficient], block.shape)
    )


def drawn(data, **options):
    """A block, its terms, and its matrix by the definition."""
    block, terms = data.draw(blocks(data.draw(shapes()), data.draw(shapes()), **options))
    return block, terms, dense_of(terms, block.shape).reshape(block.matrix_shape)


def shifted(size, offset=0, values=None):
    """One diagonal of a square block, of ones or values."""
    label = Label(size - offset)
    factors = () if values is None else (Factor(jnp.asarray(values), (label,)),)
    term = Term(factors, (Index.of(label),), (Index.of(label, 1, offset),))
    return Block((size,), (size,), np.float64, [term])


def looked_up(places, size):
    """`x[places]` of a vector of a size."""
    label = Label(len(places))
    index = Index(0, (), Lookup(places, (label,)))
    return Block((len(places),), (size,), np.float64, [Term((), (Index.of(label),), (index,))])


def lone(rows, columns):
    """Three entries far apart in a huge matrix."""
    label = Label(3)
    row = Index.of(label, (rows - 1) // 2)
    column = Index.of(label, (columns - 1) // 2)
    values = Factor(jnp.array([1.0, 2.0, 3.0]), (label,))
    return Block((rows,), (columns,), np.float64, [Term((values,), (row,), (column,))])


# Random blocks


@given(st.data())
@QUICK
def test_scipy_formats_of_random_blocks(data):
    block, terms, wanted = drawn(data)
    places = positions(block, terms)
    pattern = block.pattern()
    assert list(zip(pattern.rows.tolist(), pattern.columns.tolist(), strict=True)) == places
    assert pattern.nnz == block.nnz == len(places)
    transposed = sorted((column, row) for row, column in places)
    turned = block.T.pattern()
    assert list(zip(turned.rows.tolist(), turned.columns.tolist(), strict=True)) == transposed
    for format in ("csr", "csc", "coo"):
        matrix = block.to_scipy(format)
        assert matrix.format == format
        assert matrix.nnz == len(places)
        assert matrix.has_canonical_format
        matrix.check_format() if format != "coo" else None
        np.testing.assert_array_equal(matrix.toarray(), wanted)
        np.testing.assert_array_equal(pattern.to_scipy(format).toarray()[wanted != 0], True)
    np.testing.assert_array_equal(block.T.to_scipy().toarray(), wanted.T)


@given(st.data())
@QUICK
def test_diagonals_of_random_blocks(data):
    block, terms, wanted = drawn(data)
    places = positions(block, terms)
    side = min(wanted.shape)
    if len({column - row for row, column in places}) * side > 10 * max(len(places), side):
        with pytest.raises(BlockShapeError, match="whole diagonals"):
            block.to_scipy("dia")
        return
    matrix = block.to_scipy("dia")
    assert matrix.format == "dia"
    np.testing.assert_array_equal(matrix.toarray(), wanted)


@pytest.mark.slow
@given(st.data())
@FEW
def test_jax_formats_of_random_blocks(data):
    block, terms, wanted = drawn(data)
    count = len(positions(block, terms))
    for matrix in (block.to_bcoo(), block.to_bcsr()):
        assert matrix.nse == count
        assert matrix.shape == block.matrix_shape
        np.testing.assert_array_equal(matrix.todense(), wanted)


@pytest.mark.slow
@given(st.data())
@FEW
def test_jax_formats_under_jit(data):
    """The Block is an argument: factors are traced, and so are lookups."""
    block, _, wanted = drawn(data)
    coordinates, rows = jax.jit(lambda block: (block.to_bcoo(), block.to_bcsr()))(block)
    np.testing.assert_array_equal(coordinates.todense(), wanted)
    np.testing.assert_array_equal(rows.todense(), wanted)
    vector = np.arange(1.0, 1 + wanted.shape[1])
    np.testing.assert_array_equal(coordinates @ vector, wanted @ vector)
    np.testing.assert_array_equal(rows @ vector, wanted @ vector)


@given(st.data())
@FEW
def test_scipy_operators_of_random_blocks(data):
    block, _, wanted = drawn(data)
    operator = block.to_scipy_operator()
    right, left = (np.arange(1.0, 1 + size) for size in reversed(wanted.shape))
    assert operator.shape == wanted.shape
    np.testing.assert_array_equal(operator @ right, wanted @ right)
    np.testing.assert_array_equal(operator.T @ left, wanted.T @ left)
    both = np.stack([right, -2 * right], axis=1)
    np.testing.assert_array_equal(operator @ both, wanted @ both)


@pytest.mark.slow
@given(st.data())
@FEW
def test_sums_of_random_blocks(data):
    one, _, first = drawn(data)
    other, other_terms = data.draw(blocks(one.out_shape, one.wrt_shape))
    total = add(one, other)
    wanted = first + dense_of(other_terms, other.shape).reshape(first.shape)
    np.testing.assert_array_equal(total.to_scipy("csc").toarray(), wanted)
    np.testing.assert_array_equal(total.to_bcoo().todense(), wanted)
    pattern = total.pattern()
    found = set(zip(pattern.rows.tolist(), pattern.columns.tolist(), strict=True))
    # A sum may have more, when written out in a common structure, or fewer, when terms cancel.
    assert found >= set(zip(*map(np.ndarray.tolist, np.nonzero(wanted)), strict=True))


@pytest.mark.slow
@given(st.data())
@FEW
def test_grids_of_random_blocks(data):
    outs = [data.draw(shapes(1)) for _ in range(2)]
    wrts = [data.draw(shapes(1)) for _ in range(2)]
    made = [[data.draw(blocks(out, wrt, most_terms=2)) for wrt in wrts] for out in outs]
    matrix = BlockMatrix([[block for block, _ in row] for row in made])
    wanted = np.block(
        [[dense_of(terms, b.shape).reshape(b.matrix_shape) for b, terms in row] for row in made]
    )
    assert matrix.matrix_shape == matrix.shape == wanted.shape
    assert matrix.nnz == matrix.pattern().nnz == matrix.to_scipy().nnz
    for format in ("csr", "csc", "coo"):
        np.testing.assert_array_equal(matrix.to_scipy(format).toarray(), wanted)
    np.testing.assert_array_equal(matrix.to_bcoo().todense(), wanted)
    np.testing.assert_array_equal(matrix.to_bcsr().todense(), wanted)
    vector = np.arange(1.0, 1 + wanted.shape[1])
    operator = matrix.to_scipy_operator()
    np.testing.assert_array_equal(operator @ vector, wanted @ vector)
    np.testing.assert_array_equal(
        operator.T @ np.ones(len(wanted)), wanted.T @ np.ones(len(wanted))
    )


# What is stored


def test_entries_that_are_zero_are_stored():
    block = blockjac.block_jacobian(lambda x: x**2)(jnp.array([0.0, 1.0, 0.0]))
    matrix = block.to_scipy()
    assert (matrix.nnz, matrix.count_nonzero()) == (3, 1)
    matrix.eliminate_zeros()
    assert matrix.nnz == 1
    assert block.to_bcoo().nse == block.to_bcsr().nse == 3


def test_entries_of_one_place_add_up_once():
    twice = Block((4,), (4,), np.float64, [*shifted(4).terms, *shifted(4, 0, np.arange(4.0)).terms])
    for matrix in (twice.to_scipy(), twice.to_scipy("coo"), twice.to_bcoo(), twice.to_bcsr()):
        assert matrix.data.shape == (4,)
        np.testing.assert_array_equal(matrix.data, [1.0, 2.0, 3.0, 4.0])
    column = looked_up(jnp.array([2, 2, 5, -1, 0]), 3)
    summed = blockjac.star(Block.from_dense(jnp.ones(5), 0), column)
    np.testing.assert_array_equal(summed.to_scipy().toarray(), [[1.0, 0.0, 2.0]])


def test_a_lookup_under_jit_holds_no_more_than_its_entries():
    block = looked_up(jnp.array([1, 1, 7, -1]), 3)
    matrix = jax.jit(lambda block: block.to_bcoo())(block)
    assert matrix.nse == 4  # two of them off the matrix, as JAX pads
    np.testing.assert_array_equal(matrix.todense(), block.dense())
    assert block.to_bcoo().nse == block.to_scipy().nnz == 2


@pytest.mark.slow
def test_a_lookup_of_64_bits_does_not_wrap_around_onto_the_matrix():
    block = looked_up(np.array([2**32 + 1, 1, 2]), 5)
    wanted = [[0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]]
    np.testing.assert_array_equal(block.to_bcoo().todense(), wanted)
    np.testing.assert_array_equal(jax.jit(lambda b: b.to_bcoo().todense())(block), wanted)


def test_values_are_computed_where_the_program_runs():
    """Under jit a BCOO of a stencil is written with no constant of its size."""

    def data_of(x):
        return blockjac.block_jacobian(lambda x: (x[1:] - x[:-1]) ** 2)(x).to_bcoo().data

    constants = jax.make_jaxpr(data_of)(jnp.ones(1000)).consts
    assert sum(np.size(constant) for constant in constants) < 100
    slopes = jax.grad(lambda x: jnp.sum(data_of(x) ** 2))(jnp.arange(4.0))
    np.testing.assert_array_equal(
        slopes, jax.grad(lambda x: 8 * jnp.sum((x[1:] - x[:-1]) ** 2))(jnp.arange(4.0))
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "complex64"])
def test_dtypes(dtype):
    block = Block.diag(jnp.array([1.0, 2.0], dtype))
    short = dtype in ("float16", "bfloat16")
    assert block.to_scipy().dtype == (np.float32 if short else dtype)
    assert block.to_bcoo().dtype == block.to_bcsr().dtype == jnp.dtype(dtype)
    np.testing.assert_array_equal(block.to_scipy_operator() @ np.ones(2), [1.0, 2.0])


def test_a_complex_vector_meets_a_real_operator():
    operator = Block.from_dense(jnp.arange(6.0).reshape(2, 3), 1).to_scipy_operator()
    wanted = np.arange(6.0).reshape(2, 3)
    vector = np.array([1j, 2.0, 3.0 - 1j])
    np.testing.assert_array_equal(operator @ vector, wanted @ vector)
    np.testing.assert_array_equal(operator.H @ vector[:2], wanted.T @ vector[:2])
    complex_block = Block.from_dense(jnp.array([[1j, 2.0]]), 1)
    np.testing.assert_array_equal(complex_block.to_scipy_operator().H @ [1.0], [-1j, 2.0])


# Sizes


@pytest.mark.parametrize(("out", "wrt"), [((0,), (3,)), ((3,), (0,)), ((2, 0), ()), ((), (0, 4))])
def test_size_0(out, wrt):
    block = Block.from_dense(jnp.zeros((*out, *wrt)), len(out))
    assert block.nnz == block.pattern().nnz == 0
    for format in ("csr", "csc", "coo", "dia"):
        assert block.to_scipy(format).shape == block.matrix_shape
    assert block.to_bcoo().shape == block.to_bcsr().shape == block.matrix_shape
    assert (block.to_scipy_operator() @ np.ones(block.matrix_shape[1])).shape == (
        block.matrix_shape[0],
    )


def test_a_zero_block_stores_nothing():
    block = blockjac.block_jacobian(lambda x, y: x, 1)(jnp.ones(3), jnp.ones(4))
    assert (block.stored, block.nnz, block.pattern().nnz) == (0, 0, 0)
    for matrix in (block.to_scipy(), block.to_scipy("dia"), block.to_bcoo(), block.to_bcsr()):
        assert matrix.data.size == 0
        assert matrix.shape == (3, 4)


@pytest.mark.parametrize(
    ("rows", "columns", "formats"),
    [
        (BILLIONS, BILLIONS, ["coo"]),
        (2**40, 5, ["coo", "csc"]),
        (5, 2**40, ["coo", "csr"]),
        (2**62, 2**62, ["coo"]),
        (2**31 + 1, 7, ["coo", "csc"]),
    ],
)
def test_more_than_32_bits_of_rows_or_columns(rows, columns, formats):
    block = lone(rows, columns)
    wanted = [(place * ((rows - 1) // 2), place * ((columns - 1) // 2)) for place in range(3)]
    assert (block.nnz, block.size) == (3, rows * columns)
    pattern = block.pattern()
    assert list(zip(pattern.rows.tolist(), pattern.columns.tolist(), strict=True)) == wanted
    for format in formats:
        found = block.to_scipy(format).tocoo()
        np.testing.assert_array_equal(np.stack(found.coords, axis=1), wanted)
        np.testing.assert_array_equal(found.data, [1.0, 2.0, 3.0])
    matrix = block.to_bcoo()
    np.testing.assert_array_equal(matrix.indices, wanted)
    assert matrix.indices.dtype == np.int64
    for format in {"csr", "csc"} - set(formats):
        with pytest.raises(DenseTooLargeError, match=r"the ends of the [\d,]+ (rows|columns)"):
            block.to_scipy(format)


def test_duplicates_where_positions_exceed_64_bits():
    """More than 2**63 places: they are sorted by row and column, not by one number."""
    block = lone(BILLIONS, 2**40)
    both = Block(block.out_shape, block.wrt_shape, block.dtype, [*block.terms, *block.terms])
    matrix = both.to_scipy("coo")
    np.testing.assert_array_equal(matrix.data, [2.0, 4.0, 6.0])
    assert both.nnz == 3


def test_what_does_not_fit_is_refused_before_it_is_computed():
    block = Block.identity((2**20, 2**20))
    assert block.nnz == 2**40
    vector = jnp.ones((4, 3))
    np.testing.assert_array_equal(Block.identity((4, 3)).matvec(vector), vector)
    for export in (block.pattern, block.to_scipy, block.to_bcoo, block.to_bcsr):
        with pytest.raises(DenseTooLargeError, match=r"the (places|ends) of the 1,099,511,627,776"):
            export()
    longer = Block.zeros((2**40, 2**40), (1,))
    for export in (longer.pattern, longer.to_scipy, longer.to_bcoo):
        with pytest.raises(BlockShapeError, match="places that 64 bits cannot number"):
            export()


def test_jax_formats_without_64_bits():
    with jax.enable_x64(False):
        block = lone(2**31 - 1, 2**31 - 1)
        matrix = block.to_bcoo()
        assert matrix.indices.dtype == np.int32
        np.testing.assert_array_equal(matrix.indices[2], [2**31 - 2, 2**31 - 2])
        for export in (lone(2**31, 3).to_bcoo, lone(3, 2**31).to_bcsr):
            with pytest.raises(BlockShapeError, match=r"2,147,483,648.*jax_enable_x64"):
                export()
        assert lone(3, 2**31).to_scipy().nnz == 3


@pytest.mark.slow
def test_the_jacobian_of_a_layer():
    """16 million entries in a matrix of 65,536 x 262,144, of which a place has one."""
    rows, inputs, outputs = 1024, 256, 64
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(inputs, outputs)))
    block = blockjac.block_jacobian(lambda X: X @ weights)(jnp.ones((rows, inputs)))
    matrix = block.to_scipy()
    assert matrix.shape == (65_536, 262_144)
    assert matrix.nnz == block.nnz == 2**24
    vector = np.random.default_rng(1).normal(size=(rows, inputs))
    np.testing.assert_allclose(matrix @ vector.ravel(), (vector @ weights).ravel(), atol=1e-12)


# What is refused


def run_time(places):
    return looked_up(places, 3)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda b: b.to_scipy("bsr"), BlockTypeError, "'csr', 'csc', 'coo', 'dia', but is 'bsr'"),
        (lambda b: b.pattern().to_scipy("x"), BlockTypeError, "format must be one of .* is 'x'"),
        (lambda b: jax.jit(lambda b: b.to_scipy().nnz)(b), BlockTypeError, "return the Block"),
        (
            lambda b: jax.jit(lambda b: b.to_scipy_operator() @ np.ones(4))(b),
            BlockTypeError,
            "to_scipy_operator was called while JAX traces",
        ),
        (
            lambda b: jax.jit(lambda places: run_time(places).pattern().nnz)(jnp.arange(3)),
            BlockTypeError,
            "known only when the program runs",
        ),
    ],
    ids=["format", "pattern-format", "traced", "traced-operator", "traced-pattern"],
)
def test_refused(ask, error, message):
    with pytest.raises(error, match=message):
        ask(Block.diag(jnp.ones(4)))


def test_a_block_that_is_a_constant_of_a_program():
    block = Block.diag(jnp.array([1.0, 2.0]))
    found = jax.jit(lambda x: x * block.to_scipy().sum())(2.0)
    assert found == 6.0
    operator = block.to_scipy_operator()
    assert jax.jit(lambda x: x * (operator @ np.ones(2)).sum())(2.0) == 6.0


def test_diagonals_of_what_is_not_banded():
    label = Label(200)
    anti = Term((), (Index.of(label),), (Index.of(label, -1, 199),))
    block = Block((200,), (200,), np.float64, [anti])
    with pytest.raises(BlockShapeError, match=r"the 200 entries .* lie on 200 of them"):
        block.to_scipy("dia")
    with pytest.raises(DenseTooLargeError, match="the 1 diagonals of format 'dia'"):
        lone(BILLIONS, BILLIONS).to_scipy("dia")


EXPORTS = ("to_scipy", "to_bcoo", "to_bcsr", "to_scipy_operator", "as_linear_operator")


@pytest.mark.parametrize("name", EXPORTS)
def test_a_batch_is_no_matrix(name):
    batch = jax.vmap(Block.diag)(jnp.ones((3, 4)))
    with pytest.raises(BlockTypeError, match=r"a batch \(3,\) of blocks out of jax.vmap"):
        getattr(batch, name)()
    one = jax.tree.map(lambda leaf: leaf[0], batch)
    assert getattr(one, name)() is not None


def test_the_pattern_of_a_batch():
    """One for all where the places are the structure's; refused where each has its own."""
    assert jax.vmap(Block.diag)(jnp.ones((3, 4))).pattern().nnz == 4
    several = jax.vmap(run_time)(jnp.array([[0, 1, 2], [2, 1, 1]]))
    with pytest.raises(BlockTypeError, match="a pattern is made of a single one"):
        several.pattern()


def test_vmap_of_an_export_is_a_batch_of_matrices():
    values = jnp.arange(6.0).reshape(2, 3)
    found = jax.vmap(lambda values: Block.diag(values).to_bcoo().todense())(values)
    np.testing.assert_array_equal(found, [np.diag(row) for row in np.asarray(values)])


def test_one_pass_of_values():
    """As many values are written as there are entries, whatever the number of columns."""
    for size, terms in itertools.product((10, 100), (1, 2)):
        block = Block(
            (size,), (size,), np.float64, [t for k in range(terms) for t in shifted(size, k).terms]
        )
        jaxpr = jax.make_jaxpr(lambda b: b.to_bcoo().data)(block)
        (out,) = jaxpr.out_avals
        assert out.shape == (sum(size - k for k in range(terms)),)
