"""Pictures of a line search and of a descent, as PNG or SVG files.

matplotlib is imported only when a picture is drawn, and used through its objects alone: no window,
no global state, no backend to choose.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from blockjac.engine.run import compiled
from blockjac.errors import InvalidOptionError
from blockjac.optimize.line_search import ARMIJO, Backtracking, Status, backtrack
from blockjac.optimize.parameters import as_arrays, check_scalar, inner_product, move
from blockjac.optimize.pictures import (
    blank,
    check_picture,
    label_plainly,
    legend_below,
    save_picture,
)
from blockjac.transforms.first_order import value_and_grad

BLUE, ORANGE, GREEN, RED, GREY = "#1f5fa8", "#d9730d", "#2c8a4b", "#b3261e", "#6b6b6b"


class LineProfile(NamedTuple):
    """A loss along a line, and what a line search made of it; all fields are arrays."""

    steps: Array
    """Where the loss was evaluated, in multiples of the direction, ascending, shape `(points,)`."""
    values: Array
    """The loss there, shape `(points,)`."""
    start: Array
    """The loss at step 0."""
    slope: Array
    """The derivative of the loss along the direction at step 0."""
    alpha: Array
    """The share of the predicted decrease that was asked for."""
    accepted_step: Array
    """The step that the search accepted, or 0."""
    accepted_value: Array
    """The loss there."""
    rejected_step: Array
    """The last step that the search rejected, or nan."""
    rejected_value: Array
    """The loss there."""
    status: Array
    """How the search ended, a number of `Status`."""


def line_profile(
    loss: Callable[..., ArrayLike],
    params: Any,
    *data: Any,
    direction: Any = None,
    line_search: Backtracking = ARMIJO,
    points: int = 201,
) -> LineProfile:
    """Search along a line, and evaluate the loss all along the part of it that mattered.

    Put it under `jit` to look at several lines with one compilation.

    Args:
        loss: `loss(params, *data)` gives one real number.
        params: Where the line starts, any pytree of real arrays.
        *data: Further arguments of the loss.
        direction: Where it goes, the same tree; the negative gradient if left out.
        line_search: The search to show.
        points: How many points of the line to evaluate, at least 2.

    Returns:
        The loss from a little behind the start to a little beyond the last rejected step.

    Raises:
        InvalidOptionError: If there are fewer than 2 points.
        NonScalarLossError: If the loss gives anything but one real number.
        ShapeMismatchError: If the direction's tree is not that of the parameters.

    Examples:
        >>> profile = line_profile(lambda x: x**2, 3.0)
        >>> print(profile.slope, profile.accepted_step, profile.rejected_step)
        -36.0 0.5 1.0
    """
    if points < 2:
        raise InvalidOptionError(f"points is {points}; wanted at least 2")
    check_scalar(loss, params, *data)
    evaluate = compiled(partial(_evaluate, loss, line_search, points))
    return evaluate(as_arrays(params), direction, data)


def _evaluate(
    loss: Callable[..., ArrayLike],
    line_search: Backtracking,
    points: int,
    params: Any,
    direction: Any,
    data: tuple[Any, ...],
) -> LineProfile:
    """The numbers of `line_profile`."""
    value, gradient = value_and_grad(loss)(params, *data)
    if direction is None:
        direction = jax.tree.map(jnp.negative, gradient)
    search = backtrack(
        loss, params, direction, gradient, *data, value=value, line_search=line_search
    )
    accepted = search.status == Status.FOUND
    rejections = search.trials - accepted
    last_rejected = line_search.first_step * line_search.beta ** (rejections - 1.0)
    tried = jnp.where(accepted, search.step, line_search.first_step)
    far = jnp.where(rejections > 0, last_rejected, tried)
    rejected = jnp.where(rejections > 0, last_rejected, jnp.nan)
    steps = jnp.append(far * jnp.linspace(-0.3, 1.1, points), rejected)

    def value_at(step: Array) -> ArrayLike:
        return loss(move(params, step, direction), *data)

    values = cast("Array", lax.map(value_at, steps))
    return LineProfile(
        steps=steps[:-1],
        values=values[:-1],
        start=value,
        slope=inner_product(gradient, direction),
        alpha=jnp.asarray(line_search.alpha),
        accepted_step=search.step,
        accepted_value=search.value,
        rejected_step=steps[-1],
        rejected_value=values[-1],
        status=search.status,
    )


def plot_line_search(
    file: str | os.PathLike[str], profile: LineProfile, *, title: str = "Line search"
) -> Path:
    """Draw a loss along a direction, its tangent, the Armijo line, and the accepted step.

    Args:
        file: Where to save the picture; its suffix, `.png` or `.svg`, is the format.
        profile: What `line_profile` found.
        title: The picture's title.

    Returns:
        The file's path.

    Raises:
        FileFormatError: If the suffix is neither `.png` nor `.svg`.
        OutputPathError: If the file cannot be written.
        MissingExtraError: If matplotlib is not installed.

    Examples:
        >>> import tempfile
        >>> profile = line_profile(lambda x: x**2, 3.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_line_search(Path(folder) / "search.svg", profile).name
        'search.svg'
    """
    check_picture(file)
    profile = jax.device_get(profile)
    steps, start, slope, alpha = profile.steps, profile.start, profile.slope, profile.alpha
    status = Status(int(profile.status))
    figure, axes = blank(title, "step t along the direction d", "loss f(x + t d)")
    axes.plot(steps, profile.values, color=BLUE, linewidth=2, label="loss f(x + t d)")
    armijo = f"Armijo line, f(x) + {alpha:.3g} t ⟨g, d⟩"
    axes.plot(steps, start + alpha * slope * steps, color=ORANGE, linestyle="--", label=armijo)
    tangent = "tangent, f(x) + t ⟨g, d⟩"
    axes.plot(steps, start + slope * steps, color=GREY, linestyle=":", label=tangent)
    axes.plot(0, start, "o", color=GREY, markersize=7, label="start")
    if np.isfinite(profile.rejected_step):
        rejected = f"last rejected, t = {profile.rejected_step:.4g}"
        point = profile.rejected_step, profile.rejected_value
        axes.plot(*point, "X", color=RED, markersize=9, label=rejected)
    if status is Status.FOUND:
        accepted = f"accepted, t = {profile.accepted_step:.4g}"
        point = profile.accepted_step, profile.accepted_value
        axes.plot(*point, "o", color=GREEN, markersize=9, label=accepted)
    axes.set_ylim(*_window(profile))
    axes.set_xlim(float(steps[0]), float(steps[-1]))
    legend_below(axes, title=None if status is Status.FOUND else status.message)
    return save_picture(figure, file)


def _window(profile: LineProfile) -> tuple[float, float]:
    """The heights that show the curve where it is finite, and a stretch of the tangent."""
    shown = profile.values[np.isfinite(profile.values)]
    low, high = min(shown, default=profile.start), max(shown, default=profile.start)
    room = (high - low) or abs(profile.start) or 1.0
    return float(low - 0.35 * room), float(high + 0.08 * room)


def plot_history(
    file: str | os.PathLike[str],
    values: Array | Sequence[float],
    *,
    title: str,
    quantity: str,
    start: float | None = None,
    log_base: int | None = None,
    levels: Mapping[str, float] | None = None,
    limits: tuple[float, float] | None = None,
    markers_only: bool = False,
) -> Path:
    """Draw one number per step of a descent.

    Args:
        file: Where to save the picture; its suffix, `.png` or `.svg`, is the format.
        values: The numbers, shape `(steps,)`.
        title: The picture's title.
        quantity: What the numbers are, with their unit: the name of the vertical axis.
        start: The number before the first step, drawn as a level, if there is one.
        log_base: Base of a logarithmic vertical axis; an even one if left out.
        levels: Other numbers to compare with, drawn as levels, by name.
        limits: The lowest and highest number of the vertical axis; those of the data if left out.
        markers_only: Whether to leave out the line from step to step, which says nothing where the
            numbers jump between a few values.

    Returns:
        The file's path.

    Raises:
        FileFormatError: If the suffix is neither `.png` nor `.svg`.
        OutputPathError: If the file cannot be written.
        MissingExtraError: If matplotlib is not installed.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "loss.png"
        ...     plot_history(path, [3.0, 2.0, 1.5], title="Loss", quantity="loss").name
        'loss.png'
    """
    check_picture(file)
    from matplotlib.ticker import MaxNLocator

    figure, axes = blank(title, "step", quantity)
    numbers = np.asarray(values)
    axes.plot(
        numbers,
        color=BLUE,
        linewidth=1.1,
        linestyle="none" if markers_only else "-",
        marker="o" if markers_only or len(numbers) <= 200 else None,
        markersize=3.2,
        label=f"last: {numbers[-1]:.4g}" if len(numbers) else None,
    )
    if log_base is not None:
        axes.set_yscale("log", base=log_base)
    if log_base == 10:
        label_plainly(axes)
    if start is not None:
        axes.axhline(start, color=GREY, linestyle=":", label=f"before the first step: {start:.4g}")
    for name, level in (levels or {}).items():
        axes.axhline(level, color=GREEN, linestyle="--", label=f"{name}: {level:.4g}")
    if limits is not None:
        axes.set_ylim(*limits)
    legend_below(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    return save_picture(figure, file)
