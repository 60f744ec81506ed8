"""A function as a composition of named steps: those of the user, and primitives between them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any, cast

import jax
import numpy as np

from blockjac.base import compat
from blockjac.elimination.active_graph import ActiveGraph
from blockjac.elimination.elemental import short_name
from blockjac.engine.call import Call
from blockjac.explanations.names import Name, unique
from blockjac.graph.graph import Equation, Graph, Operand, values_of
from blockjac.graph.primitives import CALLS, OWN_RULES
from blockjac.graph.trace import STEP

WORDS = {
    "dot_general": "dot",
    "reduce_sum": "sum",
    "reduce_prod": "prod",
    "reduce_max": "max",
    "reduce_min": "min",
    "broadcast_in_dim": "broadcast",
    "convert_element_type": "convert",
    "select_n": "where",
    "integer_pow": "power",
    "pow": "power",
    "conv_general_dilated": "conv",
    "expand_dims": "expand",
    "concatenate": "concat",
    "dynamic_slice": "slice",
}
"""What formulas call primitives whose own names are long."""


@dataclass(frozen=True, eq=False)
class Variable:
    """A tensor of the chain rule: an argument, a captured array, or the result of a step.

    Attributes:
        number: of the value in the graph.
        name: in formulas.
        shape: of the tensor.
        dtype: of its entries.
        kind: "argument", "captured" or "computed".
        is_numbered: whether it has a number for a name, as results of primitives have.
    """

    number: int
    name: Name
    shape: tuple[int, ...]
    dtype: Any
    kind: str
    is_numbered: bool = False

    @property
    def axes(self) -> tuple[int, ...]:
        """The sizes of its axes in the chain rule, where complex arrays are pairs of real ones."""
        return (2, *self.shape) if np.dtype(self.dtype).kind == "c" else self.shape


@dataclass(frozen=True, eq=False)
class Step:
    """One function of the composition.

    Attributes:
        name: in formulas.
        equation: its call in the graph.
        word: what it is called in the program: the function's name, or the primitive's.
        is_named: whether the user named it, as opposed to primitives.
    """

    name: Name
    equation: Equation
    word: str
    is_named: bool

    @property
    def operands(self) -> tuple[int, ...]:
        """The values that it reads, each once."""
        return tuple(dict.fromkeys(values_of(self.equation.operands)))

    def results(self, values: Mapping[int, Any]) -> dict[int, Any]:
        """What it computes, by number of the value.

        Args:
            values: arrays by number, at least of `operands`.
        """
        equation = self.equation
        atoms = [
            values[atom.value] if isinstance(atom, Operand) else atom.value
            for atom in equation.operands
        ]
        results = compat.bind(equation.primitive, atoms, equation.params)
        return dict(zip(equation.results, results, strict=True))

    def function(self, heads: Sequence[int]) -> Callable[..., list[Any]]:
        """The step as a function of arrays for `operands` that gives some of its results."""

        def results(*arrays: Any) -> list[Any]:
            """The chosen results."""
            computed = self.results(dict(zip(self.operands, arrays, strict=True)))
            return [computed[head] for head in heads]

        return results

    @property
    def inside(self) -> Any:
        """The closed jaxpr that it runs; None for a primitive."""
        name = self.equation.primitive.name
        return compat.called(self.equation.params) if name in CALLS | OWN_RULES else None


@dataclass(frozen=True, eq=False)
class Program:
    """A traced function, its steps and its variables.

    Attributes:
        call: the call of the function, traced with its own calls as equations.
        function: the name of the function.
        variables: by number of the value.
        steps: every step in order; those without a derivative too.
    """

    call: Call
    function: Name
    variables: dict[int, Variable]
    steps: tuple[Step, ...]

    @property
    def graph(self) -> Graph:
        """The traced function."""
        return self.call.graph

    @cached_property
    def active(self) -> ActiveGraph:
        """The part of the graph between the differentiated arguments and the results."""
        return ActiveGraph.of(self.graph, self.graph.outputs[: self.call.count])

    @cached_property
    def active_steps(self) -> list[Step]:
        """The steps with an elemental Jacobian."""
        equations = set(self.active.equations)
        return [step for step in self.steps if step.equation in equations]

    @property
    def independents(self) -> list[Variable]:
        """The differentiated arguments."""
        return [self.variables[value] for value in self.call.smooth]

    @property
    def results(self) -> list[Variable | None]:
        """The results; None for those that are constants."""
        outputs = self.graph.outputs[: self.call.count]
        return [
            self.variables[output.value] if isinstance(output, Operand) else None
            for output in outputs
        ]

    def tails(self, step: Step) -> list[int]:
        """The active operands of a step, each once."""
        return list(dict.fromkeys(t for t in self.active.tails(step.equation) if t is not None))

    def heads(self, step: Step) -> list[int]:
        """The active results of a step."""
        return [value for value in step.equation.results if value in self.active.vertices]


def program_of(call: Call, fun: Callable[..., Any]) -> Program:
    """Name the steps and the variables of a traced function.

    Args:
        call: traced with calls kept.
        fun: the function, whose closure names captured arrays.
    """
    graph = call.graph
    function = Name.of("f" if "lambda" in call.graph_name else call.graph_name)
    words = [_word(equation) for equation in graph.equations]
    names = unique([Name.of(word) for word, _ in words])
    steps = tuple(
        Step(name, equation, word, is_named)
        for name, equation, (word, is_named) in zip(names, graph.equations, words, strict=True)
    )
    return Program(call, function, _variables(graph, call, function, fun), steps)


def _word(equation: Equation) -> tuple[str, bool]:
    """What a step is called, and whether the user named it."""
    primitive: str = equation.primitive.name
    params = equation.params
    name = str(params.get("name", "")) if primitive in CALLS else ""
    if name.startswith(STEP):
        return name.removeprefix(STEP).partition("=")[0], True
    if primitive in OWN_RULES:
        name = compat.function_source(compat.called(params)).partition(" at ")[0]
    if name:
        is_jax = bool(compat.origin(compat.called(params)))
        own = "lambda" if "lambda" in name else name.strip("_")
        return own or primitive, not is_jax
    return WORDS.get(primitive, primitive.replace("-", "_")), False


def _variables(
    graph: Graph, call: Call, function: Name, fun: Callable[..., Any]
) -> dict[int, Variable]:
    """A name for every value of a graph."""
    named: dict[int, tuple[Name, str]] = {}
    for position, value in enumerate(graph.inputs):
        text = short_name(graph.names.get(value, "")) or f"x{position}"
        named[value] = Name.of(text), "argument"
    captured = _captured_names(fun, graph.captured)
    for value, text in zip(graph.constants, captured, strict=True):
        named[value] = Name.of(text), "captured"
    inputs = list(named)
    names = unique([named[value][0] for value in inputs])
    named = {value: (name, named[value][1]) for value, name in zip(inputs, names, strict=True)}
    computed = [value for equation in graph.equations for value in equation.results]
    wanted = _wanted_names(graph, call, function)
    numbers = count(1)  # v_1, v_2, ... as Griewank and Walther have them
    names = unique(
        [wanted.get(value) or Name("v").numbered(next(numbers)) for value in computed], taken=names
    )
    named |= {value: (name, "computed") for value, name in zip(computed, names, strict=True)}
    return {
        value: Variable(
            value,
            name,
            tuple(graph.avals[value].shape),
            graph.avals[value].dtype,
            kind,
            kind == "computed" and value not in wanted,
        )
        for value, (name, kind) in named.items()
    }


def _wanted_names(graph: Graph, call: Call, function: Name) -> dict[int, Name]:
    """Names for results: as given, else of the function, or of the next step's parameter."""
    names: dict[int, Name] = {}
    outputs = [out for out in graph.outputs[: call.count] if isinstance(out, Operand)]
    for output in outputs:
        names.setdefault(output.value, function)
    for equation in graph.equations:
        for operand, parameter in zip(equation.operands, _parameters(equation), strict=True):
            if isinstance(operand, Operand) and parameter:
                names.setdefault(operand.value, Name.of(parameter))
    for equation in graph.equations:
        mark = str(equation.params.get("name", ""))
        _, _, result = mark.partition("=") if mark.startswith(STEP) else ("", "", "")
        for number, value in enumerate(equation.results):
            if result:
                name = Name.of(result)
                several = len(equation.results) > 1
                names[value] = name.numbered(number + 1) if several else name
    return names


def _parameters(equation: Equation) -> Sequence[str]:
    """The names of a named step's parameters, one for each operand; "" where there is none."""
    none = [""] * len(equation.operands)
    if not _word(equation)[1]:
        return none
    inside = compat.called(equation.params)
    names = [short_name(name) for name in compat.argument_names(inside)]
    return names if len(names) == len(none) else none


def _captured_names(fun: Callable[..., Any], captured: Sequence[Any]) -> list[str]:
    """What the function calls the arrays that it captures; `c` where that is not known."""
    try:
        outer = inspect.getclosurevars(inspect.unwrap(fun))
    except TypeError:  # a callable object
        return ["c"] * len(captured)
    named = {**outer.globals, **outer.nonlocals}
    return [
        next((name for name, own in named.items() if _is_same(own, array)), "c")
        for array in captured
    ]


def _is_same(own: Any, captured: Any) -> bool:
    """Whether a variable of Python is a captured array, or what JAX made of it."""
    if own is captured:
        return True
    if not isinstance(own, np.ndarray | jax.Array) or compat.is_traced((own, captured)):
        return False
    mine: Any = np.asarray(cast("Any", own))
    return mine.shape == captured.shape and np.array_equal(mine, np.asarray(captured))
