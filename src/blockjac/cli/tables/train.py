"""`blockjac train`: read, fit, test, and write what came of it."""

import argparse
import csv
import io
import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from blockjac.cli.tables.console import Console, doubtful, opening, summary
from blockjac.cli.tables.folder import CHECKPOINT, METRICS, MODEL, PLOTS, PREDICTIONS, REPORT
from blockjac.cli.tables.page import page
from blockjac.cli.tables.pictures import draw, get_ready
from blockjac.errors import CommandError
from blockjac.estimators import Checkpoint
from blockjac.estimators.archive import digest_of
from blockjac.optimize.files import check_folder, write_whole
from blockjac.optimize.pictures import check_picture
from blockjac.tabular.reading import read_table
from blockjac.tabular.table import Table
from blockjac.tabular.training import How, Trained, prepare, train


def run_train(options: argparse.Namespace) -> None:
    """Fit a network to a table, print how it went, and write it.

    Args:
        options: Those of `blockjac train`.

    Raises:
        BlockjacError: If the table cannot be learned, or something cannot be written.
        KeyboardInterrupt: After Ctrl-C, when the step has ended and is saved; says how to go on.
    """
    try:
        _run(options)
    except KeyboardInterrupt as error:
        kept = "nothing was kept, as there is no --out DIR"
        if options.out is not None:
            kept = f"the same words with --resume go on from '{options.out}'"
        raise KeyboardInterrupt(f"interrupted; {kept}") from error


def _run(options: argparse.Namespace) -> None:
    """See `run_train`."""
    out: Path | None = options.out
    if out is not None and _is_done(options, out):
        print(f"the training in '{out}' is complete; --overwrite begins anew")
        return
    table = read_table(options.data)
    how = How(
        target=options.target,
        task=options.task,
        drop=tuple(options.drop),
        test=options.test,
        folds=options.folds,
        seed=options.seed,
    )
    prepared = prepare(table, how)
    print(*opening(prepared), sep="\n", flush=True)
    with _checkpoint(options, table) as checkpoint, Console(prepared.target.task) as console:
        drawing = threading.Thread(target=get_ready, daemon=True)  # while the steps are compiled
        if out is not None:
            check_picture(out / f"picture.{options.plot_format}")
            drawing.start()
        fitting = {
            "hidden_layer_sizes": options.hidden,
            "max_iter": options.steps,
            "callback": console.step,
        }
        has_line = out is not None
        trained = train(
            prepared, replace(how, options=fitting), _told(console, checkpoint), has_line=has_line
        )
        for name, value in summary(trained):
            print(f"{name + ':':<32}{value}", flush=True)
        print("rows to look at, which the others predict worst:")
        print(*(f"  {line}" for line in doubtful(trained)), sep="\n", flush=True)
        if out is not None:
            console.doing("drawing")
            drawing.join()
            _write(out, options, trained)
    if out is None:
        print("nothing was written: --out DIR keeps the model and makes a report")
    else:
        print(f"written to '{out}': {MODEL}, {REPORT}, {METRICS}, {PREDICTIONS}, {PLOTS}")


def _told(console: Console, checkpoint: Checkpoint | None) -> Callable[[str], object]:
    """Tell the console what is done."""
    if checkpoint is not None and checkpoint.has_states:
        print("going on where the training was interrupted", flush=True)
    return console.doing


def _is_done(options: argparse.Namespace, out: Path) -> bool:
    """Whether a training that is to be resumed has ended.

    Raises:
        CommandError: if the folder holds another training.
    """
    is_done, is_open = (out / MODEL).exists(), (out / CHECKPOINT).exists()
    if options.resume:
        return is_done and not is_open
    if is_open and not options.overwrite:
        raise CommandError(
            f"'{out}' holds a training that was interrupted; --resume goes on with it, --overwrite "
            "begins anew"
        )
    if is_done and not options.overwrite:
        raise CommandError(
            f"'{out}' holds a trained model; choose another --out, or --overwrite to replace it"
        )
    return False


def _checkpoint(
    options: argparse.Namespace, table: Table
) -> AbstractContextManager[Checkpoint | None]:
    """What keeps the training of a folder.

    Raises:
        CommandError: if the one in the folder is of another training.
        OutputPathError: if the folder cannot be written in.
    """
    if options.out is None:
        return nullcontext()
    check_folder(options.out)
    about = {"data": options.data, "contents": _digest(table)}
    names = ("target", "task", "drop", "hidden", "test", "folds", "steps", "seed")
    about |= {f"--{name}": getattr(options, name) for name in names}
    about = json.loads(json.dumps(about))  # lists for tuples, as a file gives them back
    if options.overwrite:
        (options.out / CHECKPOINT).unlink(missing_ok=True)
    found = Checkpoint(
        options.out / CHECKPOINT, seconds=options.checkpoint_every, about=about, is_kept=True
    )
    for name, wanted in about.items():
        if found.about.get(name) != wanted:
            said = "" if name == "contents" else f", {found.about.get(name)!r}"
            what = "contents of the table" if name == "contents" else name
            raise CommandError(
                f"the training in '{options.out}' had other {what}{said}; --resume wants the "
                "options and the table that it began with"
            )
    return found


def _digest(table: Table) -> str:
    """A digest of all that a table holds."""
    parts: list[Any] = []
    for name, values in table.columns.items():
        is_text = values.dtype == object  # whose bytes are addresses
        parts += [f"{name}\0", "\0".join(map(str, values)) if is_text else values]
    return digest_of(*parts)


def _write(out: Path, options: argparse.Namespace, trained: Trained) -> None:
    """Write all there is; the model last, and then the checkpoint is not needed."""
    write_whole(out / METRICS, _metrics(trained))
    write_whole(out / PREDICTIONS, _predictions(trained))
    pictures = draw(check_folder(out / PLOTS), options.plot_format, trained)
    write_whole(out / REPORT, page(trained, pictures, out).encode())
    trained.model.save(out / MODEL)
    (out / CHECKPOINT).unlink(missing_ok=True)


def _metrics(trained: Trained) -> bytes:
    """A line of JSON for each step, and one for each score."""
    lines: list[dict[str, Any]] = []
    for one in trained.histories:
        for number, loss in enumerate(one.losses):
            line = {"stage": one.stage, "hidden": list(one.hidden), "step": number + 1}
            line |= {"loss": loss, "step_norm": one.lengths[number]}
            if len(one.validation):
                line["validation_loss"] = one.validation[number]
            lines.append(line)
    for name, found in (("rows set aside", trained.tested), ("left out", trained.left_out)):
        if found is not None:
            lines.append({"stage": name, "rows": len(found.true), **found.scores})
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


def _predictions(trained: Trained) -> bytes:
    """What is predicted for each row by a model that did not see it, as CSV."""
    shown = trained.shown
    prepared = trained.prepared
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    extra = [f"probability of {one}" for one in shown.classes] if shown is not None else []
    writer.writerow(["row", prepared.target.name, "predicted", *extra])
    if shown is not None:
        for place, row in enumerate(shown.rows):
            chances = [] if shown.chances is None else [f"{p:.6g}" for p in shown.chances[place]]
            where = prepared.where(int(row))
            writer.writerow([where, shown.true[place], shown.predicted[place], *chances])
    return text.getvalue().encode()
