"""The Kronecker-factored approximation of a Gauss-Newton matrix (KFAC), and EKFAC.

For a layer `Y = X W` with positions p (the examples, and steps or places that share the weights)
the exact block of a Gauss-Newton matrix is a sum over pairs of positions,

    sum_pq  X[p,i] X[q,i']  M[p,q,h,h'],      M[p,q] = B[p]' H B[q],

with B the outputs of the model by Y. The approximation keeps the pairs of equal positions and
multiplies two means, `(mean_p X X') (x) (sum_p M[p,p])`; blocks between parameters are left out.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

from blockjac.base.trees import tree_structure
from blockjac.curvature.ggn import check_loss, compiled_but_static
from blockjac.engine.arguments import ArgNums, check_callable, check_inputs, positions_of
from blockjac.errors import ArgumentError, DifferentiationTypeError, InvalidOptionError
from blockjac.kronecker_factors.fisher_types import Asked, FisherType
from blockjac.kronecker_factors.layered import Layered
from blockjac.kronecker_factors.matrix import KroneckerFactored
from blockjac.kronecker_factors.parts import Parts, Sharing
from blockjac.planning import check_order
from blockjac.transforms.shell import documented, fitted
from blockjac.transforms.traced_once import Function, Orders


def kfac(
    model: Function,
    loss: Function,
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    fisher_type: FisherType = "type-2",
    kfac_approx: Sharing = "expand",
    mc_samples: int = 1,
    order: Orders = "auto",
) -> Callable[..., Any]:
    """The Kronecker-factored approximation (KFAC) of a Gauss-Newton matrix. It is not exact.

    The blocks between different parameters are left out. The block of the weights of a layer is the
    Kronecker product `A (x) G` of two averages: A over what enters the layer, G over what the
    outputs of the model send back to it. Layers are found in the model's own operations: products
    with matrices, convolutions, lookups in tables, each once or many times, also inside of loops
    and under `vmap`. Weights that are used at several positions of an example (steps of time,
    places of an image) are treated as `kfac_approx` says. A bias, or the scale of a
    normalization, has its exact block, and so has a parameter that is used in different ways or
    transformed before its use other than by reshaping.

    Args:
        model: `model(params, X)` gives the outputs, an array or a tree of arrays, with examples on
            their first axes and on those of the arrays of `X`.
        loss: `loss(Y, outputs)` gives a real number; convex in the outputs for "mc".
        argnums: which arguments of the model to differentiate by.
        has_aux: whether `model` returns `(outputs, aux)`; the answer is then `(matrix, aux)`.
        fisher_type: what G is made of. "type-2": all outputs, at the price of a backward pass for
            each output of an example. "mc": random vectors whose covariance is the Hessian of the
            loss by the outputs, at the price of one backward pass each; the matrix is then
            unbiased only as far as KFAC is exact. "empirical": the gradients at the given targets.
            "forward-only": the identity (FOOF).
        kfac_approx: "expand" takes every position for an example; "reduce" sums over the positions
            of an example first, as is right where the model takes their mean.
        mc_samples: how many random vectors for "mc".
        order: as in `ggn`.

    Returns:
        A function of `(params, X, Y)` that gives a `KroneckerFactored`, a `BlockMatrix`. For "mc"
        it needs a random key too: `(params, X, Y, key=jax.random.key(0))`.

    Raises:
        TypeError: as `ggn`.
        ValueError: as `ggn`; for unknown options and a missing key; for random vectors of a loss
            that joins examples; and for "reduce" where the model has joined them.

    Source:
        Martens and Grosse, "Optimizing neural networks with Kronecker-factored approximate
        curvature", ICML 2015; Grosse and Martens, ICML 2016, for convolutions; Botev, Ritter and
        Barber, ICML 2017, for Gauss-Newton; Eschenhagen et al., NeurIPS 2023, for expand and
        reduce; Benzing, ICML 2022, for FOOF.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> model = lambda p, X: jnp.tanh(X @ p["W"] + p["b"])
        >>> loss = lambda Y, Q: 0.5 * jnp.mean(jnp.sum((Q - Y) ** 2, axis=1))
        >>> params = {"W": jnp.ones((3, 2)), "b": jnp.zeros(2)}
        >>> matrix = blockjac.kfac(model, loss)(params, jnp.ones((5, 3)), jnp.zeros((5, 2)))
        >>> matrix
        KroneckerFactored(A (x) G, exact)
        >>> matrix.solve(params, damping=0.1)["W"].shape
        (3, 2)
    """
    options = _checked("kfac", fisher_type, kfac_approx, mc_samples)
    return _transform("kfac", "KFAC", model, loss, argnums, has_aux, order, *options, False)


def ekfac(
    model: Function,
    loss: Function,
    argnums: ArgNums = 0,
    has_aux: bool = False,
    *,
    fisher_type: FisherType = "type-2",
    kfac_approx: Sharing = "expand",
    mc_samples: int = 1,
    order: Orders = "auto",
) -> Callable[..., Any]:
    """KFAC with corrected eigenvalues (EKFAC), closer to the Gauss-Newton matrix.

    The eigenvectors are those of the factors of `kfac`. In place of the products of their
    eigenvalues stands the diagonal of the exact block in this basis, which is the best diagonal
    there is in the Frobenius norm.

    Args:
        model: as in `kfac`.
        loss: as in `kfac`.
        argnums: as in `kfac`.
        has_aux: as in `kfac`.
        fisher_type: as in `kfac`, but for "forward-only". The same random vectors give both the
            factors and the eigenvalues.
        kfac_approx: as in `kfac`; for the eigenvectors.
        mc_samples: as in `kfac`.
        order: as in `ggn`.

    Returns:
        As `kfac`.

    Raises:
        TypeError: as `kfac`.
        ValueError: as `kfac`.

    Source:
        George, Laurent, Bouthillier, Ballas and Vincent, "Fast approximate natural gradient descent
        in a Kronecker-factored eigenbasis", NeurIPS 2018.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> model = lambda W, X: jnp.tanh(X @ W)
        >>> loss = lambda Y, Q: 0.5 * jnp.mean(jnp.sum((Q - Y) ** 2, axis=1))
        >>> W, X = jnp.array([[1.0, 0.0], [0.5, 1.0]]), jnp.array([[1.0, 2.0], [0.0, 1.0]])
        >>> matrix = blockjac.ekfac(model, loss)(W, X, jnp.zeros((2, 2)))
        >>> matrix
        KroneckerFactored((U (x) V) S (U (x) V)')
        >>> exact = blockjac.ggn(model, loss)(W, X, jnp.zeros((2, 2)))
        >>> bool(jnp.isclose(jnp.trace(matrix.dense()), jnp.trace(exact.dense())))
        True
    """
    if fisher_type == "forward-only":
        raise InvalidOptionError(
            "ekfac takes the eigenvalues of gradients, but fisher_type='forward-only' has none; "
            "use kfac, or one of 'type-2', 'mc' and 'empirical'"
        )
    options = _checked("ekfac", fisher_type, kfac_approx, mc_samples)
    return _transform("ekfac", "EKFAC", model, loss, argnums, has_aux, order, *options, True)


def _checked(
    name: str, fisher_type: FisherType, kfac_approx: Sharing, mc_samples: int
) -> tuple[FisherType, Sharing, int]:
    """The options, if they are."""
    allowed = ("fisher_type", fisher_type, FisherType), ("kfac_approx", kfac_approx, Sharing)
    for option, value, literal in allowed:
        if value not in get_args(literal):
            *first, last = map(repr, get_args(literal))
            raise InvalidOptionError(
                f"{name}'s {option} must be {', '.join(first)} or {last}, but is {value!r}"
            )
    count = operator.index(mc_samples)
    if count < 1:
        raise InvalidOptionError(f"{name}'s mc_samples must be at least 1, but is {mc_samples}")
    return fisher_type, kfac_approx, count


def _transform(
    name: str,
    description: str,
    model: Function,
    loss: Function,
    argnums: ArgNums,
    has_aux: bool,
    order: Orders,
    fisher_type: FisherType,
    kfac_approx: Sharing,
    mc_samples: int,
    is_corrected: bool,
) -> Callable[..., Any]:
    """The function of parameters, inputs, targets and a key."""
    order = check_order(order)
    check_callable(model, name)
    check_callable(loss, name)

    def matrix_of(key: Any, *args: Any) -> tuple[KroneckerFactored, Any]:
        """The matrix, and the auxiliary result."""
        *model_args, targets = args
        layered = Layered.of(name, model, argnums, model_args, has_aux)
        call = layered.call
        call.check_real()
        if not layered.record.results:
            raise DifferentiationTypeError(
                "the model has no outputs: it returned a tree of no arrays"
            )
        outs, jacobian = layered.linear(fitted(order, call), fisher_type == "type-2")
        outputs = layered.outputs(outs)
        check_loss(loss, targets, outputs, name)
        asked = Asked(fisher_type, mc_samples, key, name)
        places = layered.examples()
        arrivals, is_factored = asked.arrivals(jacobian, loss, targets, outputs, places)
        _, records, extra = call.auxiliary(outs[call.count :]).tree()
        parts = Parts(layered, records, arrivals, places, kfac_approx, is_corrected, is_factored)
        positions = positions_of(argnums, len(model_args))
        own = [model_args[position] for position in positions]
        tree = tree_structure(own[0] if isinstance(argnums, int) else tuple(own))
        leaves = range(len(layered.parameters))
        matrix = KroneckerFactored([parts.of_leaf(leaf) for leaf in leaves], tree)
        return matrix, replace(layered.record.auxiliary, arrays=tuple(extra))

    def of_arguments(*args: Any, key: Any = None) -> Any:
        """The matrix, compiled, at the arguments of the model and the targets."""
        if len(args) < 2:
            raise DifferentiationTypeError(
                f"{name} takes the arguments of the model and then the targets, as in "
                f"(params, X, Y), but was called with {len(args)}"
            )
        if (key is None) == (fisher_type == "mc"):
            raise ArgumentError(
                f"{name} needs a random key for fisher_type='mc', as in (params, X, Y, "
                "key=jax.random.key(0))"
                if key is None
                else f"{name} takes a random key for fisher_type='mc' alone, but it is "
                f"{fisher_type!r}"
            )
        check_inputs(name, model, argnums, args[:-1])
        matrix, aux = compiled_but_static(matrix_of, (key, *args))
        return (matrix, aux.tree()) if has_aux else matrix

    return documented(of_arguments, model, description, argnums)
