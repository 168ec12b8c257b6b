"""Errors of `export/`.

ExportError (ValueError)
├── GraphBuildError    the exporter gave a graph that breaks a promise of the bundle (a private copy of a weight, say)
├── ParityError        a graph does not compute what the network computes
└── TargetExistsError  the place to write to is taken
"""


class ExportError(ValueError):
    """A network could not be turned into a bundle or a file."""


class GraphBuildError(ExportError):
    """The exporter gave a graph that breaks a promise of the bundle."""


class ParityError(ExportError):
    """A graph does not compute what the network computes."""


class TargetExistsError(ExportError):
    """The place to write to is taken."""
