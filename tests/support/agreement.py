"""Ours beside JAX's: the orders, the oracles, and when two answers agree."""

import jax
import jax.numpy as jnp
import numpy as np
from support.precision import assert_close

from blockjac.base import compat

ORACLES = {"forward": jax.jacfwd, "reverse": jax.jacrev}
ORDERS = ("forward", "reverse")


def differentiated(arguments):
    return tuple(
        place for place, value in enumerate(arguments) if jnp.issubdtype(value.dtype, jnp.floating)
    )


def agree(ours, theirs, holes, rtol=1e-12, atol=1e-14):
    ours, theirs = jax.tree.map(np.asarray, (ours, theirs))
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for own, wanted in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert own.shape == wanted.shape
        assert own.dtype == wanted.dtype
        if holes:
            wanted = np.where(np.isnan(wanted) & (own == 0), 0, wanted)
        assert_close(own, wanted, rtol, atol)


def primitives_of(jaxpr):
    """The names of all primitives of a jaxpr, those of inner jaxprs included."""
    found = set()
    for equation in compat.open_jaxpr(jaxpr).eqns:
        found.add(equation.primitive.name)
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda value: compat.is_jaxpr(value)
        ):
            if compat.is_jaxpr(inner):
                found |= primitives_of(inner)
    return found
