"""The notebooks, executed when the site is built: no output is committed or stale."""

from __future__ import annotations

from typing import Any

import nbformat
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from notebook_pages.execute import NotebookError, executed, sources
from notebook_pages.page import page


def on_files(files: Any, config: Any, **_: Any) -> None:
    """Add a page and a file to download for each; MkDocs calls this before it reads any."""
    for source in sources():
        try:
            notebook = executed(source)
            text = page(notebook, source.stem)
        except (NotebookError, ValueError) as error:
            raise PluginError(str(error)) from error
        name = f"notebooks/{source.stem}"
        files.append(File.generated(config, f"{name}.md", content=text))
        files.append(File.generated(config, f"{name}.ipynb", content=download(notebook)))


def download(notebook: Any) -> str:
    """A notebook as a file, with pictures in the one format that needs no trust in the file."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                data.pop("image/svg+xml", None)
    return nbformat.writes(notebook)
