"""`check_jacobian`: what was given and the exact derivative, leaf by leaf."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from blockjac.blocks import Block
from blockjac.checking.compare import MAX_ENTRIES, Tolerance
from blockjac.checking.leaves import compared, with_exchanges
from blockjac.checking.names import Names
from blockjac.checking.program_mistakes import Program, with_explanations
from blockjac.checking.report import JacobianReport, Mistake
from blockjac.checking.sums import Axes
from blockjac.checking.trees import entries, paired, size
from blockjac.engine.arguments import ArgNums, check_callable, traced_call
from blockjac.engine.call import Call
from blockjac.transforms.first_order import block_jacobian, jacobian


def check_jacobian(
    fun: Callable[..., Any],
    Dfun: Any,
    *args: Any,
    argnums: ArgNums = 0,
    kwargs: dict[str, Any] | None = None,
    holomorphic: bool = False,
    rtol: float | None = None,
    atol: float | None = None,
) -> JacobianReport:
    """Compare a hand-written Jacobian or Hessian with the exact one, and name what is wrong.

    Two entries agree if they differ by at most `atol + rtol * (the largest exact entry)` of their
    output and variable; nan agrees with nan. Mistakes are recognized by making them: a variant of
    the exact derivative (transposed, without a delta, with a dot product for an outer product, a
    term left out, a factor 2, ...) that equals what was given tells the name. Of more than four
    million entries random products are compared in place of each entry, so that a `Block` is
    checked that could never be written out; the report says so.

    Args:
        fun: any JAX function of arrays and trees of arrays.
        Dfun: its derivative: a function of the same arguments, called once with them as they are,
            outside `jit`, so that it may be NumPy code; or what such a function gives. That is an
            array of shape `out.shape + in.shape`, a `Block`, a `BlockMatrix`, or a tree of these as
            `blockjac.jacobian` gives it; lists may stand for tuples. Of a scalar function, what has
            as many entries as the Hessian, and not as many as the gradient, is compared with the
            Hessian.
        args: the point: arguments of `fun`.
        argnums: which of them to differentiate, as in `jacobian`.
        kwargs: keyword arguments of `fun` and `Dfun`.
        holomorphic: as in `jacobian`.
        rtol: relative tolerance; default 1e-9 in double precision, 1e-4 in single, 2e-2 in half,
            by the coarser of the two dtypes.
        atol: absolute tolerance; default 0, and `rtol` where the exact derivative is 0 throughout.

    Returns:
        A report: true if everything agrees. `str()` tells the mistakes, and the first entries that
        differ with both values; `.raise_if_wrong()` raises this text.

    Raises:
        TypeError: if `fun` is not a function, what was given is not an array, or as `jacobian`.
        ValueError: for `argnums` that do not fit the arguments.

    Examples:
        >>> import jax, numpy as np
        >>> import blockjac
        >>> def D_softmax(x):
        ...     v = np.asarray(jax.nn.softmax(x))
        ...     return np.diag(v) - v @ v.T
        >>> report = blockjac.check_jacobian(jax.nn.softmax, D_softmax, np.array([0.0, 1.0, 3.0]))
        >>> bool(report), report.mistakes
        (False, ('outer product is a dot product',))
        >>> first = report.differences[0]
        >>> first.output, first.input, round(float(first.given), 3), round(float(first.exact), 3)
        ((0,), (0,), -0.685, 0.04)
    """
    check_callable(fun, "check_jacobian")
    kwargs = kwargs or {}
    call = traced_call("check_jacobian", fun, argnums, args, kwargs, holomorphic=holomorphic)
    call.check_results()
    given = Dfun(*args, **kwargs) if callable(Dfun) else Dfun

    names = Names.of(fun, call, argnums, len(args))
    tolerance = Tolerance(rtol, atol)

    def report_of(derivative: str) -> JacobianReport:
        """The report on what was given as this derivative."""
        of = jacobian(fun, argnums, holomorphic=holomorphic) if derivative == "Hessian" else fun
        dense = jacobian(of, argnums, holomorphic=True) if holomorphic else None
        exact = (dense or block_jacobian(of, argnums))(*args, **kwargs)
        labels = names.leaves(call, derivative)
        program = Program(fun, args, kwargs, call) if derivative == "Jacobian" else None
        return report_on(given, exact, names.function, derivative, labels, tolerance, program)

    report = report_of("Hessian" if _is_hessian(given, call) else "Jacobian")
    if report.derivative == "Jacobian" and not report.right and _is_small_scalar(call):
        hessian = report_of("Hessian")  # without its delta it has as many entries as the gradient
        if hessian.tree is None and not hessian.count and hessian.leaves[0].compared:
            return hessian
    return report


def report_on(
    given: Any,
    exact: Any,
    function: str,
    derivative: str,
    labels: Sequence[tuple[str, tuple[int, ...]]],
    tolerance: Tolerance,
    program: Program | None,
) -> JacobianReport:
    """Compare a given derivative with the exact one, leaf by leaf.

    Args:
        given: a tree of arrays and Blocks.
        exact: the exact derivative.
        function: the function's name.
        derivative: which one: "Jacobian" or "Hessian".
        labels: the name of each leaf, and the shape of what is differentiated.
        tolerance: of equal entries.
        program: the function, if mistakes are to be looked for in its steps.
    """
    axes = Axes() if program is None else program.axes
    leaf_pairs = paired(given, exact)
    if isinstance(leaf_pairs, Mistake):
        return JacobianReport(function, derivative, tree=leaf_pairs)
    pairs = [
        (given_leaf, _as_block(exact_leaf, len(out_shape)))
        for (given_leaf, exact_leaf), (_, out_shape) in zip(leaf_pairs, labels, strict=True)
    ]
    reports = [
        compared(given_leaf, exact_leaf, label, tolerance, axes)
        for (given_leaf, exact_leaf), (label, _) in zip(pairs, labels, strict=True)
    ]
    leaves = with_exchanges(reports, pairs, tolerance)
    if program is not None:
        leaves = with_explanations(leaves, pairs, program, tolerance)
    return JacobianReport(function, derivative, tuple(leaves))


def _is_hessian(given: Any, call: Call) -> bool:
    """Whether a Hessian of a scalar function was given, by the number of entries."""
    if not call.has_one_number:
        return False
    shapes = entries(given)
    wrt = size([leaf.shape for leaf in call.inputs])
    if wrt != 1:
        return size(shapes) == wrt**2
    return len(shapes) == 1 and len(shapes[0]) > len(call.inputs[0].shape) > 0


def _is_small_scalar(call: Call) -> bool:
    """Whether a function is scalar, of one variable, with a Hessian that may be written out."""
    shapes = [leaf.shape for leaf in call.inputs]
    return call.has_one_number and len(shapes) == 1 and size(shapes) ** 2 <= MAX_ENTRIES


def _as_block(exact: Any, out_ndim: int) -> Block:
    return exact if isinstance(exact, Block) else Block.from_dense(exact, out_ndim)
