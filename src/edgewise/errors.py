"""Every exception that edgewise raises on purpose.

    EdgewiseError
    ├── InputError              an argument or option that cannot be used
    │   ├── ModelError          a model, model file or artifact that cannot be used
    │   └── DataError           data that cannot be read or do not fit the model
    ├── MissingExtra            an optional dependency that is not installed
    ├── DeviceError             a device that cannot be reached, made or prepared
    ├── RuntimeFailure          a runtime that crashed, hung or failed while running a file
    ├── UnsupportedOperator     an operator that a runtime (or a step) cannot take
    ├── UpdateError             a repository or a release of it that is refused or out of reach
    ├── StepError               a step whose `requires` or `ensures` does not hold
    └── Disagreement            an artifact that does not compute what its Model computes

One message is one sentence or two: what, where, what was found, and what to do about it.
The command line prints the message and exits with code 2; anything else is a bug.
"""

from __future__ import annotations

__all__ = [
    "DataError",
    "DeviceError",
    "Disagreement",
    "EdgewiseError",
    "InputError",
    "MissingExtra",
    "ModelError",
    "RuntimeFailure",
    "StepError",
    "UnsupportedOperator",
    "UpdateError",
]


class EdgewiseError(Exception):
    """Base of every error that edgewise raises on purpose."""


class InputError(EdgewiseError):
    """An argument or option that cannot be used."""


class ModelError(InputError):
    """A model, model file or artifact that cannot be used."""


class DataError(InputError):
    """Data that cannot be read, or that do not fit the model's signature."""


class MissingExtra(EdgewiseError):
    """An optional dependency that is not installed; the message carries the pip line."""

    def __init__(self, what: str, extra: str):
        super().__init__(f"{what} is not installed: run  pip install 'edgewise[{extra}]'")
        self.extra = extra


class DeviceError(EdgewiseError):
    """A device that cannot be reached, made or prepared; says what it lacks."""


class RuntimeFailure(EdgewiseError):
    """A runtime that crashed, hung or failed while running a file; names it and the signal."""


class UnsupportedOperator(EdgewiseError):
    """An operator that a runtime (or a step) cannot take; the message names the layer."""


class UpdateError(EdgewiseError):
    """A repository of updates, or a release of it, that is refused or cannot be reached."""


class StepError(EdgewiseError):
    """A step whose `requires` does not hold for its input, or `ensures` for its output."""


class Disagreement(EdgewiseError):
    """An artifact that does not compute what its Model computes; names the first layer."""
