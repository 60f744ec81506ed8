"""A stand-alone module with functions and their derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

from blockjac.base.compat import open_jaxpr
from blockjac.errors import InvalidOptionError, SourceError
from blockjac.explanations.source import layout
from blockjac.explanations.source.builder import Builder, Target
from blockjac.explanations.source.expressions import (
    Attribute,
    Call,
    Display,
    Expression,
    Subscript,
    Text,
)
from blockjac.explanations.source.function import TracedFunction, leaves_of, quoted
from blockjac.explanations.source.helpers import HELPERS, needed_helpers
from blockjac.explanations.source.imports import import_lines
from blockjac.explanations.source.names import Names, mended
from blockjac.explanations.source.printer import function_lines
from blockjac.explanations.source.program import OBJECT, Def, Value
from blockjac.explanations.source.schedule import Schedule
from blockjac.explanations.source.shared_functions import SharedFunctions
from blockjac.explanations.source.tables import Tables
from blockjac.explanations.source.targets import target_of

TargetName = Literal["numpy", "jax"]


def module_source(
    functions: Sequence[TracedFunction], target: TargetName, docstring: str = ""
) -> str:
    """The source of a module with the given functions, which needs nothing of this library.

    Arrays that a function has captured are written into the module, unless they have a name in
    `constant_names` and more than a few entries: then they are further parameters of the function,
    after `*`, and its docstring says their shapes.

    Args:
        functions: in the order in which they stand.
        target: `numpy`, with SciPy where it has what NumPy lacks, or `jax`.
        docstring: of the module.

    Returns:
        Formatted source, ending in a line break.

    Raises:
        SourceError: part of a program cannot be written; the message names it.
        InvalidOptionError: another target is asked for.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from blockjac.explanations.source import Parameter
        >>> x = jnp.ones(3)
        >>> traced = jax.make_jaxpr(lambda x: jnp.sum(x**2))(x)
        >>> function = TracedFunction("f", traced, (Parameter("x", x),), "Sum of squares.", 0.0)
        >>> print(module_source([function], "numpy").splitlines()[-1].strip())
        return np.sum(x**2)
    """
    if target not in ("numpy", "jax"):
        raise InvalidOptionError(f"target must be 'numpy' or 'jax', but is {target!r}")
    names, tables = Names(set(HELPERS)), Tables()
    shared = SharedFunctions(names, [function.closed_jaxpr for function in functions])
    definitions, classes = _definitions(functions, Builders(target_of(target), tables, shared))
    body = "\n\n\n".join(
        "\n".join(_lines(definition, names, target_of(target)))
        for definition in (*shared.definitions, *definitions)
    )
    helpers = needed_helpers(body)
    pieces = ["\n".join(HELPERS[name].strip().splitlines()) for name in helpers]
    code = "\n\n\n".join([*pieces, body])
    listed = "\n\n".join(tables.texts)
    heading = layout.docstring(_about(docstring, functions, target), 0)
    tuples = [
        f"{name} = namedtuple({quoted(name)}, [{', '.join(map(quoted, fields))}])"
        for name, fields in classes.items()
    ]
    imports = import_lines("\n".join([*tuples, listed, code]))
    constants = [*tuples, *([listed] if listed else [])]
    parts_of_head = [heading, imports, constants]
    head = "\n\n".join("\n".join(part) for part in parts_of_head if part)
    return f"{head}\n\n\n{code}\n"


def _about(docstring: str, functions: Sequence[TracedFunction], target: TargetName) -> str:
    """The module's docstring, with what has to be said of its dtypes."""
    text = docstring.strip() or "Functions and their derivatives."
    if target == "jax" and any(_has_wide_types(function.closed_jaxpr) for function in functions):
        text += (
            "\n\nComputes in float64, which JAX has to be asked for first:\n"
            'jax.config.update("jax_enable_x64", True)'
        )
    return text


def _has_wide_types(closed: Any) -> bool:
    """Whether a program has values of 64 bits."""
    jaxpr = open_jaxpr(closed)
    atoms = [*jaxpr.invars, *jaxpr.outvars, *(x for e in jaxpr.eqns for x in e.outvars)]
    return any(
        getattr(getattr(x.aval, "dtype", None), "name", "") in ("float64", "complex128", "int64")
        for x in atoms
    )


class Builders:
    """Makes a builder for each function, all of which share what the module has once."""

    def __init__(self, target: Target, tables: Tables, shared: SharedFunctions) -> None:
        self.target = target
        self.tables = tables
        self.shared = shared

    def new(self) -> Builder:
        """A builder for another function."""
        return Builder(self.target, self.tables, self.shared)


Fields = dict[str, tuple[str, ...]]
"""The fields of namedtuples by the names of their classes."""


def _definitions(
    functions: Sequence[TracedFunction], builders: Builders
) -> tuple[list[Def], Fields]:
    """All functions, and the namedtuples that they return."""
    classes: Fields = {}
    return [_function(function, builders.new(), classes) for function in functions], classes


def _lines(definition: Def, names: Names, target: Target) -> list[str]:
    """The text of a function."""
    schedule = Schedule(target.module, names.taken)
    schedule.decide(definition)
    return function_lines(definition, schedule)


def _function(function: TracedFunction, builder: Builder, classes: Fields) -> Def:
    """The statements of a function."""
    jaxpr = open_jaxpr(function.closed_jaxpr)
    parameters, leaves, told = _parameters(function, builder)
    if len(leaves) != len(jaxpr.invars):
        raise SourceError(
            f"the parameters of {function.name!r} have {len(leaves)} leaves, but its program takes "
            f"{len(jaxpr.invars)} arrays; give each parameter the tree that it was traced with"
        )
    for value, variable in zip(leaves, jaxpr.invars, strict=True):
        value.shape, value.dtype = tuple(variable.aval.shape), variable.aval.dtype
    for number, array in enumerate(getattr(function.closed_jaxpr, "consts", ())):
        if number < len(function.constant_names) and function.constant_names[number]:
            builder.names_of_constants[id(array)] = function.constant_names[number]
    results = builder.run(function.closed_jaxpr, leaves)
    exact = [
        builder.exact(result, atom.aval.shape).ref
        for result, atom in zip(results, jaxpr.outvars, strict=True)
    ]
    result = _tree(function.result, exact, function.name, classes)
    captured: list[Value] = []
    for array, value in builder.captured.values():
        captured.append(value)
        told.append((value, "", f"{_type(np.shape(array), np.asarray(array).dtype)}, captured"))
    about = function.docstring.strip() or "Computes what it was traced from."
    name = builder.shared.named(function.name)
    return Def(name, tuple(parameters), builder.block, result, tuple(captured), about, tuple(told))


def _parameters(
    function: TracedFunction, builder: Builder
) -> tuple[list[Value], list[Value], list[tuple[Value, str, str]]]:
    """The parameters, the leaves of all of them, and what is said of each."""
    parameters: list[Value] = []
    leaves: list[Value] = []
    told: list[tuple[Value, str, str]] = []
    for parameter in function.parameters:
        value = builder.variable((), OBJECT, parameter.name)
        value.block = None
        value.name = mended(parameter.name)
        parameters.append(value)
        where = f"parameter {parameter.name!r} of {function.name!r}"
        examples = jax.tree.leaves(parameter.tree)
        for leaf, example in zip(leaves_of(parameter.tree, where), examples, strict=True):
            shape = np.shape(example)
            dtype = getattr(example, "dtype", None) or jax.numpy.result_type(example)
            told.append((value, "".join(leaf.steps), _type(shape, dtype)))
            if not leaf.steps:
                leaves.append(value)
                continue
            code: Expression = value.ref
            for step in leaf.steps:
                code = (
                    Attribute(code, step[1:])
                    if step.startswith(".")
                    else Subscript(code, (Text(step[1:-1]),))
                )
            leaves.append(builder.value(code, shape, dtype, leaf.last or parameter.name))
    return parameters, leaves, told


def _type(shape: Sequence[int], dtype: Any) -> str:
    """A type in words: `float64 of shape (9, 5)`."""
    name = dtype.name if hasattr(dtype, "name") else str(dtype)  # keys of random numbers
    return f"{name} of shape {tuple(int(size) for size in shape)}" if len(shape) else f"a {name}"


def _tree(
    tree: Any, results: Sequence[Expression], where: str, classes: dict[str, tuple[str, ...]]
) -> Expression:
    """The code of a tree of results."""
    leaves = jax.tree.leaves(tree)
    if len(leaves) != len(results):
        raise SourceError(
            f"the result of {where!r} has {len(leaves)} leaves, but its program returns "
            f"{len(results)} arrays; give the tree that it returned when it was traced"
        )
    marks = iter(map(_Leaf, results))
    trees: Any = jax.tree
    marked: Any = trees.unflatten(trees.structure(tree), marks)
    return _node(marked, where, classes, is_outermost=True)


class _Leaf:
    """A result in its tree."""

    def __init__(self, code: Expression) -> None:
        self.code = code


def _node(
    node: Any, where: str, classes: dict[str, tuple[str, ...]], is_outermost: bool = False
) -> Expression:
    """The code of a node of a tree of results."""
    kind = type(node).__name__
    if isinstance(node, _Leaf):
        return node.code
    if node is None:
        return Text("None")
    if kind not in ("dict", "list", "tuple") and not hasattr(node, "_fields"):
        raise SourceError(
            f"the result of {where!r} holds a {kind}, which only its own class can build; "
            "return dictionaries, lists, tuples or namedtuples"
        )
    entries: list[Any] = list(node.values() if kind == "dict" else node)
    parts = tuple(_node(entry, where, classes) for entry in entries)
    if kind == "dict":
        return Display("{", parts, tuple(map(quoted, node)))
    if hasattr(node, "_fields"):
        name = mended(kind)
        classes[name] = tuple(node._fields)
        return Call(name, parts)
    is_bare = is_outermost and len(parts) > 1
    return Display("[" if kind == "list" else "" if is_bare else "(", parts)
