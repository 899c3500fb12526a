"""Findings about the lengths of the training texts: how many are longer than the model's rows, and what is read of them."""

from __future__ import annotations

import numpy as np

from textclf.data.examples import Split
from textclf.data.findings.finding import Finding, counted, of_rows, percent
from textclf.data.tables.table import shown_path
from textclf.data.tokens.text_windows import LongTexts, WindowPlan
from textclf.recipe.values import MOST_WINDOWS, default_stride

# If this share of the texts is longer than a row, it is worth reading them in windows.
_MANY = 0.1


def length_findings(
    train: Split, lengths: np.ndarray, added: int, max_length: int, long_texts: LongTexts, *, propose_windows: bool
) -> list[Finding]:
    """Reports texts without tokens, and texts that are longer than `max_length` tokens.

    `lengths` are the tokens of each row, int [rows], of which `added` are [CLS] and [SEP]. With `propose_windows`, the
    finding about many truncated texts names the windows that would read all of them.
    """
    shown = shown_path(train.file)
    findings = []
    empty = [train.rows[place] for place in np.flatnonzero(lengths == added)]
    if empty:
        message = (
            f"{shown}: {counted(len(empty), 'text')} in which the encoder reads no token at all; correct or delete them"
        )
        findings.append(of_rows("no_tokens", message, empty))
    is_long = lengths > max_length
    if not is_long.any():
        return findings
    rows = [train.rows[place] for place in np.flatnonzero(is_long)]
    are = "is" if len(rows) == 1 else "are"
    beginning = (
        f"{shown}: {len(rows):,} of {counted(len(lengths), 'text')} ({percent(len(rows) / len(lengths))}) {are} longer "
        f"than {max_length} tokens (encoder.max_length) and"
    )
    needed = f"99% need {int(np.quantile(lengths, 0.99, method='inverted_cdf'))} or fewer, the longest needs {lengths.max():,}"
    if isinstance(long_texts, WindowPlan):
        windows = _windows(lengths - added, max_length - added, long_texts)
        message = f"{beginning} will be read in several windows: {_summary(windows[is_long])}; {needed}"
        findings.append(of_rows("several_windows", message, rows, "note"))
        return findings + _findings_of_limit(train, windows, long_texts)
    message = f"{beginning} will be truncated; {needed}"
    if propose_windows and is_long.mean() > _MANY:
        plan = WindowPlan(default_stride(max_length), MOST_WINDOWS)
        windows = _windows(lengths - added, max_length - added, plan)
        message += f". encoder.overflow=windows would read them in {_summary(windows[is_long])}"
    findings.append(of_rows("truncated", message, rows, "note"))
    return findings


def _windows(tokens: np.ndarray, room: int, plan: WindowPlan) -> np.ndarray:
    """The windows that each text needs, int [texts]."""
    return np.array([plan.windows(own, room) for own in tokens.tolist()], np.int64)


def _summary(windows: np.ndarray) -> str:
    return f"{int(np.median(windows)):,} windows in the median, {int(windows.max()):,} at most"


def _findings_of_limit(train: Split, windows: np.ndarray, plan: WindowPlan) -> list[Finding]:
    rows = [train.rows[place] for place in np.flatnonzero(windows > plan.most)]
    if not rows:
        return []
    verb = "needs" if len(rows) == 1 else "need"
    message = (
        f"{shown_path(train.file)}: {counted(len(rows), 'text')} {verb} more than {plan.most:,} windows "
        "(encoder.max_windows), so the end is not read; raise encoder.max_windows or encoder.stride"
    )
    return [of_rows("truncated", message, rows, "note")]
