"""The compiler of Jacobians: exact block Jacobians of JAX functions, in the structure they have.

The public names are resolved on first use (PEP 562): `import blockjac` alone does not import JAX,
so that the command line answers `--help` at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blockjac import blocks, errors, nn, optimize, rules
    from blockjac.blocks import Block, BlockMatrix, star
    from blockjac.checking import JacobianReport, check_jacobian
    from blockjac.curvature import hessian
    from blockjac.planner import Plan, Search
    from blockjac.plans import plan
    from blockjac.transforms import (
        block_jacobian,
        chain_rule,
        grad,
        jacobian,
        jvp,
        value_and_grad,
        vjp,
    )

__version__ = "0.1.0"

__all__ = [
    "Block",
    "BlockMatrix",
    "JacobianReport",
    "Plan",
    "Search",
    "block_jacobian",
    "blocks",
    "chain_rule",
    "check_jacobian",
    "errors",
    "grad",
    "hessian",
    "jacobian",
    "jvp",
    "nn",
    "optimize",
    "plan",
    "rules",
    "star",
    "value_and_grad",
    "vjp",
]

_HOME = {
    "Block": "blockjac.blocks",
    "BlockMatrix": "blockjac.blocks",
    "JacobianReport": "blockjac.checking",
    "Plan": "blockjac.planner",
    "Search": "blockjac.planner",
    "block_jacobian": "blockjac.transforms",
    "chain_rule": "blockjac.transforms",
    "check_jacobian": "blockjac.checking",
    "grad": "blockjac.transforms",
    "hessian": "blockjac.curvature",
    "jacobian": "blockjac.transforms",
    "jvp": "blockjac.transforms",
    "plan": "blockjac.plans",
    "star": "blockjac.blocks",
    "value_and_grad": "blockjac.transforms",
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
