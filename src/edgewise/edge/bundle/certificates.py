"""Certificates of who signs: a chain from the signer's own to a root that the device trusts.

Checked by `cryptography` alone and without a clock or a network, as model-signing does: every
certificate must have been valid when the signer's own began to be. Nothing is asked about
revocation; to take a signer back, change the root that devices trust.

RFC 5280, section 6.1, for chains without name constraints and policies, which are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ...errors import InputError, ModelError

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["BEGIN", "chain_for", "signer_of"]

BEGIN = b"-----BEGIN CERTIFICATE-----"
LONGEST = 8  # certificates in a chain
HASHES = {"sha256", "sha384", "sha512"}


def chain_for(key: Any, pem: bytes) -> list[bytes]:
    """The certificates in a PEM file, as DER, the first of which must be of this private key.

    Raises:
        InputError: it is not, or one cannot be read.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    found = _from_pem(pem, "the file of the private key")
    if found[0].public_key() != key.public_key():
        raise InputError(
            "the first certificate in the file of the private key is of another key: put the "
            "signer's own first, and then those that lead to the root"
        )
    return [certificate.public_bytes(Encoding.DER) for certificate in found]


def signer_of(chain: Sequence[bytes], pem: bytes) -> Any:
    """The public key of the first certificate of a chain that ends at one of the trusted ones.

    Args:
        chain: DER, the signer's own first, each by the next; the trusted one may be left out.
        pem: the trusted ones.

    Raises:
        ModelError: the chain is not one, or leads elsewhere.
        InputError: the trusted ones cannot be read.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    roots = _from_pem(pem, "the file of trusted certificates")
    if not 0 < len(chain) <= LONGEST:
        raise ModelError(f"its signature has {len(chain)} certificates, not 1 to {LONGEST}")
    try:
        found = [x509.load_der_x509_certificate(der) for der in chain]
        signer = found[0]
        if found[-1] not in roots:
            found.append(_issuer(found[-1], roots))
        for certificate in found:
            _check_time(certificate, signer)
        for place, (certificate, issuer) in enumerate(pairwise(found)):
            _check_issuer(certificate, issuer, below=place)
        _check_signer(signer)
        return signer.public_key()
    except (
        ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion,
    ) as error:  # fmt: skip
        raise ModelError(f"its signature has a certificate that is damaged: {error}") from None


def _from_pem(pem: bytes, where: str) -> list[x509.Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise InputError(f"{where} has a certificate that cannot be read: {error}") from None


def _issuer(certificate: x509.Certificate, roots: list[x509.Certificate]) -> x509.Certificate:
    for root in roots:
        if root.subject == certificate.issuer and _issued(certificate, root):
            return root
    raise ModelError(
        f"its signer's certificates lead to '{_name(certificate.issuer)}', which is not trusted: "
        "do not use it"
    )


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    hashed = certificate.signature_hash_algorithm  # none where the algorithm brings its own
    if hashed is not None and hashed.name not in HASHES:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _check_time(certificate: x509.Certificate, signer: x509.Certificate) -> None:
    begin = signer.not_valid_before_utc
    if not certificate.not_valid_before_utc <= begin <= certificate.not_valid_after_utc:
        raise ModelError(
            f"the certificate of '{_name(certificate.subject)}' was not valid when its signer's "
            "own began: do not use it"
        )


def _check_issuer(certificate: x509.Certificate, issuer: x509.Certificate, below: int) -> None:
    """`below` counts the certificates between the issuer and the signer's own."""
    who = f"'{_name(issuer.subject)}'"
    if not _issued(certificate, issuer):
        raise ModelError(
            f"the certificate of '{_name(certificate.subject)}' is not by {who}: do not use it"
        )
    extensions = _extensions(issuer)
    limits, usage = extensions.get("basicConstraints"), extensions.get("keyUsage")
    if limits is None or not limits.ca or (usage is not None and not usage.key_cert_sign):
        raise ModelError(f"{who} is not allowed to certify others: do not use it")
    if limits.path_length is not None and below > limits.path_length:
        raise ModelError(f"{who} is not allowed to certify at so many removes: do not use it")


def _check_signer(signer: x509.Certificate) -> None:
    from cryptography.x509.oid import ExtendedKeyUsageOID

    extensions = _extensions(signer)
    usage, purposes = extensions.get("keyUsage"), extensions.get("extendedKeyUsage", ())
    signs = usage is not None and usage.digital_signature
    if not signs and ExtendedKeyUsageOID.CODE_SIGNING not in purposes:
        raise ModelError("the certificate of its signer is not one for signatures: do not use it")


def _extensions(certificate: x509.Certificate) -> dict[str, Any]:
    """By name, those that are understood; a critical one that is not is refused."""
    found = {}
    for extension in certificate.extensions:
        name = extension.oid._name
        if name in ("basicConstraints", "keyUsage", "extendedKeyUsage", "subjectAltName"):
            found[name] = extension.value
        elif extension.critical:
            raise ModelError(
                f"the certificate of '{_name(certificate.subject)}' has a critical extension that "
                f"is not understood: {name}"
            )
    return found


def _name(name: x509.Name) -> str:
    return name.rfc4514_string()[:100]
