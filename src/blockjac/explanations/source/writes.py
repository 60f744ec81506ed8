"""Writes at computed places: `x.at[rows].add(y)`, in NumPy by helpers."""

from __future__ import annotations

from blockjac.explanations.source.builder import Equation, Result, Translation
from blockjac.explanations.source.expressions import (
    FULL,
    Attribute,
    Display,
    Expression,
    Subscript,
    Text,
    call,
    integers,
    method,
)
from blockjac.explanations.source.reads import (
    dimension_numbers,
    is_in_front,
    is_plain,
    items_at,
    known_places,
    mode_name,
)
from blockjac.rules.gather_scatter import window_sizes

UPDATES = {
    "scatter": ("set", "", "scatter"),
    "scatter-add": ("add", "np.add", "scatter_add"),
    "scatter-sub": ("subtract", "np.subtract", "scatter_sub"),
    "scatter-mul": ("multiply", "np.multiply", "scatter_mul"),
    "scatter-min": ("min", "np.minimum", "scatter_min"),
    "scatter-max": ("max", "np.maximum", "scatter_max"),
}
"""The names of a write: of `x.at[i]`, in NumPy, and in lax."""


def scatter(equation: Equation) -> Result:
    """`x.at[rows].add(updates)`, in NumPy by a helper."""
    numbers = equation.params["dimension_numbers"]
    method_name, ufunc, lax_name = UPDATES[equation.name]
    axes = numbers.scatter_dims_to_operand_dims
    sizes = window_sizes(equation.shapes[0], equation.shapes[2], numbers)
    places = known_places(equation, axes, sizes)
    x, updates = equation.exact(0), equation.exact(2)
    plain = is_plain(equation, numbers.inserted_window_dims, numbers, sizes)
    if places is not None and plain:
        items, sorted_axes = items_at(axes, places, equation)
        if is_in_front(sorted_axes, numbers.update_window_dims, equation):
            if equation.module == "jnp":
                if equation.operands[0].code is None:
                    x = call("jnp.asarray", x)  # an argument may be an array of NumPy
                return method(Subscript(Attribute(x, "at"), items), method_name, updates)
            index = items[0] if len(items) == 1 else Display("(", tuple(map(_as_slice, items)))
            if not ufunc:
                return call("_set_at", x, index, updates)
            return call("_update_at", Text(ufunc), x, index, updates)
    mode = mode_name(equation.params["mode"])
    if equation.module == "jnp":
        names = ["update_window_dims", "inserted_window_dims", "scatter_dims_to_operand_dims"]
        names += ["operand_batching_dims", "scatter_indices_batching_dims"]
        return call(
            f"lax.{lax_name}",
            x,
            equation.exact(1),
            updates,
            dimension_numbers("lax.ScatterDimensionNumbers", numbers, names),
            mode=Text(f'"{_scatter_mode(mode)}"'),
        )
    options: dict[str, Expression] = {}
    if mode == "clip":
        options["clip"] = Text("True")
    if numbers.operand_batching_dims:
        options["batch_axes"] = integers(numbers.operand_batching_dims)
        options["start_batch_axes"] = integers(numbers.scatter_indices_batching_dims)
    return call(
        "_scatter",
        Text(ufunc or "None"),
        x,
        equation.exact(1),
        updates,
        start_axes=integers(axes),
        dropped_axes=integers(numbers.inserted_window_dims),
        window_axes=integers(numbers.update_window_dims),
        **options,
    )


def _scatter_mode(mode: str) -> str:
    return {"fill_or_drop": "drop"}.get(mode, mode)


def _as_slice(item: Expression) -> Expression:
    """A whole axis outside of a subscript."""
    return call("slice", Text("None")) if item is FULL else item


WRITES: dict[str, Translation] = dict.fromkeys(UPDATES, scatter)
"""Translations by primitive."""
