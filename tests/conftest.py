"""What every test runs under: the CPU, float64, no display, and no time limit on Hypothesis.

`dev.py test --as-used` runs some of them as JAX is by default: float32, and compiled for speed.

`--hypothesis-profile=quick` tries few examples of each law, for a further Python or JAX; `thorough`
tries thousands, which takes about an hour.

The environment is set before JAX and matplotlib are imported; pytest imports this file first.
"""

import itertools
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # compiling is what takes time here

import hypothesis
import jax
import pytest

# Not by the environment: programs that tests start run as JAX is by default.
jax.config.update("jax_enable_x64", os.environ.get("JAX_ENABLE_X64", "1") != "0")

hypothesis.settings.register_profile(
    "blockjac",
    deadline=None,  # the first example of a shape compiles, the others do not
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "quick", hypothesis.settings.get_profile("blockjac"), max_examples=10
)
hypothesis.settings.register_profile(
    "thorough", hypothesis.settings.get_profile("blockjac"), max_examples=1000
)
hypothesis.settings.load_profile("blockjac")


def pytest_addoption(parser):
    parser.addoption(
        "--thorough", action="store_true", help="run what is marked thorough, an hour or more"
    )
    parser.addoption(
        "--every", type=int, default=1, metavar="N", help="run each N-th test of those selected"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    every = config.getoption("--every")
    if every < 1:
        raise pytest.UsageError(f"--every takes a number from 1 on, but found {every}")
    kept = [
        item for item in items if config.getoption("--thorough") or "thorough" not in item.keywords
    ][::every]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=list(set(items) - set(kept)))
        items[:] = kept


TESTS_A_CACHE = 100
"""After so many tests compiled programs are dropped: thousands would fill the memory."""

_tests_run = itertools.count(1)


@pytest.fixture(autouse=True)
def _bounded_memory():
    yield
    if next(_tests_run) % TESTS_A_CACHE == 0:
        jax.clear_caches()
