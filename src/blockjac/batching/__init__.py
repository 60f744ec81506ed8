"""Loops with independent steps become one batch of steps if their structure is needed.

    def step(i, y):
        return y.at[i].set(x[i] * x[i + 1])

A step of such a loop reads at indices that its counter gives. What it carries is only written into,
or added to, at indices that are known before the loop runs. All steps can then be taken at once by
`jax.vmap`: they do not depend on each other, and the Jacobian of each has only its own entries.
What the steps write is put together at the end. Each entry comes from the last step that wrote it,
or from the sum over the steps that added to it.

`steps` finds what is known about the steps of a loop, `chains` and `writes` what they do to what is
carried, and `batch` builds the program without the loop.
"""

from blockjac.batching.batch import with_batched_steps

__all__ = ["with_batched_steps"]
