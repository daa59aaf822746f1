"""Certificates: a root, one in the middle, a signer, and any other."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

YEAR = datetime.timedelta(days=365)
TODAY = datetime.datetime(2026, 1, 1)


def usage(**set_):
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: set_.get(name, False) for name in names})


SIGNS, CERTIFIES = usage(digital_signature=True), usage(key_cert_sign=True)
CODE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
AUTHORITY = [(x509.BasicConstraints(True, None), True), (CERTIFIES, True)]


class Holder:
    """A key with a certificate."""

    def __init__(self, name, issuer=None, extensions=((SIGNS, True),), begin=TODAY, curve=None):
        self.key = ec.generate_private_key(curve or ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(
            (issuer or self).name, self.name, self.key.public_key(), x509.random_serial_number(),
            begin, begin + 10 * YEAR,
        )  # fmt: skip
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        self.certificate = builder.sign((issuer or self).key, hashes.SHA256())

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)


ROOT = Holder("root", extensions=AUTHORITY)
MIDDLE = Holder("middle", ROOT, AUTHORITY)
SIGNER = Holder("signer", MIDDLE)


def signing_file(path, *holders):
    """The first holder's key and the certificates of all."""
    key = holders[0].key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(key + b"".join(holder.pem for holder in holders))
    return path
