"""Objects by name: `module:name`, or `file.py:name`."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from blockjac.errors import CommandError


def loaded(word: str) -> Any:
    """The object of a name.

    Args:
        word: `module:name` for a module that can be imported from here, or `path/to/file.py:name`;
            the name may have dots.

    Raises:
        CommandError: if the module or the name does not exist, or the module does not import.

    Examples:
        >>> loaded("math:sqrt")(4.0)
        2.0
    """
    module_name, separator, name = word.rpartition(":")
    if not separator or not module_name or not name:
        raise CommandError(f"'{word}'; wanted module:name, or path/to/file.py:name")
    module = _module(module_name)
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            near = [
                known
                for known, held in vars(module).items()
                if callable(held) and not known.startswith("_")
            ]
            listed = f"; it has {', '.join(near[:12])}" if near else ""
            raise CommandError(f"{module_name} has no '{name}'{listed}")
        value = getattr(value, part)
    return value


def _module(name: str) -> ModuleType:
    """A module by its name or by its file, imported as if Python had been started here."""
    if name.endswith(".py"):
        return _of_file(Path(name))
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise CommandError(
                f"there is no module '{name}' here or among those installed"
            ) from error
        raise _failed(name, error) from error
    except Exception as error:
        raise _failed(name, error) from error


def _of_file(path: Path) -> ModuleType:
    """A module by its file; a file that was loaded before is not run again."""
    if not path.is_file():
        raise CommandError(f"there is no file {path}")
    name = f"blockjac_checked_{path.resolve().as_posix()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CommandError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # for what the file imports from beside it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _failed(str(path), error) from error
    return module


def _failed(name: str, error: Exception) -> CommandError:
    """The error of a module that raises while it is imported."""
    return CommandError(f"{name} does not import: {type(error).__name__}: {error}")
