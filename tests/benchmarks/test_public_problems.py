"""The functions of the public benchmarks are what their formulas say, as are the derivatives."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from scipy.spatial.transform import Rotation

import blockjac
from blockjac import interop
from public_problems import hands, mixtures, nested, recurrent, smooth, sparse, vision


def same(ours, expected):
    ours, expected = jax.tree.leaves(ours), jax.tree.leaves(expected)
    assert [leaf.shape for leaf in ours] == [leaf.shape for leaf in expected]
    for leaf, reference in zip(ours, expected, strict=True):
        scale = np.abs(reference).max(initial=1e-300)
        np.testing.assert_allclose(leaf, reference, rtol=1e-8, atol=1e-10 * scale)


@pytest.fixture
def mixture():
    return mixtures.arguments(points=6, dimensions=3, components=2)


def test_log_posterior_is_that_of_the_distributions(mixture, monkeypatch):
    monkeypatch.setattr(mixtures, "M", 2)
    monkeypatch.setattr(mixtures, "GAMMA", 0.7)
    alpha, mu, q, below, x = mixture
    dimensions = x.shape[1]
    expected, densities = 0.0, []
    for component in range(len(alpha)):
        Q = np.diag(np.exp(q[component]))
        numbers = iter(below[component])
        for column, row in itertools.combinations(range(dimensions), 2):
            Q[row, column] = next(numbers)
        precision = Q.T @ Q
        normal = stats.multivariate_normal(mu[component], np.linalg.inv(precision))
        densities.append(special.softmax(alpha)[component] * normal.pdf(x))
        wishart = stats.wishart(dimensions + 3, np.eye(dimensions) / 0.7**2)
        expected += wishart.logpdf(precision)
    expected += np.sum(np.log(np.sum(densities, axis=0)))
    np.testing.assert_allclose(mixtures.log_posterior(*mixture), expected, rtol=1e-12)


@pytest.mark.slow
def test_gradient_of_the_mixture(mixture):
    wrt = (0, 1, 2, 3)
    same(
        blockjac.grad(mixtures.log_posterior, wrt)(*mixture),
        jax.grad(mixtures.log_posterior, wrt)(*mixture),
    )


def test_cameras_see_points_where_the_formula_says():
    cameras, points, weights, pairs, seen = vision.arguments(2, 3, 5)
    errors, regular = vision.residuals(cameras, points, weights, pairs, seen)
    for number, (which, point) in enumerate(pairs):
        camera = np.array(cameras[which])
        x, y, z = Rotation.from_rotvec(camera[:3]).apply(np.array(points[point]) - camera[3:6])
        square = (x**2 + y**2) / z**2
        distorted = 1 + camera[9] * square + camera[10] * square**2
        place = camera[6] * distorted * np.array([x / z, y / z]) + camera[7:9]
        expected = weights[number] * (place - seen[number])
        np.testing.assert_allclose(errors[number], expected, rtol=1e-10)
    np.testing.assert_allclose(regular, 1 - weights**2)


@pytest.mark.slow
def test_bundle_adjustment_has_29_entries_an_observation():
    """ADBench stores 31: two are 0 for all cameras, as the principal point moves x by x alone."""
    arguments = vision.arguments(3, 4, 10)
    matrix = blockjac.sparse_jacobian(vision.residuals, (0, 1, 2))(*arguments)
    rows = jax.jacfwd(vision.residuals, (0, 1, 2))(*arguments)
    expected = np.concatenate(
        [
            np.concatenate([np.reshape(part, (count, -1)) for part in row], axis=1)
            for row, count in zip(rows, (20, 10), strict=True)
        ]
    )
    assert matrix.nnz == 29 * 10
    same(matrix.toarray(), expected)


def test_cameras_that_do_not_turn_have_derivatives():
    cameras, points, weights, pairs, seen = vision.arguments(2, 3, 5)
    still = cameras.at[:, :3].set(0.0)
    J = blockjac.jacobian(lambda c: vision.residuals(c, points, weights, pairs, seen)[0])(still)
    assert np.isfinite(J).all()


@pytest.fixture
def hand():
    return hands.hand(points=4, vertices=10, triangles=6)


def test_the_hand_moves_as_its_bones_do(hand):
    theta = np.array(hands.arguments(4)[0])
    angles = np.zeros((hands.BONES, 3))  # about x, z and y
    numbers = iter(theta[6:])
    for finger in range(5):
        for joint in (1, 2, 3):
            angles[4 * finger + joint, 0] = next(numbers)
            if joint == 1:
                angles[4 * finger + joint, 1] = next(numbers)
    assert next(numbers, None) is None
    absolutes = []
    for bone, (x, z, y) in enumerate(angles):
        own = np.eye(4)
        own[:3, :3] = Rotation.from_euler("xyz", [x, y, z]).as_matrix()
        own = hand.relatives[bone] @ own
        parent = hands.parent_of(bone)
        absolutes.append(own if parent < 0 else absolutes[parent] @ own)
    moved = sum(
        weights * (matrix @ back @ hand.vertices)[:3]
        for matrix, back, weights in zip(absolutes, hand.to_bones, hand.weights, strict=True)
    )
    expected = Rotation.from_rotvec(theta[:3]).as_matrix() @ moved + theta[3:6, None]
    np.testing.assert_allclose(hands.surface(jnp.asarray(theta), hand), expected, rtol=1e-10)


@pytest.mark.slow
def test_jacobians_of_the_hand(hand):
    theta, inside = hands.arguments(4)
    same(
        blockjac.jacobian(lambda t: hands.simple(t, hand))(theta),
        jax.jacfwd(lambda t: hands.simple(t, hand))(theta),
    )
    fit = partial(hands.complicated, hand=hand)
    blocks = blockjac.block_jacobian(fit, (0, 1))(theta, inside)
    same([block.dense() for block in blocks], jax.jacfwd(fit, (0, 1))(theta, inside))
    assert blocks[1].nnz == 4 * 3 * 2


@pytest.mark.slow
def test_lstm_is_the_loop_and_so_is_its_gradient():
    arguments = recurrent.arguments(2, 5, width=3)
    loop = recurrent.unrolled_loss(*map(np.asarray, arguments), np)
    np.testing.assert_allclose(recurrent.loss(*arguments), loop, rtol=1e-12)
    same(
        blockjac.grad(recurrent.loss, (0, 1))(*arguments),
        jax.grad(recurrent.loss, (0, 1))(*arguments),
    )


@pytest.mark.slow
def test_clusters_have_a_diagonal_hessian():
    generator = np.random.default_rng(0)
    centroids, points = jnp.asarray(generator.normal(size=(3, 2))), generator.normal(size=(20, 2))
    cost = smooth.cluster_cost
    distances = np.linalg.norm(points[:, None] - np.asarray(centroids), axis=2)
    np.testing.assert_allclose(cost(centroids, points), np.sum(distances.min(1) ** 2), rtol=1e-12)
    same(blockjac.grad(cost)(centroids, points), jax.grad(cost)(centroids, points))
    dense = np.reshape(jax.hessian(cost)(centroids, points), (6, 6))
    same(blockjac.hessian_diagonal(cost)(centroids, points), np.diag(dense).reshape(3, 2))


@pytest.mark.parametrize(
    ("function", "size"),
    [
        (partial(smooth.polynomial_misfit, count=7), 4),
        (smooth.log_sum_exp, 6),
        (partial(smooth.last_state, steps=5), 4),
    ],
    ids=["llsq", "lse", "ode"],
)
def test_gradients_of_vectors(function, size):
    x = jnp.asarray(np.random.default_rng(0).normal(size=size))
    same(blockjac.grad(function)(x), jax.grad(function)(x))


def test_equation_in_time_has_its_solution():
    """`y_i = x_0 ... x_i t^(i+1) / (i+1)!`: exact by a method of fourth order up to `t^4`."""
    x = jnp.array([0.5, 1.5, -2.0, 0.7])
    np.testing.assert_allclose(smooth.last_state(x, 3), np.prod(x) * 2**4 / 24, rtol=1e-12)


@pytest.mark.parametrize("way", ["determinant_by_recursion", "determinant_by_minors"])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_determinants(way, size):
    A = jnp.asarray(np.random.default_rng(size).normal(size=(size, size)))
    determinant = getattr(smooth, way)
    np.testing.assert_allclose(determinant(A), np.linalg.det(A), rtol=1e-10)
    same(blockjac.grad(determinant)(A), jax.grad(determinant)(A))


WAYS = {"blockjac": blockjac.jacobian, "forward": jax.jacfwd, "reverse": jax.grad}


@pytest.mark.parametrize(("outer", "inner"), [("blockjac", "blockjac"), ("forward", "reverse")])
def test_the_particle_meets_the_origin(outer, inner):
    """The control that Pearlmutter and Siskind give is 0.20719."""
    w = nested.particle(jnp.zeros(1), WAYS[outer], WAYS[inner])
    np.testing.assert_allclose(w, 0.20719187, rtol=1e-4)
    assert nested.miss(w, WAYS[inner]) < 1e-6


@pytest.mark.parametrize(("outer", "inner"), [("blockjac", "blockjac"), ("forward", "reverse")])
def test_the_saddle_is_at_the_origin(outer, inner):
    places = nested.saddle(jnp.array([1.0, 1.0]), WAYS[outer], WAYS[inner])
    np.testing.assert_allclose(places, np.zeros(4), atol=1e-4)


JACOBIANS = {
    "broyden": (sparse.broyden_tridiagonal, 6),
    "brusselator": (sparse.brusselator, 8),
    "chain": (sparse.chain_constraints, 10),
    "shooting": (partial(sparse.shooting_defects, substeps=1), 5 * 4 - 1),
}
HESSIANS = {
    "rosenbrock": (sparse.chained_rosenbrock, 6),
    "chain energy": (sparse.chain_energy, 10),
    **{
        name: (function, 9 if name == "dixmaana" else 8) for name, function in sparse.CUTEST.items()
    },
}


@pytest.mark.parametrize("name", JACOBIANS)
def test_sparse_jacobians_of_the_literature(name):
    function, size = JACOBIANS[name]
    x = np.random.default_rng(0).uniform(0.5, 1.5, size=size)
    places = interop.structure(function)(x)
    dense = np.zeros(places.shape)
    dense[places.rows, places.columns] = places.values(x)
    same(dense, jax.jacfwd(function)(x))


@pytest.mark.parametrize("name", HESSIANS)
def test_sparse_hessians_of_the_literature(name):
    function, size = HESSIANS[name]
    x = np.random.default_rng(0).uniform(0.5, 1.5, size=size)
    same(blockjac.sparse_hessian(function)(x).toarray(), jax.hessian(function)(x))


@pytest.mark.parametrize("name", [*JACOBIANS, *HESSIANS])
def test_casadi_has_the_same_functions(name):
    casadi = pytest.importorskip("casadi")
    function, size = {**JACOBIANS, **HESSIANS}[name]
    x = np.random.default_rng(0).uniform(0.5, 1.5, size=size)
    symbol = casadi.SX.sym("x", size)
    values = casadi.Function("f", [symbol], [function(symbol, sparse.casadis())])(x)
    np.testing.assert_allclose(np.ravel(values), np.ravel(function(x)), rtol=1e-12)


def test_functions_of_cutest_have_their_minima():
    """Known values at the known starting points, by hand."""
    ones = np.ones(9)
    assert sparse.arwhead(ones) == 8 * (4 - 4 + 3)
    assert sparse.engval1(ones) == 8 * (4 - 4 + 3)
    assert sparse.liarwhd(ones) == sparse.chained_rosenbrock(ones) == 0
    assert sparse.bdqrtic(ones) == 5 * (1 + 15**2)
    assert sparse.dixmaana(2 * ones) == 1 + 9 * 4 + 0.125 * 6 * 2**6 + 0.125 * 3 * 4
    assert sparse.nondquar(np.ones(4)) == 4 + 2 * 3**4
    np.testing.assert_allclose(sparse.cragglvy(np.ones(4)), (np.e - 1) ** 4 + 1)
