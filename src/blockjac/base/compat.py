"""Helpers that work alike in JAX 0.10, 0.11 and 0.12, and accessors for jaxprs."""

from __future__ import annotations

import os
import re
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
"""The source of an equation is a line of the user's code, never one of this library."""

UNKNOWN_VALUE_ERRORS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
"""Errors that JAX raises when Python code needs the value of a traced array."""


def open_jaxpr(jaxpr: Any) -> Any:
    """The jaxpr inside a closed one; JAX 0.11 merged the two classes."""
    return getattr(jaxpr, "jaxpr", jaxpr)


def is_variable(atom: Any) -> bool:
    """Whether an operand or a result in a jaxpr is a variable rather than a literal."""
    return not hasattr(atom, "val")


def constants(jaxpr: Any) -> Sequence[Any]:
    """The values of a jaxpr's constant variables."""
    return getattr(jaxpr, "consts", ())


def is_jaxpr(value: Any) -> bool:
    """Whether a parameter of an equation is a jaxpr, open or closed."""
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def bind(primitive: Any, operands: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Apply a primitive to values and return its results as a list."""
    results = primitive.bind(*operands, **primitive.get_bind_params(params))
    return list(results) if primitive.multiple_results else [results]


_JITTED = type(jax.jit(lambda: None))


def is_jitted(function: Any) -> bool:
    """Whether a function comes from `jax.jit`; its type is tested first, the protocol is slow."""
    if type(function) is _JITTED:
        return True
    return hasattr(function, "lower") and isinstance(function, jax.stages.Wrapped)


def jax_array(value: Any) -> Any:
    """Convert a value to a JAX array, of a dtype that JAX computes in (no float64 without x64)."""
    if isinstance(value, jax.Array) or getattr(value, "dtype", None) == jax.dtypes.float0:
        return value
    is_array = hasattr(value, "__array__") or not hasattr(value, "dtype")
    return jnp.asarray(value) if is_array else value


def is_made_by_jax(value: Any) -> bool:
    """Whether JAX made an array: its own type, or the NumPy subclass of a trace's constants."""
    subclass = isinstance(value, np.ndarray) and type(value).__module__.partition(".")[0] == "jax"
    return subclass or isinstance(value, jax.Array)


def evaluated(closed: Any, arguments: Sequence[Any]) -> list[Any]:
    """Evaluate a closed jaxpr and return its results."""
    return jax.core.eval_jaxpr(open_jaxpr(closed), constants(closed), *arguments)  # pyright: ignore[reportAttributeAccessIssue]


def effects(jaxpr: Any) -> frozenset[Any]:
    """The side effects of a jaxpr: prints, callbacks, writes to mutable arrays."""
    return frozenset(open_jaxpr(jaxpr).effects)


def io_effects(jaxpr: Any) -> list[str]:
    """The effects of a jaxpr for which the number of runs matters, those of `io_callback`."""
    names = {type(effect).__name__ for effect in effects(jaxpr)}
    return sorted(names & {"IOEffect", "OrderedIOEffect"})


@dataclass(frozen=True)
class Dependence:
    """How a value of a jaxpr depends on the inputs.

    Attributes:
        inputs: positions of the inputs that it is computed from.
        is_costly: whether any primitive on the way is not a cheap one.
    """

    inputs: frozenset[int] = frozenset()
    is_costly: bool = False


def dependence(closed: Any, cheap: Set[str]) -> list[Dependence]:
    """How each result of a jaxpr depends on its inputs.

    Args:
        closed: the jaxpr.
        cheap: names of primitives that cost next to nothing.
    """
    jaxpr = open_jaxpr(closed)
    none = Dependence()
    known = {variable: Dependence(frozenset([n])) for n, variable in enumerate(jaxpr.invars)}

    def of(atom: Any) -> Dependence:
        return known.get(atom, none) if is_variable(atom) else none

    for equation in jaxpr.eqns:
        operands = list(map(of, equation.invars))
        inputs = frozenset[int]().union(*(operand.inputs for operand in operands))
        is_costly = equation.primitive.name not in cheap or any(x.is_costly for x in operands)
        known.update(dict.fromkeys(equation.outvars, Dependence(inputs, is_costly)))
    return list(map(of, jaxpr.outvars))


def called(params: dict[str, Any]) -> Any:
    """The jaxpr that a call runs; JAX 0.11 renamed the parameter of composites."""
    return next(params[name] for name in ("jaxpr", "call_jaxpr", "call") if name in params)


def scan_counts(params: dict[str, Any]) -> tuple[int, int]:
    """The number of constants and the number of carried values among a scan's operands."""
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts), len(carry)


def argument_names(jaxpr: Any) -> tuple[str, ...]:
    """Names of a jaxpr's inputs with their paths (`params['W1']`); empty if JAX has none."""
    info = getattr(open_jaxpr(jaxpr), "debug_info", None)
    return tuple(getattr(info, "arg_names", None) or ())


def function_source(jaxpr: Any) -> str:
    """Name, file and line of the function that a jaxpr was traced from; empty if unknown.

    Examples:
        >>> import jax
        >>> function_source(jax.make_jaxpr(jax.numpy.sin)(1.0)).split(" at ")[0]
        'sin'
    """
    info = getattr(open_jaxpr(jaxpr), "debug_info", None)
    return getattr(info, "func_src_info", None) or ""


def origin(jaxpr: Any) -> str:
    """File and name of the JAX function that a jaxpr was traced from; empty for other functions."""
    name, _, location = function_source(jaxpr).partition(" at ")
    file = location.rpartition(":")[0].replace("\\", "/")
    return f"jax/{file.rpartition('/jax/')[2]}:{name}" if "/jax/_src/" in file else ""


def varying_axes(array: Any) -> frozenset[Any]:
    """The mesh axes along which an array differs between the devices of a `jax.shard_map`."""
    return _varying(array if isinstance(array, jax.ShapeDtypeStruct) else jax.typeof(array))


def in_shard_map() -> bool:
    """Whether the code being traced is inside `jax.shard_map`."""
    return bool(mesh_axes())


def mesh_axes() -> tuple[Any, ...]:
    """The mesh axes of the surrounding `jax.shard_map`; axes of `jax.vmap` do not count."""
    return tuple(jax.sharding.get_abstract_mesh().manual_axes)


def spread_as(array: Any, like: Any) -> Any:
    """Type an array as varying over all mesh axes that another array varies over."""
    missing = tuple(varying_axes(like) - varying_axes(array))
    return jax.lax.pcast(array, missing, to="varying") if missing else array


def zeros(aval: Any) -> Any:
    """An array of zeros of a type, varying over the same mesh axes."""
    array = jnp.zeros(aval.shape, aval.dtype)
    axes = tuple(_varying(aval))
    return jax.lax.pcast(array, axes, to="varying") if axes else array


def _varying(aval: Any) -> frozenset[Any]:
    return getattr(getattr(aval, "manual_axis_type", None), "varying", frozenset())


def is_placed(aval: Any) -> bool:
    """Whether a type says how its array is distributed over devices."""
    spec = getattr(getattr(aval, "sharding", None), "spec", ())
    return bool(_varying(aval)) or any(axis is not None for axis in spec)


def explicit_axes(array: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """The mesh of an array with explicit sharding, and the mesh axis of each array axis.

    None if no axis is sharded, or if the compiler decides (a mesh with automatic axes).
    """
    sharding = getattr(jax.typeof(array), "sharding", None)
    spec = tuple(getattr(sharding, "spec", ()))
    if sharding is None or all(axis is None for axis in spec):
        return None
    return sharding.mesh, spec + (None,) * (array.ndim - len(spec))


def sharded(array: Any, mesh: Any, axes: Sequence[Any]) -> Any:
    """Shard an array over a mesh axis for each of its axes; None leaves an axis unsharded."""
    target = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
    return array if jax.typeof(array).sharding == target else jax.sharding.reshard(array, target)


def struct(aval: Any) -> jax.ShapeDtypeStruct:
    """A type to trace with: shape, dtype, weak type, and distribution over devices."""
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
    """File, line and function of the user's code that a source belongs to."""
    return source_info_util.summarize(source)


def user_code(source: Any) -> tuple[str, str, str] | None:
    """File, function and line of the user's code that a source belongs to; None if not known."""
    parts = re.fullmatch(r"(.+?):(\d+)(?::\d+)? \((.*)\)", "" if source is None else place(source))
    return None if parts is None else (parts[1], parts[3], parts[2])


def as_if_at(source: Any) -> AbstractContextManager[None]:
    """Within the context, traced equations have the given source."""
    return source_info_util.user_context(source.traceback)


def scopes(source: Any) -> tuple[str, ...]:
    """The scopes of `jax.named_scope` that an equation was traced in, from the outside."""
    return () if source is None else tuple(filter(None, str(source.name_stack).split("/")))


def at_place(source: Any) -> str:
    """`place` for use in a message, " at ..."; empty if the user's line is not known."""
    location = "" if source is None else place(source)
    return f" at {location}" if location else ""


def convert(array: Any, dtype: Any, weak_type: bool) -> Any:
    """Convert an array to a dtype; a weak type promotes like a Python number."""
    if not weak_type or getattr(array, "weak_type", False):
        return array.astype(dtype)
    params = {"new_dtype": dtype, "weak_type": True, "sharding": None}
    return jax.lax.convert_element_type_p.bind(array, **params)


def is_traced(tree: Any) -> bool:
    """Whether any leaf of a tree is a tracer."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def is_batched(array: Any) -> bool:
    """Whether an array represents a batch inside `jax.vmap`.

    JAX exports no type to test for. A wrong answer costs a less suitable layout of a product.
    """
    return isinstance(array, Tracer) and type(array).__name__ == "BatchTracer"
