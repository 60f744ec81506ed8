"""Estimators for tables: accuracy without options, left-out rows, doubtful rows, penalties.

Scores are means over folds with their standard errors; times are those of a fit in a process that
has compiled it before, medians over the folds.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import harness
from blockjac.estimators import FeedforwardClassifier, FeedforwardRegressor
from blockjac.estimators.evidence import Level
from blockjac.estimators.leave_one_out import left_out
from blockjac.estimators.steps import FIRST_STEPS, first_turn, step

Table = tuple[Any, Any]

ROUNDS = 20
"""Of a step and a look at left-out rows in turns."""

CLASSES = {
    "breast cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "digits": lambda: datasets.load_digits(return_X_y=True),
    "wine": lambda: datasets.load_wine(return_X_y=True),
    "iris": lambda: datasets.load_iris(return_X_y=True),
}

NUMBERS = {
    "diabetes": lambda: datasets.load_diabetes(return_X_y=True),
    "alcohol of wines": lambda: alcohol(),
    "friedman 1": lambda: datasets.make_friedman1(300, noise=1.0, random_state=0),
    "friedman 2": lambda: datasets.make_friedman2(300, noise=50.0, random_state=0),
    "friedman 3": lambda: datasets.make_friedman3(300, noise=0.1, random_state=0),
}


def alcohol() -> Table:
    """How strong a wine is, from what else is known of it."""
    X, _ = datasets.load_wine(return_X_y=True)
    return X[:, 1:], X[:, 0]


def contenders(is_classes: bool) -> dict[str, Any]:
    """The estimators that are compared, without options but for the iterations."""
    if is_classes:
        return {
            harness.OURS: FeedforwardClassifier(random_state=0),
            "MLP, lbfgs": scaled(MLPClassifier(solver="lbfgs", max_iter=500, random_state=0)),
            "MLP, adam": scaled(MLPClassifier(random_state=0)),
            "logistic regression": scaled(LogisticRegression(max_iter=2000)),
        }
    return {
        harness.OURS: FeedforwardRegressor(random_state=0),
        "MLP, lbfgs": scaled(MLPRegressor(solver="lbfgs", max_iter=500, random_state=0)),
        "MLP, adam": scaled(MLPRegressor(random_state=0)),
        "ridge regression": scaled(RidgeCV(np.logspace(-2, 4, 20))),
    }


def scaled(estimator: Any) -> Any:
    """The estimator on standardized columns."""
    return make_pipeline(StandardScaler(), estimator)


def folds(page: harness.Page) -> None:
    """Scores of five folds."""
    lines = ["## Five folds, no options", "", "| table | estimator | score | a fit |"]
    lines.append("|---|---|---|---|")
    verdicts = []
    for name, make in {**CLASSES, **NUMBERS}.items():
        X, y = make()
        split = (StratifiedKFold if name in CLASSES else KFold)(5, shuffle=True, random_state=0)
        results = {}
        for who, estimator in contenders(name in CLASSES).items():
            scores, seconds = [], []
            for train, test in split.split(X, y):
                started = time.perf_counter()
                fitted = clone(estimator).fit(X[train], y[train])
                seconds.append(time.perf_counter() - started)
                scores.append(fitted.score(X[test], y[test]))
            error = statistics.stdev(scores) / len(scores) ** 0.5
            results[who] = statistics.mean(scores), error
            lines.append(
                f"| {name} | {who} | {results[who][0]:.4f} ± {error:.4f} "
                f"| {harness.duration(statistics.median(seconds))} |"
            )
        best = max((one for who, one in results.items() if who != harness.OURS))
        mine = results[harness.OURS]
        verdict = "met" if mine[0] >= best[0] - max(mine[1], best[1]) else "**missed**"
        verdicts.append(f"- {name}: not a standard error below the best other, {verdict}")
    page.add("\n".join([*lines, "", *verdicts, ""]))


def refits(page: harness.Page) -> None:
    """Left-out rows beside true refits."""
    lines = [
        "## Left-out rows and true refits",
        "",
        "The change of a row's prediction without it: ours from one curvature, beside fits without "
        "the row, which begin where the fit of all rows ended, with the same penalty. *Off* is the "
        "median of the difference, as a share of the prediction's spread over the rows, and of the "
        "change. Predictions of wine are probabilities, moderated by what the parameters leave "
        "open; the outputs are the logits before that, less their mean.",
        "",
        "| table and hidden nodes | off, of the spread | off, of the change "
        "| outputs off, of the change "
        "| all rows | refits |",
        "|---|---|---|---|---|---|",
    ]
    cases: list[tuple[str, Any, Callable[[], Table]]] = [
        ("diabetes", FeedforwardRegressor, NUMBERS["diabetes"]),
        ("wine", FeedforwardClassifier, CLASSES["wine"]),
    ]
    for name, kind, make in cases:
        X, y = make()
        for hidden in ((), (4,)):
            options = {"random_state": 0, "tol": 1e-8, "max_iter": 500}
            first = kind(hidden, **options).fit(X, y)
            # strengths stay as the evidence chose them: one for all layers
            options["alpha"] = float(np.exp(np.mean(np.log(first.alpha_))))
            model = kind(hidden, **options).fit(X, y)
            # of the mean loss: the penalty itself is the same without a row
            without = {**options, "alpha": options["alpha"] * len(X) / (len(X) - 1)}
            started = time.perf_counter()
            kind(hidden, **{**options, "max_iter": 1}).fit(X, y)
            once = time.perf_counter() - started
            found, plain = answers(model, left_out=True), answers(model, X=X)
            started = time.perf_counter()
            true, outputs = plain.copy(), []
            for row in range(len(X)):
                weights = np.ones(len(X))
                weights[row] = 1e-9  # the columns' scales are those without the row, then
                again = kind(hidden, warm_start=True, **options).fit(X, y).set_params(**without)
                true[row] = answers(again.fit(X, y, sample_weight=weights), X=X[row : row + 1])[0]
                outputs.append(answers(again, X=X[row : row + 1], before=True)[0])
            taken = time.perf_counter() - started
            off = np.median(np.abs(found - true))
            before = answers(model, X=X, before=True)
            outputs_off = np.median(
                np.abs(answers(model, left_out=True, before=True) - np.array(outputs))
            )
            lines.append(
                f"| {name}, {sum(hidden)} | {off / np.std(plain):.2%} "
                f"| {off / np.median(np.abs(true - plain)):.1%} "
                f"| {outputs_off / np.median(np.abs(np.array(outputs) - before)):.1%} "
                f"| {harness.duration(once)} with a step | {harness.duration(taken)} |"
            )
    page.add("\n".join(lines) + "\n")


def looking_back(page: harness.Page) -> None:
    """Left-out rows beside one step of training."""
    lines = [
        "## Left-out rows and a step of Gauss-Newton",
        "",
        "Both compiled, in turns; medians.",
        "",
        "| table and hidden nodes | parameters | a step | left-out rows | ratio |",
        "|---|---|---|---|---|",
    ]
    verdicts = []
    for name, nodes in (("diabetes", 4), ("wine", 4), ("breast cancer", 8), ("digits", 4)):
        X, y = (CLASSES | NUMBERS)[name]()
        kind = FeedforwardClassifier if name in CLASSES else FeedforwardRegressor
        model = kind((nodes,), solver="gauss-newton", random_state=0, max_iter=15).fit(X, y)
        with jax.enable_x64(True):
            both = one_step_and_a_look(model._fitted)
            seconds: list[list[float]] = [[], []]
            for _ in range(ROUNDS):
                for call, times in zip(both, seconds, strict=True):
                    started = time.perf_counter()
                    jax.block_until_ready(call())
                    times.append(time.perf_counter() - started)
        once, look = (statistics.median(times[1:]) for times in seconds)
        lines.append(
            f"| {name}, {nodes} | {len(model._fitted.model.triangle)} | {harness.duration(once)} "
            f"| {harness.duration(look)} | {look / once:.2f} |"
        )
        verdict = "met" if look <= 1.5 * once else "**missed**"
        verdicts.append(f"- {name}: at most 1.5 times a step, {verdict}")
    page.add("\n".join([*lines, "", *verdicts, ""]))


def one_step_and_a_look(fitted: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A step from where a fit ended, and its left-out rows."""
    model, arrays = fitted.model, partial(jax.tree.map, jnp.asarray)
    rows, targets = map(arrays, fitted.rows.standardized(model.inputs))
    params, triangle = arrays(model.params), jnp.asarray(model.triangle)
    strengths = jnp.asarray(fitted.strengths * len(rows))
    is_used = jax.tree.map(lambda part: jnp.ones(part.shape, bool), params)
    turn = first_turn(params, Level(strengths, jnp.ones(())), is_fixed=False)
    turn = turn._replace(steps=jnp.int32(FIRST_STEPS))  # from which on the evidence is asked
    tolerance = jnp.asarray(1e-5)
    return (
        lambda: step(model.objective, rows, targets, is_used, tolerance, turn),
        lambda: left_out(model.objective, params, triangle, rows, targets, strengths),
    )


def answers(model: Any, *, X: Any = None, left_out: bool = False, before: bool = False) -> Any:
    """What an estimator says of rows, as numbers; before moderation, if that is asked for."""
    if isinstance(model, FeedforwardRegressor):
        return model.leave_one_out_.predictions if left_out else model.predict(X)
    if not before:
        return model.leave_one_out_.probabilities if left_out else model.predict_proba(X)
    with jax.enable_x64(True):
        fitted = model._fitted
        logits = fitted.left_out.without if left_out else fitted.model.outputs(X)
    return logits - logits.mean(axis=1, keepdims=True)


def flipped(page: harness.Page) -> None:
    """Which share of flipped labels is among the most doubtful tenth of the rows."""
    lines = [
        "## Wrong labels",
        "",
        "5 % of the labels are changed to another class, ten times. Found: those among the tenth "
        "of the rows that are most suspicious.",
        "",
        "| table | found |",
        "|---|---|",
    ]
    verdicts = []
    for name, make in CLASSES.items():
        X, y = make()
        shares = []
        for seed in range(10):
            generator = np.random.RandomState(seed)
            rows = generator.choice(len(X), len(X) // 20, replace=False)
            changed = y.copy()
            changed[rows] = (y[rows] + generator.randint(1, y.max() + 1, len(rows))) % (y.max() + 1)
            model = FeedforwardClassifier(random_state=0).fit(X, changed)
            shares.append(np.isin(rows, model.suspicious_rows_[: len(X) // 10]).mean())
        share = np.mean(shares)
        lines.append(f"| {name} | {share:.0%} |")
        verdicts.append(f"- {name}: at least 70 %, {'met' if share >= 0.7 else '**missed**'}")
    page.add("\n".join([*lines, "", *verdicts, ""]))


def strengths(page: harness.Page) -> None:
    """The penalty of the evidence beside the best of ten by cross-validation."""
    lines = [
        "## The strength of the penalty",
        "",
        "Mean squared errors of ten folds, 8 hidden nodes: with the strengths of the evidence, and "
        "with the best of ten strengths, each tried in those folds.",
        "",
        "| table | evidence | best of ten | standard error |",
        "|---|---|---|---|",
    ]
    verdicts = []
    for name, make in NUMBERS.items():
        X, y = make()

        def errors(alpha: Any, X: Any = X, y: Any = y) -> Any:
            model = FeedforwardRegressor((8,), alpha=alpha, random_state=0)
            split = KFold(10, shuffle=True, random_state=0)
            return (cross_val_predict(model, X, y, cv=split) - y) ** 2 / np.var(y)

        tried = [errors(alpha) for alpha in np.logspace(-5, 1, 10)]
        best = min(tried, key=np.mean)
        ours = errors("auto")
        error = np.std(best) / len(y) ** 0.5
        verdict = "met" if np.mean(ours) <= np.mean(best) + error else "**missed**"
        lines.append(f"| {name} | {np.mean(ours):.4f} | {np.mean(best):.4f} | {error:.4f} |")
        verdicts.append(f"- {name}: within a standard error of the best of ten, {verdict}")
    page.add("\n".join([*lines, "", *verdicts, ""]))


SECTIONS = {
    "folds": folds,
    "refits": refits,
    "looking_back": looking_back,
    "flipped": flipped,
    "strengths": strengths,
}


def main() -> None:
    """Measure all sections, or some."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    harness.write_sections("Networks for tables, without options", SECTIONS)


if __name__ == "__main__":
    main()
