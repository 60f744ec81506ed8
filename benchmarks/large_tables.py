"""Large tables: memory and time of training by batches, beside scikit-learn and PyTorch."""

import itertools
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

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


Fit = tuple[float, Callable[[Any], Any]]
"""Seconds of a fit, and what it predicts for rows: logits or numbers."""


@dataclass(frozen=True)
class Contender:
    """A way to train.

    Attributes:
        fit: from a number of epochs, or of iterations, to a fit of that many.
        numbers: of epochs to try, until the loss is low enough.
        times: how often the fit that reaches the loss is repeated.
    """

    fit: Callable[[int], Fit]
    numbers: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20)
    times: int = 5


def mean_loss(outputs: Any, y: Any) -> float:
    """The mean loss of a table's rows, in float64: by logits of two classes, or half squares."""
    outputs = np.asarray(outputs, float).ravel()
    if np.issubdtype(y.dtype, np.integer):
        return float(np.mean(np.logaddexp(0, outputs) - y * outputs))
    return float(np.mean((outputs - y) ** 2) / 2)


def of_estimator(make: Callable[[int], BaseEstimator], X: Any, y: Any) -> Callable[[int], Fit]:
    """Fits of an estimator.

    Args:
        make: one that makes as many epochs or iterations.
        X: the rows.
        y: their targets.
    """

    def fit(number: int) -> Fit:
        estimator: Any = make(number)
        started = time.perf_counter()
        estimator.fit(X, y)
        return time.perf_counter() - started, lambda rows: outputs_of(estimator, rows)

    return fit


def outputs_of(estimator: Any, X: Any) -> Any:
    """Logits of the second class, or numbers."""
    if not hasattr(estimator, "predict_proba"):
        return estimator.predict(X)
    if hasattr(estimator, "direct_coef_"):
        return logits_of(estimator, X)
    shares = np.clip(estimator.predict_proba(X).astype(float), 1e-300, 1)
    return np.log(shares[:, 1]) - np.log(shares[:, 0])


def logits_of(estimator: Any, X: Any) -> Any:
    """Logits of the second class by our weights, as `predict_proba` is moderated."""
    scale = estimator._fitted.model.inputs
    Z = ((X - scale.mean) / scale.spread).astype(np.float32)
    hidden = np.maximum(Z @ estimator.coefs_[0] + estimator.intercepts_[0], 0)
    logits = hidden @ estimator.coefs_[1] + estimator.intercepts_[1] + Z @ estimator.direct_coef_
    return logits[:, 1] - logits[:, 0]


def of_torch(X: Any, y: Any, rate: float, size: int, threads: int) -> Callable[[int], Fit]:
    """Fits of the same network with PyTorch's Adam, batches cut from a shuffled tensor.

    Args:
        X: the rows.
        y: their targets.
        rate: the learning rate.
        size: rows of a batch.
        threads: of PyTorch.
    """
    import torch

    rows, targets = torch.from_numpy(X), torch.from_numpy(y.astype(np.float32))[:, None]
    is_classes = np.issubdtype(y.dtype, np.integer)
    loss = torch.nn.BCEWithLogitsLoss() if is_classes else torch.nn.MSELoss()

    def fit(number: int) -> Fit:
        torch.manual_seed(0)
        torch.set_num_threads(threads)
        network = torch.nn.Sequential(
            torch.nn.Linear(X.shape[1], NODES), torch.nn.ReLU(), torch.nn.Linear(NODES, 1)
        )
        adam = torch.optim.Adam(network.parameters(), lr=rate)
        started = time.perf_counter()
        for _ in range(number):
            order = torch.randperm(len(rows))
            for first in range(0, len(rows) - size + 1, size):
                chosen = order[first : first + size]
                adam.zero_grad()
                loss(network(rows[chosen]), targets[chosen]).backward()
                adam.step()
        taken = time.perf_counter() - started

        def predict(rows: Any) -> Any:
            with torch.no_grad():
                return network(torch.from_numpy(rows)).numpy()

        return taken, predict

    return fit


NODES = 100
"""Of the hidden layer, as scikit-learn's default."""


def contenders(X: Any, y: Any, kind: str) -> dict[str, Contender]:
    """All that train, on a table.

    Args:
        X: the rows.
        y: their targets.
        kind: of targets.
    """
    theirs = {"classes": MLPClassifier, "numbers": MLPRegressor}[kind]
    options = {"hidden_layer_sizes": (NODES,), "activation": "relu", "random_state": 0}

    def mine(number: int) -> Any:
        return KINDS[kind](**options, solver="adam", early_stopping=False, max_iter=number)

    def mlp(solver: str, **more: Any) -> Callable[[int], Any]:
        endless = {"tol": 0.0, "n_iter_no_change": 10**6, "max_fun": 10**6}
        return lambda number: theirs(**options, **endless, **more, solver=solver, max_iter=number)

    doubled = tuple(4 * 2**power for power in range(6))
    made = {
        harness.OURS: Contender(of_estimator(mine, X, y)),
        "MLP, adam": Contender(of_estimator(mlp("adam"), X, y)),
        "MLP, adam 0.01, batches of 500": Contender(
            of_estimator(mlp("adam", learning_rate_init=0.01, batch_size=500), X, y)
        ),
        "MLP, sgd 0.1": Contender(
            of_estimator(mlp("sgd", learning_rate_init=0.1), X, y), (5, 10, 20, 40), times=1
        ),
        "MLP, lbfgs": Contender(of_estimator(mlp("lbfgs"), X, y), doubled, times=1),
    }
    for rate, size, threads in itertools.product((0.003, 0.01), (200, 500), (1, 2)):
        words = f"PyTorch, adam {rate}, batches of {size}, {threads} thread{'s' * (threads > 1)}"
        made[words] = Contender(of_torch(X, y, rate, size, threads))
    return made


EPOCHS = 10
"""Of scikit-learn's Adam with its defaults, whose loss all are to reach."""

MANY, ALL = 100_000, 100


def first_number(contender: Contender, X: Any, y: Any, goal: float) -> tuple[int | None, float]:
    """The fewest epochs that bring the loss below a goal, and the loss; None if none does.

    Args:
        contender: that trains.
        X: the rows.
        y: their targets.
        goal: a mean loss.
    """
    best = np.inf
    for number in contender.numbers:
        _, predict = contender.fit(number)
        loss = mean_loss(predict(X), y)
        if loss <= goal:
            return number, loss
        best = min(best, loss)
    return None, best


def speed(page: harness.Page) -> None:
    """Time to an equal loss of the training rows."""
    lines = [
        "## Time to an equal loss",
        "",
        f"{MANY:,} rows by {ALL} columns in float32, {NODES} hidden nodes (ReLU); ours has its "
        f"linear map beside them. The goal is the loss of all training rows after {EPOCHS} epochs "
        "of scikit-learn's Adam with its defaults. Each "
        "contender makes the fewest epochs (L-BFGS: 4, 8, 16, ... iterations) that reach it; whole "
        "fits, ours with the last layer's curvature, interleaved, medians. The first "
        "epoch is one in a process that has compiled nothing of it.",
        "",
    ]
    verdicts = []
    for kind in KINDS:
        X, y = table(MANY, ALL, kind)
        ready = contenders(X, y, kind)
        first = ready[harness.OURS].fit(1)[0]
        goal = mean_loss(ready["MLP, adam"].fit(EPOCHS)[1](X), y)
        found = {}
        for name, one in ready.items():
            found[name] = first_number(one, X, y, goal)
            print(f"{kind}, {name}: {found[name]}", file=sys.stderr, flush=True)
        taken: dict[str, list[float]] = {name: [] for name in ready}
        for turn in range(5):
            for name, one in ready.items():
                number = found[name][0]
                if number is not None and turn < one.times:
                    taken[name].append(one.fit(number)[0])
        medians = {name: statistics.median(times) for name, times in taken.items() if times}
        mine = medians.get(harness.OURS, np.inf)
        lines += [
            f"### {kind}: loss {goal:.5f}; our first epoch {harness.duration(first)}",
            "",
            "| | epochs | loss | time | over ours |",
            "|---|---|---|---|---|",
        ]
        for name, (number, loss) in found.items():
            time_of = medians.get(name)
            over = "" if time_of is None else f"{time_of / mine:.1f}"
            lines.append(
                f"| {name} | {number or 'not reached'} | {loss:.5f} "
                f"| {harness.duration(time_of)} | {over} |"
            )
        lines.append("")
        for who, wanted in (("MLP", 3), ("PyTorch", 1)):
            best = min((time_of for name, time_of in medians.items() if name.startswith(who)))
            verdicts.append(
                f"- {kind}: {wanted} x faster than the fastest {who}, {best / mine:.1f} x, "
                f"{'met' if best >= wanted * mine else '**missed**'}"
            )
    page.add("\n".join([*lines, *verdicts, ""]))


SECTIONS = {"memory": memory, "speed": speed}


def main() -> None:
    """Measure all sections, or some."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    harness.write_sections("Large tables by batches", SECTIONS)


if __name__ == "__main__":
    main()
