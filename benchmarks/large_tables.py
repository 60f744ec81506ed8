"""Large tables: memory and time of training by batches, beside scikit-learn and PyTorch."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import harness
from blockjac.estimators import FeedforwardClassifier, FeedforwardRegressor

KINDS = {"classes": FeedforwardClassifier, "numbers": FeedforwardRegressor}


def table(rows: int, columns: int, kind: str, seed: int = 0) -> tuple[Any, Any]:
    """A table in float32 and its targets, made without a second one in memory."""
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((rows, columns), np.float32)
    y = np.tanh(X[:, 0] + X[:, 1] * X[:, 2]) + X[:, :10] @ np.linspace(-0.3, 0.3, 10)
    y += 0.3 * generator.standard_normal(rows)
    return X, (y > 0).astype(int) if kind == "classes" else y.astype(np.float32)


def status(name: str) -> int:
    """Bytes that Linux tells of this process: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def peak(rows: int, columns: int, kind: str) -> dict[str, float]:
    """Bytes of a fit and of predictions over those of the process that has fitted a small table.

    The table itself is among them, as it is made after the process was looked at.
    """
    model = KINDS[kind](solver="adam", max_iter=2, dtype="float32", random_state=0)
    X, y = table(3000, columns, kind, 1)
    model.fit(X, y).predict(X)
    before = status("VmRSS")
    X, y = table(rows, columns, kind)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # VmHWM counts from here
    made = status("VmHWM") - before
    model.fit(X, y)
    fitted = status("VmHWM") - before
    model.predict(X)
    predicted = status("VmHWM") - before
    return {"data": X.nbytes, "made": made, "fit": fitted, "predict": predicted}


def peak_apart(rows: int, columns: int, kind: str) -> dict[str, float]:
    """The same in a process of its own."""
    code = f"import json, large_tables as t; print(json.dumps(t.peak({rows}, {columns}, {kind!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def memory(page: harness.Page) -> None:
    """The most memory of a fit, over the data's."""
    lines = [
        "## Memory",
        "",
        "A million rows by 100 columns in float32, two epochs of batches of Adam with a tenth of "
        "the rows held out, then predictions for all rows. Most resident memory over that of a "
        "process that has fitted a small table; the data count.",
        "",
        "| targets | data | made | fit | and predictions | over the data |",
        "|---|---|---|---|---|---|",
    ]
    verdicts = []
    for kind in KINDS:
        found = peak_apart(10**6, 100, kind)
        share = found["predict"] / found["data"]
        sizes = " | ".join(
            harness.storage(int(found[name])) for name in ("data", "made", "fit", "predict")
        )
        lines.append(f"| {kind} | {sizes} | {share:.2f} x |")
        verdicts.append(
            f"- {kind}: at most twice the data, {share:.2f} x, "
            f"{'met' if share <= 2 else '**missed**'}"
        )
    page.add("\n".join([*lines, "", *verdicts, ""]))


SECTIONS = {"memory": memory}


def main() -> None:
    """Measure all sections, or one."""
    claim = "Large tables by batches"
    options = harness.options_of(claim, SECTIONS)
    page = harness.Page(claim, writes=not options.quick and options.only is None)
    for name, section in SECTIONS.items():
        if options.only in (None, name):
            section(page)
    page.write()


if __name__ == "__main__":
    main()
