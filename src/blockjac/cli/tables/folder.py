"""The folder of a training: what its files are called, and where its model is."""

from pathlib import Path

from blockjac.errors import CommandError

MODEL, CHECKPOINT, METRICS = "model.npz", "checkpoint.npz", "metrics.jsonl"
PREDICTIONS, REPORT, PLOTS = "predictions.csv", "report.html", "plots"


def model_file(path: Path) -> Path:
    """The file of a model, which may be named by the folder of its training.

    Args:
        path: of either.

    Raises:
        CommandError: if there is none.
    """
    file = path / MODEL if path.is_dir() else path
    if not file.exists():
        if (path / CHECKPOINT).exists():
            raise CommandError(
                f"the training in '{path}' was interrupted; `blockjac train ... --resume` ends it"
            )
        raise CommandError(f"'{path}' holds no model; wanted a file or folder of blockjac train")
    return file
