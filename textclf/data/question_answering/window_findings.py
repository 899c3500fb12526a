"""Findings about the tokens of questions and contexts, and about their windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from textclf.data.examples import Dataset, Split
from textclf.data.findings.finding import Finding, Severity, counted, percent
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
    file = QuestionFile("train", train.file, files=train.files)
    return findings + in_units(file, token_findings(texts, tokenizer, _ANY_LENGTH, source))


def _findings_of_split(split: QuestionSplit, windows: Windows) -> list[Finding]:
    first_windows = windows.first_windows[:-1]
    answered = split.labels[:, 0] >= 0
    spans, targets = piece_spans(windows, split.labels), span_targets(windows, split.labels)
    sizes = spans[:, 1] - spans[:, 0] + 1
    has_tokens = answered & (spans[:, 0] >= 0)
    shown = np.bincount(windows.rows, weights=targets[:, 0] > 0, minlength=len(split.rows)) > 0
    return [
        *_findings_of_lengths(split, windows),
        *of_split(
            "beyond_first_window",
            split,
            has_tokens & (targets[first_windows, 0] == 0),
            "have an answer beyond the first window. A phone (Task Library) reads no further, so it cannot give the answer",
            "note",
        ),
        *of_split(
            "long_answer",
            split,
            has_tokens & (sizes > LONGEST_ANSWER),
            f"have an answer of more than {LONGEST_ANSWER} tokens, which is more than the model gives. Shorten these answers",
        ),
        *of_split(
            "answer_without_window",
            split,
            has_tokens & ~shown,
            "have an answer that no window shows as a whole, so it is learned as no answer. Shorten it, or raise "
            "encoder.max_length",
        ),
        *of_split(
            "answer_without_tokens",
            split,
            answered & ~has_tokens,
            "have an answer in which the encoder reads no token, so it is learned as no answer. Correct it",
        ),
        *of_split(
            "truncated_question",
            split,
            windows.encoded.truncated[first_windows],
            "are longer than encoder.question_length, so the end is not read",
            "note",
        ),
    ]


def _findings_of_lengths(split: QuestionSplit, windows: Windows) -> list[Finding]:
    lengths = [len(pieces) for pieces in windows.contexts]
    nearly_all = int(np.quantile(lengths, 0.99, method="inverted_cdf"))
    several = np.bincount(windows.rows, minlength=len(split.rows)) > 1
    message = (
        f"have a context for which one window is not enough: 99% of the contexts have {nearly_all:,} tokens or fewer, the "
        f"longest has {max(lengths):,}. There are {len(windows):,} windows"
    )
    return of_split("several_windows", split, several, message, "note")


def of_split(
    kind: str, split: QuestionSplit, chosen: np.ndarray, message: str, severity: Severity = "warning"
) -> list[Finding]:
    """Returns a finding about the chosen questions (bool, one for each), if there are any, with their share.

    `message` begins with a verb in the plural, `have` or `are`.
    """
    numbers = [split.rows[place] for place in np.flatnonzero(chosen)]
    if not numbers:
        return []
    verb, rest = message.split(" ", 1)
    verb = {"have": "has", "are": "is"}[verb] if len(numbers) == 1 else verb
    share = f"{len(numbers):,} of {counted(len(split.rows), 'question')} ({percent(len(numbers) / len(split.rows))})"
    file = QuestionFile(split.name, split.file, files=split.files)
    return [of_questions(file, kind, f"{split.name}: {share} {verb} {rest}", numbers, severity)]


def _as_texts(split: QuestionSplit) -> Split:
    """Returns the contexts, each once under the number of its first question, and the questions, as single texts."""
    first: dict[str, int] = {}
    for context, number in zip(split.contexts, split.rows, strict=True):
        first.setdefault(context, number)
    texts: Sequence[str] = [*first, *split.questions]
    labels = np.zeros(len(texts), np.int32)
    return Split(split.name, [(text,) for text in texts], labels, [*first.values(), *split.rows], split.file)
