import pytest

from edgewise.edge.serving.repository import Trust
from edgewise.errors import InputError, ModelError

from ..bundle.conftest import keys, signed, write_keys  # noqa: F401 (fixtures)
from .conftest import running

GOOD = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]}


def test_a_signed_bundle_is_served_under_its_version(signed, keys, tmp_path):  # noqa: F811
    with running(signed, tmp_path, trust=Trust(keys[1])) as served:
        status, found = served.ask("POST", "/v2/models/net/infer", GOOD)
        assert (status, found["model_version"]) == (200, "3")
        assert found["outputs"][0]["data"] == [6, 10, 14]


def test_a_bundle_that_is_not_trusted_is_not_served(signed, tmp_path):  # noqa: F811
    with pytest.raises(InputError, match="no key"), running(signed, tmp_path):
        pass
    other = write_keys(tmp_path, "other")[1]
    with pytest.raises(ModelError), running(signed, tmp_path, trust=Trust(other)):
        pass


def test_a_bundle_whose_golden_inputs_give_something_else_changes_nothing(
    signed,  # noqa: F811
    keys,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    from edgewise.edge.bundle import Bundle, GoldenCheck

    with running(signed, tmp_path, trust=Trust(keys[1])) as served:
        wrong = GoldenCheck(False, 4, (1.0,), (0.1,))
        monkeypatch.setattr(Bundle, "check", lambda self, artifact: wrong)
        status, found = served.admin("/v2/repository/models/net/load")
        assert status == 400 and "differ by" in found["error"]
        assert served.ask("POST", "/v2/models/net/infer", GOOD)[0] == 200
