"""A plan and its execution cannot differ: the same structure, and no array touched."""

import contextlib
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.strategies import blocks, shapes

import blockjac.algebra
from blockjac.algebra.arrays import is_known_mask
from blockjac.algebra.backend import planning
from blockjac.algebra.cost import Abstract
from blockjac.algebra.dense_axes import as_dense_axes
from blockjac.blocks import Block, Factor, Index, Label, Term, add, star
from blockjac.planning.jaxpr_cost import operations
from blockjac.terms.block import flatten, rebuilt, unflatten

ALGEBRA = [
    importlib.import_module(f"blockjac.algebra.{found.name}")
    for found in pkgutil.iter_modules(blockjac.algebra.__path__)
]


class Nothing:
    """Stands in for `jax.numpy` or `jax.lax` where no array may be touched."""

    result_type = staticmethod(jnp.result_type)

    def __getattr__(self, name):
        raise AssertionError(f"{name} ran inside a plan")


@contextlib.contextmanager
def no_operations():
    """Within, the block algebra has no `jax.numpy` and no `jax.lax` to call."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ALGEBRA:
            for name in {"jnp", "lax"} & set(vars(module)):
                patch.setattr(module, name, Nothing())
        yield


def parts(block):
    """The structure of a block, its arrays, and which of them are constants of the structure."""
    arrays, structure = flatten(block)
    lookups = [index.lookup for term in block.terms for index in term.indices if index.lookup]
    constants = {id(lookup.array) for lookup in lookups if lookup.constant}
    constants.update(
        id(one.array) for term in block.terms for one in term.factors if is_known_mask(one)
    )
    return structure, arrays, [id(array) in constants for array in arrays]


def abstract(block):
    """The block with shapes and dtypes in place of its arrays; an array shared stays shared."""
    structure, arrays, constant = parts(block)
    stand_ins = [
        x if stays else Abstract(tuple(x.shape), np.dtype(x.dtype))
        for x, stays in zip(arrays, constant, strict=True)
    ]
    return unflatten(structure, stand_ins)


def emitted(operation, made):
    """The program of an operation, of which the arrays of blocks are arguments."""
    every = [parts(block) for block in made]
    arguments = [
        [None if stays else x for x, stays in zip(arrays, constant, strict=True)]
        for _, arrays, constant in every
    ]

    def program(arguments):
        blocks = [
            unflatten(
                structure,
                [x if given is None else given for x, given in zip(arrays, own, strict=True)],
            )
            for (structure, arrays, _), own in zip(every, arguments, strict=True)
        ]
        return operation(*blocks)

    return jax.make_jaxpr(program)(arguments)


def outline(block):
    """What a plan must foretell: the static structure, and the shapes and dtypes of the arrays."""
    arrays, structure = flatten(block)
    return structure, [(tuple(x.shape), np.dtype(x.dtype)) for x in arrays]


def holds_masks(made):
    """Whether a plan foretells these if it follows places: others do not know known masks."""
    factors = [one for block in made for term in block.terms for one in term.factors]
    return any(map(is_known_mask, factors))


def check_foretold(operation, *made):
    """Plan with shapes alone and with arrays at hand; both must foretell what the run gives."""
    real = operation(*made)
    with no_operations(), planning(knows_places=holds_masks([*made, real])) as cost:
        from_shapes = operation(*map(abstract, made))
        from_arrays = operation(*made)
    assert outline(from_shapes) == outline(real)
    assert outline(from_arrays) == outline(real)
    check_counts(operation, made)
    return cost


def check_counts(operation, made):
    """The operations that are predicted are those of the program that is emitted."""
    run = operations(emitted(operation, made))
    with planning(knows_places=holds_masks(made)) as predicted:
        operation(*map(abstract, made))
    found = predicted.multiplications, predicted.additions, predicted.operator_operations
    assert found == (run.multiplications, run.additions, run.operator_operations)


def check_star(data):
    out_shape, middle, wrt_shape = data.draw(shapes(1)), data.draw(shapes()), data.draw(shapes(1))
    left, _ = data.draw(blocks(out_shape, middle, most_terms=2))
    right, _ = data.draw(blocks(middle, wrt_shape, most_terms=2))
    check_foretold(star, left, right)


def check_add(data):
    out_shape, wrt_shape = data.draw(shapes()), data.draw(shapes())
    left, _ = data.draw(blocks(out_shape, wrt_shape))
    right, _ = data.draw(blocks(out_shape, wrt_shape))
    check_foretold(add, left, right)


def check_dense_axes(data):
    out_shape, wrt_shape = data.draw(shapes()), data.draw(shapes(most_axes=3))
    block, _ = data.draw(blocks(out_shape, wrt_shape, most_terms=2))
    axes = [axis for axis in range(len(wrt_shape)) if data.draw(st.booleans())]

    def some_axes_dense(block):
        terms = [as_dense_axes(term, axes, wrt_shape, block.dtype) for term in block.terms]
        return rebuilt(block.out_shape, block.wrt_shape, block.dtype, terms)

    check_foretold(some_axes_dense, block)
    np.testing.assert_array_equal(some_axes_dense(block).dense(), block.dense())


def check_dense(data):
    block, _ = data.draw(blocks(data.draw(shapes()), data.draw(shapes())))
    check_counts(lambda block: block.dense(max_bytes=2**62), [block])


def check_construction(data):
    shape = data.draw(shapes())
    block, terms = data.draw(blocks(shape, shape))
    check_foretold(lambda block: Block(shape, shape, np.float64, block.terms), block)
    with no_operations(), planning():
        assert outline(Block(shape, shape, np.float64, terms)) == outline(block)


CHECKS = [check_star, check_add, check_dense_axes, check_dense, check_construction]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@settings(max_examples=min(40, settings.default.max_examples))
@given(data=st.data())
def test_a_plan_foretells_the_run(check, data):
    check(data)


@pytest.mark.thorough
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@settings(max_examples=max(50, settings.default.max_examples // 2))
@given(data=st.data())
def test_a_plan_foretells_the_run_thoroughly(check, data):
    check(data)


def test_a_product_costs_its_multiplications():
    matrix = np.ones((20, 30))
    with planning() as cost:
        star(Block.from_dense(matrix, 1), Block.from_dense(np.ones((30, 40)), 1))
    assert cost.multiplications == 20 * 30 * 40
    assert cost.additions == 20 * 29 * 40
    assert cost.bytes == 8 * (20 * 30 + 30 * 40 + 20 * 40)


def test_a_renaming_costs_nothing():
    """`D_W (X W)` against a delta of the same axes: labels are renamed, no number is moved."""
    n, k, h = Label(20), Label(30), Label(5)
    factor = Factor(np.ones((20, 30)), (n, k))
    block = Block(
        (20, 5),
        (30, 5),
        np.float64,
        [Term((factor,), (Index.of(n), Index.of(h)), (Index.of(k), Index.of(h)))],
    )
    with planning() as cost:
        star(star(Block.identity((20, 5)), block), Block.identity((30, 5)))
    assert (cost.multiplications, cost.additions, cost.bytes) == (0, 0, 0)


def test_a_diagonal_that_is_looked_up_multiplies_nothing():
    """JAX writes it in two ways, of which one multiplies, inside kernels alone."""
    label = Label(2)
    row = Block((), (2, 2), float, [Term((), (), (Index.of(label), Index.of(label)))])
    check_counts(star, (row, Block.from_dense(jnp.arange(4.0).reshape(2, 2), 2)))
