"""The functions of ADBench and GradBench, written from their mathematics, with random data.

Each module holds functions in plain JAX and what makes their arguments. Those that take `xp` are
written in the part of NumPy's interface that `jax.numpy`, `autograd.numpy` and `torch` share.
"""

from public_problems import cameras, hands, mixtures, nested, recurrent, smooth, sparse, vision

__all__ = ["cameras", "hands", "mixtures", "nested", "recurrent", "smooth", "sparse", "vision"]
