"""A file is read in one sitting: none of the library is longer than 300 lines, but those listed."""

from pathlib import Path

import blockjac

SOURCE = Path(blockjac.__file__).parent

LONGEST = 300

LONGER = {
    "algebra": "to be split",
    "batching": "to be split",
    "control_flow": "to be split",
    "graph": "to be split",
    "operators": "to be split",
    "rules": "families of rules; to be split",
}
"""Folders that may have longer files, each with the reason; no folder is added."""


def lengths() -> dict[str, int]:
    """The lines of each file, by its path below the package."""
    return {
        path.relative_to(SOURCE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted(SOURCE.rglob("*.py"))
    }


def test_no_file_is_too_long():
    long = [
        f"{file} has {count} lines"
        for file, count in lengths().items()
        if count > LONGEST and file.split("/")[0] not in LONGER
    ]
    assert not long, "\n".join(long)


def test_only_folders_with_long_files_are_listed():
    with_long_files = {file.split("/")[0] for file, count in lengths().items() if count > LONGEST}
    assert set(LONGER) <= with_long_files
