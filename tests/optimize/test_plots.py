import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from blockjac.optimize import Backtracking, Status, line_profile, plot_history, plot_line_search


def square(x):
    return jnp.sum(x**2)


def test_the_profile_holds_the_curve_and_the_search():
    profile = line_profile(square, jnp.array([3.0]), line_search=Backtracking(alpha=0.2))
    np.testing.assert_allclose(profile.values, (3 - 6 * profile.steps) ** 2, atol=1e-12)
    assert (profile.start, profile.slope, profile.alpha) == (9, -36, 0.2)
    assert (profile.accepted_step, profile.accepted_value) == (0.5, 0)
    assert (profile.rejected_step, profile.rejected_value) == (1, 9)
    assert profile.steps[0] < 0 < 1 < profile.steps[-1]
    assert profile.status == Status.FOUND


def test_a_profile_of_a_first_trial_has_nothing_rejected():
    profile = line_profile(square, 3.0, line_search=Backtracking(first_step=0.25))
    assert profile.accepted_step == 0.25
    assert jnp.isnan(profile.rejected_step)


def test_a_profile_of_a_failed_search_shows_its_last_trial():
    profile = line_profile(square, 3.0, direction=-1e9, line_search=Backtracking(max_trials=3))
    assert (profile.status, profile.rejected_step) == (Status.NO_STEP, 0.25)


def test_a_profile_uphill_has_a_curve_too():
    profile = line_profile(square, 3.0, direction=1.0)
    assert profile.status == Status.NOT_DESCENT
    assert profile.steps[-1] > 1


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="points is 1; wanted at least 2"):
        line_profile(square, 3.0, points=1)


@pytest.mark.slow
def test_a_png_is_a_picture_and_an_svg_names_what_it_shows(tmp_path):
    plot_line_search(tmp_path / "search.PNG", line_profile(square, 3.0), title="A search")
    with Image.open(tmp_path / "search.PNG") as picture:
        assert picture.size[0] > 800
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 50
    profile = jax.jit(lambda x: line_profile(square, x))(3.0)
    first = plot_line_search(tmp_path / "1.svg", profile, title="A search").read_bytes()
    second = plot_line_search(tmp_path / "2.svg", profile, title="A search").read_bytes()
    assert first == second
    for text in (b"A search", b"Armijo line", b"tangent", b"accepted, t = 0.5", b"rejected, t = 1"):
        assert b"<!-- " + text in first or text in first


@pytest.mark.parametrize("loss", [lambda x: jnp.where(x == 3, 1.0, jnp.nan), lambda x: 0 * x])
def test_a_search_without_a_step_is_still_drawn(tmp_path, loss):
    profile = line_profile(loss, 3.0, direction=-1.0)
    assert plot_line_search(tmp_path / "search.svg", profile).exists()


@pytest.mark.parametrize("log_base", [None, 2, 10])
def test_a_history_is_drawn(tmp_path, log_base):
    values = np.geomspace(1, 1e-3, 40)
    file = plot_history(
        tmp_path / "h.svg", values, title="Loss", quantity="nats", start=2.0, log_base=log_base
    )
    assert b"before the first step: 2" in file.read_bytes()


def test_a_history_says_where_it_ends_and_draws_levels(tmp_path):
    file = plot_history(
        tmp_path / "h.svg",
        [70.0, 81.25],
        title="Accuracy",
        quantity="percent",
        levels={"test": 89.5},
        limits=(0.0, 100.0),
        markers_only=True,
    )
    text = file.read_text()
    assert "last: 81.25" in text
    assert "test: 89.5" in text


def test_an_empty_history_is_drawn(tmp_path):
    assert plot_history(tmp_path / "h.svg", [], title="Loss", quantity="nats").exists()


@pytest.mark.parametrize("name", ["search.pdf", "search", "search.png.txt"])
def test_other_suffixes_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"ends in '.*'; wanted .* ends in \.png or \.svg"):
        plot_history(tmp_path / name, [1.0], title="Loss", quantity="nats")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OSError, match=r"cannot write in the folder '.*file': (Not a dir|File exis)"
    ):
        plot_history(tmp_path / "file" / "h.png", [1.0], title="Loss", quantity="nats")


def test_a_file_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / "h.png").mkdir()
    with pytest.raises(OSError, match=r"h\.png' is a folder; wanted the name of a file"):
        plot_history(tmp_path / "h.png", [1.0], title="Loss", quantity="nats")


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'blockjac\[app\]'"):
        plot_history(tmp_path / "h.png", [1.0], title="Loss", quantity="nats")


@pytest.mark.slow
def test_matplotlib_is_imported_late_and_without_global_state(tmp_path):
    program = (
        "import sys; from blockjac.optimize import plot_history;"
        "assert 'matplotlib' not in sys.modules;"
        f"plot_history({str(tmp_path / 'h.png')!r}, [1.0], title='Loss', quantity='nats');"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
