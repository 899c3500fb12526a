"""Windows over long texts, for questions about a context: takes both texts and returns token ids, and spans of characters
as spans of tokens and back.

Windows, targets and the maximum context are those of BERT's `run_squad.py` (google-research/bert,
`convert_examples_to_features`, `_check_is_max_context`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from textclf.data.tokens.encoded import Encoded, TextTokenizer
from textclf.data.tokens.text_windows import window_parts
from textclf.data.tokens.wordpiece import Tokenizer

MAX_LENGTH, STRIDE, QUESTION_LENGTH = 384, 128, 64
"""The defaults of `run_squad.py` and Model Maker, in tokens."""

SEPARATORS = 3
"""[CLS] question [SEP] context [SEP]"""


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """The tokens of one text. `starts` and `ends` are characters (code points) of the text, the end exclusive."""

    ids: np.ndarray  # int32 [pieces]
    starts: np.ndarray  # int32 [pieces]
    ends: np.ndarray  # int32 [pieces]

    def __len__(self) -> int:
        return len(self.ids)

    def span_of(self, start: int, end: int) -> tuple[int, int]:
        """Returns the first and the last token of the shortest span of tokens with the characters `start` to `end`
        (exclusive); (-1, -1) if no token has any of them.

        `run_squad.py` takes the whole words first and then looks for the answer's own tokens in them. Where it finds
        them, this is the same span; where the answer begins or ends inside a word otherwise, it is not longer.
        """
        if start < 0:
            return -1, -1
        first = int(np.searchsorted(self.ends, start, side="right"))
        last = int(np.searchsorted(self.starts, end, side="left")) - 1
        return (first, last) if first <= last else (-1, -1)


def pieces_with_offsets(tokenizer: TextTokenizer, text: str) -> Pieces:
    """Returns the tokens of a text, with the same ids as `tokenizer.pieces([text])[0]`, and their characters.

    Raises TypeError for a tokenizer of whole words, which has no use for questions.
    """
    if not isinstance(tokenizer, Tokenizer):
        raise TypeError(f"questions need a WordPiece tokenizer, found {type(tokenizer).__name__}")
    return Pieces(*tokenizer.spans(text))


class WindowPositions(NamedTuple):
    """The tokens of the context in one window: `pieces[i]` of the context is at position `first + i`.

    `is_maximum` (bool, one for each) says whether no other window shows more text on both sides of the token: an answer
    may begin there.
    """

    first: int
    pieces: range
    is_maximum: np.ndarray


@dataclass(frozen=True, eq=False)
class Windows:
    """All windows of questions and their contexts. The windows of a question follow each other, in the order of its text.

    Each is `[CLS] question [SEP] part of the context [SEP]`. A context without any token has one window, so that every
    question has one.
    """

    encoded: Encoded  # one row per window; `truncated` says whether the question was
    rows: np.ndarray  # int32 [windows]: index of the question
    first_piece: np.ndarray  # int32 [windows]: index of the context's token at its first position
    question_lengths: np.ndarray  # int32 [windows]: tokens of the truncated question
    contexts: list[Pieces]  # by question; questions about the same context share it

    def __len__(self) -> int:
        return len(self.rows)

    @functools.cached_property
    def piece_counts(self) -> np.ndarray:
        """int32 [windows]: the number of the context's tokens in each window."""
        counts: np.ndarray = (self.encoded.lengths - self.question_lengths - SEPARATORS).astype(np.int32)
        return counts

    @functools.cached_property
    def first_windows(self) -> np.ndarray:
        """int64 [questions + 1]: the first window of each question, and the number of all windows."""
        return np.searchsorted(self.rows, np.arange(len(self.contexts) + 1))

    def of_question(self, row: int) -> range:
        """Returns the windows of a question."""
        return range(int(self.first_windows[row]), int(self.first_windows[row + 1]))

    def positions(self, window: int) -> WindowPositions:
        """Returns which tokens of its context a window has, and where."""
        row = int(self.rows[window])
        first_window = self.of_question(row).start
        return self.positions_of_question(row)[window - first_window]

    def positions_of_question(self, row: int) -> list[WindowPositions]:
        """Returns the positions for each window of a question, by the rule of the maximum context.

        The window with the largest `min(tokens before, tokens after) + 0.01 * tokens of the window` has it, of equal
        ones the first.
        """
        windows = self.of_question(row)
        counts = self.piece_counts[windows.start : windows.stop].tolist()
        begins = self.first_piece[windows.start : windows.stop].tolist()
        best = np.full(len(self.contexts[row]), -1.0)
        owner = np.full(len(best), -1)
        for number, (begin, count) in enumerate(zip(begins, counts, strict=True)):
            place = np.arange(count)
            score = np.minimum(place, count - 1 - place) + 0.01 * count
            better = score > best[begin : begin + count]
            best[begin : begin + count][better] = score[better]
            owner[begin : begin + count][better] = number
        question = int(self.question_lengths[windows.start])
        return [
            WindowPositions(question + 2, range(begin, begin + count), owner[begin : begin + count] == number)
            for number, (begin, count) in enumerate(zip(begins, counts, strict=True))
        ]


def make_windows(
    tokenizer: TextTokenizer,
    questions: Sequence[str],
    contexts: Sequence[str],
    *,
    max_length: int = MAX_LENGTH,
    stride: int = STRIDE,
    question_length: int = QUESTION_LENGTH,
) -> Windows:
    """Returns the windows of each question over its context, of at most `max_length` tokens.

    The next window begins `stride` tokens of the context later. A question keeps its first `question_length` tokens.
    Raises ValueError for lengths that leave no room for the context, and TypeError as `pieces_with_offsets` does.
    """
    if question_length < 1 or stride < 1 or max_length <= question_length + SEPARATORS:
        raise ValueError(
            f"max_length is {max_length}, stride {stride} and question_length {question_length}; expected 1 or more, and "
            f"max_length above question_length + {SEPARATORS}"
        )
    if not isinstance(tokenizer, Tokenizer):
        raise TypeError(f"questions need a WordPiece tokenizer, found {type(tokenizer).__name__}")
    known: dict[str, Pieces] = {}
    by_question = []
    for context in contexts:
        if context not in known:
            known[context] = pieces_with_offsets(tokenizer, context)
        by_question.append(known[context])
    question_ids = tokenizer.pieces(questions)
    plan = [
        (row, begin, count)
        for row, (ids, pieces) in enumerate(zip(question_ids, by_question, strict=True))
        for begin, count in window_parts(len(pieces), max_length - SEPARATORS - min(len(ids), question_length), stride)
    ]
    rows, first_piece, counts = (
        np.array(column, np.int32) for column in (zip(*plan, strict=True) if plan else ((),) * 3)
    )
    lengths = np.array([min(len(ids), question_length) for ids in question_ids], np.int32)[rows]
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths + counts + SEPARATORS, out=offsets[1:])
    flat = np.empty(int(offsets[-1]), np.int32)
    separator = [tokenizer.separator_id]
    for window, (row, begin, count) in enumerate(plan):
        head = [tokenizer.classification_id, *question_ids[row][:question_length], *separator]
        place = int(offsets[window])
        flat[place : place + len(head)] = head
        flat[place + len(head) : place + len(head) + count] = by_question[row].ids[begin : begin + count]
        flat[place + len(head) + count] = tokenizer.separator_id
    is_cut = np.array([len(ids) > question_length for ids in question_ids], bool)[rows]
    encoded = Encoded(flat, offsets, (lengths + 2).astype(np.int32), is_cut, tokenizer.pad_id)
    return Windows(encoded, rows, first_piece, lengths, by_question)


def piece_spans(windows: Windows, labels: np.ndarray) -> np.ndarray:
    """Returns the first and the last token of each question's answer in its context, int32 [questions, 2].

    `labels` are characters [start, end), int [questions, 2]. (-1, -1) stands for no answer in both, and for an answer
    without a token.
    """
    spans = [pieces.span_of(start, end) for pieces, (start, end) in zip(windows.contexts, labels.tolist(), strict=True)]
    return np.array(spans, np.int32).reshape(-1, 2)


def span_targets(windows: Windows, labels: np.ndarray) -> np.ndarray:
    """Returns the positions of the first and the last token of the answer in each window, int32 [windows, 2].

    `labels` are characters [start, end), int [questions, 2]. A window without the whole answer has (0, 0), the position
    of [CLS].
    """
    first, last = piece_spans(windows, labels)[windows.rows].T
    begin = windows.first_piece
    inside = (first >= begin) & (last < begin + windows.piece_counts) & (first >= 0)
    shift = windows.question_lengths + 2 - begin
    targets = np.where(inside[:, None], np.stack([first + shift, last + shift], axis=1), 0)
    return targets.astype(np.int32)
