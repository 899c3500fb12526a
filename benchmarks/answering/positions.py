"""How good a trained model's answers are by their position: the same answers are moved towards the end of a window by
sentences of other contexts before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from textclf import QuestionAnswerer
from textclf.classify.question_answering.evaluation import golds_of, question_scores, read_questions
from textclf.data.question_answering.questions import Answer
from textclf.data.tokens.wordpiece import Tokenizer

POSITIONS = (0, 64, 126, 192, 256, 320)
"""An answer is measured once at or just behind each of these tokens; the first is where it is without sentences before it.
In their first training the built-in encoders saw 126 tokens at most, in the second one 510."""


def table(model: Path, files: Sequence[Path], questions: int) -> Iterator[str]:
    """Yields the lines of a Markdown table, those of a file when it is measured."""
    yield "| data | first token of the answer | questions | exact match | F1 |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for file in files:
        yield from measured_by_position(model, file, questions)


def measured_by_position(model: Path, path: Path, most: int) -> list[str]:
    """Lines of the table. Every question is measured at every position, so that only the position differs."""
    with QuestionAnswerer(model) as answerer:
        split = read_questions(answerer, path)
        spans = [answers[0] if answers else None for answers in split.answers]
        sentences = [one for context in dict.fromkeys(split.contexts) for one in sentences_of(context)]
        golds, moved, places = [], {position: [] for position in POSITIONS}, {position: [] for position in POSITIONS}
        for row, (question, context) in enumerate(split.texts):
            found = moved_contexts(answerer, question, context, spans[row], sentences, seed=row)
            if found is not None and len(golds) < most:
                golds.append(golds_of(split)[row])
                for position, (text, place) in zip(POSITIONS, found, strict=True):
                    moved[position].append((question, text))
                    places[position].append(place)
        lines = []
        for position, asked in moved.items():
            scores = question_scores([answer.text for answer in answerer.answers(asked)], golds)
            match, f1 = scores.mean(axis=0)
            at = f"{np.mean(places[position]):.0f} ({min(places[position])}–{max(places[position])})"
            lines.append(f"| {path.stem} | {at} | {len(asked)} | {match:.1%} | {f1:.1%} |")
    return lines


def sentences_of(text: str) -> list[str]:
    return [one.strip() + "." for one in text.split(". ") if one.strip()]


def moved_contexts(
    answerer: QuestionAnswerer, question: str, context: str, answer: Answer | None, sentences: Sequence[str], seed: int
) -> list[tuple[str, int]] | None:
    """The context with its answer at each of the positions, truncated to one window, and the answer's real position there.

    None if the question has no answer, or if its answer is already behind the second position, or does not fit the last.
    """
    if answer is None:
        return None
    tokenizer = answerer.tokenizer
    before, rest = context[: answer.start], context[answer.start :]
    head = len(tokenizer.pieces([question])[0][: answerer.question_length]) + 2  # [CLS] question [SEP]
    own, needed = (len(pieces) for pieces in tokenizer.pieces([before, answer.text]))
    if head + own >= POSITIONS[1] or POSITIONS[-1] + 40 + needed >= answerer.max_length:
        return None
    order = np.random.default_rng(seed).permutation(len(sentences))
    others = [sentences[number] for number in order if sentences[number].rstrip(".") not in context]
    lengths = [len(pieces) for pieces in tokenizer.pieces(others[:200])]
    found = []
    for position in POSITIONS:
        added, chosen = 0, []
        for sentence, length in zip(others, lengths, strict=False):
            # Short sentences keep the place near the position.
            if head + own + added >= position:
                break
            if length <= 40:
                chosen.append(sentence)
                added += length
        room = answerer.max_length - head - own - added - 1
        text = " ".join([*chosen, before]) if chosen else before
        found.append((text + truncated(tokenizer, rest, room), head + own + added))
        if found[-1][1] + needed >= answerer.max_length:
            return None
    return found


def truncated(tokenizer: Tokenizer, text: str, room: int) -> str:
    """The beginning of a text that has at most this many tokens, in whole words."""
    ends = [index for index, character in enumerate(text) if character == " "] + [len(text)]
    low, high = 0, len(ends)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if len(tokenizer.pieces([text[: ends[middle - 1]]])[0]) <= room else (low, middle - 1)
        )
    return text[: ends[low - 1]] if low else ""
