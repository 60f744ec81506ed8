"""One call of a transformed function: the traced function at its arguments, trees of results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.engine.auxiliary import Auxiliary, Record
from blockjac.engine.leaves import float0_zeros
from blockjac.errors import DifferentiationTypeError
from blockjac.graph.graph import Graph
from blockjac.graph.linearity import is_inexact
from blockjac.rules.complex_parts import is_complex


@dataclass(frozen=True, eq=False)
class Call:
    """A traced function at its arguments.

    Attributes:
        name: of the transform, for messages.
        graph: the traced function: its inputs are the arrays among the arguments, its results those
            of the function and then the arrays of aux.
        arguments: values of the graph's inputs.
        wrt: the graph's inputs that are differentiated, in the order of argnums.
        wrt_tree: their tree: a tuple of arguments.
        single: whether `argnums` is one int, so that answers are for one argument and not for a
            tuple.
        record: what the function returned.
        holomorphic: whether complex derivatives are asked for.
        origins: for each of the graph's inputs the position of the argument that it belongs to;
            None for keyword arguments.
    """

    name: str
    graph: Graph
    arguments: Sequence[Any]
    wrt: tuple[int, ...]
    wrt_tree: Any
    single: bool
    record: Record
    holomorphic: bool = False
    origins: tuple[int | None, ...] = ()

    @property
    def graph_name(self) -> str:
        """The name of the function."""
        return self.record.name

    @property
    def results(self) -> Sequence[jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the function's results, without aux."""
        return self.record.results

    @property
    def count(self) -> int:
        """How many results there are, without aux."""
        return len(self.results)

    @property
    def has_one_number(self) -> bool:
        """Whether the function gives one number, in whatever tree."""
        return [result.shape for result in self.results] == [()]

    @property
    def inputs(self) -> list[Any]:
        """Abstract values of the differentiated leaves."""
        return [self.graph.avals[value] for value in self.wrt]

    @property
    def smooth(self) -> tuple[int, ...]:
        """The differentiated inputs that are floats or complex."""
        return tuple(value for value in self.wrt if is_inexact(self.graph.avals[value]))

    @property
    def is_symmetric(self) -> bool:
        """Whether the results may be derivatives by these inputs, which are all of one real dtype.

        Of complex inputs the two blocks are conjugates, and not of holomorphic functions alone.
        """
        if not self.inputs or self.count % len(self.inputs):
            return False
        dtypes = {aval.dtype for aval in (*self.inputs, *self.results)}
        return len(dtypes) == 1 and not jnp.issubdtype(dtypes.pop(), jnp.complexfloating)

    # Answers put back into trees

    def argument_tree(self, row: Iterable[Any], out_shape: Sequence[int] = ()) -> Any:
        """The tree of the differentiated arguments: of one, or of a tuple of them.

        Args:
            row: a leaf for each float or complex input; the others get zeros of float0.
            out_shape: what is differentiated, for the shape of these zeros.
        """
        row_leaves = iter(row)
        leaves = [
            next(row_leaves) if is_inexact(aval) else float0_zeros((*out_shape, *aval.shape))
            for aval in self.inputs
        ]
        tree = jax.tree.unflatten(self.wrt_tree, leaves)
        return tree[0] if self.single else tree

    def jacobian_tree(self, rows: Sequence[Iterable[Any]]) -> Any:
        """The tree of the results, in place of each leaf the tree of the arguments."""
        leaves = [
            self.argument_tree(row, result.shape)
            for row, result in zip(rows, self.results, strict=True)
        ]
        return jax.tree.unflatten(self.record.out_tree, leaves)

    def gradient_tree(self, rows: Sequence[Iterable[Any]]) -> Any:
        """The tree of the arguments, of a function with one result."""
        return self.argument_tree(rows[0])

    def value(self, outs: Sequence[Any]) -> Any:
        """The function's result from the graph's."""
        return jax.tree.unflatten(self.record.out_tree, outs[: self.count])

    def auxiliary(self, outs: Sequence[Any]) -> Auxiliary:
        """The auxiliary result from the graph's auxiliary results."""
        return replace(self.record.auxiliary, arrays=tuple(outs))

    # Checks of what the function returns

    def check_scalar(self) -> None:
        """Raise unless the function returns one array of shape ().

        Raises:
            DifferentiationTypeError: in JAX's words, with what to do.
        """
        only = "Gradient only defined for scalar-output functions. Output"
        if self.record.out_tree != jax.tree.structure(0):
            raise DifferentiationTypeError(
                f"{only} was a tree, {self.record.out_tree}; use blockjac.jacobian for several "
                "outputs, or has_aux=True for a pair (value, aux)"
            )
        if self.results[0].shape != ():
            raise DifferentiationTypeError(
                f"{only} had shape: {self.results[0].shape}; use blockjac.jacobian for it"
            )

    def check_real_inputs(self) -> None:
        """Raise for complex inputs, by which a Block has no place to keep its derivative.

        Raises:
            DifferentiationTypeError: says what to do instead.
        """
        for value in self.wrt:
            where = partial(self.graph.names.get, value, "an argument")
            check_real_dtype(self.graph.avals[value].dtype, where, self.name)

    def check_real(self, complex_results: bool = False) -> None:
        """Raise unless the inputs are real, and the results too but where complex ones may be.

        Raises:
            DifferentiationTypeError: says what to do instead.
        """
        self.check_real_inputs()
        self.check_results(complex_of_real=complex_results)

    def check_results(self, complex_of_real: bool = False) -> None:
        """Raise unless the results can be differentiated.

        Args:
            complex_of_real: whether results may be complex where all inputs are real.

        Raises:
            DifferentiationTypeError: in JAX's words, with what to do.
        """
        real_inputs = not any(map(is_complex, self.inputs))
        for result in self.results:
            dtype = result.dtype
            if is_complex(result) and complex_of_real and real_inputs:
                continue
            if self.holomorphic and not is_complex(result):
                raise DifferentiationTypeError(
                    f"{self.name} with holomorphic=True requires outputs with complex dtype, but "
                    f"got {dtype.name}."
                )
            if self.holomorphic or jnp.issubdtype(dtype, jnp.floating):
                continue
            instead = (
                "For holomorphic differentiation, pass holomorphic=True. For differentiation of "
                "non-holomorphic functions involving complex outputs, use blockjac.vjp directly."
                if is_complex(result)
                else "For differentiation of functions with integer outputs, use "
                "blockjac.vjp directly."
            )
            raise DifferentiationTypeError(
                f"{self.name} requires real-valued outputs (output dtype that is a sub-dtype of "
                f"np.floating), but got {dtype.name}. {instead}"
            )


def check_real_dtype(dtype: Any, where: Callable[[], str], name: str) -> None:
    """Raise for a complex leaf; `where` gives its name."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise DifferentiationTypeError(
            f"{name} requires real-valued inputs, but got complex ones, as {where()}; for a "
            "holomorphic function use blockjac.jacobian with holomorphic=True, else "
            "differentiate with respect to real and imaginary parts"
        )
