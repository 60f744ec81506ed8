"""Traced programs as readable Python source: a module that runs without this library.

`module_source(functions, target, docstring)` writes a module; a `TracedFunction` says what each
function computes, by its jaxpr, and how its arguments and results are put together.

Names and comments stand in the traced program itself, as equations of JAX's `name` primitive
(`jax.ad_checkpoint.checkpoint_name(x, tag)`):

- `blockjac:name=Z2`: the value is called `Z2`; the first name of a value counts, and those of
  parameters stay;
- `blockjac:comment=...`: lines of comment before the statement that computes the value.

How a jaxpr becomes text: the `Builder` runs through its equations, and the translation of each
primitive (`targets.py` lists their files) adds an expression as a `Value` to a `Block`, or a loop
as a statement. The `Schedule` decides which values are written in place and names the others;
`printer.py` and `layout.py` write the lines as ruff and black would. Broadcasts that NumPy does by
itself are not written: a value may have fewer axes than in the jaxpr, and `Builder.exact` adds
them where they matter.
"""

from blockjac.explanations.source.builder import COMMENT_TAG, NAME_TAG, TAG
from blockjac.explanations.source.function import Parameter, TracedFunction
from blockjac.explanations.source.module import TargetName, module_source

__all__ = [
    "COMMENT_TAG",
    "NAME_TAG",
    "TAG",
    "Parameter",
    "TargetName",
    "TracedFunction",
    "module_source",
]
