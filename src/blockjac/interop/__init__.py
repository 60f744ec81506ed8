"""Adaptors to other people's programs: optimisers, integrators, samplers and training loops.

Each gives derivatives in the form that its client asks for. A client is imported when an adaptor to
it is used; a missing one raises `MissingExtraError` with the line that installs it.
"""

from typing import TYPE_CHECKING

from blockjac.base.lazy_names import lazy_names

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
    "LogAbsDetJacobian": "blockjac.interop.log_determinants",
    "NonlinearProgram": "blockjac.interop.nonlinear_programs",
    "SparseStructure": "blockjac.interop.sparse_structure",
    "StructuredSolver": "blockjac.interop.structured_solver",
    "clipped_grad": "blockjac.interop.private_training",
    "local_kinetic_energy": "blockjac.interop.kinetic_energy",
    "log_abs_det_jacobian": "blockjac.interop.log_determinants",
    "min_sr": "blockjac.interop.sample_space",
    "nlp": "blockjac.interop.nonlinear_programs",
    "residual_step": "blockjac.interop.sample_space",
    "structure": "blockjac.interop.sparse_structure",
}
"""The module of each public name."""


if not TYPE_CHECKING:  # so that a name that does not exist is an error of the checker too
    __getattr__, __dir__ = lazy_names(__name__, globals(), __all__, _HOME)
