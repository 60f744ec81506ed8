"""Arguments sharded on a mesh with explicit axes: answers as on one device, on four."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("sharded_programs.py")


@pytest.mark.slow
def test_every_answer_is_that_of_one_device():
    """It runs apart, as devices are forced before JAX starts."""
    run = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    differences = json.loads(run.stdout)
    assert len(differences) > 20
    assert not {name: text for name, text in differences.items() if text}
