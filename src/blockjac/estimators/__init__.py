"""Estimators in scikit-learn's manner: networks for tables that say how sure they are."""

from typing import TYPE_CHECKING

from blockjac.base.lazy_names import lazy_names

if TYPE_CHECKING:
    from blockjac.estimators.checkpoints import Checkpoint
    from blockjac.estimators.classifier import FeedforwardClassifier
    from blockjac.estimators.files import load_model, save_model
    from blockjac.estimators.looking_back import LeaveOneOut
    from blockjac.estimators.regressor import FeedforwardRegressor
    from blockjac.estimators.row_groups import RowGroups
    from blockjac.estimators.training_loop import Progress

__all__ = [
    "Checkpoint",
    "FeedforwardClassifier",
    "FeedforwardRegressor",
    "LeaveOneOut",
    "Progress",
    "RowGroups",
    "load_model",
    "save_model",
]

_HOME = {
    "Checkpoint": "blockjac.estimators.checkpoints",
    "FeedforwardClassifier": "blockjac.estimators.classifier",
    "FeedforwardRegressor": "blockjac.estimators.regressor",
    "LeaveOneOut": "blockjac.estimators.looking_back",
    "Progress": "blockjac.estimators.training_loop",
    "RowGroups": "blockjac.estimators.row_groups",
    "load_model": "blockjac.estimators.files",
    "save_model": "blockjac.estimators.files",
}

if not TYPE_CHECKING:  # a checker reads the imports above
    __getattr__, __dir__ = lazy_names(__name__, globals(), __all__, _HOME)
