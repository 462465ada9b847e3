"""Read forms with a recording (`multipart/form-data`) as they come; nothing of the recording is kept."""

from __future__ import annotations

from collections.abc import Callable

from parastream.server.wire.refusals import RefusalError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

_MOST_BYTES = 1 << 18
"""Of all fields but the recording."""
_MOST_FIELDS = 100


class Form:
    """One form. Its recording is the part named `file`; the other parts are fields."""

    def __init__(
        self,
        content_type: str,
        *,
        on_file: Callable[[bytes], None],
        on_file_end: Callable[[], None],
        on_field: Callable[[str, str], None],
    ) -> None:
        """Prepare to read.

        Args:
            content_type: of the request.
            on_file: takes bytes of the recording. It may raise `RefusalError`, as may the others.
            on_file_end: is called at the end of the recording.
            on_field: takes a field's name and value.

        Raises:
            RefusalError: the request has no form.
        """
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise RefusalError("unsupported", "the body is no form; allowed: multipart/form-data with a `file`")
        self.complete = False
        """Whether the form has come to its end."""
        self._on_file = on_file
        self._on_file_end = on_file_end
        self._on_field = on_field
        self._header = b""
        self._value = b""
        self._name = ""
        self._field: bytearray | None = None  # of the part that is read; None: it is the recording
        self._bytes = self._fields = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_begin": self._begin_header,
                "on_header_field": self._read_header,
                "on_header_value": self._read_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_data,
                "on_part_data": self._read_data,
                "on_part_end": self._end,
                "on_end": self._complete,
            },
        )

    def push(self, data: bytes) -> None:
        """Take bytes of the body.

        Raises:
            RefusalError: they are none of a form, or something in it is refused.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise RefusalError("invalid_message", f"the form is damaged: {error}") from error

    def _begin(self) -> None:
        self._name, self._fields = "", self._fields + 1
        if self._fields > _MOST_FIELDS:
            raise RefusalError("invalid_message", f"the form has more than {_MOST_FIELDS} fields")

    def _begin_header(self) -> None:
        self._header = self._value = b""

    def _read_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _read_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._name = parse_options_header(self._value)[1].get(b"name", b"").decode("utf-8", "replace")

    def _begin_data(self) -> None:
        self._field = None if self._name == "file" else bytearray()

    def _read_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._on_file(data[start:end])
            return
        self._bytes += end - start
        if self._bytes > _MOST_BYTES:
            raise RefusalError("too_large", f"the fields have more than {_MOST_BYTES} bytes")
        self._field += data[start:end]

    def _end(self) -> None:
        if self._field is None:
            self._on_file_end()
        else:
            self._on_field(self._name, self._field.decode("utf-8", "replace"))

    def _complete(self) -> None:
        self.complete = True
