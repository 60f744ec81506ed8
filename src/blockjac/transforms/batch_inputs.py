"""Which arguments of a function hold the examples of a batch, and whether the examples meet."""

from __future__ import annotations

from blockjac.engine.arguments import ArgNums, positions_of
from blockjac.engine.call import Call
from blockjac.errors import ArgumentError, ExamplesMeetError
from blockjac.graph.example_meetings import meeting_of


def check_apart(call: Call, batch_argnums: ArgNums | None, batch_axes: int) -> None:
    """Raise unless each loss depends on the data of its own example alone.

    Args:
        call: the traced losses.
        batch_argnums: which positional arguments hold the examples; None for all that are not
            differentiated.
        batch_axes: how many axes count examples.

    Raises:
        ArgumentError: if no argument holds examples, or one of them does not have them in front.
        ExamplesMeetError: says where they meet, and what to do.
    """
    graph, shape = call.graph, tuple(call.results[0].shape)
    inputs = _inputs_of_examples(call, batch_argnums, shape)
    if not inputs:
        raise ArgumentError(
            f"{call.name} needs the examples as arguments of {call.graph_name!r} beside those that "
            "are differentiated, as in losses(params, x, y), to prove that they are apart"
        )
    for axis in range(batch_axes):
        meeting = meeting_of(graph, dict.fromkeys(inputs, axis), shape[axis], axis)
        if meeting is not None:
            raise ExamplesMeetError(
                f"{call.name} needs losses of which each depends on its own example alone, but in "
                f"{call.graph_name!r} examples meet, as far as blockjac knows, in "
                f"{meeting.name!r}{meeting.place}: an example would move the gradients of others, "
                "so that no norm bounds what it does to the sum. Normalize over features, groups "
                "or time in place of the batch, take statistics of the batch as an argument, or "
                "write the losses of one example and jax.vmap them"
            )


def _inputs_of_examples(
    call: Call, batch_argnums: ArgNums | None, shape: tuple[int, ...]
) -> list[int]:
    """The graph's inputs that hold the examples on their first axes."""
    graph, differentiated = call.graph, set(call.wrt)
    count = max((origin + 1 for origin in call.origins if origin is not None), default=0)
    chosen = None if batch_argnums is None else positions_of(batch_argnums, count)
    inputs: list[int] = []
    for value, origin in zip(graph.inputs, call.origins, strict=True):
        found = tuple(graph.avals[value].shape)
        fits = found[: len(shape)] == shape
        if value in differentiated:
            continue
        if origin is None or (chosen is None and not found):
            inputs += [value] * fits
        elif chosen is None or origin in chosen:
            if not fits:
                axes = ", ".join(map(str, shape))
                raise ArgumentError(
                    f"{call.name} needs the examples in front of every argument that holds them, "
                    f"an array of shape ({axes}, ...) for losses of {shape}, but found one of "
                    f"shape {found}, as {graph.names.get(value, 'an argument')}; if all examples "
                    "share it, say by batch_argnums= which arguments hold examples"
                )
            inputs.append(value)
    return inputs
