"""Logarithms of determinants of Jacobians for normalizing flows, from the structure of the map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from blockjac.base.trees import flattened, mapped
from blockjac.engine.arguments import ArgNums, check_callable, positions_of
from blockjac.errors import ArgumentError, BlockShapeError, ExamplesMeetError, StructureLostError
from blockjac.graph.example_meetings import meeting_of
from blockjac.graph.example_states import Meeting
from blockjac.graph.square_stages import Program
from blockjac.graph.trace import trace
from blockjac.interop.chained_determinants import Chain, Note
from blockjac.linear_systems.determinants import MOVES


@dataclass(frozen=True, eq=False)
class LogAbsDetJacobian:
    """A function that gives the value of a map and the logarithm of its absolute determinant.

    Attributes:
        fun: the map.
        argnums: which arguments to differentiate by.
        batch_axes: how many axes in front count examples.
        require_structure: whether to refuse a dense determinant.
    """

    fun: Callable[..., Any]
    argnums: ArgNums = 0
    batch_axes: int = 0
    require_structure: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, jax.Array]:
        """The value, and the logarithm: of shape (), or of the examples."""
        return self._answer(args, kwargs, [])

    def method(self, *args: Any, **kwargs: Any) -> str:
        """How the determinant is found: a line for each stage. Shapes of arrays suffice.

        Examples:
            >>> import jax.numpy as jnp
            >>> from blockjac import interop
            >>> def planar(x):
            ...     return x + 0.1 * jnp.tanh(jnp.sum(x))
            >>> print(interop.log_abs_det_jacobian(planar).method(jnp.ones(3)))
            diagonal of 3 plus rank 1, at ...
        """
        notes: list[Note] = []
        numbers = [n % len(args) for n in positions_of(self.argnums, len(args))]

        def answer(*chosen: Any) -> Any:
            full = list(args)
            for number, part in zip(numbers, chosen, strict=True):
                full[number] = part
            return self._answer(full, kwargs, notes)[1]

        jax.eval_shape(answer, *(args[number] for number in numbers))
        lines = [note.method + (f",{note.place}" if note.place else "") for note in notes]
        if not lines:
            return MOVES
        counted = {line: lines.count(line) for line in lines}
        return "\n".join(
            line if count == 1 else f"{count} x {line}" for line, count in counted.items()
        )

    def _answer(
        self, args: Sequence[Any], kwargs: dict[str, Any], notes: list[Note]
    ) -> tuple[Any, jax.Array]:
        """The value and the logarithm; notes are added to."""
        numbers = [n % len(args) for n in positions_of(self.argnums, len(args))]
        chosen, tree = flattened([args[number] for number in numbers])
        chosen: list[Any] = [jnp.asarray(leaf) for leaf in chosen]
        if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in chosen):
            raise ArgumentError(
                f"log_abs_det_jacobian needs real floats to differentiate {self._name!r} by, but "
                f"found {', '.join(str(leaf.dtype) for leaf in chosen)}"
            )

        others = [None if n in numbers else arg for n, arg in enumerate(args)]
        rest, rest_tree = flattened((others, kwargs))

        def whole(leaves: Sequence[Any], rest: Sequence[Any]) -> Any:
            full, keywords = jax.tree.unflatten(rest_tree, rest)
            for number, part in zip(numbers, jax.tree.unflatten(tree, leaves), strict=True):
                full[number] = part
            return self.fun(*full, **keywords)

        if not self.batch_axes:
            return self._of_one(lambda *leaves: whole(leaves, rest), chosen, notes)
        own = self._with_examples(whole, chosen, rest)

        def one(leaves: Sequence[Any], parts: Sequence[Any]) -> Any:
            """The map of one example, and the logarithm."""
            beside = [*rest]
            for number, part in zip(own, parts, strict=True):
                beside[number] = self._as_batch(part)

            def single(*leaves: Any) -> Any:
                value = whole(list(map(self._as_batch, leaves)), beside)
                return mapped(partial(_without_axes, self.batch_axes), value)

            return self._of_one(single, leaves, notes)

        for _ in range(self.batch_axes):
            one = jax.vmap(one)
        return one(chosen, [rest[number] for number in own])

    def _as_batch(self, array: Any) -> Any:
        """An example as a batch of one."""
        return array.reshape((1,) * self.batch_axes + array.shape)

    @property
    def _name(self) -> str:
        return getattr(self.fun, "__name__", type(self.fun).__name__)

    def _of_one(
        self, fun: Callable[..., Any], leaves: Sequence[Any], notes: list[Note]
    ) -> tuple[Any, jax.Array]:
        """The same of a map without examples."""
        closed, shapes = jax.make_jaxpr(fun, return_shape=True)(*leaves)
        results, out_tree = flattened(shapes)
        ins, outs = (sum(math.prod(x.shape) for x in side) for side in (leaves, results))
        if any(jnp.issubdtype(result.dtype, jnp.complexfloating) for result in results):
            raise ArgumentError(
                f"log_abs_det_jacobian needs real results, but {self._name!r} gives complex "
                "numbers: return their real and imaginary parts"
            )
        if ins != outs:
            raise BlockShapeError(
                f"the Jacobian of {self._name!r} has no determinant: it has {outs:,} results of "
                f"{ins:,} numbers; give as many, and other arguments a number outside of argnums"
            )
        program = Program.of(closed)
        first = len(notes)
        values, logarithm = Chain(program, program.inputs, program.outputs)(leaves, notes)
        dense = [note for note in notes[first:] if note.is_dense]
        if dense and self.require_structure:
            lines = "\n".join(f"  - {note.method}{note.place}" for note in dense)
            raise StructureLostError(
                f"the determinant of the Jacobian of {self._name!r} is that of a dense matrix, "
                f"which require_structure=True refuses:\n{lines}"
            )
        return jax.tree.unflatten(out_tree, values), logarithm

    def _with_examples(
        self, fun: Callable[..., Any], leaves: Sequence[Any], rest: Sequence[Any]
    ) -> list[int]:
        """The numbers of the other leaves that hold the examples too, such as conditions.

        Args:
            fun: of the leaves to differentiate by, and of the others.
            leaves: to differentiate by.
            rest: the others.

        Raises:
            ExamplesMeetError: where an example depends on others.
            BlockShapeError: if the leaves do not have the same examples in front.
        """
        axes = self.batch_axes
        counts = leaves[0].shape[:axes]
        if len(counts) < axes or any(leaf.shape[:axes] != counts for leaf in leaves):
            raise BlockShapeError(
                f"log_abs_det_jacobian with batch_axes={axes} needs the same examples in front of "
                f"all arrays, on {axes} axes, but found {[leaf.shape for leaf in leaves]}"
            )
        own = [n for n, leaf in enumerate(rest) if getattr(leaf, "shape", ())[:axes] == counts]

        def results(*arrays: Any) -> list[Any]:
            beside = [*rest]
            for number, array in zip(own, arrays[len(leaves) :], strict=True):
                beside[number] = array
            return jax.tree.leaves(fun(arrays[: len(leaves)], beside))

        arrays = [*leaves, *(rest[number] for number in own)]
        graph = trace(results, arrays, range(len(leaves)))

        def meeting(values: Sequence[int]) -> Meeting | None:
            """Where examples meet if these inputs hold them."""
            found = (
                meeting_of(graph, dict.fromkeys(values, axis), count, axis, number)
                for axis, count in enumerate(counts)
                for number in range(len(graph.outputs))
            )
            return next((state for state in found if state is not None), None)

        values = list(graph.inputs[: len(leaves)])
        found = meeting(values)
        if found is not None:
            raise ExamplesMeetError(
                f"log_abs_det_jacobian needs a map of each example alone, but in {self._name!r} "
                f"examples meet, as far as blockjac knows, in {found.name!r}{found.place}: write "
                "the map of one example and jax.vmap this transform of it"
            )
        examples: list[int] = []
        for number, value in zip(own, graph.inputs[len(leaves) :], strict=True):
            if meeting([*values, value]) is None:
                values.append(value)
                examples.append(number)
        return examples


def _without_axes(count: int, array: Any) -> Any:
    """An array of one example without the axes that count examples."""
    return array.reshape(array.shape[count:])


def log_abs_det_jacobian(
    fun: Callable[..., Any],
    argnums: ArgNums = 0,
    *,
    batch_axes: int = 0,
    require_structure: bool = False,
) -> LogAbsDetJacobian:
    """The value of a map and the logarithm of the absolute determinant of its Jacobian.

    It is exact, as normalizing flows want it, and by the structure of the map:

    - the map is cut into stages wherever as many numbers are alive as it has inputs: layers after
      each other, and steps of a `scan`. The determinant is the product of theirs, and what passes
      a stage unchanged, such as half of a coupling layer, takes no part in it;
    - an axis that numbers independent systems, as that of pixels in a 1x1 convolution, is a batch;
    - a diagonal plus few outer products, as in planar, radial and Sylvester flows, takes the
      determinant of a matrix of that few rows;
    - places that are known, as those of masks which are constants, are put in block triangular
      form, of which the blocks on the diagonal count: autoregressive maps in any order;
    - what is left is dense; `method` says what and where, and `require_structure` refuses it.

    Args:
        fun: a JAX function of real arrays, or trees of them, that gives as many numbers.
        argnums: which positional arguments to differentiate by; others are parameters.
        batch_axes: how many axes in front of them, and of the results, count examples; of other
            arguments too, such as conditions, where each example depends on its own part alone.
        require_structure: whether to raise where a stage is dense.

    Returns:
        A function of the same arguments that gives `(value, logarithm)`. It works under `jit`,
        `vmap` and `grad`. Its `method(*args)` tells how the determinant is found.

    Raises:
        BlockShapeError: for a map of other sizes.
        ExamplesMeetError: with `batch_axes`, if an example depends on others.
        StructureLostError: with `require_structure`, where a stage is dense.
        ArgumentError: for integers and complex numbers.

    Source:
        The chain rule, and for diagonals plus outer products the matrix determinant lemma; see
        Papamakarios et al., "Normalizing flows for probabilistic modeling and inference", 2021.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac import interop
        >>> def coupling(x):
        ...     a, b = x[:2], x[2:]
        ...     return jnp.concatenate([a, b * jnp.exp(jnp.sin(a))])[::-1]
        >>> x = jnp.array([0.5, 1.0, 2.0, 3.0])
        >>> value, logarithm = interop.log_abs_det_jacobian(coupling)(x)
        >>> round(float(logarithm), 4), round(float(jnp.sum(jnp.sin(x[:2]))), 4)
        (1.3209, 1.3209)
    """
    check_callable(fun, "interop.log_abs_det_jacobian")
    if batch_axes not in range(9):
        raise ArgumentError(
            f"batch_axes is {batch_axes!r}, but must be the number of axes that count examples"
        )
    return LogAbsDetJacobian(fun, argnums, batch_axes, require_structure)
