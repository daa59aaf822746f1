import ssl
import subprocess
import sys

import pytest

from edgewise.edge.serving.server import Listen, Server, Settings
from edgewise.errors import InputError

from .conftest import UnixConnection, talk

TOKEN = "correct-horse-battery"


@pytest.fixture
def token(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


def test_a_token_is_asked_for_everywhere_but_of_health(models, serving, token):
    with serving(models, token=token) as running:
        assert running.ask("GET", "/v2/health/live")[0] == 200
        for path in ("/v2", "/metrics", "/v2/models/tiny", "/v2/models/none", "/"):
            assert running.ask("GET", path)[0] == 401
            for wrong in ("Bearer ", f"Bearer {TOKEN}x", TOKEN, f"Basic {TOKEN}"):
                assert running.ask("GET", path, Authorization=wrong)[0] == 401
        right = f"Bearer {TOKEN}"
        assert running.ask("GET", "/v2/models/tiny", Authorization=right)[0] == 200
        assert running.ask("POST", "/v2/models/tiny/infer", b"{}")[0] == 401
        # Whoever can open the Unix socket is this user.
        local = UnixConnection(running.folder / "local.sock")
        assert talk(local, "GET", "/v2/models/tiny")[0] == 200


def test_grpc_asks_for_the_token_too(models, serving, token):
    grpc = pytest.importorskip("tritonclient.grpc", reason="tritonclient is the referee")
    with (
        serving(models, token=token, grpc_port=0) as running,
        grpc.InferenceServerClient(f"127.0.0.1:{running.server.grpc_port}") as client,
    ):
        assert client.is_server_live()
        with pytest.raises(Exception, match="token is needed"):
            client.get_model_metadata("tiny")
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert client.get_model_metadata("tiny", headers=headers).name == "tiny"


def test_tls_is_served_with_the_certificate(models, serving, tmp_path, token):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = subprocess.run(
        [*command.split(), *names, "-keyout", key, "-out", certificate], capture_output=True
    )
    if made.returncode:
        pytest.skip("openssl is needed to make a certificate")
    import http.client

    grpc = pytest.importorskip("tritonclient.grpc", reason="tritonclient is the referee")
    options = {"certificate": certificate, "key": key, "token": token, "grpc_port": 0}
    with serving(models, **options) as running:
        context = ssl.create_default_context(cafile=certificate)
        connection = http.client.HTTPSConnection(
            "localhost", running.server.port, context=context, timeout=20
        )
        right = f"Bearer {TOKEN}"
        assert talk(connection, "GET", "/v2/models/tiny", Authorization=right)[0] == 200
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            running.ask("GET", "/v2")  # not without TLS
        address = f"localhost:{running.server.grpc_port}"
        with grpc.InferenceServerClient(
            address, ssl=True, root_certificates=str(certificate)
        ) as client:
            about = client.get_model_metadata("tiny", headers={"authorization": right})
            assert about.name == "tiny"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_others_are_served_only_with_a_token(models, host):
    with pytest.raises(InputError, match="token"):
        Server(Settings(models, Listen(host=host)))


@pytest.mark.parametrize("text", ["", "short", "two lines of it\nand the second one", "ü" * 30])
def test_a_token_must_be_one(models, tmp_path, text):
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(InputError, match="has no token"):
        Server(Settings(models, Listen(token=path)))


def test_files_that_are_not_there_are_named(models, tmp_path):
    missing = tmp_path / "missing"
    with pytest.raises(InputError, match="missing cannot be read"):
        Server(Settings(models, Listen(token=missing)))
    with pytest.raises(InputError, match="no certificate and key"):
        Server(Settings(models, Listen(certificate=missing, key=missing)))
    with pytest.raises(InputError, match="give both"):
        Server(Settings(models, Listen(key=missing)))


def test_an_address_that_is_taken_is_said_to_be(models, server, tmp_path):
    with pytest.raises(InputError, match="another port"):
        Server(Settings(models, Listen(port=server.server.port))).run()
    with pytest.raises(InputError, match="another server listens"):
        Server(Settings(models, Listen(port=None, socket=server.folder / "local.sock"))).run()
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(InputError, match="not a socket"):
        Server(Settings(models, Listen(port=None, socket=file))).run()
    assert file.read_text() == "mine"
    assert server.ask("GET", "/v2/health/ready")[0] == 200


WITHOUT = """
import json, sys
sys.modules[sys.argv[1]] = None
from edgewise.edge.serving import __main__
sys.argv[1:] = [json.dumps({"root": sys.argv[2], "listen": {"port": 0, **eval(sys.argv[3])}})]
__main__.main()
"""


@pytest.mark.parametrize(
    ("package", "extra", "options"),
    [("uvloop", "serve", {}), ("grpc", "grpc", {"grpc_port": 0})],
)
def test_what_is_not_installed_is_named(models, package, extra, options):
    command = [sys.executable, "-c", WITHOUT, package, str(models), repr(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and f"edgewise[{extra}]" in done.stderr
