"""What the tracer, the rules and the loops assume of JAX; a release that changes it fails here.

Each test says in one sentence who relies on it.
"""

import importlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.interpreters import ad

from blockjac.base import compat
from blockjac.control_flow.checkpoint import SAVED
from blockjac.graph.expand import EXPANSIONS
from blockjac.graph.inline import CALLS_WITH_RULES
from blockjac.graph.primitives import CALLS
from blockjac.rules.fallback import LEFT_TO_JAX
from blockjac.rules.registry import OPERATOR_RULES, RULES, ZERO
from blockjac.rules.user_rules import FUNCTIONS

X = jnp.array([0.5, -1.0, 2.0])
MATRIX = jnp.array([[4.0, 1.0, 0.0], [1.0, 5.0, 2.0], [0.0, 2.0, 6.0]])
CUBE = jnp.arange(24.0).reshape(2, 3, 4) / 7
PLACES = jnp.array([2, 0])


def equations_in(jaxpr):
    """Every equation of a jaxpr, and of the jaxprs inside."""
    for equation in compat.open_jaxpr(jaxpr).eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple) else (value,):
                if compat.is_jaxpr(inner):
                    yield from equations_in(inner)


def equation_of(name, function, *arguments):
    """The first equation of a primitive in a function."""
    jaxpr = jax.make_jaxpr(function)(*arguments)
    found = (one for one in equations_in(jaxpr) if one.primitive.name == name)
    return next(found, None) or pytest.fail(f"no {name} in {jaxpr}")


def shapes_of(variables):
    return [variable.aval.shape for variable in variables]


# Every primitive has its place

TABLES = {
    "RULES": set(RULES),
    "OPERATOR_RULES": set(OPERATOR_RULES),
    "ZERO": set(ZERO),
    "LEFT_TO_JAX": set(LEFT_TO_JAX),
    "CALLS": set(CALLS),
    "CALLS_WITH_RULES": set(CALLS_WITH_RULES),
    "EXPANSIONS": set(EXPANSIONS),
}

REGISTERING = (
    "jax.scipy.linalg",
    "jax.scipy.special",
    "jax.scipy.signal",
    "jax.nn",
    "jax.lax.linalg",
    "jax.experimental.ode",
    "jax.experimental.sparse",
    "jax.experimental.sparse.linalg",
    "jax.experimental.pallas",
    "jax.experimental.multihost_utils",
)
"""Modules that register primitives of their own."""

for _module in REGISTERING:
    importlib.import_module(_module)


def _is_of_jax(rule):
    """Whether a rule is JAX's own: lineax, for one, brings primitives that it differentiates."""
    while hasattr(rule, "func"):
        rule = rule.func
    return getattr(rule, "__module__", "").split(".")[0] == "jax"


DIFFERENTIABLE = {
    one.name for one, rule in ad.primitive_jvps.items() if one not in FUNCTIONS and _is_of_jax(rule)
}
"""Taken before any test runs, as tests register primitives too."""


def test_every_differentiable_primitive_is_in_a_table():
    """A release of JAX that adds a primitive must not lose structure unseen."""
    assert not DIFFERENTIABLE - set().union(*TABLES.values())


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(TABLES, 2)))
def test_no_primitive_is_in_two_tables(one, other):
    """The tables are asked in turn: in two of them, one entry would be dead."""
    assert not TABLES[one] & TABLES[other]


# What is read of a jaxpr


def test_arguments_have_the_names_of_the_signature():
    """Explanations and formulas name the variables by them."""

    def loss(params, x):
        return params["W1"] @ x

    jaxpr = jax.make_jaxpr(loss)({"W1": MATRIX}, X)
    assert compat.argument_names(jaxpr) == ("params['W1']", "x")


def test_captured_arrays_are_constants_and_numbers_are_literals():
    """The tracer passes captured arrays as arguments and tells literals by their `val`."""
    closed = jax.make_jaxpr(lambda x: 2.0 * x + MATRIX[0] @ np.ones((3, 3)))(X)
    jaxpr = compat.open_jaxpr(closed)
    assert shapes_of(jaxpr.constvars) == [one.shape for one in compat.constants(closed)]
    literals = [one for each in jaxpr.eqns for one in each.invars if hasattr(one, "val")]
    assert [one.val.shape for one in literals if one.val == 2] == [()]
    assert not any(hasattr(one, "val") for one in (*jaxpr.invars, *jaxpr.constvars))


def test_one_jaxpr_may_stand_in_several_calls():
    """The tracer renames at every call, because the variables inside are the same objects."""
    twice = jax.jit(jnp.sin)
    first, second = jax.make_jaxpr(lambda x: (twice(x), twice(2 * x)))(X).eqns[::2]
    assert first.params["jaxpr"] is second.params["jaxpr"]


def test_an_equation_knows_its_line():
    """Notes and errors point there."""
    equation = equation_of("sin", lambda x: jnp.sin(x), X)
    assert "test_jax_contracts.py" in compat.place(equation.source_info)


def test_types_say_shape_dtype_and_weakness():
    """A shape to trace with must give the type of the array that it stands for."""
    for array in (X, jnp.asarray(2.0), jax.random.key(0)):
        found = jax.make_jaxpr(lambda x: x)(compat.struct(jax.typeof(array)))
        assert compat.open_jaxpr(found).invars[0].aval == jax.typeof(array)
    assert jax.typeof(jnp.asarray(2.0)).weak_type


def test_types_say_along_which_axes_of_a_mesh_devices_differ():
    """Zeros, cotangents and identities inside `jax.shard_map` must be of the operand's type."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    seen = []

    def local(x, w):
        seen.extend(map(compat.varying_axes, (x, w, x * w)))
        return x * w

    spread, whole = jax.P("data"), jax.P()
    jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(spread, whole), out_specs=spread))(X, X)
    assert seen == [{"data"}, set(), {"data"}]
    assert not compat.varying_axes(X)


def test_a_mutable_array_has_an_inner_type():
    """By it the tracer refuses writes, which have no derivative as a result."""

    def written(x):
        place = jax.new_ref(x)
        place[0] = 1.0
        return place[...]

    jaxpr = compat.open_jaxpr(jax.make_jaxpr(written)(X))
    made = [one for each in jaxpr.eqns for one in each.outvars if hasattr(one.aval, "inner_aval")]
    assert shapes_of(made) == [(3,)]


@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 1), (2, 3), ()])
@pytest.mark.parametrize(
    "function",
    [
        jnp.add,
        jnp.multiply,
        jnp.divide,
        jnp.maximum,
        jnp.arctan2,
        jnp.power,
        lambda a, b: jnp.where(a > 0, a, b),
        lambda a, b: jnp.clip(a, b, b + 1),
    ],
)
def test_elementwise_operands_have_rank_0_or_axes_of_size_1(function, shape):
    """Elementwise rules know no other broadcast."""
    for other in [(2, 3), shape]:
        jaxpr = jax.make_jaxpr(function)(jnp.ones(shape), jnp.ones(other))
        for equation in equations_in(jaxpr):
            if equation.primitive.name in ("jit", "broadcast_in_dim"):
                continue
            out = equation.outvars[0].aval.shape
            for operand in shapes_of(equation.invars):
                assert operand == () or all(
                    size in (1, whole) for size, whole in zip(operand, out, strict=True)
                )


# Running one equation


@jax.custom_vjp
def backwards(x):
    return jnp.sin(x) * 2


backwards.defvjp(lambda x: (backwards(x), x), lambda x, q: (7 * jnp.cos(x) * q,))


@jax.custom_jvp
def forwards(x):
    return jnp.sin(x) * 2


forwards.defjvp(lambda x, dx: (forwards(*x), 7 * jnp.cos(x[0]) * dx[0]))

PROGRAMS = {
    "jit": jax.jit(lambda x: x * x),
    "scan": lambda x: lax.scan(lambda s, t: (s * t, s + t), 1.0, x),
    "while": lambda x: lax.while_loop(lambda s: s[0] < 3, lambda s: 2 * s, x),
    "cond": lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
    "custom_linear_solve": lambda x: halved(x),
    "custom_jvp_call": forwards,
    "custom_vjp_call": backwards,
    "remat2": jax.checkpoint(lambda x: jnp.sin(x) * x),
    "composite": lax.composite(lambda x: jnp.sin(x) * x, name="test.twice"),
    "reduce": lambda x: lax.reduce(x, 0.0, lambda a, b: a + 2 * b, (0,)),
    "scatter-add": lambda x: x.at[PLACES].add(1.0),
    "custom_vmap_call": lambda x: summed(x),
}


def halved(b):
    return lax.custom_linear_solve(lambda x: 2 * x, b, lambda _, right: right / 2)


@jax.custom_batching.custom_vmap
def summed(x):
    return jnp.sum(x) * x


@summed.def_vmap
def _(size, batched, x):
    return jax.vmap(lambda one: jnp.sum(one) * one)(x), True


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_equation_runs_again_by_its_primitive(name):
    """The fallback and the evaluation bind primitives that hold programs of their own."""
    function = PROGRAMS[name]
    closed = jax.make_jaxpr(function)(X)
    jaxpr = compat.open_jaxpr(closed)
    assert name in [one.primitive.name for one in jaxpr.eqns]
    variables = (*jaxpr.constvars, *jaxpr.invars)
    values = dict(zip(variables, (*compat.constants(closed), X), strict=True))
    for equation in jaxpr.eqns:
        operands = [one.val if hasattr(one, "val") else values[one] for one in equation.invars]
        results = compat.bind(equation.primitive, operands, equation.params)
        values.update(zip(equation.outvars, results, strict=True))
    found = [values[one] for one in jaxpr.outvars]
    for one, other in zip(found, jax.tree.leaves(function(X)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)


@pytest.mark.parametrize("name", ["jit", "composite", "custom_vmap_call"])
def test_a_call_holds_a_closed_jaxpr(name):
    """The tracer inlines it."""
    inner = compat.called(equation_of(name, PROGRAMS[name], X).params)
    (found,) = compat.evaluated(inner, [X])
    np.testing.assert_allclose(found, PROGRAMS[name](X))


def test_the_rule_of_a_custom_jvp_is_in_the_jaxpr_of_its_jvp():
    """The tracer inlines it from there: linear in the tangents, which it may set to zero."""
    equation = equation_of("custom_jvp_call", forwards, X)

    def moved(x):
        return compat.bind(equation.primitive, [x], equation.params)

    jaxpr = jax.make_jaxpr(lambda x, dx: jax.jvp(moved, (x,), (dx,)))(X, X)
    value, rate = compat.evaluated(jaxpr, [X, 3 * jnp.ones(3)])
    np.testing.assert_allclose(value, 2 * jnp.sin(X))
    np.testing.assert_allclose(rate, 21 * jnp.cos(X))
    np.testing.assert_array_equal(compat.evaluated(jaxpr, [X, jnp.zeros(3)])[1], 0)


def test_the_pullback_of_a_custom_vjp_is_a_tree_of_arrays():
    """The way back may run in another program: what it needs crosses as leaves."""
    _, pull = jax.vjp(backwards, X)
    leaves, tree = jax.tree.flatten(pull)
    assert leaves
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    (found,) = jax.tree.unflatten(tree, leaves)(jnp.ones(3))
    np.testing.assert_allclose(found, 7 * jnp.cos(X))


# Programs inside equations


def test_a_scan_has_constants_then_carry_then_slices():
    """Its body and its results are parted by these counts."""

    def loop(x, rate, rows):
        return lax.scan(lambda s, row: (s * rate + row, jnp.sum(s)), x, rows, reverse=True)

    equation = equation_of("scan", loop, X, 2.0, jnp.ones((5, 3)))
    assert compat.scan_counts(equation.params) == (1, 1)
    assert shapes_of(equation.invars) == [(), (3,), (5, 3)]
    assert shapes_of(equation.outvars) == [(3,), (5,)]
    body = compat.open_jaxpr(equation.params["jaxpr"])
    assert shapes_of(body.invars) == [(), (3,), (3,)]
    assert shapes_of(body.outvars) == [(3,), ()]
    assert equation.params["length"] == 5
    assert equation.params["reverse"] is True
    assert equation.params["unroll"] == 1


def test_a_while_loop_has_the_constants_of_its_condition_first():
    """Tangents are parted by these counts."""

    def loop(limit, rates, x):
        return lax.while_loop(lambda s: s[0] < limit, lambda s: s * jnp.sum(rates), x)

    equation = equation_of("while", loop, 2.0, jnp.ones(4), X)
    params = equation.params
    assert (params["cond_nconsts"], params["body_nconsts"]) == (1, 1)
    assert shapes_of(equation.invars) == [(), (4,), (3,)]
    assert shapes_of(compat.open_jaxpr(params["cond_jaxpr"]).invars) == [(), (3,)]
    assert shapes_of(compat.open_jaxpr(params["body_jaxpr"]).invars) == [(4,), (3,)]


def test_a_switch_has_its_index_first_and_the_false_branch_before_the_true_one():
    """All branches take the other operands; `lax.switch` is run with the same index."""
    equation = equation_of("cond", lambda p, x: lax.cond(p, jnp.sin, jnp.cos, x), True, X)
    assert shapes_of(equation.invars) == [(), (3,)]
    assert equation.invars[0].aval.dtype == np.int32
    names = [
        compat.open_jaxpr(branch).eqns[-1].primitive.name for branch in equation.params["branches"]
    ]
    assert names == ["cos", "sin"]


def test_a_linear_solve_has_four_programs_whose_constants_come_first():
    """The transposed solve is the same primitive with the programs exchanged."""

    def product(matrix):
        return lambda x: matrix @ x

    def solve(matrix, b):
        return lax.custom_linear_solve(
            product(matrix),
            b,
            lambda _, right: jnp.linalg.inv(MATRIX) @ right,
            lambda _, right: right @ jnp.linalg.inv(MATRIX),
        )

    equation = equation_of("custom_linear_solve", solve, MATRIX, X)
    lengths, jaxprs = equation.params["const_lengths"], equation.params["jaxprs"]
    assert lengths._fields == jaxprs._fields == ("matvec", "vecmat", "solve", "transpose_solve")
    assert len(equation.invars) == sum(lengths) + 1
    for length, jaxpr in zip(lengths, jaxprs, strict=True):
        assert len(compat.open_jaxpr(jaxpr).invars) == length + 1
    turned = jaxprs.transpose()
    assert (turned.matvec, turned.vecmat) == (jaxprs.vecmat, jaxprs.matvec)
    assert (turned.solve, turned.transpose_solve) == (jaxprs.transpose_solve, jaxprs.solve)
    assert lengths.transpose() == (lengths[1], lengths[0], lengths[3], lengths[2])


def test_a_linear_solve_need_not_know_its_transpose():
    """It is then differentiated forwards only."""
    equation = equation_of("custom_linear_solve", halved, X)
    assert equation.params["jaxprs"].transpose_solve is None


def test_a_checkpoint_has_a_jaxpr_a_policy_and_a_barrier():
    """The way back evaluates the jaxpr again, behind a barrier unless told otherwise."""
    policy = jax.checkpoint_policies.everything_saveable
    saved = jax.checkpoint(jnp.sin, policy=policy, prevent_cse=False)
    equation = equation_of("remat2", saved, X)
    assert equation.params["policy"] is policy
    assert equation.params["prevent_cse"] is False
    assert compat.is_jaxpr(equation.params["jaxpr"])
    assert "remat2" in OPERATOR_RULES


POLICIES = jax.checkpoint_policies
DOT = (lax.dot_general_p, lambda x: x @ x)
SIN = (lax.sin_p, jnp.sin)


@pytest.mark.parametrize(
    ("policy", "operation", "saved"),
    [
        (POLICIES.everything_saveable, SIN, True),
        (POLICIES.nothing_saveable, SIN, False),
        (POLICIES.dots_saveable, DOT, True),
        (POLICIES.dots_saveable, SIN, False),
        (POLICIES.checkpoint_dots_with_no_batch_dims, DOT, True),
        (POLICIES.offload_dot_with_no_batch_dims("device", "pinned_host"), DOT, True),
        (POLICIES.offload_dot_with_no_batch_dims("device", "pinned_host"), SIN, False),
        (
            POLICIES.save_from_both_policies(POLICIES.dots_saveable, POLICIES.nothing_saveable),
            DOT,
            True,
        ),
    ],
)
def test_a_policy_answers_true_or_a_case_known_by_name(policy, operation, saved):
    """What is saved on the way there is decided by it, of the primitive and its parameters."""
    primitive, function = operation
    equation = equation_of(primitive.name, function, X)
    avals = [one.aval for one in equation.invars]
    answer = policy(equation.primitive, *avals, **equation.params)
    assert (answer is True or type(answer).__name__ in SAVED) == saved


def test_a_policy_of_names_asks_the_equation_that_names():
    """`checkpoint_name` is an equation of its own, saved by its parameter."""
    equation = equation_of("name", lambda x: checkpoint_name(x, "here"), X)
    policy = POLICIES.save_only_these_names("here")
    answer = policy(equation.primitive, equation.invars[0].aval, **equation.params)
    assert answer is True or type(answer).__name__ in SAVED


# Parameters that the rules name


def pooled(operation, start):
    return lambda x: lax.reduce_window(x, start, operation, (2, 2), (1, 1), "VALID")


def convolved(x):
    return lax.conv_general_dilated(x[None], jnp.ones((5, 2, 2)), (1,), "VALID")


WINDOW = "window_dimensions window_strides padding base_dilation window_dilation"
SCATTER = "dimension_numbers indices_are_sorted unique_indices mode update_jaxpr update_consts"
PARAMETERS = {
    "broadcast_in_dim": (lambda x: lax.broadcast_in_dim(x, (2, 3), (1,)), X, "shape sharding"),
    "transpose": (jnp.transpose, CUBE, "permutation"),
    "squeeze": (lambda x: jnp.squeeze(x[:, :1], 1), CUBE, "dimensions"),
    "reshape": (lambda x: lax.reshape(x, (4, 6)), CUBE, "new_sizes dimensions"),
    "slice": (lambda x: lax.slice(x, (1,), (3,)), X, "start_indices limit_indices strides"),
    "pad": (lambda x: jnp.pad(x, 1), X, "padding_config"),
    "rev": (lambda x: x[::-1], X, "dimensions"),
    "concatenate": (lambda x: lax.concatenate([x, x], 0), X, "dimension"),
    "split": (lambda x: jnp.split(x, 3), X, "sizes axis"),
    "convert_element_type": (
        lambda x: x.astype(jnp.float32),
        X,
        "new_dtype weak_type sharding",
    ),
    "integer_pow": (lambda x: x**3, X, "y"),
    "dot_general": (lambda x: x @ x, MATRIX, "dimension_numbers preferred_element_type"),
    "conv_general_dilated": (
        convolved,
        CUBE[0, :2],
        "window_strides padding lhs_dilation rhs_dilation dimension_numbers feature_group_count "
        "batch_group_count precision preferred_element_type",
    ),
    "reduce_sum": (jnp.sum, X, "axes"),
    "reduce_max": (jnp.max, X, "axes"),
    "reduce_prod": (jnp.prod, X, "axes"),
    "cumsum": (jnp.cumsum, X, "axis reverse"),
    "cumprod": (jnp.cumprod, X, "axis reverse"),
    "cummax": (lax.cummax, X, "axis reverse"),
    "cumlogsumexp": (lax.cumlogsumexp, X, "axis reverse"),
    "sort": (jnp.sort, X, "dimension num_keys is_stable"),
    "top_k": (lambda x: lax.top_k(x, 2), X, "k axis"),
    "approx_top_k": (lambda x: lax.approx_max_k(x, 2), X, "k reduction_dimension"),
    "reduce_window_sum": (pooled(lax.add, 0.0), MATRIX, WINDOW),
    "reduce_window_max": (pooled(lax.max, -jnp.inf), MATRIX, WINDOW),
    "reduce_window": (pooled(lambda a, b: a + 2 * b, 0.0), MATRIX, f"{WINDOW} jaxpr consts"),
    "reduce": (PROGRAMS["reduce"], X, "jaxpr dimensions"),
    "select_and_scatter_add": (
        lambda x: jax.grad(lambda x: jnp.sum(pooled(lax.max, -jnp.inf)(x)))(x),
        MATRIX,
        "select_prim window_dimensions window_strides padding",
    ),
    "gather": (
        lambda x: x[PLACES],
        X,
        "dimension_numbers slice_sizes mode fill_value indices_are_sorted unique_indices",
    ),
    "scatter": (lambda x: x.at[PLACES].set(1.0), X, SCATTER),
    "scatter-add": (lambda x: x.at[PLACES].add(1.0), X, SCATTER),
    "scatter-mul": (lambda x: x.at[PLACES].multiply(1.0), X, SCATTER),
    "scatter-max": (lambda x: x.at[PLACES].max(1.0), X, SCATTER),
    "dynamic_slice": (lambda x: lax.dynamic_slice(x, (1,), (2,)), X, "slice_sizes"),
    "triangular_solve": (
        lambda a: lax.linalg.triangular_solve(a, a),
        MATRIX,
        "left_side lower transpose_a conjugate_a unit_diagonal",
    ),
    "fft": (lambda x: jnp.fft.rfft(x), X, "fft_type fft_lengths"),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_have_the_names_that_the_rules_use(name):
    """A rule takes them as keyword arguments."""
    function, argument, names = PARAMETERS[name]
    assert set(names.split()) <= set(equation_of(name, function, argument).params)


def test_dot_general_numbers_contracted_axes_before_batches():
    """The rule reads `((lhs, rhs), (lhs batch, rhs batch))`; results have the batch first."""
    equation = equation_of("dot_general", lambda a, b: jnp.einsum("ijk,ilk->ijl", a, b), CUBE, CUBE)
    assert equation.params["dimension_numbers"] == (((2,), (2,)), ((0,), (0,)))
    assert equation.outvars[0].aval.shape == (2, 3, 3)


def test_a_convolution_numbers_batch_and_feature_before_space():
    """The rule reads `(batch, feature, *space)`, and `(out feature, in feature, *space)`."""

    def convolve(images, kernel):
        return lax.conv_general_dilated(
            images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    equation = equation_of(
        "conv_general_dilated", convolve, jnp.ones((2, 5, 6, 3)), jnp.ones((2, 2, 3, 4))
    )
    numbers = equation.params["dimension_numbers"]
    assert numbers.lhs_spec == numbers.out_spec == (0, 3, 1, 2)
    assert numbers.rhs_spec == (3, 2, 0, 1)


def test_a_gather_has_its_coordinates_on_the_last_axis_of_the_indices():
    """The lookups of gathers and scatters are built from these numbers."""
    equation = equation_of("gather", lambda x: x[PLACES, :, PLACES], CUBE)
    numbers = equation.params["dimension_numbers"]
    assert shapes_of(equation.invars) == [(2, 3, 4), (2, 2)]
    assert numbers.offset_dims == (1,)
    assert numbers.collapsed_slice_dims == numbers.start_index_map == (0, 2)
    assert numbers.operand_batching_dims == numbers.start_indices_batching_dims == ()
    assert equation.params["slice_sizes"] == (1, 3, 1)
    assert isinstance(equation.params["mode"], lax.GatherScatterMode)


def test_a_scatter_has_operand_indices_and_updates():
    """As a gather, with its own names for the axes."""
    equation = equation_of("scatter-add", lambda x: x.at[PLACES].add(jnp.ones((2, 3, 4))), CUBE)
    numbers = equation.params["dimension_numbers"]
    assert shapes_of(equation.invars) == [(2, 3, 4), (2, 1), (2, 3, 4)]
    assert numbers.update_window_dims == (1, 2)
    assert numbers.inserted_window_dims == numbers.scatter_dims_to_operand_dims == (0,)
    assert numbers.operand_batching_dims == numbers.scatter_indices_batching_dims == ()


def test_a_sort_takes_its_keys_first_and_gives_all_operands():
    """The rule finds the order once more from the keys."""
    equation = equation_of("sort", lambda x: lax.sort([x, 2 * x, -x], num_keys=2), X)
    assert equation.params["num_keys"] == 2
    assert len(equation.invars) == len(equation.outvars) == 3


def test_top_k_gives_values_then_places():
    """The places are the lookup of the values."""
    values, places = lax.top_k(X, 2)
    np.testing.assert_array_equal(values, X[places])
    assert len(equation_of("top_k", lambda x: lax.top_k(x, 2), X).outvars) == 2


def test_a_window_without_a_name_has_an_open_jaxpr():
    """The expansion evaluates it with the constants beside it."""
    equation = equation_of("reduce_window", *PARAMETERS["reduce_window"][:2])
    params = equation.params
    (found,) = jax.core.eval_jaxpr(params["jaxpr"], params["consts"], 1.0, 2.0)
    assert found == 5


def test_the_derivative_of_a_largest_window_says_what_it_selects():
    """`ge` selects the largest, `le` the smallest."""
    for operation, start, name in [(lax.max, -jnp.inf, "ge"), (lax.min, jnp.inf, "le")]:
        gradient = jax.grad(lambda x, one=operation, s=start: jnp.sum(pooled(one, s)(x)))
        equation = equation_of("select_and_scatter_add", gradient, MATRIX)
        assert equation.params["select_prim"].name == name


def test_a_clamp_has_its_operand_between_the_bounds():
    """`lax.clamp(low, x, high)`, with bounds of the same shape or of rank 0."""
    equation = equation_of("clamp", lambda x: lax.clamp(0.0, x, 1.0), X)
    assert shapes_of(equation.invars) == [(), (3,), ()]


def test_select_n_has_its_case_for_false_first():
    """The rule counts cases from zero."""
    found = lax.select_n(jnp.array([True, False]), jnp.zeros(2), jnp.ones(2))
    np.testing.assert_array_equal(found, [1, 0])


def test_one_array_can_be_made_weak():
    """`compat.convert` binds the conversion, because no function of JAX makes arrays weak."""
    weak = compat.convert(jnp.ones(2), jnp.dtype("float32"), True)
    assert weak.weak_type
    assert weak.dtype == jnp.float32
