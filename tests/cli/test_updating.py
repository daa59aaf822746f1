"""publish and agent, as commands."""

import json
import shutil
import subprocess
import sys

import pytest

from ..edge.updating.conftest import address, bundles, serving

__all__ = ["bundles"]


def edgewise(*arguments, code=0):
    command = [sys.executable, "-m", "edgewise", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done


def test_from_a_bundle_to_a_device(tmp_path, bundles, run):
    site, keys, home = tmp_path / "site", tmp_path / "keys", tmp_path / "device"
    where = ("--repo", site, "--keys", keys)
    root = json.loads(run("publish", "--init", *where, "--json").out)["root"]
    found = json.loads(run("publish", bundles[1], "--rollout", "12.5", *where, "--json").out)
    assert found["releases"][0]["rollout"] == {"*": 12.5}
    shown = run("publish", "--change", "tiny/1", "--rollout", "100", *where)
    assert "tiny/1: 100 % of all" in shown.out
    with serving(site) as server:
        device = ("--repo", address(server), "--root", root, "--dir", home, "--once")
        assert "runs" in edgewise("agent", *device).stderr
    assert list((home / "models" / "tiny" / "1").glob("*.onnx"))
    run("publish", "--withdraw", "tiny/1", *where)
    assert "error: " in edgewise("agent", *device[:-1], "--root", home / "none", code=2).stderr


def test_the_unit_is_one_that_systemd_takes(tmp_path, run):
    folder = tmp_path / ("a folder " * 20)
    check = 'test "$A" = 1'
    shown = run(
        *("agent", "--repo", "https://example.org/50%", "--root", tmp_path / "root.json"),
        *("--dir", folder, "--check", check, "--unit"),
    ).out
    lines = shown.splitlines()
    assert "NoNewPrivileges=yes" in lines and lines[1].endswith("/50%%")
    assert f'ReadWritePaths="{folder}"' in lines
    assert f'    --dir "{folder}" \\' in lines
    assert '    --check "test \\"$$A\\" = 1" \\' in lines
    if shutil.which("systemd-analyze"):
        unit = tmp_path / "edgewise-agent.service"
        unit.write_text(shown)
        folder.mkdir()
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
        assert unit.name not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--rollout", "101"), "from 0 to 100"),
        (("--rollout", "beta=many"), "expected PERCENT"),
        (("--withdraw", "tiny"), "expected MODEL/VERSION"),
        (("--withdraw", "tiny/9"), "is not published"),
        (("--rotate", "targets"), "--new-key"),
    ],
)
def test_what_is_wrong_is_said(arguments, text, tmp_path, run):
    where = ("--repo", tmp_path / "site", "--keys", tmp_path / "keys")
    run("publish", "--init", *where)
    done = run("publish", *arguments, *where)
    assert done.code == 2 and text in done.err
