"""Pictures of a line search and of a descent, as PNG or SVG files.

matplotlib is imported only when a picture is drawn, and used through its objects alone: no window,
no global state, no backend to choose.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from numpy.typing import NDArray

from blockjac.errors import FileFormatError, InvalidOptionError, MissingExtraError
from blockjac.optimize.files import check_file, write_whole
from blockjac.optimize.line_search import (
    ARMIJO,
    Backtracking,
    Status,
    backtrack,
    inner_product,
    move,
)
from blockjac.transforms import value_and_grad

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, GREY = "#1f5fa8", "#d9730d", "#2c8a4b", "#b3261e", "#6b6b6b"
LEGEND: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "framealpha": 0.85}


class LineProfile(NamedTuple):
    """A loss along a line, and what a line search made of it."""

    steps: NDArray[np.floating]
    """Where the loss was evaluated, in multiples of the direction: ascending, one axis."""
    values: NDArray[np.floating]
    """The loss there, on the same axis."""
    start: float
    """The loss at step 0."""
    slope: float
    """The derivative of the loss along the direction at step 0."""
    accepted_step: float
    """The step that the search accepted, or 0."""
    accepted_value: float
    """The loss there."""
    rejected_step: float | None
    """The last step that the search rejected, if any."""
    rejected_value: float | None
    """The loss there."""
    alpha: float
    """The share of the predicted decrease that was asked for."""
    status: Status
    """How the search ended."""


def line_profile(
    loss: Callable[..., ArrayLike],
    params: Any,
    *data: Any,
    direction: Any = None,
    line_search: Backtracking = ARMIJO,
    points: int = 201,
) -> LineProfile:
    """Search along a line, and evaluate the loss all along the part of it that mattered.

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
        ShapeMismatchError: If the direction's tree is not that of the parameters.

    Example:
        >>> profile = line_profile(lambda x: x**2, 3.0)
        >>> profile.slope, profile.accepted_step, profile.rejected_step
        (-36.0, 0.5, 1.0)
    """
    if points < 2:
        raise InvalidOptionError(f"points is {points}; wanted at least 2")

    @jax.jit
    def search(params: Any, direction: Any, data: Any) -> Any:
        value, gradient = value_and_grad(loss)(params, *data)
        direction = jax.tree.map(jnp.negative, gradient) if direction is None else direction
        found = backtrack(
            loss, params, direction, gradient, *data, value=value, line_search=line_search
        )
        return value, inner_product(gradient, direction), direction, found

    @jax.jit
    def along(steps: ArrayLike, params: Any, direction: Any, data: Any) -> Any:
        return lax.map(lambda step: loss(move(params, step, direction), *data), steps)

    value, slope, direction, found = search(params, direction, data)
    tried = [line_search.first_step * line_search.beta**k for k in range(int(found.trials))]
    rejected = tried[:-1] if found.status == Status.FOUND else tried
    far = max([*rejected[-1:], float(found.step)]) or line_search.first_step
    steps = np.sort([*np.linspace(-0.3 * far, 1.1 * far, points), *rejected[-1:]])
    values = np.asarray(along(steps, params, direction, data))
    return LineProfile(
        steps,
        values,
        float(value),
        float(slope),
        float(found.step),
        float(found.value),
        rejected[-1] if rejected else None,
        float(values[np.searchsorted(steps, rejected[-1])]) if rejected else None,
        line_search.alpha,
        Status(int(found.status)),
    )


def plot_line_search(
    file: str | os.PathLike[str],
    loss: Callable[..., ArrayLike],
    params: Any,
    *data: Any,
    direction: Any = None,
    line_search: Backtracking = ARMIJO,
    title: str = "Line search",
) -> Path:
    """Draw a loss along a direction, its tangent, the Armijo line, and the accepted step.

    Args:
        file: Where to save the picture; its suffix, `.png` or `.svg`, is the format.
        loss: `loss(params, *data)` gives one real number.
        params: Where the line starts, any pytree of real arrays.
        *data: Further arguments of the loss.
        direction: Where it goes, the same tree; the negative gradient if left out.
        line_search: The search to show.
        title: The picture's title.

    Returns:
        The file's path.

    Raises:
        FileFormatError: If the suffix is neither `.png` nor `.svg`.
        OutputPathError: If the file cannot be written.
        MissingExtraError: If matplotlib is not installed.
        ShapeMismatchError: If the direction's tree is not that of the parameters.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_line_search(Path(folder) / "search.svg", lambda x: x**2, 3.0).name
        'search.svg'
    """
    check_picture(file)
    profile = line_profile(loss, params, *data, direction=direction, line_search=line_search)
    figure, axes = _blank(title, "step t along the direction d", "loss f(x + t d)")
    steps, start, slope = profile.steps, profile.start, profile.slope
    armijo = start + profile.alpha * slope * steps
    axes.plot(steps, profile.values, color=BLUE, linewidth=2, label="loss f(x + t d)")
    axes.plot(
        steps,
        armijo,
        color=ORANGE,
        linestyle="--",
        label=f"Armijo line, f(x) + {profile.alpha:g} t ⟨g, d⟩",
    )
    axes.plot(
        steps, start + slope * steps, color=GREY, linestyle=":", label="tangent, f(x) + t ⟨g, d⟩"
    )
    axes.plot(0, start, "o", color=GREY, markersize=7, label="start")
    if profile.rejected_step is not None:
        axes.plot(
            profile.rejected_step,
            profile.rejected_value,
            "X",
            color=RED,
            markersize=9,
            label=f"last rejected, t = {profile.rejected_step:.4g}",
        )
    if profile.status is Status.FOUND:
        axes.plot(
            profile.accepted_step,
            profile.accepted_value,
            "o",
            color=GREEN,
            markersize=9,
            label=f"accepted, t = {profile.accepted_step:.4g}",
        )
    axes.set_ylim(*_window(profile))
    axes.set_xlim(steps[0], steps[-1])
    axes.legend(**LEGEND, title=None if profile.status is Status.FOUND else profile.status.message)
    return _save(figure, file)


def _window(profile: LineProfile) -> tuple[float, float]:
    """The heights that show the curve where it is finite, and a stretch of the tangent."""
    shown = profile.values[np.isfinite(profile.values)]
    low, high = min(shown, default=profile.start), max(shown, default=profile.start)
    room = (high - low) or abs(profile.start) or 1.0
    return low - 0.35 * room, high + 0.08 * room


def plot_history(
    file: str | os.PathLike[str],
    values: ArrayLike,
    *,
    title: str,
    quantity: str,
    start: float | None = None,
    log_base: int | None = None,
) -> Path:
    """Draw one number a step of a descent.

    Args:
        file: Where to save the picture; its suffix, `.png` or `.svg`, is the format.
        values: The numbers, shape `(steps,)`.
        title: The picture's title.
        quantity: What the numbers are, with their unit: the name of the vertical axis.
        start: The number before the first step, drawn as a level, if there is one.
        log_base: Base of a logarithmic vertical axis; an even one if left out.

    Returns:
        The file's path.

    Raises:
        FileFormatError: If the suffix is neither `.png` nor `.svg`.
        OutputPathError: If the file cannot be written.
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "loss.png"
        ...     plot_history(path, [3.0, 2.0, 1.5], title="Loss", quantity="loss").name
        'loss.png'
    """
    check_picture(file)
    values = np.asarray(values)
    figure, axes = _blank(title, "step", quantity)
    marker = "o" if len(values) <= 200 else None
    axes.plot(values, color=BLUE, linewidth=1.1, marker=marker, markersize=3.2)
    if log_base is not None:
        axes.set_yscale("log", base=log_base)
    if log_base == 10:
        _label_plainly(axes)
    if start is not None:
        axes.axhline(start, color=GREY, linestyle=":", label=f"before the first step: {start:.4g}")
        axes.legend(**LEGEND)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _save(figure, file)


def check_picture(file: str | os.PathLike[str]) -> Path:
    """Make sure that a picture can be drawn and saved under a name.

    Args:
        file: Where to save it; its suffix, `.png` or `.svg`, is the format.

    Returns:
        The same as a path.

    Raises:
        FileFormatError: If the suffix is neither `.png` nor `.svg`.
        OutputPathError: If the file cannot be written.
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> check_picture("loss.png")
        PosixPath('loss.png')
    """
    path = Path(file)
    if path.suffix.lower() not in {".png", ".svg"}:
        raise FileFormatError(
            f"'{path}' ends in '{path.suffix}'; wanted a picture's name that ends in .png or .svg"
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "pictures are drawn by matplotlib, which is not installed; pip install 'blockjac[app]'"
        ) from error
    return check_file(path)


def _blank(title: str, horizontal: str, vertical: str) -> "tuple[Figure, Axes]":
    """An empty picture with a light grid."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel(horizontal)
    axes.set_ylabel(vertical)
    axes.grid(color="#dddddd", linewidth=0.7, which="both")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _label_plainly(axes: "Axes") -> None:
    """Write 0.2, 0.5, 1 along a logarithmic axis, not powers of ten."""
    from matplotlib.ticker import LogLocator

    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")


def _save(figure: "Figure", file: str | os.PathLike[str]) -> Path:
    """Save a picture whole, in the format of its suffix: equal pictures are equal files."""
    from matplotlib import rc_context

    picture, suffix = io.BytesIO(), Path(file).suffix.lower()[1:]
    metadata = {"Date": None} if suffix == "svg" else {"Software": None}
    with rc_context({"svg.hashsalt": "blockjac"}):
        figure.savefig(picture, format=suffix, dpi=150, metadata=metadata)
    return write_whole(file, picture.getvalue())
