"""The learning pages, written when the site is built: nothing generated is committed or stale."""

from __future__ import annotations

from typing import Any

from learn.generate import navigation, pages
from mkdocs.structure.files import File


def on_config(config: Any, **_: Any) -> None:
    """Put the questions below "Learn"; MkDocs calls this once."""
    for part in config["nav"]:
        if "Learn" in part:
            part["Learn"] = navigation()


def on_files(files: Any, config: Any, **_: Any) -> None:
    """Add the pages; MkDocs calls this before it reads any."""
    for name, text in pages().items():
        files.append(File.generated(config, f"learn/{name}", content=text))
