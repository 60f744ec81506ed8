"""Kernels of simulations, at 4,096 points: the planned order against forward and reverse."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax

import blockjac
import harness
from scalar_programs import KERNELS, Kernel

POINTS = 4_096
LIMIT = 1 / 1.5
SEARCH = {"search": blockjac.Search(seconds=10)} if hasattr(blockjac, "Search") else {}
ORDER = SEARCH.get("search", "auto")
"""How the order is found: searched for where there is a search."""


def batched(name: str, kernel: Kernel) -> harness.Task:
    """The Jacobian of one kernel at all points."""
    function, argnums = kernel.function, kernel.argnums
    return harness.Task(
        title=f"{name.capitalize()}, {POINTS:,} points",
        arguments=kernel.points(POINTS),
        contenders={
            harness.OURS: jax.vmap(blockjac.jacobian(function, argnums, order=ORDER)),
            "jacfwd": jax.vmap(jax.jacfwd(function, argnums)),
            "jacrev": jax.vmap(jax.jacrev(function, argnums)),
            "the function": jax.vmap(function),
        },
        dense="jacrev",
        alike=(harness.OURS, "jacfwd", "jacrev"),
        note="All under `jax.vmap`; the last is the function itself, without a derivative.",
    )


def conclusion(measured: Mapping[str, harness.Measured]) -> str:
    """The geometric means over all kernels, and the products that each order takes."""
    lines = ["## All kernels", ""]
    for peers in (("jacfwd",), ("jacrev",), ("jacfwd", "jacrev")):
        lines.append(harness.mean_verdict(harness.Claim(LIMIT, peers), measured))
    return "\n".join([*lines, "", *edge_products()])


def edge_products() -> list[str]:
    """A table of the products of two edges that each order takes, where plans can be made."""
    if not callable(getattr(blockjac, "plan", None)):
        return []
    orders: dict[str, Any] = {**{name: name for name in ("reverse", "forward", "greedy")}, **SEARCH}
    lines = [
        "## Products of two edges, each counted once an element",
        "",
        f"| kernel | {' | '.join(orders)} |",
        f"|---|{'---|' * len(orders)}",
    ]
    for name, kernel in KERNELS.items():
        counts = [
            blockjac.plan(kernel.function, kernel.argnums, order=order)(*kernel.point())
            for order in orders.values()
        ]
        cells = [f"{count.edge_products:,}" for count in counts]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


TASKS = {name.replace(" ", "-"): partial(batched, name, one) for name, one in KERNELS.items()}

if __name__ == "__main__":
    harness.main(
        "Kernels at many points: 1.5 times faster than forward and reverse mode",
        TASKS,
        appendix=conclusion,
    )
