"""Findings about rows, labels and splits of labelled examples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from textclf.data.examples import Examples, Split
from textclf.data.findings.finding import Finding, Severity, counted, named, of_rows, percent, visible
from textclf.data.findings.label_lists import flag_columns, flag_columns_message, holds_flags_only, list_findings
from textclf.data.findings.label_spellings import (
    alike_findings,
    odd_blanks,
    typing_error_findings,
)
from textclf.data.findings.missing_values import missing_labels, missing_texts
from textclf.data.findings.text_faults import text_findings
from textclf.data.tables.table import Note
from textclf.data.tokens.row_keys import RowKeys
from textclf.recipe.settings import DatasetSettings

# With fewer rows, one of them changes the accuracy by more than 2 percentage points.
_FEW_ROWS = 50

# --- Findings --------------------------------------------------------------------------------------------------------
_NOTES_THAT_WARN = ("encoding_doubt", "first_row", "last_row")


def findings_of_table(examples: Examples) -> list[Finding]:
    """Returns notes about what was not read exactly as it is written in one file."""
    return findings_of_notes(examples.notes)


def findings_of_notes(notes: Sequence[Note]) -> list[Finding]:
    """Returns the notes on a table as findings."""
    findings = []
    for note in notes:
        severity: Severity = "warning" if note.kind in _NOTES_THAT_WARN else "note"
        if note.rows:
            findings.append(of_rows(note.kind, note.message, note.rows, severity))
        else:
            findings.append(Finding(note.kind, note.message, 0, severity=severity))
    return findings


def findings_of_file(
    examples: Examples, keys: RowKeys, settings: DatasetSettings, contradiction: str = "more than one label"
) -> list[Finding]:
    """Returns findings about the rows of one file. `contradiction` is what texts with different labels have, in words."""
    shown, findings = examples.shown, []
    if examples.left_out:
        message = f"{shown}: {counted(len(examples.left_out), 'row')} without text left out"
        findings.append(of_rows("empty_text", message, examples.left_out, "note"))
    if examples.unlabelled:
        message = f"{shown}: {counted(len(examples.unlabelled), 'row')} without a label left out"
        findings.append(of_rows("unlabelled", message, examples.unlabelled, "note"))
    findings += _findings_of_half_empty_pairs(examples, settings)
    findings += missing_texts(shown, examples.texts, examples.rows)
    findings += text_findings(shown, examples.texts, examples.rows)
    findings += _findings_of_duplicates(examples, keys)
    return findings + _findings_of_contradictions(examples, keys, contradiction)


def _findings_of_half_empty_pairs(examples: Examples, settings: DatasetSettings) -> list[Finding]:
    rows = [row for row, texts in zip(examples.rows, examples.texts, strict=True) if not all(map(str.strip, texts))]
    if not rows:
        return []
    counts = [sum(not texts[place].strip() for texts in examples.texts) for place in range(len(settings.text))]
    where = " and ".join(
        f"{visible(name)} ({count:,})" for name, count in zip(settings.text, counts, strict=True) if count
    )
    message = f"{examples.shown}: {counted(len(rows), 'row')} with one text of the pair empty, {where}, kept"
    return [of_rows("half_empty_pair", message, rows, "note")]


def _findings_of_duplicates(examples: Examples, keys: RowKeys) -> list[Finding]:
    first: dict[tuple[bytes, str], int] = {}
    repeated = []
    differing = _Differing(keys)
    for place, key in enumerate(zip(keys.keys, examples.labels, strict=True)):
        earlier = first.setdefault(key, place)
        if earlier != place:
            repeated.append(examples.rows[place])
            if examples.texts[place] != examples.texts[earlier]:
                differing.add(place)
    if not repeated:
        return []
    verb = "repeats" if len(repeated) == 1 else "repeat"
    message = (
        f"{examples.shown}: {counted(len(repeated), 'row')} {verb} the text and label of an earlier row"
        f"{differing.described()}; all are kept"
    )
    return [of_rows("duplicate", message, repeated, "note")]


def _findings_of_contradictions(examples: Examples, keys: RowKeys, contradiction: str) -> list[Finding]:
    first: dict[bytes, int] = {}
    contradictory: dict[bytes, bool] = {}
    for place, key in enumerate(keys.keys):
        earlier = first.setdefault(key, place)
        if examples.labels[place] != examples.labels[earlier]:
            contradictory[key] = True
    if not contradictory:
        return []
    places = [place for place, key in enumerate(keys.keys) if key in contradictory]
    differing = _Differing(keys)
    for place in places:
        if examples.texts[place] != examples.texts[first[keys.keys[place]]]:
            differing.add(place)
    what = "1 text has" if len(contradictory) == 1 else f"{len(contradictory):,} texts have"
    message = f"{examples.shown}: {what} {contradiction}{differing.described()}; correct the rows that are wrong"
    return [of_rows("contradiction", message, [examples.rows[place] for place in places])]


class _Differing:
    """Counts rows whose texts are written differently from those of a row that the model reads alike."""

    def __init__(self, keys: RowKeys) -> None:
        self._keys = keys
        self._rows = self._with_unknown = 0

    def add(self, place: int) -> None:
        self._rows += 1
        self._with_unknown += self._keys.unknown[place]

    def described(self) -> str:
        """Returns words that follow a sentence about the rows, or "" if all texts are identical."""
        if not self._rows:
            return ""
        unknown = (
            f"; {self._with_unknown:,} of these with words that the encoder does not know ([UNK]) and cannot tell apart"
            if self._with_unknown
            else ""
        )
        written = "row is" if self._rows == 1 else "rows are"
        return f" as the model reads them ({self._rows:,} {written} written differently{unknown})"


def findings_of_labels(train: Examples, labels: Sequence[str], settings: DatasetSettings) -> list[Finding]:
    """Reports labels that are hard to learn or look like mistakes, in the whole training file."""
    counts = Counter(train.labels)
    findings = _findings_of_rare_labels(train, labels, counts)
    findings += alike_findings(train.shown, labels)
    findings += typing_error_findings(train.shown, train.labels, train.rows)
    findings += missing_labels(train.shown, train.labels, train.rows)
    findings += list_findings(train.shown, train.labels, train.rows)
    findings += odd_blanks(train.shown, labels)
    findings += _findings_of_columns(train, counts, settings)
    findings += _findings_of_balance(train, counts)
    if settings.labels is None and (order := _numeric_order(labels)):
        message = (
            f"{train.shown}: the labels are numbers in the order of text ({', '.join(labels[:3])}, …); set dataset.labels "
            f"if the model's outputs should be in another order, such as {', '.join(order[:3])}, …"
        )
        findings.append(Finding("numeric_order", message, len(labels), severity="note"))
    return findings


def _findings_of_rare_labels(train: Examples, labels: Sequence[str], counts: Counter[str]) -> list[Finding]:
    findings = []
    unseen = [label for label in labels if not counts[label]]
    if unseen:
        message = f"{train.shown}: no row has the label {named(unseen)} of dataset.labels, so it cannot be learned"
        findings.append(Finding("label_without_rows", message, len(unseen)))
    single = [label for label in labels if counts[label] == 1]
    if single:
        rows = [row for row, label in zip(train.rows, train.labels, strict=True) if counts[label] == 1]
        have = "have one row each" if len(single) > 1 else "has one row only"
        message = f"{train.shown}: {named(single)} {have}, kept for training; add rows"
        findings.append(of_rows("single_row", message, rows))
    return findings


def _findings_of_columns(train: Examples, counts: Counter[str], settings: DatasetSettings) -> list[Finding]:
    """Reports signs that the label column is not the intended one."""
    findings = []
    header = [label for label in counts if label.strip().casefold() == settings.label.strip().casefold()]
    if header:
        rows = [row for row, label in zip(train.rows, train.labels, strict=True) if label in header]
        message = (
            f"{train.shown}: {counted(len(rows), 'row')} with the name of the label column, {visible(header[0])}, as label; "
            "delete the rows if they are repeated header rows"
        )
        findings.append(of_rows("header_as_label", message, rows))
    rows = [
        row
        for row, label, texts in zip(train.rows, train.labels, train.texts, strict=True)
        if any(text.strip().casefold() == label.strip().casefold() for text in texts)
    ]
    if len(rows) > 0.1 * len(train.rows):
        message = (
            f"{train.shown}: in {len(rows):,} of {counted(len(train.rows), 'row')} the text is the label itself; are "
            "dataset.text and dataset.label the right columns?"
        )
        findings.append(of_rows("text_is_label", message, rows))
    if holds_flags_only(list(counts)) and settings.label in (flags := flag_columns(train.file, settings)):
        findings.append(Finding("label_columns", f"{train.shown}: {flag_columns_message(flags)}", len(flags)))
    if len(train.labels) >= 20 and len(counts) > 0.5 * len(train.labels):
        message = (
            f"{train.shown}: {len(counts):,} labels in {len(train.labels):,} rows; is dataset.label the right column?"
        )
        findings.append(Finding("many_labels", message, len(counts)))
    return findings


def _findings_of_balance(train: Examples, counts: Counter[str]) -> list[Finding]:
    (largest, most), (smallest, fewest) = counts.most_common()[0], counts.most_common()[-1]
    if most < 10 * fewest and most < 0.8 * len(train.labels):
        return []
    message = (
        f"{train.shown}: imbalanced labels, from {counted(fewest, 'row')} ({percent(fewest / len(train.labels))}, "
        f"{visible(smallest)}) to {most:,} ({percent(most / len(train.labels))}, {visible(largest)}); compare macro-F1 as "
        "well as the accuracy"
    )
    return [Finding("imbalanced", message, len(counts))]


def _numeric_order(labels: Sequence[str]) -> list[str] | None:
    """Returns labels that are whole numbers in numerical order, or None if this order is the same."""
    if not all(re.fullmatch(r"-?\d{1,18}", label) for label in labels):
        return None
    order = sorted(labels, key=lambda label: (int(label), label))
    return order if order != list(labels) else None


def findings_of_leaks(examples: dict[str, Examples], keys: dict[str, RowKeys]) -> list[Finding]:
    """Reports rows of one file whose texts are in another file: results measured on them are too good."""
    findings = []
    for measured, seen in (("validation", "train"), ("test", "train"), ("test", "validation")):
        if measured in examples and seen in examples:
            one, other = examples[measured], examples[seen]
            known, written = set(keys[seen].keys), set(other.texts)
            places = [place for place, key in enumerate(keys[measured].keys) if key in known]
            if places:
                differing = _Differing(keys[measured])
                for place in places:
                    if one.texts[place] not in written:
                        differing.add(place)
                message = (
                    f"{one.shown}: the texts of {len(places):,} of {counted(len(one.rows), 'row')} "
                    f"({percent(len(places) / len(one.rows))}) are in {other.shown} too{differing.described()}, so results "
                    "on them are too good; remove them from one of the files"
                )
                findings.append(of_rows("leak", message, [one.rows[place] for place in places]))
    return findings


def findings_of_splits(splits: dict[str, Split], labels: Sequence[str]) -> list[Finding]:
    findings = []
    trained = set(splits["train"].labels.tolist())
    for name in ("validation", "test"):
        if name in splits:
            split = splits[name]
            missing = sorted(trained - set(split.labels.tolist()))
            if missing:
                names = named([labels[index] for index in missing])
                message = f"{name}: no row has the label {names}, so it is not measured"
                findings.append(Finding(f"{name}_without_label", message, len(missing)))
            if len(split.rows) < _FEW_ROWS:
                use = "the best epoch and the calibration" if name == "validation" else "the results"
                message = (
                    f"{name}: {counted(len(split.rows), 'row')} only, so {use} depend on chance; add rows, or set "
                    f"dataset.{name} to more of them ({_FEW_ROWS} or more)"
                )
                findings.append(Finding("few_rows", message, len(split.rows)))
    if "test" not in splits:
        message = (
            "No test data. Results are measured on the validation rows, which also choose the best epoch, so they are "
            "slightly optimistic. Set dataset.test to a file or to a fraction such as 0.2"
        )
        findings.append(Finding("no_test", message, 0, severity="note"))
    return findings
