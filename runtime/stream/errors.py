"""What a stream can refuse.

StreamError (SlimpathError)    a stream cannot start, or cannot go on
├── SourceError                no such camera, file or address; or it died
└── OutputError                the video, the server or the window cannot be opened or written
"""

from __future__ import annotations

from ..errors import SlimpathError


class StreamError(SlimpathError):
    """A stream cannot start, or cannot go on."""


class SourceError(StreamError):
    """The source cannot be opened, or died."""


class OutputError(StreamError):
    """What the stream is written to or shown on cannot be used."""
