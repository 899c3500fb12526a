"""Unpacks archives of encoders: tar (plain, gzip, bzip2, xz) and zip. The format is detected from the content.

Takes an untrusted archive and an empty folder, and writes the files into that folder only, with bounded size and
number. An archive beyond these bounds is refused with the name of the entry.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from textclf.errors import EncoderError

# The largest encoders that exist, with optimiser slots and in three copies, stay under half of this.
LARGEST_CONTENT = 4 * 2**30

MOST_ENTRIES = 10_000

_CHUNK = 2**20

# Compression hardly reduces weights. A file that expands a hundred times was made to fill a disk.
_MOST_TIMES_LARGER = 100

_LEAST_CONTENT = 64 * 2**20

# The list of entries at the end of a zip archive, which `zipfile` reads at once.
_LARGEST_ENTRY_LIST = 4 * 2**20

_LONGEST_NAME = 200

_LONGEST_PATH = 1000

_SHOWN_CHARACTERS = 100

# Names of devices on Windows, in every folder and with every ending.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.IGNORECASE)

# No header of a tar archive is longer; a member's content is read in chunks.
_LARGEST_READ = 16 * 2**20

_TAR_MAGIC_OFFSET = 257

_COMPRESSIONS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}

_ZIP_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06")

# The exceptions of the libraries for damaged archives, including those for invalid numbers.
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    gzip.BadGzipFile,
    EOFError,
    ValueError,
    OverflowError,
    LookupError,
    AttributeError,
    TypeError,
    MemoryError,
    RecursionError,
    struct.error,
)


class ShortReads(io.FileIO):
    """A file that refuses the long read of `zipfile` for an enormous list of entries."""

    def read(self, size: int | None = -1) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        if (left if size is None or size < 0 else min(size, left)) > _LARGEST_ENTRY_LIST:
            raise zipfile.BadZipFile("its list of entries is longer than an encoder's")
        return super().read(size) or b""


def is_archive(file: Path) -> bool:
    """Returns whether a file begins like an archive that `extract` supports."""
    with file.open("rb") as stream:
        beginning = stream.read(_TAR_MAGIC_OFFSET + 5)
    return beginning.startswith((*_COMPRESSIONS, *_ZIP_BEGINNINGS)) or beginning[_TAR_MAGIC_OFFSET:] == b"ustar"


def extract(archive: Path, folder: Path) -> None:
    """Unpacks files and folders into `folder`, which is made, without their owners and permissions.

    Raises EncoderError for a damaged archive, for links or special files, for entries outside the folder, and for more
    than LARGEST_CONTENT bytes or MOST_ENTRIES entries.
    """
    with archive.open("rb") as stream:
        is_zip = stream.read(4) in _ZIP_BEGINNINGS
    try:
        entries = _zip_entries(archive) if is_zip else _tar_entries(archive)
        _write(entries, folder, archive)
    except EncoderError:
        raise
    except _DAMAGE as error:
        what = str(error) or type(error).__name__
        raise EncoderError(
            f"{archive}: cannot be unpacked ({what}); it is damaged or incomplete, get the archive again"
        ) from error
    except OSError as error:
        # An OSError of a decompressor for damage has no number, and a position before the start of a file is not a disk error.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise EncoderError(
            f"{archive}: cannot be unpacked ({error}); it is damaged or incomplete, get the archive again"
        ) from error
    except (NotImplementedError, RuntimeError) as error:
        raise EncoderError(f"{archive}: cannot be unpacked ({error}); pack it again without a password") from error


def _write(entries: Iterator[tuple[str, IO[bytes] | None]], folder: Path, archive: Path) -> None:
    """`entries` are names with a stream to read, or None for a folder."""
    total = 0
    most = min(LARGEST_CONTENT, max(_LEAST_CONTENT, _MOST_TIMES_LARGER * archive.stat().st_size))
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, stream) in enumerate(entries, 1):
        if number > MOST_ENTRIES:
            raise EncoderError(f"{archive}: holds more than {MOST_ENTRIES:,} entries; this is not an encoder")
        target = folder / _safe_path(name, archive)
        try:
            (target.parent if stream else target).mkdir(parents=True, exist_ok=True)
            output = target.open("xb") if stream else None
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            called = _shown(str(target.relative_to(folder)))
            raise EncoderError(f"{archive}: two entries are called {called}; pack it again") from error
        if stream is None or output is None:
            continue
        with output:
            while chunk := stream.read(_CHUNK):
                total += len(chunk)
                if total > most:
                    raise _too_large(archive, most)
                output.write(chunk)


def _safe_path(name: str, archive: Path) -> PurePosixPath:
    """Returns an entry's name as a path below the folder; back-slashes, drives and devices count as they do on Windows."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name or (path.parts and ":" in path.parts[0]):
        raise EncoderError(
            f"{archive}: its entry {_shown(name)} leads out of the folder; nothing was kept of this archive"
        )
    for part in path.parts:
        if not part.isprintable() or ":" in part or part[-1] in ". " or _DEVICES.fullmatch(part):
            raise EncoderError(
                f"{archive}: its entry {_shown(name)} has a name that not every system can hold; pack it again under"
                " another name"
            )
    if len(str(path)) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in path.parts):
        raise EncoderError(
            f"{archive}: the name of its entry {_shown(name)} is too long; pack it again under another name"
        )
    return path


def _shown(name: str) -> str:
    return repr(name if len(name) <= _SHOWN_CHARACTERS else name[:_SHOWN_CHARACTERS] + "…")


def _too_large(archive: Path, most: int | None = None) -> EncoderError:
    return EncoderError(
        f"{archive}: unpacks to more than {LARGEST_CONTENT if most is None else most:,} bytes; this is not an encoder"
    )


def _not_a_file(name: str, archive: Path) -> EncoderError:
    return EncoderError(
        f"{archive}: its entry {_shown(name)} is a link or a special file; pack the files themselves (tar --dereference)"
    )


def _zip_entries(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with ShortReads(archive) as file, zipfile.ZipFile(cast(IO[bytes], file)) as content:
        for entry in content.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _not_a_file(entry.filename, archive)
            if entry.is_dir():
                yield entry.filename, None
            else:
                with content.open(entry) as stream:
                    yield entry.filename, stream


def _tar_entries(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with _decompressed(archive) as stream:
        bounded = _Bounded(stream, archive)
        with tarfile.open(fileobj=bounded, mode="r:") as content:  # type: ignore[call-overload]
            for entry in content:
                if entry.isdir():
                    yield entry.name, None
                elif entry.isreg():
                    yield entry.name, content.extractfile(entry)
                else:
                    raise _not_a_file(entry.name, archive)
        # `tarfile` treats a damaged header as the end, and stops before the checksum of the compression.
        if bounded.last.strip(b"\0"):
            raise tarfile.ReadError("damaged header")
        while bounded.read(_CHUNK):
            pass


@contextmanager
def _decompressed(archive: Path) -> Iterator[IO[bytes]]:
    with archive.open("rb") as stream:
        beginning = stream.read(8)
    opener = next((o for magic, o in _COMPRESSIONS.items() if beginning.startswith(magic)), open)
    with opener(archive, "rb") as stream:
        yield stream


class _Bounded:
    """A stream that stops decompression bombs early: it ends at the largest content and never reads a huge header at
    once."""

    def __init__(self, stream: IO[bytes], archive: Path) -> None:
        self._stream = stream
        self._archive = archive
        # In addition to the contents there are headers, padded to blocks of 512 bytes, several per entry.
        self._end = LARGEST_CONTENT + MOST_ENTRIES * 4096
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _LARGEST_READ or self._stream.tell() + size > self._end:
            raise _too_large(self._archive)
        self.last = self._stream.read(size)
        return self.last

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence != 0 or offset > self._end:
            raise _too_large(self._archive)
        return self._stream.seek(offset)

    def tell(self) -> int:
        return self._stream.tell()
