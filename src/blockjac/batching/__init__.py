"""Loops whose steps know nothing of each other become one batch of steps, where structure is asked.

    def step(i, y):
        return y.at[i].set(x[i] * x[i + 1])

A step of such a loop reads where its counter says, and what it carries is only written into, or
added to, at places that are known before the loop runs. All steps are then taken at once, by
`jax.vmap`: each is independent of the others, and its Jacobian keeps the places of its own. What
the steps write is put together at the end: each entry by the last step that wrote it, or by a sum.

`steps` tells of a loop what its steps depend on, `writes` what they do to what is carried, `batch`
is the program without the loop.
"""

from blockjac.batching.batch import with_batched_steps

__all__ = ["with_batched_steps"]
