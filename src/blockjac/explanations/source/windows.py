"""Sliding windows, convolutions and reductions by any function."""

from __future__ import annotations

from collections.abc import Sequence

from blockjac.base.compat import open_jaxpr
from blockjac.explanations.source.builder import Equation, Result, Translation
from blockjac.explanations.source.expressions import (
    Display,
    Expression,
    Subscript,
    Text,
    call,
    integers,
    number,
)
from blockjac.explanations.source.program import OBJECT, Assign, Def, Value
from blockjac.explanations.source.reductions import extreme
from blockjac.explanations.source.sorting import parts_of


def pairs(rows: Sequence[Sequence[int]]) -> Expression:
    """A tuple of tuples of integers."""
    return Display("(", tuple(map(integers, rows)))


def sliding(equation: Equation, x: Expression, fill: Expression) -> Expression:
    """The windows of an array, in NumPy."""
    params = equation.params
    rank = len(params["window_dimensions"])
    ones = (1,) * rank
    return call(
        "_windows",
        x,
        fill,
        integers(params["window_dimensions"]),
        integers(params["window_strides"]),
        pairs(params["padding"]),
        integers(params.get("base_dilation") or ones),
        integers(params.get("window_dilation") or ones),
    )


def _window_reduction(name: str, numpy_name: str, lax_name: str) -> Translation:
    """Reductions of each window."""

    def translate(equation: Equation) -> Result:
        """The result of one equation."""
        fill = Text("0") if name == "sum" else extreme(equation, name == "max")
        rank = len(equation.shapes[0])
        if equation.module == "jnp":
            start = Text("0.0") if fill == Text("0") and equation.out.dtype.kind == "f" else fill
            return _lax_window(equation, [equation.exact(0)], [start], Text(lax_name))
        windows = sliding(equation, equation.exact(0), fill)
        options: dict[str, Expression] = {"axis": integers(range(-rank, 0))}
        if name != "sum":
            options["initial"] = fill
        return call(numpy_name, windows, **options)

    return translate


def _lax_window(
    equation: Equation,
    operands: Sequence[Expression],
    starts: Sequence[Expression],
    function: Expression,
) -> Expression:
    """`lax.reduce_window`."""
    params = equation.params
    rank = len(params["window_dimensions"])
    options: dict[str, Expression] = {}
    for key in ("base_dilation", "window_dilation"):
        if tuple(params.get(key) or (1,) * rank) != (1,) * rank:
            options[key] = integers(params[key])
    is_single = len(operands) == 1
    return call(
        "lax.reduce_window",
        operands[0] if is_single else Display("(", tuple(operands)),
        starts[0] if is_single else Display("(", tuple(starts)),
        function,
        integers(params["window_dimensions"]),
        integers(params["window_strides"]),
        pairs(params["padding"]),
        **options,
    )


def joining(equation: Equation) -> Value:
    """A function that joins the entries of a reduction, defined before it."""
    builder = equation.builder
    jaxpr = equation.params["jaxpr"]
    opened = open_jaxpr(jaxpr)
    function = builder.variable((), OBJECT, "join")
    names = "xyzuvw" if len(opened.invars) <= 6 else ["x"] * len(opened.invars)
    inputs = [
        builder.variable(x.aval.shape, x.aval.dtype, name)
        for x, name in zip(opened.invars, names, strict=False)
    ]
    count = len(inputs) // 2
    takes_pairs = count > 1 and equation.module == "jnp"
    parameters = inputs
    if takes_pairs:
        parameters = [builder.variable((), OBJECT, name) for name in ("left", "right")]
    with builder.inside() as block:
        for whole, halves in zip(parameters, (inputs[:count], inputs[count:]), strict=False):
            if takes_pairs:
                target = Display("", tuple(part.ref for part in halves))
                builder.add(Assign(target, whole.ref, tuple(halves)))
        results = builder.run(jaxpr, inputs)
        parts = [builder.exact(x, ()).ref for x in results]
    builder.add(Def(function, tuple(parameters), block, _together(parts)))
    return function


def _together(parts: Sequence[Expression]) -> Expression:
    return parts[0] if len(parts) == 1 else Display("", tuple(parts))


def reduce(equation: Equation) -> Result:
    """A reduction by a function of the program."""
    builder = equation.builder
    count = len(equation.operands) // 2
    exact = equation.all_exact()
    function = joining(equation)
    operands, starts = exact[:count], exact[count:]
    axes = integers(equation.params["dimensions"])
    if equation.module == "np":
        code = call("_fold", function.ref, _tuple(operands), _tuple(starts), axes)
    else:
        code = call("lax.reduce", _one(operands), _one(starts), function.ref, axes)
        if count == 1:
            return code
    whole = builder.value(code, (), OBJECT, "reduced")
    return parts_of(equation, whole)


def _one(parts: Sequence[Expression]) -> Expression:
    return parts[0] if len(parts) == 1 else _tuple(parts)


def _tuple(parts: Sequence[Expression]) -> Expression:
    return Display("(", tuple(parts))


def reduce_window(equation: Equation) -> Result:
    """A reduction of windows by a function of the program."""
    count = len(equation.operands) // 2
    exact = equation.all_exact()
    function = joining(equation)
    operands, starts = exact[:count], exact[count:]
    rank = len(equation.shapes[0])
    if equation.module == "jnp":
        code = _lax_window(equation, operands, starts, function.ref)
        if count == 1:
            return code
    else:
        windows = [
            sliding(equation, operand, start)
            for operand, start in zip(operands, starts, strict=True)
        ]
        axes = integers(range(rank, 2 * rank))
        code = call("_fold", function.ref, _tuple(windows), _tuple(starts), axes)
    whole = equation.builder.value(code, (), OBJECT, "reduced")
    return parts_of(equation, whole)


def select_and_gather_add(equation: Equation) -> Result:
    """Of each window the tangent at the place of its extreme entry."""
    tangents, x = equation.all_exact()
    is_largest = equation.params["select_prim"].name == "ge"
    if equation.module == "jnp":
        return _by_derivative(equation, tangents, x, is_largest, "jvp")
    fill = extreme(equation, is_largest)
    argument = Text("np.argmax" if is_largest else "np.argmin")
    return call(
        "_pick",
        sliding(equation, tangents, number(0)),
        sliding(equation, x, fill),
        argument,
    )


def select_and_scatter_add(equation: Equation) -> Result:
    """Each entry of the source, added where its window has its extreme entry."""
    source, x = equation.all_exact()
    is_largest = equation.params["select_prim"].name == "ge"
    if equation.module == "jnp":
        return _by_derivative(equation, source, x, is_largest, "vjp")
    params = equation.params
    return call(
        "_add_at_extremes",
        source,
        x,
        extreme(equation, is_largest),
        Text("np.argmax" if is_largest else "np.argmin"),
        integers(params["window_dimensions"]),
        integers(params["window_strides"]),
        pairs(params["padding"]),
    )


def _by_derivative(
    equation: Equation, moved: Expression, x: Expression, is_largest: bool, kind: str
) -> Expression:
    """In JAX, the derivative of the largest or smallest entry of windows."""
    builder = equation.builder
    function = builder.variable((), OBJECT, "extremes")
    entry = builder.variable(equation.shapes[1], equation.out.dtype, "x")
    with builder.inside() as block:
        start = extreme(equation, is_largest)
        name = Text("lax.max" if is_largest else "lax.min")
        result = _lax_window(equation, [entry.ref], [start], name)
    builder.add(Def(function, (entry,), block, result))
    if kind == "jvp":
        code = call("jax.jvp", function.ref, _tuple([x]), _tuple([moved]))
        return Subscript(code, (number(1),))
    pullback = Subscript(call("jax.vjp", function.ref, x), (number(1),))
    return Subscript(call(pullback, moved), (number(0),))


WINDOWS: dict[str, Translation] = {
    "reduce_window_sum": _window_reduction("sum", "np.sum", "lax.add"),
    "reduce_window_max": _window_reduction("max", "np.max", "lax.max"),
    "reduce_window_min": _window_reduction("min", "np.min", "lax.min"),
    "reduce": reduce,
    "reduce_window": reduce_window,
    "select_and_gather_add": select_and_gather_add,
    "select_and_scatter_add": select_and_scatter_add,
}
"""Translations by primitive."""
