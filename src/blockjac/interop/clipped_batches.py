"""The sum of the clipped gradients of a batch, with the meaning that jax-privacy gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jax_privacy import clipping
from optax import microbatching

from blockjac.base import compat
from blockjac.base.trees import flattened, mapped
from blockjac.errors import ExamplesMeetError
from blockjac.graph.batch_losses import mixing_of
from blockjac.graph.example_states import Apart, Meeting, State
from blockjac.graph.linearity import is_linear
from blockjac.transforms.clipping import clipped_grad
from blockjac.transforms.per_example import per_example_norms

Function = Callable[..., Any]

REMEDIES = (
    "normalize over features, groups or time in place of the batch; or, if it is right for a batch "
    "of one example, write the loss of one example and pass keep_batch_dim=False"
)


@dataclass(frozen=True, eq=False)
class Sums:
    """The function that `interop.clipped_grad` gives.

    Attributes:
        fun: the loss.
        argnums: which arguments to differentiate by.
        has_aux: whether the loss gives auxiliary results too.
        microbatch_size: how many examples to sweep over at once.
        asked: whether losses and norms are returned.
        options: further ones of jax-privacy.
        theirs: what jax-privacy makes of the loss.
    """

    fun: Function
    argnums: int | Sequence[int]
    has_aux: bool
    microbatch_size: int | None
    asked: dict[str, bool]
    options: dict[str, Any]
    theirs: Function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The sum, and what else is asked of each example."""
        padding = kwargs.get("is_padding_example")
        keywords = {name: kwargs[name] for name in kwargs if name != "is_padding_example"}
        sizes = {leaf.shape[:1] for n in self.batch if n < len(args) for leaf in _leaves(args[n])}
        if len(args) <= max(self.batch) or len(sizes) != 1 or () in sizes:
            return self.theirs(*args, **kwargs)  # which says what is wrong
        ((size,),) = sizes
        if self.options["keep_batch_dim"]:
            self._refuse_mixing(args, keywords, max(size, 2))
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
                f"interop.clipped_grad clips the gradient of each example, but {self._name!r} "
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

    @property
    def batch(self) -> tuple[int, ...]:
        """The positions of the arguments that hold the examples."""
        return _positions(self.options["batch_argnums"])

    @property
    def _name(self) -> str:
        return getattr(self.fun, "__name__", type(self.fun).__name__)

    def _loss(self, *args: Any, **kwargs: Any) -> Any:
        """The loss alone."""
        value = self.fun(*args, **kwargs)
        return value[0] if self.has_aux else value

    def _transformed(self, args: Sequence[Any]) -> Sweep | None:
        """The sweep for a transform of gradients and a dtype; None if that is not linear."""
        transform = self.options.get("pre_clipping_transform")
        dtype = self.options["dtype"]
        chosen = mapped(compat.jax_array, _chosen(args, self.argnums))
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

    def _refuse_mixing(self, args: Sequence[Any], keywords: dict[str, Any], size: int) -> None:
        """Raise if the loss of a batch lets examples meet beyond a sum over them."""
        leaves, tree = flattened(tuple(args))
        states: list[State] = []
        active: list[bool] = []
        for number, arg in enumerate(args):
            count = len(_leaves(arg))
            states += [Apart(0, 1) if number in self.batch else None] * count
            active += [number in _positions(self.argnums)] * count
        arrays = [hasattr(leaf, "dtype") for leaf in leaves]
        traced = [
            leaf
            if state is None or leaf.shape[0] == size
            else jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype)
            for leaf, state, is_array in zip(leaves, states, arrays, strict=True)
            if is_array
        ]
        first = mapped(_first, keywords)

        def loss(*traced: Any) -> Any:
            rest = iter(traced)
            full = [next(rest) if own else leaf for leaf, own in zip(leaves, arrays, strict=True)]
            return self._loss(*jax.tree.unflatten(tree, full), **first)

        try:
            closed = jax.make_jaxpr(loss)(*traced)
        except Exception:  # a loss that takes batches of one example only
            return
        own = [
            pair
            for pair, is_array in zip(zip(states, active, strict=True), arrays, strict=True)
            if is_array
        ]
        mixing = mixing_of(closed, [state for state, _ in own], [flag for _, flag in own], size)
        if isinstance(mixing, Meeting):
            raise ExamplesMeetError(
                "interop.clipped_grad clips the gradient of each example, a batch of one, but in "
                f"{self._name!r} the examples of a batch meet in {mixing.name!r}{mixing.place}, "
                f"beyond a sum over them: {REMEDIES}"
            )

    def _with_exceptions(
        self, total: Any, norms: list[Any], is_real: Any, args: Sequence[Any], keywords: Any
    ) -> tuple[Any, list[Any]]:
        """The sum with the examples whose gradient is not finite, as jax-privacy counts them."""
        exceptional = ~jnp.isfinite(norms[0]) & is_real
        loss = clipping.clipped_grad(
            self._loss,
            self.argnums,
            microbatch_size=_one_by_one(args[self.batch[0]]),
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


@dataclass(frozen=True, eq=False)
class Sweep:
    """One reverse sweep over a batch, or over part of it.

    The gradient of the loss by `u`, in `params + L'u` at 0, is `L` times that by the parameters.

    Attributes:
        sums: the loss and the options.
        zeros: `u`, like what the linear transform makes of a gradient; None without one.
        transpose: `L'`.
    """

    sums: Sums
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
        for number in _positions(self.sums.argnums):
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
        count = _leaves(args[rows[0]])[0].shape[0]
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
            *positional, keywords = args
            if options["keep_batch_dim"]:
                for row in self.sums.batch:
                    positional[row] = mapped(_as_batch, positional[row])
            result = self.sums.fun(*positional, **keywords)
            value, aux = result if self.sums.has_aux else (result, None)
            return value, (value, aux)

        axes = [0 if number in rows else None for number in range(len(args) - 1)]
        each = jax.vmap(one, (*axes, 0), spmd_axis_name=options["spmd_axis_name"])
        value, (values, aux) = each(*args)
        return value, (values, mapped(_squeezed, aux) if options["keep_batch_dim"] else aux)

    def _by_transformed(self, losses: Function) -> Function:
        """The losses as a function of `u` too."""

        def moved(u: Any, *args: Any) -> Any:
            (step,) = self.transpose(u)  # pyright: ignore[reportOptionalCall]
            full = [*args]
            steps = (step,) if isinstance(self.sums.argnums, int) else step
            for number, part in zip(_positions(self.sums.argnums), steps, strict=True):
                full[number] = jax.tree.map(jnp.add, args[number], part)
            return losses(*full)

        return moved


def _positions(argnums: int | Sequence[int]) -> tuple[int, ...]:
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)


def _chosen(args: Sequence[Any], argnums: int | Sequence[int]) -> Any:
    """What is differentiated by, as a gradient has it."""
    if isinstance(argnums, int):
        return args[argnums]
    return tuple(args[number] for number in argnums)


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree)


def _zeros(struct: Any) -> Any:
    return jnp.zeros(struct.shape, struct.dtype)


def _first(array: Any) -> Any:
    return array[0]


def _as_batch(array: Any) -> Any:
    return array[None]


def _squeezed(array: Any) -> Any:
    """Without the axis of the batch of one example, as jax-privacy has it."""
    return jnp.squeeze(array, 1) if array.ndim > 1 and array.shape[1] == 1 else array


def _one_by_one(tree: Any) -> int | None:
    """The width to go over examples one by one; None where a mesh with explicit axes has them.

    There optax cannot reshape them: it takes JAX 0.10 for older than 0.7.
    """
    sharding: Any = getattr(jax.typeof(_leaves(tree)[0]), "sharding", None)
    if sharding is None or sharding.mesh.empty or not sharding.mesh.are_all_axes_explicit:
        return 1
    return None
