"""The agent and the real server, each telling the other what it must."""

import pytest

pytest.importorskip("uvloop", reason="the server needs the extra 'serve'")

from edgewise.edge.updating.service import Service

from ..serving.conftest import running
from .conftest import make_device

pytestmark = pytest.mark.usefixtures("no_children")


def test_the_server_takes_each_version_and_back(shop, server, tmp_path):
    shop.publish(1)
    assert make_device(tmp_path, shop, server).update()
    with running(tmp_path / "device" / "models", tmp_path) as serve:
        admin = tmp_path / "admin.sock"
        watch = {"admin": admin, "seconds": 0.3, "every": 0.05}
        device = make_device(tmp_path, shop, server, watch=watch)
        shop.publish(2)
        assert device.update() and device.version == 2
        assert serve.ask("GET", "/v2/models/tiny")[1]["versions"] == ["2"]
        shop.publish(3)
        health = Service(admin).health("tiny", 2)
        assert health.well and health.failed == 0
        assert not Service(admin).health("tiny", 3).well
        watch["check"] = "false"
        device = make_device(tmp_path, shop, server, watch=watch)
        assert not device.update() and device.version == 2
        assert serve.ask("GET", "/v2/models/tiny")[1]["versions"] == ["2"]


def test_a_version_that_the_server_refuses_is_rolled_back(shop, server, tmp_path, monkeypatch):
    shop.publish(1)
    assert make_device(tmp_path, shop, server).update()
    with running(tmp_path / "device" / "models", tmp_path):
        watch = {"admin": tmp_path / "admin.sock"}
        device = make_device(tmp_path, shop, server, watch=watch)
        shop.publish(2)

        def refuse(*arguments, **options):
            from edgewise.errors import ModelError

            raise ModelError("it does not open here")

        with monkeypatch.context() as patch:
            patch.setattr("edgewise.edge.serving.models.open_lane", refuse)
            assert not device.update()
        assert device.version == 1
        assert "does not open here" in next(iter(device.state.refused.values()))


def test_without_the_server_an_update_is_not_blamed(shop, server, tmp_path):
    shop.publish(1)
    device = make_device(tmp_path, shop, server, watch={"admin": tmp_path / "nobody.sock"})
    assert device.update() and device.version == 1
    assert any("does not answer" in line for line in device.said)
