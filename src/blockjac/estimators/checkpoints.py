"""States of interrupted fits, from which they go on bit for bit.

A fit is a number of loops of steps, one for each width that is tried. The state of each loop is
kept under a digest of all that it depends on: rows, options, initial parameters. Whoever fits the
same again finds the state, and goes on there; a loop that is not found begins anew. Thus nobody has
to say where a program of several fits stood, and a state never slips into another training.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

import jax
import numpy as np

from blockjac.errors import BlockjacError, InvalidOptionError
from blockjac.estimators.archive import Format, digest_of, read_archive, write_archive

FORMAT = Format("blockjac checkpoint", 1, "blockjac.estimators.Checkpoint")

_ACTIVE: ContextVar[States | None] = ContextVar("checkpoint", default=None)


class Checkpoint(AbstractContextManager["Checkpoint"]):
    """A file that keeps the state of fits, so that interrupted ones go on where they stood.

    All fits inside of the `with` are kept: those of a pipeline or of a cross-validation, too, as
    far as they run in this process. Killed at any instant and run again, the same program finds the
    file and ends with the same numbers, bit for bit, as if it had not been interrupted. On Ctrl-C
    the step is finished and saved before `KeyboardInterrupt` is raised; a second Ctrl-C does not
    wait. The file is removed after the last fit, when the `with` ends without an error.

    Args:
        file: The file's name; if it exists, its states are used.
        seconds: How much time may be lost; states are saved when the last time lies so far back.
        about: Any JSON value, kept with the states, to be found as `about` later.
        is_kept: Whether the file stays when all has ended well.

    Raises:
        FileFormatError: If there is a file by this name that is not a checkpoint, or damaged.
        InvalidOptionError: If `seconds` is not a number from 0 on.
        OutputPathError: If the file cannot be written at the start. Later on this is a warning: the
            training goes on, and the last state that was saved stays.

    Examples:
        >>> import tempfile
        >>> from sklearn.datasets import load_wine
        >>> from blockjac.estimators import Checkpoint, FeedforwardClassifier
        >>> X, y = load_wine(return_X_y=True)
        >>> with tempfile.TemporaryDirectory() as folder, Checkpoint(f"{folder}/wine.npz"):
        ...     model = FeedforwardClassifier((4,), random_state=0).fit(X, y)
        >>> model.converged_
        True
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        *,
        seconds: float = 30.0,
        about: Any = None,
        is_kept: bool = False,
    ) -> None:
        if not seconds >= 0:
            raise InvalidOptionError(f"seconds is {seconds!r}, but must be a number of at least 0")
        self.is_kept = is_kept
        self.states = States(Path(file), float(seconds), about)
        self.has_states = self.states.file.exists()
        if self.has_states:
            self.states.read()
        self._before: Any = None
        self._token: Token[States | None] | None = None

    @property
    def about(self) -> Any:
        """What was kept with the states."""
        return self.states.about

    def __enter__(self) -> Self:
        self.states.save()
        self._token = _ACTIVE.set(self.states)
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self.states.on_signal)
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if self._token is not None:
            _ACTIVE.reset(self._token)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)
        if kind is None and not self.is_kept:
            self.states.file.unlink(missing_ok=True)


@dataclass
class States:
    """The states of loops, and the file that keeps them.

    Attributes:
        file: that keeps them.
        seconds: between two writings.
        about: any JSON value, kept with them.
        leaves: arrays of the state of each loop, by the digest of what it depends on.
        running: how many loops make steps now.
        is_asked: whether somebody has pressed Ctrl-C in one of them.
        saved_at: when the file was written, by the monotonic clock.
    """

    file: Path
    seconds: float
    about: Any
    leaves: dict[str, list[Any]] = field(default_factory=dict)
    running: int = 0
    is_asked: bool = False
    saved_at: float = 0.0

    def read(self) -> None:
        """Take what the file holds.

        Raises:
            FileFormatError: if it is not a checkpoint, or damaged.
        """
        header, arrays = read_archive(self.file, FORMAT)
        self.about = header["about"]
        for key, count in header["loops"].items():
            self.leaves[key] = [arrays[f"{key}.{number}"] for number in range(count)]

    def save(self) -> None:
        """Write all states that are known, whole or not at all.

        Raises:
            OutputPathError: if the file cannot be written; the old one is then as it was.
        """
        arrays = {
            f"{key}.{number}": np.asarray(leaf)
            for key, leaves in self.leaves.items()
            for number, leaf in enumerate(leaves)
        }
        loops = {key: len(leaves) for key, leaves in self.leaves.items()}
        write_archive(self.file, FORMAT, {"about": self.about, "loops": loops}, arrays)
        self.saved_at = time.monotonic()

    def take(self, key: str, state: Any) -> None:
        """Keep the state of a loop, and save it if it is time.

        Args:
            key: of the loop.
            state: any tree of arrays.

        Raises:
            KeyboardInterrupt: if somebody has pressed Ctrl-C.
        """
        self.leaves[key] = jax.tree.leaves(state)
        is_due = time.monotonic() - self.saved_at >= self.seconds
        if not is_due and not self.is_asked:
            return
        try:
            self.save()
        except BlockjacError as error:
            self.saved_at = time.monotonic()
            warnings.warn(f"{error}; the training goes on", RuntimeWarning, stacklevel=2)
        if self.is_asked:
            self.running = 0
            raise KeyboardInterrupt(f"stopped after a step; the state is in '{self.file}'")

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Let the step that runs end first; stop at once where none does, or when asked again."""
        if not self.running or self.is_asked:
            raise KeyboardInterrupt
        self.is_asked = True


class Loop:
    """The steps of one fit, which a checkpoint may keep; without one, it does nothing.

    Args:
        *dependencies: all that the steps depend on: arrays, trees of them, and text.
    """

    def __init__(self, *dependencies: Any) -> None:
        self.states = _ACTIVE.get()
        if self.states is not None:
            self.states.running += 1
            self.key = digest_of(*jax.tree.leaves(dependencies))

    def restored(self, start: Any) -> Any:
        """The state that was kept, as arrays of NumPy; `start` if there is none.

        Args:
            start: the state before the first step, any tree of arrays.
        """
        if self.states is None or self.key not in self.states.leaves:
            return start
        return jax.tree.unflatten(jax.tree.structure(start), self.states.leaves[self.key])

    def keep(self, state: Any) -> None:
        """Keep a state, after each step.

        Raises:
            KeyboardInterrupt: if somebody has pressed Ctrl-C; the state is saved then.
        """
        if self.states is not None:
            self.states.take(self.key, state)

    def end(self) -> None:
        """Say that there are no more steps."""
        if self.states is not None:
            self.states.running = max(self.states.running - 1, 0)
