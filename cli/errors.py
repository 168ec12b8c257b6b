"""Errors of the command line itself.

CliError (SlimpathError)     bad input to a verb; exit code 2
├── InputError               no such image, folder or file, or nothing in it
└── MissingExtraError        a verb's optional libraries are not installed
"""

from __future__ import annotations

from ..runtime.errors import SlimpathError


class CliError(SlimpathError):
    """A verb cannot do what was asked."""


class InputError(CliError):
    """What was named on the command line is not there, or not what the verb needs."""


class MissingExtraError(CliError):
    """A library that only some verbs need is not installed."""
