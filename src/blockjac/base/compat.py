"""The few things that differ between JAX 0.10, 0.11 and 0.12, and what is read from a jaxpr."""

from __future__ import annotations

import os
from collections.abc import Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer as Tracer
from jax.extend import core, source_info_util

source_info_util.register_exclusion(os.path.join(os.path.dirname(__file__), ""))
"""The place of an equation is the user's line, never one of this library."""

UNKNOWN_VALUE_ERRORS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
"""What JAX raises where Python code needs the value of a traced array."""


def open_jaxpr(jaxpr: Any) -> Any:
    """The jaxpr inside a closed one; JAX 0.11 merged the two classes."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def is_variable(atom: Any) -> bool:
    """Whether an operand or a result in a jaxpr is a variable, and no literal."""
    return not hasattr(atom, "val")


def constants(jaxpr: Any) -> Sequence[Any]:
    """The values of a jaxpr's constant variables."""
    return getattr(jaxpr, "consts", ())


def is_jaxpr(value: Any) -> bool:
    """Whether a parameter of an equation is a jaxpr, open or closed."""
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def bind(primitive: Any, operands: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Run one primitive on values; gives its results as a list."""
    results = primitive.bind(*operands, **primitive.get_bind_params(params))
    return list(results) if primitive.multiple_results else [results]


_JITTED = type(jax.jit(lambda: None))


def is_jitted(function: Any) -> bool:
    """Whether a function is one of `jax.jit`'s; to ask the protocol takes some 30 microseconds."""
    if type(function) is _JITTED:
        return True
    return hasattr(function, "lower") and isinstance(function, jax.stages.Wrapped)


def jax_array(value: Any) -> Any:
    """A value as an array of JAX, in the dtype it computes in: float64 is none without x64."""
    if isinstance(value, jax.Array) or getattr(value, "dtype", None) == jax.dtypes.float0:
        return value
    is_array = hasattr(value, "__array__") or not hasattr(value, "dtype")
    return jnp.asarray(value) if is_array else value


def is_made_by_jax(value: Any) -> bool:
    """Whether JAX made an array: one of its own, or a constant that a trace holds as NumPy's."""
    own = isinstance(value, np.ndarray) and type(value).__module__.partition(".")[0] == "jax"
    return own or isinstance(value, jax.Array)


def evaluated(closed: Any, arguments: Sequence[Any]) -> list[Any]:
    """The results of a closed jaxpr."""
    return jax.core.eval_jaxpr(open_jaxpr(closed), constants(closed), *arguments)  # pyright: ignore[reportAttributeAccessIssue]


def effects(jaxpr: Any) -> frozenset[Any]:
    """What a jaxpr does beside giving results: prints, calls back, writes to mutable arrays."""
    return frozenset(open_jaxpr(jaxpr).effects)


def io_effects(jaxpr: Any) -> list[str]:
    """The effects of a jaxpr on the outside world that count how often it runs: io_callback's."""
    names = {type(effect).__name__ for effect in effects(jaxpr)}
    return sorted(names & {"IOEffect", "OrderedIOEffect"})


@dataclass(frozen=True)
class Made:
    """What a result of a jaxpr is made of: which inputs, and whether by more than cheap steps."""

    inputs: frozenset[int] = frozenset()
    is_costly: bool = False


def dependence(closed: Any, cheap: Set[str]) -> list[Made]:
    """What each result of a jaxpr is made of.

    Args:
        closed: the jaxpr.
        cheap: names of primitives that cost next to nothing.
    """
    jaxpr = open_jaxpr(closed)
    nothing = Made()
    made = {variable: Made(frozenset([place])) for place, variable in enumerate(jaxpr.invars)}

    def of(atom: Any) -> Made:
        return made.get(atom, nothing) if is_variable(atom) else nothing

    for equation in jaxpr.eqns:
        operands = list(map(of, equation.invars))
        inputs = frozenset[int]().union(*(one.inputs for one in operands))
        is_costly = equation.primitive.name not in cheap or any(one.is_costly for one in operands)
        made.update(dict.fromkeys(equation.outvars, Made(inputs, is_costly)))
    return list(map(of, jaxpr.outvars))


def called(params: dict[str, Any]) -> Any:
    """The jaxpr that a call runs; JAX 0.11 renamed that of a composite."""
    return next(params[name] for name in ("jaxpr", "call_jaxpr", "call") if name in params)


def scan_counts(params: dict[str, Any]) -> tuple[int, int]:
    """How many of a scan's operands are constants, and how many are carried."""
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts), len(carry)


def argument_names(jaxpr: Any) -> tuple[str, ...]:
    """Names of a jaxpr's inputs with their paths (`params['W1']`); empty where JAX has none."""
    info = getattr(open_jaxpr(jaxpr), "debug_info", None)
    return tuple(getattr(info, "arg_names", None) or ())


def function_source(jaxpr: Any) -> str:
    """Name, file and line of the function that a jaxpr was traced from; empty where JAX has none.

    Examples:
        >>> import jax
        >>> function_source(jax.make_jaxpr(jax.numpy.sin)(1.0)).split(" at ")[0]
        'sin'
    """
    info = getattr(open_jaxpr(jaxpr), "debug_info", None)
    return getattr(info, "func_src_info", None) or ""


def origin(jaxpr: Any) -> str:
    """File and name of the function of JAX that a jaxpr was traced from; empty for others."""
    name, _, place = function_source(jaxpr).partition(" at ")
    file = place.rpartition(":")[0].replace("\\", "/")
    return f"jax/{file.rpartition('/jax/')[2]}:{name}" if "/jax/_src/" in file else ""


def varying_axes(array: Any) -> frozenset[Any]:
    """The mesh axes along which an array differs between the devices of a `jax.shard_map`."""
    return _varying(array if isinstance(array, jax.ShapeDtypeStruct) else jax.typeof(array))


def in_shard_map() -> bool:
    """Whether a trace is under way inside `jax.shard_map`."""
    return bool(mesh_axes())


def mesh_axes() -> tuple[Any, ...]:
    """The mesh axes of the `jax.shard_map` around a trace; those of a `jax.vmap` are none."""
    return tuple(jax.sharding.get_abstract_mesh().manual_axes)


def spread_as(array: Any, like: Any) -> Any:
    """The array typed as differing between devices where another does."""
    missing = tuple(varying_axes(like) - varying_axes(array))
    return jax.lax.pcast(array, missing, to="varying") if missing else array


def zeros(aval: Any) -> Any:
    """Zeros of a type, spread over devices as it says."""
    made = jnp.zeros(aval.shape, aval.dtype)
    axes = tuple(_varying(aval))
    return jax.lax.pcast(made, axes, to="varying") if axes else made


def _varying(aval: Any) -> frozenset[Any]:
    return getattr(getattr(aval, "manual_axis_type", None), "varying", frozenset())


def is_placed(aval: Any) -> bool:
    """Whether a type says how the array is spread over devices."""
    spec = getattr(getattr(aval, "sharding", None), "spec", ())
    return bool(_varying(aval)) or any(axis is not None for axis in spec)


def explicit_axes(array: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """The mesh of an array whose type says how it is sharded, and the mesh axis of each axis.

    None where no axis is sharded, or where the compiler decides it (a mesh with automatic axes).
    """
    sharding = getattr(jax.typeof(array), "sharding", None)
    spec = tuple(getattr(sharding, "spec", ()))
    if sharding is None or all(axis is None for axis in spec):
        return None
    return sharding.mesh, spec + (None,) * (array.ndim - len(spec))


def sharded(array: Any, mesh: Any, axes: Sequence[Any]) -> Any:
    """The array sharded over these mesh axes, one for each of its axes; None for none."""
    wanted = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
    return array if jax.typeof(array).sharding == wanted else jax.sharding.reshard(array, wanted)


def struct(aval: Any) -> jax.ShapeDtypeStruct:
    """A type to trace with: shape, dtype, weakness, and how it is spread over devices."""
    weak = getattr(aval, "weak_type", False)
    if not is_placed(aval):
        return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=weak)
    return jax.ShapeDtypeStruct(
        aval.shape,
        aval.dtype,
        weak_type=weak,
        sharding=aval.sharding,
        manual_axis_type=aval.manual_axis_type,
    )


def place(source: Any) -> str:
    """File, line and function of the user's code that an equation comes from."""
    return source_info_util.summarize(source)


def as_if_at(source: Any) -> AbstractContextManager[None]:
    """Within, what is traced comes from the line that a source tells."""
    return source_info_util.user_context(source.traceback)


def at_place(source: Any) -> str:
    """The same for a message, " at ..."; empty where no line of the user's is known."""
    found = "" if source is None else place(source)
    return f" at {found}" if found else ""


def convert(array: Any, dtype: Any, weak_type: bool) -> Any:
    """An array in another dtype, and weak (promoting like a Python number) or not."""
    if not weak_type or getattr(array, "weak_type", False):
        return array.astype(dtype)
    params = {"new_dtype": dtype, "weak_type": True, "sharding": None}
    return jax.lax.convert_element_type_p.bind(array, **params)


def is_traced(tree: Any) -> bool:
    """Whether any leaf of a tree is a value of a program that is being traced."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def is_batched(array: Any) -> bool:
    """Whether an array stands for a batch of arrays inside a `jax.vmap` that is under way.

    JAX exports no type to ask for. Where the answer is wrong, a product is laid out less well.
    """
    return isinstance(array, Tracer) and type(array).__name__ == "BatchTracer"
