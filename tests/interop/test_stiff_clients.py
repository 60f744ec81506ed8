"""The clients themselves: each solves with our structure what it solves without it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import blockjac
from blockjac import interop

lx = pytest.importorskip("lineax", reason="the solver is one of lineax")


@pytest.fixture
def dfx():
    return pytest.importorskip("diffrax", reason="the integrator")


@pytest.fixture
def optx():
    return pytest.importorskip("optimistix", reason="the root finder")


@pytest.fixture
def sun():
    return pytest.importorskip("sksundae", reason="SUNDIALS (scikit-sundae)")


def solver():
    return interop.StructuredSolver()


def robertson(t, y, rates=(0.04, 3e7, 1e4)):
    """Robertson's reactions in cells that do not meet, all first species first."""
    a, b, c = y.reshape(3, -1)
    slow, fast, back = rates[0] * a, rates[1] * b**2, rates[2] * b * c
    return jnp.concatenate([back - slow, slow - back - fast, fast])


CELLS = 4
START = np.concatenate(
    [np.linspace(0.8, 1.0, CELLS), np.zeros(CELLS), np.linspace(0.2, 0.0, CELLS)]
)


class TestDiffrax:
    def integrated(self, dfx, method, linear_solver, rate=robertson, end=1.0, **options):
        finder = dfx.VeryChord(rtol=1e-6, atol=1e-8, linear_solver=linear_solver)

        def integrate(start, args=(0.04, 3e7, 1e4)):
            return dfx.diffeqsolve(
                dfx.ODETerm(rate),
                method(root_finder=finder),
                0.0,
                end,
                1e-3,
                start,
                args,
                stepsize_controller=dfx.PIDController(rtol=1e-6, atol=1e-8),
                max_steps=256,
                **options,
            ).ys

        return integrate

    @pytest.mark.parametrize("name", ["Kvaerno3", "Kvaerno4"])
    def test_implicit_solvers_give_what_they_give(self, dfx, name):
        method = getattr(dfx, name)
        ours = jax.jit(self.integrated(dfx, method, solver()))(jnp.asarray(START))
        own = lx.AutoLinearSolver(well_posed=None)
        theirs = jax.jit(self.integrated(dfx, method, own))(jnp.asarray(START))
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-14)

    @pytest.mark.slow
    def test_a_tree_as_the_state_in_a_batch_with_gradients(self, dfx):
        def rate(t, y, args):
            flat = jnp.concatenate([y["a"], *y["rest"]])
            a, b, c = robertson(t, flat, args).reshape(3, -1)
            return {"a": a, "rest": (b, c)}

        a, b, c = jnp.asarray(START).reshape(3, -1)
        start = {"a": a, "rest": (b, c)}

        def end(linear_solver):
            integrate = self.integrated(dfx, dfx.Kvaerno3, linear_solver, rate)

            def total(slow, start):
                return jnp.sum(integrate(start, (slow, 3e7, 1e4))["a"])

            return jax.jit(jax.vmap(jax.value_and_grad(total), in_axes=(0, None)))

        slow = jnp.array([0.04, 0.05])
        value, slope = end(solver())(slow, start)
        expected, expected_slope = end(lx.AutoLinearSolver(well_posed=None))(slow, start)
        np.testing.assert_allclose(value, expected, rtol=1e-9)
        np.testing.assert_allclose(slope, expected_slope, rtol=1e-6)

    def test_single_precision(self, dfx):
        def rate(t, y, args):
            return -y + 0.1 * jnp.roll(y, 1)

        with jax.enable_x64(False):
            start = jnp.asarray(START)
            ours = self.integrated(dfx, dfx.Kvaerno3, solver(), rate)(start)
            own = lx.AutoLinearSolver(well_posed=None)
            theirs = self.integrated(dfx, dfx.Kvaerno3, own, rate)(start)
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


SIZE = 30


def equation(u, source=1.0):
    """Zero at the solution of `u'' = source exp(u)` with zero ends."""
    sides = jnp.pad(u, 1)
    return (sides[2:] - 2 * u + sides[:-2]) * (SIZE + 1) ** 2 - source * jnp.exp(u)


TIMES = jnp.linspace(0.0, 2.0, 20)
GROUPS = 6
TARGET = jnp.exp(-TIMES) * jnp.arange(1.0, GROUPS + 1)[:, None]


def misfit(y, args=None):
    """Curves that are fitted at once, each by two parameters of its own."""
    return y["scale"][:, None] * jnp.exp(-y["rate"][:, None] * TIMES) - TARGET


GUESS = {"scale": jnp.full(GROUPS, 2.0), "rate": jnp.full(GROUPS, 0.5)}


class TestOptimistix:
    @pytest.mark.parametrize("name", ["Newton", "Chord"])
    def test_roots(self, optx, name):
        def root(source, linear_solver):
            finder = getattr(optx, name)(rtol=1e-10, atol=1e-10, linear_solver=linear_solver)
            adjoint = optx.ImplicitAdjoint(linear_solver=linear_solver)
            return optx.root_find(
                lambda u, args: equation(u, args), finder, jnp.zeros(SIZE), source, adjoint=adjoint
            ).value

        own = lx.AutoLinearSolver(well_posed=None)
        np.testing.assert_allclose(root(1.0, solver()), root(1.0, own), rtol=1e-8)
        slope = jax.grad(lambda s: jnp.sum(root(s, solver())))(1.0)
        expected = jax.grad(lambda s: jnp.sum(root(s, own)))(1.0)
        np.testing.assert_allclose(slope, expected, rtol=1e-8)

    @pytest.mark.parametrize("name", ["LevenbergMarquardt", "GaussNewton", "Dogleg"])
    def test_least_squares(self, optx, name):
        found = {}
        for key, linear in {"ours": solver(), "own": lx.AutoLinearSolver(well_posed=None)}.items():
            method = getattr(optx, name)(rtol=1e-9, atol=1e-9, linear_solver=linear)
            found[key] = optx.least_squares(misfit, method, GUESS, max_steps=100).value
        np.testing.assert_allclose(found["ours"]["rate"], np.ones(GROUPS), rtol=1e-6)
        np.testing.assert_allclose(found["ours"]["rate"], found["own"]["rate"], rtol=1e-6)

    def test_the_curves_are_separate_systems(self):
        operator = lx.JacobianLinearOperator(misfit, GUESS)
        way = solver().describe(operator)
        assert (
            way == f"least squares by the normal equations: {GROUPS} systems: dense Cholesky of 2"
        )


class TestSciPy:
    def test_an_initial_value_problem(self):
        from scipy.integrate import solve_ivp

        jacobian = blockjac.sparse_jacobian(jax.jit(robertson), argnums=1, format="csc")
        ends = [
            solve_ivp(jax.jit(robertson), (0, 10), START, method="BDF", rtol=1e-6, atol=1e-9, **jac)
            for jac in ({"jac": jacobian}, {})
        ]
        assert ends[0].success
        np.testing.assert_allclose(ends[0].y[:, -1], ends[1].y[:, -1], rtol=1e-4, atol=1e-8)

    def test_least_squares_and_roots(self):
        from scipy.optimize import least_squares, root

        zero = least_squares(equation, np.zeros(SIZE), jac=blockjac.sparse_jacobian(equation))
        dense = blockjac.sparse_jacobian(equation, format="dense")
        other = root(equation, np.zeros(SIZE), jac=dense)
        expected = root(equation, np.zeros(SIZE))
        assert zero.success
        assert other.success
        np.testing.assert_allclose(zero.x, expected.x, atol=1e-6)
        np.testing.assert_allclose(other.x, expected.x, atol=1e-6)


class TestSundials:
    def test_cvode_with_sparse_values_and_with_a_band(self, sun):
        from scipy.sparse import csc_matrix

        rate = jax.jit(robertson)
        places = interop.structure(robertson, argnums=1)(0.0, START)
        indices, starts = places.indices("csc")
        pattern = csc_matrix((np.ones(places.nnz), indices, starts), places.shape)

        def right_side(t, y, out):
            out[:] = rate(t, y)

        def fill(t, y, _, values):
            values[:] = places.values(t, np.asarray(y), format="csc")

        options = {"rtol": 1e-8, "atol": 1e-11}
        sparse = sun.cvode.CVODE(
            right_side, linsolver="sparse", sparsity=pattern, jacfn=fill, **options
        )
        lower, upper = places.indices("band")
        band = sun.cvode.CVODE(right_side, linsolver="band", lband=lower, uband=upper, **options)
        own = sun.cvode.CVODE(right_side, **options)
        ends = [each.solve([0.0, 10.0], START).y[-1] for each in (sparse, band, own)]
        np.testing.assert_allclose(ends[0], ends[2], rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(ends[1], ends[2], rtol=1e-5, atol=1e-9)

    def test_ida_with_sparse_values(self, sun):
        from scipy.sparse import csc_matrix

        def residual(t, y, rate, shift):
            """Robertson's reactions, the last equation being that mass is conserved."""
            a, b, c = y.reshape(3, -1)
            balance = a + b + c - jnp.asarray(START).reshape(3, -1).sum(axis=0)
            return jnp.concatenate([(rate - robertson(t, y))[: 2 * CELLS], balance])

        def jacobian_of(t, y, rate, shift):
            """`dF/dy + shift dF/dy'` is the derivative along both."""
            return lambda v: residual(t, y + v, rate + shift * v, shift)

        def moved(v, t, y, rate, shift):
            return jacobian_of(t, y, rate, shift)(v)

        zeros = np.zeros_like(START)
        places = interop.structure(moved)(zeros, 0.0, START, zeros, 1.0)
        indices, starts = places.indices("csc")
        pattern = csc_matrix((np.ones(places.nnz), indices, starts), places.shape)
        compiled = jax.jit(residual)

        def equations(t, y, rate, out):
            out[:] = compiled(t, y, rate, 0.0)

        def fill(t, y, rate, _, shift, values):
            values[:] = places.values(
                zeros, t, np.asarray(y), np.asarray(rate), shift, format="csc"
            )

        options = {"rtol": 1e-8, "atol": 1e-11, "algebraic_idx": list(range(2 * CELLS, 3 * CELLS))}
        rate = np.asarray(robertson(0.0, jnp.asarray(START)))
        sparse = sun.ida.IDA(equations, linsolver="sparse", sparsity=pattern, jacfn=fill, **options)
        own = sun.ida.IDA(equations, **options)
        ends = [each.solve([0.0, 10.0], START, rate).y[-1] for each in (sparse, own)]
        np.testing.assert_allclose(ends[0], ends[1], rtol=1e-5, atol=1e-9)
