"""How the benchmarks measure: all contenders in one process, taking turns, each in one jit.

A round samples every contender once, so that a slow moment of the machine falls on all of them; in
a new order each time, so that none always runs behind the same other, whose threads may still spin.
What is compared is the median over the rounds of the ratio within a round. The first call (trace,
compile, run) is timed apart. The floor is `jnp.full` of the result's shapes: what it costs to write
the answer at all.

What comes out of a jit is the list of the result's arrays. Making a Python object around them, as
for a Block, takes tens of microseconds, once a result that a compiled program hands to Python.

Results go to `benchmarks/results/<script>.md`, with date and versions.
"""

import argparse
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import blockjac

jax.config.update("jax_enable_x64", True)

RESULTS = Path(__file__).resolve().parent / "results"
SAMPLE_SECONDS = 4e-3
"""A sample is as many calls as take about this long, after a quarter as many that do not count."""
CONTENDER_SECONDS = 6.0
"""A slow contender sits out the later rounds once it has used this much time."""
OURS = "blockjac"
FLOOR = "floor"


@dataclass(frozen=True)
class Claim:
    """`contender` takes at most `limit` times as long as the fastest of `peers`."""

    limit: float
    peers: tuple[str, ...]
    contender: str = OURS


@dataclass(frozen=True)
class Task:
    """One thing to compute, and who computes it.

    Attributes:
        title: what is computed, with shapes and types.
        arguments: passed to every contender.
        contenders: functions of the arguments by name; they are jitted here.
        uncompiled: further contenders that are called as they are (NumPy, say).
        dense: a contender whose result's shapes the floor fills; None for no floor.
        alike: contenders whose results must agree before anything is timed.
        claims: what should hold.
        note: a sentence for the page, where the numbers need one.
    """

    title: str
    arguments: tuple[Any, ...]
    contenders: Mapping[str, Callable[..., Any]]
    uncompiled: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    dense: str | None = None
    alike: Sequence[str] = ()
    claims: Sequence[Claim] = ()
    note: str = ""


@dataclass(frozen=True)
class Measurement:
    """Seconds a call of one contender: one number a round (nan where it sat out)."""

    rounds: np.ndarray
    first_call: float | None

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """A quarter of the rounds was faster than the first, half than the second, and so on."""
        low, median, high = np.nanquantile(self.rounds, [0.25, 0.5, 0.75])
        return float(low), float(median), float(high)

    @property
    def minimum(self) -> float:
        """The fastest round."""
        return float(np.nanmin(self.rounds))


def measure(task: Task, rounds: int) -> dict[str, Measurement]:
    """Check that the contenders agree, then time them in turns.

    Args:
        task: what to time.
        rounds: how many turns each contender gets, fewer where it is slow.

    Returns:
        A measurement for each contender, the floor included.

    Raises:
        ArithmeticError: two contenders that should agree do not.
    """
    functions = {name: jax.jit(arrays_of(function)) for name, function in task.contenders.items()}
    arguments = dict.fromkeys([*functions, *task.uncompiled], task.arguments)
    if task.dense is not None:
        shapes = jax.eval_shape(functions[task.dense], *task.arguments)
        functions[FLOOR] = jax.jit(
            lambda value: jax.tree.map(lambda leaf: jnp.full(leaf.shape, value, leaf.dtype), shapes)
        )
        arguments[FLOOR] = (jnp.asarray(0.5),)
    first_calls: dict[str, float | None] = {
        name: seconds(function, arguments[name], 1) for name, function in functions.items()
    }
    first_calls.update(dict.fromkeys(task.uncompiled))
    functions.update(task.uncompiled)
    require_alike({name: functions[name](*task.arguments) for name in task.alike})

    names = list(functions)
    warm = {name: seconds(functions[name], arguments[name], 1) for name in names}
    calls = {name: max(1, math.ceil(SAMPLE_SECONDS / warm[name])) for name in names}
    times = {name: np.full(rounds, np.nan) for name in names}
    spent = dict.fromkeys(names, 0.0)
    generator = np.random.default_rng(0)
    for turn in range(rounds):
        for name in generator.permutation(names).tolist():
            if turn >= 3 and spent[name] > CONTENDER_SECONDS:
                continue
            if calls[name] > 1:
                seconds(functions[name], arguments[name], math.ceil(calls[name] / 4))
            times[name][turn] = seconds(functions[name], arguments[name], calls[name])
            spent[name] += times[name][turn] * calls[name]
    return {name: Measurement(times[name], first_calls[name]) for name in names}


def arrays_of(function: Callable[..., Any]) -> Callable[..., list[jax.Array]]:
    """The function whose result is the list of the result's arrays."""

    def arrays(*arguments: Any) -> list[jax.Array]:
        return jax.tree.leaves(function(*arguments))

    return arrays


def seconds(function: Callable[..., Any], arguments: tuple[Any, ...], calls: int) -> float:
    """Seconds a call, over `calls` calls one after the other, each waited for."""
    start = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(function(*arguments))
    return (time.perf_counter() - start) / calls


def require_alike(results: Mapping[str, Any]) -> None:
    """Refuse to time contenders that compute different things."""
    leaves = {name: jax.tree.leaves(result) for name, result in results.items()}
    for name, arrays in leaves.items():
        reference = leaves[next(iter(leaves))]
        same = len(arrays) == len(reference) and all(
            a.shape == b.shape and np.allclose(a, b, rtol=1e-9, atol=1e-12)
            for a, b in zip(arrays, reference, strict=True)
        )
        if not same:
            raise ArithmeticError(
                f"'{name}' and '{next(iter(leaves))}' disagree; nothing was timed"
            )


def require_right(
    block: blockjac.Block, function: Callable[..., jax.Array], arguments: tuple[Any, ...], wrt: int
) -> None:
    """Refuse to time a block that is not the Jacobian, as JAX's jvp along a random tangent tells.

    Args:
        block: the Jacobian of `function` by its argument `wrt`; it may be too large to be dense.
        function: the function of `arguments`.
        arguments: where the block was computed.
        wrt: the number of the argument.
    """
    values = np.random.default_rng(0).normal(size=np.shape(arguments[wrt]))
    tangent = jnp.asarray(values, arguments[wrt].dtype)

    def along(argument: jax.Array) -> jax.Array:
        return function(*arguments[:wrt], argument, *arguments[wrt + 1 :])

    _, expected = jax.jvp(along, (arguments[wrt],), (tangent,))
    require_alike({"jax.jvp": expected, f"block by argument {wrt}": block.matvec(tangent)})


def ratio(ours: Measurement, theirs: Measurement) -> float:
    """The median over the rounds, of those in which both took part, of our time over theirs."""
    return float(np.nanmedian(ours.rounds / theirs.rounds))


def verdict(claim: Claim, measured: Mapping[str, Measurement]) -> str:
    """Whether a claim holds, as a line for the page."""
    fastest = min(claim.peers, key=lambda name: measured[name].quartiles[1])
    value = ratio(measured[claim.contender], measured[fastest])
    answer = "met" if value <= claim.limit else "**missed**"
    peers = fastest if len(claim.peers) == 1 else f"{fastest}, the fastest of {listed(claim.peers)}"
    return f"- {claim.contender} at most {claim.limit:g} x {peers}: {value:.3g} x, {answer}"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def duration(value: float | None) -> str:
    """Seconds with a unit that suits them."""
    if value is None:
        return ""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} us"


def table(task: Task, measured: Mapping[str, Measurement]) -> str:
    """The measurements of one task as markdown."""
    reference = OURS if OURS in measured else next(iter(measured))
    lines = [
        f"## {task.title}",
        "",
        *([task.note, ""] if task.note else []),
        f"| contender | median | quartiles | minimum | first call | {reference} takes |",
        "|---|---|---|---|---|---|",
    ]
    for name, measurement in measured.items():
        low, median, high = measurement.quartiles
        compared = "" if name == reference else f"{ratio(measured[reference], measurement):.3g} x"
        lines.append(
            f"| {name} | {duration(median)} | {duration(low)} to {duration(high)} "
            f"| {duration(measurement.minimum)} | {duration(measurement.first_call)} | {compared} |"
        )
    if task.claims:
        lines += ["", *(verdict(claim, measured) for claim in task.claims)]
    return "\n".join([*lines, ""])


def circumstances() -> str:
    """Date, versions and machine, without which a number says nothing."""
    versions = {
        "blockjac": f"{blockjac.__version__} ({commit()})",
        "JAX": jax.__version__,
        "NumPy": np.__version__,
        "Python": platform.python_version(),
    }
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return "\n".join(
        [
            f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            f"- {', '.join(f'{name} {version}' for name, version in versions.items())}",
            f"- {processor()}, {os.cpu_count()} cores, {jax.default_backend()}, float64{load}",
            "",
        ]
    )


def commit() -> str:
    """The commit that was measured, marked when the library's source differs from it."""
    try:
        text = subprocess.run(
            ["git", "describe", "--always", "--dirty=, changed"],
            cwd=RESULTS.parent,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "not a checkout"
    return text.strip()


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main(
    claim: str,
    tasks: Mapping[str, Callable[[], Task]],
    appendix: Callable[[], str] | None = None,
) -> None:
    """Measure the tasks of one script, print the tables and write the page.

    Args:
        claim: what the script is to show, in a sentence; the page's heading.
        tasks: functions that make a task, by the name that `--only` takes; made one at a time, so
            that the arrays of one are gone when the next is measured.
        appendix: makes a last section for the page, in markdown.
    """
    parser = argparse.ArgumentParser(description=claim)
    parser.add_argument("--rounds", type=int, default=41, help="turns a contender (default 41)")
    parser.add_argument("--only", choices=list(tasks), help="measure one task, write no page")
    parser.add_argument("--quick", action="store_true", help="three rounds, write no page")
    options = parser.parse_args()
    heading = f"# {claim}\n\n{circumstances()}"
    print(heading, flush=True)
    sections = []
    for name, make in tasks.items():
        if options.only in (None, name):
            task = make()
            sections.append(table(task, measure(task, 3 if options.quick else options.rounds)))
            print(sections[-1], flush=True)
    if appendix is not None and options.only is None:
        sections.append(appendix())
        print(sections[-1], flush=True)
    if not options.quick and options.only is None:
        RESULTS.mkdir(exist_ok=True)
        page = RESULTS / f"{Path(sys.argv[0]).stem}.md"
        page.write_text("\n".join([heading, *sections]), encoding="utf-8")
        print(f"written to {page}")
