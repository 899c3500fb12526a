"""The files of a batch job: paths, patterns and `-` in, streams of plain bytes out, whatever they are packed with.

gzip and zstd are told by how a stream begins when reading, and by the output's name when writing.
"""

from __future__ import annotations

import glob
import gzip
import io
import os
import shutil
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from textclf.errors import DataError
from textclf.tables import open_table
from textclf.terminal import standard_input

if TYPE_CHECKING:
    from types import ModuleType

STANDARD_STREAM = "-"

_GZIP_START = b"\x1f\x8b"
_ZSTD_START = b"\x28\xb5\x2f\xfd"
# A zstd stream can hold much more than its size: small pieces keep what one of them becomes small.
_PACKED_PIECE = 1 << 13
_PIECE = 1 << 20
# What stands before damage in a packed stream is read up to this many bytes before it.
_BUFFER = 1 << 16
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3


class InputFile:
    """An open input: `stream` gives plain bytes, `start` the first four of them (fewer in a shorter file).

    Raises DataError when already the start cannot be read.
    """

    def __init__(self, name: str, raw: BinaryIO) -> None:
        self.name = name
        self._counted = _Counted(raw)
        self.stream = _buffered(self._counted)
        try:
            start = self.stream.peek(4)[:4]
            if start.startswith(_GZIP_START):
                self.stream = _buffered(_Unzipped(cast("BinaryIO", gzip.GzipFile(fileobj=self.stream))))
            elif start == _ZSTD_START:
                self.stream = _buffered(_Unzstd(self.stream, _zstandard(name)))
            self.start = self.stream.peek(4)[:4]
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error}); check the file, or make it again") from error

    @property
    def position(self) -> int:
        """Bytes of the file, as it is stored, that have been read."""
        return self._counted.position


@contextmanager
def open_input(path: str) -> Iterator[InputFile]:
    """A file, or standard input for `-`. Raises DataError when it cannot be opened."""
    if path == STANDARD_STREAM:
        yield InputFile("standard input", standard_input())
        return
    try:
        raw = open(path, "rb", buffering=0)  # noqa: SIM115 - closed below
    except (OSError, ValueError):
        with open_table(path):  # says what is the matter
            pass
        raise
    with raw:
        yield InputFile(path, cast("BinaryIO", raw))


def expand_inputs(inputs: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Paths as they are and patterns (`*`, `?`, `[…]`, `**`) as the sorted files that they match.

    Raises DataError for a pattern that matches nothing, for standard input named twice, and for no input at all.
    """
    paths: list[str] = []
    for given in (os.fspath(path) for path in inputs):
        if given == STANDARD_STREAM or os.path.exists(given) or not glob.has_magic(given):
            paths.append(given)
            continue
        matches = sorted(match for match in glob.glob(given, recursive=True) if not os.path.isdir(match))
        if not matches:
            raise DataError(f"{given}: the pattern matches no file; check the path")
        paths += matches
    if not paths:
        raise DataError("there is no input; name one file or more, or - for standard input")
    if paths.count(STANDARD_STREAM) > 1:
        raise DataError("standard input (-) is named more than once; it can be read only once")
    return paths


def is_pipe(path: str) -> bool:
    """Whether a path is a pipe or a device: read only once, or written to directly."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def size_of_inputs(paths: Sequence[str]) -> int | None:
    """Bytes in all files together; None when one of them has no size, as a pipe."""
    total = 0
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        total += status.st_size
    return total


def compression_of(output: str | os.PathLike[str]) -> str | None:
    """`gzip`, `zstd` or None, by the name of a file to write."""
    return {".gz": "gzip", ".zst": "zstd"}.get(Path(output).suffix.lower())


def plain_suffix(output: str | os.PathLike[str]) -> str:
    """`.tsv` for `labels.tsv.gz`."""
    path = Path(output)
    return (Path(path.stem) if compression_of(path) else path).suffix.lower()


def check_compression(output: str | os.PathLike[str]) -> None:
    """Raises DataError before a long job rather than at its end when the output cannot be compressed as named."""
    if compression_of(output) == "zstd":
        _zstandard(os.fspath(output))


def compress_file(source: Path, target: Path, compression: str) -> None:
    """A whole file as one gzip member or zstd frame: many readers stop after the first. Equal sources, equal bytes."""
    with source.open("rb") as plain, target.open("wb") as packed:
        if compression == "gzip":
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, fileobj=packed, mtime=0) as writer:
                shutil.copyfileobj(plain, cast("IO[bytes]", writer), _PIECE)
        else:
            compressor = _zstandard(str(target)).ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
            compressor.copy_stream(plain, packed, size=source.stat().st_size)
        packed.flush()
        os.fsync(packed.fileno())


def _buffered(raw: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(raw, _BUFFER)


def _zstandard(name: str) -> ModuleType:
    try:
        import zstandard
    except ImportError:
        raise DataError(f"{name}: zstd needs the package zstandard; install it, or use gzip") from None
    return zstandard


class _Counted(io.RawIOBase):
    """A stream that is read, counted and never closed."""

    def __init__(self, stream: BinaryIO) -> None:
        self.position = 0
        # `readinto1` gives what is there; `readinto` of a pipe may wait until the buffer is full.
        self._readinto = getattr(stream, "readinto1", None) or stream.readinto  # type: ignore[attr-defined]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._readinto(buffer) or 0
        self.position += count
        return count


class _Unzipped(io.RawIOBase):
    """A gzip stream whose damage is an OSError of one kind."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return self._stream.readinto(buffer)  # type: ignore[attr-defined]
        except EOFError:
            raise OSError("the gzip stream ends early") from None
        except zlib.error as error:
            raise OSError(f"the gzip stream is damaged: {error}") from None


class _Unzstd(io.RawIOBase):
    """The plain bytes of one zstd frame or several; one that ends early is an OSError rather than an end of file."""

    def __init__(self, stream: io.BufferedReader, zstandard: ModuleType) -> None:
        self._stream = stream
        self._zstandard = zstandard
        self._frame: Any = None
        self._packed = b""
        self._plain = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._plain:
            self._packed = self._packed or self._stream.read(_PACKED_PIECE)
            if not self._packed and self._frame is None:
                return 0
            if not self._packed:
                raise OSError("the zstd stream ends early")
            self._plain = memoryview(self._unpack())
        count = min(len(buffer), len(self._plain))
        buffer[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count

    def _unpack(self) -> bytes:
        self._frame = self._frame or self._zstandard.ZstdDecompressor().decompressobj()
        try:
            plain: bytes = self._frame.decompress(self._packed)
        except self._zstandard.ZstdError as error:
            raise OSError(f"the zstd stream is damaged: {error}") from None
        self._packed = self._frame.unused_data if self._frame.eof else b""
        if self._frame.eof:
            self._frame = None
        return plain
