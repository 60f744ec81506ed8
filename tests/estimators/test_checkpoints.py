import signal
import threading
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_wine
from sklearn.model_selection import cross_val_predict

from blockjac.errors import FileFormatError, InvalidOptionError, OutputPathError
from blockjac.estimators import Checkpoint, FeedforwardClassifier, FeedforwardRegressor
from blockjac.estimators.checkpoints import States

WINE = load_wine(return_X_y=True)
SUGAR = tuple(part[:120] for part in load_diabetes(return_X_y=True))

FITS = {
    "classes": lambda **more: FeedforwardClassifier((2,), random_state=1, **more).fit(*WINE),
    "numbers": lambda **more: FeedforwardRegressor((2,), random_state=1, **more).fit(*SUGAR),
    "widths": lambda **more: FeedforwardRegressor(max_iter=20, random_state=1, **more).fit(*SUGAR),
    "rows held out": lambda **more: FeedforwardRegressor(
        (2,), early_stopping=True, random_state=1, **more
    ).fit(*SUGAR),
    "batches": lambda **more: FeedforwardRegressor(
        (8,), solver="adam", max_iter=6, random_state=1, **more
    ).fit(*SUGAR),
    "parts": lambda **more: FeedforwardRegressor(
        (8,), max_iter=6, random_state=1, **more
    ).fit_parts([tuple(part[rows::2] for part in SUGAR) for rows in range(2)]),
}


def numbers_of(model):
    """All that a fit has found."""
    return [*model.coefs_, *model.intercepts_, model.alpha_, model.loss_curve_, model.step_norms_]


def same(one, other):
    pairs = zip(numbers_of(one), numbers_of(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


class Interrupter:
    """A callback that presses Ctrl-C at one step, or dies there."""

    def __init__(self, at, dies=False):
        self.at, self.dies, self.seen = at, dies, 0

    def __call__(self, progress):
        self.seen += 1
        if self.seen == self.at:
            if self.dies:
                raise SystemExit("killed")
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module", params=FITS)
def whole(request):
    """A fit that nobody interrupted, and how many steps were watched."""
    counter = Interrupter(at=0)
    return FITS[request.param], FITS[request.param](callback=counter), counter.seen


@pytest.mark.slow
@pytest.mark.parametrize("dies", [False, True])
def test_an_interrupted_fit_ends_as_if_it_had_not_been(whole, dies, tmp_path):
    fit, wanted, steps = whole
    for at in sorted({1, 2, steps // 2, steps - 1, steps}):
        file = tmp_path / f"{at}.npz"
        with pytest.raises((KeyboardInterrupt, SystemExit)), Checkpoint(file, seconds=0):
            fit(callback=Interrupter(at, dies))
        again = Interrupter(at=0)
        with Checkpoint(file, seconds=0) as checkpoint:
            assert checkpoint.has_states
            model = fit(callback=again)
        assert same(model, wanted)
        assert again.seen <= steps - at + 1
        assert not file.exists()


def test_ctrl_c_is_said_and_the_state_is_there(tmp_path):
    file = tmp_path / "c.npz"
    with (
        pytest.raises(KeyboardInterrupt, match=r"stopped after a step; the state is in '.*c\.npz'"),
        Checkpoint(file, seconds=1e9),
    ):
        FITS["numbers"](callback=Interrupter(3))
    again = States(file, 0.0, None)
    again.read()
    assert [len(leaves[-1]) for leaves in again.leaves.values()] == [3]


def test_another_fit_does_not_take_the_state(tmp_path):
    file = tmp_path / "c.npz"
    with pytest.raises(SystemExit), Checkpoint(file, seconds=0):
        FITS["numbers"](callback=Interrupter(4, dies=True))
    alone, counter = Interrupter(at=0), Interrupter(at=0)
    X, y = SUGAR
    FeedforwardRegressor((2,), random_state=1, callback=alone).fit(X, y + X[:, 0])
    with Checkpoint(file, seconds=0):
        FeedforwardRegressor((2,), random_state=1, callback=counter).fit(X, y + X[:, 0])
    assert counter.seen == alone.seen > 0


def test_all_fits_of_a_cross_validation_are_kept(tmp_path):
    X, y = SUGAR
    model = FeedforwardRegressor((2,), random_state=0)
    wanted = cross_val_predict(model, X, y, cv=3)
    first = Interrupter(30, dies=True)
    with pytest.raises(SystemExit), Checkpoint(tmp_path / "c.npz", seconds=0):
        cross_val_predict(model.set_params(callback=first), X, y, cv=3)
    model.set_params(callback=None)
    with Checkpoint(tmp_path / "c.npz"):
        assert np.array_equal(cross_val_predict(model, X, y, cv=3), wanted)


def test_a_file_that_stays_and_what_it_is_about(tmp_path):
    file = tmp_path / "c.npz"
    with Checkpoint(file, about={"data": "a.csv"}, is_kept=True):
        FITS["numbers"]()
    assert Checkpoint(file).about == {"data": "a.csv"}


def test_a_disk_that_fills_up_is_a_warning_and_the_old_state_stays(tmp_path, monkeypatch):
    file = tmp_path / "c.npz"
    wanted = FITS["numbers"]()
    full = OSError(28, "No space left on device")

    def broken(self, content):
        raise full

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with Checkpoint(file, seconds=0, is_kept=True):
            before = file.read_bytes()
            with monkeypatch.context() as patched:
                patched.setattr("pathlib.Path.write_bytes", broken)
                model = FITS["numbers"]()
    assert same(model, wanted)
    assert file.read_bytes() == before
    assert "No space left on device; the training goes on" in str(found[0].message)


def test_a_folder_that_cannot_be_written_is_said_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputPathError, match="cannot write in the folder"),
        Checkpoint(tmp_path / "file" / "c.npz"),
    ):
        pass


@pytest.fixture
def killed(tmp_path):
    """The file of a fit that was killed."""
    file = tmp_path / "c.npz"
    with pytest.raises(SystemExit), Checkpoint(file, seconds=0):
        FITS["numbers"](callback=Interrupter(2, dies=True))
    return file


def test_half_a_file_and_other_files_are_refused(killed):
    content = killed.read_bytes()
    for size in range(0, len(content), len(content) // 40):
        killed.write_bytes(content[:size])
        with pytest.raises(FileFormatError, match="is damaged or of another kind; wanted"):
            Checkpoint(killed)
    np.savez(killed, a=np.ones(2))
    with pytest.raises(FileFormatError, match="is damaged or of another kind"):
        Checkpoint(killed)


def test_a_turned_bit_changes_nothing_or_is_found(killed):
    content = killed.read_bytes()
    (wanted,) = Checkpoint(killed).states.leaves.values()
    refused = 0
    for place in range(0, len(content), len(content) // 150):
        killed.write_bytes(content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :])
        try:
            (found,) = Checkpoint(killed).states.leaves.values()
        except FileFormatError:
            refused += 1
        else:
            assert all(map(np.array_equal, found, wanted))
    assert refused > 100


def test_seconds_are_checked(tmp_path):
    with pytest.raises(InvalidOptionError, match="seconds is -1"):
        Checkpoint(tmp_path / "c.npz", seconds=-1)


def test_a_thread_leaves_signals_alone(tmp_path):
    models = []

    def run():
        with Checkpoint(tmp_path / "c.npz"):
            models.append(FITS["numbers"]())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert same(models[0], FITS["numbers"]())
