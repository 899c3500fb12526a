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
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from textclf.batch_files import open_input
from textclf.errors import DataError, EncoderError
from textclf.file_reading import FileReader, encoding_errors
from textclf.recipe import DatasetSettings
from textclf.tables import Note, Table, open_table, shown_path
from textclf.tokenizer import TextTokenizer, share_of_different_rows

Texts = tuple[str, ...]

ROWS_LISTED = 5
ROWS_KEPT = 20


@dataclass(frozen=True)
class Finding:
    """Something odd about the data that does not stop training.

    `kind` is a word to look for, `message` a sentence, `count` how many rows (or labels) it concerns and `rows` the
    spreadsheet numbers of the first of them.
    """

    kind: str
    message: str
    count: int
    rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.message


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


def load_dataset(settings: DatasetSettings, seed: int) -> Dataset:
    """Read, check and split the data.

    Labels are `settings.labels`, or those of the training file in plain string order (so "10" comes before "9").
    Shares are set aside from the training file stratified by label. Identical texts always stay on one side, so that no
    split holds a text of another. Which side that is depends on the seed and the text alone as far as the shares allow:
    reordering the file changes nothing, and adding rows moves few.

    Raises DataError with every problem that stops, one a line.
    """
    errors: list[str] = []
    named = {"train": settings.train, "validation": settings.validation, "test": settings.test}
    paths = {name: path for name, path in named.items() if isinstance(path, Path)}
    readers: list[FileReader] = []
    read = {name: _read_examples(name, path, settings, errors, readers) for name, path in paths.items()}
    errors += encoding_errors(readers)
    examples = {name: one for name, one in read.items() if one is not None}
    labels = _labels(settings, examples, errors)
    if errors:
        raise DataError("\n".join(errors))
    findings = [finding for one in examples.values() for finding in _findings_of_table(one)]
    findings += [finding for one in examples.values() for finding in _findings_of_file(one)]
    findings += _findings_of_labels(examples["train"], labels)
    findings += _findings_of_leaks(examples)
    splits = _splits(settings, seed, labels, examples)
    if not splits["validation"].rows:
        raise DataError(
            f"{examples['train'].shown}: no label has two different texts, so none can be set aside for validation; "
            "add rows, or name a file in dataset.validation"
        )
    findings += _findings_of_splits(splits, labels)
    files = {path: _sha256(path) for path in paths.values()}
    return Dataset(list(labels), splits["train"], splits["validation"], splits.get("test"), findings, files)


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
    unlabelled, broken_labels = [], []
    text_columns, label_column = columns[:-1], columns[-1]
    for row in reader:
        texts = tuple(row.fields[column] for column in text_columns)
        label = row.fields[label_column]
        if not all(text.strip() for text in texts):
            examples.left_out.append(row.number)
        elif not label.strip():
            unlabelled.append(row.number)
        elif len(label.splitlines()) > 1:
            broken_labels.append(row.number)
        else:
            examples.texts.append(texts)
            examples.labels.append(label)
            examples.rows.append(row.number)
    examples.notes.extend(reader.notes(examples.labels, examples.texts, examples.rows))
    errors = reader.errors()
    if unlabelled:
        errors.append(f"{reader.name}: no label in {_listed(unlabelled)}; fill in the label, or delete what has none")
    if broken_labels:
        errors.append(
            f"{reader.name}: a line break in the label of {_listed(broken_labels)}, which no model's label file can "
            "hold; write the label on one line"
        )
    if not examples.rows and not errors and reader.undecodable is None:
        what = "no row has a text" if examples.left_out else "no rows below the header"
        errors.append(f"{reader.name}: {what}; add rows with a text and a label")
    return errors


def _listed(rows: Sequence[int]) -> str:
    """`row 5`, `rows 5 and 9`, `rows 2, 3, 5, 8, 13 and 4 more`."""
    shown = [f"{row}" for row in rows[:ROWS_LISTED]]
    if len(rows) > ROWS_LISTED:
        shown.append(f"{len(rows) - ROWS_LISTED:,} more")
    return f"row{'s' if len(rows) > 1 else ''} {_enumerated(shown)}"


def _named(labels: Sequence[str]) -> str:
    """`a`, `b` and `c`; of many the first five."""
    shown = [f"`{label}`" for label in labels[:ROWS_LISTED]]
    return _enumerated([*shown, f"{len(labels) - ROWS_LISTED:,} more"] if len(labels) > ROWS_LISTED else shown)


def _enumerated(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


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
    if train and len(set(train.labels)) == 1:
        errors.append(
            f"{train.shown}: every row has the label `{train.labels[0]}`, so there is nothing to tell apart; "
            "add rows of another label, or name another column in dataset.label"
        )
    known = set(labels)
    for one in examples.values():
        unknown = [(label, row) for label, row in zip(one.labels, one.rows, strict=True) if label not in known]
        if unknown and labels:
            names, rows = _named(sorted({label for label, _ in unknown})), _listed([row for _, row in unknown])
            source = "dataset.labels" if settings.labels else "the labels in the training file"
            remedy = "add the label there" if settings.labels else "add such rows there"
            errors.append(
                f"{one.shown}: {names} in {rows}, but {source} are {_named(labels)}; correct the rows, or {remedy}"
            )
    return labels


# --- Findings --------------------------------------------------------------------------------------------------------


def _findings_of_table(examples: _Examples) -> list[Finding]:
    """What was read otherwise than it is written in one file."""
    return [
        _of_rows(note.kind, note.message, note.rows) if note.rows else Finding(note.kind, note.message, 0)
        for note in examples.notes
    ]


def _findings_of_file(examples: _Examples) -> list[Finding]:
    """Empty, repeated and contradictory rows of one file."""
    findings = []
    if examples.left_out:
        count = len(examples.left_out)
        findings.append(
            _of_rows("empty_text", f"{examples.shown}: {_rows(count)} without text left out", examples.left_out)
        )
    labels_of: dict[Texts, set[str]] = {}
    repeated = []
    for texts, label, row in zip(examples.texts, examples.labels, examples.rows, strict=True):
        labels = labels_of.setdefault(texts, set())
        if label in labels:
            repeated.append(row)
        labels.add(label)
    if repeated:
        message = f"{examples.shown}: {_rows(len(repeated))} with text and label of an earlier row, kept"
        findings.append(_of_rows("duplicate", message, repeated))
    contradictory = {texts for texts, labels in labels_of.items() if len(labels) > 1}
    if contradictory:
        rows = [row for texts, row in zip(examples.texts, examples.rows, strict=True) if texts in contradictory]
        what = "1 text has" if len(contradictory) == 1 else f"{len(contradictory):,} texts have"
        message = f"{examples.shown}: {what} more than one label; correct the rows that are wrong"
        findings.append(_of_rows("contradiction", message, rows))
    return findings


def _findings_of_labels(train: _Examples, labels: Sequence[str]) -> list[Finding]:
    """Labels that are hard to learn or look like mistakes, in the training file as a whole."""
    findings = []
    counts = Counter(train.labels)
    unseen = [label for label in labels if not counts[label]]
    if unseen:
        message = f"{train.shown}: no row has the label {_named(unseen)} of dataset.labels, so it cannot be learned"
        findings.append(Finding("label_without_rows", message, len(unseen)))
    single = [label for label in labels if counts[label] == 1]
    if single:
        rows = [row for row, label in zip(train.rows, train.labels, strict=True) if counts[label] == 1]
        have = "have one row each" if len(single) > 1 else "has one row only"
        message = f"{train.shown}: {_named(single)} {have}, kept for training; add rows"
        findings.append(_of_rows("single_row", message, rows))
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault(" ".join(label.casefold().split()), []).append(label)
    for group in alike.values():
        if len(group) > 1:
            message = f"{train.shown}: the labels {_named(group)} differ in capitals or spaces only; is it one label?"
            findings.append(Finding("similar_labels", message, len(group)))
    (largest, most), (smallest, fewest) = counts.most_common()[0], counts.most_common()[-1]
    if most >= 10 * fewest or most >= 0.8 * len(train.labels):
        message = (
            f"{train.shown}: very uneven labels, from {fewest:,} ({fewest / len(train.labels):.1%}, `{smallest}`) to "
            f"{most:,} rows ({most / len(train.labels):.1%}, `{largest}`); look at macro-F1 beside the accuracy"
        )
        findings.append(Finding("uneven", message, len(labels)))
    if len(train.labels) >= 20 and len(counts) > 0.5 * len(train.labels):
        message = (
            f"{train.shown}: {len(counts):,} labels in {len(train.labels):,} rows; is dataset.label the right column?"
        )
        findings.append(Finding("many_labels", message, len(counts)))
    return findings


def _findings_of_leaks(examples: dict[str, _Examples]) -> list[Finding]:
    """Rows of one file whose texts stand in another: results measured on them are too good."""
    findings = []
    for measured, seen in (("validation", "train"), ("test", "train"), ("test", "validation")):
        if measured in examples and seen in examples:
            one, other = examples[measured], examples[seen]
            texts = set(other.texts)
            rows = [row for row, own in zip(one.rows, one.texts, strict=True) if own in texts]
            if rows:
                message = (
                    f"{one.shown}: the text of {len(rows):,} of {_rows(len(one.rows))} "
                    f"({_percent(len(rows) / len(one.rows))}) also stands in {other.shown}, so results on them are too "
                    "good; remove them from one of the files"
                )
                findings.append(_of_rows("leak", message, rows))
    return findings


def _findings_of_splits(splits: dict[str, Split], labels: Sequence[str]) -> list[Finding]:
    findings = []
    trained = set(splits["train"].labels.tolist())
    for name in ("validation", "test"):
        if name in splits:
            missing = sorted(trained - set(splits[name].labels.tolist()))
            if missing:
                names = _named([labels[index] for index in missing])
                message = f"{name}: no row has the label {names}, so it is not measured"
                findings.append(Finding(f"{name}_without_label", message, len(missing)))
    if "test" not in splits:
        message = (
            "no test split: results come from the validation rows, which also choose the best epoch, and are a little "
            "too good; name a file or a share in dataset.test"
        )
        findings.append(Finding("no_test", message, 0))
    return findings


def _of_rows(kind: str, message: str, rows: Sequence[int]) -> Finding:
    return Finding(kind, f"{message} ({_listed(rows)})", len(rows), tuple(rows[:ROWS_KEPT]))


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


# --- Splits ----------------------------------------------------------------------------------------------------------


def _splits(
    settings: DatasetSettings, seed: int, labels: Sequence[str], examples: dict[str, _Examples]
) -> dict[str, Split]:
    train = examples["train"]
    shares = {
        name: share
        for name, share in (("test", settings.test), ("validation", settings.validation))
        if isinstance(share, float)
    }
    index_of = {label: index for index, label in enumerate(labels)}
    side = set_aside(train.texts, [index_of[label] for label in train.labels], shares, seed)
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


def set_aside(texts: Sequence[Texts], labels: Sequence[int], shares: dict[str, float], seed: int) -> list[str]:
    """The split of each row: "train", or a key of `shares`, which is served in its order.

    Each share is taken from every label in proportion (rounded by largest remainders); rows with identical texts go
    together, under the label of the first. Every label with two different texts or more gives at least one to the last
    share, every one with three or more to both; at least one stays in train.
    """
    groups: dict[Texts, list[int]] = {}
    for index, row_texts in enumerate(texts):
        groups.setdefault(row_texts, []).append(index)
    strata: dict[int, list[list[int]]] = {}
    for row_texts in sorted(groups, key=lambda own: _shuffled_order(own, seed)):
        strata.setdefault(labels[groups[row_texts][0]], []).append(groups[row_texts])
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


def token_findings(dataset: Dataset, tokenizer: TextTokenizer, max_length: int) -> list[Finding]:
    """What the tokenizer does to the training rows: how many are cut at `max_length` tokens, how many pieces are [UNK]
    and of which words, and whether devices and BERT's own programs would cut them differently."""
    texts = [text for row in dataset.train.texts for text in row]
    pieces = tokenizer.pieces(texts)
    added = tokenizer.ids_added(len(dataset.train.texts[0]))
    findings = _findings_of_length(dataset.train, [len(own) for own in pieces], added, max_length)
    findings += _findings_of_unknown(dataset.train, texts, pieces, tokenizer)
    return findings + _findings_of_tokenizers(dataset.train, texts, tokenizer)


def _findings_of_length(train: Split, piece_counts: Sequence[int], added: int, max_length: int) -> list[Finding]:
    width = len(train.texts[0])
    lengths = [added + sum(piece_counts[start : start + width]) for start in range(0, len(piece_counts), width)]
    rows = [row for row, length in zip(train.rows, lengths, strict=True) if length > max_length]
    if not rows:
        return []
    nearly_all = int(np.quantile(lengths, 0.99, method="inverted_cdf"))
    share = _percent(len(rows) / len(lengths))
    message = (
        f"{shown_path(train.file)}: {len(rows):,} of {_rows(len(lengths))} ({share}) are cut at encoder.max_length "
        f"{max_length}; 99% fit into {nearly_all}, all into {max(lengths):,}"
    )
    return [_of_rows("truncated", message, rows)]


def _findings_of_unknown(
    train: Split, texts: Sequence[str], pieces: Sequence[Sequence[int]], tokenizer: TextTokenizer
) -> list[Finding]:
    unknown = [own.count(tokenizer.unknown_id) for own in pieces]
    if not any(unknown):
        return []
    width = len(train.texts[0])
    rows = [row for place, row in enumerate(train.rows) if any(unknown[place * width : (place + 1) * width])]
    words = Counter(
        word for text, count in zip(texts, unknown, strict=True) if count for word in re.findall(r"\w+|[^\w\s]", text)
    )
    pieces_of = dict(zip(words, tokenizer.pieces(list(words)), strict=True))
    commonest = [_visible(word) for word, _ in words.most_common() if tokenizer.unknown_id in pieces_of[word]][:5]
    total = sum(map(len, pieces))
    share = f"{sum(unknown):,} of {total:,} {{}} ({_percent(sum(unknown) / total)})"
    if tokenizer.kind == "regex":
        message = (
            f"{shown_path(train.file)}: {share.format('words')} get no vector of their own: they occur once, or are not "
            "among the commonest encoder.words"
        )
    else:
        message = (
            f"{shown_path(train.file)}: {share.format('pieces')} are [UNK], unknown to the encoder"
            f"{', mostly ' + _named(commonest) if commonest else ''}"
        )
    return [_of_rows("unknown_pieces", message, rows)]


def _findings_of_tokenizers(train: Split, texts: Sequence[str], tokenizer: TextTokenizer) -> list[Finding]:
    with suppress(EncoderError):  # a vocabulary that devices cannot use at all: nothing to compare with
        share = share_of_different_rows(tokenizer.vocabulary, texts)
        if share > 0.01:
            remedy = (
                "phones will split them as in training, but accented words may be [UNK]"
                if tokenizer.kind == "device"
                else "phones will not split them as in training; encoder.tokenizer: device trains on what phones see"
            )
            message = (
                f"{shown_path(train.file)}: {_percent(share)} of the texts are split differently by device tokenizers "
                f"and by BERT's own, which folds accents and capitals; {remedy}"
            )
            return [Finding("tokenizers_differ", message, round(share * len(texts)))]
    return []


def _visible(word: str) -> str:
    """The word, or the code of a single character that does not show by itself."""
    alone = len(word) == 1 and unicodedata.category(word)[0] not in "LNPS"
    return f"U+{ord(word):04X}" if alone else word


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "less than 0.1%"
