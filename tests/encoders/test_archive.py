"""Archives that nobody vouches for: an encoder comes out of them, and nothing else ever does."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mutations import mutated
from textclf.encoders.sources import archive as module
from textclf.encoders.sources.archive import extract, is_archive
from textclf.errors import EncoderError

FILES = {"encoder/config.json": b"{}", "encoder/variables/data": bytes(range(256)) * 5000, "vocab.txt": b""}


def write_tar(file: Path, entries: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(file, mode) as archive:
        for name, content in entries.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o777
            archive.addfile(info, io.BytesIO(content))
    return file


def write_zip(file: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file


def link(name: str, kind: bytes, target: str) -> dict[str, tarfile.TarInfo]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return {name: info}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w:"])
def test_a_tar_archive_is_known_by_its_content_and_unpacked(mode: str, tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "name without suffix", FILES, mode)
    assert is_archive(archive)
    extract(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_zip_archive_is_known_by_its_content_and_unpacked(compression: int, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "archive.tar.gz", {"encoder/": b"", **FILES}, compression)
    assert is_archive(archive)
    extract(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x80\x02", b"{}", b"x" * 1000])
def test_other_files_are_no_archives(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.zip").write_bytes(content)
    assert not is_archive(tmp_path / "file.zip")


OUTSIDE = ["../evil", "/tmp/evil", "a/../../evil", "..\\evil", "C:\\evil", "C:evil", "//host/evil", "a/b/../../../evil"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_an_entry_that_leads_out_of_the_folder_is_refused(
    write: Callable[..., Path], name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "out"
    archive = write(tmp_path / "archive", {name: b"evil"})
    with pytest.raises(EncoderError, match=r"its entry .* leads out of the folder; nothing was kept"):
        extract(archive, folder)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["archive", "deep", "deep/out"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_links_and_devices_in_a_tar_archive_are_refused(kind: bytes, tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "archive", {**link("encoder", kind, "/etc"), "encoder/passwd": b"evil"})
    with pytest.raises(EncoderError, match=r"'encoder' is a link or a special file; .* \(tar --dereference\)"):
        extract(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_links_in_a_zip_archive_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        info = zipfile.ZipInfo("encoder")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc")
    with pytest.raises(EncoderError, match="'encoder' is a link or a special file"):
        extract(tmp_path / "archive", tmp_path / "out")


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_a_bomb_is_stopped_while_it_expands(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_CONTENT", 3_000_000)
    archive = write(tmp_path / "archive", {f"{number}": bytes(900_000) for number in range(10)})
    assert archive.stat().st_size < 30_000
    with pytest.raises(EncoderError, match="unpacks to more than 3,000,000 bytes"):
        extract(archive, tmp_path / "out")
    assert sum(map(len, contents(tmp_path / "out").values())) <= 3_000_000


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_too_many_entries_are_refused(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ENTRIES", 20)
    archive = write(tmp_path / "archive", {f"{number}": b"" for number in range(21)})
    with pytest.raises(EncoderError, match="holds more than 20 entries"):
        extract(archive, tmp_path / "out")


def test_a_zip_entry_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "archive", {"a": bytes(1_000_000)})
    content = archive.read_bytes().replace(struct.pack("<I", 1_000_000), struct.pack("<I", 1000))
    archive.write_bytes(content)
    with pytest.raises(EncoderError, match="cannot be unpacked"):
        extract(archive, tmp_path / "out")


def test_a_huge_header_is_not_read_into_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2**31
    with gzip.open(tmp_path / "archive", "wb", compresslevel=1) as stream:
        stream.write(header.tobuf(tarfile.GNU_FORMAT))
        stream.write(bytes(2**20))
    with pytest.raises(EncoderError, match="unpacks to more than"):
        extract(tmp_path / "archive", tmp_path / "out")


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_archive_is_refused(write: Callable[..., Path], share: float, tmp_path: Path) -> None:
    archive = write(tmp_path / "archive", FILES)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(EncoderError, match=r"archive: cannot be unpacked .* get the archive again"):
        extract(archive, tmp_path / "out")


def test_damage_inside_a_compressed_archive_is_noticed(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "archive", FILES)
    content = bytearray(archive.read_bytes())
    for place in range(200, len(content), 97):
        content[place] ^= 0x55
    archive.write_bytes(content)
    with pytest.raises(EncoderError, match="cannot be unpacked"):
        extract(archive, tmp_path / "out")


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "archive", {"first": b"1" * 512, "second": b"2"}, "w:")
    content = bytearray(archive.read_bytes())
    content[1024 + 150] ^= 1
    archive.write_bytes(content)
    with pytest.raises(EncoderError, match="cannot be unpacked"):
        extract(archive, tmp_path / "out")


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    # Not ASCII, so that it is written as an extended header, which may hold a zero byte.
    archive = write_tar(tmp_path / "archive", {"ä\0b": b"1"})
    with pytest.raises(EncoderError, match="leads out of the folder"):
        extract(archive, tmp_path / "out")


def test_an_archive_with_a_password_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "archive", {"a": b"secret"})
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    archive.write_bytes(content)
    with pytest.raises(EncoderError, match="without a password"):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_two_entries_of_one_name_are_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    archive = write(tmp_path / "archive", {"a": b"1", "./a": b"2"})
    with pytest.raises(EncoderError, match="two entries are called 'a'"):
        extract(archive, tmp_path / "out")


def test_permissions_and_owners_are_not_taken_over(tmp_path: Path) -> None:
    extract(write_tar(tmp_path / "archive", {"a": b""}), tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out" / "a").stat().st_mode) & 0o111 == 0


@pytest.mark.parametrize("name", ["a/CON", "nul.txt", "com1", "a/file.", "a/file ", "a/b:stream", "a\nb", "a/\x1b[2J"])
def test_a_name_that_not_every_system_can_hold_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="has a name that not every system can hold; pack it again") as caught:
        extract(write_zip(tmp_path / "archive", {name: b"x"}), tmp_path / "out")
    assert str(caught.value).isprintable()


def test_a_name_that_is_too_long_is_refused_and_shown_in_part(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"the name of its entry 'aaa.*…' is too long") as caught:
        extract(write_zip(tmp_path / "archive", {"a" * 5000: b"x"}), tmp_path / "out")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_an_archive_that_grows_a_hundred_times_is_given_up_early(write: Callable[..., Path], tmp_path: Path) -> None:
    archive = write(tmp_path / "archive", {"zeros": bytes(70 * 2**20)})
    with pytest.raises(EncoderError, match="unpacks to more than 67,108,864 bytes; this is not an encoder"):
        extract(archive, tmp_path / "out")


def test_a_zip_archive_with_a_list_longer_than_an_encoders_is_not_listed(tmp_path: Path) -> None:
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    listed = entry * 100_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(listed), 4, 0)
    (tmp_path / "archive").write_bytes(b"PK\x03\x04" + listed + end)
    with pytest.raises(EncoderError, match="its list of entries is longer than an encoder's"):
        extract(tmp_path / "archive", tmp_path / "out")


def test_a_tar_archive_of_nothing_but_headers_for_the_next_header_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 0
    (tmp_path / "archive").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) * 5000)
    with pytest.raises(EncoderError, match="cannot be unpacked"):
        extract(tmp_path / "archive", tmp_path / "out")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w:", "zip"])
def test_an_archive_damaged_anywhere_is_unpacked_or_refused_in_one_line(mode: str, tmp_path: Path) -> None:
    files = {"encoder/config.json": b"{}", "encoder/weights": bytes(range(256)) * 8}
    archive = write_zip(tmp_path / "archive", files) if mode == "zip" else write_tar(tmp_path / "archive", files, mode)
    whole = archive.read_bytes()
    messages = []
    for seed in range(150):
        archive.write_bytes(mutated(whole, seed))
        try:
            extract(archive, tmp_path / str(seed))
        except EncoderError as error:
            messages.append(str(error))
    assert messages
    assert [message for message in messages if "\n" in message or str(archive) not in message] == []
