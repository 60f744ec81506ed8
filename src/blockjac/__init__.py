"""The compiler of Jacobians: exact block Jacobians of JAX functions, in the structure they have.

The public names are resolved on first use (PEP 562): `import blockjac` alone does not import JAX,
so that the command line answers `--help` at once.
"""

from typing import TYPE_CHECKING

from blockjac.base.lazy_names import lazy_names

if TYPE_CHECKING:
    from blockjac import blocks, devices, errors, interop, nn, optimize, rules
    from blockjac.base.caches import cache_info, clear_caches
    from blockjac.blocks import (
        Block,
        BlockMatrix,
        Factorization,
        factorize,
        lstsq,
        solve,
        star,
    )
    from blockjac.checking import Exercise, JacobianReport, check_grad, check_jacobian, exercise
    from blockjac.curvature.fisher import fisher
    from blockjac.curvature.gauss_newton import GaussNewton
    from blockjac.curvature.ggn import ggn
    from blockjac.explanations.explain import explain
    from blockjac.explanations.explanation import Explanation
    from blockjac.explanations.step import step
    from blockjac.kronecker_factors.kfac import ekfac, kfac
    from blockjac.kronecker_factors.matrix import KroneckerFactored
    from blockjac.planning import Plan, Search
    from blockjac.transforms.batch_jacobian import batch_jacobian
    from blockjac.transforms.clipping import clipped_grad
    from blockjac.transforms.diagonals import divergence, jacobian_diagonal
    from blockjac.transforms.first_order import (
        block_jacobian,
        grad,
        jacobian,
        value_and_grad,
        value_and_jacobian,
    )
    from blockjac.transforms.hessians import block_hessian, hessian, hvp
    from blockjac.transforms.laplacians import hessian_diagonal, laplacian, value_grad_laplacian
    from blockjac.transforms.partial_derivatives import partial_derivatives
    from blockjac.transforms.per_example import (
        per_example_grad,
        per_example_gram,
        per_example_jacobian,
        per_example_norms,
    )
    from blockjac.transforms.plans import plan
    from blockjac.transforms.products import chain_rule, jvp, vjp
    from blockjac.transforms.sparse import sparse_jacobian
    from blockjac.transforms.sparse_hessian import sparse_hessian
    from blockjac.transforms.tangent_kernels import ntk

__version__ = "0.2.0"

__all__ = [
    "Block",
    "BlockMatrix",
    "Exercise",
    "Explanation",
    "Factorization",
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
    "check_grad",
    "check_jacobian",
    "clear_caches",
    "clipped_grad",
    "devices",
    "divergence",
    "ekfac",
    "errors",
    "exercise",
    "explain",
    "factorize",
    "fisher",
    "ggn",
    "grad",
    "hessian",
    "hessian_diagonal",
    "hvp",
    "interop",
    "jacobian",
    "jacobian_diagonal",
    "jvp",
    "kfac",
    "laplacian",
    "lstsq",
    "nn",
    "ntk",
    "optimize",
    "partial_derivatives",
    "per_example_grad",
    "per_example_gram",
    "per_example_jacobian",
    "per_example_norms",
    "plan",
    "rules",
    "solve",
    "sparse_hessian",
    "sparse_jacobian",
    "star",
    "step",
    "value_and_grad",
    "value_and_jacobian",
    "value_grad_laplacian",
    "vjp",
]

_HOME = {
    "Block": "blockjac.blocks",
    "BlockMatrix": "blockjac.blocks",
    "Exercise": "blockjac.checking",
    "Factorization": "blockjac.blocks",
    "GaussNewton": "blockjac.curvature.gauss_newton",
    "JacobianReport": "blockjac.checking",
    "KroneckerFactored": "blockjac.kronecker_factors.matrix",
    "Plan": "blockjac.planning",
    "Search": "blockjac.planning",
    "batch_jacobian": "blockjac.transforms.batch_jacobian",
    "block_hessian": "blockjac.transforms.hessians",
    "block_jacobian": "blockjac.transforms.first_order",
    "cache_info": "blockjac.base.caches",
    "chain_rule": "blockjac.transforms.products",
    "check_grad": "blockjac.checking",
    "check_jacobian": "blockjac.checking",
    "exercise": "blockjac.checking",
    "clear_caches": "blockjac.base.caches",
    "clipped_grad": "blockjac.transforms.clipping",
    "divergence": "blockjac.transforms.diagonals",
    "Explanation": "blockjac.explanations.explanation",
    "explain": "blockjac.explanations.explain",
    "step": "blockjac.explanations.step",
    "factorize": "blockjac.blocks",
    "lstsq": "blockjac.blocks",
    "fisher": "blockjac.curvature.fisher",
    "ggn": "blockjac.curvature.ggn",
    "grad": "blockjac.transforms.first_order",
    "hessian": "blockjac.transforms.hessians",
    "hessian_diagonal": "blockjac.transforms.laplacians",
    "hvp": "blockjac.transforms.hessians",
    "jacobian": "blockjac.transforms.first_order",
    "jacobian_diagonal": "blockjac.transforms.diagonals",
    "jvp": "blockjac.transforms.products",
    "ekfac": "blockjac.kronecker_factors.kfac",
    "kfac": "blockjac.kronecker_factors.kfac",
    "laplacian": "blockjac.transforms.laplacians",
    "ntk": "blockjac.transforms.tangent_kernels",
    "partial_derivatives": "blockjac.transforms.partial_derivatives",
    "per_example_grad": "blockjac.transforms.per_example",
    "per_example_gram": "blockjac.transforms.per_example",
    "per_example_jacobian": "blockjac.transforms.per_example",
    "per_example_norms": "blockjac.transforms.per_example",
    "plan": "blockjac.transforms.plans",
    "solve": "blockjac.blocks",
    "sparse_hessian": "blockjac.transforms.sparse_hessian",
    "sparse_jacobian": "blockjac.transforms.sparse",
    "star": "blockjac.blocks",
    "value_and_grad": "blockjac.transforms.first_order",
    "value_and_jacobian": "blockjac.transforms.first_order",
    "value_grad_laplacian": "blockjac.transforms.laplacians",
    "vjp": "blockjac.transforms.products",
}
"""The module of each public name; a public name that is not a key is a submodule."""


if not TYPE_CHECKING:  # so that a name that does not exist is an error of the checker too
    __getattr__, __dir__ = lazy_names(__name__, globals(), __all__, _HOME)
