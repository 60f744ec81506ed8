"""One reverse sweep over a batch for the sum of its clipped gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from optax import microbatching

from blockjac.base import compat
from blockjac.base.arrays import in_words
from blockjac.base.trees import mapped
from blockjac.errors import ArgumentError
from blockjac.transforms.clipping import clipped_grad
from blockjac.transforms.per_example import per_example_norms

Function = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Settings:
    """A loss, and what is asked of it.

    Attributes:
        fun: the loss.
        argnums: which arguments to differentiate by.
        has_aux: whether the loss gives auxiliary results too.
        microbatch_size: how many examples to sweep over at once.
        asked: whether losses and norms are returned.
        options: further ones of jax-privacy.
    """

    fun: Function
    argnums: int | Sequence[int]
    has_aux: bool
    microbatch_size: int | None
    asked: dict[str, bool]
    options: dict[str, Any]

    @property
    def batch(self) -> tuple[int, ...]:
        """The positions of the arguments that hold the examples."""
        return positions(self.options["batch_argnums"])

    @property
    def name(self) -> str:
        """That of the loss."""
        return getattr(self.fun, "__name__", type(self.fun).__name__)

    def loss(self, *args: Any, **kwargs: Any) -> Any:
        """The loss alone."""
        value = self.fun(*args, **kwargs)
        return value[0] if self.has_aux else value

    def loss_and_aux(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """The loss, which must be one number, and the auxiliary results, or None.

        Raises:
            ArgumentError: says what the loss gives in place of them.
        """
        result: Any = self.fun(*args, **kwargs)
        if self.has_aux and not _is_pair(result):
            raise ArgumentError(
                f"interop.clipped_grad with has_aux=True needs {self.name!r} to give (loss, aux), "
                f"but it gives {in_words(result)}"
            )
        value, aux = result if self.has_aux else (result, None)
        if not jax.tree_util.all_leaves([value]) or jnp.ndim(value):
            hint = "has_aux=True is for (loss, aux)"
            if hasattr(value, "shape"):
                hint = "take its mean or its sum"
            raise ArgumentError(
                f"interop.clipped_grad needs a loss that is one number, as jax-privacy does, but "
                f"{self.name!r} gives {in_words(value)} for one example: {hint}"
            )
        return value, aux


@dataclass(frozen=True, eq=False)
class Sweep:
    """One reverse sweep over a batch, or over part of it.

    The gradient of the loss by `u`, in `params + L'u` at 0, is `L` times that by the parameters.

    Attributes:
        sums: the loss and the options.
        zeros: `u`, like what the linear transform makes of a gradient; None without one.
        transpose: `L'`.
    """

    sums: Settings
    zeros: Any = None
    transpose: Function | None = None

    def all(
        self, args: Sequence[Any], keywords: dict[str, Any], padding: Any, size: int
    ) -> tuple[Any, list[Any], tuple[Any, Any]]:
        """The sum over all examples; for each the norms, losses and auxiliary results.

        Args:
            args: of the loss.
            keywords: likewise.
            padding: whether each example is none; None if all are.
            size: how many examples there are.
        """
        args, key = [*args], self.sums.options["prng_argnum"]
        for number in positions(self.sums.argnums):
            args[number] = mapped(compat.jax_array, args[number])
        rows = self.sums.batch
        if key is not None:
            args[key] = mapped(partial(jax.random.split, num=size), args[key])
            rows = (*rows, key)

        def sweep(padding: Any, keywords: Any, *args: Any) -> Any:
            return self._once(args, keywords, padding, rows)

        width = self.sums.microbatch_size
        if width is None:
            return sweep(padding, keywords, *args)
        sum_, concat = microbatching.AccumulationType.SUM, microbatching.AccumulationType.CONCAT
        real = None
        if padding is not None:
            is_real = ~microbatching.reshape_batch_axis(padding, width).all(axis=1)
            real = jnp.max(jnp.where(is_real, jnp.arange(1, len(is_real) + 1), 0))
        return microbatching.microbatch(
            sweep,
            argnums=(0, 1, *(row + 2 for row in rows)),
            microbatch_size=width,
            accumulator=(sum_, concat, concat),
            num_real_microbatches=real,
        )(padding, keywords, *args)

    def _once(self, args: Sequence[Any], keywords: Any, padding: Any, rows: Sequence[int]) -> Any:
        """The same for examples that are swept over at once."""
        options, argnums = self.sums.options, self.sums.argnums
        bound = jnp.maximum(options["l2_clip_norm"], 0.0)
        if options["rescale_to_unit_norm"]:  # a bound of 0 gives the norm 1, as a tiny one does
            bound = jnp.maximum(bound, 1e-19)
        scale = bound if options["rescale_to_unit_norm"] else 1.0
        count = jax.tree.leaves(args[rows[0]])[0].shape[0]
        is_none = jnp.zeros(count, bool) if padding is None else padding
        batch = [*rows, *([len(args)] if keywords else [])]

        def losses(*args: Any) -> Any:
            return self._losses(args, rows)

        def norms_of(*args: Any) -> jax.Array:
            return per_example_norms(lambda *args: losses(*args)[0], argnums)(*args)

        own, at, differentiated = losses, (*args, keywords), argnums
        if self.transpose is not None:
            own, at, differentiated = self._by_transformed(losses), (self.zeros, *at), 0
            batch = [row + 1 for row in batch]
        clipped = clipped_grad(
            own,
            jnp.where(is_none, 0, bound),
            differentiated,
            has_aux=True,
            normalize_by=scale * options["normalize_by"],
            return_norms=True,
            nan_safe=options["nan_safe"] or padding is not None,
            batch_argnums=batch,
        )
        (total, norms), beside = clipped(*at)
        all_norms = [norms]
        if self.transpose is not None and self.sums.asked["return_grad_norms"]:
            all_norms.append(norms_of(*args, keywords))
        return total, all_norms, beside

    def _losses(self, args: Sequence[Any], rows: Sequence[int]) -> Any:
        """The losses of all examples; and beside them what the loss of each of them gives."""
        options = self.sums.options

        def one(*args: Any) -> Any:
            """The loss of one example, and beside it all that is returned."""
            *positional, keywords = args
            if options["keep_batch_dim"]:
                for row in self.sums.batch:
                    positional[row] = mapped(_as_batch, positional[row])
            value, aux = self.sums.loss_and_aux(*positional, **keywords)
            return value, (value, aux)

        axes = [0 if number in rows else None for number in range(len(args) - 1)]
        each = jax.vmap(one, (*axes, 0), spmd_axis_name=options["spmd_axis_name"])
        value, (values, aux) = each(*args)
        return value, (values, mapped(_squeezed, aux) if options["keep_batch_dim"] else aux)

    def _by_transformed(self, losses: Function) -> Function:
        """The losses as a function of `u` too."""

        def moved(u: Any, *args: Any) -> Any:
            """The losses at the parameters that `u` moves."""
            (step,) = self.transpose(u)  # pyright: ignore[reportOptionalCall]
            full = [*args]
            steps = (step,) if isinstance(self.sums.argnums, int) else step
            for number, part in zip(positions(self.sums.argnums), steps, strict=True):
                full[number] = jax.tree.map(jnp.add, args[number], part)
            return losses(*full)

        return moved


def positions(argnums: int | Sequence[int]) -> tuple[int, ...]:
    """Argument numbers as a tuple."""
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(cast("list[Any]", value)) == 2


def _as_batch(array: Any) -> Any:
    return array[None]


def _squeezed(array: Any) -> Any:
    """Without the axis of the batch of one example, as jax-privacy has it."""
    return jnp.squeeze(array, 1) if array.ndim > 1 and array.shape[1] == 1 else array
