import contextlib
import os
from multiprocessing import shared_memory

import numpy as np
import pytest

from .conftest import UnixConnection, talk

W = np.add.outer(np.arange(4), np.arange(3)).astype(np.float32)
ROOT = "/v2/systemsharedmemory"


@pytest.fixture
def local(server):
    """Asks over the Unix socket."""
    path = server.folder / "local.sock"
    yield lambda *given: talk(UnixConnection(path), *given)
    talk(UnixConnection(path), "POST", f"{ROOT}/unregister")


@pytest.fixture
def memory():
    with contextlib.closing(shared_memory.SharedMemory(create=True, size=4096)) as made:
        yield made
        made.unlink()


def register(memory, **changes):
    return {"key": f"/{memory.name}", "offset": 0, "byte_size": 4096, **changes}


def request(**parameters):
    row = {"name": "x", "datatype": "FP32", "shape": [2, 4], "parameters": parameters}
    return {"inputs": [row]}


def shared(**changes):
    given = {"shared_memory_region": "r", "shared_memory_byte_size": 32, **changes}
    return request(**given)


def test_an_input_may_lie_in_shared_memory(local, memory):
    assert local("POST", f"{ROOT}/region/r/register", register(memory)) == (200, {})
    assert local("GET", f"{ROOT}/status")[1][0] == {"name": "r", **register(memory)}
    assert "system_shared_memory" in local("GET", "/v2")[1]["extensions"]
    for offset in (0, 5, 4064):
        x = np.random.default_rng(offset).normal(size=(2, 4)).astype(np.float32)
        memory.buf[offset : offset + 32] = x.tobytes()
        asked = shared(shared_memory_offset=offset)
        status, found = local("POST", "/v2/models/tiny/infer", asked)
        assert status == 200
        np.testing.assert_allclose(
            np.reshape(found["outputs"][0]["data"], (2, 3)), x @ W, rtol=1e-5, atol=1e-5
        )
    assert local("POST", f"{ROOT}/region/r/unregister") == (200, {})
    assert local("POST", "/v2/models/tiny/infer", shared())[0] == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"shared_memory_region": "other"},
        {"shared_memory_region": ["r"]},
        {"shared_memory_byte_size": 31},
        {"shared_memory_byte_size": None},
        {"shared_memory_offset": 4065},
        {"shared_memory_offset": -1},
        {"shared_memory_offset": 2**70},
        {"shared_memory_offset": "0"},
    ],
)
def test_what_is_not_within_the_region_is_refused(local, memory, changes):
    local("POST", f"{ROOT}/region/r/register", register(memory))
    assert local("POST", "/v2/models/tiny/infer", shared(**changes))[0] == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "/../etc/passwd"},
        {"key": "/none-of-that-name"},
        {"key": "/.."},
        {"key": ""},
        {"byte_size": 4097},
        {"byte_size": 0},
        {"byte_size": -1},
        {"offset": -1},
        {"offset": 2**80},
        {"byte_size": "4096"},
    ],
)
def test_a_region_that_cannot_be_is_refused(local, memory, changes):
    assert local("POST", f"{ROOT}/region/r/register", register(memory, **changes))[0] == 400


def test_a_region_that_shrinks_is_an_answer(local, memory):
    local("POST", f"{ROOT}/region/r/register", register(memory))
    os.truncate(f"/dev/shm/{memory.name}", 16)
    status, found = local("POST", "/v2/models/tiny/infer", shared())
    assert status == 400 and "shorter" in found["error"]


def test_there_is_none_of_it_on_the_network(server, memory):
    status, _ = server.ask("POST", f"{ROOT}/region/r/register", register(memory))
    assert status == 404
    assert server.ask("POST", "/v2/models/tiny/infer", shared())[0] == 400
