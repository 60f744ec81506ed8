"""The compiler of Jacobians: exact block Jacobians of JAX functions, in the structure they have.

The public names are resolved on first use (PEP 562): `import blockjac` alone does not import JAX,
so that the command line answers `--help` at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blockjac import blocks, devices, errors, nn, optimize, rules
    from blockjac.blocks import Block, BlockMatrix, star
    from blockjac.caches import cache_info, clear_caches
    from blockjac.checking import JacobianReport, check_jacobian
    from blockjac.curvature import block_hessian, hessian, hvp
    from blockjac.diagonals import divergence, hessian_diagonal, jacobian_diagonal, laplacian
    from blockjac.fisher_matrix import fisher
    from blockjac.gauss_newton import GaussNewton, ggn
    from blockjac.kronecker import KroneckerFactored, kfac
    from blockjac.per_example import (
        batch_jacobian,
        per_example_grad,
        per_example_gram,
        per_example_norms,
    )
    from blockjac.planner import Plan, Search
    from blockjac.plans import plan
    from blockjac.sparse import sparse_jacobian
    from blockjac.transforms import (
        block_jacobian,
        chain_rule,
        grad,
        jacobian,
        jvp,
        value_and_grad,
        value_and_jacobian,
        vjp,
    )

__version__ = "0.1.0"

__all__ = [
    "Block",
    "BlockMatrix",
    "GaussNewton",
    "JacobianReport",
    "KroneckerFactored",
    "Plan",
    "Search",
    "batch_jacobian",
    "block_hessian",
    "block_jacobian",
    "blocks",
    "cache_info",
    "chain_rule",
    "check_jacobian",
    "clear_caches",
    "devices",
    "divergence",
    "errors",
    "fisher",
    "ggn",
    "grad",
    "hessian",
    "hessian_diagonal",
    "hvp",
    "jacobian",
    "jacobian_diagonal",
    "jvp",
    "kfac",
    "laplacian",
    "nn",
    "optimize",
    "per_example_grad",
    "per_example_gram",
    "per_example_norms",
    "plan",
    "rules",
    "sparse_jacobian",
    "star",
    "value_and_grad",
    "value_and_jacobian",
    "vjp",
]

_HOME = {
    "Block": "blockjac.blocks",
    "BlockMatrix": "blockjac.blocks",
    "GaussNewton": "blockjac.gauss_newton",
    "JacobianReport": "blockjac.checking",
    "KroneckerFactored": "blockjac.kronecker",
    "Plan": "blockjac.planner",
    "Search": "blockjac.planner",
    "batch_jacobian": "blockjac.per_example",
    "block_hessian": "blockjac.curvature",
    "block_jacobian": "blockjac.transforms",
    "cache_info": "blockjac.caches",
    "chain_rule": "blockjac.transforms",
    "check_jacobian": "blockjac.checking",
    "clear_caches": "blockjac.caches",
    "divergence": "blockjac.diagonals",
    "fisher": "blockjac.fisher_matrix",
    "ggn": "blockjac.gauss_newton",
    "grad": "blockjac.transforms",
    "hessian": "blockjac.curvature",
    "hessian_diagonal": "blockjac.diagonals",
    "hvp": "blockjac.curvature",
    "jacobian": "blockjac.transforms",
    "jacobian_diagonal": "blockjac.diagonals",
    "jvp": "blockjac.transforms",
    "kfac": "blockjac.kronecker",
    "laplacian": "blockjac.diagonals",
    "per_example_grad": "blockjac.per_example",
    "per_example_gram": "blockjac.per_example",
    "per_example_norms": "blockjac.per_example",
    "plan": "blockjac.plans",
    "sparse_jacobian": "blockjac.sparse",
    "star": "blockjac.blocks",
    "value_and_grad": "blockjac.transforms",
    "value_and_jacobian": "blockjac.transforms",
    "vjp": "blockjac.transforms",
}
"""The module of each public name; a public name that is not a key is a submodule."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'blockjac' has no attribute '{name}'")
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    else:
        value = import_module(f"blockjac.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
