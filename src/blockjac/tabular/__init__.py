"""Tables as people have them: read from files, typed, encoded, learned by a network."""

from typing import TYPE_CHECKING

from blockjac.base.lazy_names import lazy_names

if TYPE_CHECKING:
    from blockjac.tabular.model import TableModel
    from blockjac.tabular.reading import read_table
    from blockjac.tabular.table import Table

__all__ = ["Table", "TableModel", "read_table"]

_HOME = {
    "Table": "blockjac.tabular.table",
    "TableModel": "blockjac.tabular.model",
    "read_table": "blockjac.tabular.reading",
}

if not TYPE_CHECKING:  # a checker reads the imports above
    __getattr__, __dir__ = lazy_names(__name__, globals(), __all__, _HOME)
