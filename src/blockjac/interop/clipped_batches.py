"""The sum of the clipped gradients of a batch, with the meaning that jax-privacy gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jax_privacy import clipping

from blockjac.base import compat
from blockjac.base.trees import mapped
from blockjac.errors import ExamplesMeetError
from blockjac.graph.linearity import is_linear
from blockjac.interop.clipped_sweeps import Function, Settings, Sweep
from blockjac.interop.mixed_examples import REMEDIES, refuse_mixing


@dataclass(frozen=True, eq=False)
class Sums(Settings):
    """The function that `interop.clipped_grad` gives.

    Attributes:
        theirs: what jax-privacy makes of the loss.
    """

    theirs: Function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The sum, and what else is asked of each example."""
        padding = kwargs.get("is_padding_example")
        keywords = {name: kwargs[name] for name in kwargs if name != "is_padding_example"}
        sizes = {leaf.shape[:1] for n in self.batch if n < len(args) for leaf in _leaves(args[n])}
        if len(args) <= max(self.batch) or len(sizes) != 1 or () in sizes:
            return self.theirs(*args, **kwargs)  # which says what is wrong
        ((size,),) = sizes
        if any(jnp.shape(leaf)[:1] != (size,) for leaf in _leaves(keywords)):
            return self.theirs(*args, **kwargs)  # likewise
        if self.options["keep_batch_dim"]:
            refuse_mixing(self, args, keywords, max(size, 2))
        sweep = self._transformed(args)
        if sweep is None:
            return self.theirs(*args, **kwargs)
        try:
            total, norms, beside = sweep.all(args, keywords, padding, size)
        except ExamplesMeetError:  # they do not, under vmap, but some primitive is not known
            return self.theirs(*args, **kwargs)
        except NameError as error:
            if "axis name" not in str(error):
                raise
            raise ExamplesMeetError(
                f"interop.clipped_grad clips the gradient of each example, but {self.name!r} "
                f"combines examples by a collective ({error}): {REMEDIES}"
            ) from error
        if self.options["nan_safe"] or padding is not None:
            is_real = True if padding is None else ~padding
            total, norms = self._with_exceptions(total, norms, is_real, args, keywords)
        if not (self.has_aux or any(self.asked.values())):
            return total
        values, aux = beside
        return total, clipping.AuxiliaryOutput(
            values=values if self.asked["return_values"] else None,
            grad_norms=norms[-1] if self.asked["return_grad_norms"] else None,
            aux=aux if self.has_aux else None,
        )

    def _transformed(self, args: Sequence[Any]) -> Sweep | None:
        """The sweep for a transform of gradients and a dtype; None if that is not linear.

        None for complex parameters, too.
        """
        transform = self.options.get("pre_clipping_transform")
        dtype = self.options["dtype"]
        chosen = mapped(compat.jax_array, _chosen(args, self.argnums))
        if any(jnp.iscomplexobj(leaf) for leaf in _leaves(chosen)):
            return None
        if transform is None and all(dtype in (None, leaf.dtype) for leaf in _leaves(chosen)):
            return Sweep(self)

        def transformed(gradient: Any) -> Any:
            return optax.tree.cast(gradient if transform is None else transform(gradient), dtype)

        abstract = mapped(compat.struct, chosen)
        closed, out = jax.make_jaxpr(transformed, return_shape=True)(abstract)
        if not is_linear(closed, [True] * len(_leaves(abstract))):
            return None
        zeros = mapped(_zeros, out)
        transpose = cast("Any", jax.linear_transpose)(transformed, abstract)
        return Sweep(self, zeros, transpose)

    def _with_exceptions(
        self, total: Any, norms: list[Any], is_real: Any, args: Sequence[Any], keywords: Any
    ) -> tuple[Any, list[Any]]:
        """The sum with the examples whose gradient is not finite, as jax-privacy counts them."""
        exceptional = ~jnp.isfinite(norms[0]) & is_real
        loss = clipping.clipped_grad(
            self.loss,
            self.argnums,
            microbatch_size=_one_by_one([args[n] for n in self.batch], self.options),
            return_grad_norms=True,
            **self.options,
        )

        def added() -> tuple[Any, list[Any]]:
            more, aux = loss(*args, **keywords, is_padding_example=~exceptional)
            own = jnp.where(exceptional, aux.grad_norms, norms[-1]).astype(norms[-1].dtype)
            return jax.tree.map(jnp.add, total, more), [norms[0], own]

        def as_found() -> tuple[Any, list[Any]]:
            return total, [norms[0], norms[-1]]

        return cast("Any", jax.lax.cond)(jnp.any(exceptional), added, as_found)


def _chosen(args: Sequence[Any], argnums: int | Sequence[int]) -> Any:
    """What is differentiated by, as a gradient has it."""
    if isinstance(argnums, int):
        return args[argnums]
    return tuple(args[number] for number in argnums)


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree)


def _zeros(struct: Any) -> Any:
    return jnp.zeros(struct.shape, struct.dtype)


def _one_by_one(tree: Any, options: Mapping[str, Any]) -> int | None:
    """The width to go over examples one by one; None where optax cannot reshape them.

    That is on a mesh with explicit axes, as it takes JAX 0.10 for older than 0.7; and for keys of
    random generators with an axis for a batch of one, which JAX does not reshape by columns.
    """
    leaves = [jax.typeof(leaf) for leaf in _leaves(tree)]
    if options["keep_batch_dim"] and any(_is_key(leaf) for leaf in leaves):
        return None
    sharding: Any = getattr(leaves[0], "sharding", None)
    if sharding is None or sharding.mesh.empty or not sharding.mesh.are_all_axes_explicit:
        return 1
    return None


def _is_key(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
