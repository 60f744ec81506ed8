"""What a report calls the derivatives: `D_W loss`, by the names that the user's code has."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from blockjac.base.trees import leaves_with_path
from blockjac.engine.arguments import ArgNums, parameter_names
from blockjac.engine.call import Call


@dataclass(frozen=True)
class Names:
    """What the leaves are called: results, and variables with their shapes.

    Attributes:
        function: the function's name.
        variables: a name for each differentiated leaf.
        results: a name for each result.
    """

    function: str
    variables: Sequence[str]
    results: Sequence[str]

    @staticmethod
    def of(fun: Callable[..., Any], call: Call, argnums: ArgNums, count: int) -> Names:
        """The names of a call of a function with this many positional arguments."""
        function = "fun" if call.graph_name == "<lambda>" else call.graph_name
        positions: list[int] = [argnums] if isinstance(argnums, int) else list(argnums)
        arguments = parameter_names(fun, count)
        variables: list[str] = [
            arguments[positions[int(path[0].idx)] % count] + jax.tree_util.keystr(path[1:])
            for path in _paths(call.wrt_tree)
        ]
        shortened = [_last(name) for name in variables]
        if len(set(shortened)) == len(variables):
            variables = shortened
        results = [function + jax.tree_util.keystr(path) for path in _paths(call.record.out_tree)]
        return Names(function, variables, results)

    def leaves(self, call: Call, derivative: str) -> list[tuple[str, tuple[int, ...]]]:
        """The name of each leaf of a derivative, with the shape of what is differentiated."""
        wrt = [leaf.shape for leaf in call.inputs]
        if derivative != "Hessian":
            return [
                (f"D_{_index(variable)} {result}", out.shape)
                for result, out in zip(self.results, call.results, strict=True)
                for variable in self.variables
            ]
        return [
            (f"D_{_index(column_variable)} D_{_index(row_variable)} {self.function}", shape)
            for row_variable, shape in zip(self.variables, wrt, strict=True)
            for column_variable in self.variables
        ]


def _last(variable: str) -> str:
    """The last key of a variable's path, where that is a name: `W1` of `params['W1']`."""
    key = re.search(r"(?:\['(\w+)'\]|\.(\w+))$", variable)
    return variable if key is None else key[1] or key[2]


def _paths(tree: Any) -> list[Any]:
    indexed = jax.tree.unflatten(tree, range(tree.num_leaves))
    return [path for path, _ in leaves_with_path(indexed)]


def _index(variable: str) -> str:
    """A variable as an index: in braces unless it is one letter, as in LaTeX."""
    return variable if len(variable) == 1 else f"{{{variable}}}"
