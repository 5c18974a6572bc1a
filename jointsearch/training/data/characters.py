"""The text in a file: its bytes in an encoding, which the file's first bytes can say."""

from __future__ import annotations

from jointsearch.errors import DataError

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def text_of(content: bytes, name: str, encoding: str = "utf-8", fix: str = "save it in UTF-8") -> str:
    """The text of the file called ``name``; raises ``DataError`` with a ``fix`` where it is in another
    encoding."""
    if encoding == "utf-8":
        encoding = next((of for mark, of in _MARKS if content.startswith(mark)), encoding)
    try:
        return content.decode(encoding)
    except UnicodeError as error:
        line = content.count(b"\n", 0, getattr(error, "start", 0)) + 1
        raise DataError(
            f"the file {name} must be written in {encoding}, but line {line} is not; {fix}"
        ) from None
