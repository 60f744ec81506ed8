"""What every test runs under: the CPU, float64, no display, and no time limit on Hypothesis.

`dev.py test --as-used` runs some of them as JAX is by default: float32, and compiled for speed.

`--hypothesis-profile=quick` tries few examples of each law, for a further Python or JAX; `thorough`
tries thousands, which takes about an hour.

The environment is set before JAX and matplotlib are imported; pytest imports this file first.
"""

import gc
import itertools
import os
import tempfile

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
    max_examples=25 if os.environ.get("CI") else 100,
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
    parser.addoption(
        "--slow-every", type=int, default=1, metavar="N", help="run each N-th of the slow tests"
    )


COMPILED = pytest.StashKey()
"""Where the processes of a run keep what they compile, so that no program is compiled twice."""


def pytest_configure(config):
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    inherited = getattr(config, "workerinput", {}).get("compiled")
    if inherited is None:
        made = tempfile.TemporaryDirectory(prefix="blockjac-tests-", ignore_cleanup_errors=True)
        config.add_cleanup(made.cleanup)
        inherited = made.name
    config.stash[COMPILED] = inherited
    # Not by the environment: programs that tests start run as JAX is by default.
    jax.config.update("jax_compilation_cache_dir", inherited)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["compiled"] = node.config.stash.get(COMPILED, None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    every, slow_every = _stride(config, "--every"), _stride(config, "--slow-every")
    if not config.getoption("--thorough"):
        kept = [item for item in items if "thorough" not in item.keywords]
    else:
        kept = list(items)
    slow = [item for item in kept if "slow" in item.keywords]
    left_out = {item for number, item in enumerate(slow) if number % slow_every}
    kept = [item for item in kept if item not in left_out][::every]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=list(set(items) - set(kept)))
        items[:] = kept


def pytest_make_parametrize_id(val, argname):
    """Bytes are named by their argument: the date in a file's header differs between workers, which
    would then not agree on what to run."""
    return argname if isinstance(val, bytes) else None


def _stride(config, option):
    stride = config.getoption(option)
    if stride < 1:
        raise pytest.UsageError(f"{option} takes a number from 1 on, but found {stride}")
    return stride


def pytest_collection_finish(session):
    """Modules and tests live to the end: collecting garbage among them took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


TESTS_A_CACHE = 100
"""After so many tests compiled programs are dropped: thousands would fill the memory."""

_tests_run = itertools.count(1)


@pytest.fixture(autouse=True)
def _bounded_memory():
    yield
    if next(_tests_run) % TESTS_A_CACHE == 0:
        jax.clear_caches()
