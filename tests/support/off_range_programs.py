"""Random programs that read and write at places off their arrays, in every mode and form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

READING = (None, "clip", "fill", "wrap", "promise_in_bounds")
"""The modes of `take`; those of `take_along_axis` are all but "wrap"."""

INDEXING = ("plain", "plain", "clip", "fill", "promise_in_bounds")
"""Plain indexing twice as often, and the modes of `.at[].get`."""

WRITING = (None, "clip", "drop")
"""The modes of `.at[].set` and the like; where a promise is not kept JAX pulls back wrongly."""

FILLS = (None, 0.0, 1.5)
"""What stands where a read goes off the array: nan where nothing is given."""

MODES = (lax.GatherScatterMode.CLIP, lax.GatherScatterMode.FILL_OR_DROP)
"""The modes of `lax.gather` and `lax.scatter`."""

Generator = np.random.Generator


@dataclass(frozen=True)
class Step:
    """One read or write.

    Attributes:
        text: in words.
        places: its index arrays.
        apply: of an array and the index arrays.
    """

    text: str
    places: tuple[Any, ...]
    apply: Callable[..., Any]


@dataclass(frozen=True)
class Program:
    """Reads and writes after each other, as a function of a float array and all their places.

    Attributes:
        x: the array.
        steps: what is done to it.
    """

    x: Any
    steps: tuple[Step, ...]

    @property
    def places(self) -> tuple[Any, ...]:
        """All index arrays."""
        return tuple(place for step in self.steps for place in step.places)

    def __str__(self) -> str:
        return " -> ".join([str(self.x.shape), *(step.text for step in self.steps)])

    def __call__(self, x: Any, *places: Any) -> Any:
        """The result, of any shape."""
        left = list(places)
        value = x * jnp.cos(0.3 * x)
        for step in self.steps:
            own, left = left[: len(step.places)], left[len(step.places) :]
            value = jnp.sin(step.apply(value, *own))
        return value

    def number(self, x: Any, *places: Any) -> Any:
        """A scalar whose Hessian joins all entries that are read."""
        result = self(x, *places)
        weights = jnp.reshape(jnp.arange(1.0, result.size + 1), result.shape)
        return jnp.sum(weights * result * jnp.cos(x[(0,) * x.ndim])) + jnp.sum(x) ** 2


def made(seed: int) -> Program:
    """The program of a seed."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(size) for size in rng.integers(1, 5, size=rng.integers(1, 4)))
    x = jnp.asarray(rng.normal(size=shape))
    steps: list[Step] = []
    value = x
    for _ in range(rng.integers(1, 4)):
        if value.ndim == 0:
            break
        step = STEPS[rng.integers(len(STEPS))](rng, value.shape)
        value = jax.eval_shape(step.apply, value, *step.places)
        steps.append(step)
    return Program(x, tuple(steps))


def off_range(rng: Generator, size: int, shape: Sequence[int], kind: Any = None) -> Any:
    """Places of an axis, some before its beginning and some past its end."""
    kind = kind or (np.int32, np.int64, np.int8, np.uint8)[rng.choice(4, p=(0.5, 0.3, 0.1, 0.1))]
    lowest = 0 if kind is np.uint8 else -2 * size - 1
    return rng.integers(lowest, 2 * size + 2, size=tuple(shape)).astype(kind)


def some_shape(rng: Generator, rank: int = 3) -> tuple[int, ...]:
    return tuple(int(size) for size in rng.integers(1, 4, size=rng.integers(0, rank)))


def chosen(rng: Generator, options: Sequence[Any]) -> Any:
    return options[rng.integers(len(options))]


def new_values(value: Any, shape: Sequence[int]) -> Any:
    """An array of any shape made of a value's entries."""
    return jnp.resize(0.7 * value * value + 0.2, tuple(shape))


def extremal(value: Any, shape: Sequence[int]) -> Any:
    """As `new_values`, by one operation that is rounded in one way."""
    return jnp.resize(-0.9 * value, tuple(shape))


# Reads


def take(rng: Generator, shape: Sequence[int]) -> Step:
    axis = int(rng.integers(len(shape)))
    places = off_range(rng, shape[axis], some_shape(rng))
    mode, fill = chosen(rng, READING), chosen(rng, FILLS)
    fill = fill if mode in (None, "fill") else None

    def apply(value: Any, places: Any) -> Any:
        return jnp.take(value, places, axis, mode=mode, fill_value=fill)

    return Step(f"take({places.tolist()}, {axis=}, {mode=}, {fill=})", (places,), apply)


def take_along_axis(rng: Generator, shape: Sequence[int]) -> Step:
    axis = int(rng.integers(len(shape)))
    wanted = list(shape)
    wanted[axis] = int(rng.integers(1, 4))
    places = off_range(rng, shape[axis], wanted)
    mode, fill = chosen(rng, (None, "clip", "fill", "promise_in_bounds")), chosen(rng, FILLS)
    fill = fill if mode in (None, "fill") else None

    def apply(value: Any, places: Any) -> Any:
        return jnp.take_along_axis(value, places, axis, mode=mode, fill_value=fill)

    return Step(f"take_along_axis({places.tolist()}, {axis=}, {mode=}, {fill=})", (places,), apply)


def read(rng: Generator, shape: Sequence[int]) -> Step:
    """`x[i]`, `x[:, i]`, `x[i, j]` and `x.at[i].get(...)`: the first axes, or the last."""
    count = int(rng.integers(1, len(shape) + 1))
    last = bool(rng.integers(2))
    axes = range(len(shape))[-count:] if last else range(count)
    common = some_shape(rng)
    places = tuple(off_range(rng, shape[axis], common) for axis in axes)
    mode, fill = (
        chosen(rng, ("plain", "plain", "clip", "fill", "promise_in_bounds")),
        chosen(rng, FILLS),
    )
    fill = fill if mode == "fill" else None

    def apply(value: Any, *places: Any) -> Any:
        wanted = (..., *places) if last else places
        if mode == "plain":
            return value[wanted]
        return value.at[wanted].get(mode=mode, fill_value=fill)

    shown = [place.tolist() for place in places]
    return Step(f"[{'..., ' if last else ''}{shown}], {mode=}, {fill=}", places, apply)


def window(rng: Generator, shape: Sequence[int]) -> Step:
    """`lax.gather` of windows, some axes of which are collapsed."""
    sizes = tuple(int(rng.integers(1, size + 1)) for size in shape)
    started = tuple(axis for axis in range(len(shape)) if rng.integers(2)) or (0,)
    collapsed = tuple(axis for axis, size in enumerate(sizes) if size == 1 and rng.integers(2))
    batch = some_shape(rng)
    columns = [off_range(rng, shape[axis], batch, np.int32) for axis in started]
    places = np.stack(columns, -1)
    inside = len(shape) - len(collapsed)
    numbers = lax.GatherDimensionNumbers(
        offset_dims=tuple(range(len(batch), len(batch) + inside)),
        collapsed_slice_dims=collapsed,
        start_index_map=started,
    )
    mode, fill = chosen(rng, MODES), chosen(rng, FILLS)

    def apply(value: Any, places: Any) -> Any:
        return lax.gather(value, places, numbers, sizes, mode=mode, fill_value=fill)

    return Step(f"gather({places.tolist()}, {numbers}, {sizes}, {mode}, {fill=})", (places,), apply)


def dynamic_slice(rng: Generator, shape: Sequence[int]) -> Step:
    sizes = tuple(int(rng.integers(1, size + 1)) for size in shape)
    starts = tuple(off_range(rng, size, (), np.int32) for size in shape)

    def apply(value: Any, *starts: Any) -> Any:
        return lax.dynamic_slice(value, starts, sizes)

    return Step(f"dynamic_slice({[int(s) for s in starts]}, {sizes})", starts, apply)


# Writes


def write(rng: Generator, shape: Sequence[int]) -> Step:
    """`x.at[i].set(v)` and the like, at places of the first axes or the last."""
    count = int(rng.integers(1, len(shape) + 1))
    last = bool(rng.integers(2))
    axes = range(len(shape))[-count:] if last else range(count)
    common = some_shape(rng)
    places = tuple(off_range(rng, shape[axis], common) for axis in axes)
    name = chosen(rng, ("set", "add", "subtract", "multiply", "divide", "min", "max"))
    mode = chosen(rng, WRITING)
    scalar = bool(rng.integers(4) == 0)
    unique = name in ("multiply", "divide")
    if unique:  # JAX has no derivative where places may be equal
        last, common = False, common if np.prod(common) <= 2 * shape[0] else ()
        distinct = rng.permutation(2 * shape[0] + 2)[: int(np.prod(common))]
        places = (distinct.reshape(common),)
    if name in ("min", "max") and mode == "clip":  # off the array JAX gives inf and nan
        places = tuple(place % shape[axis] for place, axis in zip(places, axes, strict=True))

    def apply(value: Any, *places: Any) -> Any:
        wanted = (..., *places) if last else places
        there = jax.eval_shape(lambda array: array[wanted], value)
        # A product of products is rounded in two ways, as the compiler likes: it attains nothing.
        made = extremal if name in ("min", "max") else new_values
        new = made(value, () if scalar else there.shape)
        return getattr(value.at[wanted], name)(new, mode=mode, unique_indices=unique)

    shown = [place.tolist() for place in places]
    return Step(f"at[{'..., ' if last else ''}{shown}].{name}({mode=}, {scalar=})", places, apply)


def dynamic_update_slice(rng: Generator, shape: Sequence[int]) -> Step:
    sizes = tuple(int(rng.integers(1, size + 1)) for size in shape)
    starts = tuple(off_range(rng, size, (), np.int32) for size in shape)

    def apply(value: Any, *starts: Any) -> Any:
        return lax.dynamic_update_slice(value, new_values(value, sizes), starts)

    return Step(f"dynamic_update_slice({[int(s) for s in starts]}, {sizes})", starts, apply)


def scatter_windows(rng: Generator, shape: Sequence[int]) -> Step:
    """`lax.scatter` and `lax.scatter_add` of windows."""
    sizes = tuple(int(rng.integers(1, size + 1)) for size in shape)
    started = tuple(axis for axis in range(len(shape)) if rng.integers(2)) or (0,)
    batch = some_shape(rng)
    columns = [off_range(rng, shape[axis], batch, np.int32) for axis in started]
    places = np.stack(columns, -1)
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=tuple(range(len(batch), len(batch) + len(shape))),
        inserted_window_dims=(),
        scatter_dims_to_operand_dims=started,
    )
    mode = chosen(rng, MODES)
    function = chosen(rng, (lax.scatter, lax.scatter_add))

    def apply(value: Any, places: Any) -> Any:
        new = new_values(value, (*batch, *sizes))
        return function(value, places, new, numbers, mode=mode)

    name = function.__name__
    return Step(f"{name}({places.tolist()}, {numbers}, {sizes}, {mode})", (places,), apply)


STEPS = (
    take,
    take_along_axis,
    read,
    read,
    window,
    dynamic_slice,
    write,
    write,
    dynamic_update_slice,
    scatter_windows,
)
