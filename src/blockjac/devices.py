"""What a device does in a second, and how much it holds: what orders are compared by.

Predicted times only have to rank orders, so that peak figures of data sheets are enough. A device
that is not in the table counts as one of its platform. `set_rates` replaces a row, by figures that
you measured.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax

from blockjac.base.caches import clear_caches
from blockjac.errors import ArgumentError

MEMORY_SHARE = 0.5
"""The share of a device's memory that one answer may take by default."""

UNKNOWN_MEMORY = 16 * 2**30
"""The memory, in bytes, of a machine that does not tell."""


@dataclass(frozen=True)
class Rates:
    """What a device does.

    Attributes:
        operations_per_second: scalar additions and multiplications.
        bytes_per_second: read from its memory or written to it.
        seconds_a_contraction: what it takes to start one more operation.
        seconds_a_column: what a dense factorization waits for each column, beside its operations.
        seconds_a_host_call: what it takes a compiled program to call a function of the host.
        host_bytes_per_second: moved between the device and the host.
    """

    operations_per_second: float
    bytes_per_second: float
    seconds_a_contraction: float = 5e-6
    seconds_a_column: float = 3e-6
    seconds_a_host_call: float = 3e-4
    host_bytes_per_second: float = 5e9

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ArgumentError(f"{name} is {value!r}, but must be a positive number")


PLATFORMS: Mapping[str, Rates] = {
    "cpu": Rates(16e9, 10e9, 0.5e-6, 1e-8, 1e-4, 10e9),
    "gpu": Rates(10e12, 500e9),
    "tpu": Rates(100e12, 1e12),
}
"""Devices that are not in the table; for a CPU the order of two cores of a server in float64.

What accelerators wait for columns and for the host is as measured on an NVIDIA H200."""

KINDS: dict[str, Rates] = {
    "NVIDIA H200": Rates(67e12, 4.8e12),
    "NVIDIA H100": Rates(67e12, 3.35e12),
    "NVIDIA A100": Rates(19.5e12, 2.0e12),
    "Tesla V100": Rates(15.7e12, 0.9e12),
    "NVIDIA L4": Rates(30.3e12, 0.3e12),
    "Tesla T4": Rates(8.1e12, 0.32e12),
    "NVIDIA GeForce RTX 4090": Rates(82.6e12, 1.0e12),
    "TPU v4": Rates(275e12, 1.2e12),
    "TPU v5 lite": Rates(197e12, 0.82e12),
    "TPU v5": Rates(459e12, 2.77e12),
    "TPU v6 lite": Rates(918e12, 1.64e12),
}
"""By the start of the name that JAX gives a device. NVIDIA's data sheets (float32 without tensor
cores, SXM versions), and the pages of Google Cloud about TPU versions (bfloat16)."""


def current() -> Any:
    """The device that a function runs on that is called with arrays of NumPy."""
    config: Any = jax.config
    chosen: Any = config.jax_default_device
    if chosen is None or isinstance(chosen, str):
        devices = cast("list[Any]", jax.local_devices(backend=chosen))
        return devices[0]
    return chosen


def kind(device: Any = None) -> str:
    """The name of a device, the `current` one by default, as plans show it.

    Args:
        device: one of `jax.devices()`.

    Examples:
        >>> kind()
        'cpu'
    """
    return str((device or current()).device_kind)


def rates(device: Any = None) -> Rates:
    """What a device does in a second.

    Args:
        device: one of `jax.devices()`; the `current` one if None.

    Examples:
        >>> rates().bytes_per_second
        10000000000.0
    """
    device = device or current()
    return _rates(str(device.device_kind), str(device.platform))


def host_rates() -> Rates:
    """What the machine does that a device belongs to, where a program calls functions of the host.

    Examples:
        >>> host_rates() == rates()  # on a machine without an accelerator
        True
    """
    return _rates("cpu", "cpu")


@functools.lru_cache(64)
def _rates(device_kind: str, platform: str) -> Rates:
    known = [name for name in KINDS if device_kind.startswith(name)]
    if known:
        return KINDS[max(known, key=len)]
    return PLATFORMS.get("gpu" if platform in ("cuda", "rocm") else platform, PLATFORMS["gpu"])


def set_rates(device_kind: str, figures: Rates) -> None:
    """Say what devices of a kind do in a second; plans made before are forgotten.

    Args:
        device_kind: the start of the name that JAX gives them, `jax.devices()[0].device_kind`.
        figures: what they do.

    Raises:
        ArgumentError: for a name that is not a string, or figures that are not `Rates`.

    Examples:
        >>> set_rates("my accelerator", Rates(1e12, 2e11))
    """
    if not isinstance(cast("object", device_kind), str) or not device_kind:
        raise ArgumentError(
            f"device_kind is {device_kind!r}, but must be a string, such as 'NVIDIA H100'"
        )
    if not isinstance(cast("object", figures), Rates):
        raise ArgumentError(
            f"figures are {figures!r}, but must be Rates(operations_per_second, bytes_per_second)"
        )
    KINDS[device_kind] = figures
    _rates.cache_clear()
    clear_caches()


def memory_limit(device: Any = None) -> int:
    """The default of `max_bytes`: a share of the memory of the device that runs.

    Args:
        device: one of `jax.devices()`; the `current` one if None.
    """
    stats = (device or current()).memory_stats()
    told = stats.get("bytes_limit") if stats else None
    return int(told * MEMORY_SHARE) if told else host_limit()


def in_bytes(count: int) -> str:
    """A number of bytes in the unit that suits it.

    Examples:
        >>> in_bytes(3 * 2**20)
        '3 MiB'
    """
    amount, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.0f} {units[0]}" if amount == int(amount) else f"{amount:.1f} {units[0]}"


@functools.cache
def host_limit() -> int:
    """The same share of the memory of the machine that Python runs on, where places are kept."""
    try:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * MEMORY_SHARE)
    except (ValueError, OSError, AttributeError):  # not every system tells
        return int(UNKNOWN_MEMORY * MEMORY_SHARE)
