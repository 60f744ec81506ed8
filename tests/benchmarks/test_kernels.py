"""The page of the kernels ends with what holds over all of them, and with the products counted."""

from types import SimpleNamespace

import numpy as np

import blockjac
import harness
import kernels


def measurement(seconds):
    return harness.Measurement(np.array([seconds]), None)


def test_products_are_counted_for_every_kernel_and_order(monkeypatch):
    def plan(function, argnums, order):
        assert argnums
        return lambda *point: SimpleNamespace(edge_products=1000 * len(order))

    monkeypatch.setattr(blockjac, "plan", plan)
    monkeypatch.setattr(kernels, "SEARCH", {})
    lines = kernels.edge_products()
    assert "| kernel | reverse | forward | greedy |" in lines
    assert "| roe flux 1d | 7,000 | 7,000 | 6,000 |" in lines
    assert len(lines) == 4 + len(kernels.KERNELS) + 1


def test_without_plans_nothing_is_counted(monkeypatch):
    monkeypatch.setattr(blockjac, "plan", None)
    assert kernels.edge_products() == []


def test_conclusion_is_about_each_mode_and_about_the_faster(monkeypatch):
    monkeypatch.setattr(blockjac, "plan", None)
    measured = {
        "one": {
            "blockjac": measurement(1.0),
            "jacfwd": measurement(1.6),
            "jacrev": measurement(4.0),
        },
        "two": {
            "blockjac": measurement(1.0),
            "jacfwd": measurement(1.6),
            "jacrev": measurement(1.0),
        },
    }
    text = kernels.conclusion(measured)
    assert "at most 0.667 x jacfwd in the geometric mean of 2 tasks: 0.625 x, met" in text
    assert "at most 0.667 x jacrev in the geometric mean of 2 tasks: 0.5 x, met" in text
    assert "the fastest of jacfwd and jacrev in the geometric mean of 2 tasks: 0.791 x" in text
