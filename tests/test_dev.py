"""dev.py: its set-up on any Python, complete or not; what it passes on. No process is started."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


class Machine:
    """Stands in for the processes that dev.py starts, and for which of them work.

    Attributes:
        commands: every command that was run, in order.
        ensurepip: whether an environment can unpack its own pip.
        base_pip: the version of the base interpreter's pip, if it has one.
        venv: whether the base interpreter has a working venv module.
        uv: whether uv is on the path.
        install_code: the exit code of an installation.
    """

    def __init__(self, root):
        self.root = root
        self.commands = []
        self.ensurepip = True
        self.base_pip = "23.2"
        self.venv = True
        self.uv = False
        self.install_code = 0
        self.versions = {sys.executable: "3.11.7", "/opt/python3.12": "3.12.1"}

    def run(self, command):
        self.commands.append(command)
        if command[1:3] == ["-m", "venv"]:
            return self.make(command[-1], self.versions[command[0]]) if self.venv else 1
        if command[:2] == ["uv", "venv"]:
            return self.make(command[-1], self.versions[command[-2]])
        if "install" in command:
            return self.install_code
        return 0

    def make(self, directory, version):
        python = Path(directory) / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        (Path(directory) / "pyvenv.cfg").touch()
        self.versions[str(python)] = version
        return 0

    def output_of(self, command):
        python, *rest = command
        if rest[0] == "-c":
            return self.versions.get(python)
        if rest == ["-m", "ensurepip", "--default-pip"]:
            return "" if self.ensurepip else None
        assert rest == ["-m", "pip", "--version"]
        if python in (sys.executable, "/opt/python3.12") and self.base_pip:
            return f"pip {self.base_pip} from somewhere"
        return None

    @property
    def installs(self):
        return [command for command in self.commands if "install" in command]

    @property
    def environments_made(self):
        return [command for command in self.commands if "venv" in command]


@pytest.fixture
def dev(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / module.VERSION).parent.mkdir(parents=True)
    (tmp_path / module.VERSION).write_text('__version__ = "1.0"\n')
    return module


@pytest.fixture
def machine(monkeypatch, dev, tmp_path):
    machine = Machine(tmp_path)
    monkeypatch.setattr(dev, "run", machine.run)
    monkeypatch.setattr(dev, "output_of", machine.output_of)
    monkeypatch.setattr(
        dev.shutil, "which", lambda name: f"/usr/bin/{name}" if machine.uv else None
    )
    return machine


def test_a_new_checkout_gets_an_environment_with_the_project_in_it(dev, machine, tmp_path):
    python = dev.environment({"test"})
    assert python == tmp_path / ".venv" / "bin" / "python"
    assert machine.installs == [
        [str(python), "-m", "pip", "install", "--quiet", "--editable", ".[test]"]
    ]


def test_what_is_up_to_date_is_left_alone(dev, machine):
    dev.environment({"test"})
    machine.commands.clear()
    dev.environment({"test"})
    assert machine.commands == []


def test_a_further_extra_is_added_to_those_installed(dev, machine):
    dev.environment({"test"})
    machine.commands.clear()
    dev.environment({"docs"})
    assert [command[-1] for command in machine.commands] == [".[docs,test]"]
    machine.commands.clear()
    dev.environment({"test"})
    assert machine.commands == []


@pytest.mark.parametrize(
    ("file", "text"),
    [("pyproject.toml", "name = 'x'\n"), ("src/blockjac/__init__.py", '__version__ = "2.0"\n')],
)
def test_new_metadata_installs_again_into_the_same_environment(dev, machine, tmp_path, file, text):
    dev.environment({"test"})
    machine.commands.clear()
    (tmp_path / file).write_text(text)
    dev.environment({"test"})
    assert machine.environments_made == []
    assert len(machine.installs) == 1


def test_a_new_public_name_installs_nothing(dev, machine, tmp_path):
    dev.environment({"test"})
    machine.commands.clear()
    with (tmp_path / dev.VERSION).open("a") as file:
        file.write('__all__ = ["further"]\n')
    dev.environment({"test"})
    assert machine.commands == []


def test_a_moved_checkout_installs_again(dev, machine, tmp_path, monkeypatch):
    dev.environment({"test"})
    stamp = tmp_path / ".venv" / dev.STAMP
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "root": "/elsewhere"}))
    machine.commands.clear()
    dev.environment({"test"})
    assert len(machine.installs) == 1


def test_an_interrupted_installation_is_repaired_by_the_next_run(dev, machine, monkeypatch):
    def interrupted(command):
        raise KeyboardInterrupt

    dev.environment({"docs"})
    with monkeypatch.context() as patch:
        patch.setattr(dev, "run", interrupted)
        assert dev.main(["test"]) == 130
    machine.commands.clear()
    dev.environment({"docs"})
    assert machine.environments_made == []
    assert len(machine.installs) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"extras": 3}', '{"extras": ["test"]}'])
def test_a_torn_stamp_counts_as_none(dev, machine, tmp_path, text):
    dev.environment({"test"})
    (tmp_path / ".venv" / dev.STAMP).write_text(text)
    machine.commands.clear()
    dev.environment({"test"})
    assert len(machine.installs) == 1


@pytest.mark.parametrize("broken", ["interpreter", "pyvenv.cfg", "too old"])
def test_a_broken_environment_is_made_anew(dev, machine, tmp_path, broken):
    python = dev.environment({"test"})
    if broken == "interpreter":
        del machine.versions[str(python)]
    elif broken == "too old":
        machine.versions[str(python)] = "3.10.1"
    else:
        (tmp_path / ".venv" / "pyvenv.cfg").unlink()
    machine.commands.clear()
    dev.environment({"test"})
    assert machine.environments_made == [
        [sys.executable, "-m", "venv", "--clear", "--without-pip", str(tmp_path / ".venv")]
    ]
    assert len(machine.installs) == 1


def test_without_ensurepip_the_base_pip_installs_into_the_environment(dev, machine):
    machine.ensurepip = False
    python = dev.environment({"test"})
    assert machine.installs[0][:6] == [
        sys.executable, "-m", "pip", "--python", str(python), "install"
    ]  # fmt: skip


@pytest.mark.parametrize("base_pip", [None, "22.2.2", "9"])
def test_without_a_usable_pip_uv_installs(dev, machine, base_pip):
    machine.ensurepip, machine.base_pip, machine.uv = False, base_pip, True
    python = dev.environment({"test"})
    assert machine.installs[0][:5] == ["uv", "pip", "install", "--python", str(python)]


def test_without_a_venv_module_uv_makes_the_environment(dev, machine):
    machine.venv, machine.uv = False, True
    dev.environment({"test"})
    assert machine.environments_made[-1][0] == "uv"


def test_a_machine_without_any_installer_gets_one_clear_line(dev, machine, capsys):
    machine.ensurepip, machine.base_pip = False, None
    assert dev.main(["test"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "neither 'ensurepip' nor pip 22.3 or later" in last
    assert last.endswith("there is no uv; install one of them (Debian: python3-venv)")


def test_a_machine_without_venv_and_uv_gets_one_clear_line(dev, machine, capsys):
    machine.venv = False
    assert dev.main(["lint"]) == 1
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith("has no working 'venv' module; install it (Debian: python3-venv) or install uv")
    )


def test_a_failed_installation_is_named_and_tried_again(dev, machine, capsys):
    machine.install_code = 1
    assert dev.main(["test"]) == 1
    assert "the installation failed, see above; it was: " in capsys.readouterr().err
    machine.install_code = 0
    assert dev.main(["test"]) == 0


def test_another_python_gets_an_environment_of_its_own(dev, machine, tmp_path):
    assert dev.main(["test", "--python", "/opt/python3.12", "-m", "not slow"]) == 0
    python = tmp_path / ".venv-3.12" / "bin" / "python"
    assert machine.commands[-1] == [
        str(python), "-m", "pytest", "--numprocesses=2", "-m", "not slow"
    ]  # fmt: skip
    assert not (tmp_path / ".venv").exists()


def test_tests_as_used_run_without_the_settings_of_the_others(dev, machine, monkeypatch):
    for name in dev.AS_USED_SETTINGS:
        monkeypatch.setenv(name, "1")
    assert dev.main(["test", "--as-used", "--every", "3"]) == 0
    assert machine.commands[-1][-2 - len(dev.AS_USED_TESTS) :] == [
        *dev.AS_USED_TESTS, "--every", "3"
    ]  # fmt: skip
    assert {os.environ[name] for name in dev.AS_USED_SETTINGS} == {"0"}
    for test in dev.AS_USED_TESTS:
        assert (ROOT / test.split("::")[0]).exists()


def test_another_jax_is_installed_beside_the_project(dev, machine, tmp_path):
    arguments = ["--python", "/opt/python3.12", "--with", "jax<0.12", "-x"]
    assert dev.main(["test", *arguments]) == 0
    python = str(tmp_path / ".venv-3.12" / "bin" / "python")
    assert machine.installs == [
        [python, "-m", "pip", "install", "--quiet", "jax<0.12", "--editable", ".[test]"]
    ]
    assert machine.commands[-1] == [python, "-m", "pytest", "--numprocesses=2", "-x"]
    machine.commands.clear()
    dev.main(["test", *arguments])
    assert len(machine.commands) == 1


@pytest.mark.parametrize("others", [[], ["--with", "jax<0.11"]])
def test_what_was_made_for_another_jax_is_made_anew(dev, machine, others):
    dev.main(["test", "--with", "jax<0.12"])
    machine.commands.clear()
    dev.main(["test", *others])
    assert len(machine.environments_made) == 1
    assert machine.installs[0][5:-2] == others[1:]


@pytest.mark.parametrize(
    ("python", "version", "message"),
    [
        (
            "/opt/python3.10",
            "3.10.2",
            "/opt/python3.10 is Python 3.10; blockjac needs 3.11 or later",
        ),
        ("/opt/nothing", None, "/opt/nothing is not a Python interpreter"),
    ],
)
def test_another_python_that_cannot_serve_is_refused(
    dev, machine, capsys, python, version, message
):
    if version:
        machine.versions[python] = version
    assert dev.main(["test", "--python", python]) == 1
    assert message in capsys.readouterr().err


def test_tests_pass_their_arguments_on(dev, machine):
    dev.main(["test", "-k", "star", "tests/test_dev.py"])
    assert machine.commands[-1][2:] == [
        "pytest",
        "--numprocesses=2",
        "-k",
        "star",
        "tests/test_dev.py",
    ]


def test_lint_checks_both_and_fails_with_either(dev, machine, monkeypatch):
    dev.main(["lint"])
    assert [command[3:] for command in machine.commands[-2:]] == [["check"], ["format", "--check"]]
    monkeypatch.setattr(dev, "run", lambda command: -9 if "check" in command else 0)
    assert dev.main(["lint"]) == -9


def test_the_pages_of_a_version_are_committed_and_made_the_latest(dev, machine, monkeypatch):
    monkeypatch.setenv("PATH", "elsewhere")
    assert dev.main(["docs", "--deploy", "1.2", "--push"]) == 0
    deploy, default = (command[1:] for command in machine.commands[-2:])
    where = ["--config-file", "mkdocs-versions.yml", "--push"]
    assert deploy == ["deploy", *where, "--update-aliases", "1.2", "latest"]
    assert default == ["set-default", *where, "latest"]
    assert os.environ["PATH"].split(os.pathsep)[1:] == ["elsewhere"]
    assert (ROOT / "mkdocs-versions.yml").exists()


def test_pages_that_cannot_be_committed_are_not_made_the_latest(dev, machine, monkeypatch):
    dev.environment({"docs"})
    monkeypatch.setattr(
        dev, "run", lambda command: machine.run(command) or int("deploy" in command)
    )
    assert dev.main(["docs", "--deploy", "1.2"]) == 1
    assert "deploy" in machine.commands[-1]


def test_bench_runs_one_script_or_all(dev, machine, tmp_path, capsys):
    (tmp_path / "benchmarks").mkdir()
    for name in ("harness", "one", "two"):
        (tmp_path / "benchmarks" / f"{name}.py").touch()
    dev.main(["bench", "two", "--quick"])
    assert machine.commands[-1][1:] == [str(tmp_path / "benchmarks" / "two.py"), "--quick"]
    machine.commands.clear()
    dev.main(["bench", "--quick"])
    assert [Path(command[1]).stem for command in machine.commands] == ["one", "two"]
    assert dev.main(["bench", "three"]) == 2
    assert "there is no benchmark 'three'; there are: one, two" in capsys.readouterr().err


def test_bench_measures_without_peers_where_they_cannot_be_installed(
    dev, machine, tmp_path, monkeypatch, capsys
):
    (tmp_path / "benchmarks").mkdir()
    for name in ("harness", "one"):
        (tmp_path / "benchmarks" / f"{name}.py").touch()
    environment = dev.environment

    def without_peers(extras):
        if "bench" in extras:
            raise dev.SetupError("no such peer")
        return environment(extras)

    monkeypatch.setattr(dev, "environment", without_peers)
    assert dev.main(["bench", "one"]) == 0
    assert machine.commands[-1][1:] == [str(tmp_path / "benchmarks" / "one.py")]
    assert "no such peer; measuring without peers" in capsys.readouterr().err


def test_demo_says_where_the_pictures_lie(dev, machine, tmp_path, capsys):
    plots = tmp_path / dev.PLOTS
    plots.mkdir(parents=True)
    (plots / "loss.png").touch()
    assert dev.main(["demo", "--steps", "3"]) == 0
    assert machine.commands[-1][2:] == [
        "blockjac", "lecture", "--plots", str(plots), "--steps", "3"
    ]  # fmt: skip
    assert capsys.readouterr().out.endswith(f"the pictures lie in {plots}\n  loss.png\n")


def test_demo_keeps_the_folder_that_the_user_names(dev, machine, capsys):
    assert dev.main(["demo", "--plots=here"]) == 0
    assert machine.commands[-1][2:] == ["blockjac", "lecture", "--plots=here"]


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0)])
def test_usage_names_every_task(dev, capsys, arguments, code):
    assert dev.main(arguments) == code
    printed = capsys.readouterr().out
    assert all(f"\n  {task} " in printed for task in dev.TASKS)


def test_an_unknown_task_is_named(dev, capsys):
    assert dev.main(["tset"]) == 2
    assert "there is no task 'tset'; there are: demo, test, lint" in capsys.readouterr().err


def test_an_older_python_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 2, "final", 0))
    code = compile((ROOT / "dev.py").read_text(), "dev.py", "exec", dont_inherit=True)
    with pytest.raises(SystemExit, match=r"^dev.py: blockjac needs Python 3.11 or later, this is"):
        exec(code, {"__name__": "dev"})
