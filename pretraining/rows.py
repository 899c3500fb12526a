"""From passages to batches of rows: NumPy plans the rows of an epoch, the device makes the token ids.

A planned row is five numbers: start and size of its text in the corpus, start and size of a second text (size 0 if there
is none), and whether the two are a pair with [SEP] in between (1) or the second continues the first (0).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pretraining.corpus import Corpus
from pretraining.settings import Mixture

CLASSIFICATION, SEPARATOR = 101, 102
LEFT_OUT = 0.15
"""The fraction of tokens left out in a batch with holes."""


@dataclass(frozen=True)
class PlannedBatch:
    """`rows` int64 [rows, 5]; `holes` is whether tokens are left out."""

    length: int
    rows: np.ndarray
    holes: bool

    @property
    def tokens(self) -> int:
        """Without padding, and before any are left out."""
        return int((2 + self.rows[:, 1] + self.rows[:, 3] + self.rows[:, 4]).sum())


@dataclass(frozen=True)
class Texts:
    """[rows, length] each, on the device: ids and segments int64, mask boolean and true for tokens."""

    ids: Tensor
    mask: Tensor
    segments: Tensor

    @property
    def length(self) -> int:
        return self.ids.shape[1]

    @property
    def present(self) -> Tensor:
        """Boolean [rows · length]: which rows of flat states are tokens."""
        return self.mask.flatten()


def plan_epoch(corpus: Corpus, mixture: Mixture, seed: int, epoch: int) -> list[PlannedBatch]:
    """Every passage is the first text of one row. Only the rows that fill up the last batch repeat passages.

    The batches of a length that are not full are completed with the rows of the next length.
    """
    rng = np.random.default_rng([seed, epoch])
    rows = _rows(corpus, mixture, rng)
    total = 2 + rows[:, 1] + rows[:, 3] + rows[:, 4]
    bucket = np.searchsorted(mixture.lengths, total)
    planned, waiting = [], np.empty(0, np.int64)
    for number, length in enumerate(mixture.lengths):
        waiting = rng.permutation(np.concatenate([waiting, np.flatnonzero(bucket == number)]))
        size = mixture.tokens // length
        if length == mixture.longest and len(waiting) % size:
            waiting = np.concatenate([waiting, rng.integers(0, len(rows), size - len(waiting) % size)])
        full = len(waiting) - len(waiting) % size
        planned += [(length, rows[chosen]) for chosen in waiting[:full].reshape(-1, size)]
        waiting = waiting[full:]
    holes = rng.random(len(planned)) < mixture.holes
    return [PlannedBatch(*planned[index], bool(holes[index])) for index in rng.permutation(len(planned))]


def _rows(corpus: Corpus, mixture: Mixture, rng: np.random.Generator) -> np.ndarray:
    lengths, count = corpus.lengths, len(corpus)
    start, size = _spans(corpus, np.arange(count), mixture.longest - 2, mixture, mixture.crops, rng)
    second = rng.random(count) < mixture.second_texts
    runs_on = ~second & (rng.random(count) < mixture.run_on)
    start = np.where(runs_on, corpus.starts, start)
    room = np.minimum(mixture.longest - 2, len(corpus.ids) - start)
    size = np.where(runs_on, rng.integers(np.minimum(size, room), room + 1), size)

    # Two of three second texts make a pair; half of the pairs are two parts of one passage.
    pair = second & (rng.random(count) < 2 / 3)
    same = pair & (rng.random(count) < 0.5) & (lengths > 8)
    other = np.where(same, np.arange(count), rng.integers(0, count, count))
    room_each = (mixture.longest - 3) // 2
    size = np.where(second, np.minimum(size, room_each), size)
    start_2, size_2 = _spans(corpus, other, room_each, mixture, 0.5, rng)
    return np.stack([start, size, np.where(second, start_2, 0), np.where(second, size_2, 0), pair], 1).astype(np.int64)


def _spans(
    corpus: Corpus, chosen: np.ndarray, longest: int, mixture: Mixture, crops: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns start and size of a part of each chosen passage: all of it, or a shorter part of a random length."""
    whole = corpus.lengths[chosen]
    limit = np.minimum(whole, longest)
    long = whole > mixture.short
    shortened = rng.random(len(whole)) < np.where(long, 0.5, crops)
    least = np.minimum(np.where(long, 20, np.maximum(2, limit // 2)), limit)
    size = np.where(shortened, rng.integers(least, limit + 1), limit)
    # Half of the parts are the beginning, where sentences start.
    offset = np.where(rng.random(len(whole)) < 0.5, 0, rng.integers(0, whole - size + 1))
    return corpus.starts[chosen] + offset, size


def held_out_batches(corpus: Corpus, mixture: Mixture, count: int, seed: int) -> list[PlannedBatch]:
    """Batches of a quarter, a half and the whole of the longest length in turn, of whole passages that need this length.

    Passages are drawn with repetition. All are drawn from if none is that long.
    """
    rng = np.random.default_rng(seed)
    planned = []
    for number in range(count):
        length = mixture.longest // (4, 2, 1)[number % 3]
        fitting = np.flatnonzero(corpus.lengths > length // 2 - 2)
        fitting = fitting if len(fitting) else np.arange(len(corpus))
        chosen = fitting[rng.integers(0, len(fitting), mixture.tokens // length)]
        size = np.minimum(corpus.lengths[chosen], length - 2)
        nothing = np.zeros_like(size)
        planned.append(
            PlannedBatch(length, np.stack([corpus.starts[chosen], size, nothing, nothing, nothing], 1), False)
        )
    return planned


def make_texts(ids: Tensor, batch: PlannedBatch, generator: torch.Generator | None = None) -> Texts:
    """`ids` int32 [corpus] on the device that makes the rows. Left-out tokens are drawn from the generator, which is on the
    same device."""
    rows, length = torch.from_numpy(batch.rows).to(ids.device), batch.length
    start, size, start_2, size_2, pair = (rows[:, number, None] for number in range(5))
    place = torch.arange(length, device=ids.device)[None] - 1
    place_2 = place - size - pair
    end = size + pair + size_2
    in_first = (place >= 0) & (place < size)
    in_second = (place_2 >= 0) & (place_2 < size_2)
    index = torch.where(in_first, start + place, torch.where(in_second, start_2 + place_2, 0))
    made = torch.where(in_first | in_second, ids[index].long(), 0)
    made = torch.where((place == end) | ((pair > 0) & (place == size)), SEPARATOR, made)
    made[:, 0] = CLASSIFICATION
    mask = place <= end
    segments = (mask & (pair > 0) & (place > size)).long()
    return _with_holes(Texts(made, mask, segments), generator) if batch.holes else Texts(made, mask, segments)


def _with_holes(texts: Texts, generator: torch.Generator | None) -> Texts:
    """Leaves tokens out and moves the others together; [CLS] and [SEP] stay."""
    drawn = torch.rand(texts.ids.shape, device=texts.ids.device, generator=generator)
    kept = texts.mask & ((drawn >= LEFT_OUT) | (texts.ids == CLASSIFICATION) | (texts.ids == SEPARATOR))
    order = torch.argsort((~kept).to(torch.int8), dim=1, stable=True)
    ids, mask, segments = (part.gather(1, order) for part in (texts.ids, kept, texts.segments))
    return Texts(ids * mask, mask, segments * mask)


class BatchStream:
    """The batches of a run from (epoch, batch) on, without end. Each batch depends only on seed, epoch and its number.

    The next epoch is planned in a thread meanwhile. `epoch` and `batch` are where the stream will continue.
    """

    def __init__(
        self, corpus: Corpus, mixture: Mixture, seed: int, device: torch.device, epoch: int = 0, batch: int = 0
    ) -> None:
        self.corpus, self.mixture, self.seed = corpus, mixture, seed
        self.epoch, self.batch = epoch, batch
        self.ids = torch.from_numpy(corpus.ids.astype(np.int32)).to(device)

    def __iter__(self) -> Iterator[tuple[PlannedBatch, Texts]]:
        generator = torch.Generator(self.ids.device)
        with ThreadPoolExecutor(1) as pool:
            planned = pool.submit(plan_epoch, self.corpus, self.mixture, self.seed, self.epoch)
            while True:
                batches = planned.result()
                planned = pool.submit(plan_epoch, self.corpus, self.mixture, self.seed, self.epoch + 1)
                for number in range(self.batch, len(batches)):
                    self.batch = number + 1
                    generator.manual_seed(_seed_of(self.seed, self.epoch, number))
                    yield batches[number], make_texts(self.ids, batches[number], generator)
                self.epoch, self.batch = self.epoch + 1, 0


def _seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])
