"""Writing files whole or not at all, into folders that were checked beforehand."""

import os
from pathlib import Path

from blockjac.errors import OutputPathError


def check_folder(folder: str | os.PathLike[str]) -> Path:
    """Make a folder if need be, and make sure that files can be written there.

    Args:
        folder: Where files shall go.

    Returns:
        The same as a path.

    Raises:
        OutputPathError: If the folder cannot be made, or no file can be written in it.

    Examples:
        >>> check_folder(".")
        PosixPath('.')
    """
    path = Path(folder)
    probe = path / f".blockjac-{os.getpid()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputPathError(
            f"cannot write in the folder '{path}': {error.strerror}; "
            "choose a folder that you may write in"
        ) from error
    return path


def check_file(file: str | os.PathLike[str]) -> Path:
    """Make sure that a file can be written, without touching it.

    Args:
        file: The file to be written.

    Returns:
        The same as a path.

    Raises:
        OutputPathError: If it is a folder, or its folder cannot be written in.

    Examples:
        >>> check_file("result.json")
        PosixPath('result.json')
    """
    path = Path(file)
    if path.is_dir():
        raise OutputPathError(f"'{path}' is a folder; wanted the name of a file to write")
    check_folder(path.parent)
    return path


def write_whole(file: str | os.PathLike[str], content: bytes) -> Path:
    """Write a file under another name, and give it its own only when it is complete.

    Args:
        file: The file to write; an old one is replaced.
        content: All of it.

    Returns:
        The file's path.

    Raises:
        OutputPathError: If it cannot be written; an old file is then as it was.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(Path(folder) / "note.txt", b"all of it").read_bytes()
        b'all of it'
    """
    path = Path(os.path.realpath(file))  # what a link points to is written, the link stays
    if path.exists() and not path.is_file():  # a device or a pipe has no other name to write to
        try:
            path.write_bytes(content)
        except OSError as error:
            raise OutputPathError(f"cannot write '{path}': {error.strerror}") from error
        return path
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError as error:
        raise OutputPathError(f"cannot write '{path}': {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return path
