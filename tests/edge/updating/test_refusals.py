"""What a device must refuse, while what runs goes on."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edgewise.edge.updating.fetch import Fetcher
from edgewise.errors import InputError

from .conftest import Handler, Shop, address, make_device, serving

pytestmark = pytest.mark.usefixtures("no_children")


def refused(device, text, **options):
    """The update is refused, says so in a line, and what ran before still does."""
    before = device.version
    assert not device.update(**options)
    assert device.version == before
    assert text in device.said[-1] and "\n" not in device.said[-1]
    assert not list((device.settings.folder / "work").glob("*new*"))


def test_an_old_state_of_the_repository_replayed(shop, device, tmp_path):
    shop.publish(1)
    shutil.copytree(shop.folder, tmp_path / "old")
    shop.publish(2)
    assert device.update() and device.version == 2
    shutil.rmtree(shop.folder)
    (tmp_path / "old").rename(shop.folder)
    refused(device, "older than what was seen before")


def test_an_old_snapshot_under_a_new_timestamp(shop, device):
    shop.publish(1)
    assert device.update()
    old = (shop.folder / "metadata" / "2.snapshot.json").read_bytes()
    shop.publish(2)
    (shop.folder / "metadata" / "3.snapshot.json").write_bytes(old)
    refused(device, "Expected snapshot version 3, got 2")


def test_a_repository_that_nobody_renewed(shop, device, monkeypatch):
    shop.publish(1)
    assert device.update()

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=8)

    from tuf.ngclient._internal import trusted_metadata_set

    later = type("later", (), {"datetime": Later, "timezone": type("zone", (), {"utc": UTC})})
    monkeypatch.setattr(trusted_metadata_set, "datetime", later)
    refused(device, "expired")


def test_what_others_signed(shop, server, device, tmp_path):
    shop.publish(1)
    assert device.update()
    other = Shop.begin(tmp_path / "other", shop.bundles)
    other.publish(2)
    other.publish(3)
    shutil.rmtree(shop.folder)
    other.folder.rename(shop.folder)
    refused(device, "not signed as it must be")


def test_a_bundle_with_another_hash(shop, device):
    shop.publish(1)
    assert device.update()
    shop.publish(2)
    (path,) = (shop.folder / "targets" / "tiny").glob("*.2.edge")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(device, "its hash differs")


class Endless(Handler):
    """A bundle that never ends."""

    def do_GET(self):  # noqa: N802
        if not self.path.endswith(".2.edge"):
            return super().do_GET()
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(2000):
                self.wfile.write(bytes(1 << 16))
        except OSError:
            self.server.cut = True
        self.close_connection = True
        return None


class Dripping(Handler):
    """A bundle that comes byte by byte."""

    def do_GET(self):  # noqa: N802
        if not self.path.endswith(".2.edge"):
            return super().do_GET()
        self.send_response(200)
        self.end_headers()
        return self.drip(b"x")

    def drip(self, byte):
        try:
            for _ in range(200):
                self.wfile.write(byte)
                time.sleep(0.02)
        except OSError:
            self.server.cut = True
        self.close_connection = True


class DrippingHead(Dripping):
    """One whose head already does."""

    def do_GET(self):  # noqa: N802
        if not self.path.endswith(".2.edge"):
            return super().do_GET()
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        return self.drip(b"x")


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (Endless, "longer than"),
        (Dripping, "bytes a second"),
        (DrippingHead, "not answered within"),
    ],
)
def test_a_download_that_does_not_end(handler, text, shop, tmp_path):
    shop.publish(1)
    shop.publish(2, {"*": 0, "late": 10_000})
    with serving(shop.folder, handler) as server:
        device = make_device(tmp_path, shop, server)
        assert device.update() and device.version == 1
        device.settings = replace(device.settings, cohort="late")
        refused(device, text, fetcher=Fetcher(patience=0.3))
        size = sum(p.stat().st_size for p in (device.settings.folder / "work").iterdir())
        assert size <= shop.bundles[2].stat().st_size
    with serving(shop.folder) as server:
        device.settings = replace(device.settings, repo=address(server))
        assert device.update() and device.version == 2


class Breaking(Handler):
    """A bundle whose connection breaks in the middle; the second half is there on request."""

    def do_GET(self):  # noqa: N802
        if not self.path.endswith(".edge"):
            return super().do_GET()
        data = Path(self.translate_path(self.path)).read_bytes()
        begin = self.headers.get("Range", "")
        start = int(begin.removeprefix("bytes=").removesuffix("-")) if begin else 0
        self.server.starts.append(start)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:] if start else data[: len(data) // 2])
        self.close_connection = True
        return None


def test_a_download_goes_on_where_it_broke_off(shop, tmp_path):
    shop.publish(1)
    with serving(shop.folder, Breaking) as server:
        server.starts = []
        device = make_device(tmp_path, shop, server)
        assert not device.update() and "broke off" in device.said[-1]
        assert device.update() and device.version == 1
        assert server.starts == [0, shop.bundles[1].stat().st_size // 2]


def test_a_part_that_was_damaged_is_fetched_anew(shop, device):
    shop.publish(1)
    release = shop.publisher().find("tiny", 1)
    work = device.settings.folder / "work"
    work.mkdir(parents=True)
    (work / f"{release.sha256}.part").write_bytes(b"not what was signed")
    assert device.update() and device.version == 1


def test_a_bundle_larger_than_allowed(shop, device):
    shop.publish(1)
    device.settings = replace(device.settings, largest=100)
    assert not device.update() and device.version is None
    assert "more than the 100 allowed" in device.said[-1]


def test_a_root_that_is_none(shop, device):
    shop.publish(1)
    shop.root.write_text("{}")
    refused(device, "refused")


def test_threshold_and_rotation_of_the_root(tmp_path, bundles):
    from edgewise.edge.updating.publishing import Publisher, create

    shop = Shop.begin(tmp_path / "shop", bundles, root_keys=3, threshold=2)
    shop.publish(1)
    create(tmp_path / "spare", tmp_path / "new")
    with serving(shop.folder) as server:
        device = make_device(tmp_path, shop, server)
        assert device.update() and device.version == 1
        lone = Publisher(shop.folder, [shop.keys / "root-1.pem", shop.keys / "targets.pem"])
        lone.rotate("targets", [tmp_path / "new" / "targets.pem"])
        with pytest.raises(InputError, match="1 more of the keys of 'root'"):
            lone.write()
        publisher = shop.publisher()
        for role in ("root", "targets", "snapshot", "timestamp"):
            names = ["root-1.pem"] if role == "root" else [f"{role}.pem"]
            publisher.rotate(role, [tmp_path / "new" / n for n in names])
        publisher.write()
        with pytest.raises(InputError, match="keys of"):
            shop.publish(2)  # the old keys sign nothing any more
        moved = replace(shop, keys=tmp_path / "new")
        moved.publish(2)
        assert device.update() and device.version == 2
        assert (shop.folder / "metadata" / "2.root.json").exists()


def test_signing_anew_takes_the_frequent_keys_only(shop, device):
    from edgewise.edge.updating.publishing import Publisher

    shop.publish(1)
    frequent = Publisher(shop.folder, [shop.keys / "snapshot.pem", shop.keys / "timestamp.pem"])
    before = frequent.expires
    time.sleep(1.1)
    frequent.renew()
    frequent.write()
    assert frequent.expires > before
    assert device.update() and device.version == 1
