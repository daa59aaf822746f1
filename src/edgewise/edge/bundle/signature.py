"""Signatures in the form of OpenSSF model-signing, made and checked by `cryptography` alone.

What is signed is an in-toto statement that lists every member with its sha256, in a DSSE envelope,
in a Sigstore bundle of JSON, by an elliptic key (P-256, P-384 or P-521) or by the certificates of
one. model-signing itself accepts what is made here, and what it makes is accepted here.

A signature is only taken in its one canonical spelling, so that no byte of it can change.

Formats: https://github.com/secure-systems-lab/dsse (v1.0.0, protocol.md),
https://in-toto.io/Statement/v1, https://model_signing/signature/v1.0 as in model-signing 1.1,
application/vnd.dev.sigstore.bundle.v0.3+json.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ...errors import EdgewiseError, InputError, MissingExtra, ModelError
from .certificates import BEGIN, chain_for, signer_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["SIGNATURE", "sign", "verify"]

SIGNATURE = "model.sig"  # the member's name, and what model-signing calls the file

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
IGNORED = (".git", ".gitattributes", ".github", ".gitignore", SIGNATURE)
LARGEST_KEY = 1 << 16  # bytes of a PEM file


class PublicKey(msgspec.Struct, forbid_unknown_fields=True):
    hint: str


class Certificate(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    raw_bytes: str


class Chain(msgspec.Struct, forbid_unknown_fields=True):
    certificates: tuple[Certificate, ...]


class Material(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    public_key: PublicKey | msgspec.UnsetType = msgspec.UNSET
    x509_certificate_chain: Chain | msgspec.UnsetType = msgspec.UNSET
    tlog_entries: tuple[()] = ()


class Signature(msgspec.Struct, forbid_unknown_fields=True):
    sig: str
    keyid: str = ""


class Envelope(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    payload: str
    payload_type: str
    signatures: tuple[Signature]


class SigstoreBundle(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    media_type: str
    verification_material: Material
    dsse_envelope: Envelope


class Resource(msgspec.Struct):
    algorithm: str
    digest: str
    name: str


class Predicate(msgspec.Struct):
    resources: list[Resource]
    serialization: dict[str, Any]


class Subject(msgspec.Struct):
    name: str
    digest: dict[str, str]


class Statement(msgspec.Struct, rename="camel"):
    type: str = msgspec.field(name="_type")
    subject: tuple[Subject]
    predicate_type: str
    predicate: Predicate


def sign(digests: Mapping[str, str], name: str, private_key: str | os.PathLike[str]) -> bytes:
    """Sign members, named with their sha256 in hexadecimal.

    The signature is deterministic (RFC 6979): the same members and key give the same bytes.

    Args:
        name: of what is signed; it is informative only.
        private_key: a PEM file with an elliptic key, not encrypted; certificates that follow in it
            go along with the signature, the first of this key, each by the next.

    Raises:
        InputError: no such key, or one of another kind.
        MissingExtra: `cryptography` is not installed.
    """
    text, where = _read(private_key)
    key = _load(text, where, private=True)
    from cryptography.hazmat.primitives.asymmetric import ec

    resources = [Resource("sha256", digests[member], member) for member in sorted(digests)]
    statement = Statement(
        STATEMENT_TYPE,
        (Subject(name, {"sha256": _root(resources)}),),
        PREDICATE_TYPE,
        Predicate(
            resources,
            {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(IGNORED),
            },
        ),
    )
    payload = msgspec.json.encode(statement)
    algorithm = ec.ECDSA(_hash(key), deterministic_signing=True)
    signature = Signature(_to_text(key.sign(_pae(payload), algorithm)))
    if BEGIN in text:
        chain = tuple(Certificate(_to_text(der)) for der in chain_for(key, text))
        material = Material(x509_certificate_chain=Chain(chain))
    else:
        material = Material(PublicKey(_hint(key.public_key())))
    return msgspec.json.encode(
        SigstoreBundle(
            BUNDLE_TYPE,
            material,
            Envelope(_to_text(payload), PAYLOAD_TYPE, (signature,)),
        )
    )


def verify(
    signature: bytes, digests: Mapping[str, str], trusted: str | os.PathLike[str] | bytes
) -> None:
    """Check that a signature is by who is trusted and lists exactly these members.

    Args:
        digests: each member's sha256 in hexadecimal, the signature itself left out.
        trusted: a PEM file, or its content: the signer's public key, or certificates to one of
            which the signer's must lead.

    Raises:
        ModelError: it does not; the sentence says in what.
        InputError: no such key, or one of another kind.
        MissingExtra: `cryptography` is not installed.
    """
    text, where = _read(trusted)
    key = None if BEGIN in text else _load(text, where, private=False)
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        read = msgspec.json.decode(signature, type=SigstoreBundle)
        canonical = msgspec.json.encode(read) == signature
        envelope = read.dsse_envelope
        payload, signed = _from_text(envelope.payload), _from_text(envelope.signatures[0].sig)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        canonical = False
    if not canonical or read.media_type != BUNDLE_TYPE or envelope.payload_type != PAYLOAD_TYPE:
        raise ModelError("its signature is not one by model-signing with a key or certificates")
    if envelope.signatures[0].keyid:
        raise ModelError("its signature names a key in a field that model-signing leaves empty")
    key = _signer(read.verification_material, key, text)
    try:
        key.verify(signed, _pae(payload), ec.ECDSA(_hash(key)))
    except InvalidSignature:
        raise ModelError("its signature is not valid: it was changed, do not use it") from None
    _compare(payload, digests)


def _signer(material: Material, key: Any, text: bytes) -> Any:
    """The public key that must have signed: the trusted one, or that of a trusted chain."""
    hint, chain = material.public_key, material.x509_certificate_chain
    if (hint is msgspec.UNSET) == (chain is msgspec.UNSET):
        raise ModelError("its signature does not say by which one key or chain it is")
    if key is not None:
        if hint is msgspec.UNSET:
            raise ModelError(
                "it is signed with certificates: to check it, give the trusted ones, not a key"
            )
        if hint.hint != _hint(key):
            raise ModelError("it is signed by another key than the one given: do not use it")
        return key
    if chain is msgspec.UNSET:
        raise ModelError(
            "it is signed by a bare key, of which the trusted certificates say nothing"
        )
    try:
        certificates = [_from_text(certificate.raw_bytes) for certificate in chain.certificates]
    except ValueError:
        raise ModelError("its signature has a certificate that is not base64") from None
    return _fitting(signer_of(certificates, text), "the certificate of its signer", ModelError)


def _compare(payload: bytes, digests: Mapping[str, str]) -> None:
    """Hold what was signed against the members that are there."""
    try:
        statement = msgspec.json.decode(payload, type=Statement)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"what was signed is not a list of files: {error}") from None
    resources = statement.predicate.resources
    if (
        statement.type != STATEMENT_TYPE
        or statement.predicate_type != PREDICATE_TYPE
        or statement.predicate.serialization.get("method") != "files"
        or {r.algorithm for r in resources} != {"sha256"}
        or len({r.name for r in resources}) != len(resources)
        or statement.subject[0].digest != {"sha256": _root(resources)}
    ):
        raise ModelError("what was signed is not a list of files with their sha256")
    listed = {r.name: r.digest for r in resources}
    if listed.keys() != digests.keys():
        one = min(listed.keys() ^ digests.keys())
        raise ModelError(f"what was signed is not what is there: '{one}' was added or left out")
    for name, digest in digests.items():
        if listed[name] != digest:
            raise ModelError(f"member '{name}' is not what was signed: do not use it")


def _root(resources: list[Resource]) -> str:
    try:
        digests = b"".join(bytes.fromhex(r.digest) for r in resources)
    except ValueError:
        return ""
    return hashlib.sha256(digests).hexdigest()


def _pae(payload: bytes) -> bytes:
    """The pre-authentication encoding of DSSE."""
    return b"DSSEv1 %d %s %d %s" % (
        len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload,
    )  # fmt: skip


def _read(key: str | os.PathLike[str] | bytes) -> tuple[bytes, str]:
    """PEM, and what to call it."""
    if importlib.util.find_spec("cryptography") is None:
        raise MissingExtra("cryptography, which checks signatures,", "trust")
    if isinstance(key, bytes):
        return key, "the key"
    try:
        return Path(key).read_bytes()[:LARGEST_KEY], str(key)
    except OSError as error:
        raise InputError(f"the key {key} cannot be read: {error.strerror}") from None


def _load(text: bytes, where: str, *, private: bool) -> Any:
    """An elliptic key from PEM."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    kind = "private" if private else "public"
    try:
        if private:
            loaded = serialization.load_pem_private_key(text, None)
        else:
            loaded = serialization.load_pem_public_key(text)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(f"{where} is not a {kind} key in PEM without a password") from None
    return _fitting(loaded, where, InputError)


def _fitting(key: Any, where: str, error: type[EdgewiseError]) -> Any:
    """The key itself, which must be of a kind that model-signing takes."""
    from cryptography.hazmat.primitives.asymmetric import ec

    private = isinstance(key, ec.EllipticCurvePrivateKey)
    if not (private or isinstance(key, ec.EllipticCurvePublicKey)) or key.curve.name not in HASHES:
        raise error(
            f"{where} is not an elliptic key of P-256, P-384 or P-521, which model-signing takes: "
            "make one with  openssl ecparam -name prime256v1 -genkey -noout -out private.pem"
        )
    return key


HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}


def _hash(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> Any:
    from cryptography.hazmat.primitives import hashes

    return getattr(hashes, HASHES[key.curve.name])()


def _hint(key: ec.EllipticCurvePublicKey) -> str:
    """What model-signing calls a key: the sha256 of its PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _to_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _from_text(text: str) -> bytes:
    """Base64 in its one spelling; a ValueError for any other."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if _to_text(data) != text:
        raise ValueError("bits left over")
    return data
