"""multipart/form-data of a body that is in memory already: no temporary files, and few, small parts."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ..errors import HttpError

MAX_PARTS = 64
MAX_FIELD_BYTES = 64 * 1024  # of a part that is not a file


@dataclass
class Part:
    """One part; `filename` is None where the part is a plain field. It is never used as a path."""

    name: str = ""
    filename: str | None = None
    data: bytes = b""


@dataclass
class _Collector:
    parts: list[Part] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    header: list[bytes] = field(default_factory=lambda: [b"", b""])
    disposition: bytes = b""
    ended: bool = False

    def part_begin(self) -> None:
        if len(self.parts) >= MAX_PARTS:
            raise _bad(f"it has more than {MAX_PARTS} parts")
        self.parts.append(Part())
        self.pieces, self.disposition = [], b""

    def header_begin(self) -> None:
        self.header = [b"", b""]

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self.header[0] += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self.header[1] += data[start:end]

    def header_end(self) -> None:
        if self.header[0].lower() == b"content-disposition":
            self.disposition = self.header[1]

    def headers_finished(self) -> None:
        kind, options = parse_options_header(self.disposition)
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise _bad("a part has no name")
        filename = options.get(b"filename")
        part = self.parts[-1]
        part.name = name.decode("utf-8", "replace")
        part.filename = None if filename is None else filename.decode("utf-8", "replace")

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self.pieces.append(data[start:end])

    def part_end(self) -> None:
        part = self.parts[-1]
        part.data = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
        if part.filename is None and len(part.data) > MAX_FIELD_BYTES:
            raise _bad(f"the field {part.name[:64]!r} has more than {MAX_FIELD_BYTES} bytes")

    def end(self) -> None:
        self.ended = True


def read_parts(content_type: str, body: bytes) -> list[Part]:
    """The parts of a form.

    Args:
        content_type: the whole header, with its boundary.

    Raises:
        HttpError: 422, not a form: no boundary, cut off, or against the rules.
    """
    _, options = parse_options_header(content_type.encode("latin-1", "replace"))
    boundary = options.get(b"boundary")
    if not boundary:
        raise _bad("its Content-Type names no boundary")
    collector = _Collector()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": collector.part_begin,
                "on_part_data": collector.part_data,
                "on_part_end": collector.part_end,
                "on_header_begin": collector.header_begin,
                "on_header_field": collector.header_field,
                "on_header_value": collector.header_value,
                "on_header_end": collector.header_end,
                "on_headers_finished": collector.headers_finished,
                "on_end": collector.end,
            },
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise _bad(str(error)) from None
    if not collector.ended:
        raise _bad("it ends before its last boundary")
    return collector.parts


def _bad(reason: str) -> HttpError:
    return HttpError(422, "bad_form", f"the form cannot be read: {reason}", hint="for example curl -F file=@photo.jpg")
