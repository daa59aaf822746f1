"""Bundles: one file with everything that a device needs, checked before anything is opened."""

from __future__ import annotations

from .manifest import Golden, Manifest, Preprocessing
from .reader import Bundle, GoldenCheck, open_bundle
from .secrecy import read_secret
from .writer import Contents, write_bundle

__all__ = [
    "Bundle",
    "Contents",
    "Golden",
    "GoldenCheck",
    "Manifest",
    "Preprocessing",
    "open_bundle",
    "read_secret",
    "write_bundle",
]
