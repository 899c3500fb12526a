"""The one door to a person's terminal: text from data, models, file names and servers comes in, safe text goes out.

Results go to standard output, messages to standard error. Both may be closed, full, or unable to show a character; the
first of them is an error only for a result. No other module prints.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, TextIO, cast

from textclf.errors import StreamError

_JOINERS = "\u200c\u200d"
"""Invisible, but needed to write Persian, the languages of India, and some emoji."""

_STREAMS = ("standard input", "standard output", "standard error")

_closed: set[int] = set()
"""The standard streams that were closed when the command started."""


# --- Text ------------------------------------------------------------------------------------------------------------
def printable(text: str) -> str:
    """The text on one line, with a visible escape such as `\\x1b` for each character that cannot be seen.

    Such characters could colour, rewrite or answer on behalf of the terminal, reverse the reading direction, or hide.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or _joins(text, place) else _escape(character)
        for place, character in enumerate(text)
    )


def printable_lines(text: str) -> str:
    """As `printable`, for a message or table of our own: line breaks and tabs stay."""
    return re.sub(r"[^\n\t]+", lambda found: printable(found[0]), text)


def json_text(values: Mapping[str, Any]) -> str:
    """JSON that a terminal only shows and that decodes to the very values: what cannot be seen becomes `\\uXXXX`."""
    text = json.dumps(values, indent=2, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(values, indent=2)
    return re.sub(r"[^\n]", lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], text)


def _joins(text: str, place: int) -> bool:
    """Whether a joiner stands between two characters that it can join."""
    return text[place] in _JOINERS and all(
        not neighbour.isascii() and neighbour.isprintable()
        for neighbour in (text[place - 1 : place] or "-", text[place + 1 : place + 2] or "-")
    )


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# --- Writing ---------------------------------------------------------------------------------------------------------
def write_result(text: str, *, needed: bool = True) -> None:
    """One result, with a line end, on standard output.

    Raises StreamError where it cannot be written, and BrokenPipeError where the reader has left, as `head` does. A
    result that is not `needed`, since the command has written what matters to a file, is left out where standard output
    is closed.
    """
    if not needed and _is_closed(1):
        return
    stream = _open_stream(1)
    try:
        _write(stream, printable_lines(text) + "\n")
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # ValueError: closed by the program itself
        reason = getattr(error, "strerror", None) or error
        raise StreamError(f"standard output cannot be written ({reason}); write to another place") from error


def write_message(text: str) -> None:
    """One message, with a line end, on standard error; lost where that cannot be written."""
    # While a bar is shown, this is Rich's stream, which puts the line above the bar.
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            _write(sys.stderr, printable_lines(text) + "\n")


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


class _ErrorStream(io.TextIOBase):
    """Standard error as it is at the moment of writing; a failure to write never ends the work."""

    @property
    def _stream(self) -> TextIO | None:
        # Rich puts a stream of its own before standard error while it shows a bar; the bar goes to the one behind.
        stream = sys.stderr
        return cast("TextIO | None", getattr(stream, "rich_proxied_file", stream))

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        with suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def fileno(self) -> int:
        if self._stream is None:
            raise io.UnsupportedOperation("standard error is closed")
        return self._stream.fileno()

    def write(self, text: str) -> int:
        if self._stream is not None:
            with suppress(OSError, ValueError):
                _write(self._stream, text)
        return len(text)

    def flush(self) -> None:
        """Each write is flushed."""


_ERROR_STREAM = _ErrorStream()


def error_stream() -> TextIO:
    """Standard error for progress bars: what is written is already safe."""
    return cast("TextIO", _ERROR_STREAM)


# --- Bytes -----------------------------------------------------------------------------------------------------------
def standard_input() -> BinaryIO:
    """Standard input as bytes, without Python's buffer, whose lock a thread that waits for input would hold for ever.

    Raises StreamError where it is closed.
    """
    stream = _open_stream(0)
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a stand-in, as in a notebook
        return stream.buffer
    return cast("BinaryIO", open(descriptor, "rb", buffering=0, closefd=False))


def standard_output() -> BinaryIO:
    """Standard output as bytes. Raises StreamError where it is closed."""
    return _open_stream(1).buffer


def _is_closed(number: int) -> bool:
    stream = (sys.stdin, sys.stdout)[number]
    return number in _closed or stream is None or stream.closed


def _open_stream(number: int) -> TextIO:
    if _is_closed(number):
        remedy = ("name a file instead, or connect one: < FILE", "connect it, for example to a file: > FILE")[number]
        raise StreamError(f"{_STREAMS[number]} is closed; {remedy}")
    return cast("TextIO", (sys.stdin, sys.stdout)[number])


# --- A command's surroundings ----------------------------------------------------------------------------------------
@contextmanager
def surroundings() -> Iterator[None]:
    """Meanwhile a command can print whatever its standard streams are, and shows what the library and others log."""
    _open_standard_streams()
    handler = _Handler()
    ours, others = logging.getLogger("textclf"), logging.getLogger()
    earlier = ours.level, ours.propagate
    ours.setLevel(logging.INFO)
    ours.propagate = False
    others.addHandler(handler)
    ours.addHandler(handler)
    show_warning = warnings.showwarning
    warnings.showwarning = _show_warning
    try:
        yield
    finally:
        warnings.showwarning = show_warning
        ours.removeHandler(handler)
        others.removeHandler(handler)
        ours.level, ours.propagate = earlier


def leave() -> None:
    """Writes out what waits in standard output; raises as `write_result` does. Afterwards the interpreter may end."""
    if sys.stdout is None or sys.stdout.closed:
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        forget_output()
        if isinstance(error, BrokenPipeError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise StreamError(f"standard output cannot be written ({reason}); write to another place") from error


def forget_output() -> None:
    """What waits for a standard output that cannot take it is dropped, or the interpreter would complain at its end."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _open_standard_streams() -> None:
    """Closed ones lead nowhere, so that no file opened later takes their number and gets what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _closed.add(number)
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # Libraries write to it without asking.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open until the process ends
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class _Handler(logging.Handler):
    """Log records as lines of the terminal: the library's from INFO, everybody else's from WARNING."""

    def emit(self, record: logging.LogRecord) -> None:
        ours = record.name == "textclf" or record.name.startswith("textclf.")
        if not ours and record.levelno < logging.WARNING:
            return
        try:
            message = record.getMessage()
        except Exception:  # another library's format that does not fit its values
            message = str(record.msg)
        kind = "" if record.levelno < logging.WARNING else f"{record.levelname.capitalize()}: "
        write_message(kind + message)


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    write_message(f"{category.__name__}: {message}")
