"""--help: quick, because it imports little."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

COMMANDS = (
    "doctor", "inspect", "quantize", "lower", "prune", "sensitivity", "shorten", "sparsify",
    "cluster",
    "condense", "factorize", "finetune", "distill", "apply", "measure", "explain", "report",
    "bundle",
    "verify", "unbundle", "deploy", "publish", "agent", "demo",
)  # fmt: skip
# What takes long to import; rich alone takes as long as all the rest.
HEAVY = ("torch", "rich", "numpy.random", "scipy", "polars", "jinja2", "onnxruntime", "openvino")


@pytest.mark.parametrize("arguments", [("--help",), ("quantize", "--help")])
def test_help_is_light(arguments):
    script = (
        "import atexit, sys\n"
        f"heavy = lambda: [m for m in {HEAVY} if m in sys.modules]\n"
        "atexit.register(lambda: print(heavy(), file=sys.stderr))\n"
        "from edgewise.cli import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stderr == "[]\n"


def test_help_names_every_command(run):
    done = run("--help")
    assert done.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in done.out
    assert "..." not in done.out.partition("Commands:")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command, run):
    done = run(command, "--help")
    assert done.code == 0
    assert "--json" in done.out
    options = done.out.partition("Options:")[2].strip().splitlines()
    assert all(len(line.strip().split("  ")) > 1 for line in options if line.startswith("  -"))


def test_the_module_runs():
    done = subprocess.run(
        [sys.executable, "-m", "edgewise", "--help"], capture_output=True, text=True
    )
    assert done.stdout.startswith("Usage: edgewise ")


def test_version(run):
    try:
        installed = metadata.version("edgewise")
    except metadata.PackageNotFoundError:
        pytest.skip("edgewise is not installed, only importable")
    assert run("--version").out == f"edgewise {installed}\n"
