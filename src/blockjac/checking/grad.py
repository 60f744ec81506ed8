"""`check_grad`: the gradient of a scalar function, as learners write it, beside the exact one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from blockjac.base.trees import flattened
from blockjac.checking.check import report_on
from blockjac.checking.compare import Tolerance, distance, equal, in_double, largest
from blockjac.checking.differences import witness
from blockjac.checking.names import Names
from blockjac.checking.program_mistakes import Program
from blockjac.checking.report import Difference, JacobianReport, LeafReport, Mistake
from blockjac.checking.trees import is_leaf, paired
from blockjac.checking.values import PLACES
from blockjac.engine.arguments import ArgNums, check_callable, traced_call
from blockjac.errors import NonScalarLossError
from blockjac.transforms.first_order import grad


def check_grad(
    fun: Callable[..., Any],
    Dfun: Any,
    *args: Any,
    argnums: ArgNums = 0,
    kwargs: dict[str, Any] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> JacobianReport:
    """Compare a hand-written gradient with the exact one, and name its mistake.

    What was given is compared with what each of many mistakes would give: a sum over the batch left
    out or taken over another axis, a matrix transposed, a path or a term left out, another layer's
    input, a derivative left out, taken twice or at the wrong array, a target forgotten, and so on,
    in each place of the function's program. A mistake that explains all wrong leaves is preferred
    to one that explains some, and a simple one to an odd one; two that give the same array at this
    point cannot be told from each other. Where nothing is recognized, central differences of the
    function say who is right.

    Args:
        fun: a JAX function with one real scalar result.
        Dfun: its gradient: a function of the same arguments, called once with them as they are,
            outside `jit`, so that it may be NumPy code; or what such a function gives. That is a
            tree of arrays as `blockjac.grad` gives it, lists for tuples, or a pair of the
            function's value and that tree.
        args: the point: arguments of `fun`.
        argnums: which of them to differentiate, as in `grad`.
        kwargs: keyword arguments of `fun` and `Dfun`.
        rtol: relative tolerance; default 1e-9 in double precision, 1e-4 in single, 2e-2 in half,
            by the coarser of the two dtypes, and more where the terms of the gradient cancel.
        atol: absolute tolerance; default 0, and `rtol` where the exact gradient is 0 throughout.

    Returns:
        A report: true if everything agrees. `str()` tells the mistakes, and the first entries that
        differ with both values; `.raise_if_wrong()` raises this text.

    Raises:
        TypeError: if `fun` is not a function or not scalar, what was given is not an array, or as
            `grad`.
        ValueError: for `argnums` that do not fit the arguments.

    Examples:
        >>> import jax.numpy as jnp, numpy as np
        >>> import blockjac
        >>> X, y = np.array([[1.0, 2.0], [3.0, 5.0], [0.0, 1.0]]), np.array([1.0, 0.0, 2.0])
        >>> def loss(w):
        ...     return 0.5 * jnp.sum((X @ w - y) ** 2)
        >>> w = np.array([0.5, -1.0])
        >>> bool(blockjac.check_grad(loss, lambda w: X.T @ (X @ w - y), w))
        True
        >>> blockjac.check_grad(loss, lambda w: X.T @ (X @ w), w).mistakes
        ('missing term',)
    """
    check_callable(fun, "check_grad")
    kwargs = kwargs or {}
    call = traced_call("check_grad", fun, argnums, args, kwargs)
    call.check_results()
    if not call.has_one_number:
        shapes = ", ".join(str(result.shape) for result in call.results) or "nothing"
        raise NonScalarLossError(
            f"check_grad compares the gradient of one number, but {call.graph_name} gives results "
            f"of shape {shapes}; use check_jacobian, or sum the result"
        )
    given = Dfun(*args, **kwargs) if callable(Dfun) else Dfun
    exact = grad(fun, argnums)(*args, **kwargs)
    value, given = _without_value(given, exact)
    tolerance = Tolerance(rtol, atol)
    labels = Names.of(fun, call, argnums, len(args)).leaves(call, "gradient")
    program = Program(fun, args, kwargs, call)
    report = report_on(given, exact, call.graph_name, "gradient", labels, tolerance, program)
    if value is not None:
        report = _with_value(report, value, fun(*args, **kwargs), tolerance)
    if any(_is_unnamed(leaf) for leaf in report.leaves):
        arrays = [np.asarray(leaf) for leaf in flattened(exact)[0]]
        note = witness(program, [in_double(leaf) for leaf in _leaves(given, exact)], arrays)
        report = replace(report, notes=(*report.notes, note) if note else report.notes)
    return report


def _without_value(given: Any, exact: Any) -> tuple[Any, Any]:
    """A value and a gradient, if they were given as a pair; else None and the gradient.

    Two numbers by two scalar arguments are a gradient.
    """
    is_pair = isinstance(given, tuple | list) and len(cast("Sequence[Any]", given)) == 2
    given = cast("Any", given)
    if not is_pair or not isinstance(paired(given, exact), Mistake):
        return None, given
    value, gradient = given
    if not is_leaf(value) or np.shape(value) != () or isinstance(paired(gradient, exact), Mistake):
        return None, given
    return value, gradient


def _with_value(
    report: JacobianReport, value: Any, exact: Any, tolerance: Tolerance
) -> JacobianReport:
    """The report with a line on the value, if that is wrong."""
    number, wanted = in_double(value), in_double(exact)
    dtypes = np.asarray(value).dtype, np.asarray(exact).dtype
    wrong = ~equal(number, wanted, tolerance.limit(*dtypes, largest(wanted)))
    if not wrong:
        return report
    mistake = Mistake("wrong value", "the function's own value, in front of the gradient, is wrong")
    name = report.function
    difference = Difference(name, (), (), number.item(), wanted.item())
    apart = distance(number[None], wanted[None], wrong[None])
    leaf = LeafReport(name, (), (), (), (difference,), 1, apart, (mistake,))
    return replace(report, leaves=(leaf, *report.leaves))


def _is_unnamed(leaf: LeafReport) -> bool:
    return leaf.count > 0 and all(mistake.name in PLACES for mistake in leaf.mistakes)


def _leaves(given: Any, exact: Any) -> list[Any]:
    """What was given, leaf by leaf."""
    pairs = paired(given, exact)
    return [] if isinstance(pairs, Mistake) else [leaf for leaf, _ in pairs]
