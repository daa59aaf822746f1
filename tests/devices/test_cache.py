"""A folder of the cache is made once, whole or not at all."""

from pathlib import Path

import pytest

from edgewise.devices import cache


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_it_is_made_once():
    calls = []

    def make(into: Path) -> None:
        calls.append(into)
        (into / "file").write_text("made")

    made = cache.once("a/b", make)
    assert cache.once("a/b", make) == made == cache.folder() / "a/b"
    assert (made / "file").read_text() == "made"
    assert len(calls) == 1


def test_half_of_it_is_never_seen():
    def fail(into: Path) -> None:
        (into / "file").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.once("a", fail)
    assert list(cache.folder().iterdir()) == []


def test_another_process_may_be_faster():
    def make(into: Path) -> None:
        (into / "file").write_text("ours")
        other = cache.folder() / "a"
        other.mkdir()
        (other / "file").write_text("theirs")

    assert (cache.once("a", make) / "file").read_text() == "theirs"


def test_the_users_home_is_where_nothing_else_is_said(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache/edgewise"
