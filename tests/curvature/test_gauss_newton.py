"""Gauss-Newton matrices: `J' H J` against the dense product by JAX, and what stays in factors."""

import dataclasses

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
import scipy.sparse.linalg
from jax.extend import core
from support.curvature_cases import (
    PROBLEMS,
    array,
    close,
    cross_entropy,
    direction,
    flat,
    gauss_newton,
    jacobian,
    layers,
    linear,
    logistic,
    mean_squares,
    network,
    one_output,
    squares,
)

import blockjac
from blockjac import GaussNewton, ggn
from blockjac.algebra.cost import Cost
from blockjac.blocks import Block, BlockMatrix
from blockjac.curvature import by_outputs
from blockjac.planning.jaxpr_cost import operations


def largest_result(function, *arguments):
    """Entries of the largest array that a function makes, those inside of calls included."""

    def largest(jaxpr):
        sizes = [
            max(
                [int(np.prod(variable.aval.shape)) for variable in equation.outvars],
                default=0,
            )
            for equation in jaxpr.eqns
        ]
        inner = [
            largest(getattr(one, "jaxpr", one))
            for equation in jaxpr.eqns
            for one in core.jaxprs_in_params(equation.params)
        ]
        return max([*sizes, *inner], default=0)

    return largest(jax.make_jaxpr(function)(*arguments).jaxpr)


def counted(function, *arguments) -> Cost:
    return operations(jax.make_jaxpr(function)(*arguments))


# The numbers


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_matrix_and_all_that_needs_no_block(name):
    problem = PROBLEMS[name]
    wanted = gauss_newton(problem)
    v = direction(problem.params)

    @jax.jit
    def answers(params, v):
        matrix = ggn(problem.model, problem.loss)(params, problem.X, problem.Y)
        return matrix.matvec(v), matrix.diagonal(), matrix.solve(v, damping=0.3), matrix.dense()

    product, diagonal, solution, dense = answers(problem.params, v)
    close(flat(product), wanted @ flat(v))
    close(flat(diagonal), np.diagonal(wanted))
    damped = wanted + 0.3 * np.eye(len(wanted))
    close(flat(solution), np.linalg.solve(damped, flat(v)), rtol=1e-8)
    assert jax.tree.structure(product) == jax.tree.structure(problem.params)
    close(dense, wanted)


def test_without_jit():
    problem = PROBLEMS["one layer"]
    wanted = gauss_newton(problem)
    matrix = ggn(problem.model, problem.loss)(*problem.arguments)
    assert isinstance(matrix, GaussNewton)
    v = direction(problem.params)
    close(flat(matrix.matvec(v)), wanted @ flat(v))
    close(flat(matrix.diagonal()), np.diagonal(wanted))
    damped = wanted + 0.3 * np.eye(len(wanted))
    close(flat(matrix.solve(v, damping=0.3)), np.linalg.solve(damped, flat(v)), rtol=1e-8)
    close(matrix.dense(), wanted)


@pytest.mark.parametrize(
    ("model", "loss", "params", "Y"),
    [
        (linear, mean_squares, {"W": array(3, 2), "b": array(2)}, array(5, 2)),
        (one_output, logistic, array(3), jnp.array([0.0, 1, 1, 0, 1])),
        (linear, cross_entropy, {"W": array(3, 2), "b": array(2)}, jax.nn.softmax(array(5, 2))),
    ],
    ids=["squares", "logistic", "softmax"],
)
def test_of_a_linear_model_it_is_the_hessian(model, loss, params, Y):
    X = array(5, 3)
    matrix = ggn(model, loss)(params, X, Y)
    hessian = blockjac.block_hessian(lambda params: loss(Y, model(params, X)))(params)
    close(matrix.dense(), hessian.dense())
    wanted = jax.jit(jax.hessian(lambda params: loss(Y, model(params, X))))(params)
    blocks = jax.tree.map(Block.dense, matrix.tree(), is_leaf=lambda one: isinstance(one, Block))
    assert jax.tree.structure(blocks) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(blocks), jax.tree.leaves(wanted), strict=True):
        close(one, other)


def test_argnums_and_more_arguments():
    X, Y, W, b = array(4, 3), array(4, 2), array(3, 2), array(2)

    def model(W, b, X, power):
        return jnp.tanh(X @ W + b) ** power

    matrix = ggn(model, squares, argnums=(1, 0))(W, b, X, 2, Y)  # the power stays an int
    J = np.concatenate(
        [np.reshape(one, (8, -1)) for one in jax.jit(jax.jacrev(model, (1, 0)))(W, b, X, 2)], axis=1
    )
    close(matrix.dense(), J.T @ J)
    assert jax.tree.structure(matrix.matvec((b, W))) == jax.tree.structure((0, 0))
    by_input = ggn(model, squares, argnums=-2)(W, b, X, 2.0, Y)
    assert by_input.wrt_shapes == ((4, 3),)
    reverse = ggn(model, squares, argnums=(1, 0), order="reverse")(W, b, X, 2, Y)
    close(reverse.dense(), J.T @ J)


@pytest.mark.slow
def test_single_precision_and_numpy():
    params, X, Y = jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float32), PROBLEMS["three layers"].arguments
    )
    matrix = ggn(network, mean_squares)(params, X, Y)
    wanted = gauss_newton(PROBLEMS["three layers"])
    answers = [
        matrix.dense(),
        *jax.tree.leaves(matrix.diagonal()),
        *jax.tree.leaves(matrix.matvec(params)),
        *jax.tree.leaves(matrix.solve(params, damping=0.5)),
        *jax.tree.leaves(matrix.solve(params, damping=np.float64(0.5))),
    ]
    assert {answer.dtype for answer in answers} == {np.dtype(np.float32)}
    np.testing.assert_allclose(matrix.dense(), wanted, rtol=1e-4, atol=1e-5)


def test_empty_axes():
    W, b = array(3, 2), jnp.zeros((0, 2))

    def model(params, X):
        return X @ params["W"] + jnp.sum(params["b"], axis=0)

    matrix = ggn(model, squares)({"W": W, "b": b}, array(4, 3), array(4, 2))
    assert matrix.dense().shape == (6, 6)
    solved = matrix.solve({"W": W, "b": b}, damping=1.0)
    assert solved["b"].shape == (0, 2)
    nothing = ggn(model, squares)({"W": W, "b": b}, array(0, 3), array(0, 2))
    close(nothing.dense(), np.zeros((6, 6)))
    close(nothing.solve({"W": W, "b": b}, damping=2.0)["W"], W / 2)
    close(nothing.diagonal()["W"], np.zeros((3, 2)))


# What stays in factors


N, K, HIDDEN, C = 6, 40, 30, 3


def wide():
    return layers(K, HIDDEN, C), array(N, K), jax.nn.softmax(array(N, C))


def test_a_layer_stores_inputs_and_backpropagated_outputs():
    params, X, Y = wide()
    matrix = ggn(network, cross_entropy)(params, X, Y)
    J = matrix.jacobian
    assert J[0, 0].stored <= N * (K + HIDDEN) + HIDDEN * C  # X, the slopes of tanh, and W2
    assert J[0, 2].stored == N * HIDDEN
    assert matrix.nbytes < 8 * (N * (K + 2 * HIDDEN * C + 3 * C) + 2 * HIDDEN * C)
    assert not matrix.is_multiplied


def test_products_and_diagonals_are_never_multiplied_out():
    params, X, Y = wide()
    matrix = ggn(network, cross_entropy)(params, X, Y)
    v = direction(params)
    most = max(K * HIDDEN, N * HIDDEN * C)  # a parameter itself, or N h c
    assert largest_result(lambda m, v: m.matvec(v), matrix, v) <= most
    assert largest_result(lambda m: m.diagonal(), matrix) <= most
    most = max(matrix.shape[0], N * HIDDEN * C, (N * C) ** 2)
    assert largest_result(lambda m, v: m.solve(v, 0.1), matrix, v) <= most
    products = counted(lambda m, v: m.matvec(v), matrix, v).multiplications
    assert products < 3 * 2 * N * (K * HIDDEN + HIDDEN * C + HIDDEN)
    blocks = matrix.in_blocks()
    assert counted(lambda m: m.diagonal(), blocks).multiplications < 3 * N * HIDDEN * (K + C * C)


def test_mirrored_blocks_are_multiplied_once():
    params, X, Y = layers(8, 8, 8, 8), array(N, 8), array(N, 8)
    matrix = ggn(network, squares)(params, X, Y)
    below, above = matrix[2, 0], matrix[0, 2]
    assert below.terms[0].factors[0].array is above.terms[0].factors[0].array
    close(jnp.transpose(below.dense(), (2, 3, 0, 1)), above.dense())
    assert matrix.is_multiplied
    assert matrix.T is matrix

    def every_block(matrix):
        return (matrix.jacobian.T @ (matrix.inner @ matrix.jacobian)).rows

    once = counted(lambda m: m.rows, matrix).multiplications
    assert once < 0.75 * counted(every_block, matrix).multiplications


@pytest.mark.slow
def test_solving_twenty_thousand_parameters():
    """The matrix of the parameters would have 3 GB."""
    params, X, Y = layers(180, 110, 3), array(4, 180), jax.nn.softmax(array(4, 3))
    matrix = ggn(network, cross_entropy)(params, X, Y)
    assert matrix.shape[0] == 180 * 110 + 110 + 110 * 3 + 3
    v = direction(params)
    x = matrix.solve(v, damping=0.5)
    again = jax.tree.map(lambda one, other: one + 0.5 * other, matrix.matvec(x), x)
    close(flat(again), flat(v))
    assert largest_result(lambda m, v: m.solve(v, 0.5), matrix, v) == matrix.shape[0]
    operator = matrix.as_linear_operator(lineax.positive_semidefinite_tag)
    shifted = operator + 0.5 * lineax.IdentityLinearOperator(operator.in_structure())
    shifted = lineax.TaggedLinearOperator(shifted, lineax.positive_semidefinite_tag)
    by_lineax = lineax.linear_solve(shifted, v, lineax.CG(1e-10, 1e-10)).value
    close(flat(by_lineax), flat(x), rtol=1e-6)
    by_scipy, failed = scipy.sparse.linalg.cg(
        matrix.to_scipy_operator()
        + 0.5 * scipy.sparse.linalg.aslinearoperator(scipy.sparse.eye_array(matrix.shape[0])),
        flat(v),
        rtol=1e-10,
    )
    assert failed == 0
    close(by_scipy, flat(x), rtol=1e-6)
    assert not matrix.is_multiplied


@pytest.mark.slow
@pytest.mark.parametrize("damping", [1e-2, 1e-4])
def test_solutions_in_single_precision(damping):
    """Where the right side is a gradient the textbook's formula cancels; not so this one."""
    problem = PROBLEMS["one layer"]
    G = gauss_newton(problem)
    gradient = jax.grad(lambda p: problem.loss(problem.Y, problem.model(p, problem.X)))
    v = flat(gradient(problem.params))
    wanted = np.linalg.solve(G + damping * np.eye(len(G)), v)
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), problem.arguments)
    matrix = ggn(problem.model, problem.loss)(*single)
    repeated = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * 2, axis=0), single[1:])
    for found in (matrix, ggn(problem.model, problem.loss)(single[0], *repeated)):
        right = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), gradient(problem.params))
        solver = by_outputs.factored(found.jacobian, found.inner, damping)
        x = solver.solve(flat(right))
        condition = np.max(np.abs(G)) / damping
        assert np.linalg.norm(x - wanted) < 1e-6 * condition * np.linalg.norm(wanted)


# Transformations


def test_under_jit():
    params, X, Y = PROBLEMS["two layers"].arguments
    model, loss = PROBLEMS["two layers"].model, PROBLEMS["two layers"].loss
    wanted = gauss_newton(PROBLEMS["two layers"])
    matrix = jax.jit(lambda params: ggn(model, loss)(params, X, Y))(params)
    assert isinstance(matrix, GaussNewton)
    close(matrix.dense(), wanted)
    solve = jax.jit(lambda params, damping: ggn(model, loss)(params, X, Y).solve(params, damping))
    damped = wanted + 0.7 * np.eye(len(wanted))
    close(flat(solve(params, 0.7)), np.linalg.solve(damped, flat(params)))
    close(flat(solve(params, jnp.asarray(0.7))), np.linalg.solve(damped, flat(params)))


def test_a_trace_leaves_nothing_behind():
    """Blocks that are first multiplied inside of a trace are not those of later calls."""
    problem = PROBLEMS["linear"]
    matrix = ggn(problem.model, problem.loss)(*problem.arguments)
    inside = jax.jit(lambda scale: scale * matrix.dense())(2.0)
    assert not matrix.is_multiplied
    close(inside / 2, matrix.dense())

    def in_a_loop(params):
        matrix = ggn(problem.model, problem.loss)(params, problem.X, problem.Y)
        total, _ = jax.lax.scan(
            lambda s, _: (s + matrix.dense(), None), 0.0 * matrix.dense(), None, 2
        )
        return total + matrix.dense()

    close(jax.jit(in_a_loop)(problem.params) / 3, gauss_newton(problem))


@pytest.mark.slow
def test_under_vmap():
    problem = PROBLEMS["one layer"]
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, -leaf]), problem.params)
    one_by_one = [
        gauss_newton(
            type(problem)(
                problem.model,
                problem.loss,
                jax.tree.map(lambda leaf, place=place: leaf[place], many),
                problem.X,
                problem.Y,
            )
        )
        for place in range(3)
    ]
    v = direction(problem.params)

    def matrix_of(params):
        return ggn(problem.model, problem.loss)(params, problem.X, problem.Y)

    def flat_rows(tree):
        return np.concatenate([np.reshape(leaf, (3, -1)) for leaf in jax.tree.leaves(tree)], axis=1)

    batch = jax.jit(jax.vmap(matrix_of))(many)
    assert batch.batch_shape == (3,)
    found = {
        "diagonal": (jax.jit(jax.vmap(lambda p: matrix_of(p).diagonal()))(many), batch.diagonal()),
        "matvec": (jax.jit(jax.vmap(lambda p: matrix_of(p).matvec(v)))(many), batch.matvec(v)),
        "solve": (
            jax.jit(jax.vmap(lambda p: matrix_of(p).solve(v, 0.5)))(many),
            batch.solve(v, 0.5),
        ),
    }
    wanted = {
        "diagonal": [np.diagonal(one) for one in one_by_one],
        "matvec": [one @ flat(v) for one in one_by_one],
        "solve": [np.linalg.solve(one + 0.5 * np.eye(len(one)), flat(v)) for one in one_by_one],
    }
    for name, answers in found.items():
        for answer in answers:
            close(flat_rows(answer), np.stack(wanted[name]))
    close(batch.dense(), np.stack(one_by_one))
    close(
        flat_rows(batch.matvec(many)),
        np.stack(
            [
                one @ flat(jax.tree.map(lambda leaf, place=place: leaf[place], many))
                for place, one in enumerate(one_by_one)
            ]
        ),
    )


@pytest.mark.slow
def test_under_vmap_where_the_middle_is_constant():
    """The Hessian of squares stores nothing, so that it carries no batch."""
    problem = PROBLEMS["linear"]
    many = jnp.stack([problem.X, 2 * problem.X])
    batch = jax.vmap(lambda X: ggn(problem.model, problem.loss)(problem.params, X, problem.Y))(many)
    v = direction(problem.params)
    single = [ggn(problem.model, problem.loss)(problem.params, X, problem.Y) for X in many]
    for place, one in enumerate(single):
        close(batch.matvec(v)["W"][place], one.matvec(v)["W"])
        close(batch.diagonal()["W"][place], one.diagonal()["W"])
        close(batch.solve(v, 0.1)["W"][place], one.solve(v, 0.1)["W"])


@pytest.mark.parametrize("differentiate", [jax.grad, blockjac.grad], ids=["jax", "blockjac"])
def test_gradients_pass_through(differentiate):
    problem = PROBLEMS["one layer"]
    v = direction(problem.params)
    w = flat(v)

    def by_factors(params):
        matrix = ggn(problem.model, problem.loss)(params, problem.X, problem.Y)
        trace = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(matrix.diagonal()))
        return trace + jnp.sum(matrix.matvec(v)[0][0] ** 2)

    def by_hand(params):
        def outputs(params):
            return problem.model(params, problem.X)

        def inner(Q):
            return jax.jit(jax.hessian(lambda Q: problem.loss(problem.Y, Q)))(Q).reshape(15, 15)

        J = jnp.concatenate(
            [
                jnp.reshape(leaf, (15, -1))
                for leaf in jax.tree.leaves(jax.jit(jax.jacrev(outputs))(params))
            ],
            axis=1,
        )
        G = J.T @ inner(outputs(params)) @ J
        return jnp.trace(G) + jnp.sum((G @ w)[:12] ** 2)

    found = jax.jit(differentiate(by_factors))(problem.params)
    close(flat(found), flat(jax.jit(jax.grad(by_hand))(problem.params)))


@pytest.mark.slow
def test_gradients_of_a_solution():
    problem = PROBLEMS["one layer"]
    v = direction(problem.params)

    def first(params, damping):
        matrix = ggn(problem.model, problem.loss)(params, problem.X, problem.Y)
        return matrix.solve(v, damping)[0][0][0, 0]

    found = jax.grad(first, 1)(problem.params, 0.5)
    G = gauss_newton(problem)
    inverse = np.linalg.inv(G + 0.5 * np.eye(len(G)))
    close(found, -(inverse @ inverse @ flat(v))[0])


# As a matrix of other libraries, and as it reads


def test_exports():
    problem = PROBLEMS["linear"]
    matrix = ggn(problem.model, problem.loss)(*problem.arguments)
    wanted = gauss_newton(problem)
    v = direction(problem.params)
    close(matrix.to_scipy_operator() @ flat(v), wanted @ flat(v))
    operator = matrix.as_linear_operator()
    close(flat(operator.mv(v)), wanted @ flat(v))
    assert matrix.matrix_shape == matrix.shape == wanted.shape
    assert not matrix.is_multiplied
    close(matrix.to_scipy().toarray(), wanted)
    close((matrix @ matrix).dense(), wanted @ wanted)
    close(matrix.T.dense(), wanted.T)
    assert isinstance(matrix[0, 0], Block)
    assert set(matrix[0]) == {"W", "b"}


def test_it_reads_in_the_names_of_the_user():
    problem = PROBLEMS["linear"]
    matrix = ggn(problem.model, problem.loss)(*problem.arguments)
    text = "GaussNewton(J=[δ[j,j'] X[i,k], δ[j,j']], H=[δ[i,i'] δ[j,j']])"
    assert repr(matrix) == text
    inside = jax.jit(lambda X: ggn(linear, squares)(problem.params, X, problem.Y))(problem.X)
    assert repr(inside) == text
    two = PROBLEMS["two outputs"]
    assert repr(ggn(two.model, two.loss)(*two.arguments)).count(" | ") == 2
    assert "X[i,k]" in repr(ggn(two.model, two.loss)(*two.arguments))


# Misuse


def test_misuse_of_the_transform():
    problem = PROBLEMS["linear"]
    params, X, Y = problem.arguments
    with pytest.raises(TypeError, match=r"ggn needs a loss.*one real number, but it gives .*\(5,"):
        ggn(linear, lambda Y, Q: jnp.sum((Q - Y) ** 2, axis=1))(params, X, Y)
    with pytest.raises(TypeError, match=r"one real number, but it gives .*complex"):
        ggn(linear, lambda Y, Q: jnp.sum(Q) * 1j)(params, X, Y)
    with pytest.raises(TypeError, match=r"ggn takes .*\(params, X, Y\), but was called with 1"):
        ggn(linear, squares)(params)
    with pytest.raises(TypeError, match=r"callable value for blockjac.ggn, got 3"):
        ggn(3, squares)
    with pytest.raises(TypeError, match=r"callable value for blockjac.ggn, got None"):
        ggn(linear, None)
    with pytest.raises(ValueError, match=r"argnums=2 requires at least 3 positional arguments"):
        ggn(linear, squares, argnums=2)(params, X, Y)
    with pytest.raises(TypeError, match=r"requires real- or complex-valued inputs.*got int64"):
        ggn(one_output, squares)(jnp.arange(3), X, Y[:, 0])
    with pytest.raises(TypeError, match=r"requires real-valued inputs, but got complex"):
        ggn(lambda w, X: X @ w.real, squares)(jnp.ones(3) * 1j, X, Y[:, 0])
    with pytest.raises(TypeError, match=r"requires real-valued outputs.*int"):
        ggn(lambda w, X: jnp.int32(X @ w), squares)(jnp.ones(3), X, Y[:, 0])
    with pytest.raises(TypeError, match="no outputs"):
        ggn(lambda w, X: (), lambda Y, Q: jnp.sum(Y))(jnp.ones(3), X, Y)


def test_misuse_of_the_matrix():
    problem = PROBLEMS["linear"]
    matrix = ggn(problem.model, problem.loss)(*problem.arguments)
    v = direction(problem.params)
    for method in (matrix.matvec, matrix.solve):
        name = method.__name__
        with pytest.raises(
            ValueError, match=rf"{name} needs a tree .*'W'.*, but found .*\(\*, \*\)"
        ):
            method((v["W"], v["b"]))
        with pytest.raises(
            ValueError, match=rf"{name} needs .*\(3, 2\), \(2,\)\), but found .*\(3,\)"
        ):
            method({"W": v["W"], "b": jnp.ones(3)})
    with pytest.raises(ValueError, match=r"damping must not be negative, but is -0.1"):
        matrix.solve(v, damping=-0.1)
    with pytest.raises(ValueError, match=r"damping must not be negative, but is -1"):
        matrix.solve(v, damping=jnp.asarray(-1.0))
    with pytest.raises(ValueError, match=r"damping must not be negative, but is nan"):
        matrix.solve(v, damping=float("nan"))
    for damping in (None, "small", jnp.ones(2), 1j):
        with pytest.raises(ValueError, match=r"damping must be a real number or an array of shape"):
            matrix.solve(v, damping=damping)
    with pytest.raises(ValueError, match=r"J' H J needs H of the outputs \(\(5, 2\),\) twice"):
        GaussNewton(matrix.jacobian, BlockMatrix([[Block.identity((2, 5))]]))


def test_without_damping():
    problem = PROBLEMS["linear"]
    matrix = ggn(problem.model, problem.loss)(*problem.arguments)
    v = direction(problem.params)
    close(flat(matrix.solve(v)), np.linalg.solve(gauss_newton(problem), flat(v)))
    singular = ggn(one_output, squares)(array(3), array(2, 3), array(2))
    assert not np.all(np.abs(singular.solve(array(3))) < 1e8)  # inf, nan or huge, as numpy has it


# Products by sweeps


def by_hand(problem, v):
    """`jvp`, the Hessian of the loss, `vjp`."""
    outputs, pushed = jax.jvp(lambda p: problem.model(p, problem.X), (problem.params,), (v,))
    gradient = jax.grad(problem.loss, argnums=1)
    product = jax.jvp(lambda q: gradient(problem.Y, q), (outputs,), (pushed,))[1]
    return jax.vjp(lambda p: problem.model(p, problem.X), problem.params)[1](product)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_products_take_no_more_operations_than_by_hand(name):
    problem = PROBLEMS[name]
    v = direction(problem.params)

    def ours(params, v):
        return ggn(problem.model, problem.loss)(params, problem.X, problem.Y).matvec(v)

    def theirs(params, v):
        return by_hand(dataclasses.replace(problem, params=params), v)

    close(flat(ours(problem.params, v)), flat(theirs(problem.params, v)))
    programs = [jax.jit(function).lower(problem.params, v).compile() for function in (ours, theirs)]
    own, hand = (program.cost_analysis()["flops"] for program in programs)
    assert own <= 1.2 * hand + 200


def test_the_jacobian_is_computed_when_it_is_asked_for():
    params, X, Y = PROBLEMS["two layers"].arguments
    model, loss = PROBLEMS["two layers"].model, PROBLEMS["two layers"].loss
    matrix, v = ggn(model, loss)(params, X, Y), direction(params)
    before = matrix.matvec(v)
    assert not any(isinstance(part, BlockMatrix) for part in matrix.parts()[0][:1])
    close(np.asarray(matrix.jacobian.dense()), jacobian(model, params, X))
    assert matrix.jacobian is matrix.jacobian
    close(flat(matrix.matvec(v)), flat(before))
    assert matrix.in_blocks() is not matrix
    close(flat(matrix.in_blocks().matvec(v)), flat(before))


def test_products_of_new_matrices_are_not_compiled_again():
    """The matrices of two steps are of one program, however often the function is written."""
    params, X, Y = PROBLEMS["two layers"].arguments
    loss = PROBLEMS["two layers"].loss
    traces = []

    @jax.jit
    def product(matrix, v):
        traces.append(1)
        return matrix.matvec(v)

    for scale in (1.0, 1.5):
        point = jax.tree.map(lambda leaf, scale=scale: scale * leaf, params)
        matrix = ggn(lambda p, X: network(p, X), loss)(point, X, Y)
        product(matrix, params)
    assert len(traces) == 1


def test_models_that_have_no_way_back_are_in_blocks():
    def model(w, X):
        return jax.lax.while_loop(
            lambda carry: carry[0] < 3,
            lambda carry: (carry[0] + 1, jnp.tanh(carry[1] * w)),
            (jnp.sum(X > 1e9).astype(int), X),
        )[1]

    def unrolled(w, X):
        for _ in range(3):
            X = jnp.tanh(X * w)
        return X

    w, X, Y = jnp.array([0.5, 1.5]), jnp.linspace(0.1, 1.0, 8).reshape(4, 2), jnp.zeros((4, 2))
    matrix = ggn(model, squares)(w, X, Y)
    J = jacobian(unrolled, w, X)
    close(np.asarray(matrix.dense()), J.T @ J)
    close(matrix.matvec(w), J.T @ J @ w)
