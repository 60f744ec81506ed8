"""Losses of batches whose examples meet, which clipping would not bound as they are meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from blockjac.base.trees import flattened, mapped
from blockjac.errors import ExamplesMeetError
from blockjac.graph.batch_losses import mixing_of
from blockjac.graph.example_states import Apart, Meeting, State
from blockjac.interop.clipped_sweeps import Settings, positions

REMEDIES = (
    "normalize over features, groups or time in place of the batch; or, if it is right for a batch "
    "of one example, write the loss of one example and pass keep_batch_dim=False"
)


def refuse_mixing(
    settings: Settings, args: Sequence[Any], keywords: dict[str, Any], size: int
) -> None:
    """Raise if the loss of a batch lets examples meet beyond a sum over them.

    Args:
        settings: the loss, and what is asked of it.
        args: of the loss.
        keywords: likewise, an entry for each example.
        size: how many examples to trace the loss with.

    Raises:
        ExamplesMeetError: names the line.
    """
    leaves, tree = flattened(tuple(args))
    states: list[State] = []
    active: list[bool] = []
    for number, arg in enumerate(args):
        count = len(jax.tree.leaves(arg))
        states += [Apart(0, 1) if number in settings.batch else None] * count
        active += [number in positions(settings.argnums)] * count
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
        return settings.loss(*jax.tree.unflatten(tree, full), **first)

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
            f"{settings.name!r} the examples of a batch meet in {mixing.name!r}{mixing.place}, "
            f"beyond a sum over them: {REMEDIES}"
        )


def _first(array: Any) -> Any:
    return array[0]
