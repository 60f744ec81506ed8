"""Picture files and blank axes."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from blockjac.errors import FileFormatError, MissingExtraError
from blockjac.optimize.files import check_file, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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

    Examples:
        >>> check_picture("loss.png")
        PosixPath('loss.png')
    """
    path = Path(file)
    if path.suffix.lower() not in {".png", ".svg"}:
        raise FileFormatError(
            f"'{path}' ends in '{path.suffix}'; wanted a picture's name that ends in .png or .svg"
        )
    try:
        import matplotlib  # pyright: ignore[reportUnusedImport]  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "pictures are drawn by matplotlib, which is not installed; pip install 'blockjac[app]'"
        ) from error
    return check_file(path)


def blank(title: str, horizontal: str, vertical: str) -> tuple[Figure, Axes]:
    """An empty picture with a light grid."""
    from matplotlib import figure as figures

    figure = figures.Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel(horizontal)
    axes.set_ylabel(vertical)
    axes.grid(color="#dddddd", linewidth=0.7, which="both")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def legend_below(axes: Axes, title: str | None = None) -> None:
    """Name what is drawn below the picture, where it covers nothing."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.figure.legend(
            handles=handles, loc="outside lower center", ncols=2, frameon=False, title=title
        )


def label_plainly(axes: Axes) -> None:
    """Write 0.2, 0.5, 1 along a logarithmic axis, not powers of ten."""
    from matplotlib.ticker import LogLocator

    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")


def save_picture(figure: Figure, file: str | os.PathLike[str]) -> Path:
    """Save a picture whole, in the format of its suffix: equal pictures are equal files."""
    import matplotlib as mpl

    picture, suffix = io.BytesIO(), Path(file).suffix.lower()[1:]
    metadata = {"Date": None} if suffix == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "blockjac"}):
        figure.savefig(picture, format=suffix, dpi=150, metadata=metadata)
    return write_whole(file, picture.getvalue())
