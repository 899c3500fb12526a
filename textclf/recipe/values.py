"""Checks values of a recipe or the command line: each function takes a value as it is written and returns the checked
value.

Each check raises ValueError with a message that follows the name of the key, option or argument.
"""

from __future__ import annotations

import codecs
import difflib
import encodings.aliases
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from textclf.errors import DataError
from textclf.files.locations import location_of
from textclf.terminal.door import printable

Engine = Literal["native", "model-maker"]
"""The engine that trains and exports: textclf or Model Maker."""

ENGINES: tuple[Engine, ...] = get_args(Engine)

Task = Literal["text-classification", "multi-label-classification", "question-answering"]

DEFAULT_TASK: Task = "text-classification"
"""The task of recipes and models that name none."""

QUESTION_ANSWERING: Task = "question-answering"

MULTI_LABEL: Task = "multi-label-classification"

USUAL_SEPARATOR = "|"
"""Joins the labels of a row in results where the recipe names no separator."""

TASKS: tuple[Task, ...] = get_args(Task)

AVERAGE_WORDS = "average-words"
"""The encoder that is learned from the training rows alone; `AVERAGE_WORDS_DEFAULTS` are its defaults."""

MOST_EPOCHS = 10_000
"""The largest number of epochs."""

LARGEST_LENGTH = 512
"""The largest number of tokens per row, for every encoder."""

MOST_WINDOWS = 64
"""The windows in which a text is read at most, unless a recipe says otherwise."""

LARGEST_MOST_WINDOWS = 1024
"""The largest limit that a recipe or a model may set: it bounds the time that one text takes."""


def window_room(max_length: int) -> int:
    """Returns how many tokens of a text fit into a window beside [CLS] and [SEP]."""
    return max_length - 2


def default_stride(max_length: int) -> int:
    """Returns the distance between windows in tokens: a window shares a quarter of its text with the one before."""
    return max(1, window_room(max_length) * 3 // 4)


class Written(str):
    """A value exactly as it is written in a recipe or an override, before it has a type.

    YAML does not read `yes`, `1` and `null` as text. In a recipe the schema decides, so the words of the file are kept.
    `is_null` is true if YAML reads the value as null. Relative paths in the value start at `folder`.
    """

    is_null: bool
    folder: Path

    @classmethod
    def of(cls, text: str, is_null: bool, folder: Path) -> Written:
        written = cls(text)
        written.is_null = is_null
        written.folder = folder
        return written


# --- The shape: values -----------------------------------------------------------------------------------------------
def absolute_path(value: object) -> Path:
    """Returns an absolute path.

    A relative path starts at the recipe or, in an override and in Python, at the current directory.
    """
    if not isinstance(value, str | os.PathLike):
        raise ValueError("is not a path; write the path of a file, relative to the recipe")
    if not str(value).strip():
        raise ValueError("has no value; write the path of a file, relative to the recipe")
    if "\0" in str(value):
        raise ValueError("holds a NUL character, which no path can; write the path of a file")
    folder = value.folder if isinstance(value, Written) else Path.cwd()
    # Links in the folder are followed before `..` is applied, as the operating system does.
    path = os.path.normpath(os.path.join(os.path.realpath(folder), os.path.expanduser(value)))
    if not is_unicode(path):
        raise ValueError(f"is {quoted(path)}, which is not UTF-8; rename the file or its folder")
    return Path(path)


def data_path(value: object) -> Path:
    """Returns a Location for the address of a table, and the absolute path for a path."""
    try:
        location = location_of(value) if isinstance(value, str | os.PathLike) else None
    except DataError as error:
        raise ValueError(f"is {error}") from None
    return location or absolute_path(value)


def data_paths(value: object) -> Path | tuple[Path, ...]:
    """Returns the absolute path of a file, a folder or a pattern, or a Location for an address, or those of a list."""
    if not isinstance(value, list | tuple):
        return data_path(value)
    if not value:
        raise ValueError("is an empty list; name a file in it")
    paths = tuple(map(data_path, value))
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise ValueError(f"names {twice} twice; name it once")
    return paths if len(paths) > 1 else paths[0]


def all_columns(value: object) -> object:
    """Returns the names of all columns of a table, which must differ."""
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("must be a list of all columns in their order, such as `[text, label]`")
    names = [str(name) for name in value]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"names the column `{twice}` twice; give each column another name")
    if any(not name.strip() or name.splitlines() != [name] for name in names):
        raise ValueError("has a name that is empty or has a line break; give each column a name")
    return tuple(names)


def is_unicode(text: str) -> bool:
    """Returns False for text with bytes that the file system's encoding does not know: they cannot be written as UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def file_or_share(value: object) -> float | Path | tuple[Path, ...] | None:
    """Returns a number is a fraction of the training rows; every other value is a path."""
    if value is None:
        return None
    if isinstance(value, str):
        if re.fullmatch(r"[\d.,]+ *%", value):
            share = float(value[:-1].replace(",", ".")) / 100 if re.match(r"\d+([.,]\d+)? *%", value) else 0.0
            example = share if 0 < share <= 0.5 else 0.1
            raise ValueError(f"is the percentage `{value}`; write a share such as {example:g}, or the path of a file")
        try:
            value = float(value)
        except ValueError:
            return data_path(value)
    if isinstance(value, float | int) and not isinstance(value, bool):
        if not 0 < value <= 0.5:
            raise ValueError(
                f"is the share {value:g}; write a share above 0 and at most 0.5, "
                f"or a path (a file with this name is ./{value:g})"
            )
        return float(value)
    if isinstance(value, os.PathLike | list | tuple):
        return data_paths(value)
    raise ValueError("is neither a share nor a path; write a share such as 0.1, or the path of a file")


def text_columns(value: object) -> object:
    """Returns one column name becomes a tuple of one."""
    columns = (value,) if isinstance(value, str) else value
    if isinstance(columns, list | tuple) and len(columns) > 2:
        raise ValueError(
            f"names {len(columns)} columns, but must be one column or two (a sentence pair); "
            "join columns into one in the CSV, or choose two"
        )
    if not isinstance(columns, list | tuple) or len(columns) not in (1, 2):
        raise ValueError("must be one column or two; write `message`, or `[question, answer]` for a sentence pair")
    return tuple(columns)


def label_column(value: object) -> object:
    """Refuses a list: a table with one column of 0 and 1 for each label has another key."""
    if isinstance(value, list | tuple):
        raise ValueError(
            "is a list of columns, but must be one column; if each of these columns holds 0 and 1 for one label, name them in "
            "dataset.labels_from"
        )
    return value


def columns_of_labels(value: object) -> object:
    """Returns the names of two or more columns, one for each label."""
    if value is None:
        return None
    example = "write a list such as `[urgent, complaint, refund]`"
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of the columns that hold 0 and 1, one for each label; {example}")
    names = [str(name) for name in value]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"names the column `{twice}` twice; name it once")
    if len(names) < 2:
        raise ValueError(
            f"names {len(names)} column, but must name two or more; {example}, or name the column in dataset.label"
        )
    for name in names:
        one_label(name)
    return tuple(names)


def separator_of_labels(value: object) -> object:
    """Returns the characters between the labels of a cell; they are written as a delimiter is."""
    try:
        return checked_delimiter(value)
    except ValueError:
        raise ValueError(
            f'is {quoted(value)}, which cannot separate labels; write one character in quotes, such as "|" or ";" (or a few '
            "without letters and digits), or one of the words tab, comma, semicolon, pipe"
        ) from None


def one_column(value: object) -> object:
    if isinstance(value, list | tuple):
        raise ValueError("is a list of columns, but must be one column; name that column")
    return value


def label_list(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list such as `[ham, spam]`; without this line the labels are taken from the data")
    labels = [str(label) for label in value]
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise ValueError(f"names `{repeated[0]}` twice; keep one of them")
    if len(labels) < 2:
        raise ValueError(f"names {len(labels)} label; a classifier needs two or more")
    return value


def one_label(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("is an empty label; give it a name or remove it")
    if isinstance(value, str) and value.splitlines() != [value]:
        raise ValueError("is a label with a line break, which a model's label file cannot hold; write it on one line")
    return value


def folder_name(value: object) -> object:
    """Checks a name, which becomes the name of a folder on any operating system."""
    if not isinstance(value, str):
        return value
    reserved = re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", value, re.IGNORECASE)  # by Windows
    if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,78}[A-Za-z0-9_-])?", value) and not reserved:
        return value
    if not value:
        raise ValueError("has no value; write for example `support-tickets`")
    raise ValueError(
        f"is {quoted(value)}, which is not safe as the name of a folder; "
        f"use letters, digits, `-`, `_` and `.` (at most 80), for example `{folder_safe(value)}`"
    )


def folder_safe(text: str) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "-", text)[:60].strip("-").lower()
    return words if len(words) > 4 else f"{words}-classifier".lstrip("-")


def encoder_source(value: object) -> str:
    """`builtin`, `average-words`, handles such as `hf:…` and web addresses are kept; every other value is a path."""
    if isinstance(value, str) and re.match(rf"(builtin|{AVERAGE_WORDS})$|[A-Za-z][A-Za-z0-9+.-]+:", value):
        return str(value)
    return str(absolute_path(value))


def length_in_tokens(value: object) -> object:
    """Returns the word `auto`, or a number of tokens."""
    if value == "auto":
        return "auto"
    try:
        length = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    except ValueError:
        length = None
    if length is not None and 8 <= length <= LARGEST_LENGTH:
        return length
    wanted = "a whole number or auto" if length is None else "8 or more" if length < 8 else f"{LARGEST_LENGTH} or less"
    raise ValueError(f"is {quoted(value)}, but must be {wanted}; correct it or remove the line")


def epochs_or_auto(value: object) -> object:
    """Returns the word `auto`, or a number of epochs."""
    if value == "auto":
        return "auto"
    if isinstance(value, list | tuple):
        raise ValueError("is a list, but must be a whole number or auto; correct it or remove the line")
    try:
        epochs = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    except ValueError:
        epochs = None
    if epochs is not None and 0 <= epochs <= MOST_EPOCHS:
        return epochs
    wanted = "a whole number or auto" if epochs is None else "0 or more" if epochs < 0 else f"{MOST_EPOCHS} or less"
    raise ValueError(f"is {quoted(value)}, but must be {wanted}; correct it or remove the line")


def weights_of_labels(value: object) -> object:
    """Returns the word `balanced`, or a weight for each of some labels."""
    if value is None or value == "balanced":
        return value
    example = "write `balanced`, or a weight for each label such as `{spam: 3}`"
    if not isinstance(value, dict) or not value:
        raise ValueError(f"is {quoted(value)}, not weights; {example}")
    weights = {}
    for label, weight in value.items():
        try:
            number = float(weight)
        except (TypeError, ValueError):
            raise ValueError(f"gives `{label}` the weight {quoted(weight)}, not a number; {example}") from None
        if not 0 < number < math.inf:
            raise ValueError(f"gives `{label}` the weight {number:g}; write a finite number above 0")
        weights[str(label)] = number
    return weights


def frozen_part(value: object) -> object:
    """`none`, `embeddings`, or a number of layers."""
    if value in ("none", "embeddings"):
        return str(value)
    try:
        layers = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        layers = 0
    if isinstance(value, bool) or layers < 1 or str(layers) != str(value):
        raise ValueError(
            f"is {quoted(value)}; write none, embeddings, or the number of lower layers to freeze, such as 12"
        )
    return layers


def several_seeds(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) < 2:
        raise ValueError("must be a list of two or more seeds such as `[1, 2, 3]`; for one, write `seed: 1`")
    if len({str(seed) for seed in value}) < len(value):
        raise ValueError("names a seed twice; the second training would only repeat the first")
    return value


def known_precision(value: object) -> object:
    if value in ("float16", "fp16", "half", "mixed_float16"):
        raise ValueError(
            f"is {quoted(value)}, in which MobileBERT cannot be trained: its states reach 1e7 and float16 ends at "
            "65504; write auto, float32 or bfloat16"
        )
    return value


def suggestion(word: str, choices: Iterable[str], otherwise: str) -> str:
    near = nearest(word, choices)
    return f"did you mean `{near}`?" if near else otherwise


DELIMITER_NAMES = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "ctrl-a": "\1", r"\x01": "\1"}
"""Words for delimiters that are awkward to write in YAML or in a shell."""

LONGEST_DELIMITER = 5

_NO_DELIMITERS = frozenset("\"'\r\n\0\ufeff\ufdd0")

_NOT_OF_FILES = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "charmap", "undefined"})
"""Python codecs that turn text into bytes but are not used for files."""

COMMON_ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1")


def checked_delimiter(value: object) -> object:
    """Returns a character or a few, such as `||`, or one of the words of DELIMITER_NAMES → the characters; None stays
    None."""
    if value is None:
        return None
    if isinstance(value, str):
        value = DELIMITER_NAMES.get(value.lower(), value)
    if isinstance(value, str) and 0 < len(value) <= LONGEST_DELIMITER and not any(map(_is_no_delimiter, value)):
        return value
    what = "has no value" if value == "" else f"is {quoted(value)}, not a delimiter"
    raise ValueError(
        f"{what}; write one character in quotes (or a few, such as `||`), or one of the words tab, comma, semicolon, pipe"
    )


def _is_no_delimiter(character: str) -> bool:
    return character.isalnum() or character in _NO_DELIMITERS


def checked_encoding(value: object) -> str:
    """Returns the name of a text encoding that Python knows."""
    name = str(value)
    if _is_text_encoding(name):
        return name
    known = {alias.replace("_", "-") for alias in encodings.aliases.aliases.values()}
    near = nearest(name, COMMON_ENCODINGS) or nearest(name, filter(_is_text_encoding, sorted(known)))
    remedy = f"did you mean `{near}`?" if near else f"usual ones are {', '.join(COMMON_ENCODINGS)}"
    raise ValueError(f"is {quoted(name)}, not a text encoding that Python knows; {remedy}")


def _is_text_encoding(name: str) -> bool:
    try:
        if codecs.lookup(name).name in _NOT_OF_FILES:
            return False
        "a".encode(name)  # refuses codecs that are not text encodings, such as rot13
        codecs.getincrementaldecoder(name)
    except (LookupError, ValueError):  # ValueError: a name with a NUL character, and the codec "undefined"
        return False
    return True


def quoted(value: object) -> str:
    """Shortens a value for messages."""
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list | tuple):
        return "a list"
    text = printable(str(value)[:61])
    return f"`{text if len(text) <= 60 else text[:59] + '…'}`"


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Returns the choice with the most similar spelling, ignoring case, hyphens and underscores."""
    plain = {choice.lower().replace("-", "_"): choice for choice in choices}
    near = difflib.get_close_matches(word.lower().replace("-", "_"), plain, n=1)
    return plain[near[0]] if near else None
