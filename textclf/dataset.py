"""Labelled examples: the dataset part of a recipe in, checked splits out, with everything odd about the data counted.

What makes the data unusable stops with one DataError that lists all of it: files that cannot be read, missing columns,
rows with faults, empty or unknown labels, fewer than two labels. The rest becomes a `Finding` and is shown.
Rows with an empty text belong to the rest: they teach nothing and exports are full of them, so an error would only make
people delete them by hand; they are left out and counted. An empty label stops: the row was meant to teach something.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from textclf.batch_files import open_input
from textclf.errors import DataError, EncoderError
from textclf.file_reading import FileReader, encoding_errors
from textclf.findings import Finding, Severity, counted, listed, named, of_rows, percent, visible
from textclf.label_lists import flag_columns, flag_columns_message, holds_flags_only, list_findings
from textclf.label_spellings import alike_findings, not_writable, odd_blanks, other_spellings, typing_error_findings
from textclf.missing_values import missing_labels, missing_texts
from textclf.recipe import DatasetSettings
from textclf.row_keys import Reading, RowKeys, Texts, as_tokens, as_written
from textclf.script_fit import fit_findings
from textclf.tables import Note, Table, open_table, shown_path
from textclf.text_faults import text_findings
from textclf.tokenizer import TextTokenizer, share_of_different_rows

# With fewer rows, one of them changes the accuracy by more than 2 percentage points.
_FEW_ROWS = 50
# Texts, and characters of each, on which two tokenizers are compared; a share does not need all of them.
_TEXTS_COMPARED, _CHARACTERS_COMPARED = 10_000, 2_000


@dataclass(frozen=True)
class Split:
    """The rows of one split, in the order of their file.

    `texts` has one or two strings a row, `labels` int32 [rows] indices into `Dataset.labels`, `rows` spreadsheet row
    numbers of `file` (the header is row 1).
    """

    name: str
    texts: list[Texts]
    labels: np.ndarray
    rows: list[int]
    file: Path


@dataclass(frozen=True)
class Dataset:
    """Checked data: all labels in the order of the model's outputs, the splits, what was noticed, and the SHA-256 of
    every file that was read."""

    labels: list[str]
    train: Split
    validation: Split
    test: Split | None
    findings: list[Finding]
    files: dict[Path, str]

    @property
    def splits(self) -> list[Split]:
        """Those that there are, in the order train, validation, test."""
        return [self.train, *self.held_out]

    @property
    def held_out(self) -> list[Split]:
        """The splits that are not trained on."""
        return [self.validation] if self.test is None else [self.validation, self.test]


def load_dataset(settings: DatasetSettings, seed: int, reading: Reading = as_written) -> Dataset:
    """Read, check and split the data.

    Labels are `settings.labels`, or those of the training file in plain string order (so "10" comes before "9").
    Shares are set aside from the training file stratified by label. `reading` decides which rows are equal: what a model
    reads alike always stays on one side, so that no split holds a text of another, and duplicates, contradictions and
    rows of one file in another are found by it. `load_recipe_data` passes the reading of a recipe's model.
    Which side a text is on depends on the seed and the text alone as far as the shares allow: reordering the file changes
    nothing, and adding rows moves few.

    Raises DataError with every problem that stops, one a line.
    """
    errors: list[str] = []
    files = {"train": settings.train, "validation": settings.validation, "test": settings.test}
    paths = {name: path for name, path in files.items() if isinstance(path, Path)}
    readers: list[FileReader] = []
    read = {name: _read_examples(name, path, settings, errors, readers) for name, path in paths.items()}
    errors += encoding_errors(readers)
    examples = {name: one for name, one in read.items() if one is not None}
    labels = _labels(settings, examples, errors)
    if errors:
        raise DataError("\n".join(errors))
    keys = {name: reading(one.texts) for name, one in examples.items()}
    findings = [finding for one in examples.values() for finding in _findings_of_table(one)]
    findings += [finding for name, one in examples.items() for finding in _findings_of_file(one, keys[name], settings)]
    findings += _findings_of_labels(examples["train"], labels, settings)
    findings += _findings_of_leaks(examples, keys)
    splits = _splits(settings, seed, labels, examples, keys["train"])
    if not splits["validation"].rows:
        raise DataError(
            f"{examples['train'].shown}: no label has two texts that the model reads differently, so none can be set "
            "aside for validation; add rows, or set dataset.validation to a file"
        )
    findings += _findings_of_splits(splits, labels)
    digests = {path: _sha256(path) for path in paths.values()}
    return Dataset(list(labels), splits["train"], splits["validation"], splits.get("test"), findings, digests)


# --- Reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Examples:
    """The rows of one file that have texts; labels still as text. `left_out` are the rows with an empty text, `notes` what
    was read otherwise than it is written."""

    name: str
    file: Path
    texts: list[Texts] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @property
    def shown(self) -> str:
        return shown_path(self.file)


def _read_examples(
    name: str, path: Path, settings: DatasetSettings, errors: list[str], readers: list[FileReader]
) -> _Examples | None:
    """The rows of a file; None, and at least one more error or rows in another encoding, when they cannot be used."""
    examples = _Examples(name, path)
    before = len(errors)
    wanted = (*settings.text, settings.label)
    try:
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            raise DataError(f"{examples.shown}: not a regular file, but it is read more than once; save it to a file")
        with open_input(examples.shown) as file:
            table = open_table(file.stream, settings.delimiter, settings.encoding, wanted, examples.shown)
            columns = _columns(table, settings, errors)
            if len(columns) == len(wanted):
                reader = FileReader(table, path, f"dataset.{name}")
                readers.append(reader)
                errors += _collect(examples, reader, columns)
            elif flags := flag_columns(path, settings):
                errors[-1] += f". In this file {flag_columns_message(flags)}"
    except DataError as error:
        errors.append(str(error))
    return examples if len(errors) == before else None


def _columns(table: Table, settings: DatasetSettings, errors: list[str]) -> list[int]:
    columns = []
    for name, key in (*((name, "dataset.text") for name in settings.text), (settings.label, "dataset.label")):
        try:
            columns.append(table.column(name, key))
        except DataError as error:
            errors.append(str(error))
    return columns


def _collect(examples: _Examples, reader: FileReader, columns: Sequence[int]) -> list[str]:
    """Fill the examples from a table whose last named column is the label; returns what stops."""
    unlabelled: list[int] = []
    not_held: dict[str, list[tuple[int, str]]] = {}
    text_columns, label_column = columns[:-1], columns[-1]
    for row in reader:
        texts = tuple(row.fields[column] for column in text_columns)
        label = row.fields[label_column]
        if not any(text.strip() for text in texts):
            examples.left_out.append(row.number)
        elif not label.strip():
            unlabelled.append(row.number)
        elif (problem := not_writable(label)) is not None:
            not_held.setdefault(problem, []).append((row.number, label))
        else:
            examples.texts.append(texts)
            examples.labels.append(label)
            examples.rows.append(row.number)
    examples.notes.extend(reader.notes(examples.labels, examples.texts, examples.rows))
    errors = reader.errors()
    if unlabelled:
        errors.append(
            f"{reader.name}: no label in {listed(unlabelled)}, and rows without a label cannot be used; fill in the labels, "
            "or save the labelled rows to a file of their own and train on that"
        )
    for problem, found in not_held.items():
        errors.append(
            f"{reader.name}: the label {visible(found[0][1])} in {listed([row for row, _ in found])} {problem}, but a "
            "model's label file holds one label on each line; remove the character from the label"
        )
    if not examples.rows and not errors and reader.undecodable is None:
        what = "no row has a text" if examples.left_out else "no rows below the header"
        errors.append(f"{reader.name}: {what}; add rows with a text and a label")
    return errors


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


# --- Labels ----------------------------------------------------------------------------------------------------------


def _labels(settings: DatasetSettings, examples: dict[str, _Examples], errors: list[str]) -> Sequence[str]:
    """The labels of the model, in order; what is wrong with the labels of the files goes to the errors."""
    train = examples.get("train")
    labels = settings.labels or (sorted(set(train.labels)) if train else ())
    errors += [
        f"dataset.labels: the label {visible(label)} {problem}, but a model's label file holds one label on each line; "
        "remove the character from the label"
        for label in settings.labels or ()
        if (problem := not_writable(label)) is not None
    ]
    if train and len(set(train.labels)) == 1:
        errors.append(
            f"{train.shown}: every row has the label {visible(train.labels[0])}, but a classifier needs two labels or more; "
            "add rows with another label, or set dataset.label to another column"
        )
    if labels:
        known = set(labels)
        errors += [
            _unknown_labels(one, unknown, labels, settings)
            for one in examples.values()
            if (
                unknown := [(label, row) for label, row in zip(one.labels, one.rows, strict=True) if label not in known]
            )
        ]
    return labels


def _unknown_labels(
    examples: _Examples, unknown: Sequence[tuple[str, int]], labels: Sequence[str], settings: DatasetSettings
) -> str:
    names, rows = sorted({label for label, _ in unknown}), [row for _, row in unknown]
    source = "dataset.labels" if settings.labels else "the labels in the training file"
    message = f"{examples.shown}: {named(names)} in {listed(rows)}, but {source} are {named(labels)}"
    meant = other_spellings(names, labels)
    if meant:
        pairs = [f"{visible(label)} is perhaps {visible(known)}" for label, known in list(meant.items())[:3]]
        return f"{message}; {', '.join(pairs)}: write each label alike in all files"
    return f"{message}; correct the rows, or {'add the label there' if settings.labels else 'add such rows there'}"


# --- Findings --------------------------------------------------------------------------------------------------------


_NOTES_THAT_WARN = ("encoding_doubt", "first_row", "last_row")


def _findings_of_table(examples: _Examples) -> list[Finding]:
    """What was read otherwise than it is written in one file."""
    findings = []
    for note in examples.notes:
        severity: Severity = "warning" if note.kind in _NOTES_THAT_WARN else "note"
        if note.rows:
            findings.append(of_rows(note.kind, note.message, note.rows, severity))
        else:
            findings.append(Finding(note.kind, note.message, 0, severity=severity))
    return findings


def _findings_of_file(examples: _Examples, keys: RowKeys, settings: DatasetSettings) -> list[Finding]:
    """What is odd about the rows of one file."""
    shown, findings = examples.shown, []
    if examples.left_out:
        message = f"{shown}: {counted(len(examples.left_out), 'row')} without text left out"
        findings.append(of_rows("empty_text", message, examples.left_out, "note"))
    findings += _findings_of_half_empty_pairs(examples, settings)
    findings += missing_texts(shown, examples.texts, examples.rows)
    findings += text_findings(shown, examples.texts, examples.rows)
    findings += _findings_of_duplicates(examples, keys)
    return findings + _findings_of_contradictions(examples, keys)


def _findings_of_half_empty_pairs(examples: _Examples, settings: DatasetSettings) -> list[Finding]:
    rows = [row for row, texts in zip(examples.rows, examples.texts, strict=True) if not all(map(str.strip, texts))]
    if not rows:
        return []
    counts = [sum(not texts[place].strip() for texts in examples.texts) for place in range(len(settings.text))]
    where = " and ".join(
        f"{visible(name)} ({count:,})" for name, count in zip(settings.text, counts, strict=True) if count
    )
    message = f"{examples.shown}: {counted(len(rows), 'row')} with one text of the pair empty, {where}, kept"
    return [of_rows("half_empty_pair", message, rows, "note")]


def _findings_of_duplicates(examples: _Examples, keys: RowKeys) -> list[Finding]:
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


def _findings_of_contradictions(examples: _Examples, keys: RowKeys) -> list[Finding]:
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
    message = f"{examples.shown}: {what} more than one label{differing.described()}; correct the rows that are wrong"
    return [of_rows("contradiction", message, [examples.rows[place] for place in places])]


class _Differing:
    """Counts rows whose texts are written otherwise than those of a row that the model reads alike."""

    def __init__(self, keys: RowKeys) -> None:
        self._keys = keys
        self._rows = self._with_unknown = 0

    def add(self, place: int) -> None:
        self._rows += 1
        self._with_unknown += self._keys.unknown[place]

    def described(self) -> str:
        """Follows a sentence about the rows; empty where all texts are the same to the letter."""
        if not self._rows:
            return ""
        unknown = (
            f"; {self._with_unknown:,} of these with words that the encoder does not know ([UNK]) and cannot tell apart"
            if self._with_unknown
            else ""
        )
        written = "row is" if self._rows == 1 else "rows are"
        return f" as the model reads them ({self._rows:,} {written} written differently{unknown})"


def _findings_of_labels(train: _Examples, labels: Sequence[str], settings: DatasetSettings) -> list[Finding]:
    """Labels that are hard to learn or look like mistakes, in the training file as a whole."""
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


def _findings_of_rare_labels(train: _Examples, labels: Sequence[str], counts: Counter[str]) -> list[Finding]:
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


def _findings_of_columns(train: _Examples, counts: Counter[str], settings: DatasetSettings) -> list[Finding]:
    """Signs that the label column is not what a person takes it for."""
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


def _findings_of_balance(train: _Examples, counts: Counter[str]) -> list[Finding]:
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
    """Labels that are whole numbers, in the order of numbers; None where this is no other order."""
    if not all(re.fullmatch(r"-?\d{1,18}", label) for label in labels):
        return None
    order = sorted(labels, key=lambda label: (int(label), label))
    return order if order != list(labels) else None


def _findings_of_leaks(examples: dict[str, _Examples], keys: dict[str, RowKeys]) -> list[Finding]:
    """Rows of one file whose texts stand in another: results measured on them are too good."""
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


def _findings_of_splits(splits: dict[str, Split], labels: Sequence[str]) -> list[Finding]:
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


# --- Splits ----------------------------------------------------------------------------------------------------------


def _splits(
    settings: DatasetSettings, seed: int, labels: Sequence[str], examples: dict[str, _Examples], keys: RowKeys
) -> dict[str, Split]:
    train = examples["train"]
    shares = {
        name: share
        for name, share in (("test", settings.test), ("validation", settings.validation))
        if isinstance(share, float)
    }
    index_of = {label: index for index, label in enumerate(labels)}
    side = set_aside(train.texts, [index_of[label] for label in train.labels], shares, seed, keys.keys)
    splits: dict[str, Split] = {}
    for name in ("train", "validation", "test"):
        source = examples.get(name, train)
        if name in examples or name in shares:
            chosen = [index for index in range(len(source.rows)) if source is not train or side[index] == name]
            splits[name] = Split(
                name,
                [source.texts[index] for index in chosen],
                np.array([index_of[source.labels[index]] for index in chosen], np.int32),
                [source.rows[index] for index in chosen],
                source.file,
            )
    return splits


def set_aside(
    texts: Sequence[Texts],
    labels: Sequence[int],
    shares: dict[str, float],
    seed: int,
    keys: Sequence[Hashable] | None = None,
) -> list[str]:
    """The split of each row: "train", or a key of `shares`, which is served in its order.

    Each share is taken from every label in proportion (rounded by largest remainders). Rows with equal `keys`, by default
    the texts themselves, go together, under the label of the first. Every label with two different keys or more gives at
    least one to the last share, every one with three or more to both; at least one stays in train.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(texts if keys is None else keys):
        groups.setdefault(key, []).append(index)
    # A group's place depends on the first of its texts in the order of the alphabet, wherever they are in the file.
    order = {key: _shuffled_order(min(texts[index] for index in group), seed) for key, group in groups.items()}
    strata: dict[int, list[list[int]]] = {}
    for key in sorted(groups, key=order.__getitem__):
        strata.setdefault(labels[groups[key][0]], []).append(groups[key])
    sizes = {label: sum(map(len, strata[label])) for label in sorted(strata)}
    side = ["train"] * len(texts)
    for place, (name, share) in enumerate(shares.items()):
        for label, quota in _quotas(sizes, share).items():
            remaining = len(shares) - place  # one for train, one for each share that follows
            taken, strata[label] = _take(strata[label], quota, keep=remaining)
            for index in (index for group in taken for index in group):
                side[index] = name
    return side


def _shuffled_order(texts: Texts, seed: int) -> bytes:
    """A place in a random order that depends on the seed and the text only, on every machine and version."""
    content = "\0".join(texts).encode("utf-8", errors="surrogatepass")
    return hashlib.blake2b(content, digest_size=16, key=seed.to_bytes(8, "little")).digest()


def _quotas(sizes: dict[int, int], share: float) -> dict[int, int]:
    """Whole rows a label that add up to the share of all rows, by largest remainders (of equal ones the first)."""
    quotas = {label: int(share * size) for label, size in sizes.items()}
    missing = round(share * sum(sizes.values())) - sum(quotas.values())
    by_remainder = sorted(sizes, key=lambda label: quotas[label] - share * sizes[label])
    for label in by_remainder[: max(missing, 0)]:
        quotas[label] += 1
    return quotas


def _take(groups: list[list[int]], quota: int, keep: int) -> tuple[list[list[int]], list[list[int]]]:
    """The first groups that fit into `quota` rows, but one in any case, and the others, `keep` of them or more."""
    allowed = len(groups) - keep
    taken: list[list[int]] = []
    left: list[list[int]] = []
    for group in groups:
        if len(taken) < allowed and len(group) <= quota:
            taken.append(group)
            quota -= len(group)
        else:
            left.append(group)
    if not taken and allowed > 0:
        taken.append(left.pop(min(range(len(left)), key=lambda place: len(left[place]))))
    return taken, left


# --- Tokens ----------------------------------------------------------------------------------------------------------


def token_findings(dataset: Dataset, tokenizer: TextTokenizer, max_length: int, source: str = "") -> list[Finding]:
    """What the tokenizer does to the training rows: how many are truncated at `max_length` tokens, how many tokens are
    [UNK] and of which words, whether the encoder knows the language, and whether devices and BERT's own programs would
    split the texts differently. `source` is what the recipe calls the encoder."""
    train = dataset.train
    texts = [text for row in train.texts for text in row]
    pieces = tokenizer.pieces(texts)
    added = tokenizer.ids_added(len(train.texts[0]))
    findings = _findings_of_length(train, [len(own) for own in pieces], added, max_length)
    findings += fit_findings(shown_path(train.file), train.texts, train.rows, tokenizer, source)
    findings += _findings_of_unknown(train, texts, pieces, tokenizer)
    if tokenizer.kind == "regex":
        return findings + _findings_of_unknown_twins(dataset, tokenizer, max_length)
    return findings + _findings_of_tokenizers(train, texts, tokenizer)


def _findings_of_length(train: Split, piece_counts: Sequence[int], added: int, max_length: int) -> list[Finding]:
    width, shown = len(train.texts[0]), shown_path(train.file)
    lengths = [added + sum(piece_counts[start : start + width]) for start in range(0, len(piece_counts), width)]
    findings = []
    empty = [row for row, length in zip(train.rows, lengths, strict=True) if length == added]
    if empty:
        message = (
            f"{shown}: {counted(len(empty), 'text')} in which the encoder reads no token at all; correct or delete them"
        )
        findings.append(of_rows("no_tokens", message, empty))
    rows = [row for row, length in zip(train.rows, lengths, strict=True) if length > max_length]
    if rows:
        nearly_all = int(np.quantile(lengths, 0.99, method="inverted_cdf"))
        are = "is" if len(rows) == 1 else "are"
        message = (
            f"{shown}: {len(rows):,} of {counted(len(lengths), 'text')} ({percent(len(rows) / len(lengths))}) {are} longer "
            f"than {max_length} tokens (encoder.max_length) and will be truncated; 99% need {nearly_all} or fewer, the "
            f"longest needs {max(lengths):,}"
        )
        findings.append(of_rows("truncated", message, rows, "note"))
    return findings


def _findings_of_unknown(
    train: Split, texts: Sequence[str], pieces: Sequence[Sequence[int]], tokenizer: TextTokenizer
) -> list[Finding]:
    unknown = [own.count(tokenizer.unknown_id) for own in pieces]
    if not any(unknown):
        return []
    width = len(train.texts[0])
    rows = [row for place, row in enumerate(train.rows) if any(unknown[place * width : (place + 1) * width])]
    total = sum(map(len, pieces))
    share = f"{shown_path(train.file)}: {sum(unknown):,} of {total:,} {{}} ({percent(sum(unknown) / total)})"
    if tokenizer.kind == "regex":
        message = (
            f"{share.format('words')} have no vector of their own: they occur once, or are not among the most frequent "
            "encoder.words"
        )
        return [of_rows("unknown_tokens", message, rows, "note")]
    words = Counter(
        word for text, count in zip(texts, unknown, strict=True) if count for word in re.findall(r"\w+|[^\w\s]", text)
    )
    pieces_of = dict(zip(words, tokenizer.pieces(list(words)), strict=True))
    frequent = [word for word, _ in words.most_common() if tokenizer.unknown_id in pieces_of[word]][:5]
    which = f", most often {named(frequent)}" if frequent else ""
    message = f"{share.format('tokens')} are unknown to the encoder ([UNK]){which}"
    return [of_rows("unknown_tokens", message, rows, "note")]


def _findings_of_unknown_twins(dataset: Dataset, tokenizer: TextTokenizer, max_length: int) -> list[Finding]:
    """Rows that were told apart before the split, but not by the words of the vocabulary that the training rows gave."""
    read = as_tokens(tokenizer, max_length)
    trained = set(read(dataset.train.texts).keys)
    findings = []
    for split in dataset.held_out:
        keys = read(split.texts)
        rows = [
            row
            for row, key, unknown in zip(split.rows, keys.keys, keys.unknown, strict=True)
            if unknown and key in trained
        ]
        if rows:
            message = (
                f"{split.name}: {counted(len(rows), 'row')} of {shown_path(split.file)} that the model cannot tell apart from "
                "training rows, because they differ in unknown words only"
            )
            findings.append(of_rows("unknown_words_only", message, rows, "note"))
    return findings


def _findings_of_tokenizers(train: Split, texts: Sequence[str], tokenizer: TextTokenizer) -> list[Finding]:
    with suppress(EncoderError):  # a vocabulary that devices cannot use at all: nothing to compare with
        compared = [text[:_CHARACTERS_COMPARED] for text in texts[:: -(-len(texts) // _TEXTS_COMPARED)]]
        share = share_of_different_rows(tokenizer.vocabulary, compared)
        if share > 0.01:
            remedy = (
                "Phones will split them as in training, but words with accents may be unknown to the encoder"
                if tokenizer.kind == "device"
                else "Phones will not split them as in training; set encoder.tokenizer to device to train on what phones read"
            )
            message = (
                f"{shown_path(train.file)}: {percent(share)} of the texts are split differently by device tokenizers "
                f"and by BERT's own, which removes accents and lower-cases all letters. {remedy}"
            )
            return [Finding("tokenizers_differ", message, round(share * len(texts)), severity="note")]
    return []
