"""Hessians, in blocks and as products: JAX's trees and numbers, mirrored blocks computed once."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from support.curvature_cases import layers, network, squares

import blockjac
from blockjac import BlockMatrix, Search, block_hessian, hvp
from blockjac.blocks import Block
from blockjac.errors import DenseTooLargeError, DifferentiationTypeError
from blockjac.planning.jaxpr_cost import operations

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(4)


def array(*shape):
    return jnp.asarray(RNG.normal(size=shape))


def loss(params, X, Y):
    Z = jnp.tanh(X @ params["W"] + params["b"])
    return -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(Z @ params["V"]), axis=-1))


PARAMS = {"W": array(4, 3), "b": array(3), "V": array(3, 2)}
X, Y = array(6, 4), jax.nn.softmax(array(6, 2))


def several(x, y):
    return {"a": jnp.sin(x) * y[0], "b": jnp.sum(x**3) * y}


def same(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


CASES = {
    "network": (loss, 0, (PARAMS, X, Y)),
    "two arguments": (lambda x, y: jnp.sum(jnp.sin(x) * y**2), (0, 1), (array(3), array(3))),
    "their order": (lambda x, y: jnp.sum(jnp.sin(x)) * y, (1, 0), (array(3), 2.0)),
    "several results": (several, (0, 1), (array(3), array(2))),
    "scalar": (lambda x: x**3, 0, (2.0,)),
    "linear": (lambda x: jnp.sum(3 * x), 0, (array(3),)),
    "loop": (
        lambda x: jax.lax.fori_loop(0, 3, lambda _, v: jnp.sin(v) * x, x).sum(),
        0,
        (array(3),),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_hessians(name):
    function, argnums, arguments = CASES[name]
    wanted = jax.jit(jax.hessian(function, argnums))(*arguments)
    same(blockjac.hessian(function, argnums)(*arguments), wanted)
    same(jax.jit(blockjac.hessian(function, argnums))(*arguments), wanted)


@pytest.mark.parametrize("order", ["reverse", "forward", "greedy", Search(steps=50)], ids=str)
def test_any_order(order):
    wanted = jax.jit(jax.hessian(loss))(PARAMS, X, Y)
    same(blockjac.hessian(loss, order=order)(PARAMS, X, Y), wanted)


def test_mirrored_blocks_are_computed_once():
    """Half of the work of a bilinear form in two arguments: one block, and its transpose."""
    A = array(40, 50)

    def form(x, y):
        return jnp.sin(x) @ A @ jnp.sin(y)

    x, y = array(40), array(50)
    found = blockjac.hessian(form, (0, 1))(x, y)
    np.testing.assert_array_equal(found[1][0], found[0][1].T)

    def products(transform):
        return sum(
            equation.primitive.name == "mul" and equation.outvars[0].aval.size == 40 * 50
            for equation in jax.make_jaxpr(transform)(x, y).eqns
        )

    twice = blockjac.jacobian(blockjac.jacobian(form, (0, 1)), (0, 1))
    assert products(blockjac.hessian(form, (0, 1))) < products(twice)


def test_a_quadratic_form_is_not_read():
    """The Hessian of `x' A x` is `A + A'`, whatever x is."""
    A = array(5, 5)
    hessian = blockjac.hessian(lambda x: x @ A @ x)
    np.testing.assert_allclose(hessian(jnp.full(5, jnp.nan)), A + A.T)


def test_aux_and_complex():
    found, aux = blockjac.hessian(lambda x: (jnp.sum(x**3), {"x": x}), has_aux=True)(array(3))
    assert found.shape == (3, 3)
    assert set(aux) == {"x"}
    z = array(3) + 1j * array(3)

    def function(z):
        return jnp.sum(jnp.sin(z) * z)

    found = blockjac.hessian(function, holomorphic=True)(z)
    np.testing.assert_allclose(
        found, jax.jit(jax.hessian(function, holomorphic=True))(z), rtol=1e-10
    )


def test_chunks_and_limits():
    wanted = blockjac.hessian(loss)(PARAMS, X, Y)
    same(blockjac.hessian(loss, chunk_size=3)(PARAMS, X, Y), wanted)
    with pytest.raises(DenseTooLargeError, match="over the limit of 50 bytes"):
        blockjac.hessian(loss, max_bytes=50)(PARAMS, X, Y)


def test_mixed_dtypes():
    x, y = jnp.ones(2, jnp.float32), jnp.ones(3, jnp.float64)

    def function(x, y):
        return jnp.sum(x) ** 2 * jnp.sum(y**2)

    found = blockjac.hessian(function, (0, 1))(x, y)
    wanted = jax.jit(jax.jacrev(jax.jacrev(function, (0, 1)), (0, 1)))(x, y)
    assert [leaf.dtype for leaf in jax.tree.leaves(found)] == [
        leaf.dtype for leaf in jax.tree.leaves(wanted)
    ]
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_under_vmap():
    xs = array(4, 3)

    def function(x):
        return jnp.sum(jnp.sin(x) * x[0])

    found = jax.vmap(blockjac.hessian(function))(xs)
    np.testing.assert_allclose(found, jax.vmap(jax.hessian(function))(xs), rtol=1e-10)


def test_integers_are_refused():
    with pytest.raises(DifferentiationTypeError, match="hessian requires real- or complex-valued"):
        blockjac.hessian(lambda x: x**2)(3)
    with pytest.raises(DifferentiationTypeError, match=r"Expected a callable value for .*hessian"):
        blockjac.hessian(3)


# In blocks


def bilinear(x, y):
    return jnp.sin(x) @ FORM @ jnp.sin(y)


FORM = array(4, 5)
SCALARS = {name: case for name, case in CASES.items() if name != "several results"}


def dense_tree(matrix):
    return jax.tree.map(Block.dense, matrix.tree(), is_leaf=lambda one: isinstance(one, Block))


def products(function, *arguments):
    return operations(jax.make_jaxpr(function)(*arguments)).multiplications


@pytest.mark.parametrize("name", SCALARS)
def test_block_hessians(name):
    function, argnums, arguments = SCALARS[name]
    wanted = jax.jit(jax.hessian(function, argnums))(*arguments)
    matrix = block_hessian(function, argnums)(*arguments)
    assert isinstance(matrix, BlockMatrix)
    same(dense_tree(matrix), wanted)
    inside = jax.jit(block_hessian(function, argnums))(*arguments)
    same(dense_tree(inside), wanted)


@pytest.mark.slow
def test_it_is_one_matrix():
    matrix = block_hessian(loss)(PARAMS, X, Y)
    point, back = jax.flatten_util.ravel_pytree(PARAMS)
    wanted = np.asarray(jax.jit(jax.hessian(lambda v: loss(back(v), X, Y)))(point))
    v = array(len(point))

    def flat(tree):
        return np.asarray(jax.flatten_util.ravel_pytree(tree)[0])

    np.testing.assert_allclose(matrix.dense(), wanted, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(flat(matrix.matvec(back(v))), wanted @ v, rtol=1e-10)
    np.testing.assert_allclose(flat(matrix.diagonal()), np.diagonal(wanted), rtol=1e-10)
    damped = wanted + 0.5 * np.eye(len(wanted))
    solved = flat(matrix.solve(back(v), damping=0.5))
    np.testing.assert_allclose(solved, np.linalg.solve(damped, v), rtol=1e-8)
    np.testing.assert_allclose(matrix.to_scipy().toarray(), wanted, rtol=1e-10, atol=1e-12)
    assert matrix.T is matrix
    assert set(matrix[0]) == {"W", "V", "b"}


def test_structure_is_kept():
    """Of a chain of springs three diagonals; of terms that do not meet, zero blocks."""
    matrix = block_hessian(lambda x: jnp.sum((x[1:] - x[:-1]) ** 4))(array(1000))
    assert matrix[0, 0].stored <= 3 * 1000
    assert matrix.to_scipy().nnz == 3 * 1000 - 2
    apart = block_hessian(lambda x, y: jnp.sum(x**3) + jnp.sum(y**4), (0, 1))(array(3), array(4))
    assert apart[0, 1].is_zero
    assert apart[1, 0].is_zero
    assert apart[1, 1].stored <= 4


def test_mirrored_blocks_share_their_arrays():
    x, y = array(4), array(5)
    for matrix in (
        block_hessian(bilinear, (0, 1))(x, y),
        jax.jit(block_hessian(bilinear, (0, 1)))(x, y),
        jax.tree.map(jnp.asarray, block_hessian(bilinear, (0, 1))(x, y)),
    ):
        above, below = matrix[0, 1], matrix[1, 0]
        assert {id(one.array) for one in above.terms[0].factors} == {
            id(one.array) for one in below.terms[0].factors
        }
        assert matrix.nbytes == matrix[0, 0].nbytes + matrix[1, 1].nbytes + above.nbytes
        np.testing.assert_array_equal(below.dense(), above.dense().T)


def test_blocks_that_are_not_asked_for_cost_nothing():
    def everything(pairs):
        return products(block_hessian(loss, pairs=pairs), PARAMS, X, Y)

    assert everything("diagonal") < everything([(0, 0), (1, 1), (2, 2), (0, 1)]) < everything("all")
    wanted = jax.jit(jax.hessian(loss))(PARAMS, X, Y)
    diagonal = block_hessian(loss, pairs="diagonal")(PARAMS, X, Y)
    names = sorted(PARAMS)
    for i, row in enumerate(names):
        for j, column in enumerate(names):
            if i == j:
                np.testing.assert_allclose(diagonal[i, j].dense(), wanted[row][column], rtol=1e-10)
            else:
                assert diagonal[i, j].is_zero
    chosen = block_hessian(loss, pairs=[(1, 0)])(PARAMS, X, Y)  # with its mirror image
    assert [[chosen[i, j].is_zero for j in range(3)] for i in range(3)] == [
        [True, False, True],
        [False, True, True],
        [True, True, True],
    ]
    np.testing.assert_allclose(chosen[0, 1].dense(), wanted["V"]["W"], rtol=1e-10)
    np.testing.assert_allclose(chosen[1, 0].dense(), wanted["W"]["V"], rtol=1e-10)


def test_symmetric_halves_are_computed_once():
    params, inputs, targets = layers(6, 6, 6, 6, 6), array(4, 6), array(4, 6)

    def function(params):
        return squares(targets, network(params, inputs))

    once = products(block_hessian(function), params)
    assert once < 0.7 * products(blockjac.block_jacobian(blockjac.grad(function)), params)


def test_blocks_of_mixed_dtypes():
    x, y = jnp.ones(2, jnp.float32), jnp.ones(3, jnp.float64)

    def function(x, y):
        return jnp.sum(x) ** 2 * jnp.sum(y**2)

    matrix = block_hessian(function, (0, 1))(x, y)
    wanted = jax.jit(jax.jacrev(jax.jacrev(function, (0, 1)), (0, 1)))(x, y)
    for i in range(2):
        for j in range(2):
            np.testing.assert_allclose(matrix[i, j].dense(), wanted[i][j], rtol=1e-6)


def test_block_hessians_under_vmap_and_grad():
    xs = array(4, 3)

    def function(x):
        return jnp.sum(jnp.sin(x) * x[0])

    batch = jax.vmap(block_hessian(function))(xs)
    wanted = jax.vmap(jax.hessian(function))(xs)
    np.testing.assert_allclose(batch.dense(), wanted, rtol=1e-10)
    products = batch.matvec(xs)
    np.testing.assert_allclose(products, jnp.einsum("nij,nj->ni", wanted, xs), rtol=1e-10)
    solved = batch.solve(xs[0], damping=9.0)
    shifted = wanted + 9 * jnp.eye(3)
    np.testing.assert_allclose(solved, jax.vmap(lambda A: jnp.linalg.solve(A, xs[0]))(shifted))
    np.testing.assert_allclose(batch.diagonal(), jax.vmap(jnp.diagonal)(wanted), rtol=1e-10)

    def trace(hessian):
        return jax.grad(lambda x: jnp.trace(hessian(x)))(xs[0])

    found = trace(lambda x: block_hessian(function)(x).dense())
    np.testing.assert_allclose(found, trace(jax.hessian(function)), rtol=1e-10)


def test_misuse_of_blocks():
    x = array(3)
    for pairs in ("lower", 3, [3], [(0, 0, 0)], None):
        with pytest.raises(
            ValueError, match=r"pairs is .*, but must be 'all', 'diagonal', or pairs"
        ):
            block_hessian(jnp.sum, pairs=pairs)
    with pytest.raises(ValueError, match=r"pairs is \[\(0, 3\)\], .*each between 0 and 2"):
        block_hessian(loss, pairs=[(0, 3)])(PARAMS, X, Y)
    with pytest.raises(TypeError, match=r"only defined for scalar-output functions.*\(3,\)"):
        block_hessian(lambda x: x**2)(x)
    with pytest.raises(TypeError, match=r"real- or complex-valued inputs.*got int"):
        block_hessian(lambda x: jnp.sum(x**2))(jnp.arange(3))
    with pytest.raises(TypeError, match=r"real-valued.*got complex"):
        block_hessian(lambda x: jnp.sum(jnp.abs(x) ** 2))(x * 1j)
    with pytest.raises(TypeError, match=r"callable value for blockjac.block_hessian, got 3"):
        block_hessian(3)


# Products with a vector


@pytest.mark.parametrize("transformed", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_products_with_a_vector(transformed):
    v = {"W": array(4, 3), "b": array(3), "V": array(3, 2)}
    wanted = jax.jvp(lambda params: jax.grad(loss)(params, X, Y), (PARAMS,), (v,))[1]
    found = transformed(lambda params, v: hvp(loss, params, v, X, Y))(PARAMS, v)
    same(found, wanted)
    as_numpy = jax.tree.map(np.asarray, (PARAMS, v))
    same(hvp(loss, *as_numpy, np.asarray(X), np.asarray(Y)), wanted)


def test_products_under_vmap_and_grad():
    vs = array(4, 3)
    x = array(3)

    def function(x):
        return jnp.sum(jnp.sin(x) * x[0])

    H = jax.jit(jax.hessian(function))(x)
    found = jax.vmap(lambda v: hvp(function, x, v))(vs)
    np.testing.assert_allclose(found, vs @ H, rtol=1e-10)
    slope = jax.grad(lambda x: vs[0] @ hvp(function, x, vs[0]))(x)
    wanted = jax.grad(lambda x: vs[0] @ jax.hessian(function)(x) @ vs[0])(x)
    np.testing.assert_allclose(slope, wanted, rtol=1e-10)


def test_a_product_costs_a_few_gradients():
    """No Hessian is formed on the way."""
    one = operations(jax.make_jaxpr(lambda p: jax.grad(loss)(p, X, Y))(PARAMS)).flops
    product = operations(jax.make_jaxpr(lambda p: hvp(loss, p, p, X, Y))(PARAMS)).flops
    assert product < 5 * one


def test_misuse_of_products():
    x = array(3)
    with pytest.raises(TypeError, match=r"only defined for scalar-output functions.*\(3,\)"):
        hvp(lambda x: x**2, x, x)
    with pytest.raises(TypeError, match=r"must have the same tree structure"):
        hvp(lambda x: jnp.sum(x[0] ** 2), (x,), [x])
    with pytest.raises(ValueError, match=r"different primal and tangent shapes.*\[3\].*\[2\]"):
        hvp(lambda x: jnp.sum(x**2), x, x[:2])
    with pytest.raises(TypeError, match=r"dtypes must be equal.*float64\[3\].*int64"):
        hvp(lambda x: jnp.sum(x**2), x, jnp.arange(3))
    with pytest.raises(TypeError, match=r"real- or complex-valued inputs.*got int"):
        hvp(lambda x: jnp.sum(x**2), jnp.arange(3), np.zeros(3, jax.dtypes.float0))
    with pytest.raises(TypeError, match=r"callable value for blockjac.hvp, got 3"):
        hvp(3, x, x)


# Elementwise functions

WIDE = 2_000
ONES = jnp.linspace(0.1, 0.9, WIDE)


def curve(x):
    return jnp.sin(x) * jnp.exp(-(x**2)) / jnp.where(x > 0.5, x**3, 2 + x)


ELEMENTWISE = {
    "sum": lambda x: jnp.sum(curve(x)),
    "weighted": lambda x: jnp.arange(1.0, WIDE + 1) @ curve(x),
    "mean of squares": lambda x: jnp.mean((curve(x) - 1) ** 2),
    "of rows": lambda x: jnp.sum(curve(x.reshape(20, -1)).T),
    "with a rule of its own": lambda x: jnp.sum(jax.nn.softplus(x) * jax.nn.silu(x)),
    "each by a loop": lambda x: jnp.sum(jax.lax.fori_loop(0, 3, lambda _, v: jnp.sin(v) * x, x)),
    "each by vmap": lambda x: jnp.sum(jax.vmap(curve)(x)),
    "each by map": lambda x: jnp.sum(jax.lax.map(curve, x)),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_hessian_of_a_sum_of_elementwise_functions_is_a_diagonal(name):
    fun = ELEMENTWISE[name]
    matrix = block_hessian(fun)(ONES)
    of_rows = "[out0=100i+j] [wrt0=100i+j] A[i,j]"
    assert matrix[0, 0].structure in ("δ[i,i'] A[i]", of_rows)
    wanted = jax.jit(lambda x: jax.jvp(jax.grad(fun), (x,), (jnp.ones(WIDE),))[1])(ONES)
    np.testing.assert_allclose(matrix[0, 0].diagonal(), wanted, rtol=1e-9, atol=1e-12)
    memory = jax.jit(block_hessian(fun)).lower(ONES).compile().memory_analysis()
    assert memory.output_size_in_bytes == 8 * WIDE
    assert memory.temp_size_in_bytes <= 40 * 8 * WIDE


def test_several_arguments_of_an_elementwise_function():
    fun = lambda x, y: jnp.sum(curve(x * y) * y)  # noqa: E731
    matrix = block_hessian(fun, (0, 1))(ONES, 2 * ONES)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        along = [jnp.full(WIDE, 1.0 * (place == column)) for place in (0, 1)]
        rates = jax.jvp(jax.grad(fun, row), (ONES, 2 * ONES), tuple(along))[1]
        np.testing.assert_allclose(matrix[row, column].diagonal(), rates, rtol=1e-9)
        assert matrix[row, column].structure == "δ[i,i'] A[i]"
    compiled = jax.jit(block_hessian(fun, (0, 1))).lower(ONES, ONES).compile()
    assert compiled.memory_analysis().output_size_in_bytes <= 3 * 8 * WIDE + 64
