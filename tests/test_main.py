"""The package as a module, which is how ``torchrun -m worldvalue`` starts it."""

import subprocess
import sys

import worldvalue


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "worldvalue", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == worldvalue.__version__
