"""The harness compares like with like, and says what it found."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import harness

SCRIPTS = sorted(
    path
    for path in (Path(__file__).resolve().parents[2] / "benchmarks").glob("*.py")
    if path.stem not in ("harness", "networks")
)


def measurement(*rounds):
    return harness.Measurement(np.array(rounds), first_call=0.25)


def squares(**changes):
    fields = {
        "title": "Squares",
        "arguments": (jnp.arange(3.0),),
        "contenders": {"blockjac": lambda x: x * x, "power": lambda x: x**2},
        "uncompiled": {"NumPy": lambda x: np.square(x)},
        "dense": "power",
        "alike": ("blockjac", "power", "NumPy"),
        "claims": (harness.Claim(1e9, ("power", "NumPy")),),
    }
    return harness.Task(**{**fields, **changes})


def test_every_contender_and_the_floor_are_measured_each_round():
    measured = harness.measure(squares(), rounds=3)
    assert list(measured) == ["blockjac", "power", "floor", "NumPy"]
    assert all(
        np.isfinite(one.rounds).all() and one.rounds.shape == (3,) for one in measured.values()
    )
    assert measured["NumPy"].first_call is None
    page = harness.table(squares(), measured)
    assert page.startswith("## Squares\n")
    assert "the fastest of power and NumPy: " in page
    assert page.rstrip().endswith(", met")


@pytest.mark.parametrize("wrong", [lambda x: x * x + 1e-6, lambda x: (x * x)[:2], lambda x: (x, x)])
def test_contenders_that_disagree_are_not_timed(wrong):
    task = squares(contenders={"blockjac": lambda x: x * x, "power": wrong})
    with pytest.raises(ArithmeticError, match="'power' and 'blockjac' disagree; nothing was timed"):
        harness.measure(task, rounds=1)


def test_claim_about_a_contender_that_the_task_lacks_is_refused_before_anything_is_timed():
    claims = (harness.Claim(1.0, ("power", "a peer")),)
    with pytest.raises(ValueError, match="'Squares' has a claim about a peer, which it does not"):
        squares(claims=claims)
    with pytest.raises(ValueError, match="about floor"):
        squares(claims=(harness.Claim(1.0, ("floor",)),), dense=None)


def test_ratio_is_the_median_of_the_rounds_that_both_took_part_in():
    ours, theirs = measurement(1.0, 2.0, 30.0, 7.0), measurement(2.0, 2.0, 10.0, np.nan)
    assert harness.ratio(ours, theirs) == 1.0


@pytest.mark.parametrize(("limit", "answer"), [(2.0, "2 x, met"), (1.9, "2 x, **missed**")])
def test_a_claim_is_held_against_the_fastest_peer(limit, answer):
    measured = {"blockjac": measurement(2.0), "slow": measurement(5.0), "fast": measurement(1.0)}
    line = harness.verdict(harness.Claim(limit, ("slow", "fast")), measured)
    assert line == f"- blockjac at most {limit:g} x fast, the fastest of slow and fast: {answer}"


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.56e-6, "4.56 us")]
)
def test_durations_have_a_unit_that_suits_them(value, text):
    assert harness.duration(value) == text


def test_a_peer_is_prepared_checked_and_measured_like_the_others():
    peers = {
        "compiled": harness.Peer(lambda: lambda x: x**2),
        "as it is": harness.Peer(lambda: np.square, compiled=False),
    }
    measured = harness.measure(squares(others=peers), rounds=2)
    assert all(np.isfinite(measured[name].rounds).all() for name in peers)
    assert measured["compiled"].first_call > 0
    assert measured["compiled"].memory == measured["blockjac"].memory == 2 * 3 * 8
    assert measured["as it is"].memory is None


def missing():
    import no_such_package

    return no_such_package.jacobian


def broken():
    raise ValueError("no rule for 'sin' | or 'cos'\nand a long story")


def too_large(x):
    return jnp.full(2**31, x[0])


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (harness.Peer(missing), "not installed (no_such_package)"),
        (harness.Peer(broken), "ValueError: no rule for 'sin' / or 'cos'"),
        (harness.Peer(lambda: too_large), "needs 16 GiB, over the limit of 10 GiB"),
        (
            harness.Peer(lambda: lambda x: x**3, compiled=False),
            "ArithmeticError: 'this' and 'blockjac' disagree; nothing was timed",
        ),
    ],
    ids=["missing", "broken", "too large", "wrong"],
)
def test_a_peer_that_is_not_timed_stays_in_the_table_with_the_reason(peer, reason):
    claims = (harness.Claim(1.0, ("peer",)), harness.Claim(1e9, ("peer", "power")))
    task = squares(others={"peer": peer}, claims=claims)
    measured = harness.measure(task, rounds=1)
    page = harness.table(task, measured)
    assert f"\n| peer | {reason} | | | | | |\n" in page
    assert "- blockjac at most 1 x peer: nothing to compare with" in page
    assert "power, the fastest of peer and power: " in page


def test_ours_failing_is_a_miss():
    task = squares(contenders={"blockjac": lambda x: broken(), "power": lambda x: x**2})
    measured = harness.measure(task, rounds=1)
    assert harness.verdict(harness.Claim(1e9, ("power",)), measured).endswith(
        "power: ValueError: no rule for 'sin' / or 'cos', **missed**"
    )
    assert harness.mean_verdict(harness.Claim(1.0, ("power",)), {"squares": measured}).endswith(
        "failed on squares: ValueError: no rule for 'sin' / or 'cos', **missed**"
    )


def test_work_over_the_limit_is_not_run():
    with pytest.raises(harness.TooLargeError, match="needs 1,000 Gflop a call, over the limit of"):
        harness.require_feasible(None, 1e12)


def test_mean_is_geometric_over_tasks_with_the_fastest_peer_of_each():
    tasks = {
        "one": {"blockjac": measurement(1.0), "a": measurement(2.0), "b": measurement(4.0)},
        "two": {"blockjac": measurement(1.0), "a": harness.Failure("no"), "b": measurement(8.0)},
        "three": {
            "blockjac": measurement(1.0),
            "a": harness.Failure("no"),
            "b": harness.Failure(""),
        },
    }
    claim = harness.Claim(0.25, ("a", "b"))
    assert harness.mean_verdict(claim, tasks) == (
        "- blockjac at most 0.25 x the fastest of a and b in the geometric mean of 2 tasks: "
        "0.25 x, met"
    )


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (12, "12 B"), (1536, "1.5 KiB"), (3 * 2**40, "3 TiB")]
)
def test_storage_has_a_unit_that_suits_it(value, text):
    assert harness.storage(value) == text


def test_single_precision_is_compared_as_such():
    exact = np.array([1.0, 1e3], np.float32)
    assert harness.close(exact * np.float32(1 + 1e-6), exact)
    assert not harness.close(exact * np.float32(1 + 1e-3), exact)
    assert not harness.close(exact.astype(float) * (1 + 1e-6), exact.astype(float))


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a script of tasks with options, and gives what is on its page."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    kept = {
        name: getattr(jax.config, name)
        for name in ("jax_default_device", "jax_default_matmul_precision", "jax_enable_x64")
    }

    def script(tasks, *options):
        monkeypatch.setattr("sys.argv", ["squares.py", "--rounds", "1", *options])
        harness.main("Squares", tasks)
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    yield script
    for name, value in kept.items():
        jax.config.update(name, value)


def test_the_page_says_where_and_in_which_numbers(run):
    pages = run({"squares": squares}, "--platform", "cpu", "--float32", "--precision", "highest")
    (page,) = pages.values()
    assert list(pages) == ["squares-float32-highest.md"]
    assert "cores, cpu, float32 unless said" in page


def test_a_task_that_fails_leaves_the_others(run, tmp_path):
    with pytest.raises(SystemExit, match="failed: broken"):
        run({"broken": broken, "squares": squares})
    page = (tmp_path / "squares.md").read_text()
    assert "## broken\n\n**Failed**: ValueError: no rule for" in page
    assert "## Squares\n" in page


def test_tasks_are_chosen_by_name_and_by_time(run):
    tasks = {"a-100": squares, "a-200": squares, "b-100": squares}
    (page,) = run(tasks, "--match", "*-100").values()
    assert page.count("## Squares") == 2
    assert "Measured were the tasks named `*-100`, not all." in page
    (page,) = run(tasks, "--budget", "0").values()
    assert "Not measured, for want of time: a-100, a-200 and b-100." in page


def test_products_of_an_accelerator_may_be_short(monkeypatch):
    assert not harness.has_short_products()
    device = type("Device", (), {"platform": "gpu", "device_kind": "some"})()
    monkeypatch.setattr(harness, "device", lambda: device)
    assert harness.has_short_products()
    assert "gpu: some, host " in harness.circumstances()
    assert "may be TF32" in harness.circumstances()
    assert harness.page_path().parent == harness.RESULTS / "gpu"
    with jax.default_matmul_precision("highest"):
        assert not harness.has_short_products()


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_benchmark_starts(script):
    done = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout


def test_tasks_measured_apart_join_the_page_that_is_there(monkeypatch, tmp_path):
    path = tmp_path / "page.md"
    monkeypatch.setattr(harness, "page_path", lambda: path)
    whole = harness.Page("Claim", writes=True)
    for title in ("One", "Two", "Three"):
        whole.add(f"## {title}\n\nfirst\n")
    assert path.read_text(encoding="utf-8").endswith(harness.UNFINISHED)
    apart = harness.Page("Claim", writes=True, joins=True)
    apart.write()
    assert harness.UNFINISHED in path.read_text(encoding="utf-8")  # nothing new, nothing written
    apart.add("## Two\n\nsecond\n")
    apart.write()
    head, *sections = harness.sections_of(path)
    assert head.startswith("# Claim\n")
    assert [harness.heading(one) for one in sections] == ["## One", "## Three", "## Two"]
    assert "first" not in sections[2]
    assert "Measured apart: 20" in sections[2]
    assert "Measured apart" not in sections[0]
    assert harness.UNFINISHED not in "".join(sections)
