"""Lines on standard output, and on a terminal a bar below them."""

import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class OnTerminal:
    """Has a bar while its `with` lasts, on a terminal with rich installed."""

    def __init__(self) -> None:
        self._bar: Progress | None = _bar() if sys.stdout.isatty() else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


class Reporter(OnTerminal):
    """Prints lines; on a terminal, with rich installed, a bar below them shows how far it is.

    Into a pipe or a file go the lines and nothing else.

    Args:
        total: How many steps there will be.

    Examples:
        >>> with Reporter(2) as reporter:
        ...     reporter.lines(["one", "two"])
        one
        two
    """

    def __init__(self, total: int) -> None:
        super().__init__()
        self._task: TaskID | None = self._bar and self._bar.add_task("compiling", total=total)

    def lines(self, texts: list[str]) -> None:
        """Print lines at once, each a step done."""
        if self._bar is None or self._task is None:
            print("".join(f"{text}\n" for text in texts), end="", flush=True)
            return
        for text in texts:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._bar.update(self._task, description="training", advance=len(texts))

    def doing(self, what: str) -> None:
        """Name what is done now."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=what)


def _bar() -> "Progress | None":
    """A bar that vanishes in the end, if rich is installed."""
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
    except ImportError:
        return None
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        transient=True,
    )
