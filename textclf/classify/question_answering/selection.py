"""Chooses answers from logits: as `run_squad.py` does on windows, or as the Task Library's BertQuestionAnswerer on a phone.

Takes start and end logits of each token and returns spans of the context with scores.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textclf.data.tokens.encoded import Encoded
from textclf.data.tokens.spans import MAX_LENGTH, QUESTION_LENGTH, SEPARATORS, WindowPositions, Windows
from textclf.data.tokens.wordpiece import Tokenizer

N_BEST, LONGEST = 20, 30
"""The numbers of candidates and of tokens in an answer of `run_squad.py`."""

_PHONE_BEST, _PHONE_LONGEST = 5, 32

# Windows whose logits are sorted at a time. This bounds the memory.
_SORTED = 1024


@dataclass(frozen=True)
class Candidate:
    """A possible answer: its text, its characters [start, end) in the context, and start logit + end logit."""

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Selected:
    """The answers to one question, best first. `null_score` is the score of "no answer": the smallest of all windows."""

    best: Candidate | None
    null_score: float
    candidates: list[Candidate]

    @property
    def null_margin(self) -> float:
        """How much better "no answer" is than the best answer; infinite if there is none."""
        return math.inf if self.best is None else self.null_score - self.best.score

    def answer(self, bound: float = math.inf) -> Candidate | None:
        """Returns the best answer, or None if "no answer" is better by more than `bound`."""
        return None if self.null_margin > bound else self.best


def select_answers(
    windows: Windows, logits: np.ndarray, contexts: Sequence[str], *, n_best: int = N_BEST, longest: int = LONGEST
) -> list[Selected]:
    """Returns the answers to each question, by the rules of `run_squad.py` (`write_predictions`).

    `logits` are float [windows, length, 2]: start and end of each position; positions beyond a window's tokens must be low.
    `contexts` has the text of each question's context. In each window, the `n_best` starts are combined with the `n_best`
    ends: both in the context, the start in the window that is its maximum context, at most `longest` tokens. Of equal
    texts the best one counts. Raises ValueError for other shapes.
    """
    _check_shapes(windows, logits, contexts)
    best_positions = _best_positions(logits, n_best)
    selected = []
    for row, context in enumerate(contexts):
        own = windows.of_question(row)
        spans = [
            _spans_of_window(positions, best_positions[window], logits[window], longest)
            for window, positions in zip(own, windows.positions_of_question(row), strict=True)
        ]
        nulls = logits[own.start : own.stop, 0].astype(np.float64).sum(axis=1)
        candidates = _candidates(windows, row, context, np.concatenate(spans), n_best)
        selected.append(Selected(candidates[0] if candidates else None, float(nulls.min()), candidates))
    return selected


def _check_shapes(windows: Windows, logits: np.ndarray, contexts: Sequence[str]) -> None:
    longest = int(windows.encoded.lengths.max(initial=0))
    if logits.ndim != 3 or logits.shape[0] != len(windows) or logits.shape[1] < longest or logits.shape[2] != 2:
        raise ValueError(f"logits have the shape {list(logits.shape)}, expected [{len(windows)}, {longest} or more, 2]")
    if len(contexts) != len(windows.contexts):
        raise ValueError(f"{len(contexts)} contexts for {len(windows.contexts)} questions")


def _best_positions(logits: np.ndarray, n_best: int) -> np.ndarray:
    """Returns the positions of the largest start and end logits, int [windows, n_best, 2]; of equal ones the first."""
    kept = min(n_best, logits.shape[1])
    best = np.empty((len(logits), kept, 2), np.int16)
    for begin in range(0, len(logits), _SORTED):
        best[begin : begin + _SORTED] = np.argsort(-logits[begin : begin + _SORTED], axis=1, kind="stable")[:, :kept]
    return best


def _spans_of_window(positions: WindowPositions, best: np.ndarray, logits: np.ndarray, longest: int) -> np.ndarray:
    """Returns the valid spans of one window, float64 [spans, 3]: score, first and last token of the context."""
    first, count = positions.first, len(positions.pieces)
    starts, ends = (column[(column >= first) & (column < first + count)].astype(np.int64) for column in best.T)
    starts = starts[positions.is_maximum[starts - first]]
    sizes = ends - starts[:, None] + 1
    chosen_start, chosen_end = np.nonzero((sizes >= 1) & (sizes <= longest))
    start, end = starts[chosen_start], ends[chosen_end]
    score = logits[start, 0].astype(np.float64) + logits[end, 1]
    shift = positions.pieces.start - first
    return np.stack([score, start + shift, end + shift], axis=1)


def _candidates(windows: Windows, row: int, context: str, spans: np.ndarray, n_best: int) -> list[Candidate]:
    pieces = windows.contexts[row]
    found: dict[str, Candidate] = {}
    for place in np.argsort(-spans[:, 0], kind="stable"):
        score, first, last = spans[place].tolist()
        start, end = int(pieces.starts[int(first)]), int(pieces.ends[int(last)])
        found.setdefault(context[start:end], Candidate(context[start:end], start, end, score))
        if len(found) == n_best:
            break
    return list(found.values())


# --- As a phone answers ----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Words:
    """The words of a context between spaces, with the word of each token."""

    starts: list[int]
    ends: list[int]
    ids: list[int]
    word_of_piece: list[int]


@dataclass(frozen=True, eq=False)
class PhoneWindows:
    """What a phone reads of each question and its context: one window each, and nothing beyond it.

    `encoded` has one row per question; `truncated` says whether some of its context is beyond the window.
    """

    encoded: Encoded
    question_lengths: np.ndarray  # int32 [questions]
    words: list[_Words]


def phone_windows(
    tokenizer: Tokenizer,
    questions: Sequence[str],
    contexts: Sequence[str],
    *,
    max_length: int = MAX_LENGTH,
    question_length: int = QUESTION_LENGTH,
) -> PhoneWindows:
    """Returns the inputs that BertQuestionAnswerer makes (tflite-support, `bert_question_answerer.cc`, `Preprocess`).

    The context is split at the space character alone, and each word becomes tokens of its own. `tokenizer` is of the kind
    `device`; raises ValueError for another.
    """
    if tokenizer.kind != "device":
        raise ValueError(f"a phone's tokenizer is of the kind device, not {tokenizer.kind}")
    known: dict[str, _Words] = {}
    words = [known[one] if one in known else known.setdefault(one, _words_of(tokenizer, one)) for one in contexts]
    heads = [ids[:question_length] for ids in tokenizer.pieces(questions)]
    rows, is_cut = [], []
    for head, own in zip(heads, words, strict=True):
        room = max_length - SEPARATORS - len(head)
        rows.append(
            [tokenizer.classification_id, *head, tokenizer.separator_id, *own.ids[:room], tokenizer.separator_id]
        )
        is_cut.append(len(own.ids) > room)
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    flat = np.array([token for row in rows for token in row], np.int32)
    lengths = np.array([len(head) for head in heads], np.int32)
    return PhoneWindows(Encoded(flat, offsets, lengths + 2, np.array(is_cut, bool), tokenizer.pad_id), lengths, words)


def _words_of(tokenizer: Tokenizer, context: str) -> _Words:
    spans = [match.span() for match in re.finditer("[^ ]+", context)]
    pieces = tokenizer.pieces([context[start:end] for start, end in spans])
    return _Words(
        [start for start, _ in spans],
        [end for _, end in spans],
        [token for ids in pieces for token in ids],
        [word for word, ids in enumerate(pieces) for _ in ids],
    )


def phone_answer(windows: PhoneWindows, row: int, logits: np.ndarray, context: str) -> list[Candidate]:
    """Returns the answers of BertQuestionAnswerer to one question, best first, at most 5; perhaps none.

    `logits` are float32 [length, 2]: the start and end logits of the file for this question, at its full length. Of the 5
    largest starts and ends (padding and question included), each pair counts whose tokens are both in the context, in
    order and at most 32 apart. An answer is whole words, joined by one space; `start` and `end` are where they are in
    `context` (`Postprocess` of the same file).
    """
    own, first = windows.words[row], int(windows.question_lengths[row]) + 2
    end_of_context = int(windows.encoded.lengths[row]) - 1
    starts, ends = (np.argsort(-column, kind="stable")[:_PHONE_BEST].tolist() for column in logits.T)
    pairs = [
        (start, end, float(logits[start, 0] + logits[end, 1]))
        for start in starts
        for end in ends
        if first <= start <= end < end_of_context and end - start + 1 <= _PHONE_LONGEST
    ]
    pairs.sort(key=lambda pair: -pair[2])
    return [
        _in_words(own, own.word_of_piece[start - first], own.word_of_piece[end - first], score, context)
        for start, end, score in pairs[:_PHONE_BEST]
    ]


def _in_words(words: _Words, first: int, last: int, score: float, context: str) -> Candidate:
    start, end = words.starts[first], words.ends[last]
    return Candidate(" ".join(filter(None, context[start:end].split(" "))), start, end, score)
