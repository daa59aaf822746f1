"""A signed bundle of a tiny file, and the keys."""

import numpy as np
import pytest

from edgewise.bundling import bundle

from ..tiny import write_onnx

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
pytest.importorskip("cryptography", reason="signs and checks signatures")


def write_keys(folder, name="key"):
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.pem").write_bytes(pem)
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(pem)
    return folder / f"{name}.pem", folder / f"{name}.pub"


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """Paths of a private and its public key."""
    return write_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def signed(tmp_path_factory, keys):
    """The path of a signed bundle with one small ONNX file."""
    folder = tmp_path_factory.mktemp("signed")
    source = write_onnx(folder / "net.onnx")
    path = folder / "net.edge"
    data = np.linspace(-1, 1, 40, dtype=np.float32).reshape(10, 4)
    bundle(source, path, key=keys[0], data=data, version=3, licences=["MIT"]).close()
    return path
