"""Arrays and JSON in one .npz file, of which nothing is ever run.

`numpy.load` is called with `allow_pickle=False`, and a checksum over the header and all arrays
finds files that were damaged or changed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blockjac.base.damage import DAMAGED
from blockjac.errors import FileFormatError, OutputPathError
from blockjac.estimators.tables import Numbers
from blockjac.optimize.files import check_file, write_whole

HEADER = "header"
"""The name of the array that holds the JSON, as bytes."""


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: in the header.
        version: the latest that can be read, and the one that is written.
        writer: who writes such files, for messages.
    """

    name: str
    version: int
    writer: str


def write_archive(
    file: str | os.PathLike[str],
    kind: Format,
    header: Mapping[str, Any],
    arrays: Mapping[str, Numbers],
) -> Path:
    """Write a file, whole or not at all; equal contents are equal files.

    Args:
        file: its name.
        kind: of the file.
        header: what JSON can hold.
        arrays: by name, of numbers or text.

    Raises:
        OutputPathError: if it cannot be written; an old file is then as it was.
    """
    whole = {
        "format": kind.name,
        "version": kind.version,
        "blockjac": own_version(),
        **header,
    }
    whole["checksum"] = _checksum(whole, arrays)
    text = json.dumps(whole, indent=1).encode()
    content = io.BytesIO()
    stored: dict[str, Any] = {HEADER: np.frombuffer(text, np.uint8), **arrays}
    np.savez_compressed(content, **stored)
    return write_whole(check_file(file), content.getvalue())


def read_archive(file: str | os.PathLike[str], kind: Format) -> tuple[dict[str, Any], Any]:
    """The header and the arrays of a file, compared with its checksum.

    Args:
        file: its name.
        kind: that it must be of.

    Raises:
        FileFormatError: if it is of another kind, damaged, changed, or of a later version.
        OutputPathError: if it cannot be read.
    """
    path = Path(file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OutputPathError(f"cannot read '{path}': {error.strerror}") from error
    wanted = f"wanted a file that {kind.writer} wrote"
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(arrays.pop(HEADER).tobytes())
    except DAMAGED as error:
        raise FileFormatError(f"'{path}' is damaged or of another kind; {wanted}") from error
    if not isinstance(header, dict) or header.get("format") != kind.name:
        raise FileFormatError(f"'{path}' is of another kind; {wanted}")
    if not isinstance(header.get("version"), int) or header["version"] > kind.version:
        raise FileFormatError(
            f"'{path}' was written by blockjac {header.get('blockjac')} in version "
            f"{header.get('version')} of its format, and this one reads up to version "
            f"{kind.version}; install that blockjac"
        )
    if header.get("checksum") != _checksum(header, arrays):
        raise FileFormatError(
            f"'{path}' was damaged or changed after it was written: its contents are not those "
            "that its checksum is of"
        )
    return header, arrays


def own_version() -> str:
    """The version of the package; unknown where it runs from its sources alone."""
    try:
        return importlib.metadata.version("blockjac")
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def digest_of(*values: Any) -> str:
    """A digest of arrays and of anything else by its text."""
    digest = hashlib.blake2b(digest_size=16)
    for one in values:
        if isinstance(one, str):
            digest.update(one.encode())
        else:
            array = np.asarray(one)
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _checksum(header: Mapping[str, Any], arrays: Mapping[str, Numbers]) -> str:
    """A digest of all there is in a file."""
    rest = {name: one for name, one in header.items() if name != "checksum"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
