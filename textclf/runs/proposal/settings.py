"""Takes the rows and columns of a table and returns the settings of a recipe, each with the reason for its value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textclf.data.findings.finding import counted, percent, visible
from textclf.data.findings.script_fit import fit_findings
from textclf.data.table_sample import TableSample
from textclf.data.tokens.encoded import TextTokenizer
from textclf.encoders.sources.locate import load_facts
from textclf.files.locations import Location
from textclf.recipe.automatic import FEW_TRAINING_ROWS
from textclf.recipe.settings import EncoderSettings
from textclf.recipe.values import LARGEST_LENGTH
from textclf.runs.proposal.columns import Columns
from textclf.runs.proposal.several_labels import counts_of, has_one_each
from textclf.runs.proposal.siblings import Siblings

ENCODER = "builtin"

# Of so many texts the lengths and the language are measured; a fraction does not need all of them.
_TEXTS_MEASURED = 10_000

# The fraction of the rows that is not truncated, the unit of the length and its bounds.
_COVERED, _UNIT, _SHORTEST, _LONGEST = 0.995, 8, 16, 256

# If this fraction of the rows is longer than any row that a model reads, windows are proposed.
_MANY_LONG_TEXTS = 0.1

# Labels are imbalanced as in the findings of `check`: the ratio of most to fewest rows, or the share of the largest.
_IMBALANCED_RATIO, _IMBALANCED_SHARE = 10, 0.8

# A label with fewer rows would get a weight so large that single rows decide what is learned.
_LEAST_WEIGHTED_ROWS = 5

# The fractions to set aside and the numbers of epochs, by the number of rows up to which they hold. Of few rows a larger
# fraction is needed, or the results depend on chance; they need more epochs, or there are hardly any steps.
_FRACTIONS = ((1_000, 0.2), (20_000, 0.1), (200_000, 0.05), (float("inf"), 0.02))

_EPOCHS = ((2_000, 5), (50_000, 3), (300_000, 2), (float("inf"), 1))

# Up to this many rows the number of epochs is left to textclf, which then only fits the last layer: benchmarks/README.md.
_ROWS_OF_A_LAST_LAYER = 200


@dataclass(frozen=True)
class Setting:
    """A key of a recipe with its value, and the reason in a sentence or two. One that is not `active` is a comment."""

    key: str
    value: Any
    reason: str
    active: bool = True


@dataclass(frozen=True)
class Lengths:
    """Tokens per row, [CLS] and [SEP] included."""

    tokens: np.ndarray  # int64 [rows measured]

    def needed_by(self, share: float) -> int:
        return int(np.quantile(self.tokens, share, method="higher"))

    def longer_than(self, length: int) -> float:
        """The fraction of the rows that are truncated at this length."""
        return float(np.mean(self.tokens > length))


def dataset_settings(sample: TableSample, columns: Columns, siblings: Siblings) -> list[Setting]:
    """The files and the splits. Fractions are set aside only for splits that have no file."""
    fraction = _by_rows(sample.total, _FRACTIONS)
    place = "" if isinstance(sample.path, Location) else " The path is relative to this file."
    settings = [Setting("train", sample.path, f"{counted(sample.total, 'row')}.{place}")]
    for split, use in (
        ("validation", "The best epoch is chosen on these rows"),
        ("test", "The finished model is measured on these rows"),
    ):
        if split in siblings.files:
            file = siblings.files[split]
            reason = f"{use}: {counted(file.total, 'row')} of a file that lies beside the training file."
            settings.append(Setting(split, file.path, reason))
        else:
            reason = (
                f"{use}: this fraction of the table ({round(fraction * sample.total):,} rows), which is not trained on."
            )
            settings.append(Setting(split, fraction, reason))
    names = [column.name for column in columns.text]
    settings.append(Setting("text", names[0] if len(names) == 1 else names, _reason_for_text(columns)))
    settings += _label_settings(sample, columns)
    if sample.encoding != "utf-8":
        reason = f"The file is not UTF-8; all its rows can be read as {sample.encoding}."
        settings.append(Setting("encoding", sample.encoding, reason))
    if sample.sheet is not None:
        settings.append(Setting("sheet", sample.sheet, "The sheet of the workbook that is read."))
    if sample.named_columns:
        settings.append(
            Setting("columns", list(sample.named_columns), "The file has no header; these are its columns.")
        )
    return settings


def encoder_settings(lengths: Lengths, language: str | None) -> list[Setting]:
    source = "The encoder in the package. It knows English only."
    if language:
        source += f" {language} {REMEDY_FOR_LANGUAGE}"
    length = _max_length(lengths)
    truncated = lengths.longer_than(length)
    reason = (
        f"Tokens per row: half of the rows need at most {lengths.needed_by(0.5):,}, 99% at most {lengths.needed_by(0.99):,}, the "
        f"longest needs {lengths.needed_by(1.0):,}. "
        + (f"{percent(truncated)} of the rows are truncated." if truncated else "No row is truncated.")
        + " A larger value makes training and the model slower."
    )
    return [Setting("source", ENCODER, source), Setting("max_length", length, reason)]


def window_settings(lengths: Lengths, columns: Columns) -> list[Setting]:
    """Windows over long texts, as a comment where many texts are longer than the longest row: they cost time."""
    share = lengths.longer_than(LARGEST_LENGTH)
    if share < _MANY_LONG_TEXTS or len(columns.text) > 1:
        return []
    reason = (
        f"{percent(share)} of the rows need more than {LARGEST_LENGTH} tokens, the most that a model reads at once. `windows` "
        "reads the whole text in overlapping windows instead of its beginning; training and classifying take longer, and an "
        "app still reads the beginning only. To read whole texts, remove the # below."
    )
    return [Setting("overflow", "windows", reason, active=False)]


REMEDY_FOR_LANGUAGE = (
    "Name an encoder for this language here (a folder, an archive or hf:NAME), or compare with average-words, which learns "
    "the words of any language that separates them by spaces."
)


def training_settings(sample: TableSample, columns: Columns) -> list[Setting]:
    # Each of several labels has a threshold, which suits its frequency.
    weights = [] if columns.has_several_labels else _class_weights(Counter(sample.cells(columns.label.index)))
    if sample.total <= _ROWS_OF_A_LAST_LAYER:
        reason = (
            f"With fewer than {FEW_TRAINING_ROWS} training rows, only the last layer is fitted, within seconds: so few rows do "
            "not improve the encoder. A number such as 8 fine-tunes the encoder, using each row that often."
        )
        return [Setting("epochs", "auto", reason), *weights]
    epochs = int(_by_rows(sample.total, _EPOCHS))
    rounds = "Each row is used once" if epochs == 1 else f"Each row is used {epochs} times"
    few = "few rows need more epochs" if epochs > 3 else "so many rows need few epochs"
    reason = f"{rounds}; {few}. The epoch with the best validation result is exported."
    return [Setting("epochs", epochs, reason), *weights]


def measure_lengths(sample: TableSample, columns: Columns, tokenizer: TextTokenizer) -> Lengths:
    rows = _texts(sample, columns)[0]
    texts = [text for row in rows for text in row]
    pieces = np.array([len(own) for own in tokenizer.pieces(texts)], dtype=np.int64)
    width = len(columns.text)
    return Lengths(pieces.reshape(-1, width).sum(axis=1) + tokenizer.ids_added(width))


def language_warning(sample: TableSample, columns: Columns, tokenizer: TextTokenizer) -> str | None:
    """Returns a sentence about texts in a language or script that the built-in encoder does not know."""
    texts, numbers = _texts(sample, columns)
    findings = fit_findings(sample.shown, texts, numbers, tokenizer, ENCODER)
    if not findings:
        return None
    share = percent(min(1.0, sum(finding.count for finding in findings) / len(texts)))
    return (
        f"{share} of the texts seem to be in another language or script, which the built-in encoder splits into many small "
        "tokens; expect worse results."
    )


def builtin_tokenizer() -> TextTokenizer:
    settings = EncoderSettings(source=ENCODER)
    return load_facts(settings.source).tokenizer(settings)


def _texts(sample: TableSample, columns: Columns) -> tuple[list[tuple[str, ...]], list[int]]:
    """Returns the texts of rows that have one, and their numbers; at most _TEXTS_MEASURED, spread over the table."""
    step = -(-len(sample.rows) // _TEXTS_MEASURED)
    texts, numbers = [], []
    for row, number in zip(sample.rows[::step], sample.numbers[::step], strict=True):
        own = tuple(row[column.index] for column in columns.text)
        if any(text.strip() for text in own):
            texts.append(own)
            numbers.append(number)
    return texts, numbers


def _max_length(lengths: Lengths) -> int:
    """The least multiple of 8 that 99.5 % of the rows fit into, with one position more for [PAD]; at most 256.

    Documents are longer, and time and memory grow with the length: a person should decide to pay for more.
    """
    covering = lengths.needed_by(_COVERED) + 1
    return min(_LONGEST, max(_SHORTEST, -(-covering // _UNIT) * _UNIT))


def _class_weights(counts: Counter[str]) -> list[Setting]:
    counts = Counter({label: count for label, count in counts.items() if label.strip()})
    total = sum(counts.values())
    (largest, most), (smallest, fewest) = counts.most_common()[0], counts.most_common()[-1]
    if most < _IMBALANCED_RATIO * fewest and most < _IMBALANCED_SHARE * total:
        return []
    spread = (
        f"The labels are imbalanced: {visible(largest)} has {percent(most / total)} of the rows, {visible(smallest)} has "
        f"{percent(fewest / total)}."
    )
    if fewest < _LEAST_WEIGHTED_ROWS:
        reason = (
            f"{spread} `balanced` gives all labels the same total weight. It is not set, because {visible(smallest)} has "
            f"{counted(fewest, 'row')} only: add rows of rare labels or join these labels, then remove the # below."
        )
        return [Setting("class_weights", "balanced", reason, active=False)]
    reason = (
        f"{spread} `balanced` gives all labels the same total weight, so that rare labels are learned; the accuracy may fall "
        "a little while macro-F1 rises."
    )
    return [Setting("class_weights", "balanced", reason)]


def _reason_for_text(columns: Columns) -> str:
    if len(columns.text) == 2:
        return (
            "A sentence pair: the model reads both columns. MediaPipe and the Task Library read one text only, so an app has "
            "to run such a model in LiteRT itself."
        )
    return "The column with the text."


def _label_settings(sample: TableSample, columns: Columns) -> list[Setting]:
    if not columns.has_several_labels:
        return [Setting("label", columns.label.name, _reason_for_label(sample, columns))]
    counts = counts_of(sample, columns.label, columns.separator, columns.flags)
    of_sample = "" if sample.is_whole else f" in a sample of {len(sample.rows):,} rows"
    shown = f"{counted(len(counts), 'label')}{of_sample}: {_most_common(counts)}."
    if columns.flags:
        reason = f"Several labels per row: each of these columns holds 0 or 1 for the label of its name. {shown}"
        if has_one_each(sample, columns.flags):
            reason += (
                " In each row exactly one of them is 1. If that is always so, a column with the name of this label and "
                "`label: COLUMN` train a model that chooses one."
            )
        return [Setting("labels_from", columns.label_names, reason)]
    lists = ", a list in each row" if columns.lists else ""
    reason = f"The column with the labels{lists}. A row may have several of {shown}"
    if columns.doubts:
        reason += f" It could also be {'; '.join(columns.doubts)}."
    label = Setting("label", columns.label.name, reason)
    if columns.lists:
        return [label]
    between = "What stands between the labels of a row; an empty cell has none."
    return [label, Setting("label_separator", columns.separator, between)]


def _most_common(counts: Counter[str]) -> str:
    shown = ", ".join(f"{visible(label)} {count:,}" for label, count in counts.most_common(8))
    return shown + (f" and {len(counts) - 8:,} more" if len(counts) > 8 else "")


def _reason_for_label(sample: TableSample, columns: Columns) -> str:
    counts = Counter(cell for cell in sample.cells(columns.label.index) if cell.strip())
    of_sample = "" if sample.is_whole else f" in a sample of {len(sample.rows):,} rows"
    reason = f"The column with the label; {counted(len(counts), 'label')}{of_sample}: {_most_common(counts)}."
    if columns.doubts:
        reason += f" It could also be {'; '.join(columns.doubts)}."
    return reason


def _by_rows(rows: int, steps: Sequence[tuple[float, float]]) -> float:
    return next(value for most, value in steps if rows <= most)
