"""The CUTEst problems that are written in JAX: right numbers, and places against the true ones.

    python benchmarks/cutest_patterns.py                 all problems, at reduced sizes
    python benchmarks/cutest_patterns.py --quick         some thirty of them
    python benchmarks/cutest_patterns.py BROYDN7D NASH   these
    python benchmarks/cutest_patterns.py --full NASH     at the sizes of the collection

For each Hessian of an objective and each Jacobian of constraints it compares gradient, dense and
sparse matrix with JAX's at two points, and prints the places that the block has, the numbers that
it stores, the entries that are not 0 (where the matrix is small) and the places of asdex's pattern
(where ours has many more than the true ones). Lines marked OVER have more places than the larger of
asdex's and 1.1 times the true ones + 100, or store more than twice the true ones + 1,000 of a
matrix that is at most a quarter full. A summary says how many problems were run, wrong, over, and
not run, with the reason.

Problems run one after the other in a second process, in bounded memory, which is ended where one
takes longer than `--timeout`. Needs `sif2jax` and, for the last column, `asdex`.
"""

import argparse
import json
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import jax

from cutest import Row, problem_named, problem_names, rows_of

MEMORY = 3 * 2**30
"""Bytes of data that the process of the problems may take."""

RENEWED = 25
"""After so many problems another process goes on, with fresh memory."""

QUICK = 30
"""Problems of a quick run, evenly spread over the collection."""


@dataclass
class Tally:
    """What has been found.

    Attributes:
        run: problems all of whose derivatives were judged.
        wrong: problems with a number that differs from JAX's.
        over: problems with more places or stored numbers than promised.
        reasons: why problems were not run to their end.
    """

    run: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    over: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, row: Row) -> None:
        """Count a derivative, and print it."""
        for found, names in ((row.wrong, self.wrong), (row.over, self.over)):
            if found and name not in names:
                names.append(name)
        verdict = ["OVER:", ", ".join(row.over)] if row.over else []
        verdict += ["WRONG:", ", ".join(row.wrong)] if row.wrong else []
        print(
            f"{name:12} {row.what:12} {row.places:>10} {row.stored:>10} {row.true!s:>10} "
            f"{row.peer!s:>10}  {' '.join(verdict) or 'ok'}",
            flush=True,
        )

    def leave(self, name: str, reason: str) -> None:
        """Count a problem that was not run to its end, and print why."""
        self.reasons[name] = reason
        print(f"{name:12} not run to its end: {reason}", flush=True)

    def summary(self) -> str:
        """All counts, with the names of what is not as promised."""
        lines = [
            f"{len(self.run) + len(self.reasons)} problems: {len(self.run)} run, "
            f"{len(self.wrong)} wrong, {len(self.over)} over the bound, "
            f"{len(self.reasons)} not run to their end"
        ]
        lines += [f"  wrong: {name}" for name in self.wrong]
        lines += [f"  over: {name}" for name in self.over]
        lines += [f"  not run: {name}: {reason}" for name, reason in self.reasons.items()]
        return "\n".join(lines)


def work(names: Sequence[str], is_reduced: bool) -> None:
    """Judge problems one after the other, and say what is done in lines of JSON."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    jax.config.update("jax_enable_x64", True)
    for name in names:
        say(begin=name)
        try:
            problem = problem_named(name, is_reduced)
            for row in rows_of(problem, lambda what: say(doing=what)):
                say(row=asdict(row))
        except Exception as error:
            text = " ".join(str(error).split())
            say(failed=f"{type(error).__name__}: {text[:200]}")
        else:
            say(done=name)


def say(**what: Any) -> None:
    """A line for the process that waits."""
    print(json.dumps(what), flush=True)


def judge(names: Sequence[str], timeout: float, options: Sequence[str]) -> Tally:
    """Judge problems in a process beside this one, and again in another where it ends early."""
    tally, rest = Tally(), list(names)
    while rest:
        ended = _judged(rest[:RENEWED], timeout, options, tally)
        rest = rest[ended:]
    return tally


def _judged(names: Sequence[str], timeout: float, options: Sequence[str], tally: Tally) -> int:
    """Judge problems until one does not come to its end; how many were begun."""
    begun, doing, is_open = 0, "", False
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, __file__, "--work", *options, *names],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        for line in _lines(process, timeout):
            said = json.loads(line) if line else {}
            if not said:
                process.kill()
                tally.leave(names[begun - 1], f"more than {timeout:g} s ({doing})")
                is_open = False
            elif "begin" in said:
                begun, doing, is_open = begun + 1, "begin", True
            elif "doing" in said:
                doing = said["doing"]
            elif "row" in said:
                tally.add(names[begun - 1], _row(said["row"]))
            else:
                is_open = False
                if "failed" in said:
                    tally.leave(names[begun - 1], f"{said['failed']} ({doing})")
                else:
                    tally.run.append(names[begun - 1])
        process.wait()
        if is_open or not begun:
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:] or ["no message"]
            begun = max(begun, 1)
            reason = f"the process ended with {process.returncode} ({doing}): {last[0][:200]}"
            tally.leave(names[begun - 1], reason)
    return begun


def _row(told: dict[str, Any]) -> Row:
    return Row(**{**told, "shape": tuple(told["shape"]), "wrong": tuple(told["wrong"])})


def _lines(process: Any, timeout: float) -> Iterator[str]:
    """What a process says, and an empty line where a problem takes too long."""
    said: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        for line in process.stdout:
            said.put(line)
        said.put(None)

    threading.Thread(target=listen, daemon=True).start()
    end = time.monotonic() + timeout
    while True:
        try:
            line = said.get(timeout=max(end - time.monotonic(), 0.0))
        except queue.Empty:
            yield ""
            return
        if line is None:
            return
        if '"begin"' in line:
            end = time.monotonic() + timeout
        yield line


def main() -> int:
    """Judge the named problems; 1 where one is wrong or over the bound."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="problems; all where none is named")
    parser.add_argument("--quick", action="store_true", help="some problems, where none is named")
    parser.add_argument("--full", action="store_true", help="at the sizes of the collection")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds a problem")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.names, not arguments.full)
        return 0
    every = problem_names()
    unknown = sorted(set(arguments.names) - set(every))
    if unknown or not every:
        parser.error(f"the collection has no {', '.join(unknown)}" if every else "no sif2jax here")
    some = every[:: max(len(every) // QUICK, 1)] if arguments.quick else every
    options = ["--full"] if arguments.full else []
    print(f"{'problem':12} {'of':12} {'places':>10} {'stored':>10} {'true':>10} {'asdex':>10}")
    tally = judge(arguments.names or some, arguments.timeout, options)
    print(tally.summary())
    return 1 if tally.wrong or tally.over else 0


if __name__ == "__main__":
    sys.exit(main())
