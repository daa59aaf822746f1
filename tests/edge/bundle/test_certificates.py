"""Who signs by certificates is taken where they lead to a trusted one, and nowhere else."""

import base64
import importlib.util
import json
import subprocess
import sys
import zipfile

import pytest

from edgewise.bundling import bundle
from edgewise.edge.bundle import open_bundle, signature
from edgewise.errors import EdgewiseError, InputError, ModelError

from ..tiny import write_onnx

pytest.importorskip("cryptography", reason="signs and checks signatures")
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .authority import (
    AUTHORITY,
    CERTIFIES,
    CODE,
    MIDDLE,
    ROOT,
    SIGNER,
    TODAY,
    YEAR,
    Holder,
    signing_file,
    usage,
)  # fmt: skip

DIGESTS = {"manifest.json": "ab" * 32, "model.coded": "cd" * 32}


def made(tmp_path, *holders):
    return signature.sign(DIGESTS, "net", signing_file(tmp_path / "key.pem", *holders))


@pytest.mark.parametrize(
    ("chain", "trusted"),
    [
        ((SIGNER, MIDDLE), ROOT),
        ((SIGNER, MIDDLE, ROOT), ROOT),
        ((SIGNER, MIDDLE), MIDDLE),
        ((SIGNER,), MIDDLE),
        ((SIGNER,), SIGNER),
        ((Holder("code", MIDDLE, [(CODE, False)]), MIDDLE), ROOT),
        ((Holder("long", MIDDLE, curve=ec.SECP384R1()), MIDDLE), ROOT),
    ],
)
def test_a_chain_that_leads_to_a_trusted_one_is_taken(chain, trusted, tmp_path):
    signed = made(tmp_path, *chain)
    assert signed == signature.sign(DIGESTS, "net", tmp_path / "key.pem")
    signature.verify(signed, DIGESTS, Holder("stranger", extensions=AUTHORITY).pem + trusted.pem)
    with pytest.raises(ModelError, match=r"model\.coded"):
        signature.verify(signed, {**DIGESTS, "model.coded": "00" * 32}, trusted.pem)


NO_CHILDREN = [(x509.BasicConstraints(True, 0), True), (CERTIFIES, True)]
STRICT = Holder("strict", extensions=NO_CHILDREN)
UNDER_STRICT = Holder("under", STRICT, AUTHORITY)
PLAIN = Holder("plain", ROOT)
ONLY_LISTS = Holder("lists", ROOT, [AUTHORITY[0], (usage(crl_sign=True), True)])
NAMES = x509.NameConstraints([x509.DNSName("example.org")], None)
NARROW = Holder("narrow", ROOT, [*AUTHORITY, (NAMES, True)])
NAMESAKE = Holder("middle", ROOT, AUTHORITY)


@pytest.mark.parametrize(
    ("chain", "trusted", "sentence"),
    [
        ((SIGNER, MIDDLE), STRICT, "lead to 'CN=root', which is not trusted"),
        ((SIGNER, MIDDLE), Holder("root", extensions=AUTHORITY), "which is not trusted"),
        ((SIGNER,), ROOT, "lead to 'CN=middle', which is not trusted"),
        ((SIGNER, ROOT), ROOT, "'CN=signer' is not by 'CN=root'"),
        ((SIGNER, NAMESAKE), ROOT, "'CN=signer' is not by 'CN=middle'"),
        ((SIGNER, ROOT, MIDDLE), ROOT, "'CN=signer' is not by 'CN=root'"),
        ((Holder("a", PLAIN), PLAIN), ROOT, "'CN=plain' is not allowed to certify"),
        ((Holder("a", ONLY_LISTS), ONLY_LISTS), ROOT, "'CN=lists' is not allowed to certify"),
        ((Holder("a", UNDER_STRICT), UNDER_STRICT), STRICT, "'CN=strict' is not .* so many"),
        ((Holder("a", NARROW), NARROW), ROOT, "critical extension .* nameConstraints"),
        ((Holder("a", MIDDLE, [(CERTIFIES, True)]), MIDDLE), ROOT, "not one for signatures"),
        ((Holder("a", MIDDLE, ()), MIDDLE), ROOT, "not one for signatures"),
        ((Holder("a", MIDDLE, begin=TODAY + 11 * YEAR), MIDDLE), ROOT, "not valid when"),
        ((Holder("a", MIDDLE, begin=TODAY - YEAR), MIDDLE), ROOT, "'CN=middle' was not valid"),
        ((SIGNER, *[MIDDLE] * 8), ROOT, "9 certificates, not 1 to 8"),
    ],
)
def test_any_other_chain_is_refused(chain, trusted, sentence, tmp_path):
    with pytest.raises(ModelError, match=sentence):
        signature.verify(made(tmp_path, *chain), DIGESTS, trusted.pem)


def test_a_key_and_certificates_do_not_stand_for_each_other(tmp_path):
    bare = tmp_path / "bare.pem"
    bare.write_bytes(
        signing_file(tmp_path / "key.pem", SIGNER).read_bytes().split(b"-----BEGIN C")[0]
    )
    public = SIGNER.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(ModelError, match="give the trusted ones, not a key"):
        signature.verify(made(tmp_path, SIGNER, MIDDLE), DIGESTS, public)
    with pytest.raises(ModelError, match="signed by a bare key"):
        signature.verify(signature.sign(DIGESTS, "net", bare), DIGESTS, ROOT.pem)
    bare.write_bytes(bare.read_bytes() + MIDDLE.pem)
    with pytest.raises(InputError, match="is of another key"):
        signature.sign(DIGESTS, "net", bare)
    with pytest.raises(InputError, match="cannot be read"):
        signature.verify(made(tmp_path, SIGNER, MIDDLE), DIGESTS, ROOT.pem[:200])


def test_every_changed_byte_of_a_certificate_is_refused(tmp_path):
    signed = json.loads(made(tmp_path, SIGNER, MIDDLE))
    chain = signed["verificationMaterial"]["x509CertificateChain"]["certificates"]
    for part in chain:
        whole = part["rawBytes"]
        der = base64.b64decode(whole)
        for at in range(0, len(der), 7):
            bad = bytearray(der)
            bad[at] ^= 1 + at % 255
            part["rawBytes"] = base64.b64encode(bad).decode()
            text = json.dumps(signed, separators=(",", ":")).encode()
            with pytest.raises(EdgewiseError):
                signature.verify(text, DIGESTS, ROOT.pem)
        part["rawBytes"] = whole


@pytest.mark.skipif(
    importlib.util.find_spec("model_signing") is None, reason="needs OpenSSF model-signing"
)
def test_model_signing_accepts_ours_and_we_accept_its(tmp_path):
    source = write_onnx(tmp_path / "net.onnx")
    ours, folder = tmp_path / "net.edge", tmp_path / "unzipped"
    key = signing_file(tmp_path / "key.pem", SIGNER, MIDDLE)
    bundle(source, ours, key=key).close()
    roots = tmp_path / "roots.pem"
    roots.write_bytes(ROOT.pem)
    with open_bundle(ours, roots) as opened:
        assert opened.signed
    with zipfile.ZipFile(ours) as archive:
        archive.extractall(folder)

    def official(verb, *options):
        command = [sys.executable, "-m", "model_signing", verb, "certificate", str(folder)]
        command += [*map(str, options), "--signature", str(folder / "model.sig")]
        return subprocess.run(command, capture_output=True, text=True)

    done = official("verify", "--certificate_chain", roots)
    assert done.returncode == 0, done.stderr
    for name, holder in (("signer", SIGNER), ("middle", MIDDLE)):
        (tmp_path / f"{name}.pem").write_bytes(holder.pem)
    (folder / "model.sig").unlink()
    done = official(
        "sign", "--private_key", key, "--signing_certificate", tmp_path / "signer.pem",
        "--certificate_chain", tmp_path / "middle.pem",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    theirs = (folder / "model.sig").read_bytes()
    with open_bundle(ours, roots) as opened:
        digests = {k: v for k, v in opened._digests.items() if k != signature.SIGNATURE}
    signature.verify(theirs, digests, roots)
