"""Errors of `export/`.

ExportError (ValueError)
├── ConvertError       a foreign checkpoint that cannot become a model of ours, or of which too little is known
│   └── UnsafeFileError  a foreign file that is damaged, or that would run code
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


class ConvertError(ExportError):
    """A foreign checkpoint cannot become a model of ours, or too little is known about it."""


class UnsafeFileError(ConvertError):
    """A foreign file is damaged, claims more than it holds, or would run code."""
