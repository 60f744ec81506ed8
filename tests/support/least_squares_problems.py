"""Least-squares problems of several structures, with their parameters and data."""

import jax.numpy as jnp
import numpy as np


def curve(seed):
    """A sum of two decays: every residual depends on every parameter."""
    random = np.random.default_rng(seed)
    x = np.linspace(0.0, 4.0, 60)
    y = 2 * np.exp(-0.5 * x) + np.exp(-3 * x) + 0.01 * random.normal(size=60)

    def residuals(params, x, y):
        parts = params["height"] * jnp.exp(-params["rate"] * x[:, None])
        return jnp.sum(parts, axis=1) - y

    start = {"height": jnp.array([1.0, 1.5]), "rate": jnp.array([0.3, 2.0])}
    return residuals, start, (x, y)


def arrow(seed):
    """A shared curvature, and a level and a slope for each group."""
    random = np.random.default_rng(seed)
    groups, rows = 12, 9
    x = random.normal(size=(groups, rows))
    level, slope = random.normal(size=(2, groups, 1))
    y = level + slope * np.tanh(0.7 * x) + 0.05 * random.normal(size=x.shape)

    def residuals(params, x, y):
        shared, own = params
        return own[:, :1] + own[:, 1:] * jnp.tanh(shared * x) - y

    return residuals, (jnp.asarray(1.0), jnp.ones((groups, 2))), (x, y)


def chain(seed):
    """A path that is smooth and passes near to what was measured."""
    random = np.random.default_rng(seed)
    y = np.cumsum(random.normal(size=40)) / 3

    def residuals(path, y):
        steps = path[1:] - path[:-1]
        return {"measured": path + 0.1 * path**3 - y, "smooth": 2 * jnp.sin(steps)}

    return residuals, jnp.zeros(40), (y,)


def poses(seed, count=30):
    """Poses `(x, y, angle)` of a robot that comes by the same places twice."""
    random = np.random.default_rng(seed)
    angle = np.linspace(0.0, 4 * np.pi, count)
    truth = np.stack([5 * np.sin(angle), 5 - 5 * np.cos(angle), angle], axis=1)
    first = np.concatenate([np.arange(count - 1), np.arange(0, count // 2, 4)])
    second = np.concatenate([np.arange(1, count), np.arange(0, count // 2, 4) + count // 2])

    def between(a, b):
        cos, sin = jnp.cos(a[:, 2:]), jnp.sin(a[:, 2:])
        dx, dy = b[:, :1] - a[:, :1], b[:, 1:2] - a[:, 1:2]
        turn = b[:, 2:] - a[:, 2:]
        return jnp.concatenate([cos * dx + sin * dy, cos * dy - sin * dx, turn], axis=1)

    measured = between(truth[first], truth[second])
    measured = measured + np.array([0.05, 0.05, 0.01]) * random.normal(size=measured.shape)

    def residuals(poses, first, second, measured):
        edges = between(poses[first], poses[second]) - measured
        return {"edges": edges, "anchor": 10 * (poses[0] - truth[0])}

    start = jnp.asarray(truth + 0.1 * random.normal(size=truth.shape))
    return residuals, start, (first, second, measured)


def bundle(seed, cameras=4, points=25, pixels=1e-3):
    """Cameras of nine parameters, and points that each camera sees with some chance."""
    random = np.random.default_rng(seed)
    camera, point = np.nonzero(random.uniform(size=(cameras, points)) < 0.8)

    def project(camera, point):
        turn = camera[:, :3]
        angle = jnp.sqrt(jnp.sum(turn**2, axis=1, keepdims=True) + 1e-12)
        axis = turn / angle
        along = axis * jnp.sum(axis * point, axis=1, keepdims=True) * (1 - jnp.cos(angle))
        turned = point * jnp.cos(angle) + jnp.cross(axis, point) * jnp.sin(angle) + along
        x, y, depth = jnp.split(turned + camera[:, 3:6], 3, axis=1)
        plane = -jnp.concatenate([x, y], axis=1) / depth
        radius = jnp.sum(plane**2, axis=1, keepdims=True)
        return camera[:, 6:7] * (1 + camera[:, 7:8] * radius + camera[:, 8:9] * radius**2) * plane

    turns, places = 0.3 * random.normal(size=(2, cameras, 3))
    lenses = np.tile([1.0, 0.01, 0.001], (cameras, 1))
    truth = {
        "cameras": np.concatenate([turns, places, lenses], axis=1),
        "points": random.normal(size=(points, 3)) + np.array([0, 0, -8.0]),
    }
    seen = project(truth["cameras"][camera], truth["points"][point])
    seen = np.asarray(seen + pixels * random.normal(size=seen.shape))

    def residuals(params, camera, point, seen):
        views = project(params["cameras"][camera], params["points"][point]) - seen
        # what no view tells: place, turn and scale of the whole
        priors = {name: 0.1 * (params[name] - truth[name]) for name in truth}
        return {"views": views, "priors": priors}

    start = {
        name: jnp.asarray(part + 1e-2 * random.normal(size=part.shape))
        for name, part in truth.items()
    }
    return residuals, start, (camera, point, seen)


def tree(seed):
    """Parameters and residuals in trees of arrays of several ranks, one of a single number."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(30, 3))
    w, out = random.normal(size=(3, 2)), np.array([1.0, -2.0])
    y = np.tanh(x @ w) @ out + 0.5 + 0.05 * random.normal(size=30)

    def residuals(params, data):
        hidden = jnp.tanh(data["x"] @ params["in"]["w"] + params["in"]["b"])
        fit = hidden @ params["out"] + params["level"] - data["y"]
        return fit, [0.1 * (params["in"]["w"] - w), 0.1 * (params["out"] - out)]

    start = {
        "in": {"w": jnp.asarray(w + 0.1 * random.normal(size=w.shape)), "b": jnp.zeros(2)},
        "out": jnp.asarray(out + 0.1),
        "level": 0.0,
    }
    return residuals, start, ({"x": x, "y": y},)


PROBLEMS = {
    "curve": curve,
    "arrow": arrow,
    "chain": chain,
    "poses": poses,
    "bundle": bundle,
    "tree": tree,
}
