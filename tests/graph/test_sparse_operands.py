"""Products with sparse arrays of JAX: an entry for each stored number, values as JAX's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse
from support.sampling import sampled

import blockjac

pytestmark = pytest.mark.slow

SHAPE = (7, 9)


def matrix(seed, density=0.3):
    random = np.random.default_rng(seed)
    return random.normal(size=SHAPE) * (random.random(SHAPE) < density)


def padded(dense):
    """With room for more numbers than there are: padding lies outside the array."""
    count = int((dense != 0).sum())
    return sparse.BCOO.fromdense(jnp.asarray(dense), nse=count + 5)


KINDS = {
    "bcoo": lambda dense: sparse.BCOO.fromdense(jnp.asarray(dense)),
    "bcoo padded": padded,
    "bcsr": lambda dense: sparse.BCSR.fromdense(jnp.asarray(dense)),
    "bcsr padded": lambda dense: sparse.BCSR.fromdense(
        jnp.asarray(dense), nse=int((dense != 0).sum()) + 3
    ),
}


def same(mine, wanted):
    np.testing.assert_allclose(mine, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", sampled(range(3), 1))
@pytest.mark.parametrize("order", ["reverse", "forward", "auto"])
def test_the_pattern_is_that_of_the_matrix(kind, seed, order):
    dense = matrix(seed)
    operand = KINDS[kind](dense)
    x = jnp.linspace(0.3, 1.7, SHAPE[1])

    def program(x):
        return jnp.sin(operand @ (x * x))

    block = blockjac.block_jacobian(program, order=order)(x)
    assert block.nnz == (dense != 0).sum()
    places = block.pattern().to_scipy().toarray()
    assert (places == (dense != 0)).all()
    wanted = np.cos(dense @ np.square(x))[:, None] * dense * (2 * np.asarray(x))
    same(block.dense(), wanted)
    same(jax.jit(blockjac.jacobian(program, order=order))(x), wanted)
    same(blockjac.sparse_jacobian(program)(x).toarray(), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_hessian_of_a_sum_of_squares_is_that_of_the_dense_matrix(kind):
    dense = matrix(5)
    operand = KINDS[kind](dense)
    x = jnp.linspace(0.3, 1.7, SHAPE[1])
    wanted = jax.jit(jax.hessian(lambda x: jnp.sum((dense @ x) ** 3)))(x)
    same(blockjac.hessian(lambda x: jnp.sum((operand @ x) ** 3))(x), wanted)
    wanted = jax.grad(lambda x: jnp.sum((dense @ x) ** 3))(x)
    same(blockjac.grad(lambda x: jnp.sum((operand @ x) ** 3))(x), wanted)


def test_by_the_stored_numbers_themselves():
    operand = padded(matrix(7))
    x = jnp.linspace(0.3, 1.7, SHAPE[1])

    def program(data, x):
        return jnp.tanh(sparse.BCOO((data, operand.indices), shape=SHAPE) @ x)

    mine = blockjac.jacobian(program, argnums=(0, 1))(operand.data, x)
    wanted = jax.jit(jax.jacfwd(program, argnums=(0, 1)))(operand.data, x)
    for one, other in zip(mine, wanted, strict=True):
        same(one, other)
    block = blockjac.block_jacobian(program)(operand.data, x)
    assert block.nnz <= len(operand.data)


@pytest.mark.parametrize(
    ("numbers", "shape"),
    [
        ((((1,), (0,)), ((), ())), (9, 3)),
        ((((0,), (1,)), ((), ())), (3, 7)),
        ((((0, 1), (1, 0)), ((), ())), (9, 7, 2)),
        ((((), ()), ((), ())), (2,)),
    ],
)
def test_every_way_to_contract(numbers, shape):
    operand = padded(matrix(8))
    x = jnp.asarray(np.random.default_rng(1).normal(size=shape))

    def program(data, x):
        whole = sparse.BCOO((data, operand.indices), shape=SHAPE)
        return sparse.bcoo_dot_general(whole, x, dimension_numbers=numbers)

    def written(data, x):
        whole = jnp.zeros(SHAPE).at[tuple(operand.indices.T)].add(data, mode="drop")
        return jax.lax.dot_general(whole, x, numbers)

    for order in ("reverse", "forward"):
        mine = blockjac.jacobian(program, argnums=(0, 1), order=order)(operand.data, x)
        for one, other in zip(
            mine, jax.jit(jax.jacfwd(written, (0, 1)))(operand.data, x), strict=True
        ):
            same(one, other)


def test_a_dense_array_times_a_sparse_one_and_a_sparse_one_written_out():
    dense = matrix(9)
    operand = KINDS["bcoo"](dense)
    x = jnp.linspace(0.3, 1.7, SHAPE[0])
    block = blockjac.block_jacobian(lambda x: x @ operand)(x)
    assert block.nnz == (dense != 0).sum()
    same(block.dense(), dense.T)

    def program(data):
        return jnp.exp(sparse.BCOO((data, operand.indices), shape=SHAPE).todense())

    block = blockjac.block_jacobian(program)(operand.data)
    assert block.nnz == len(operand.data)
    same(block.dense(), jax.jit(jax.jacfwd(program))(operand.data))


def test_batches_of_sparse_arrays_are_left_to_jax():
    dense = np.stack([matrix(1), matrix(2)])
    operand = sparse.BCOO.fromdense(jnp.asarray(dense), n_batch=1)
    x = jnp.linspace(0.3, 1.7, SHAPE[1])
    program = lambda x: operand @ x  # noqa: E731
    same(blockjac.jacobian(program)(x), dense)


def test_another_matrix_of_the_same_shape_is_not_taken_for_the_first():
    x = jnp.linspace(0.3, 1.7, SHAPE[1])
    for seed in range(3):
        random = np.random.default_rng(seed)
        places = random.choice(63, 20, replace=False)
        dense = np.zeros(63)
        dense[places] = random.normal(size=20)
        dense = dense.reshape(SHAPE)
        operand = KINDS["bcoo"](dense)
        block = blockjac.block_jacobian(lambda x, operand=operand: operand @ x)(x)
        assert (block.pattern().to_scipy().toarray() == (dense != 0)).all()
        same(block.dense(), dense)
