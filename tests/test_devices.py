"""Plans are made for the device that runs: its rates, its memory, and the way to set them."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import blockjac
from blockjac import devices
from blockjac.algebra.cost import Cost
from blockjac.devices import Rates


@dataclass(frozen=True)
class Device:
    """What JAX tells of a device."""

    platform: str
    device_kind: str
    bytes_limit: int | None = None

    def memory_stats(self) -> dict[str, Any] | None:
        return None if self.bytes_limit is None else {"bytes_limit": self.bytes_limit}


H100 = Device("gpu", "NVIDIA H100 80GB HBM3", 80 * 2**30)


@pytest.fixture
def as_it_was(monkeypatch):
    monkeypatch.setattr(devices, "KINDS", dict(devices.KINDS))
    devices._rates.cache_clear()
    yield
    devices._rates.cache_clear()


@pytest.mark.parametrize(
    ("device", "bytes_per_second"),
    [
        (H100, 3.35e12),
        (Device("cuda", "NVIDIA A100-SXM4-40GB"), 2.0e12),
        (Device("gpu", "some other"), 500e9),
        (Device("cuda", "some other"), 500e9),
        (Device("tpu", "TPU v5 lite"), 0.82e12),
        (Device("tpu", "TPU v5p"), 2.77e12),
        (Device("tpu", "TPU v9"), 1e12),
        (Device("metal", "Apple M9"), 500e9),
        (Device("cpu", "cpu"), 10e9),
    ],
)
def test_the_longest_name_that_fits_counts(device, bytes_per_second):
    assert devices.rates(device).bytes_per_second == bytes_per_second


def test_rates_can_be_set(as_it_was):
    own = Rates(1e12, 2e11)
    devices.set_rates("my accelerator", own)
    assert devices.rates(Device("gpu", "my accelerator 2")) == own
    before = Cost(bytes=10**6).seconds()
    devices.set_rates("cpu", Rates(16e9, 20e9, 0.5e-6))
    assert Cost(bytes=10**6).seconds() == before / 2


def test_the_cheapest_order_follows_the_rates(as_it_was):
    matrix = jnp.ones((40, 40))
    fun = lambda x: jnp.tanh(matrix @ jnp.tanh(matrix @ x))  # noqa: E731
    seconds = blockjac.plan(fun)(jnp.ones(40)).figures.seconds
    devices.set_rates("cpu", Rates(16e8, 10e8, 0.5e-5))
    slower = blockjac.plan(fun)(jnp.ones(40)).figures.seconds
    assert slower == pytest.approx(10 * seconds)


@pytest.mark.parametrize(
    ("kind", "figures"), [("", Rates(1e9, 1e9)), (3, Rates(1e9, 1e9)), ("a", (1e9, 1e9))]
)
def test_what_is_no_kind_or_no_figures_is_refused(kind, figures):
    with pytest.raises(blockjac.errors.ArgumentError, match="must be"):
        devices.set_rates(kind, figures)


@pytest.mark.parametrize("value", [0, -1.0, "fast", None, True])
def test_rates_are_positive_numbers(value):
    with pytest.raises(blockjac.errors.ArgumentError, match=r"bytes_per_second is .* positive"):
        Rates(1e9, value)


def test_memory_is_that_of_the_device():
    assert devices.memory_limit(H100) == 40 * 2**30
    assert devices.memory_limit(Device("cpu", "cpu")) == devices.host_limit()


def test_a_dense_result_is_refused_by_the_memory_of_the_device(monkeypatch):
    small = Device("gpu", "small", 2**20)
    monkeypatch.setattr(devices, "current", lambda: small)
    block = blockjac.Block.identity((1000,), jnp.float32)
    with pytest.raises(blockjac.errors.DenseTooLargeError, match=r"limit of 512 KiB"):
        block.dense()


def test_the_current_device_is_the_default_one():
    device = jax.local_devices()[0]
    assert devices.current() == device
    with jax.default_device(device):
        assert devices.current() == device


def test_plans_say_for_which_device(tmp_path):
    plan = blockjac.plan(jnp.tanh)(jnp.ones(3))
    assert plan.device == devices.kind()
    assert f"for {devices.kind()}" in str(plan)
    plan.save(tmp_path / "plan.json")
    assert blockjac.Plan.load(tmp_path / "plan.json").device == plan.device


def test_the_host_is_not_the_device(monkeypatch):
    monkeypatch.setattr(devices, "current", lambda: H100)
    assert devices.rates() == devices.KINDS["NVIDIA H100"]
    assert devices.host_rates() == devices.PLATFORMS["cpu"]
