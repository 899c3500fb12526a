"""The only module that prints. It makes text from data, models, file names and servers safe for a terminal.

Results go to standard output, messages to standard error. Both may be closed, full, or unable to show a character. It
is an error if a result cannot be written; a message that cannot be written is dropped.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, BinaryIO, TextIO, cast

from textclf.errors import StreamError
from textclf.terminal.screen import PLAIN, WORDS, Kind, Part, Screen, Style, mark_of, screen_of, styled

_JOINERS = "\u200c\u200d"
"""These characters are invisible, but Persian, the languages of India and some emoji need them."""

_STREAMS = ("standard input", "standard output", "standard error")

_BEGINNINGS: dict[Kind, tuple[str, ...]] = {
    "warning": ("Warning: ", "warning: "),
    "note": ("Note: ", "note: "),
    "error": ("problem: ",),
}
"""The beginnings of lines in reports."""

_HANGING = 2
"""The cells by which the second line of a message is indented."""

_closed: set[int] = set()
"""The standard streams that were closed when the command started."""


# --- Text ------------------------------------------------------------------------------------------------------------
def printable(text: str) -> str:
    """Returns the text on one line, with a visible escape such as `\\x1b` for each invisible character.

    Such characters could change the terminal's colours or contents, send input, reverse the reading direction, or hide
    text.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or _joins(text, place) else escaped(character)
        for place, character in enumerate(text)
    )


def printable_lines(text: str) -> str:
    """Does the same as `printable`, but keeps line breaks and tabs, for messages and tables of textclf."""
    return re.sub(r"[^\n\t]+", lambda found: printable(found[0]), text)


def command_line(words: Sequence[str]) -> str:
    """Returns a command as the system's shell takes it, with words quoted where it needs them."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def json_text(values: Mapping[str, Any]) -> str:
    """Returns JSON that is safe for a terminal and decodes to the same values: invisible characters become `\\uXXXX`."""
    text = json.dumps(values, indent=2, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(values, indent=2)
    return re.sub(r"[^\n]", lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], text)


def _joins(text: str, place: int) -> bool:
    """Returns whether a joiner is between two characters that it can join."""
    return text[place] in _JOINERS and all(
        not neighbour.isascii() and neighbour.isprintable()
        for neighbour in (text[place - 1 : place] or "-", text[place + 1 : place + 2] or "-")
    )


def escaped(character: str) -> str:
    """Returns the visible escape of one character, for example `\\x1b` or `\\u200b`."""
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# --- Writing ---------------------------------------------------------------------------------------------------------
def write_result(text: str, *, needed: bool = True) -> None:
    """Writes a result and a line end to standard output.

    Raises StreamError if it cannot be written, and BrokenPipeError if the reader has closed the pipe, as `head` does.
    If standard output is closed, a result that is not `needed` is skipped: the command has written its output to a
    file.
    """
    if not needed and _is_closed(1):
        return
    _write_output(printable_lines(text) + "\n")


def _write_output(text: str) -> None:
    stream = _open_stream(1)
    with suppress(OSError, ValueError):
        _erase_announcement()
    try:
        _write(stream, text)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # ValueError: closed by the program itself
        reason = getattr(error, "strerror", None) or error
        raise StreamError(f"standard output cannot be written ({reason}); write to another place") from error


def write_report(text: str, *, needed: bool = True, marked: bool = False) -> None:
    """Does the same as `write_result` for text that a person reads: a terminal gets it wrapped at its width.

    With `marked`, lines that begin with `Warning: ` and the like get the mark of a message; no line may begin with data.
    """
    screen = result_screen()
    if screen.width is None:
        write_result(text, needed=needed)
        return
    kinds: list[tuple[Kind, str]] = [_kind_of(line) if marked else ("plain", line) for line in text.split("\n")]
    _write_output("\n".join(_message(printable_lines(line), kind, screen) for kind, line in kinds) + "\n")


def _kind_of(line: str) -> tuple[Kind, str]:
    for kind, words in _BEGINNINGS.items():
        for word in words:
            if line.startswith(word):
                return kind, line.removeprefix(word)
    return "plain", line


def write_styled(lines: Iterable[Sequence[Part]]) -> None:
    """Writes lines with styles to standard output, for a `result_screen` that is styled. Raises as `write_result`."""
    _write_output(styled([[(printable(text), style) for text, style in line] for line in lines]) + "\n")


def result_screen() -> Screen:
    """Returns what standard output can show."""
    return PLAIN if _is_closed(1) else screen_of(sys.stdout)


def message_screen() -> Screen:
    """Returns what standard error can show."""
    return screen_of(sys.stderr)


def write_message(text: str, kind: Kind = "plain") -> None:
    """Writes a message and a line end to standard error. The message is lost if that fails.

    A warning begins with `Warning: ` or, on a terminal, with ⚠; notes and errors have their own beginnings.
    """
    # While a progress bar is shown, this is Rich's stream, which prints the line above the bar.
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            _erase_announcement()
            _write(sys.stderr, _message(printable_lines(text), kind, screen_of(sys.stderr)) + "\n")


def _message(text: str, kind: Kind, screen: Screen) -> str:
    if screen.width is None:
        return WORDS[kind] + text
    # The word stays before an error: people search for it.
    mark = mark_of(kind, screen if kind != "error" else replace(screen, has_symbols=False))
    from textclf.terminal.wrapping import wrapped

    first, *others = wrapped(text, screen.width, first=len(mark[0]), hanging=_HANGING)
    return styled([[mark, (first, None)]]) + "".join(f"\n{line}" for line in others)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


class _ErrorStream(io.TextIOBase):
    """Writes to the current standard error. A failed write never stops the command."""

    @property
    def _stream(self) -> TextIO | None:
        # While Rich shows a bar, it replaces standard error by another stream; the bar uses the original stream.
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
                _erase_announcement()
                _write(self._stream, text)
        return len(text)

    def flush(self) -> None:
        """Each write is flushed."""


_ERROR_STREAM = _ErrorStream()


def error_stream() -> TextIO:
    """Standard error for progress bars, whose text is already safe."""
    return cast("TextIO", _ERROR_STREAM)


# --- The first line of a command -------------------------------------------------------------------------------------
_announced = False
"""Whether the terminal shows a line that the next output replaces."""


def announce(text: str) -> None:
    """Shows a few words at once, on a terminal, before anything heavy is imported. The next output takes their place."""
    global _announced
    if screen_of(sys.stderr).is_styled:
        with suppress(OSError, ValueError):
            _erase_announcement()
            _write(sys.stderr, styled([[(f"{printable(text)} ...", Style.QUIET)]]))
            _announced = True


def _erase_announcement() -> None:
    global _announced
    if _announced:
        _announced = False
        _write(cast("TextIO", getattr(sys.stderr, "rich_proxied_file", sys.stderr)), "\r\x1b[2K")


# --- Bytes -----------------------------------------------------------------------------------------------------------
def standard_input() -> BinaryIO:
    """Returns standard input as bytes, without Python's buffer: a thread waiting for input would hold its lock forever.

    Raises StreamError if it is closed.
    """
    stream = _open_stream(0)
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a stand-in, as in a notebook
        return stream.buffer
    return cast("BinaryIO", open(descriptor, "rb", buffering=0, closefd=False))


def standard_output() -> BinaryIO:
    """Returns standard output as bytes. Raises StreamError if it is closed."""
    return _open_stream(1).buffer


def can_ask() -> bool:
    """Returns whether a person can be asked: standard input and standard error are a terminal."""
    return not _is_closed(0) and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty()


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
    """Inside, a command can print with any kind of standard streams, and log records are shown."""
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
    """Flushes standard output and raises the errors of `write_result`. Then the interpreter can exit."""
    with suppress(OSError, ValueError):
        _erase_announcement()
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
    """Drops buffered output that cannot be written; otherwise the interpreter would report an error when it exits."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _open_standard_streams() -> None:
    """Redirects closed streams to nowhere.

    Otherwise a file opened later could get their number and receive the output.
    """
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
            # Libraries write to standard error without checking it.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open until the process ends
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


# Packages of object stores, which log every failed attempt. The error that follows says it without the secrets of an address.
_NOT_SHOWN = frozenset({"adlfs", "aiobotocore", "azure", "botocore", "gcsfs", "google", "s3fs"})


class _Handler(logging.Handler):
    """Shows log records as lines in the terminal: textclf's from level INFO, those of other libraries from WARNING."""

    def emit(self, record: logging.LogRecord) -> None:
        package = record.name.partition(".")[0]
        if package in _NOT_SHOWN or (package != "textclf" and record.levelno < logging.WARNING):
            return
        try:
            message = record.getMessage()
        except Exception:  # the format string of another library does not fit its values
            message = str(record.msg)
        if record.levelno == logging.WARNING:
            write_message(message, "warning")
        else:
            kind = "" if record.levelno < logging.WARNING else f"{record.levelname.capitalize()}: "
            write_message(kind + message)


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    write_message(f"{category.__name__}: {message}")
