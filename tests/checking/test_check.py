"""check_jacobian: right derivatives pass; wrong ones are found, placed, and named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blockjac
from blockjac import Block, BlockMatrix, check_jacobian, nn
from blockjac.checking import compare
from blockjac.errors import (
    ArgumentError,
    BlockjacError,
    DifferentiationTypeError,
    WrongJacobianError,
)

RNG = np.random.default_rng(7)
v = RNG.normal(size=3)
w = RNG.normal(size=4)
Z = RNG.normal(size=(4, 3))
X, W, b = RNG.normal(size=(5, 3)), RNG.normal(size=(3, 2)), RNG.normal(size=2)
S = RNG.normal(size=(3, 3))
Y, Q = np.asarray(nn.softmax(RNG.normal(size=(5, 3)))), np.asarray(nn.softmax(X))


def named(report, *names):
    assert not report
    assert report.mistakes == names, str(report)
    return str(report)


# Right ones pass

CLOSED_FORMS = {
    "affine_X": (nn.affine, nn.jacobians.affine_X, (X, W, b), 0),
    "affine_W": (nn.affine, nn.jacobians.affine_W, (X, W, b), 1),
    "affine_b": (nn.affine, nn.jacobians.affine_b, (X, W, b), 2),
    "row bias": (nn.affine, nn.jacobians.affine_b, (X, W, b[None]), 2),
    "logistic_Z": (nn.logistic, nn.jacobians.logistic_Z, (Z,), 0),
    "softmax_Z": (nn.softmax, nn.jacobians.softmax_Z, (Z,), 0),
    "cross_entropy_Q": (nn.cross_entropy, nn.jacobians.cross_entropy_Q, (Y, Q), 1),
    "softmax_cross_entropy_Z": (
        nn.softmax_cross_entropy,
        nn.jacobians.softmax_cross_entropy_Z,
        (Y, X),
        1,
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
@pytest.mark.parametrize("form", ["block", "array", "numpy", "lists"])
def test_closed_forms_are_right(name, form):
    function, derivative, args, argnum = CLOSED_FORMS[name]
    given = derivative(*args)
    if form != "block":
        given = given.dense()
    if form in ("numpy", "lists"):
        given = np.asarray(given)
    if form == "lists":
        given = given.tolist()
    report = check_jacobian(function, given, *args, argnums=argnum)
    assert report, str(report)
    assert report.right
    assert (report.count, report.largest < 1e-12, report.mistakes) == (0, True, ())
    report.raise_if_wrong()
    entries = derivative(*args).size
    assert str(report) == (
        f"the given Jacobian of {function.__name__} is right: all {entries:,} entries agree"
    )


def test_a_function_is_called_once_with_the_arguments_as_they_are():
    seen = []

    def derivative(*args, **kwargs):
        seen.append((args, kwargs))
        return np.diag(np.cos(args[0]) * kwargs["scale"])

    def function(x, scale):
        return scale * jnp.sin(x)

    assert check_jacobian(function, derivative, v, kwargs={"scale": 2.0})
    ((args, kwargs),) = seen
    assert args[0] is v
    assert kwargs == {"scale": 2.0}


def layer(params, x):
    return {"z": jnp.sin(x @ params["W"]), "n": jnp.sum(x**2)}


def layer_jacobian(params, x):
    return jax.jacfwd(layer, (0, 1))(params, x)


PARAMS = {"W": RNG.normal(size=(3, 2))}


def test_trees_are_right():
    report = check_jacobian(layer, layer_jacobian, PARAMS, v, argnums=(0, 1))
    assert report, str(report)
    assert [leaf.leaf for leaf in report.leaves] == [
        "D_W layer['n']",
        "D_x layer['n']",
        "D_W layer['z']",
        "D_x layer['z']",
    ]


def test_lists_stand_for_tuples():
    def function(x, y):
        return x * y

    assert check_jacobian(function, [np.diag(v), np.diag(v)], v, v, argnums=[0, 1])


def test_a_block_matrix_is_compared_block_by_block():
    def function(x, y):
        return jnp.sin(x), x * y

    blocks = blockjac.block_jacobian(function, (0, 1))(v, v)
    assert check_jacobian(function, BlockMatrix(blocks), v, v, argnums=(0, 1))
    wrong = BlockMatrix([blocks[1], blocks[0]])
    report = check_jacobian(function, wrong, v, v, argnums=(0, 1))
    assert "exchanged" in report.mistakes


def test_one_block_in_a_block_matrix():
    assert check_jacobian(jnp.sin, BlockMatrix([[Block.diag(jnp.cos(v))]]), v)


@pytest.mark.slow
def test_hessians_are_right():
    def function(x):
        return jnp.sum(jnp.sin(x) ** 2) * x[0]

    report = check_jacobian(function, jax.hessian(function), v)
    assert str(report) == "the given Hessian of function is right: all 9 entries agree"
    gradient = check_jacobian(function, jax.grad(function), v)
    assert str(gradient) == "the given Jacobian of function is right: all 3 entries agree"


@pytest.mark.slow
def test_hessians_of_trees_are_right():
    def function(params, x):
        return jnp.sum(jnp.tanh(x @ params["W"]) ** 2)

    report = check_jacobian(function, jax.hessian(function, (0, 1)), PARAMS, v, argnums=(0, 1))
    assert report
    assert report.derivative == "Hessian"
    assert report.leaves[1].leaf == "D_x D_W function"


def test_hessian_by_one_number():
    assert (
        check_jacobian(lambda x: jnp.sum(x**3), [[12.0]], np.array([2.0])).derivative == "Hessian"
    )
    assert check_jacobian(lambda x: jnp.sum(x**3), [12.0], np.array([2.0])).derivative == "Jacobian"


def test_scalars():
    assert check_jacobian(jnp.sin, jnp.cos, 0.3)
    report = check_jacobian(jnp.sin, jnp.sin, 0.3)
    assert not report
    assert report.mistakes == ()  # any two numbers have some quotient, and none is a mistake
    assert "J: given 0.29552" in str(report)
    text = named(check_jacobian(jnp.sin, lambda x: 2 * jnp.cos(x), 0.3), "constant factor")
    assert "divide by 2" in text


def test_integers_and_single_precision_are_fine():
    assert check_jacobian(lambda x: 2 * x, np.diag([2, 2, 2]), v)
    single = np.asarray(jax.jacfwd(nn.softmax)(v), np.float32)
    assert check_jacobian(nn.softmax, single, v)
    assert not check_jacobian(nn.softmax, single, v, rtol=1e-12)


def test_holomorphic():
    z = v + 1j * v[::-1]
    assert check_jacobian(jnp.exp, np.diag(np.exp(z)), z, holomorphic=True)
    report = check_jacobian(jnp.exp, np.diag(np.exp(z)).conj(), z, holomorphic=True)
    named(report, "conjugate")


def test_tolerances():
    near = np.diag(np.cos(v)) + 1e-6
    assert not check_jacobian(jnp.sin, near, v)
    assert check_jacobian(jnp.sin, near, v, atol=1e-5)
    assert check_jacobian(jnp.sin, near, v, rtol=1e-5)


def test_a_zero_derivative():
    assert check_jacobian(jnp.floor, np.zeros((3, 3)), v)
    assert check_jacobian(jnp.floor, np.full((3, 3), 1e-12), v)
    assert not check_jacobian(jnp.floor, np.full((3, 3), 1e-12), v, atol=0.0)


def test_empty():
    assert check_jacobian(jnp.sin, np.zeros((0, 0)), np.zeros(0))


# The lecture's mistake


OUTER = "outer product is a dot product"


def draft(x):
    p = np.asarray(nn.softmax(x))
    return np.diag(p) - p @ p.T


@pytest.mark.parametrize("size", [2, 3, 10])
def test_the_softmax_of_the_lecture(size):
    x = RNG.normal(size=size)
    text = named(check_jacobian(nn.softmax, draft, x), OUTER)
    p = np.asarray(nn.softmax(x))
    assert f"{size * size} of {size * size} entries differ" in text
    assert "write np.outer(p, p)" in text
    assert f"J[0][0]: given {p[0] - p @ p:.9g}, exact {p[0] - p[0] ** 2:.9g}" in text


def test_the_softmax_of_the_lecture_where_all_probabilities_are_equal():
    named(check_jacobian(nn.softmax, draft, np.zeros(4)), OUTER)


def test_the_softmax_of_the_lecture_in_every_row():
    full = np.zeros((4, 3, 4, 3))
    for n in range(4):
        full[n, :, n] = draft(Z[n])
    named(check_jacobian(nn.softmax, full, Z), OUTER)
    rows = np.stack([draft(row) for row in Z])
    text = named(check_jacobian(nn.softmax, rows, Z), "missing delta", OUTER)
    assert "of shape (4, 3, 3), wanted (4, 3) + (4, 3)" in text


def test_the_derivative_of_a_norm_with_another_term():
    """What is left beside the outer product need be no diagonal: layer normalisation."""

    def normal(x):
        centred = x - jnp.mean(x)
        return centred / jnp.sqrt(jnp.sum(centred**2))

    u = np.asarray(normal(w))
    length = np.sqrt(np.sum((w - w.mean()) ** 2))
    right = (np.eye(4) - 1 / 4 - np.outer(u, u)) / length
    assert check_jacobian(normal, right, w)
    wrong = (np.eye(4) - 1 / 4 - u @ u.T) / length
    named(check_jacobian(normal, wrong, w), OUTER)


def test_a_dot_product_of_two_vectors():
    def function(x):
        return x * (1 - x @ w)

    right = np.diag(np.full(4, 1 - w @ w)) - np.outer(w, w)
    assert check_jacobian(function, right, w)
    named(check_jacobian(function, right + np.outer(w, w) - w @ w, w), OUTER)

    def skew(x):
        return jnp.sin(x) - u * (x @ w)

    u = w[::-1].copy()
    wrong = np.diag(np.cos(w)) - u @ w
    named(check_jacobian(skew, wrong, w), OUTER)


NO_DOT_PRODUCT = {
    "everywhere": np.ones((3, 3)),
    "everywhere, 2": np.ones((2, 2)),
    "three of four": np.array([[0, 1], [1, 1]]),
    "one entry": np.eye(3, k=1) * [0, 1, 0],
    "two columns": np.array([[1, 0, 1]] * 3),
    "rank one, of trace 0": np.outer([1, 1, 0], [1, -1, 1]),
}


@pytest.mark.parametrize("name", NO_DOT_PRODUCT)
def test_what_is_no_dot_product(name):
    error = NO_DOT_PRODUCT[name]
    x = v[: len(error)]
    report = check_jacobian(nn.softmax, np.asarray(jax.jacfwd(nn.softmax)(x)) + error, x)
    assert OUTER not in report.mistakes
    assert report.count == np.count_nonzero(error)


# Shapes

SHAPES = {
    "transposed": lambda J: np.moveaxis(J, (2, 3), (0, 1)),
    "axes in another order": lambda J: np.transpose(J, (0, 2, 1, 3)),
    "flattened": lambda J: J.reshape(10, 6),
    "flattened column by column": lambda J: J.reshape(10, 6, order="F"),
    "transposed and flattened": lambda J: J.reshape(10, 6).T,
    "axes of size 1": lambda J: J[None],
    "summed over the output": lambda J: J.sum((0, 1)),
    "summed over the variable": lambda J: J.sum((2, 3)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_wrong_shapes_are_named(name):
    def function(W):
        return jnp.sin(X @ W)

    given = SHAPES[name](np.asarray(jax.jacfwd(function)(W)))
    text = named(check_jacobian(function, given, W), name)
    assert f"D_W function, of shape {given.shape}, wanted (5, 2) + (3, 2)" in text


def test_which_axes_and_how_to_mend_them():
    given = np.transpose(np.asarray(jax.jacfwd(lambda W: X @ W)(W)), (0, 2, 1, 3))
    text = str(check_jacobian(lambda W: X @ W, given, W))
    assert "J[a, b][c, d] was given as [a, c, b, d]; np.transpose(given, (0, 2, 1, 3))" in text


@pytest.mark.parametrize("shape", [(1, 3), (3, 1)])
def test_a_gradient_as_a_matrix(shape):
    report = check_jacobian(lambda x: jnp.sum(x**2), (2 * v).reshape(shape), v)
    assert "reshape to (3,)" in named(report, "axes of size 1")


def test_missing_deltas_by_shape():
    report = check_jacobian(jnp.sin, np.cos(v), v)
    assert "axis 0 of the output equals that on axis 0 of the variable" in named(
        report, "missing delta"
    )
    named(check_jacobian(jnp.sin, np.cos(Z), Z), "missing delta")
    named(check_jacobian(lambda X: X @ W, np.stack([W.T] * 5), X), "missing delta")
    named(check_jacobian(lambda X: X @ W, W.T, X), "missing delta")


def test_a_shape_that_is_nothing_we_know():
    report = check_jacobian(jnp.sin, np.zeros((7, 2)), v)
    assert "together (3, 3), but (7, 2) was given" in named(report, "wrong shape")
    assert report.count == 0
    huge = Block.identity((10**6,))
    named(check_jacobian(jnp.sin, huge, v), "wrong shape")  # and never written out


def test_a_wrong_shape_and_wrong_values():
    given = np.asarray(jax.jacfwd(lambda W: jnp.sin(X @ W))(W)).reshape(10, 6)
    report = check_jacobian(lambda W: jnp.sin(X @ W), -given, W)
    named(report, "flattened", "sign")
    assert report.differences[0].output == (0, 0)


def test_complex_values():
    report = check_jacobian(jnp.sin, np.diag(np.cos(v)).astype(complex), v)
    assert "complex128 was given for a real derivative, float64" in named(report, "complex")


def test_a_block_that_splits_its_axes_elsewhere():
    given = Block.from_dense(jax.jacfwd(nn.softmax)(Z), out_ndim=1)
    report = check_jacobian(nn.softmax, given, Z)
    assert "wanted is one of (4, 3) with respect to (4, 3)" in named(report, "axes split elsewhere")


def test_a_transposed_block():
    named(check_jacobian(lambda X: X @ W, nn.jacobians.affine_X(X, W, b).T, X), "transposed")


# Values


def tanh_layer(x):
    return jnp.tanh(S @ x)


def residual(x):
    return x + S @ jnp.sin(x)


def cube(x):
    return jnp.sin(S @ jnp.diag(x) @ S)


def cyclic(x):
    return jnp.sin(x) * jnp.arange(1.0, 4)


def exact(function, x=v):
    return np.asarray(jax.jacfwd(function)(x))


p = np.asarray(nn.softmax(v))
P = np.asarray(nn.softmax(Z))
t = np.asarray(1 - jnp.tanh(S @ v) ** 2)

VALUES = {
    "transposed": (tanh_layer, exact(tanh_layer).T, v),
    "sign": (tanh_layer, -exact(tanh_layer), v),
    "constant factor": (tanh_layer, 2 * exact(tanh_layer), v),
    "all zero": (tanh_layer, 0 * exact(tanh_layer), v),
    "axes in another order": (cube, np.transpose(exact(cube), (0, 2, 1)), v),
    "missing delta": (cyclic, np.tile(np.diag(exact(cyclic))[:, None], 3), v),
    "missing delta, over the rows": (cyclic, np.tile(np.diag(exact(cyclic)), (3, 1)), v),
    "missing delta, both": (jnp.sin, np.broadcast_to(np.cos(Z), (4, 3, 4, 3)), Z),
    "missing delta, in a term": (nn.softmax, p - np.outer(p, p), v),
    "missing delta, in a batch": (
        nn.softmax,
        np.einsum("nm,nk,kl->nkml", np.ones((4, 4)), P, np.eye(3))
        - np.einsum("nm,nk,nl->nkml", np.ones((4, 4)), P, P),
        Z,
    ),
    "missing delta, in a dense term": (
        lambda x: jnp.sin(x) + S @ x,
        np.cos(v)[:, None] + S,
        v,
    ),
    "extra delta": (tanh_layer, np.diag(np.diag(exact(tanh_layer))), v),
    "missing term": (residual, exact(residual) - np.eye(3), v),
    "missing term, product": (nn.softmax, np.diag(p), v),
    "sign of a term": (nn.softmax, np.diag(p) + np.outer(p, p), v),
    "constant factor of a term": (nn.softmax, np.diag(p) - 2 * np.outer(p, p), v),
    "factor transposed": (tanh_layer, t[:, None] * S.T, v),
    "missing factor": (tanh_layer, S, v),
    "shifted by one": (jnp.diff, np.roll(exact(jnp.diff), 1, 0), v),
    "shifted by one, off the end": (jnp.sin, np.diag(np.cos(v))[[1, 2, 2]] * [[1], [1], [0]], v),
    "reversed": (tanh_layer, exact(tanh_layer)[::-1], v),
}


@pytest.mark.parametrize("name", VALUES)
def test_wrong_values_are_named(name):
    function, given, x = VALUES[name]
    report = check_jacobian(function, given, x)
    named(report, name.split(",")[0])
    wrong = ~np.isclose(given, exact(function, x), rtol=1e-9, atol=1e-12)
    assert report.count == wrong.sum()
    first = report.differences[0]
    place = tuple(np.argwhere(wrong)[0])
    assert first.output + first.input == place
    assert first.given == given[place]
    np.testing.assert_allclose(first.exact, exact(function, x)[place], rtol=1e-12)
    apart = np.abs(given - exact(function, x)).max()
    np.testing.assert_allclose(report.largest, apart, rtol=1e-9)


@pytest.mark.parametrize("name", VALUES)
def test_wrong_blocks_are_named_as_arrays_are(name):
    function, given, x = VALUES[name]
    out_ndim = given.ndim - x.ndim
    report = check_jacobian(function, Block.from_dense(given, out_ndim), x)
    named(report, name.split(",")[0])


@pytest.mark.parametrize(("factor", "hint"), [(5, "is a mean taken"), (1 / 5, "is a sum taken")])
def test_a_mean_for_a_sum(factor, hint):
    def function(X):
        return jnp.mean(X**2, axis=0)

    report = check_jacobian(function, factor * exact(function, X), X)
    assert hint in named(report, "constant factor")


def test_a_hessian_with_a_factor():
    def function(x):
        return jnp.sum(x**3)

    text = named(check_jacobian(function, np.diag(3 * v), v), "constant factor")
    assert "the given Hessian of function is wrong" in text
    assert "every entry is 0.5 times the exact one" in text
    assert "D_x D_x function" in text


def test_a_hessian_without_its_delta():
    text = named(check_jacobian(lambda x: jnp.sum(x**3), 6 * v, v), "missing delta")
    assert "the given Hessian of fun is wrong" in text
    assert "every entry is right once that is mended" in text
    wrong_gradient = check_jacobian(lambda x: jnp.sum(x**3), 7 * v**3, v)
    assert wrong_gradient.derivative == "Jacobian"
    assert wrong_gradient.count == 3


PLACES = {
    "one entry": (slice(1, 2), slice(2, 3)),
    "one row": (slice(1, 2), slice(None)),
    "one column": (slice(None), slice(1, 2)),
}


@pytest.mark.parametrize("name", PLACES)
def test_where_the_wrong_entries_lie(name):
    given = exact(tanh_layer).copy()
    given[PLACES[name]] += RNG.uniform(1, 2, size=given[PLACES[name]].shape)
    named(check_jacobian(tanh_layer, given, v), name)


def test_wrong_on_the_diagonal_and_off_it():
    noise = RNG.uniform(1, 2, size=(3, 3))
    on_it = exact(tanh_layer) + np.diag(np.diag(noise))
    named(check_jacobian(tanh_layer, on_it, v), "diagonal")
    off_it = exact(tanh_layer) + noise * (1 - np.eye(3))
    named(check_jacobian(tanh_layer, off_it, v), "off the diagonal")


def test_what_is_not_recognised_is_shown_and_not_named():
    given = exact(tanh_layer) + RNG.uniform(1, 2, size=(3, 3))
    text = named(check_jacobian(tanh_layer, given, v))
    assert text.count("given ") == 1 + 5
    assert text.endswith("and 4 more")


def test_nan_and_infinity():
    def function(x):
        return jnp.log(x)

    x = np.array([0.0, 1.0, 2.0])
    with np.errstate(divide="ignore"):
        right = np.diag(1 / x)
    right[~np.eye(3, dtype=bool)] = 0
    assert np.isinf(right[0, 0])
    assert check_jacobian(function, right, x)
    assert check_jacobian(jnp.sqrt, np.diag([np.nan, 0.5]), np.array([-1.0, 1.0]))
    given = right.copy()
    given[2, 2] = np.nan
    report = check_jacobian(function, given, x)
    assert "J[2][2]: given nan, exact 0.5" in named(report, "not finite")
    assert report.largest == np.inf
    finite = right.copy()
    finite[0, 0] = 1e9
    report = check_jacobian(function, finite, x)
    assert "J[0][0]: given 1e+09, exact inf" in named(report, "one entry")


@given(
    output=st.integers(0, 4),
    unit=st.integers(0, 1),
    row=st.integers(0, 2),
    column=st.integers(0, 1),
    amount=st.floats(1e-6, 1e6) | st.floats(-1e6, -1e-6),
)
@settings(max_examples=30)
def test_one_changed_entry_is_found(output, unit, row, column, amount):
    given = np.asarray(SIN_LAYER_JACOBIAN).copy()
    given[output, unit, row, column] += amount
    report = check_jacobian(sin_layer, given, W)
    assert report.mistakes == ("one entry",)
    (difference,) = report.differences
    assert (difference.output, difference.input) == ((output, unit), (row, column))
    assert difference.given == given[output, unit, row, column]
    np.testing.assert_allclose(
        difference.exact, SIN_LAYER_JACOBIAN[output, unit, row, column], atol=1e-12
    )
    np.testing.assert_allclose(report.largest, abs(amount), rtol=1e-6)


def sin_layer(W):
    return jnp.sin(X @ W)


SIN_LAYER_JACOBIAN = jax.jacfwd(sin_layer)(W)


# Trees


def two(x, y):
    return jnp.sin(x) * jnp.cos(y)


D_x, D_y = jax.jacfwd(two, (0, 1))(v, v[::-1])


def test_exchanged_arguments():
    report = check_jacobian(two, (D_y, D_x), v, v[::-1], argnums=(0, 1))
    text = named(report, "exchanged")
    assert "what was given is D_y two; exchange the two" in text


def test_one_of_several_arguments_is_wrong():
    report = check_jacobian(two, (D_x, -D_y), v, v[::-1], argnums=(0, 1))
    text = named(report, "sign")
    assert "D_x two" not in text
    assert "D_y two, of shape (3,) + (3,): 3 of 9 entries differ" in text
    assert "the other 1 of 2 derivatives are right" in text
    assert report.differences[0].leaf == "D_y two"


TREES = {
    "one for two": (D_x, r"found an array of shape \(3, 3\), wanted a tuple of 2"),
    "three for two": ((D_x, D_y, D_x), "found a tuple of 3, wanted a tuple of 2"),
    "None": (
        (D_x, None),
        r"found at \[1\] None, wanted an array or Block of shape \(3,\) \+ \(3,\)",
    ),
    "a name": ({"x": D_x, "y": D_y}, r"found a dict with \['x'\], \['y'\], wanted a tuple of 2"),
    "too deep": (((D_x,), D_y), r"found at \[0\] a tuple of 1, wanted an array or Block"),
}


@pytest.mark.parametrize("name", TREES)
def test_wrong_trees(name):
    given, message = TREES[name]
    report = check_jacobian(two, given, v, v, argnums=(0, 1))
    named(report, "wrong tree")
    with pytest.raises(WrongJacobianError, match=message):
        report.raise_if_wrong()


# Too many entries to look at each


def wide(x):
    return x + jnp.sin(x) * jnp.sum(x)


LARGE = RNG.normal(size=5000)


def wide_jacobian(x):
    s = jnp.sin(x)
    product = Block.from_dense(s[:, None], 1) @ Block.from_dense(jnp.ones_like(x)[None], 1)
    return Block.identity(x.shape), Block.diag(jnp.cos(x) * jnp.sum(x)), product


def test_a_large_block_is_compared_by_products():
    one, two, three = wide_jacobian(LARGE)
    report = check_jacobian(wide, one + two + three, LARGE)
    assert str(report).endswith("D_x wide, with 25,000,000 entries, agrees in 2 random products")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda one, two, three: (one + two + three).T, "transposed"),
        (lambda one, two, three: -one - two - three, "sign"),
        (lambda one, two, three: 3 * (one + two + three), "constant factor"),
        (lambda one, two, three: one + two - three, "sign of a term"),
        (lambda one, two, three: one + two, "missing term"),
    ],
)
def test_mistakes_of_a_large_block(change, name):
    given = change(*wide_jacobian(LARGE))
    report = check_jacobian(wide, given, LARGE)
    assert "(found by 2 random products)" in named(report, name)
    place = report.differences[0]
    unit = np.zeros(5000)
    unit[place.output] = 1
    np.testing.assert_allclose(place.given, given.vecmat(unit)[place.input], rtol=1e-12)
    row = jax.grad(lambda x: wide(x)[place.output])(LARGE)
    np.testing.assert_allclose(place.exact, row[place.input], rtol=1e-9)


def test_a_block_that_nobody_could_write_out():
    X, W, b = jnp.ones((2000, 100)), jnp.ones((100, 60)), jnp.ones(60)
    assert check_jacobian(nn.affine, nn.jacobians.affine_X, X, W, b)
    report = check_jacobian(nn.affine, 2 * nn.jacobians.affine_X(X, W, b), X, W, b)
    named(report, "constant factor")
    report = check_jacobian(nn.affine, nn.jacobians.affine_X(X, W, b).T, X, W, b)
    named(report, "transposed")
    report = check_jacobian(nn.affine, nn.jacobians.affine_W(X, W, b), X, W, b)
    named(report, "wrong shape")


def test_wrong_shapes_of_many_entries():
    report = check_jacobian(jnp.sin, np.cos(LARGE), LARGE)
    assert "every entry is right once that is mended" in named(report, "missing delta")
    named(check_jacobian(jnp.sin, 2 * np.cos(LARGE), LARGE), "missing delta", "constant factor")
    X, W = RNG.normal(size=(500, 20)), RNG.normal(size=(20, 10))
    rows = np.broadcast_to(W.T, (500, 10, 20))
    named(check_jacobian(lambda X: X @ W, rows, X), "missing delta")
    report = check_jacobian(lambda X: X @ W, W.T, X)
    assert "no entry compared" in named(report, "wrong shape")


def test_a_large_array_with_the_variable_first(monkeypatch):
    monkeypatch.setattr(compare, "MAX_ENTRIES", 4)
    given = np.moveaxis(np.asarray(SIN_LAYER_JACOBIAN), (2, 3), (0, 1))
    named(check_jacobian(sin_layer, given, W), "transposed")
    named(check_jacobian(sin_layer, -given, W), "transposed", "sign")


def test_arrays_and_one_entry_by_products(monkeypatch):
    monkeypatch.setattr(compare, "MAX_ENTRIES", 4)
    assert check_jacobian(tanh_layer, exact(tanh_layer), v)
    given = exact(tanh_layer).copy()
    given[2, 1] += 1e-3
    report = check_jacobian(tanh_layer, given, v)
    assert (report.differences[0].output, report.differences[0].input) == ((2,), (1,))
    assert report.count == 1
    np.testing.assert_allclose(report.largest, 1e-3, rtol=1e-6)
    named(check_jacobian(two, (D_y, D_x), v, v[::-1], argnums=(0, 1)), "exchanged")
    named(check_jacobian(tanh_layer, t[:, None] * S.T, v), "factor transposed")
    named(check_jacobian(cyclic, np.tile(np.diag(exact(cyclic)), (3, 1)), v), "missing delta")
    named(check_jacobian(cyclic, np.tile(np.diag(exact(cyclic))[:, None], 3), v), "missing delta")


# Wrong use


def test_the_error_is_the_report():
    report = check_jacobian(nn.softmax, draft, v)
    with pytest.raises(WrongJacobianError) as caught:
        report.raise_if_wrong()
    assert str(caught.value) == str(report)
    assert isinstance(caught.value, ArithmeticError)
    assert isinstance(caught.value, BlockjacError)


def test_no_function():
    with pytest.raises(DifferentiationTypeError, match="callable value for blockjac"):
        check_jacobian(exact(tanh_layer), exact(tanh_layer), v)


@pytest.mark.parametrize(
    "bad", ["words", object(), np.array(["a"])], ids=["text", "object", "array"]
)
def test_no_array(bad):
    with pytest.raises(DifferentiationTypeError, match="a derivative is compared as arrays"):
        check_jacobian(two, bad, v, v)
    with pytest.raises(DifferentiationTypeError, match="a derivative is compared as arrays"):
        check_jacobian(two, (D_x, bad), v, v, argnums=(0, 1))


def test_argnums_out_of_range():
    with pytest.raises(ArgumentError, match="requires at least 3 positional arguments"):
        check_jacobian(two, D_x, v, v, argnums=2)


def test_integer_arguments():
    with pytest.raises(DifferentiationTypeError, match="check_jacobian requires real- or complex"):
        check_jacobian(jnp.sin, np.eye(3), np.arange(3))
