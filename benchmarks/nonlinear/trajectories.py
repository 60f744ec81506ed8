"""Optimal control by collocation: the swing-up of a pole on a cart, a rocket's highest flight."""

import jax
import jax.numpy as jnp
import numpy as np

from blockjac import interop

Tree = dict[str, jax.Array]


def swing_up(nodes: int = 2_000) -> interop.NonlinearProgram:
    """Swing a pole on a cart up in two seconds with least effort, by trapezoidal collocation.

    Five variables a node: position, angle and their speeds, and the force. The model and its
    numbers are those of Kelly, "An introduction to trajectory optimization", SIAM Review 2017.
    """
    cart, pole, length, gravity, seconds, distance = 1.0, 0.3, 0.5, 9.81, 2.0, 1.0
    step = seconds / (nodes - 1)
    share = np.linspace(0.0, 1.0, nodes)

    def rates(state: Tree) -> jax.Array:
        """The time derivatives of position, angle, speed and angular speed, `(4, nodes)`."""
        _, angle, speed, spin = state["state"]
        force, s, c = state["force"], jnp.sin(angle), jnp.cos(angle)
        mass = cart + pole * (1 - c**2)
        forward = (length * pole * s * spin**2 + force + pole * gravity * c * s) / mass
        turning = length * pole * c * s * spin**2 + force * c + (cart + pole) * gravity * s
        return jnp.stack([speed, spin, forward, -turning / (length * mass)])

    def effort(state: Tree) -> jax.Array:
        force = state["force"]
        return jnp.sum(force[1:] ** 2 + force[:-1] ** 2) * step / 2

    def constraints(state: Tree) -> Tree:
        rate = rates(state)
        moved = (rate[:, 1:] + rate[:, :-1]) * step / 2
        ends = state["state"][:, [0, -1]]
        return {
            "ends": ends - np.array([[0.0, distance], [0.0, np.pi], [0.0, 0.0], [0.0, 0.0]]),
            "moves": state["state"][:, 1:] - state["state"][:, :-1] - moved,
        }

    start = {
        "state": np.stack([distance * share, np.pi * share, 0 * share, 0 * share]),
        "force": np.zeros(nodes),
    }
    limits = {"state": np.array([[2 * distance], [np.inf], [np.inf], [np.inf]]), "force": 20.0}
    below = {"state": -limits["state"], "force": -20.0}
    return interop.nlp(effort, constraints, start, bounds=(below, limits))


def rocket(nodes: int = 1_000) -> interop.NonlinearProgram:
    """The thrust that takes a rocket highest, in a time that is free (Goddard's problem).

    The numbers are those of Dolan, More and Munson, "Benchmarking optimization software with COPS
    3.0", 2004, where the greatest height is 1.01283.
    """
    gravity, thrust, drag_height, mass_left = 1.0, 3.5, 500.0, 0.6
    drag, exhaust = 0.5 * 620.0, 0.5

    def rates(state: Tree) -> jax.Array:
        height, speed, mass = state["height"], state["speed"], state["mass"]
        friction = drag * speed**2 * jnp.exp(-drag_height * (height - 1))
        rising = (state["thrust"] - friction) / mass - gravity / height**2
        return jnp.stack([speed, rising, -state["thrust"] / exhaust])

    def constraints(state: Tree) -> Tree:
        flown = jnp.stack([state["height"], state["speed"], state["mass"]])
        rate, step = rates(state), state["time"] / (nodes - 1)
        moves = flown[:, 1:] - flown[:, :-1] - (rate[:, 1:] + rate[:, :-1]) * step / 2
        return {"moves": moves, "start": flown[:, 0] - np.array([1.0, 0.0, 1.0])}

    share = np.linspace(0.0, 1.0, nodes)
    start = {
        "height": np.ones(nodes),
        "speed": share * (1 - share),
        "mass": 1 - (1 - mass_left) * share,
        "thrust": np.full(nodes, thrust / 2),
        "time": 1.0,
    }
    below = {"height": 1.0, "speed": 0.0, "mass": mass_left, "thrust": 0.0, "time": 0.01}
    above = {"height": np.inf, "speed": np.inf, "mass": 1.0, "thrust": thrust, "time": np.inf}
    return interop.nlp(
        lambda state: -state["height"][-1], constraints, start, bounds=(below, above)
    )
