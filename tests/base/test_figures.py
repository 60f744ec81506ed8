"""Titles of figures fit, however much they say."""

import jax.numpy as jnp
import pytest

import blockjac

pytest.importorskip("matplotlib")


def total(alpha, beta, gamma, delta, epsilon, zeta, eta, theta):
    return jnp.sum(alpha * beta * gamma * delta * epsilon * zeta * eta * theta)


def plotted(kind):
    arguments = [jnp.ones((3, 2))] * 8
    if kind == "plan":
        return blockjac.plan(total, tuple(range(8)))(*arguments).plot()
    return blockjac.explain(total, tuple(range(8)))(*arguments).plot()


@pytest.mark.parametrize("kind", ["plan", "explanation"])
def test_long_title_is_inside_of_the_figure(kind):
    figure = plotted(kind)
    figure.canvas.draw()
    title = figure._suptitle if kind == "plan" else figure.axes[0].title
    assert "theta" in title.get_text() or "θ" in title.get_text()
    box, whole = title.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0
    assert box.x1 <= whole.x1
    assert box.y1 <= whole.y1
