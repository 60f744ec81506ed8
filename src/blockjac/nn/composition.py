"""The chain rule for a function of two functions of two variables each."""

from collections.abc import Callable
from typing import NamedTuple

from jax.typing import ArrayLike

from blockjac.blocks import Block, star
from blockjac.transforms.first_order import block_jacobian

Function = Callable[[ArrayLike, ArrayLike], ArrayLike]


class CompositionBlocks(NamedTuple):
    """The Jacobian of `phi(V, W, X, Y)`, one block for each variable."""

    V: Block
    W: Block
    X: Block
    Y: Block


def composition_blocks(
    h: Function, f: Function, g: Function
) -> Callable[[ArrayLike, ArrayLike, ArrayLike, ArrayLike], CompositionBlocks]:
    """The Jacobian blocks of `phi(V, W, X, Y) = h(f(V, W), g(X, Y))` by the chain rule.

    With `h` a function of `F` and `G`, and `star` the contraction over all axes of the variable in
    between:

        D_V phi = D_F h star D_V f        D_X phi = D_G h star D_X g
        D_W phi = D_F h star D_W f        D_Y phi = D_G h star D_Y g

    Args:
        h: Function of two tensors.
        f: Function of two tensors, which gives the first argument of `h`.
        g: Function of two tensors, which gives the second argument of `h`.

    Returns:
        A function of `(V, W, X, Y)`, tensors of any order, that gives the four blocks, each of the
        shape of `phi` followed by the variable's.

    Examples:
        >>> blocks = composition_blocks(lambda F, G: F * G, lambda V, W: V + W, lambda X, Y: X * Y)
        >>> print(*(float(block.dense()) for block in blocks(1.0, 2.0, 3.0, 4.0)))
        12.0 12.0 12.0 9.0
    """

    def blocks(V: ArrayLike, W: ArrayLike, X: ArrayLike, Y: ArrayLike) -> CompositionBlocks:
        of_f = block_jacobian(f, argnums=(0, 1))(V, W)
        of_g = block_jacobian(g, argnums=(0, 1))(X, Y)
        of_h = block_jacobian(h, argnums=(0, 1))(f(V, W), g(X, Y))
        inner = [(of_h[0], block) for block in of_f] + [(of_h[1], block) for block in of_g]
        return CompositionBlocks(*(star(outer, block) for outer, block in inner))

    return blocks
