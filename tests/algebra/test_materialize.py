"""Writing a block out: once, by one fused loop, with nothing stored beside the result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.oracle import dense_of

import blockjac
from blockjac.algebra.backend import planning
from blockjac.algebra.cost import Abstract
from blockjac.algebra.dense import _is_thin, along
from blockjac.blocks import Block, Factor, Index, Label, Lookup, Term, add
from blockjac.errors import BlockShapeError


def numbers(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def over(*labels):
    return tuple(map(Index.of, labels))


def block_of(out_shape, wrt_shape, *terms):
    return Block(out_shape, wrt_shape, np.float64, terms)


def stencil(size, *factors):
    """`y = x[1:] - x[:-1]`, times factors."""
    label = Label(size - 1)
    scaled = tuple(Factor(values, (label,)) for values in factors)
    ahead = Term(scaled, over(label), (Index.of(label, 1, 1),))
    behind = Term(scaled, over(label), over(label), -1)
    return block_of((size - 1,), (size,), ahead, behind)


def affine(rows, inputs, outputs):
    """`X W + b` by X, by W and by b."""
    n, k, h = Label(rows), Label(inputs), Label(outputs)
    out, shape = over(n, h), (rows, outputs)
    weights, data = Factor(numbers(inputs, outputs), (k, h)), Factor(numbers(rows, inputs), (n, k))
    return {
        "affine-x": block_of(shape, (rows, inputs), Term((weights,), out, over(n, k))),
        "affine-w": block_of(shape, (inputs, outputs), Term((data,), out, over(k, h))),
        "affine-b": block_of(shape, (outputs,), Term((), out, over(h))),
    }


def softmax(rows, classes):
    n, i, j = Label(rows), Label(classes), Label(classes)
    values = jax.nn.softmax(numbers(rows, classes))
    one, other = Factor(values, (n, i)), Factor(values, (n, j))
    diagonal = Term((one,), over(n, i), over(n, i))
    outer = Term((one, other), over(n, i), over(n, j), -1)
    return block_of(values.shape, values.shape, diagonal, outer)


def two_factors(rows, inputs, outputs, hidden):
    n, k, m, h = Label(rows), Label(inputs), Label(outputs), Label(hidden)
    factors = (
        Factor(numbers(rows, inputs), (n, k)),
        Factor(numbers(rows, outputs, hidden), (n, m, h)),
    )
    return block_of((rows, outputs), (inputs, hidden), Term(factors, over(n, m), over(k, h)))


def reshape(high, low):
    a, b = Label(high), Label(low)
    factor = Factor(numbers(high, low), (a, b))
    index = Index(0, ((a, low), (b, 1)))
    return block_of((high * low,), (high, low), Term((factor,), (index,), over(a, b)))


def convolution(size, taps, channels, stride=1):
    o, t, c, d = Label((size - taps) // stride + 1), Label(taps), Label(channels), Label(channels)
    kernel = Factor(numbers(taps, channels, channels), (t, c, d))
    window = Index(0, ((o, stride), (t, 1)))
    return block_of(
        (o.size, channels), (size, channels), Term((kernel,), over(o, c), (window, Index.of(d)))
    )


def gather(count, size):
    label = Label(count)
    places = jnp.asarray(np.random.default_rng(2).integers(0, size, count))
    index = Index(0, (), Lookup(places, (label,), (0, size - 1)))
    factor = Factor(numbers(count), (label,))
    return block_of((count,), (size,), Term((factor,), over(label), (index,)))


def strided(count, stride, offset):
    label = Label(count)
    factor = Factor(numbers(count), (label,))
    size = abs(stride) * count
    return block_of(
        (count,), (size,), Term((factor,), over(label), (Index.of(label, stride, offset),))
    )


BLOCKS = {
    "diagonal": Block.diag(numbers(8, 5)),
    "identity": Block.identity((8, 5), np.float64),
    **affine(6, 5, 4),
    "two-factors": two_factors(6, 5, 4, 3),
    "stencil": stencil(20),
    "stencil-scaled": stencil(20, numbers(19)),
    "softmax": softmax(6, 4),
    "reshape": reshape(4, 5),
    "convolution": convolution(12, 3, 2),
    "convolution-strided": convolution(13, 3, 2, stride=2),
    "gather": gather(9, 5),
    "gather-transposed": gather(9, 5).T,
    "strided": strided(7, 2, 0),
    "reversed": strided(7, -1, 6),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_dense_is_the_definition(name):
    block = BLOCKS[name]
    np.testing.assert_allclose(block.dense(), dense_of(block.terms, block.shape), rtol=1e-14)


@pytest.mark.parametrize("name", BLOCKS)
def test_dense_is_one_fused_write(name):
    """The compiled program is one loop that writes the result: no scatter, no other buffer."""
    block = BLOCKS[name]
    compiled = jax.jit(lambda block: block.dense()).lower(block).compile()
    entry = compiled.as_text().split("ENTRY")[1]
    operations = [line for line in entry.splitlines() if " = " in line and "parameter(" not in line]
    assert len(operations) == 1, operations
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes == 0
    assert memory.output_size_in_bytes == 8 * block.size


@pytest.mark.parametrize("name", BLOCKS)
def test_dense_differentiates_and_batches(name):
    """Nothing in it is opaque to JAX: the gradient of a sum of squares is twice the entries."""
    block = BLOCKS[name]
    if not jax.tree.leaves(block):
        return
    floats, ints = {}, {}
    leaves, tree = jax.tree.flatten(block)
    for place, leaf in enumerate(leaves):
        (floats if leaf.dtype == np.float64 else ints)[place] = leaf

    def square(floats):
        joined = {**floats, **ints}
        again = jax.tree.unflatten(tree, [joined[place] for place in range(len(leaves))])
        return (again.dense() ** 2).sum() / 2

    gradient = jax.grad(square)(floats)
    degree = max((len(term.factors) for term in block.terms), default=0)
    inner = sum(float((gradient[place] * floats[place]).sum()) for place in floats)
    if len(block.terms) == 1:  # homogeneous of this degree
        np.testing.assert_allclose(inner, 2 * degree * square(floats), rtol=1e-12)


def test_an_overlap_of_terms_adds_up():
    band = add(stencil(5), stencil(5))
    np.testing.assert_array_equal(band.dense(), 2 * stencil(5).dense())


def test_empty_blocks_are_written_too():
    assert Block.identity((0, 3)).dense().shape == (0, 3, 0, 3)
    assert Block.zeros((), ()).dense() == 0
    assert Block.identity(()).dense() == 1


# Thin results: zeros, and each entry put in its place


def diagonals(size, *offsets, values=None):
    """A square block of several diagonals; those of one offset add up."""
    terms = []
    for place, offset in enumerate(offsets):
        label = Label(size - abs(offset))
        out, wrt = Index.of(label, 1, max(0, -offset)), Index.of(label, 1, max(0, offset))
        own = numbers(label.size, seed=place) if values is None else values[place]
        terms.append(Term((Factor(own, (label,)),), (out,), (wrt,)))
    return block_of((size,), (size,), *terms)


def windows(size):
    """Windows of two taps that run over both ends of the axis."""
    terms = []
    for first in (-3, 0, 2):
        o, t = Label(size), Label(2)
        factor = Factor(numbers(size, 2, seed=first + 3), (o, t))
        terms.append(Term((factor,), over(o), (Index(first, ((o, 1), (t, 1))),), -0.5))
    return block_of((size,), (size,), *terms)


def gathers(size):
    """Lookups of which some are out of range, on either side."""
    terms = []
    for seed in range(3):
        label = Label(size)
        places = np.random.default_rng(seed).integers(-2, size + 2, size)
        index = Index(0, (), Lookup(jnp.asarray(places), (label,)))
        terms.append(Term((Factor(numbers(size, seed=seed), (label,)),), over(label), (index,)))
    return block_of((size,), (size,), *terms)


def several_axes(size):
    n, m = Label(size), Label(size)
    terms = [
        Term((Factor(numbers(size, seed=k), (n,)),), over(n, m), (Index.of(n), Index.of(m, 1, k)))
        for k in range(3)
    ]
    return block_of((size, size), (size, size + 2), *terms)


THIN = {
    "distinct": diagonals(100, -1, 0, 1),
    "duplicates": diagonals(100, 0, 1, 0, 1),
    "windows": windows(120),
    "gathers": gathers(80),
    "several axes": several_axes(8),
    "constants": block_of(
        (90,), (90,), *(Term((), over(i), over(i), k) for k in (1, 2, -5) for i in [Label(90)])
    ),
}


@pytest.fixture(params=list(THIN))
def thin(request):
    block = THIN[request.param]
    assert _is_thin(block)
    return block


def written(block):
    return dense_of(block.terms, block.shape)


def test_thin_results(thin):
    wanted = written(thin)
    assert np.count_nonzero(wanted)
    np.testing.assert_allclose(thin.dense(), wanted, rtol=1e-15)
    assert thin.dense().dtype == thin.dtype


def test_thin_results_under_jit(thin):
    """Factors and lookups are arguments of the program."""
    np.testing.assert_allclose(jax.jit(Block.dense)(thin), written(thin), rtol=1e-15)


def test_thin_results_under_vmap(thin):
    scales = jnp.array([1.0, -2.0])

    def scaled(scale):
        terms = [
            Term(
                tuple(Factor(scale * f.array, f.labels) for f in t.factors) or (Factor(scale, ()),),
                t.out,
                t.wrt,
                t.coefficient,
            )
            for t in thin.terms
        ]
        return Block(thin.out_shape, thin.wrt_shape, thin.dtype, terms).dense()

    found = jax.vmap(scaled)(scales)
    np.testing.assert_allclose(found, np.multiply.outer(scales, written(thin)), rtol=1e-15)


def test_thin_results_with_a_batch_of_lookups():
    """Out of vmap the lookups have a batch axis, and `dense` puts it first."""
    blocks = [gathers(80), gathers(80)]
    shifted = jax.tree.map(lambda leaf: leaf if leaf.dtype == float else leaf + 1, blocks[1])
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), blocks[0], shifted)
    assert batch.batch_shape == (2,)
    np.testing.assert_allclose(batch.dense(), [written(blocks[0]), written(shifted)], rtol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("offsets", [(-1, 0, 1), (0, 1, 0, 1)], ids=["distinct", "duplicates"])
def test_derivatives_through_a_thin_result(offsets):
    """Of the entries that are put in, by reverse and by forward mode, twice."""
    size = 80
    point = [numbers(size - abs(offset), seed=7) for offset in offsets]
    weights = numbers(size, size, seed=8)

    def thin_sum(values):
        return jnp.sum(weights * diagonals(size, *offsets, values=values).dense() ** 2)

    def plain_sum(values):
        matrix = sum(jnp.diag(v, k) for v, k in zip(values, offsets, strict=True))
        return jnp.sum(weights * matrix**2)

    assert _is_thin(diagonals(size, *offsets))
    for derive in (jax.grad, jax.jacfwd, lambda f: jax.jacfwd(jax.grad(f))):
        jax.tree.map(
            lambda found, wanted: np.testing.assert_allclose(found, wanted, rtol=1e-12),
            derive(thin_sum)(point),
            derive(plain_sum)(point),
        )


@pytest.mark.slow
def test_thin_jacobians_of_functions_differentiate_again():
    """A stencil of four terms; its dense Jacobian's squares, by blockjac and by JAX."""

    def stencil_of(x):
        return x[:-3] ** 2 * x[3:] + jnp.sin(x[1:-2]) - x[2:-1] ** 3

    point = numbers(100)
    assert _is_thin(blockjac.block_jacobian(stencil_of)(point))
    np.testing.assert_allclose(
        blockjac.jacobian(stencil_of)(point), jax.jit(jax.jacfwd(stencil_of))(point), rtol=1e-12
    )
    found, wanted = (
        jax.grad(lambda x, j=j: jnp.sum(j(stencil_of)(x) ** 2))(point)
        for j in (blockjac.jacobian, jax.jacfwd)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-11)
    both = jnp.stack([point, 2 * point])
    np.testing.assert_allclose(
        jax.vmap(blockjac.jacobian(stencil_of))(both),
        jax.vmap(jax.jacfwd(stencil_of))(both),
        rtol=1e-12,
    )


def test_what_is_written_by_entry():
    """Three terms or more, and sixteen times fewer entries than places."""
    assert not _is_thin(diagonals(100, 0, 1))
    assert not _is_thin(diagonals(40, -1, 0, 1))
    assert _is_thin(diagonals(50, -1, 0, 1))
    huge = block_of(
        (2**16,), (2**16,), *(Term((), over(i), over(i), k) for k in (1, 2, 3) for i in [Label(9)])
    )
    assert not _is_thin(huge)  # its positions have more than 31 bits


def test_a_plan_prices_what_is_written_by_entry():
    def written_bytes(block):
        with planning() as cost:
            assert isinstance(block.dense(), Abstract)
        return cost

    distinct, duplicates = written_bytes(THIN["distinct"]), written_bytes(THIN["duplicates"])
    assert distinct.additions == 0
    assert duplicates.additions == 2 * (100 + 99)


# Diagonals


@pytest.mark.parametrize(
    ("name", "pairs", "structure"),
    [
        ("diagonal", [(0, 0), (1, 1)], "A[i,j]"),
        ("identity", [(0, 0), (1, 1)], "1"),
        ("identity", [(1, 1)], "δ[i,i']"),
        ("affine-x", [(0, 0)], "A[k,j]"),
        ("softmax", [(0, 0)], "δ[j,j'] A[i,j] - A[i,j] A[i,k]"),
    ],
)
def test_along_keeps_the_structure(name, pairs, structure):
    assert along(BLOCKS[name], pairs).structure == structure


def test_along_copies_nothing():
    """The batch of an affine map lies on its diagonal: the weights are the answer as they are."""
    block = BLOCKS["affine-x"]
    (term,) = along(block, [(0, 0)]).terms
    assert term.factors[0].array is block.terms[0].factors[0].array
    assert along(block, []).structure == block.structure


def test_a_diagonal_of_shifts_is_zero_unless_they_meet():
    label = Label(4)
    shifted = Term((), (Index.of(label, 1, 1),), (Index.of(label),))
    assert along(block_of((5,), (5,), shifted), [(0, 0)]).is_zero
    doubled = Term((), (Index.of(label, 2),), (Index.of(label, 1, 1),))  # 2 l = l + 1 at l = 1
    np.testing.assert_array_equal(block_of((7,), (7,), doubled).diagonal(), np.eye(7)[2])


def test_a_diagonal_needs_equal_shapes():
    with pytest.raises(BlockShapeError, match=r"one of \(19,\) with respect to \(20,\)"):
        BLOCKS["stencil"].diagonal()


def test_a_diagonal_reads_its_own_entries_alone():
    """Of a dense matrix of n^2 entries n are moved, and none is multiplied."""
    block = Block.from_dense(numbers(30, 30), 1)
    program = jax.make_jaxpr(lambda block: block.diagonal())(block)
    assert all(np.prod(one.outvars[0].aval.shape) <= 60 for one in program.jaxpr.eqns)


def test_diagonals_of_a_batch_of_blocks():
    values = numbers(3, 5, 5)
    batch = jax.vmap(lambda array: Block.from_dense(array, 1))(values)
    np.testing.assert_array_equal(batch.diagonal(), np.diagonal(values, axis1=1, axis2=2))


def test_a_diagonal_is_written_without_sums_and_products_that_change_nothing():
    traced = jax.make_jaxpr(lambda values: Block.diag(values).dense())(jnp.ones(4))
    names = [equation.primitive.name for equation in traced.jaxpr.eqns]
    assert sorted(names) == [
        *("broadcast_in_dim", "broadcast_in_dim"),
        *("eq", "iota", "iota", "reshape", "select_n"),
    ]
