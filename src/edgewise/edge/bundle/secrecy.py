"""Encryption at rest: AES-256-GCM in chunks, by a key from a file, the environment or a command.

It keeps the weights from whoever takes the storage out of the device; it does not keep them from
whoever is root on the running device.

Each member has a key of its own, HKDF-SHA256 (RFC 5869) of the key given, salted by the sha256 of
what is encrypted; so the same input gives the same bytes and no nonce is used twice. Chunks are
numbered and the last is marked, so that none can be cut off, left out or moved (STREAM: Hoang,
Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015).
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from pathlib import Path

from ...errors import InputError, MissingExtra, ModelError

__all__ = ["Sealed", "read_secret", "seal", "sealed_size"]

SECRET = 32  # bytes
CHUNK, TAG = 1 << 16, 16
INFO = b"edgewise bundle member v1"
SECONDS = 60


def read_secret(source: str) -> bytes:
    """The key that ``file:PATH``, ``env:NAME`` or ``command:LINE`` gives: 32 bytes, raw or hex.

    A command, such as ``tpm2_unseal -c 0x81000001``, is run without a shell and prints the key.

    Raises:
        InputError: there is no key of 32 bytes; the message never holds what was found.
    """
    kind, _, rest = source.partition(":")
    try:
        if kind == "file":
            found = Path(rest).read_bytes()
        elif kind == "env":
            found = os.environb[rest.encode()]
        elif kind == "command":
            found = subprocess.run(
                shlex.split(rest), capture_output=True, timeout=SECONDS, check=True
            ).stdout
        else:
            raise InputError(
                f"the secret comes from file:PATH, env:NAME or command:LINE, not from '{kind}'"
            )
    except (OSError, KeyError, ValueError, IndexError, subprocess.SubprocessError) as error:
        raise InputError(f"no secret from {kind}: {type(error).__name__}: check it") from None
    if len(found) != SECRET:
        try:
            found = bytes.fromhex(found.decode("ascii").strip())
        except ValueError:
            found = b""
    if len(found) != SECRET:
        raise InputError(
            f"the secret from {kind} is not of 32 bytes, raw or in hexadecimal: make one with  "
            "openssl rand -hex 32"
        )
    return found


def seal(data: bytes, secret: bytes) -> tuple[bytes, str]:
    """Encrypt a member, and the salt to keep beside it, in hexadecimal."""
    salt = hashlib.sha256(data).digest()
    cipher = _cipher(secret, salt)
    starts = range(0, max(len(data), 1), CHUNK)
    parts = [
        cipher.encrypt(_nonce(i, at == starts[-1]), data[at : at + CHUNK], None)
        for i, at in enumerate(starts)
    ]
    return b"".join(parts), salt.hex()


def sealed_size(size: int) -> int:
    """Bytes of what was encrypted, from those of what came out."""
    return size - TAG * -(-size // (CHUNK + TAG))


class Sealed:
    """An encrypted member read at any place, one chunk of it held.

    Args:
        read: gives so many bytes of the member from an offset on.
        size: of the member in bytes.
    """

    def __init__(self, read, size: int, secret: bytes, salt: str):
        self._read, self._sealed = read, size
        self._cipher = _cipher(secret, bytes.fromhex(salt))
        self._last = max(0, -(-size // (CHUNK + TAG)) - 1)
        self._held: dict[int, bytes] = {}

    def read(self, offset: int, size: int) -> bytes:
        """Decrypted bytes, fewer at the end.

        Raises:
            ModelError: the secret is another, or the member was changed.
        """
        parts = []
        while size > 0 and offset < sealed_size(self._sealed):
            part = self._chunk(offset // CHUNK)[offset % CHUNK :][:size]
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)

    def _chunk(self, index: int) -> bytes:
        if index not in self._held:
            from cryptography.exceptions import InvalidTag

            sealed = self._read(index * (CHUNK + TAG), CHUNK + TAG)
            try:
                chunk = self._cipher.decrypt(_nonce(index, index == self._last), sealed, None)
            except (InvalidTag, ValueError):
                raise ModelError(
                    "it cannot be decrypted: the secret is another one, or the file was changed"
                ) from None
            while len(self._held) > 1:  # reading goes on at two places
                self._held.pop(next(iter(self._held)))
            self._held[index] = chunk
        return self._held[index]


def _nonce(index: int, last: bool) -> bytes:
    return index.to_bytes(11, "big") + bytes([last])


def _cipher(secret: bytes, salt: bytes):
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError:
        raise MissingExtra("cryptography, which encrypts,", "trust") from None
    return AESGCM(HKDF(SHA256(), SECRET, salt, INFO).derive(secret))
