"""Plans: what they foretell is what is emitted; they print, are kept, and are used again."""

import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.kernels import DIPOLE, dipole

import blockjac
from blockjac import Plan, Search
from blockjac.errors import FileFormatError, OrderError, PlanMismatchError
from blockjac.planning.jaxpr_cost import operations

RNG = np.random.default_rng(5)


def array(*shape):
    return jnp.asarray(RNG.normal(size=shape))


def network(W1, b1, W2, b2, X):
    return jax.nn.softmax(jax.nn.sigmoid(X @ W1 + b1) @ W2 + b2)


def chain(x, U, V):
    return jnp.tanh(V @ jnp.tanh(U @ x))


def residual(X, W):
    return jnp.sum((X + jnp.sin(X @ W)) ** 2, axis=1) * 0.5


def stencil(x):
    return (x[2:] - 2 * x[1:-1] + x[:-2]) * x[1:-1]


def attention(Q, K, V):
    return jax.nn.softmax(Q @ K.T / 2.0) @ V


def moments(X):
    centred = X - jnp.mean(X, axis=1, keepdims=True)
    return centred / jnp.sqrt(jnp.mean(centred**2, axis=1, keepdims=True) + 0.1)


FUNCTIONS = {
    "network": (network, (0, 1, 2, 3), (array(4, 3), array(3), array(3, 2), array(2), array(5, 4))),
    "chain": (chain, (0,), (array(6), array(2, 6), array(5, 2))),
    "residual": (residual, (0, 1), (array(4, 3), array(3, 3))),
    "stencil": (stencil, (0,), (array(9),)),
    "attention": (attention, (0, 1, 2), (array(3, 2), array(4, 2), array(4, 3))),
    "moments": (moments, (0,), (array(3, 4),)),
    "dipole": (dipole, tuple(range(8)), DIPOLE),
}


def even_first(edges, vertices):
    """An order of the user's own: the even vertices, then the odd ones."""
    del edges
    return sorted(vertices, key=lambda vertex: (vertex % 2, vertex))


ORDERS = ["reverse", "forward", "greedy", "auto", Search(steps=300), even_first]


def of_the_elimination(function, argnums, arguments, plan):
    """What of the emitted program is neither the function itself nor a local derivative."""

    def emitted(jacobian):
        return operations(jax.make_jaxpr(jacobian)(*arguments))

    whole = emitted(blockjac.jacobian(function, argnums, order=plan))
    apart = plan.values + plan.derivatives
    return whole.flops - apart


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: getattr(order, "__name__", str(order)))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_predicted_operations_are_those_that_are_emitted(name, order):
    function, argnums, arguments = FUNCTIONS[name]
    plan = blockjac.plan(function, argnums, order=order)(*arguments)
    assert plan.multiplications + plan.additions == plan.flops
    assert of_the_elimination(function, argnums, arguments, plan) == plan.flops


@pytest.mark.parametrize("name", FUNCTIONS)
def test_multiplications_are_products_of_edges(name):
    """What is emitted holds no more products than the literature's count has."""
    function, argnums, arguments = FUNCTIONS[name]
    for order in ORDERS:
        plan = blockjac.plan(function, argnums, order=order)(*arguments)
        assert 0 < plan.multiplications <= plan.edge_products


def test_the_literature_count_of_scalars():
    """Human-heart dipole as Griewank's rule counts it: in-edges times out-edges."""
    plan = blockjac.plan(dipole, tuple(range(8)), order="reverse")(*DIPOLE)
    graph = {}
    jaxpr = jax.make_jaxpr(dipole)(*DIPOLE).jaxpr
    for equation in jaxpr.eqns:
        for variable in equation.invars:
            if not hasattr(variable, "val"):
                graph.setdefault(variable, set()).update(equation.outvars)
    results = list(jaxpr.outvars)
    products = 0
    for equation in reversed(jaxpr.eqns):
        (vertex,) = equation.outvars
        heads = graph.pop(vertex, set())
        tails = [tail for tail, own in graph.items() if vertex in own]
        if vertex in results:  # it stays, as a result
            heads = set()
            continue
        products += len(heads) * len(tails)
        for tail in tails:
            graph[tail].discard(vertex)
            graph[tail] |= heads
    assert plan.edge_products == products


def test_products_over_labels():
    """The worked examples of the documentation."""
    n, k, h = 5, 4, 3
    X, W = array(n, k), array(k, h)

    def count(function, argument):
        return blockjac.plan(function, order="reverse")(argument)

    layer = count(lambda X: jnp.tanh(X @ W), X)
    # tanh' (n, h) times W (k, h) is kept apart in the block and multiplied when it is written
    assert layer.edge_products == n * k * h
    assert blockjac.plan(lambda X: jnp.tanh(X @ W), dense=False)(X).edge_products == 0
    chained = count(lambda x: W.T @ (W @ x), array(h))
    assert (chained.edge_products, chained.additions) == (h * k * h, h * (k - 1) * h)
    scaled = count(lambda x: -(3.0 * jnp.sin(x)), array(n))
    # -1 times 3 is one product, and times cos (n,) one for each entry
    assert (scaled.edge_products, scaled.multiplications) == (1 + n, n)


def test_nothing_is_computed():
    X = jax.ShapeDtypeStruct((10**6, 10**5), jnp.float32)
    W = jax.ShapeDtypeStruct((10**5, 10**5), jnp.float32)
    plan = blockjac.plan(lambda X, W: jnp.tanh(X @ W), dense=False)(X, W)
    assert plan.blocks.nbytes == 4 * (10**11 + 10**10)
    assert plan.blocks.structure == "δ[i,i'] A[i,j] W[k,j]"


def test_it_prints_what_it_knows():
    function, argnums, arguments = FUNCTIONS["network"]
    text = str(blockjac.plan(function, argnums)(*arguments))
    for part in (
        "Plan of network with respect to W1: float64[4,3]",
        "edge products",
        "dot_general",
        "δ[i,i'] δ[j,j'] A[i,j]",
        "test_plan.py",
        "a pass a row (jacrev)",
        "a pass a column (jacfwd)",
        "this plan (auto)",
    ):
        assert part in text


def test_dense_passes_cost_more_than_structure():
    function, argnums, arguments = FUNCTIONS["network"]
    plan = blockjac.plan(function, argnums)(*arguments)
    for name, figures in plan.comparison.items():
        if name.startswith("dense"):
            assert figures.flops > 2 * plan.flops


def test_steps_add_up():
    function, argnums, arguments = FUNCTIONS["attention"]
    plan = blockjac.plan(function, argnums, order="greedy", dense=False)(*arguments)
    for name in ("multiplications", "additions", "edge_products", "bytes"):
        assert sum(getattr(step, name) for step in plan.steps) == getattr(plan, name)
    assert tuple(step.vertex for step in plan.steps) == plan.order


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_plan_is_an_order(name):
    function, argnums, arguments = FUNCTIONS[name]
    plan = blockjac.plan(function, argnums, order="greedy")(*arguments)
    wanted = jax.tree.leaves(jax.jit(jax.jacrev(function, argnums))(*arguments))
    for order in (plan, plan.order, list(plan.order)):
        found = jax.tree.leaves(blockjac.jacobian(function, argnums, order=order)(*arguments))
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def test_with_a_plan_a_function_is_traced_once():
    traces = []

    def function(x, scale=1.0):
        traces.append(x)
        return jnp.sin(x) * scale

    plan = blockjac.plan(function)(jnp.ones(3))
    traces.clear()
    jacobian = blockjac.jacobian(function, order=plan)
    for x in (jnp.ones(3), jnp.zeros(3), np.ones(3)):
        np.testing.assert_allclose(jacobian(x), jnp.diag(jnp.cos(x)))
    assert len(traces) == 1
    block = blockjac.block_jacobian(function, order=plan)
    assert block(jnp.zeros(3)).structure == block(jnp.ones(3)).structure == "δ[i,i'] A[i]"
    assert len(traces) == 2
    assert jacobian.__name__ == "function"
    with pytest.raises(PlanMismatchError, match="was called"):
        jacobian(jnp.ones(4))


def test_with_a_plan_python_values_stay_python_values():
    def function(x, power):
        return x**power if power > 1 else x

    plan = blockjac.plan(function)(2.0, 3)
    np.testing.assert_allclose(blockjac.jacobian(function, order=plan)(2.0, 3), 12.0)


def test_a_plan_is_kept(tmp_path):
    function, argnums, arguments = FUNCTIONS["chain"]
    plan = blockjac.plan(function, argnums, order=Search(steps=100))(*arguments)
    plan.save(tmp_path / "chain.json")
    loaded = Plan.load(tmp_path / "chain.json")
    assert loaded == plan
    assert repr(loaded) == str(loaded) == str(plan)
    found = blockjac.jacobian(function, argnums, order=loaded)(*arguments)
    np.testing.assert_allclose(found[0], jax.jit(jax.jacrev(function))(*arguments), rtol=1e-10)


PROGRAM = """
import jax, jax.numpy as jnp, blockjac
def function(x):
    return jax.nn.relu(jnp.sin(x[1:]) * x[:-1]) @ jnp.ones(3)
x = jnp.arange(4.0)
"""


@pytest.mark.slow
def test_a_plan_serves_another_process(tmp_path):
    path = str(tmp_path / "plan.json")
    for line in (
        f"blockjac.plan(function)(x).save({path!r})",
        f"print(blockjac.jacobian(function, order=blockjac.Plan.load({path!r}))(x))",
    ):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM + line], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[")


def test_a_plan_for_another_function_is_refused():
    plan = blockjac.plan(jnp.sin)(jnp.ones(3))
    with pytest.raises(PlanMismatchError, match=r"made for 'sin' of x: float64\[3\].*plan again"):
        blockjac.jacobian(jnp.sin, order=plan)(jnp.ones(4))
    with pytest.raises(PlanMismatchError, match=r"but 'cos' was called"):
        blockjac.block_jacobian(jnp.cos, order=plan)(jnp.ones(3))


def test_vertices_that_do_not_fit_are_refused():
    order = blockjac.plan(stencil)(array(5)).order
    with pytest.raises(OrderError, match=rf"each of the {len(order)} vertices.*missing: "):
        blockjac.jacobian(stencil, order=order[1:])(array(5))
    with pytest.raises(OrderError, match=r"unknown: 999; twice: "):
        blockjac.jacobian(stencil, order=(*order, order[0], 999))(array(5))
    with pytest.raises(OrderError, match=r"order is 'sideways', but must be one of 'auto'"):
        blockjac.plan(stencil, order="sideways")


def test_files_that_hold_no_plan_are_refused(tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text("no json")
    with pytest.raises(FileFormatError, match=r"wrong.json' holds no plan"):
        Plan.load(path)
    path.write_text(json.dumps({"format": "something else"}))
    with pytest.raises(FileFormatError, match=r"'something else', wanted 'blockjac plan 1'"):
        Plan.load(path)
    with pytest.raises(FileNotFoundError):
        Plan.load(tmp_path / "missing.json")


def test_integers_have_no_plan():
    with pytest.raises(TypeError, match=r"plan requires real- or complex-valued inputs"):
        blockjac.plan(lambda x: x * 2)(jax.ShapeDtypeStruct((3,), jnp.int32))


def test_loops_that_go_one_way_have_plans():
    def loop(x):
        return jax.lax.while_loop(lambda v: jnp.sum(v) < 100, lambda v: v + jnp.exp(v), x)

    plan = blockjac.plan(loop)(jnp.ones(3))
    assert not any("jacrev" in name for name in plan.comparison)
    assert plan.figures.operator_operations > 0


@pytest.mark.parametrize(
    ("function", "shape", "assume", "wanted"),
    [
        (
            lambda u: 3 * u - jnp.pad(u, 1)[2:],
            (1000,),
            "gen",
            r"tridiagonal of 1000; .* take 23\.4 KiB",
        ),
        (lambda u: jnp.exp(u), (4, 5), "pos", r"systems: .*division; the factors take 160 bytes"),
        (
            lambda u: jnp.ones((9, 9)) @ jnp.tanh(u),
            (9,),
            "gen",
            r"dense LU of 9; .*no structure is of use, so all 9 x 9 entries are written out",
        ),
    ],
)
def test_a_plan_says_how_a_system_would_be_solved(function, shape, assume, wanted, tmp_path):
    point = jax.ShapeDtypeStruct(shape, jnp.float64)
    plan = blockjac.plan(function, solve=assume)(point)
    assert re.search(wanted, plan.system), plan.system
    assert f"a linear system with it: {plan.system}" in str(plan)
    plan.save(tmp_path / "plan.json")
    assert blockjac.Plan.load(tmp_path / "plan.json").system == plan.system
    assert blockjac.plan(function)(point).system == ""


def test_only_square_jacobians_have_systems():
    with pytest.raises(ValueError, match=r"solve needs a square matrix.*lstsq takes the others"):
        blockjac.plan(lambda u: u[1:], solve="gen")(jnp.ones(3))
    with pytest.raises(ValueError, match="assume must be 'gen', 'sym' or 'pos', but is 'spd'"):
        blockjac.plan(jnp.sin, solve="spd")


def test_picture_has_a_bar_for_each_order_and_the_sum_of_the_steps(tmp_path):
    plan = blockjac.plan(lambda x, W: jnp.tanh(x @ W))(jnp.ones((3, 2)), jnp.ones((2, 4)))
    figure = plan.plot()
    left, right = figure.axes
    assert len(left.patches) == len(plan.comparison)
    assert max(right.lines[0].get_ydata()) == sum(
        step.multiplications + step.operator_operations for step in plan.steps
    )
    import matplotlib.pyplot as plt

    assert not plt.get_fignums()
    figure.savefig(tmp_path / "plan.png")
    assert (tmp_path / "plan.png").stat().st_size > 1000
