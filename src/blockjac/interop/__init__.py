"""Adaptors to other people's programs: optimisers, integrators, samplers and training loops.

Each gives derivatives in the form that its client asks for. A client is imported when an adaptor to
it is used; a missing one raises `MissingExtraError` with the line that installs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blockjac.interop.log_determinants import LogAbsDetJacobian, log_abs_det_jacobian
    from blockjac.interop.private_training import clipped_grad
    from blockjac.interop.sparse_structure import SparseStructure, structure

__all__ = [
    "LogAbsDetJacobian",
    "SparseStructure",
    "clipped_grad",
    "log_abs_det_jacobian",
    "structure",
]

_HOME = {
    "LogAbsDetJacobian": "log_determinants",
    "SparseStructure": "sparse_structure",
    "clipped_grad": "private_training",
    "log_abs_det_jacobian": "log_determinants",
    "structure": "sparse_structure",
}
"""The module of each public name, below this package."""


if not TYPE_CHECKING:  # so that a name that does not exist is an error of the checker too

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'blockjac.interop' has no attribute '{name}'")
        value = getattr(import_module(f"blockjac.interop.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
