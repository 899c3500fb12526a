"""From text files, one passage a line, to shuffled piece ids on disk, and from those to batches.

In: `*.txt` or `*.txt.xz` and the teacher's vocabulary. Out: `ids.npy` (uint16, all passages end to end) and `offsets.npy`
(int64), then batches of about equal numbers of tokens, each of passages of like length.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textclf.data.tokens.wordpiece import Tokenizer

CLASSIFICATION, SEPARATOR = 101, 102
# Lines are tokenised in blocks so that memory stays small beside the corpus.
_BLOCK = 20_000


@dataclass(frozen=True)
class Batch:
    """int64 [rows, length] each; mask is 1 for a token and 0 for padding."""

    ids: np.ndarray
    mask: np.ndarray
    segments: np.ndarray


@dataclass(frozen=True)
class Corpus:
    """Passages as piece ids without [CLS] and [SEP]; passage i is ids[offsets[i] : offsets[i + 1]]."""

    ids: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def passage(self, index: int) -> np.ndarray:
        return self.ids[self.offsets[index] : self.offsets[index + 1]].astype(np.int64)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


def read_lines(files: Sequence[Path]) -> Iterator[str]:
    """Lines that hold a letter, each text once whatever its case."""
    seen: set[int] = set()
    for file in files:
        opener = lzma.open if file.suffix == ".xz" else open
        with opener(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                text = line.strip()
                key = hash(text.lower())
                if key not in seen and any(character.isalpha() for character in text):
                    seen.add(key)
                    yield text


def prepare(files: Sequence[Path], vocabulary: Sequence[str], folder: Path, max_pieces: int, seed: int) -> Corpus:
    """Tokenises, cuts at `max_pieces`, drops passages of fewer than two pieces, shuffles and writes; returns the corpus."""
    tokenizer = Tokenizer(vocabulary, "device")
    passages: list[np.ndarray] = []
    block: list[str] = []

    def flush() -> None:
        for pieces in tokenizer.pieces(block):
            if len(pieces) > 1:
                passages.append(np.array(pieces[:max_pieces], np.uint16))
        block.clear()

    for text in read_lines(files):
        block.append(text)
        if len(block) == _BLOCK:
            flush()
    flush()
    order = np.random.default_rng(seed).permutation(len(passages))
    ids = np.concatenate([passages[index] for index in order])
    offsets = np.concatenate([[0], np.cumsum([len(passages[index]) for index in order])])
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "ids.npy", ids)
    np.save(folder / "offsets.npy", offsets)
    return Corpus(ids, offsets)


def load(folder: Path) -> Corpus:
    return Corpus(np.load(folder / "ids.npy", mmap_mode="r"), np.load(folder / "offsets.npy"))


@dataclass(frozen=True)
class Mixture:
    """How passages become batches.

    `tokens`: about how many real and padding tokens a batch has; `longest`: tokens a row at most, [CLS] and [SEP] included;
    `keep_long`: the share of passages kept that `short` tokens cannot hold, cut to `longest` (the others are left out);
    `pairs`: the share of batches whose rows are two texts, the second a damaged copy of the first or another passage.
    """

    tokens: int = 1024
    short: int = 64
    longest: int = 128
    keep_long: float = 0.25
    pairs: float = 0.08


def batches(corpus: Corpus, mixture: Mixture, seed: int, epoch: int) -> Iterator[Batch]:
    """One pass over the corpus in an order that `seed` and `epoch` decide; rows of a batch are of like length."""
    rng = np.random.default_rng([seed, epoch])
    lengths = corpus.lengths
    kept = np.flatnonzero((lengths <= mixture.short - 2) | (rng.random(len(lengths)) < mixture.keep_long))
    kept = rng.permutation(kept)
    # Sorting within pools of this many passages keeps batches both alike in length and mixed in content.
    pool_size = 8192
    for start in range(0, len(kept), pool_size):
        pool = kept[start : start + pool_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        groups = list(_groups(pool, np.minimum(lengths[pool] + 2, mixture.longest), mixture.tokens))
        for group in rng.permutation(len(groups)):
            if rng.random() < mixture.pairs:
                yield _pair_batch(corpus, groups[group], mixture, rng)
            else:
                yield single_batch(corpus, groups[group], mixture.longest)


def _groups(pool: np.ndarray, lengths: np.ndarray, tokens: int) -> Iterator[np.ndarray]:
    start = 0
    while start < len(pool):
        # Sorted ascending: the last row decides the length, so the group grows while rows × that length stays in bounds.
        end = start + 1
        while end < len(pool) and (end + 1 - start) * _rounded(lengths[end]) <= tokens:
            end += 1
        yield pool[start:end]
        start = end


def _rounded(length: int) -> int:
    return -(-int(length) // 8) * 8


def single_batch(corpus: Corpus, passages: Sequence[int] | np.ndarray, longest: int) -> Batch:
    """[CLS] passage [SEP] a row."""
    return _padded([[corpus.passage(index)[: longest - 2]] for index in passages])


def _pair_batch(corpus: Corpus, passages: np.ndarray, mixture: Mixture, rng: np.random.Generator) -> Batch:
    room = (mixture.longest - 3) // 2
    rows = []
    for index in passages[: max(1, len(passages) // 2)]:
        first = corpus.passage(index)[:room]
        other = corpus.passage(int(rng.choice(passages)))[:room]
        second = _damaged(first, rng) if rng.random() < 0.5 else other
        rows.append([first, second] if rng.random() < 0.5 else [second, first])
    return _padded(rows)


def _damaged(pieces: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The passage with about a seventh of its pieces dropped and its halves exchanged half the time."""
    kept = pieces[rng.random(len(pieces)) > 0.15]
    if rng.random() < 0.5:
        kept = np.roll(kept, len(kept) // 2)
    return kept if len(kept) else pieces


def _padded(rows: Sequence[Sequence[np.ndarray]]) -> Batch:
    """Rows of one or two texts → arrays; the length is a multiple of 8, so that few shapes occur."""
    length = _rounded(max(sum(len(text) + 1 for text in row) + 1 for row in rows))
    ids, mask, segments = (np.zeros((len(rows), length), np.int64) for _ in range(3))
    for number, row in enumerate(rows):
        at = 1
        ids[number, 0] = CLASSIFICATION
        for segment, text in enumerate(row):
            ids[number, at : at + len(text)] = text
            ids[number, at + len(text)] = SEPARATOR
            segments[number, at : at + len(text) + 1] = segment
            at += len(text) + 1
        mask[number, :at] = 1
    return Batch(ids, mask, segments)
