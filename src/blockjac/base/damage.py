"""What reading a file raises that was cut off or altered."""

import zipfile
import zlib

DAMAGED = (
    ValueError, KeyError, EOFError, OSError, AttributeError, NotImplementedError, RuntimeError,
    SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy and its zip files raise for bytes that are none of theirs."""
