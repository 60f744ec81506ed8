"""Modules of the docs' folder, which is no package of the library."""

import importlib
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load(name):
    """A module of the docs' folder."""
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DOCS))
