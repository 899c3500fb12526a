"""Opens the files of a batch job (paths, patterns and `-`) as streams of plain bytes, whatever their compression.

When reading, compression is detected from the first bytes; when writing, from the name of the output.
"""

from __future__ import annotations

import bz2
import glob
import gzip
import io
import lzma
import os
import shutil
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol, cast

from textclf.data.tables.frames import FrameTable
from textclf.data.tables.table import open_table
from textclf.errors import DataError, RunError
from textclf.files.copies import local_file
from textclf.files.locations import Location, list_locations, location_of
from textclf.terminal.door import standard_input

STANDARD_STREAM = "-"

_START_BYTES = 6

_BEGINNING = 4096

_GZIP_START = b"\x1f\x8b"

_BZIP2_START = b"BZh"

# The first bytes of a block and of the end of a stream without blocks.
_BZIP2_BLOCKS = (b"1A", b"\x17r")

_XZ_START = b"\xfd7zXZ\x00"

_ZSTD_START = b"\x28\xb5\x2f\xfd"

# The last three bytes of a frame without data, which pzstd and others write first (RFC 8878, section 3.1.2).
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"

_PACKED_PIECE = 1 << 16

_PIECE = 1 << 20

# A damaged compressed stream is read up to this many bytes before the damage.
_BUFFER = 1 << 16

_GZIP_LEVEL = 6

_ZSTD_LEVEL = 3

# `xz -9` makes files that need 65 MB to be unpacked; a header may ask for 4 GB.
_XZ_MEMORY = 1 << 28

# File endings of formats that textclf does not write.
_OTHER_FORMS = (
    ".bz2",
    ".xz",
    ".zip",
    ".7z",
    ".lz4",
    ".br",
    ".xls",
    ".ods",
    ".feather",
    ".json",
)


class DamagedInputError(DataError):
    """A damaged compressed input. Rows before the place where the damage is detected may already be wrong."""


class InputFile:
    """An open input: `stream` gives plain bytes, `start` the first four of them (fewer in a shorter file).

    `is_live`: its rows may arrive over time, as those of a pipe do. `counts_positions`: it is a table in memory, whose
    rows are numbered by position. `is_packed`: it is compressed. `progress` returns how many of its bytes have been read, if
    they are not read through `stream`. Raises DataError if the start cannot be read.
    """

    def __init__(self, name: str, raw: BinaryIO, *, counts_positions: bool = False) -> None:
        self.name = name
        self.counts_positions = counts_positions
        self.is_live = _is_live(raw)
        self.progress: Callable[[], int] | None = None
        self._counted = _Counted(raw)
        try:
            start = self._counted.look_ahead(_START_BYTES if self.is_live else _BEGINNING)
            unpacked = _unpacked(name, start, self._counted)
            self.is_packed = unpacked is not None
            self.stream = _buffered(unpacked or self._counted)
            self.start = self.stream.peek(4)[:4]
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error}); check the file, or make it again") from error

    @property
    def position(self) -> int:
        """Bytes of the file, as it is stored, that have been read."""
        return self._counted.position if self.progress is None else self.progress()


@contextmanager
def open_input(path: str | Path | FrameTable, name: str | None = None) -> Iterator[InputFile]:
    """A file, the copy of a remote file, standard input for `-`, or a table in memory, under a `name` (default: its own).

    Raises DataError when it cannot be opened.
    """
    if isinstance(path, FrameTable):
        yield InputFile(path.name, io.BytesIO(path.content), counts_positions=True)
        return
    if (location := location_of(path)) is not None:
        with local_file(location) as file, open_input(str(file), name or str(location)) as opened:
            yield opened
        return
    path = os.fspath(path)
    if path == STANDARD_STREAM:
        yield InputFile("standard input", standard_input())
        return
    try:
        raw = open(path, "rb", buffering=0)  # noqa: SIM115 - closed below
    except (OSError, ValueError):
        with open_table(path):  # reports the reason
            pass
        raise
    with raw:
        yield InputFile(name or path, cast("BinaryIO", raw))


def _is_live(stream: BinaryIO) -> bool:
    try:
        return not stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError, AttributeError):
        return False


def expand_inputs(inputs: Sequence[str | os.PathLike[str]]) -> list[str | Location]:
    """Returns paths unchanged, patterns (`*`, `?`, `[…]`, `**`) as the sorted files that they match, and addresses as
    Locations.

    Raises DataError for a pattern that matches nothing, for standard input given twice, for addresses that are shown alike,
    and for no input at all.
    """
    paths: list[str | Location] = []
    for path in inputs:
        if (location := location_of(path)) is not None:
            paths += list_locations(location)
            continue
        given = os.fspath(path)
        if given == STANDARD_STREAM or os.path.exists(given) or not glob.has_magic(given):
            paths.append(given)
            continue
        matches = sorted(match for match in glob.glob(given, recursive=True) if not os.path.isdir(match))
        if not matches:
            raise DataError(f"{given}: the pattern matches no file; check the path")
        paths += matches
    if not paths:
        raise DataError("there is no input; name one file or more, or - for standard input")
    shown = [str(path) for path in paths if isinstance(path, Location)]
    if twice := next((name for name in shown if shown.count(name) > 1), None):
        raise DataError(f"{twice}: is named more than once, or differs in the hidden part only; classify each alone")
    if paths.count(STANDARD_STREAM) > 1:
        raise DataError("standard input (-) is named more than once; it can be read only once")
    return paths


def is_pipe(path: str | Path) -> bool:
    """Returns whether a path is a pipe or a character device: read only once, or written to directly."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def size_of_inputs(paths: Sequence[str | Path]) -> int | None:
    """Returns the total number of bytes of all files, or None if one of them has no size, such as a pipe.

    Inside of `local_copies` remote files are copied now.
    """
    total = 0
    for path in paths:
        if isinstance(path, Location):
            with local_file(path) as file:
                total += file.stat().st_size
            continue
        try:
            status = os.stat(path)
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        total += status.st_size
    return total


def is_same_file(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Returns whether both paths lead to one file that exists."""
    with suppress(OSError, ValueError):
        return os.path.samefile(path, other)
    return False


def compression_of(output: str | os.PathLike[str]) -> str | None:
    """`gzip`, `zstd` or None, by the name of a file to write."""
    return {".gz": "gzip", ".zst": "zstd"}.get(Path(output).suffix.lower())


def plain_suffix(output: str | os.PathLike[str]) -> str:
    """`.tsv` for `labels.tsv.gz`."""
    path = Path(output)
    return (Path(path.stem) if compression_of(path) else path).suffix.lower()


def check_form(output: str | os.PathLike[str]) -> None:
    """Raises RunError for an output whose name has the ending of a format that textclf does not write."""
    suffix = Path(output).suffix.lower()
    if suffix in _OTHER_FORMS:
        raise RunError(
            f"{output}: an output cannot be {suffix}; name it .csv, .tsv or .jsonl, with .gz or .zst to compress it, or .parquet "
            "or .xlsx"
        )
    if compression_of(output) and plain_suffix(output) in (".parquet", ".xlsx"):
        raise RunError(f"{output}: {plain_suffix(output)} is compressed inside already; leave out {suffix}")


def compress_file(source: Path, target: Path, compression: str) -> None:
    """Writes a whole file as one gzip member or zstd frame, because many readers stop after the first.

    Equal inputs give equal bytes.
    """
    with source.open("rb") as plain, target.open("wb") as packed:
        if compression == "gzip":
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, fileobj=packed, mtime=0) as writer:
                shutil.copyfileobj(plain, cast("IO[bytes]", writer), _PIECE)
        else:
            _compress_as_zstd(plain, packed, source.stat().st_size)
        packed.flush()
        os.fsync(packed.fileno())


def _zstd() -> Any:
    """Returns the module: a part of Python from 3.14 on, and the same as a package before."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _compress_as_zstd(plain: BinaryIO, packed: BinaryIO, size: int) -> None:
    zstd = _zstd()
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: _ZSTD_LEVEL,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    compressor = zstd.ZstdCompressor(options=options)
    compressor.set_pledged_input_size(size)
    while piece := plain.read(_PIECE):
        packed.write(compressor.compress(piece))
    packed.write(compressor.flush())


def _buffered(raw: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(raw, _BUFFER)


def _unpacked(name: str, start: bytes, raw: io.RawIOBase) -> io.RawIOBase | None:
    """Returns the plain bytes of a packed stream, None for one that is not packed."""
    if start.startswith(_GZIP_START):
        return _Unzipped(name, _buffered(raw))
    if start.startswith(_BZIP2_START) and start[3:4].isdigit() and start[4:6] in _BZIP2_BLOCKS:
        return _Unpacked(name, "bzip2", _buffered(raw), bz2.BZ2Decompressor, OSError)
    if start.startswith(_XZ_START):
        return _Unpacked(name, "xz", _buffered(raw), _xz_decompressor, lzma.LZMAError)
    if start.startswith(_ZSTD_START) or (start[1:4] == _ZSTD_SKIPPABLE and start[0] >> 4 == 5):
        zstd = _zstd()
        return _Unpacked(name, "zstd", _buffered(raw), zstd.ZstdDecompressor, zstd.ZstdError)
    return None


def _xz_decompressor() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


class _Counted(io.RawIOBase):
    """A stream that is read, counted and never closed."""

    def __init__(self, stream: BinaryIO) -> None:
        self.position = 0
        self._ahead = b""
        # `readinto1` returns the available bytes; `readinto` of a pipe may wait until the buffer is full.
        self._readinto = getattr(stream, "readinto1", None) or stream.readinto  # type: ignore[attr-defined]

    def readable(self) -> bool:
        return True

    def look_ahead(self, size: int) -> bytes:
        """Returns the first bytes, fewer only in a shorter stream; they are read again."""
        buffer = bytearray(size)
        while len(self._ahead) < size and (count := self._readinto(buffer)):
            self._ahead += buffer[:count]
        self.position = len(self._ahead)
        return self._ahead

    def readinto(self, buffer: Any) -> int:
        if self._ahead:
            piece, self._ahead = self._ahead[: len(buffer)], self._ahead[len(buffer) :]
            buffer[: len(piece)] = piece
            return len(piece)
        count = self._readinto(buffer) or 0
        self.position += count
        return count


def _damaged(name: str, form: str, error: object) -> DamagedInputError:
    return DamagedInputError(
        f"{name}: the {form} stream is damaged ({error}), so none of its rows can be trusted; make or fetch the file again"
    )


def _followed(name: str, form: str) -> DataError:
    return DataError(
        f"{name}: something that is not {form} follows the {form} stream; remove what was appended to the file"
    )


def _ends_early(name: str, form: str) -> DataError:
    return DataError(f"{name}: the {form} stream ends early; make or fetch the file again")


class _WhatIsThere:
    """A stream whose large reads return the bytes that have arrived. Small reads, of a header, are complete."""

    _HEADER = 16

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        return self._stream.read(size) if size <= self._HEADER else self._stream.read1(size)


class _Unzipped(io.RawIOBase):
    """The plain bytes of a gzip stream of one member or several."""

    def __init__(self, name: str, stream: io.BufferedReader) -> None:
        self._name = name
        self._stream = gzip.GzipFile(fileobj=cast("BinaryIO", _WhatIsThere(stream)))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            plain = self._stream.read1(len(buffer))
            buffer[: len(plain)] = plain
            return len(plain)
        except EOFError:
            raise _ends_early(self._name, "gzip") from None
        except gzip.BadGzipFile as error:
            if str(error).startswith("Not a gzipped file"):
                raise _followed(self._name, "gzip") from None
            raise _damaged(self._name, "gzip", error) from None
        except zlib.error as error:
            raise _damaged(self._name, "gzip", error) from None


class _Decompressor(Protocol):
    """The common interface of the decompressors of bz2, lzma and zstd."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Unpacked(io.RawIOBase):
    """The plain bytes of one or several compressed streams.

    At most the requested number of bytes is decompressed at once.
    """

    def __init__(
        self,
        name: str,
        form: str,
        stream: io.BufferedReader,
        new: Callable[[], _Decompressor],
        error: type[Exception],
    ) -> None:
        self._name = name
        self._form = form
        self._stream = stream
        self._new = new
        self._error = error
        self._unpacker = new()
        self._is_first = True
        self._has_given = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            packed = b""
            if self._unpacker.eof:
                packed = self._between_streams()
                if not packed:
                    return 0
                self._unpacker, self._is_first, self._has_given = self._new(), False, False
            elif self._unpacker.needs_input:
                packed = self._stream.read1(_PACKED_PIECE)
                if not packed:
                    raise self._follows() or _ends_early(self._name, self._form)
            plain = self._unpack(packed, len(buffer))
            if plain:
                self._has_given = True
                buffer[: len(plain)] = plain
                return len(plain)

    def _between_streams(self) -> bytes:
        packed = self._unpacker.unused_data or self._stream.read1(_PACKED_PIECE)
        while self._form == "xz" and packed and not packed.strip(b"\0"):  # zeros are allowed between and after streams
            packed = self._stream.read1(_PACKED_PIECE)
        return packed.lstrip(b"\0") if self._form == "xz" else packed

    def _unpack(self, packed: bytes, size: int) -> bytes:
        try:
            return self._unpacker.decompress(packed, size)
        except (self._error, EOFError) as error:
            raise self._follows() or _damaged(self._name, self._form, error) from None

    def _follows(self) -> DataError | None:
        """Returns an error if bytes that are not another stream follow a complete stream."""
        return None if self._is_first or self._has_given else _followed(self._name, self._form)
