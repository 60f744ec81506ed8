"""AC optimal power flow in polar coordinates, on synthetic grids of any size.

The formulation is the one of rosetta-opf with the flows as expressions: real and reactive power
balance at each bus, thermal limits at both ends of each branch, limits on angle differences, and
quadratic costs. Grids are drawn like transmission systems: buses in the plane, branches to near
neighbours (a spanning tree and the shortest further ones), impedances by length. A branch is rated
above what flows in it, by the linear model, where every generator serves the buses next to it; no
generator has so many of them that the angles along the way would be too large. So there is a
feasible point of that model.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import splu
from scipy.spatial import Delaunay

from blockjac import interop

BRANCHES_PER_BUS = 1.5

SHORTEST = 0.1
"""The shortest branch, where buses are 1 apart on average: nobody builds a line of no length."""

MOST_SERVED = 2.0
"""The largest load that a generator serves."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A power grid, per unit.

    Attributes:
        start: the bus where each branch begins, `(branches,)`.
        end: where it ends.
        conductance: of each branch in series.
        susceptance: likewise; negative for an inductive line.
        charging: half of its line charging.
        rating: the largest apparent power at either end.
        real_load: of each bus, `(buses,)`.
        reactive_load: likewise.
        site: the bus of each generator, `(generators,)`.
        served: the load of the buses next to each generator.
        capacity: the largest real power of each generator.
        quadratic_cost: by the square of its real power.
        linear_cost: by its real power.
    """

    start: np.ndarray
    end: np.ndarray
    conductance: np.ndarray
    susceptance: np.ndarray
    charging: np.ndarray
    rating: np.ndarray
    real_load: np.ndarray
    reactive_load: np.ndarray
    site: np.ndarray
    served: np.ndarray
    capacity: np.ndarray
    quadratic_cost: np.ndarray
    linear_cost: np.ndarray


def synthetic_grid(buses: int, seed: int = 0) -> Grid:
    """A grid of so many buses."""
    generator = np.random.default_rng(seed)
    places = generator.uniform(size=(buses, 2)) * np.sqrt(buses)
    corners = Delaunay(places).simplices
    pairs = np.unique(
        np.sort(
            np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [0, 2]]]), axis=1
        ),
        axis=0,
    )
    lengths = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1)
    graph = sparse.coo_array((lengths, pairs.T), shape=(buses, buses))
    spanning = np.sort(np.stack(csgraph.minimum_spanning_tree(graph).nonzero()), axis=0).T
    in_tree = np.isin(pairs @ [buses, 1], spanning @ [buses, 1])
    order = np.lexsort([lengths, ~in_tree])[: int(BRANCHES_PER_BUS * buses)]
    (start, end), length = pairs[order].T, np.maximum(lengths[order], SHORTEST)
    impedance = (0.01 + 0.06j) * length
    admittance = 1 / impedance
    site = generator.choice(buses, max(2, buses // 5), replace=False)
    load = np.where(generator.uniform(size=buses) < 0.7, generator.uniform(0.1, 0.5, buses), 0.0)
    chosen = sparse.coo_array((length, (start, end)), shape=(buses, buses))
    site, served = enough_generators(chosen, site, load)
    injected = -load
    injected[site] += served
    flow = linear_flow(start, end, -admittance.imag, injected)
    return Grid(
        start=start,
        end=end,
        conductance=admittance.real,
        susceptance=admittance.imag,
        charging=0.01 * length,
        rating=np.maximum(2.0, 1.5 * np.abs(flow)),
        real_load=load,
        reactive_load=0.3 * load,
        site=site,
        served=served,
        capacity=0.5 + served * generator.uniform(2.0, 4.0, len(site)),
        quadratic_cost=generator.uniform(0.5, 2.0, len(site)),
        linear_cost=generator.uniform(5.0, 20.0, len(site)),
    )


def enough_generators(
    branches: sparse.coo_array, site: np.ndarray, load: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Generators, with further ones where some would serve too much, and the load that each serves.

    A bus is served by the next generator along the branches. Of the buses of a generator that would
    serve too much the remotest gets one of its own.
    """
    while True:
        distance, _, source = csgraph.dijkstra(
            branches, directed=False, indices=site, min_only=True, return_predecessors=True
        )
        served = np.bincount(source, load, len(load))
        if served.max() <= MOST_SERVED:
            return site, served[site]
        remotest = np.lexsort([-distance, source])
        source, first = np.unique(source[remotest], return_index=True)
        site = np.append(site, remotest[first[served[source] > MOST_SERVED]])


def linear_flow(
    start: np.ndarray, end: np.ndarray, stiffness: np.ndarray, injected: np.ndarray
) -> np.ndarray:
    """What flows in each branch by the linear ("DC") model, in which angles are potentials."""
    branches = np.arange(len(start))
    ones = np.ones(len(start))
    incidence = sparse.csr_array(
        (np.r_[ones, -ones], (np.r_[branches, branches], np.r_[start, end]))
    )
    laplacian = (incidence.T @ sparse.diags_array(stiffness) @ incidence).tocsc()
    angle = np.r_[0.0, splu(laplacian[1:, 1:]).solve(injected[1:])]
    return stiffness * (incidence @ angle)


def flows(grid: Grid, state: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
    """Real and reactive power into each branch at its start, then at its end."""
    first, last = state["voltage"][grid.start], state["voltage"][grid.end]
    difference = state["angle"][grid.start] - state["angle"][grid.end]
    along, across = first * last * jnp.cos(difference), first * last * jnp.sin(difference)
    g, b, shunt = grid.conductance, grid.susceptance, grid.susceptance + grid.charging
    return (
        g * first**2 - g * along - b * across,
        -shunt * first**2 + b * along - g * across,
        g * last**2 - g * along + b * across,
        -shunt * last**2 + b * along + g * across,
    )


def power_flow(grid: Grid) -> interop.NonlinearProgram:
    """Generate the loads at least cost within all limits."""

    def cost(state: dict[str, jax.Array]) -> jax.Array:
        real = state["real"]
        return jnp.sum(grid.quadratic_cost * real**2 + grid.linear_cost * real)

    def constraints(state: dict[str, jax.Array]) -> dict[str, Any]:
        real, reactive, real_back, reactive_back = flows(grid, state)

        def balance(first: jax.Array, last: jax.Array, load: np.ndarray, made: jax.Array) -> Any:
            flowing = jnp.asarray(load).at[grid.start].add(first).at[grid.end].add(last)
            return flowing.at[grid.site].add(-made)

        return {
            "angles": state["angle"][grid.start] - state["angle"][grid.end],
            "back": real_back**2 + reactive_back**2,
            "forth": real**2 + reactive**2,
            "reactive": balance(reactive, reactive_back, grid.reactive_load, state["reactive"]),
            "real": balance(real, real_back, grid.real_load, state["real"]),
            "reference": state["angle"][0],
        }

    none, limit = -np.inf, grid.rating**2
    start = {
        "angle": np.zeros(len(grid.real_load)),
        "voltage": np.ones(len(grid.real_load)),
        "real": grid.served,
        "reactive": np.zeros(len(grid.site)),
    }
    least = {"angle": none, "voltage": 0.9, "real": 0.0, "reactive": -grid.capacity}
    most = {"angle": np.inf, "voltage": 1.1, "real": grid.capacity, "reactive": grid.capacity}
    equations = {"real": 0.0, "reactive": 0.0, "reference": 0.0}
    below = {"angles": -0.5, "back": none, "forth": none, **equations}
    above = {"angles": 0.5, "back": limit, "forth": limit, **equations}
    return interop.nlp(
        cost, constraints, start, bounds=(least, most), constraint_bounds=(below, above)
    )
