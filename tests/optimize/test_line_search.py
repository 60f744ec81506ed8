import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blockjac.errors import BlockjacError
from blockjac.optimize import Backtracking, Status, backtrack


def half_square(x):
    return 0.5 * jnp.sum(x**2)


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def reference(loss, x, direction, gradient, search):
    """The accepted step and the number of trials, searched one by one in plain Python."""
    start, slope = float(loss(x)), float(np.vdot(gradient, direction))
    step = search.first_step
    for trial in range(1, search.max_trials + 1):
        value = float(loss(x + step * direction))
        if np.isfinite(value) and value <= start + step * search.alpha * slope and value < start:
            return step, trial
        step *= search.beta
    return 0.0, search.max_trials


@pytest.mark.parametrize("alpha", [1e-4, 0.1, 0.45])
@pytest.mark.parametrize("beta", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("first_step", [1.0, 1e-3])
def test_the_step_is_the_first_that_lowers_the_loss_by_enough(alpha, beta, first_step):
    search = Backtracking(alpha=alpha, beta=beta, first_step=first_step, max_trials=200)
    x = jnp.array([-1.2, 1.0])
    gradient = jax.grad(rosenbrock)(x)
    found = backtrack(rosenbrock, x, -gradient, gradient, line_search=search)
    step, trials = reference(rosenbrock, x, -gradient, gradient, search)
    np.testing.assert_allclose(found.step, step, rtol=1e-15)
    assert found.trials == trials
    assert found.status == Status.FOUND
    np.testing.assert_allclose(found.params, x - step * gradient, rtol=1e-14)
    np.testing.assert_allclose(found.value, rosenbrock(x - step * gradient), rtol=1e-13)


def test_parameters_may_be_any_tree_of_any_float_types():
    params = {"a": (jnp.ones(2, jnp.float32), 3.0), "b": [jnp.ones((2, 2)), None]}
    gradient = jax.tree.map(lambda leaf: 2.0 * leaf, params)
    direction = jax.tree.map(jnp.negative, gradient)

    def loss(tree):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))

    found = backtrack(loss, params, direction, gradient)
    assert found.step == 0.5
    assert found.value == 0
    assert [leaf.dtype for leaf in jax.tree.leaves(found.params)] == ["f4", "f8", "f8"]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("max_trials", [1, 60, 200])
def test_a_gradient_of_the_wrong_sign_moves_nothing(dtype, max_trials):
    x = jnp.array([1.0, -2.0, 3.0], dtype)
    search = Backtracking(max_trials=max_trials)
    found = backtrack(half_square, x, x, -x, line_search=search)
    assert found.status == Status.NO_STEP
    assert found.trials == max_trials
    assert found.step == 0
    assert found.value == half_square(x)
    np.testing.assert_array_equal(found.params, x)
    assert found.params.dtype == dtype


@pytest.mark.parametrize("outside", [jnp.nan, jnp.inf, -jnp.inf])
def test_values_that_are_not_finite_shrink_the_step(outside):
    def loss(x):
        return jnp.where(jnp.abs(x) > 1, outside, x)

    found = backtrack(loss, 0.0, -10.0, 1.0)
    assert found.step == 1 / 16
    assert found.params == -0.625
    assert found.status == Status.FOUND


def test_a_loss_that_is_finite_nowhere_else_ends_the_search():
    found = backtrack(lambda x: jnp.where(x == 0, 1.0, jnp.nan), 0.0, -1.0, 1.0)
    assert found.status == Status.NO_STEP
    assert found.value == 1


@pytest.mark.parametrize(
    ("direction", "gradient", "status"),
    [
        (-1.0, 0.0, Status.STATIONARY),
        (1.0, 1.0, Status.NOT_DESCENT),
        (0.0, 1.0, Status.NOT_DESCENT),
        (-1.0, jnp.nan, Status.NON_FINITE),
        (-1.0, jnp.inf, Status.NON_FINITE),
    ],
)
def test_hopeless_searches_are_not_begun(direction, gradient, status):
    found = backtrack(half_square, 2.0, direction, gradient)
    assert found.status == status
    assert found.trials == 0
    assert found.params == 2
    assert found.value == 2


def test_a_start_that_is_not_finite_is_reported():
    assert backtrack(jnp.log, -1.0, -1.0, 1.0).status == Status.NON_FINITE


def test_the_known_value_is_not_computed_again():
    calls = []

    def loss(x):
        jax.debug.callback(lambda: calls.append(1))
        return half_square(x)

    found = backtrack(loss, 2.0, -2.0, 2.0, value=2.0)
    jax.effects_barrier()
    assert len(calls) == found.trials == 1


def test_the_data_reach_the_loss():
    found = backtrack(lambda x, a, b: (x - a * b) ** 2, 0.0, 12.0, -12.0, 2.0, 3.0)
    assert found.params == 6


def test_it_compiles_and_maps():
    @jax.jit
    @jax.vmap
    def search(x):
        return backtrack(half_square, x, -4 * x, 4 * x)

    np.testing.assert_array_equal(search(jnp.array([1.0, 2.0])).step, [0.25, 0.25])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, "alpha is 0.0; wanted a number between 0 and 1"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"beta": 1.0}, "beta is 1.0; wanted a number between 0 and 1"),
        ({"beta": -0.5}, "beta is -0.5"),
        ({"first_step": 0.0}, "first_step is 0.0; wanted a positive finite number"),
        ({"first_step": float("inf")}, "first_step is inf"),
        ({"max_trials": 0}, "max_trials is 0; wanted a whole number of at least 1"),
        ({"max_trials": 2.5}, "max_trials is 2.5"),
    ],
)
def test_options_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message) as found:
        Backtracking(**options)
    assert isinstance(found.value, BlockjacError)


def test_trees_that_do_not_match_are_named():
    x = {"w": jnp.ones(3)}
    with pytest.raises(
        TypeError, match=r"direction\['w'\] has shape \(2,\).*params\['w'\], \(3,\)"
    ):
        backtrack(lambda x: jnp.sum(x["w"]), x, {"w": jnp.ones(2)}, x)
    with pytest.raises(TypeError, match=r"gradient is the tree PyTreeDef\(\[\*\]\); wanted"):
        backtrack(lambda x: jnp.sum(x["w"]), x, x, [jnp.ones(3)])


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda x: x, r"the loss gives float64\[3\]; wanted one real number"),
        (lambda x: (x.sum(), 1.0), r"the loss gives \(.*; wanted one real number"),
        (lambda x: x.sum() > 1, r"the loss gives bool\[\]"),
        (lambda x: x.sum() + 1j, r"the loss gives complex128\[\]"),
    ],
)
def test_a_loss_that_is_no_number_is_refused(loss, message):
    with pytest.raises(TypeError, match=message):
        backtrack(loss, jnp.ones(3), jnp.ones(3), jnp.ones(3))
