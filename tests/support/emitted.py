"""Emitted modules, run in a fresh process without blockjac and compared with JAX."""

import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from blockjac.explanations.source import Parameter, TracedFunction, module_source

RUNNER = Path(__file__).with_name("emitted_runner.py")


@dataclass
class Job:
    """A module and calls of its functions.

    Attributes:
        name: shown when it fails.
        source: of the module.
        calls: function names with arguments and options.
        jitted: whether the functions run under `jax.jit`.
    """

    name: str
    source: str
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    jitted: bool = False


def traced(name, function, arguments, parameter_names=None, constant_names=()):
    """A function for `module_source`, and the values of its captured arrays by their names."""
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    names = parameter_names or [f"x{number}" for number in range(len(arguments))]
    parameters = tuple(map(Parameter, names, arguments))
    result = TracedFunction(name, closed, parameters, f"The {name}.", shape, constant_names)
    return result, dict(zip(constant_names, closed.consts, strict=False))


def job(name, target, functions, arguments, jitted=False):
    """A module of functions of the same arguments, each called once."""
    parts = [traced(key, function, arguments) for key, function in functions.items()]
    source = module_source([part for part, _ in parts], target, f"The case {name}.")
    values = jax.tree.map(host, tuple(arguments))
    calls = []
    for key, (_, constants) in zip(functions, parts, strict=True):
        head = source[source.index(f"def {key}(") :].split(":\n", 1)[0]
        taken = {n: host(x) for n, x in constants.items() if n in head.replace(",", " ").split()}
        calls.append((key, values, taken))
    return Job(f"{name} ({target})", source, calls, jitted)


def host(leaf):
    """A leaf as a NumPy array; a key of random numbers as it is."""
    if hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return np.asarray(leaf)


def run(jobs):
    """The results of jobs: for each, one for each call, or the text of an error.

    They are compiled as a reader's program would be: without optimizations XLA may round a value
    otherwise than the same value in another loop, and the place of a maximum is then lost, in
    `jax.jacfwd` too.
    """
    as_used = {k: v for k, v in os.environ.items() if k != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    with tempfile.TemporaryDirectory(prefix="blockjac-emitted-") as folder:
        given, results = Path(folder, "given"), Path(folder, "results")
        plain = [(x.source, x.name, x.calls, x.jitted) for x in jobs]
        given.write_bytes(pickle.dumps((bool(jax.config.jax_enable_x64), plain)))
        subprocess.run(
            [sys.executable, "-I", str(RUNNER), str(given), str(results)],
            check=True,
            cwd=folder,
            env=as_used,
        )
        return pickle.loads(results.read_bytes())


def differences(results, wanted, rtol=1e-12, atol=1e-13):
    """What differs between the results of a job and those wanted, as lines; empty if nothing."""
    if isinstance(results, str):
        return results
    lines = []
    for place, (ours, theirs) in enumerate(zip(results, wanted, strict=True)):
        mine, want = jax.tree.leaves(ours), jax.tree.leaves(theirs)
        if len(mine) != len(want):
            lines.append(f"result {place} has {len(mine)} leaves, wanted {len(want)}")
            continue
        for leaf, (x, y) in enumerate(zip(mine, map(np.asarray, want), strict=True)):
            x = np.asarray(x)
            if x.shape != y.shape or x.dtype != y.dtype:
                lines.append(f"result {place}.{leaf}: {x.dtype}{x.shape}, not {y.dtype}{y.shape}")
            elif not np.allclose(x, y, rtol, atol, equal_nan=True):
                worst = np.nanmax(np.abs(x.astype(complex) - y))
                lines.append(f"result {place}.{leaf}: differs by {worst}")
    return "\n".join(lines)
