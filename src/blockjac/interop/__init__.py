"""Adaptors to other people's programs: optimisers, integrators, samplers and training loops.

Each gives derivatives in the form that its client asks for. A client is imported when an adaptor to
it is used; a missing one raises `MissingExtraError` with the line that installs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blockjac.interop.kinetic_energy import local_kinetic_energy
    from blockjac.interop.log_determinants import LogAbsDetJacobian, log_abs_det_jacobian
    from blockjac.interop.nonlinear_programs import NonlinearProgram, nlp
    from blockjac.interop.private_training import clipped_grad
    from blockjac.interop.sample_space import min_sr, residual_step
    from blockjac.interop.sparse_structure import SparseStructure, structure
    from blockjac.interop.structured_solver import StructuredSolver

__all__ = [
    "LogAbsDetJacobian",
    "NonlinearProgram",
    "SparseStructure",
    "StructuredSolver",
    "clipped_grad",
    "local_kinetic_energy",
    "log_abs_det_jacobian",
    "min_sr",
    "nlp",
    "residual_step",
    "structure",
]

_HOME = {
    "LogAbsDetJacobian": "log_determinants",
    "NonlinearProgram": "nonlinear_programs",
    "SparseStructure": "sparse_structure",
    "StructuredSolver": "structured_solver",
    "clipped_grad": "private_training",
    "local_kinetic_energy": "kinetic_energy",
    "log_abs_det_jacobian": "log_determinants",
    "min_sr": "sample_space",
    "nlp": "nonlinear_programs",
    "residual_step": "sample_space",
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
