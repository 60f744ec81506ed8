"""How the benchmarks measure: all contenders in one process, taking turns, each in one jit.

A round samples every contender once, so that a slow moment of the machine falls on all of them; in
a new order each time, so that none always runs behind the same other, whose threads may still spin.
What is compared is the median over the rounds of the ratio within a round. The first call (trace,
compile, run) is timed apart. The floor is `jnp.full` of the result's shapes: what it costs to write
the answer at all.

A peer is imported and prepared when its task is measured. One that is not installed, fails or is
too large for a benchmark stays in the table, with the reason in place of its figures.

What comes out of a jit is the list of the result's arrays. Making a Python object around them, as
for a Block, takes tens of microseconds, once a result that a compiled program hands to Python.

Results go to `benchmarks/results/<script>.md`, with date and versions; those of an accelerator to a
folder of its platform in there.
"""

import argparse
import fnmatch
import importlib.metadata
import math
import os
import platform
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
MEMORY_LIMIT = 10 * 2**30
"""A compiled contender of more bytes (arguments, result and what lies between) is not run."""
WORK_LIMIT = 1.5e11
"""A compiled contender of more floating-point operations a call, as XLA counts, is not run."""
OURS = "blockjac"
FLOOR = "floor"
PEERS = (
    "asdex",
    "autograd",
    "casadi",
    "folx",
    "jax-privacy",
    "pounce-solver",
    "sparsejac",
    "torch",
)
"""Packages of the extra `bench`, whose versions stand on a page."""


@dataclass(frozen=True)
class Claim:
    """`contender` takes at most `limit` times as long as the fastest of `peers`."""

    limit: float
    peers: tuple[str, ...]
    contender: str = OURS


@dataclass(frozen=True)
class Peer:
    """A contender from another package.

    Attributes:
        make: imports and prepares it; gives a function of the arguments. What this takes counts as
            part of the first call.
        compiled: whether it is jitted here; otherwise it is called as it is.
        alike: whether its result must agree with that of the task's first in `alike`.
    """

    make: Callable[[], Callable[..., Any]]
    compiled: bool = True
    alike: bool = True


@dataclass(frozen=True)
class Task:
    """One thing to compute, and who computes it.

    Attributes:
        title: what is computed, with shapes and types.
        arguments: passed to every contender.
        contenders: functions of the arguments by name; they are jitted here.
        uncompiled: further contenders that are called as they are (NumPy, say).
        others: further contenders, from packages that may be missing.
        dense: a contender whose result's shapes the floor fills; None for no floor.
        alike: contenders whose results must agree before anything is timed.
        claims: what should hold.
        note: a sentence for the page, where the numbers need one.
        jitted: whether the contenders are jitted; otherwise they are called as they are, with all
            that they do in Python.
        clock: gives the seconds; `time.process_time` where what is timed takes seconds each, in
            which a busy machine does other work.
    """

    title: str
    arguments: tuple[Any, ...]
    contenders: Mapping[str, Callable[..., Any]]
    uncompiled: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    others: Mapping[str, Peer] = field(default_factory=dict)
    dense: str | None = None
    alike: Sequence[str] = ()
    claims: Sequence[Claim] = ()
    note: str = ""
    jitted: bool = True
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        """Raise for a claim about a contender that the task lacks, before anything is timed."""
        present = {*self.contenders, *self.uncompiled, *self.others}
        present |= set() if self.dense is None else {FLOOR}
        for claim in self.claims:
            unknown = sorted({claim.contender, *claim.peers} - present)
            if unknown:
                raise ValueError(
                    f"{self.title!r} has a claim about {listed(unknown)}, which it does not "
                    f"measure; its contenders are {listed(sorted(present))}"
                )


@dataclass(frozen=True)
class Measurement:
    """What one contender takes.

    Attributes:
        rounds: seconds a call, one number a round (nan where it sat out).
        first_call: seconds to prepare, trace, compile and run; None where nothing is compiled.
        memory: bytes of arguments, result and what lies between, as XLA plans them; None likewise.
    """

    rounds: np.ndarray
    first_call: float | None
    memory: int | None = None

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """A quarter of the rounds was faster than the first, half than the second, and so on."""
        low, median, high = np.nanquantile(self.rounds, [0.25, 0.5, 0.75])
        return float(low), float(median), float(high)

    @property
    def minimum(self) -> float:
        """The fastest round."""
        return float(np.nanmin(self.rounds))


@dataclass(frozen=True)
class Failure:
    """Why a contender was not timed, in a few words."""

    reason: str


Measured = Mapping[str, Measurement | Failure]


class TooLargeError(Exception):
    """A contender needs more memory or work than a benchmark gives it."""


@dataclass(frozen=True)
class Ready:
    """A contender that has been called once."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    first_call: float | None
    memory: int | None = None


def measure(
    task: Task, rounds: int, contender_seconds: float = CONTENDER_SECONDS
) -> dict[str, Measurement | Failure]:
    """Check that the contenders agree, then time them in turns.

    Args:
        task: what to time.
        rounds: how many turns each contender gets, fewer where it is slow.
        contender_seconds: a slow contender sits out the later rounds once it has used this much.

    Returns:
        A measurement for each contender, the floor included, or why there is none.

    Raises:
        ArithmeticError: two contenders that should agree do not.
    """
    contenders = all_ready(task)
    names = [name for name, one in contenders.items() if isinstance(one, Ready)]
    ready = {name: one for name, one in contenders.items() if isinstance(one, Ready)}
    warm = {
        name: seconds(ready[name].function, ready[name].arguments, 1, task.clock) for name in names
    }
    calls = {name: max(1, math.ceil(SAMPLE_SECONDS / warm[name])) for name in names}
    times = {name: np.full(rounds, np.nan) for name in names}
    spent = dict.fromkeys(names, 0.0)
    generator = np.random.default_rng(0)
    for turn in range(rounds):
        for name in generator.permutation(names).tolist():
            if turn >= 3 and spent[name] > contender_seconds:
                continue
            one = ready[name]
            if calls[name] > 1:
                seconds(one.function, one.arguments, math.ceil(calls[name] / 4), task.clock)
            times[name][turn] = seconds(one.function, one.arguments, calls[name], task.clock)
            spent[name] += times[name][turn] * calls[name]
    return {
        name: Measurement(times[name], one.first_call, one.memory)
        if isinstance(one, Ready)
        else one
        for name, one in contenders.items()
    }


def all_ready(task: Task) -> dict[str, Ready | Failure]:
    """Call every contender once, the floor too, and check that those that should agree do."""
    contenders: dict[str, Ready | Failure] = {}
    for name, function in task.contenders.items():
        contenders[name] = attempted(
            compiled if task.jitted else as_it_is, function, task.arguments
        )
    if task.dense is not None:
        shapes = jax.eval_shape(arrays_of(task.contenders[task.dense]), *task.arguments)
        contenders[FLOOR] = attempted(
            compiled,
            lambda value: [jnp.full(leaf.shape, value, leaf.dtype) for leaf in shapes],
            (jnp.asarray(0.5),),
        )
    for name, function in task.uncompiled.items():
        contenders[name] = attempted(as_it_is, function, task.arguments)
    results = {
        name: one.function(*one.arguments)
        for name in task.alike
        if isinstance(one := contenders[name], Ready)
    }
    require_alike(results)
    for name, peer in task.others.items():
        contenders[name] = attempted(from_peer, peer, task.arguments, results)
    return contenders


def attempted(make: Callable[..., Ready], *arguments: Any) -> Ready | Failure:
    """What `make` gives, or why it gives nothing."""
    try:
        return make(*arguments)
    except Exception as error:  # whatever a contender raises belongs into the table
        return Failure(reason_of(error))


def reason_of(error: Exception) -> str:
    """An error in a few words."""
    if isinstance(error, ModuleNotFoundError):
        return f"not installed ({error.name})"
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, TooLargeError):
        return lines[0]
    words = lines[0] if len(lines[0]) <= 90 else f"{lines[0][:87]}..."
    return f"{type(error).__name__}: {words}".replace("|", "/")


def compiled(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Ready:
    """Trace, compile and call a function, if it is not too large.

    Raises:
        TooLargeError: it needs more than a benchmark's limits.
    """
    start = time.perf_counter()
    jitted = jax.jit(arrays_of(function))
    program = jitted.lower(*arguments).compile()
    memory = memory_of(program)
    require_feasible(memory, (program.cost_analysis() or {}).get("flops", 0.0))
    jax.block_until_ready(jitted(*arguments))
    return Ready(jitted, arguments, time.perf_counter() - start, memory)


def as_it_is(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Ready:
    """Call a function that nobody compiles."""
    function(*arguments)
    return Ready(function, arguments, first_call=None)


def from_peer(peer: Peer, arguments: tuple[Any, ...], results: Mapping[str, Any]) -> Ready:
    """Import and prepare a peer, call it, and check its result.

    Raises:
        ArithmeticError: its result is not that of the task.
        Exception: whatever the peer raises.
    """
    start = time.perf_counter()
    function = peer.make()
    preparing = time.perf_counter() - start
    ready = (compiled if peer.compiled else as_it_is)(function, arguments)
    if peer.alike and results:
        name = next(iter(results))
        require_alike({name: results[name], "this": ready.function(*arguments)})
    if ready.first_call is None:
        return ready
    return replace(ready, first_call=ready.first_call + preparing)


def memory_of(program: jax.stages.Compiled) -> int | None:
    """Bytes of arguments, result and what lies between; None where XLA does not say."""
    planned = program.memory_analysis()
    if planned is None:
        return None
    return (
        planned.argument_size_in_bytes
        + planned.output_size_in_bytes
        + planned.temp_size_in_bytes
        - planned.alias_size_in_bytes
    )


def require_feasible(memory: int | None, work: float) -> None:
    """Refuse to run what does not fit.

    Raises:
        TooLargeError: over one of the limits.
    """
    if memory is not None and memory > MEMORY_LIMIT:
        raise TooLargeError(f"needs {storage(memory)}, over the limit of {storage(MEMORY_LIMIT)}")
    if work > WORK_LIMIT:
        raise TooLargeError(
            f"needs {work / 1e9:,.0f} Gflop a call, over the limit of {WORK_LIMIT / 1e9:g}"
        )


def arrays_of(function: Callable[..., Any]) -> Callable[..., list[jax.Array]]:
    """The function whose result is the list of the result's arrays."""

    def arrays(*arguments: Any) -> list[jax.Array]:
        return jax.tree.leaves(function(*arguments))

    return arrays


def seconds(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    calls: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds a call, over `calls` calls one after the other, each waited for."""
    start = clock()
    for _ in range(calls):
        jax.block_until_ready(function(*arguments))
    return (clock() - start) / calls


def require_alike(results: Mapping[str, Any]) -> None:
    """Refuse to time contenders that compute different things."""
    leaves = {
        name: [on_host(leaf) for leaf in jax.tree.leaves(result)]
        for name, result in results.items()
    }
    for name, arrays in leaves.items():
        reference = leaves[next(iter(leaves))]
        same = len(arrays) == len(reference) and all(
            a.shape == b.shape and close(a, b) for a, b in zip(arrays, reference, strict=True)
        )
        if not same:
            raise ArithmeticError(
                f"'{name}' and '{next(iter(leaves))}' disagree; nothing was timed"
            )


def on_host(leaf: Any) -> np.ndarray:
    """An array of JAX, NumPy or PyTorch as one of NumPy."""
    return np.asarray(leaf.cpu() if hasattr(leaf, "cpu") else leaf)


def close(value: np.ndarray, reference: np.ndarray) -> bool:
    """Whether two arrays agree as far as their type and another order of summing let them."""
    if reference.dtype == np.float64:
        return bool(np.allclose(value, reference, rtol=1e-9, atol=1e-12))
    scale = np.max(np.abs(reference), initial=0.0)
    if has_short_products():
        return bool(np.allclose(value, reference, rtol=1e-2, atol=1e-2 * scale))
    return bool(np.allclose(value, reference, rtol=1e-4, atol=1e-5 * scale))


def device() -> jax.Device:
    """The device that is measured."""
    return blockjac.devices.current()


def has_short_products() -> bool:
    """Whether products of float32 matrices may be computed in fewer digits, such as TF32."""
    precision = jax.config.jax_default_matmul_precision
    return device().platform != "cpu" and precision not in ("highest", "float32")


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


def verdict(claim: Claim, measured: Measured) -> str:
    """Whether a claim holds, as a line for the page."""
    ours = measured[claim.contender]
    peers = [name for name in claim.peers if isinstance(measured[name], Measurement)]
    line = f"- {claim.contender} at most {claim.limit:.3g} x"
    if isinstance(ours, Failure):
        return f"{line} {listed(claim.peers)}: {ours.reason}, **missed**"
    if not peers:
        return f"{line} {listed(claim.peers)}: nothing to compare with"
    name, theirs = fastest(measured, peers)
    value = ratio(ours, theirs)
    answer = "met" if value <= claim.limit else "**missed**"
    of = name if len(claim.peers) == 1 else f"{name}, the fastest of {listed(claim.peers)}"
    return f"{line} {of}: {value:.3g} x, {answer}"


def mean_verdict(claim: Claim, measured: Mapping[str, Measured]) -> str:
    """Whether a claim holds in the geometric mean over several tasks, as a line for the page.

    A task whose contender failed is a miss of the whole; one whose peers all failed does not count.
    """
    ratios = []
    for task, one in measured.items():
        ours = one[claim.contender]
        peers = [name for name in claim.peers if isinstance(one[name], Measurement)]
        if isinstance(ours, Failure):
            return f"- {claim.contender} failed on {task}: {ours.reason}, **missed**"
        if peers:
            ratios.append(ratio(ours, fastest(one, peers)[1]))
    value = geometric_mean(ratios)
    answer = "met" if value <= claim.limit else "**missed**"
    of = claim.peers[0] if len(claim.peers) == 1 else f"the fastest of {listed(claim.peers)}"
    return (
        f"- {claim.contender} at most {claim.limit:.3g} x {of} in the geometric mean of "
        f"{len(ratios)} tasks: {value:.3g} x, {answer}"
    )


def geometric_mean(values: Sequence[float]) -> float:
    """The mean of ratios; nan of none."""
    return math.exp(math.fsum(map(math.log, values)) / len(values)) if values else math.nan


def fastest(measured: Measured, names: Sequence[str]) -> tuple[str, Measurement]:
    """The one of the names with the smallest median, of those that were timed."""
    timed = {name: one for name in names if isinstance(one := measured[name], Measurement)}
    name = min(timed, key=lambda name: timed[name].quartiles[1])
    return name, timed[name]


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


def storage(value: int | None) -> str:
    """Bytes with a unit that suits them."""
    if value is None:
        return ""
    for unit, many in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= many:
            return f"{value / many:.3g} {unit}"
    return f"{value} B"


def table(task: Task, measured: Measured) -> str:
    """The measurements of one task as markdown."""
    timed = {name: one for name, one in measured.items() if isinstance(one, Measurement)}
    reference = OURS if OURS in timed else next(iter(timed))
    lines = [
        f"## {task.title}",
        "",
        *([task.note, ""] if task.note else []),
        f"| contender | median | quartiles | minimum | first call | memory | {reference} takes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in measured.items():
        if isinstance(one, Failure):
            lines.append(f"| {name} | {one.reason} | | | | | |")
            continue
        low, median, high = one.quartiles
        compared = "" if name == reference else f"{ratio(timed[reference], one):.3g} x"
        lines.append(
            f"| {name} | {duration(median)} | {duration(low)} to {duration(high)} "
            f"| {duration(one.minimum)} | {duration(one.first_call)} | {storage(one.memory)} "
            f"| {compared} |"
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
    for name in PEERS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    place = f"{processor()}, {os.cpu_count()} cores, {device().platform}"
    numbers = f"{jnp.result_type(float)} unless said"
    if device().platform != "cpu":
        place = f"{device().platform}: {device().device_kind}, host {processor()}"
        short = "may be TF32" if has_short_products() else "not TF32"
        chosen = jax.config.jax_default_matmul_precision or "JAX's default"
        numbers += f", products of float32 matrices at precision {chosen}: {short}"
    kernel = os.environ.get("OPENBLAS_CORETYPE")
    blas = f", OPENBLAS_CORETYPE={kernel}" if kernel else ""
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return "\n".join(
        [
            f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            f"- {', '.join(f'{name} {version}' for name, version in versions.items())}",
            f"- {place}, {numbers}{load}{blas}",
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
    appendix: Callable[[Mapping[str, Measured]], str] | None = None,
) -> None:
    """Measure the tasks of one script, print the tables and write the page.

    Args:
        claim: what the script is to show, in a sentence; the page's heading.
        tasks: functions that make a task, by the name that `--only` takes; made one at a time, so
            that the arrays of one are gone when the next is measured.
        appendix: makes a last section for the page, in markdown, from what was measured.
    """
    start = time.perf_counter()
    options = options_of(claim, tasks)
    writes = not options.quick and options.only is None
    page = Page(claim, writes, joins=options.match != "*")
    everything = {}
    failed, left = [], []
    for name, make in tasks.items():
        if options.only not in (None, name) or not fnmatch.fnmatchcase(name, options.match):
            continue
        if time.perf_counter() - start > options.budget:
            left.append(name)
            continue
        try:
            task = make()
            everything[name] = measure(task, options.rounds)
        except Exception as error:  # the other tasks are measured all the same
            traceback.print_exc()
            failed.append(name)
            page.add(f"## {name}\n\n**Failed**: {reason_of(error)}\n")
        else:
            page.add(table(task, everything[name]))
    if options.match != "*" and not page.when:
        page.add(f"Measured were the tasks named `{options.match}`, not all.\n")
    if left:
        page.add(f"Not measured, for want of time: {listed(left)}.\n")
    if appendix is not None and options.only is None and options.match == "*":
        page.add(appendix(everything))
    page.write()
    if failed:
        sys.exit(f"failed: {listed(failed)}")


def options_of(claim: str, tasks: Mapping[str, Any], rounds: int = 41) -> argparse.Namespace:
    """What the command line says: `rounds`, `only` (a task's name or None), `quick`, `budget`.

    What it says of the device and of numbers is put into JAX's configuration.
    """
    parser = argparse.ArgumentParser(description=claim)
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="turns a contender (default %(default)s)"
    )
    parser.add_argument(
        "--only", choices=list(tasks), metavar="TASK", help="measure one task, write no page"
    )
    parser.add_argument("--quick", action="store_true", help="three rounds, write no page")
    parser.add_argument(
        "--match",
        default="*",
        metavar="PATTERN",
        help="measure the tasks of such names, *-100; the page keeps its other sections",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=math.inf,
        metavar="SECONDS",
        help="start no further task after so long",
    )
    parser.add_argument(
        "--platform", choices=("cpu", "gpu", "tpu"), help="where to measure (default: where JAX is)"
    )
    parser.add_argument("--float32", action="store_true", help="without JAX's float64")
    parser.add_argument(
        "--precision",
        choices=("highest", "tensorfloat32", "bfloat16"),
        help="of products of float32 matrices on an accelerator (default: JAX's)",
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds = 3
    if options.platform is not None:
        jax.config.update("jax_default_device", jax.devices(options.platform)[0])
    if options.float32:
        jax.config.update("jax_enable_x64", False)
    if options.precision is not None:
        jax.config.update("jax_default_matmul_precision", options.precision)
    return options


def page_path() -> Path:
    """Where the page of this script goes, by the device and what is not as usual with numbers."""
    folder = RESULTS if device().platform == "cpu" else RESULTS / device().platform
    ways = [] if jax.config.jax_enable_x64 else ["float32"]
    if jax.config.jax_default_matmul_precision is not None:
        ways.append(jax.config.jax_default_matmul_precision)
    return folder / f"{'-'.join([Path(sys.argv[0]).stem, *ways])}.md"


UNFINISHED = "The run is not over, or was stopped here.\n"


class Page:
    """A script's page, printed as it grows; with `writes` it is written to the results.

    It is written with each section, so that a run that is stopped keeps what it has measured. With
    `joins` it keeps the head and the other sections that it had, and a new one says when it was
    measured.
    """

    def __init__(self, claim: str, writes: bool, joins: bool = False) -> None:
        self.writes = writes
        head = f"# {claim}\n\n{circumstances()}"
        self.old = sections_of(page_path()) if joins else []
        self.when = "" if not self.old else f"Measured apart: {head.splitlines()[2].strip('- ')}, "
        self.when += "" if not self.old else f"blockjac {blockjac.__version__} ({commit()})."
        self.sections = [self.old.pop(0) if self.old else head]
        print(head, flush=True)

    def add(self, section: str) -> None:
        """Print a section and keep it."""
        title, _, rest = section.partition("\n")
        if self.when and title.startswith("## "):
            section = f"{title}\n\n{self.when}\n{rest}"
        self.sections.append(section)
        print(section, flush=True)
        self._save([*self.sections, UNFINISHED])

    def write(self) -> None:
        """Write all sections to the page of this script."""
        if self.writes and len(self.sections) > 1:  # one that measured nothing leaves the old page
            self._save(self.sections)
            print(f"written to {page_path()}")

    def _save(self, sections: Sequence[str]) -> None:
        """Write some sections, if the page is written at all."""
        if self.writes:
            new = {heading(section) for section in sections}
            kept = [section for section in self.old if heading(section) not in new]
            page = page_path()
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text("\n".join([sections[0], *kept, *sections[1:]]), encoding="utf-8")


def write_sections(claim: str, sections: Mapping[str, Callable[[Page], None]]) -> None:
    """Let functions measure what is not a `Task`, each of which adds sections to the page.

    Args:
        claim: what the script is to show; the page's heading.
        sections: the functions, by the names that `--only` and `--match` take.
    """
    options = options_of(claim, sections)
    writes = not options.quick and options.only is None
    page = Page(claim, writes, joins=options.match != "*")
    for name, section in sections.items():
        if options.only in (None, name) and fnmatch.fnmatchcase(name, options.match):
            section(page)
    page.write()


def heading(section: str) -> str:
    """The first line of a section."""
    return section.partition("\n")[0]


def sections_of(page: Path) -> list[str]:
    """The head and the sections of a page as it was written; none of a page that is not there."""
    if not page.is_file():
        return []
    text = page.read_text(encoding="utf-8").replace(f"\n{UNFINISHED}", "")
    head, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return [part.rstrip("\n") + "\n" for part in (head, *sections)]
