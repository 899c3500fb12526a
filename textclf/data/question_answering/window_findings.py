"""Findings about the tokens of questions and contexts, and about their windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from textclf.data.examples import Dataset, Split
from textclf.data.findings.finding import Finding, counted, percent
from textclf.data.findings.of_tokens import token_findings
from textclf.data.question_answering.findings import in_units, of_questions
from textclf.data.question_answering.questions import QuestionFile, QuestionSplit
from textclf.data.tokens.encoded import TextTokenizer
from textclf.data.tokens.spans import Windows, piece_spans, span_targets

LONGEST_ANSWER = 30
"""The most tokens of an answer that a model gives, as in run_squad.py."""

# No text to report on is longer than this.
_ANY_LENGTH = 1 << 40


def window_findings(
    dataset: Dataset, windows: Mapping[str, Windows], tokenizer: TextTokenizer, source: str = ""
) -> list[Finding]:
    """Reports what does not fit: contexts that need several windows, long answers, truncated questions, unknown words.

    `windows` are by split. `source` is what the recipe calls the encoder.
    """
    findings: list[Finding] = []
    for split in cast("list[QuestionSplit]", dataset.splits):
        findings += _findings_of_split(split, windows[split.name])
    train = cast("QuestionSplit", dataset.train)
    texts = replace(dataset, train=_as_texts(train))
    file = QuestionFile("train", train.file)
    return findings + in_units(file, token_findings(texts, tokenizer, _ANY_LENGTH, source))


def _findings_of_split(split: QuestionSplit, windows: Windows) -> list[Finding]:
    file, questions = QuestionFile(split.name, split.file), len(split.rows)

    def finding(kind: str, chosen: np.ndarray, message: str, *, is_note: bool = False) -> Finding | None:
        numbers = [split.rows[place] for place in np.flatnonzero(chosen)]
        share = (
            f"{split.name}: {len(numbers):,} of {counted(questions, 'question')} ({percent(len(numbers) / questions)})"
        )
        severity = "note" if is_note else "warning"
        verb = {"have": "has", "are": "is"} if len(numbers) == 1 else {}
        words = message.split(" ", 1)
        message = f"{verb.get(words[0], words[0])} {words[1]}"
        return of_questions(file, kind, f"{share} {message}", numbers, severity) if numbers else None  # type: ignore[arg-type]

    count = np.bincount(windows.rows, minlength=questions)
    lengths = np.array([len(pieces) for pieces in windows.contexts])
    first_windows = np.searchsorted(windows.rows, np.arange(questions))
    answered = split.labels[:, 0] >= 0
    spans, targets = piece_spans(windows, split.labels), span_targets(windows, split.labels)
    sizes = spans[:, 1] - spans[:, 0] + 1
    has_tokens = answered & (spans[:, 0] >= 0)
    shown = np.bincount(windows.rows, weights=targets[:, 0] > 0, minlength=questions) > 0
    longest = max(map(len, windows.contexts), default=0)
    nearly_all = int(np.quantile(lengths, 0.99, method="inverted_cdf"))
    found = [
        finding(
            "several_windows",
            count > 1,
            f"have a context for which one window is not enough; {len(windows):,} windows in all. 99% of the contexts have "
            f"{nearly_all:,} tokens or fewer, the longest has {longest:,}",
            is_note=True,
        ),
        finding(
            "beyond_first_window",
            has_tokens & (targets[first_windows, 0] == 0),
            "have an answer beyond the first window; a phone (Task Library) reads no further and cannot give it",
            is_note=True,
        ),
        finding(
            "long_answer",
            has_tokens & (sizes > LONGEST_ANSWER),
            f"have an answer of more than {LONGEST_ANSWER} tokens, which the model never gives as a whole; shorten these "
            "answers",
        ),
        finding(
            "answer_without_window",
            has_tokens & ~shown,
            "have an answer that no window shows as a whole, so it is learned as no answer; shorten it, or raise "
            "encoder.max_length",
        ),
        finding(
            "answer_without_tokens",
            answered & ~has_tokens,
            "have an answer in which the encoder reads no token, so it is learned as no answer; correct it",
        ),
        finding(
            "truncated_question",
            windows.encoded.truncated[first_windows],
            "are longer than encoder.question_length; their end is not read",
            is_note=True,
        ),
    ]
    return [one for one in found if one is not None]


def _as_texts(split: QuestionSplit) -> Split:
    """Returns the contexts, each once under the number of its first question, and the questions, as single texts."""
    first: dict[str, int] = {}
    for context, number in zip(split.contexts, split.rows, strict=True):
        first.setdefault(context, number)
    texts: Sequence[str] = [*first, *split.questions]
    labels = np.zeros(len(texts), np.int32)
    return Split(split.name, [(text,) for text in texts], labels, [*first.values(), *split.rows], split.file)
