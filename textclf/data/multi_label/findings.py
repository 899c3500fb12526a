"""Findings about the labels of rows that may have several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from textclf.data.examples import Examples
from textclf.data.findings.finding import Finding, counted, named, of_rows, percent, visible
from textclf.data.findings.label_lists import list_like
from textclf.data.findings.label_spellings import alike_findings, odd_blanks, typing_error_findings
from textclf.data.findings.missing_values import missing_labels
from textclf.data.multi_label.label_sets import labels_of
from textclf.recipe.settings import DatasetSettings

# A label with fewer rows than this is hardly learned, and its threshold cannot be chosen.
_FEW_ROWS_OF_LABEL = 10

_SHOWN_PAIRS = 5

# Two labels that share this many rows and no other rows are probably one.
_LEAST_ROWS_TOGETHER = 3


def findings_of_label_sets(
    train: Examples, arrays: np.ndarray, labels: Sequence[str], settings: DatasetSettings
) -> list[Finding]:
    """Reports labels that are hard to learn or look like mistakes, in the whole training file.

    `arrays` are the labels of its rows, bool [rows, labels].
    """
    written = [(label, row) for text, row in zip(train.labels, train.rows, strict=True) for label in labels_of(text)]
    flat, rows = [label for label, _ in written], [row for _, row in written]
    counts = arrays.sum(axis=0)
    findings = _of_rarity(train, arrays, labels, counts)
    findings += _of_rows_without_labels(train, arrays)
    findings += alike_findings(train.shown, labels)
    if settings.labels_from is None:
        findings += typing_error_findings(train.shown, flat, rows)
        findings += missing_labels(train.shown, flat, rows)
        findings += odd_blanks(train.shown, labels)
        findings += _of_separator(train, flat, rows, settings)
        findings += _of_header(train, flat, rows, settings)
    findings += _of_pairs(train, arrays, labels)
    return findings


def _of_rarity(train: Examples, arrays: np.ndarray, labels: Sequence[str], counts: np.ndarray) -> list[Finding]:
    shown, total, findings = train.shown, len(arrays), []

    def names(chosen: np.ndarray) -> str:
        return named([labels[index] for index in np.flatnonzero(chosen).tolist()])

    never, always, few = counts == 0, counts == total, (counts > 0) & (counts < _FEW_ROWS_OF_LABEL)
    if never.any():
        message = f"{shown}: no row has the label {names(never)}, so it cannot be learned"
        findings.append(Finding("label_without_rows", message, int(never.sum())))
    if always.any():
        message = (
            f"{shown}: every row has the label {names(always)}, so it tells nothing and is always predicted; remove it, or add "
            "rows without it"
        )
        findings.append(Finding("label_of_every_row", message, int(always.sum())))
    if few.any():
        concerned = np.flatnonzero(arrays[:, few].any(axis=1))
        have = "has" if few.sum() == 1 else "have"
        message = (
            f"{shown}: {names(few)} {have} fewer than {_FEW_ROWS_OF_LABEL} rows, too few to learn the label and to choose its "
            "threshold; add rows, or leave the label out"
        )
        findings.append(of_rows("rare_labels", message, [train.rows[row] for row in concerned]))
    known = counts[~never & ~always]
    if len(known) > 1 and known.max() >= 10 * known.min():
        largest, smallest = int(counts.argmax()), int(np.where(never, total + 1, counts).argmin())
        message = (
            f"{shown}: imbalanced labels, from {counted(int(counts[smallest]), 'row')} "
            f"({percent(counts[smallest] / total)}, {visible(labels[smallest])}) to {int(counts[largest]):,} "
            f"({percent(counts[largest] / total)}, {visible(labels[largest])}); compare macro-F1 as well as micro-F1"
        )
        findings.append(Finding("imbalanced", message, len(labels)))
    return findings


def _of_rows_without_labels(train: Examples, arrays: np.ndarray) -> list[Finding]:
    without = np.flatnonzero(~arrays.any(axis=1))
    if not len(without):
        return []
    message = (
        f"{train.shown}: {len(without):,} of {counted(len(arrays), 'row')} ({percent(len(without) / len(arrays))}) have no "
        "label, so the model learns that none applies to them; if their labels are only missing, fill them in or delete the rows"
    )
    return [of_rows("no_labels", message, [train.rows[row] for row in without], "note")]


def _of_separator(
    train: Examples, flat: Sequence[str], rows: Sequence[int], settings: DatasetSettings
) -> list[Finding]:
    """Reports signs that the labels are separated by other characters."""
    findings = []
    how, remedy = "they are elements of a list", "write each of them as an element"
    if settings.label_separator is not None:
        how = f"the separator is {visible(settings.label_separator)}"
        remedy = "set dataset.label_separator to another one, or write all cells alike"
    lists = list_like(list(dict.fromkeys(flat)))
    if lists:
        concerned = [row for row, label in zip(rows, flat, strict=True) if label in lists]
        example = Counter(label for label in flat if label in lists).most_common(1)[0][0]
        message = (
            f"{train.shown}: {counted(len(lists), 'label')} such as {visible(example)} may be several labels, but {how}; "
            f"{remedy}"
        )
        findings.append(of_rows("list_of_labels", message, concerned))
    if all(len(labels_of(text)) < 2 for text in train.labels):
        message = f"{train.shown}: no list of {visible(settings.label)} has two labels; were the others left out?"
        if settings.label_separator is not None:
            message = (
                f"{train.shown}: no cell of {visible(settings.label)} contains the separator "
                f"{visible(settings.label_separator)}, so no row has two labels; correct dataset.label_separator, or remove it "
                "if each row has one label"
            )
        findings.append(Finding("separator_unused", message, len(train.labels)))
    return findings


def _of_header(train: Examples, flat: Sequence[str], rows: Sequence[int], settings: DatasetSettings) -> list[Finding]:
    name = settings.label.strip().casefold()
    concerned = [row for row, label in zip(rows, flat, strict=True) if label.casefold() == name]
    if not concerned:
        return []
    message = (
        f"{train.shown}: {counted(len(concerned), 'row')} with the name of the label column, {visible(settings.label)}, as "
        "label; delete the rows if they are repeated header rows"
    )
    return [of_rows("header_as_label", message, concerned)]


def _of_pairs(train: Examples, arrays: np.ndarray, labels: Sequence[str]) -> list[Finding]:
    """Reports labels that occur only together."""
    # In float64, which is exact here: NumPy multiplies integers hundreds of times more slowly.
    numbers = arrays.astype(np.float64)
    counts, together = numbers.sum(axis=0), numbers.T @ numbers
    same = (together == counts[:, None]) & (together == counts[None, :]) & (counts[:, None] >= _LEAST_ROWS_TOGETHER)
    same &= counts[:, None] < len(arrays)
    pairs = [(int(one), int(other)) for one, other in zip(*np.nonzero(np.triu(same, 1)), strict=True)]
    if not pairs:
        return []
    shown = ", ".join(
        f"{visible(labels[one])} and {visible(labels[other])} ({counted(int(counts[one]), 'row')})"
        for one, other in pairs[:_SHOWN_PAIRS]
    )
    more = f" and {len(pairs) - _SHOWN_PAIRS:,} more pairs" if len(pairs) > _SHOWN_PAIRS else ""
    message = (
        f"{train.shown}: labels that occur only together: {shown}{more}. The model cannot tell them apart; join them, or add "
        "rows with one of them"
    )
    return [Finding("labels_together", message, len(pairs))]
