"""Exercises: a function, an attempt at its derivative, and a verdict block by block."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import jax
import numpy as np

from blockjac.base.trees import flattened
from blockjac.blocks import Block
from blockjac.checking.check import check_jacobian
from blockjac.checking.grad import check_grad
from blockjac.checking.hints import block_hints, chain_hints
from blockjac.checking.names import Names
from blockjac.checking.program_mistakes import Program
from blockjac.checking.report import JacobianReport, Mistake
from blockjac.checking.trees import is_leaf, paired
from blockjac.checking.verdicts import BlockVerdict, Verdict
from blockjac.engine.arguments import ArgNums, check_callable, traced_call
from blockjac.engine.call import Call
from blockjac.errors import BlockjacError, InvalidOptionError
from blockjac.transforms.first_order import block_jacobian


def exercise(
    fun: Callable[..., Any],
    *args: Any,
    argnums: ArgNums = 0,
    kwargs: dict[str, Any] | None = None,
) -> Exercise:
    """Pose the derivative of a function at a point as an exercise.

    Args:
        fun: a JAX function of arrays and trees of arrays; for a gradient, with one real scalar.
        args: the point: arguments of `fun`. Random ones, and of different sizes, tell mistakes from
            each other; equal sizes and zeros hide them.
        argnums: which of them to differentiate, as in `jacobian`.
        kwargs: keyword arguments of `fun`.

    Returns:
        The exercise: `.task` is its text, `.check(attempt)` the verdict on an attempt, `.hint(n)`
        the first n hints, `.solution()` the structure of the derivative.

    Raises:
        TypeError: if `fun` is not a function, or as `jacobian`.
        ValueError: for `argnums` that do not fit the arguments.

    Examples:
        >>> import jax.numpy as jnp, numpy as np
        >>> import blockjac
        >>> X, y = np.array([[1.0, 2.0], [3.0, 5.0], [0.0, 1.0]]), np.array([1.0, 0.0, 2.0])
        >>> def loss(w, b):
        ...     return jnp.sum((X @ w + b - y) ** 2)
        >>> posed = blockjac.exercise(loss, np.array([0.5, -1.0]), np.array(0.3), argnums=(0, 1))
        >>> def attempt(w, b):
        ...     r = 2 * (X @ w + b - y)
        ...     return X.T @ r, r
        >>> print(posed.check(attempt))
        loss: 1 of 2 blocks are right
          D_w loss, of shape (2,): right
          D_b loss, of shape (): missing sum: the sum over axis 0 (of size 3) is missing: ...
    """
    check_callable(fun, "exercise")
    call = traced_call("exercise", fun, argnums, args, kwargs or {})
    call.check_results()
    return Exercise(fun, args, argnums, kwargs or {}, call)


@dataclass(frozen=True, eq=False)
class Exercise:
    """The derivative of a function at a point, to be written by hand; made by `exercise`.

    Attributes:
        fun: the function.
        args: the point.
        argnums: which arguments are differentiated.
        kwargs: keyword arguments.
    """

    fun: Callable[..., Any]
    args: tuple[Any, ...]
    argnums: ArgNums
    kwargs: dict[str, Any]
    _call: Call = field(repr=False)

    @property
    def is_gradient(self) -> bool:
        """Whether the function gives one number, and its gradient is asked for."""
        return self._call.has_one_number

    @property
    def blocks(self) -> list[tuple[str, tuple[int, ...]]]:
        """The name and the shape of each block of the derivative."""
        labels = Names.of(self.fun, self._call, self.argnums, len(self.args)).leaves(
            self._call, "Jacobian"
        )
        inputs = [leaf.shape for leaf in self._call.inputs]
        wrt_shapes = inputs * len(self._call.results)
        return [(name, out + wrt) for (name, out), wrt in zip(labels, wrt_shapes, strict=True)]

    @property
    def task(self) -> str:
        """What is asked for."""
        what = "gradient" if self.is_gradient else "Jacobian"
        shapes = [f"  {name}, of shape {shape}" for name, shape in self.blocks]
        return "\n".join([f"write the {what} of {self._call.graph_name}:", *shapes])

    def check(self, attempt: Any) -> Verdict:
        """The verdict on an attempt.

        Args:
            attempt: a function of the same arguments, called once with copies of them; or the
                derivative itself. Its tree is that of `jacobian`; lists may stand for tuples, and
                the leaves in order for the tree, as may a dictionary by the names of the arguments.

        Returns:
            The verdict; an attempt that raises, or gives something that cannot be compared, gets
            one, too.
        """
        given = attempt
        if callable(attempt):
            try:
                given = attempt(*_copied(self.args), **_copied(self.kwargs))
            except (Exception, SystemExit) as error:
                return self._refused(Mistake("raised an exception", _raised(error)))
        if given is None:
            hint = "None was given; is there a `return` at the end of the function?"
            return self._refused(Mistake("nothing returned", hint))
        compare = check_grad if self.is_gradient else check_jacobian
        try:
            answer = self._aligned(given)
            report = compare(self.fun, answer, *self.args, argnums=self.argnums, kwargs=self.kwargs)
        except (BlockjacError, TypeError, ValueError) as error:
            return self._refused(Mistake("not an array", str(error)))
        return self._verdict(report)

    def hint(self, number: int) -> str:
        """The first hints: shapes, then the chain or the structure, then sums, then a number.

        Args:
            number: how many, from 1; more than there are gives all.

        Raises:
            ValueError: for a number below 1.
        """
        if number < 1:
            raise InvalidOptionError(f"number={number}; wanted 1 or more, how many hints to give")
        return "\n".join(self._hints[:number])

    @property
    def hint_count(self) -> int:
        """How many hints there are."""
        return len(self._hints)

    def solution(self) -> str:
        """The structure of each block of the derivative, and its shape."""
        lines = [f"the derivative of {self._call.graph_name}:"]
        for (name, shape), block in zip(self.blocks, self._exact, strict=True):
            structure = block.structure if isinstance(block, Block) else "an array"
            lines.append(f"  {name} = {structure}, of shape {shape}")
        if self.is_gradient:
            lines += [f"  {line}" for line in chain_hints(self._program, self.blocks)[0]]
        return "\n".join(lines)

    # What is computed once asked for

    @property
    def _program(self) -> Program:
        return Program(self.fun, self.args, self.kwargs, self._call)

    @cached_property
    def _tree(self) -> Any:
        """The derivative in its tree."""
        return block_jacobian(self.fun, self.argnums)(*self.args, **self.kwargs)

    @property
    def _exact(self) -> list[Any]:
        """The blocks of the derivative."""
        return flattened(self._tree, is_leaf=is_leaf)[0]

    @cached_property
    def _hints(self) -> list[str]:
        """All hints, in order."""
        blocks = block_hints(self.blocks, self._exact)
        if not self.is_gradient:
            return blocks
        chains, last = chain_hints(self._program, self.blocks)
        return [blocks[0], *("\n".join(lines) for lines in (chains, last) if lines), blocks[-1]]

    def _aligned(self, given: Any) -> Any:
        """What was given in the tree of the derivative, if its leaves or names say how."""
        exact = self._tree
        leaves, tree = flattened(exact, is_leaf=is_leaf)
        if not isinstance(paired(given, exact), Mistake):
            return given
        if isinstance(given, dict):
            given = cast("dict[Any, Any]", given)
            by_name = {str(key): value for key, value in given.items()}
            names = [
                name.partition(" ")[0].removeprefix("D_").strip("{}") for name, _ in self.blocks
            ]
            if set(by_name) == set(names) and len(leaves) == len(names):
                return jax.tree.unflatten(tree, [by_name[name] for name in names])
        flat = flattened(given, is_leaf=is_leaf)[0]
        same_count = len(flat) == len(leaves) and all(map(is_leaf, flat))
        return jax.tree.unflatten(tree, flat) if same_count else given

    def _refused(self, problem: Mistake) -> Verdict:
        """The verdict on an attempt that cannot be compared."""
        blocks = tuple(BlockVerdict(name, shape) for name, shape in self.blocks)
        return Verdict(self._call.graph_name, blocks, problem)

    def _verdict(self, report: JacobianReport) -> Verdict:
        """The verdict that a report comes to."""
        if report.tree is not None or report.derivative == "Hessian":
            problem = report.tree or Mistake("a Hessian", "the gradient is wanted, not its own")
            return self._refused(problem)
        blocks = tuple(map(BlockVerdict.of, report.leaves))
        return Verdict(self._call.graph_name, blocks, None, report)


def _copied(tree: Any) -> Any:
    """A tree with copies of NumPy's arrays, which an attempt may overwrite."""

    def copy(leaf: Any) -> Any:
        return np.array(cast("Any", leaf)) if isinstance(leaf, np.ndarray) else leaf

    return jax.tree.map(copy, tree)


def _raised(error: BaseException) -> str:
    """An exception in a line: what it says, and where in the attempt it was raised."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is the call itself
    text = f"{type(error).__name__}: {error}"
    if not frames:
        return text
    frame = frames[0]
    line = f": {frame.line}" if frame.line else ""
    return f"{text}, at line {frame.lineno} in {frame.name}{line}"
