"""From text files, one passage a line, to shuffled token ids on disk.

Takes `*.txt` or `*.txt.xz` and a vocabulary. Writes `ids.npy` (uint16, all passages end to end, not truncated),
`offsets.npy` (int64) and `origin.json`, which names what they were made from.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from textclf.data.tokens.vocabulary import vocabulary_hash
from textclf.data.tokens.wordpiece import Tokenizer
from textclf.errors import DataError, RunError
from textclf.files.writing import write_text

# Lines are tokenised in blocks so that memory stays small beside the corpus.
_BLOCK = 20_000
_ORIGIN = "origin.json"


@dataclass(frozen=True)
class Corpus:
    """Passages as token ids without [CLS] and [SEP]; passage i is ids[offsets[i] : offsets[i + 1]]."""

    ids: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def starts(self) -> np.ndarray:
        return self.offsets[:-1]

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


def prepared(texts: Path, name: str, vocabulary: Sequence[str], folder: Path, seed: int) -> Corpus:
    """Returns the passages of the files `NAME-*.txt`, `NAME.txt` and the same with `.xz` in `texts`.

    They are tokenised into `folder` unless that was done before. Raises DataError if there is no passage, and RunError
    if `folder` was made from other files.
    """
    files = sorted(file for pattern in (f"{name}-*.txt*", f"{name}.txt*") for file in texts.glob(pattern))
    if not files:
        raise DataError(f"{texts}: contains no {name}*.txt or {name}*.txt.xz; expected one passage per line")
    origin = {
        "files": {file.name: file.stat().st_size for file in files},
        "vocabulary": vocabulary_hash(vocabulary),
        "seed": seed,
    }
    if not (folder / _ORIGIN).exists():
        _prepare(files, vocabulary, folder, seed)
        write_text(folder / _ORIGIN, json.dumps(origin, indent=2) + "\n")
    found = json.loads((folder / _ORIGIN).read_text(encoding="utf-8"))
    if found != origin:
        raise RunError(
            f"{folder}: was made from {_shown(found)}, not from {_shown(origin)}; choose another --run folder"
        )
    return Corpus(np.load(folder / "ids.npy"), np.load(folder / "offsets.npy"))


def _shown(origin: dict[str, Any]) -> str:
    files = ", ".join(f"{name} ({size:,} bytes)" for name, size in origin["files"].items())
    return f"{files} with the vocabulary {origin['vocabulary'][:8]} and seed {origin['seed']}"


def _prepare(files: Sequence[Path], vocabulary: Sequence[str], folder: Path, seed: int) -> None:
    """Tokenises, leaves out passages of fewer than two tokens, shuffles and writes."""
    tokenizer = Tokenizer(vocabulary, "device")
    passages: list[np.ndarray] = []
    for block in _blocks(_read_lines(files)):
        passages += [np.array(pieces, np.uint16) for pieces in tokenizer.pieces(block) if len(pieces) > 1]
    if not passages:
        raise DataError(f"{', '.join(map(str, files))}: no line has two tokens; expected one passage per line")
    order = np.random.default_rng(seed).permutation(len(passages))
    ids = np.concatenate([passages[index] for index in order])
    offsets = np.concatenate([[0], np.cumsum([len(passages[index]) for index in order])])
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "ids.npy", ids)
    np.save(folder / "offsets.npy", offsets)


def _blocks(lines: Iterator[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in lines:
        block.append(line)
        if len(block) == _BLOCK:
            yield block
            block = []
    yield block


def _read_lines(files: Sequence[Path]) -> Iterator[str]:
    """Lines that contain a letter, each text once whatever its case."""
    seen: set[int] = set()
    for text in read_passages(files):
        key = hash(text.lower())
        if key not in seen and any(character.isalpha() for character in text):
            seen.add(key)
            yield text


def read_passages(files: Sequence[Path]) -> Iterator[str]:
    """The lines of `.txt` and `.txt.xz` files, in their order. Raises DataError for a file that cannot be read."""
    for file in files:
        opener = lzma.open if file.suffix == ".xz" else open
        try:
            with opener(file, "rt", encoding="utf-8") as lines:
                for line in lines:
                    yield line.strip()
        except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
            raise DataError(f"{file}: cannot be read ({error}); expected UTF-8 text, or the same as .xz") from error
