"""Recipes: the settings of a training run. Takes YAML text and overrides, returns one validated, frozen `Recipe`.

Two stages: the shape of every value (the models below), then each rule between values (`RULES`, one function each).
All problems of a recipe are reported at once, each with its file, line and column, or with its override.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails

from textclf.arguments import is_web_address, not_a_recipe, web_address_message
from textclf.errors import RecipeError
from textclf.model_maker import Engine
from textclf.terminal import printable
from textclf.values import checked_delimiter, checked_encoding, nearest, quoted

LARGEST_FILE = 1_000_000
"""Bytes. A recipe is some dozen lines; anything larger is another kind of file."""

LARGEST_TREE = 20_000
"""Values, each use of an anchor counted: what keeps a few lines of nested anchors from growing without end."""

PLAIN_TAGS = ("!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!value", "!!merge", "!!seq", "!!map")
"""The types that YAML may detect for a value."""

AVERAGE_WORDS = "average-words"
"""The encoder that is learned from the training rows alone; `_AVERAGE_WORDS_DEFAULTS` are its defaults."""

LARGEST_LENGTH = 512
"""The largest number of tokens per row, whatever the encoder."""

OTHER_NAMES = {
    "lr": "training.learning_rate",
    "epoch": "training.epochs",
    "num_epochs": "training.epochs",
    "num_train_epochs": "training.epochs",
    "batch": "training.batch_size",
    "bs": "training.batch_size",
    "dropout_rate": "training.dropout",
    "seq_len": "encoder.max_length",
    "max_len": "encoder.max_length",
    "max_seq_length": "encoder.max_length",
    "model": "encoder.source",
    "text_column": "dataset.text",
    "label_column": "dataset.label",
}
"""What other programs call settings of a recipe."""

_SHOWN_PROBLEMS = 50

Location = tuple[str | int, ...]


class Written(str):
    """A value exactly as it is written in a recipe or an override, not yet typed.

    YAML does not read `yes`, `1` and `null` as text; here the schema decides, so the words of the file are kept.
    `is_null`: YAML reads this as null. Relative paths in it start at `folder`.
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


def _absolute_path(value: object) -> Path:
    """Absolute: relative to the recipe or, for an override and in Python, to the current directory."""
    if isinstance(value, list | tuple):
        raise ValueError("is a list, but one file is read; join the files into one CSV with one header row")
    if not isinstance(value, str | os.PathLike):
        raise ValueError("is not a path; write the path of a file, relative to the recipe")
    if not str(value).strip():
        raise ValueError("has no value; write the path of a file, relative to the recipe")
    if "\0" in str(value):
        raise ValueError("holds a NUL character, which no path can; write the path of a file")
    if is_web_address(value) and not os.path.exists(value):
        raise ValueError(web_address_message(str(value)))
    folder = value.folder if isinstance(value, Written) else Path.cwd()
    # The folder's own links are followed before `..` is applied, as the operating system does.
    path = os.path.normpath(os.path.join(os.path.realpath(folder), os.path.expanduser(value)))
    if not _is_unicode(path):
        raise ValueError(f"is {quoted(path)}, which is not UTF-8; rename the file or its folder")
    return Path(path)


def _is_unicode(text: str) -> bool:
    """False for text with bytes in it that the file system's encoding does not know: nothing can write them as UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _file_or_share(value: object) -> float | Path | None:
    """A number is a share of the training rows, everything else a path."""
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
            return _absolute_path(value)
    if isinstance(value, float | int) and not isinstance(value, bool):
        if not 0 < value <= 0.5:
            raise ValueError(
                f"is the share {value:g}; write a share above 0 and at most 0.5, "
                f"or a path (a file with this name is ./{value:g})"
            )
        return float(value)
    if isinstance(value, os.PathLike | list | tuple):
        return _absolute_path(value)
    raise ValueError("is neither a share nor a path; write a share such as 0.1, or the path of a file")


def _columns(value: object) -> object:
    """One column name becomes a tuple of one."""
    columns = (value,) if isinstance(value, str) else value
    if isinstance(columns, list | tuple) and len(columns) > 2:
        raise ValueError(
            f"names {len(columns)} columns, but must be one column or two (a sentence pair); "
            "join columns into one in the CSV, or choose two"
        )
    if not isinstance(columns, list | tuple) or len(columns) not in (1, 2):
        raise ValueError("must be one column or two; write `message`, or `[question, answer]` for a sentence pair")
    return tuple(columns)


def _label_column(value: object) -> object:
    """Several label columns are what a table with one column of 0 and 1 for each label has."""
    if isinstance(value, list | tuple):
        raise ValueError(
            "is a list of columns, but textclf learns one label per row, from one column; name that column, or train one "
            "model for each of these columns"
        )
    return value


def _label_list(value: object) -> object:
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


def _label(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("is an empty label; give it a name or remove it")
    if isinstance(value, str) and value.splitlines() != [value]:
        raise ValueError("is a label with a line break, which a model's label file cannot hold; write it on one line")
    return value


def _name(value: object) -> object:
    """A name becomes a folder, on any operating system."""
    if not isinstance(value, str):
        return value
    reserved = re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", value, re.IGNORECASE)  # by Windows
    if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,78}[A-Za-z0-9_-])?", value) and not reserved:
        return value
    if not value:
        raise ValueError("has no value; write for example `support-tickets`")
    raise ValueError(
        f"is {quoted(value)}, which is not safe as the name of a folder; "
        f"use letters, digits, `-`, `_` and `.` (at most 80), for example `{_folder_safe(value)}`"
    )


def _folder_safe(text: str) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "-", text)[:60].strip("-").lower()
    return words if len(words) > 4 else f"{words}-classifier".lstrip("-")


def _encoder_source(value: object) -> str:
    """`builtin`, `average-words`, handles such as `hf:…` and web addresses stay as they are; all else is a path."""
    if isinstance(value, str) and re.match(rf"(builtin|{AVERAGE_WORDS})$|[A-Za-z][A-Za-z0-9+.-]+:", value):
        return str(value)
    return str(_absolute_path(value))


def _max_length(value: object) -> object:
    """The word `auto`, or a number of tokens."""
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


def _class_weights(value: object) -> object:
    """The word `balanced`, or a weight for each of some labels."""
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


def _freeze(value: object) -> object:
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


def _seeds(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) < 2:
        raise ValueError("must be a list of two or more seeds such as `[1, 2, 3]`; for one, write `seed: 1`")
    if len({str(seed) for seed in value}) < len(value):
        raise ValueError("names a seed twice; the second training would only repeat the first")
    return value


def _precision(value: object) -> object:
    if value in ("float16", "fp16", "half", "mixed_float16"):
        raise ValueError(
            f"is {quoted(value)}, in which MobileBERT cannot be trained: its states reach 1e7 and float16 ends at "
            "65504; write auto, float32 or bfloat16"
        )
    return value


# Editors read unquoted 1, yes and null as numbers and so on; here they are names all the same.
_NAME_SCHEMA = {"type": ["string", "number", "boolean", "null"]}
_SHARE_OR_FILE_SCHEMA: list[dict[str, Any]] = [
    {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
    {"type": "string", "minLength": 1},
]

AbsolutePath = Annotated[Path, BeforeValidator(_absolute_path), WithJsonSchema({"type": "string", "minLength": 1})]
ColumnName = Annotated[str, Field(min_length=1)]
Label = Annotated[str, BeforeValidator(_label)]
WatcherAction = Literal["ignore", "warn", "stop", "fail"]
Columns = Annotated[
    tuple[ColumnName, ...],
    BeforeValidator(_columns),
    WithJsonSchema({"anyOf": [_NAME_SCHEMA, {"type": "array", "items": _NAME_SCHEMA, "minItems": 1, "maxItems": 2}]}),
]


# --- The shape: sections ---------------------------------------------------------------------------------------------


class Settings(BaseModel):
    """A section of a recipe: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    has_short_form: ClassVar[bool] = False

    @model_validator(mode="before")
    @classmethod
    def _null_where_null_is_allowed(cls, values: object) -> object:
        """`test:` with nothing behind it is None where the field may be None; elsewhere the written word is kept."""
        if isinstance(values, Written) and values.is_null:
            return {}
        if not isinstance(values, dict):
            return values
        return {key: None if _means_none(cls, key, value) else value for key, value in values.items()}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A section that needs no key may be left empty; one with a short form may also be text."""
        section = handler.resolve_ref_schema(handler(core_schema))
        if "required" in section:
            return section
        return {"anyOf": [{"type": ["null", "string"] if cls.has_short_form else "null"}, section]}


def _means_none(section: type[BaseModel], key: str, value: object) -> bool:
    if not (isinstance(value, Written) and value.is_null and key in section.model_fields):
        return False
    return type(None) in typing.get_args(section.model_fields[key].annotation)


class DatasetSettings(Settings):
    """The files with the labelled rows, and how they are read."""

    train: AbsolutePath = Field(
        description="The CSV file with the training rows and a header row. The path is relative to the recipe.",
        examples=["../datasets/support_tickets.csv"],
    )
    validation: Annotated[
        float | Path, BeforeValidator(_file_or_share), WithJsonSchema({"anyOf": _SHARE_OR_FILE_SCHEMA})
    ] = Field(
        default=0.1,
        description="The rows on which the best epoch is chosen: a CSV file, or the share of the training rows to set aside "
        "(above 0, at most 0.5).",
    )
    test: Annotated[
        float | Path | None,
        BeforeValidator(_file_or_share),
        WithJsonSchema({"anyOf": [*_SHARE_OR_FILE_SCHEMA, {"type": "null"}]}),
    ] = Field(
        default=None,
        description="The rows on which the finished model is measured: a CSV file, a share of the training rows to set "
        "aside, or null for no test.",
    )
    text: Columns = Field(
        default=("text",),
        description="The column with the text, or two columns `[question, answer]` for a sentence pair.",
    )
    label: Annotated[ColumnName, BeforeValidator(_label_column), WithJsonSchema(_NAME_SCHEMA)] = Field(
        default="label", description="The column with the label."
    )
    labels: Annotated[
        tuple[Label, ...] | None,
        BeforeValidator(_label_list),
        WithJsonSchema(
            {"anyOf": [{"type": "array", "items": _NAME_SCHEMA, "minItems": 2, "uniqueItems": True}, {"type": "null"}]}
        ),
    ] = Field(
        default=None,
        description="All labels, in the order of the model's output; a row with any other label is an error. "
        "null uses the labels of the training file in alphabetical order.",
    )
    delimiter: Annotated[
        str | None,
        BeforeValidator(checked_delimiter),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]}),
    ] = Field(
        default=None,
        description="What separates the columns: one character, or tab, comma, semicolon or pipe. null detects it.",
    )
    encoding: Annotated[str, BeforeValidator(checked_encoding)] = Field(
        default="utf-8",
        description="The character encoding of the files as Python names it: utf-8, cp1252, latin-1, utf-16 and so on. "
        "A byte order mark at the start of a file overrides this.",
    )


_AVERAGE_WORDS_WIDTH = 64
_AVERAGE_WORDS_DEFAULTS: dict[str, dict[str, Any]] = {
    "encoder": {"max_length": 256, "words": 10_000, "width": _AVERAGE_WORDS_WIDTH, "lowercase": True},
    "training": {"epochs": 30, "learning_rate": 5e-3, "dropout": 0.5, "precision": "float32"},
    # Such a model runs in every runtime as it is.
    "export": {"compatibility": "task-library"},
}
"""What differs from the defaults for MobileBERT, by section."""
_AVERAGE_WORDS_ONLY = ("words", "width", "lowercase")


def _filled(values: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values with defaults where there is none, or nothing is written behind the key."""
    written = {key: value for key, value in values.items() if not (value is None or _is_null(value))}
    return {**values, **defaults, **written}


def _is_null(value: object) -> bool:
    return isinstance(value, Written) and value.is_null


class EncoderSettings(Settings):
    """The pre-trained encoder, and how its input is made from text."""

    has_short_form = True

    source: Annotated[str, BeforeValidator(_encoder_source)] = Field(
        default="builtin",
        description="`builtin`, the path of a folder or archive (relative to the recipe), or a handle such as "
        "`hf:google/mobilebert-uncased` or `tfhub:…`; or `average-words`, a fast and tiny baseline that averages word "
        "vectors learned from the training rows alone. Write ./builtin for a folder of that name.",
    )
    max_length: Annotated[
        int | str,
        BeforeValidator(_max_length),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 8, "maximum": 512}, {"const": "auto"}]}),
    ] = Field(
        default=128,
        description="The largest number of tokens per row, [CLS] and [SEP] included; longer rows are truncated. `auto` "
        "uses the number that 99.5% of the training rows need. The default for average-words is 256.",
    )
    tokenizer: Literal["device", "bert"] = Field(
        default="device",
        description="`device` splits words exactly as MediaPipe and the TFLite Task Library do on a phone. `bert` splits "
        "them as BERT's Python programs do, which also strip accents and lower-case letters beyond ASCII.",
    )

    @property
    def fixed_length(self) -> int:
        """`max_length` as a number; ValueError while it is still to be chosen from the data."""
        return int(self.max_length)

    overflow: Literal["head", "tail", "head_tail"] = Field(
        default="head",
        description="Which part of a text longer than max_length is kept: its `head`, its `tail`, or `head_tail` (a quarter "
        "of the tokens from the start, the rest from the end). Device runtimes always keep the head.",
    )

    words: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="For average-words: the number of words that have a vector, the commonest of those that occur at least "
        "twice (10000).",
    )
    width: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description=f"For average-words: the length of a word's vector ({_AVERAGE_WORDS_WIDTH}).",
    )
    lowercase: bool | None = Field(
        default=None,
        description="For average-words: whether the spellings `free`, `Free` and `FREE` share a vector (true). Devices do not "
        "lower-case, so the model's vocabulary lists the spellings.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, values: object) -> object:
        """`encoder: builtin` is short for `encoder: {source: builtin}`."""
        if isinstance(values, str) and not (isinstance(values, Written) and values.is_null):
            values = {"source": values}
        if isinstance(values, dict) and values.get("source") == AVERAGE_WORDS:
            return _filled(values, _AVERAGE_WORDS_DEFAULTS["encoder"])
        return values


class WatcherSettings(Settings):
    """What happens when a training goes wrong: warn and continue, stop and export the best epoch so far, or fail."""

    not_finite: Literal["stop", "fail"] = Field(
        default="stop",
        description="When the loss is no longer a number. `stop` exports the best epoch so far, or fails if there is none.",
    )
    learning_rate: WatcherAction = Field(
        default="warn",
        description="When the loss rises well above the loss of guessing: the learning rate is too high.",
    )
    stuck: WatcherAction = Field(
        default="warn", description="When after an epoch the loss is still the loss of guessing by the labels' shares."
    )
    one_class: WatcherAction = Field(
        default="warn", description="When after an epoch every validation row gets the same label."
    )
    overfitting: WatcherAction = Field(
        default="warn", description="When the validation loss rises for two epochs while the training loss falls."
    )


class TrainingSettings(Settings):
    """How the classifier is fine-tuned."""

    engine: Engine = Field(
        default="native",
        description="The engine that trains and exports: `native` is textclf's own; `model-maker` is the real TFLite Model "
        "Maker 0.4.3 in a separate environment (`textclf model-maker setup`). Settings that it does not have are errors.",
    )
    epochs: int = Field(default=3, ge=1, le=10_000, description="How often each training row is used.")
    batch_size: int = Field(default=32, ge=1, le=65_536, description="Rows per step.")
    accumulate: int = Field(
        default=1,
        ge=1,
        le=65_536,
        description="Gradient accumulation: split each batch into this many parts to save memory. At most batch_size.",
    )
    learning_rate: float = Field(
        default=5e-5,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="The highest learning rate, reached after the warm-up.",
    )
    warmup: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of the steps in which the learning rate rises; after them it falls to 0.",
    )
    weight_decay: float = Field(
        default=0.01, ge=0, lt=1, description="Decoupled weight decay; not applied to biases and normalisations."
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the pooled features that is dropped before the last layer."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of each row's target that is spread evenly over all labels."
    )
    class_weights: Annotated[
        str | dict[str, float] | None,
        BeforeValidator(_class_weights),
        WithJsonSchema(
            {
                "anyOf": [
                    {"const": "balanced"},
                    {"type": "object", "additionalProperties": {"type": "number", "exclusiveMinimum": 0}},
                    {"type": "null"},
                ]
            }
        ),
    ] = Field(
        default=None,
        description="The weight of a row of each label: `balanced` gives all labels the same total weight; `{spam: 3}` counts "
        "each row of spam three times and the rows of other labels once.",
    )
    clip_norm: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="Gradients with a larger global norm are scaled down to this norm.",
    )
    head: Literal["fitted", "fresh"] = Field(
        default="fitted",
        description="How the dense layer on the encoder starts: `fitted` to the encoder's outputs for the training rows, which "
        "keeps what the encoder learned before, or `fresh` with small random weights. Word vectors start fresh.",
    )
    freeze: Annotated[
        int | str,
        BeforeValidator(_freeze),
        WithJsonSchema({"anyOf": [{"enum": ["none", "embeddings"]}, {"type": "integer", "minimum": 1}]}),
    ] = Field(
        default="none",
        description="The weights that are not trained: `none`, the `embeddings`, or, with a number, the embeddings and this many "
        "of the lower layers.",
    )
    precision: Annotated[Literal["auto", "float32", "bfloat16"], BeforeValidator(_precision)] = Field(
        default="auto",
        description="The precision of matrix products in training. `auto` uses bfloat16 where the processor multiplies it in "
        "hardware; weights, gradients and sums stay float32.",
    )
    early_stopping: int | None = Field(
        default=None,
        ge=1,
        description="Ends the training after this many epochs without a better validation result. null: never.",
    )
    watchers: WatcherSettings = WatcherSettings()
    calibrate: bool = Field(
        default=True,
        description="Fits a temperature to the validation rows, so that a probability matches how often the label is "
        "right, and builds it into the model. The predicted labels do not change.",
    )
    reject_for_precision: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Chooses on the validation rows the probability below which no label is used, so that this share "
        "of the used labels is right. null: every row gets a label.",
    )
    seed: int = Field(
        default=1,
        ge=0,
        lt=2**32,
        description="Fixes the splits, the order of rows, the initial weights and the dropout.",
    )
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] | None,
        BeforeValidator(_seeds),
        WithJsonSchema(
            {
                "anyOf": [
                    {
                        "type": "array",
                        "items": {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**32},
                        "minItems": 2,
                        "uniqueItems": True,
                    },
                    {"type": "null"},
                ]
            }
        ),
    ] = Field(
        default=None,
        description="Trains once with each of these seeds on the same splits, reports mean and deviation, and exports "
        "the training that is best on validation. null trains once, with `seed`.",
    )

    @property
    def frozen_layers(self) -> int | None:
        """How many of the lower layers stay as they are, the embeddings with them; None where nothing does."""
        if self.freeze == "none":
            return None
        return 0 if self.freeze == "embeddings" else int(self.freeze)


class ExportSettings(Settings):
    """How the `.tflite` file is written."""

    quantization: Literal["dynamic", "int4", "float16", "none"] = Field(
        default="dynamic",
        description="How weights are stored: `dynamic` as 8-bit integers (a quarter of the size, the fastest), `int4` as 4-bit "
        "integers (an eighth, less exact), `float16` (half the size, nearly as exact as `none`), or `none` as float32.",
    )
    compatibility: Literal["litert", "task-library"] = Field(
        default="litert",
        description="`litert` runs in LiteRT and MediaPipe; `task-library` also runs in the Task Library 0.4.4 and other "
        "runtimes of its age.",
    )
    max_changed_labels: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The largest share of the compared rows for which the exported model may clearly predict another label than "
        "the trained one; above it the export fails. Default: 0.01, or 0.03 for int4.",
    )
    max_lost_accuracy: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The largest accuracy that the exported model may lose; above it the export fails. Default: 0.005, or "
        "0.01 for int4.",
    )
    reject_label: str = Field(
        default="",
        description="What `textclf classify` writes in place of a label that is too uncertain "
        "(training.reject_for_precision, or --reject-below). It may be one of the labels, such as `other`.",
        examples=["other"],
    )


class Recipe(Settings):
    """All settings of one training run."""

    name: Annotated[str, BeforeValidator(_name)] = Field(
        description="The name of the run; its folder is runs/<name>.", examples=["support-tickets"]
    )
    dataset: DatasetSettings
    encoder: EncoderSettings = EncoderSettings()
    training: TrainingSettings = TrainingSettings()
    export: ExportSettings = ExportSettings()

    @property
    def averages_words(self) -> bool:
        """Whether the encoder is `average-words`."""
        return self.encoder.source == AVERAGE_WORDS

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_encoder(cls, values: object) -> object:
        """Averaged words, which know nothing before training, learn with other settings than a pre-trained encoder."""
        if not isinstance(values, dict):
            return values
        encoder = values.get("encoder")
        source = encoder.get("source") if isinstance(encoder, dict) else getattr(encoder, "source", encoder)
        if source != AVERAGE_WORDS:
            return values
        filled = dict(values)
        for name in ("training", "export"):
            section = values.get(name)
            if isinstance(section, Settings):
                section = section.model_dump(exclude_unset=True)
            if section is None or _is_null(section):
                section = {}
            if isinstance(section, dict):
                filled[name] = _filled(section, _AVERAGE_WORDS_DEFAULTS[name])
        return filled


# --- The rules between values ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Breach:
    """A broken rule: the keys it concerns (the first is where it is reported) and the message."""

    keys: tuple[str, ...]
    message: str


def label_is_not_a_text_column(recipe: Recipe) -> Iterator[Breach]:
    """The label column is not among the text columns: a model that reads the answer learns nothing else."""
    if recipe.dataset.label in recipe.dataset.text:
        yield Breach(
            ("dataset.label", "dataset.text"),
            f"dataset.label and dataset.text are both the column `{recipe.dataset.label}`; name two different columns",
        )


def text_columns_differ(recipe: Recipe) -> Iterator[Breach]:
    """The two columns of a sentence pair are two columns."""
    text = recipe.dataset.text
    if len(text) == 2 and text[0] == text[1]:
        yield Breach(
            ("dataset.text",),
            f"dataset.text names the column `{text[0]}` twice; name two columns, or one for single texts",
        )


def splits_are_different_files(recipe: Recipe) -> Iterator[Breach]:
    """No file serves two splits: results measured on rows that were trained on say nothing."""
    named = (("train", recipe.dataset.train), ("validation", recipe.dataset.validation), ("test", recipe.dataset.test))
    files = [(split, file) for split, file in named if isinstance(file, Path)]
    for index, (split, file) in enumerate(files):
        for earlier, other in files[:index]:
            if file == other:
                yield Breach(
                    (f"dataset.{split}", f"dataset.{earlier}"),
                    f"dataset.{split} is the same file as dataset.{earlier} ({file}); "
                    "name another file, or a share such as 0.1 to set rows aside",
                )


def shares_leave_rows_to_train_on(recipe: Recipe) -> Iterator[Breach]:
    """The shares set aside for validation and test leave a fifth of the rows or more to train on."""
    validation, test = recipe.dataset.validation, recipe.dataset.test
    if isinstance(validation, float) and isinstance(test, float) and validation + test > 0.8:
        yield Breach(
            ("dataset.test", "dataset.validation"),
            f"dataset.validation ({validation:g}) and dataset.test ({test:g}) set aside {validation + test:.0%} of the "
            "rows, but must leave 20% to train on; lower one of them",
        )


def weighted_labels_exist(recipe: Recipe) -> Iterator[Breach]:
    """Where the recipe lists the labels, class weights are given to these only."""
    weights, labels = recipe.training.class_weights, recipe.dataset.labels
    if isinstance(weights, dict) and labels is not None:
        for label in weights:
            if label not in labels:
                yield Breach(
                    ("training.class_weights", "dataset.labels"),
                    f"training.class_weights names `{label}`, which is not in dataset.labels; "
                    f"{_suggestion(label, labels, 'correct it or remove it')}",
                )


def parts_of_a_batch_hold_rows(recipe: Recipe) -> Iterator[Breach]:
    """No more parts than rows."""
    training = recipe.training
    if training.accumulate > training.batch_size:
        yield Breach(
            ("training.accumulate", "training.batch_size"),
            f"training.accumulate ({training.accumulate}) is more than training.batch_size ({training.batch_size}); "
            "batch_size counts all rows of a step, accumulate the parts in which they are computed",
        )


def four_bits_need_litert(recipe: Recipe) -> Iterator[Breach]:
    """The Task Library's runtime knows no 4-bit weights."""
    if recipe.export.quantization == "int4" and recipe.export.compatibility == "task-library":
        yield Breach(
            ("export.compatibility", "export.quantization"),
            "export.compatibility is task-library, whose runtime knows no weights of 4 bits (export.quantization is "
            "int4); choose quantization dynamic, or compatibility litert",
        )


def average_words_can_do_it(recipe: Recipe) -> Iterator[Breach]:
    """Averaged words have no layers, read one text, and are split by the devices' regex tokenizer; the settings of their
    own mean nothing to other encoders."""
    if not recipe.averages_words:
        for name in _AVERAGE_WORDS_ONLY:
            if getattr(recipe.encoder, name) is not None:
                message = f"encoder.{name} belongs to encoder.source average-words alone; remove the line"
                yield Breach((f"encoder.{name}", "encoder.source"), message)
        return
    refused = {
        "encoder.tokenizer": (recipe.encoder.tokenizer == "bert", "bert", "the words of devices' regex tokenizer only"),
        "dataset.text": (len(recipe.dataset.text) == 2, "two columns", "single texts only; name one column"),
        "training.freeze": (
            recipe.training.freeze != "none",
            recipe.training.freeze,
            "no layers, so nothing to freeze",
        ),
        "training.precision": (recipe.training.precision == "bfloat16", "bfloat16", "float32 only"),
        "export.quantization": (
            recipe.export.quantization == "int4",
            "int4",
            "weights of 8 bits or more; choose dynamic, float16 or none",
        ),
    }
    for key, (broken, value, has) in refused.items():
        if broken:
            yield Breach((key, "encoder.source"), f"{key} is {value}, but encoder.source average-words has {has}")


_MODEL_MAKER_REASONS = {
    "training.accumulate": "computes every step in one part",
    "training.warmup": "always warms up for a tenth of the steps",
    "training.weight_decay": "always decays weights by 0.01",
    "training.label_smoothing": "knows no label smoothing",
    "training.class_weights": "weights all rows alike",
    "training.clip_norm": "always clips gradients to the norm 1",
    "training.freeze": "trains the whole encoder",
    "training.early_stopping": "always trains for all epochs",
    "encoder.overflow": "always keeps the head of a text",
}
"""Settings for which Model Maker has no counterpart: any value but the default is refused."""


def model_maker_can_do_it(recipe: Recipe) -> Iterator[Breach]:
    """With the engine model-maker, no setting asks for what Model Maker cannot do."""
    if recipe.training.engine != "model-maker":
        return
    remedy = "remove the line, or train with training.engine native"
    for key, reason in _MODEL_MAKER_REASONS.items():
        section, name = key.split(".")
        settings = getattr(recipe, section)
        value = getattr(settings, name)
        if value != type(settings).model_fields[name].default:
            yield Breach(
                (key, "training.engine"), f"{key} is {_shown_value(value)}, but Model Maker {reason}; {remedy}"
            )
    rate = recipe.training.learning_rate
    if recipe.averages_words and rate != _AVERAGE_WORDS_DEFAULTS["training"]["learning_rate"]:
        yield Breach(
            ("training.learning_rate", "training.engine"),
            f"training.learning_rate is {rate:g}, but Model Maker always trains word vectors at 0.001; {remedy}",
        )
    if recipe.training.precision == "bfloat16":
        yield Breach(
            ("training.precision", "training.engine"),
            f"training.precision is bfloat16, but Model Maker computes in float32; {remedy}",
        )
    if len(recipe.dataset.text) == 2:
        yield Breach(
            ("dataset.text", "training.engine"),
            "dataset.text names two columns, but Model Maker reads single texts only; name one column, or train with "
            "training.engine native",
        )
    if recipe.export.quantization == "int4":
        yield Breach(
            ("export.quantization", "training.engine"),
            "export.quantization is int4, which Model Maker cannot write; choose dynamic, float16 or none",
        )
    for name, action in recipe.training.watchers:
        if action == "stop" and name != "not_finite":
            yield Breach(
                (f"training.watchers.{name}", "training.engine"),
                f"training.watchers.{name} is stop, but Model Maker exports the last epoch only, so it cannot end early; "
                "choose warn, fail or ignore",
            )


def _shown_value(value: object) -> str:
    return ", ".join(f"{key}: {one:g}" for key, one in value.items()) if isinstance(value, dict) else str(value)


RULES: tuple[Callable[[Recipe], Iterator[Breach]], ...] = (
    label_is_not_a_text_column,
    text_columns_differ,
    splits_are_different_files,
    shares_leave_rows_to_train_on,
    weighted_labels_exist,
    parts_of_a_batch_hold_rows,
    four_bits_need_litert,
    average_words_can_do_it,
    model_maker_can_do_it,
)


# --- Reading ---------------------------------------------------------------------------------------------------------


def load_recipe(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Recipe:
    """Read, type and check a recipe.

    `overrides` are texts such as `training.epochs=5` or `dataset.text=[question, answer]`; a later one wins. Relative
    paths in the file start at the file's folder; in an override they start at the current directory, where a shell
    completes them. All paths of the result are absolute. Whether the files exist is left to who reads them.

    Raises RecipeError with every problem of the file and the overrides, one a line, sorted by position.
    """
    file = Path(path)
    if reason := not_a_recipe(path):
        raise RecipeError(f"{file}: {reason}")
    draft = _Draft(str(file), Path(os.path.abspath(file)).parent)
    _read_yaml(draft, _read_text(file))
    for number, override in enumerate(overrides):
        _apply_override(draft, number, override)
    recipe = None if draft.values is None else _validate(draft, draft.values)
    if draft.problems or recipe is None:
        in_order = sorted(draft.problems, key=lambda problem: problem.order)
        lines = list(dict.fromkeys(problem.line for problem in in_order))
        more = [f"… and {len(lines) - _SHOWN_PROBLEMS:,} problems more"] if len(lines) > _SHOWN_PROBLEMS else []
        raise RecipeError("\n".join(lines[:_SHOWN_PROBLEMS] + more))
    return recipe


def dump_recipe(recipe: Recipe, relative_to: Path | None = None) -> str:
    """The recipe as YAML with all defaults written out; `load_recipe` gives an equal recipe.

    Paths are absolute or, for a recipe that is written into the folder `relative_to`, relative to it where the two share
    more than the root: so the folders around them may be moved together, and their names are told to nobody.
    """
    values = recipe.model_dump(mode="json")
    if relative_to is not None:
        for section, name in (
            ("dataset", "train"),
            ("dataset", "validation"),
            ("dataset", "test"),
            ("encoder", "source"),
        ):
            values[section][name] = _relative_path(values[section][name], relative_to)
    if len(recipe.dataset.text) == 1:
        values["dataset"]["text"] = recipe.dataset.text[0]
    if not recipe.averages_words:
        for name in _AVERAGE_WORDS_ONLY:
            del values["encoder"][name]
    header = "# A recipe with every default written out. Train it again: textclf train THIS_FILE\n"
    return header + yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Puts text in quotes that `load_recipe` would take for a slip without them."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        odd = re.search(rf"^[{_TYPOGRAPHIC_QUOTES}]|[{_OTHER_SPACES}]", data)
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if odd else None)


_Dumper.add_representer(str, _Dumper.represent_str)


def _relative_path(value: Any, folder: Path) -> Any:
    if not isinstance(value, str) or not os.path.isabs(value):
        return value
    try:
        shared = os.path.commonpath([value, folder])
        relative = Path(os.path.relpath(value, folder)).as_posix()
    except ValueError:  # on another drive of Windows
        return value
    if Path(shared) == Path(Path(value).anchor):
        return value
    return relative if relative.startswith("..") else f"./{relative}"


def recipe_json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors; published as docs/recipe.schema.json."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


@dataclass(frozen=True)
class _Place:
    """Where something is written: how it sorts, and how it is shown."""

    order: tuple[int, int, int]
    shown: str


@dataclass(frozen=True)
class _Problem:
    order: tuple[int, int, int]
    line: str


@dataclass
class _Draft:
    """A recipe while it is read: untyped values, where each key and each value is written, the problems so far."""

    file: str
    folder: Path
    values: dict[str, Any] | None = None
    keys: dict[Location, _Place] = field(default_factory=dict)
    places: dict[Location, _Place] = field(default_factory=dict)
    problems: list[_Problem] = field(default_factory=list)
    size: int = 0
    lines: list[str] = field(default_factory=list)

    def at(self, line: int, column: int) -> _Place:
        """A place in the file; `line` and `column` count from 0 as YAML's marks do, and are shown from 1."""
        return _Place((0, line, column), f"{self.file}:{line + 1}:{column + 1}")

    def add(self, place: _Place, message: str) -> None:
        self.problems.append(_Problem(place.order, f"{place.shown}: {message}"))

    def written(self, location: Location, places: Mapping[Location, _Place]) -> Location:
        """The location, or of one that is not written, the nearest one around it that is."""
        while location and location not in places:
            location = location[:-1]
        return location

    def place_of_key(self, location: Location) -> _Place:
        return self.keys.get(self.written(location, self.keys)) or self.at(0, 0)

    def place_of_value(self, location: Location) -> _Place:
        return self.places.get(self.written(location, self.places)) or self.at(0, 0)


def _read_text(file: Path) -> str:
    """The text of a recipe file; everything that keeps it from being text is a RecipeError."""
    try:
        if file.is_dir():
            raise RecipeError(f"{file}: this is a folder; name the recipe file in it, for example {_recipe_in(file)}")
        with open(file, "rb", opener=_open_at_once) as stream:
            content = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise RecipeError(f"{file}: there is no such file; {_similar_file(file)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"{file}: cannot be read ({reason}); check the path and its permissions") from None
    if len(content) > LARGEST_FILE:
        raise RecipeError(f"{file}: larger than {LARGEST_FILE:,} bytes; name a recipe, a short YAML file, not the data")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise RecipeError(f"{file}:1:1: the file is UTF-16; save the recipe as UTF-8 text")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        raise RecipeError(
            f"{file}:{line}:{column}: byte 0x{content[error.start]:02x} is not UTF-8; save the recipe as UTF-8 text"
        ) from None
    if not text.strip():
        raise RecipeError(f"{file}:1:1: the file is empty; write a recipe, at least `name` and `dataset.train`")
    return text


def _open_at_once(path: str, flags: int) -> int:
    """Opens without waiting for a writer that a named pipe may never get."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(descriptor, True)
    return descriptor


def _recipe_in(folder: Path) -> Path:
    return next(iter(sorted(folder.glob("*.y*ml"))), folder / "recipe.yaml")


def _similar_file(file: Path) -> str:
    try:
        siblings = [sibling.name for sibling in file.parent.iterdir() if sibling.suffix in (".yaml", ".yml")]
    except OSError:
        return f"there is no folder {file.parent} either: check the path"
    near = difflib.get_close_matches(file.name, siblings, n=1)
    return f"did you mean {file.parent / near[0]}?" if near else "check the path"


def _read_yaml(draft: _Draft, text: str) -> None:
    """Fill the draft from YAML text; what is not YAML, or not a section of keys, is a problem of the draft."""
    if _invisible_indentation(draft, text):
        return
    draft.lines = text.splitlines()
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = draft.at(mark.line, mark.column) if mark else draft.at(0, 0)
        draft.add(place, _syntax_message(error))
        return
    except yaml.reader.ReaderError as error:
        before = text[: error.position].splitlines() or [""]
        place = draft.at(len(before) - 1, len(before[-1]))
        draft.add(place, f"the character U+{error.character:04X} is not allowed in YAML; remove it")
        return
    except RecursionError:
        draft.add(draft.at(0, 0), "the values are nested too deeply; a recipe has sections of plain values")
        return
    if node is None:
        draft.add(draft.at(0, 0), "there are only comments here; write a recipe, at least `name` and `dataset.train`")
    elif not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "plain text"
        message = f"a recipe is a section of `key: value` lines, but this is {kind}; start with `name: my-classifier`"
        draft.add(draft.at(node.start_mark.line, node.start_mark.column), message)
    else:
        try:
            draft.values = _plain(draft, node, ())
        except _TooLargeError:
            draft.add(
                draft.at(0, 0), "the anchors of this file expand without end or too far; write the values out instead"
            )


_OTHER_SPACES = "\u00a0\u1680\u2000-\u200d\u202f\u205f\u2060\u3000\ufeff"
"""What looks like a space, or like nothing, and is none to YAML: web pages and word processors write it."""


_TYPOGRAPHIC_QUOTES = "“”„‟‘’‚«»"


def _invisible_indentation(draft: _Draft, text: str) -> bool:
    """Whether lines are indented, or values set apart, with characters that only look like spaces: each is a problem."""
    found = False
    for number, line in enumerate(text.split("\n")):
        if match := re.match(rf"[ -]*[{_OTHER_SPACES}]|[ -]*\w+:[{_OTHER_SPACES}]", line):
            code = ord(line[match.end() - 1])
            message = f"the invisible character U+{code:04X} is no space to YAML; replace it by an ordinary space"
            draft.add(draft.at(number, match.end() - 1), message)
            found = True
    return found


def _syntax_message(error: yaml.MarkedYAMLError) -> str:
    problem = f"{error.problem}"
    if r"'\t'" in problem:
        return "a tab stands where YAML allows only spaces; indent with spaces"
    if "mapping values are not allowed" in problem:
        return "a second `:` or a wrong indentation; put the value in quotes, or align the key with its neighbours"
    if "found another document" in problem:
        return "a second YAML document begins; keep one recipe in a file and remove the `---` line"
    if "escape" in problem:
        return "in double quotes a backslash starts an escape; write / in place of it, or use single quotes"
    if "undefined alias" in problem:
        return f"{problem}; a value that starts with `*` needs quotes"
    if "cannot start any token" in problem or "expected the node content" in problem:
        return f"not YAML: {problem}; put the value in quotes"
    context = f" {error.context}" if error.context else ""
    return f"not YAML: {problem}{context}; check quotes, brackets and indentation"


class _TooLargeError(Exception):
    """A tree of values that grows beyond LARGEST_TREE."""


def _plain(draft: _Draft, node: yaml.Node, location: Location) -> Any:
    """A YAML node as dictionaries, lists and `Written`; the places of all keys and values are noted in the draft."""
    draft.size += 1
    if draft.size > LARGEST_TREE or len(location) > 50:
        raise _TooLargeError
    place = draft.at(node.start_mark.line, node.start_mark.column)
    draft.places[location] = place
    tag = node.tag.replace("tag:yaml.org,2002:", "!!")
    if tag not in PLAIN_TAGS:
        draft.add(place, f"the tag `{tag}` means nothing in a recipe; remove it")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(draft, item, (*location, index)) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _plain_section(draft, node, location)
    assert isinstance(node, yaml.ScalarNode)
    if node.style is None and (fault := _unquoted_fault(draft, node)):
        draft.add(place, fault)
    return Written.of(node.value, tag == "!!null", draft.folder)


def _unquoted_fault(draft: _Draft, node: yaml.ScalarNode) -> str | None:
    """What is written without quotes and is surely not meant as YAML understands it."""
    value: str = node.value
    line = draft.lines[node.end_mark.line] if node.end_mark.line < len(draft.lines) else ""
    if comment := re.fullmatch(r" (#\S*) *", line[node.end_mark.column :]):
        return (
            f"the value ends before ` {comment[1]}`, which is a comment in YAML; write "
            f'"{value} {comment[1]}" in quotes, or remove the comment'
        )
    if len(value) > 1 and value[0] in _TYPOGRAPHIC_QUOTES and value[-1] in _TYPOGRAPHIC_QUOTES:
        return f"{quoted(value)} is in typographic quotation marks; use straight ones, or none"
    if re.match(rf"[{_OTHER_SPACES}]|.*[{_OTHER_SPACES}]$", value, re.DOTALL):
        return (
            f"{quoted(value)} begins or ends with an invisible character; remove it, or put the value in double quotes "
            "if it belongs there"
        )
    return None


def _plain_section(draft: _Draft, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
    section: dict[str, Any] = {}
    for key_node, value_node in node.value:
        inner = (*location, key_node.value)
        place = draft.at(key_node.start_mark.line, key_node.start_mark.column)
        if not isinstance(key_node, yaml.ScalarNode):
            draft.add(place, "a key must be a word; if this is a value with brackets, put it in quotes")
            continue
        key = key_node.value
        if key in section:
            first = draft.keys[inner].shown
            draft.add(place, f"the key `{key}` is here for the second time (first at {first}); keep one of them")
            continue
        draft.keys[inner] = place
        section[key] = _plain(draft, value_node, inner)
    return section


# --- Overrides -------------------------------------------------------------------------------------------------------


def _apply_override(draft: _Draft, number: int, override: str) -> None:
    """Put the value of `KEY=VALUE` into the draft, in place of what the file says."""
    place = _Place((1, number, 0), f"command line: {printable(override)}")
    dotted, equals, text = override.partition("=")
    dotted = dotted.strip()
    if not equals or not dotted:
        draft.add(place, _not_an_override_message(override))
        return
    if not _is_unicode(override):
        draft.add(place, "holds bytes that are not UTF-8; write the value in UTF-8")
        return
    known = _dotted_keys(Recipe)
    if dotted not in known:
        ends = [name for name in known if name.rpartition(".")[2] == dotted.rpartition(".")[2]]
        remedy = _suggestion(
            ends[0] if ends else dotted, known, "keys are written like training.epochs or dataset.test"
        )
        draft.add(place, f"unknown key `{dotted}`; {remedy}")
        return
    try:
        value = _override_value(text)
    except (yaml.YAMLError, _TooLargeError, RecursionError):
        draft.add(
            place, "not a valid value; close every bracket and quote, for example dataset.text='[question, answer]'"
        )
        return
    if draft.values is not None:
        _set(draft, draft.values, tuple(dotted.split(".")), value, place)


def _not_an_override_message(override: str) -> str:
    if override[:1] in "\u2010\u2011\u2012\u2013\u2014\u2212" and override:
        return f"begins with U+{ord(override[0]):04X}, which only looks like a hyphen; type -- for an option"
    if override.endswith((".yaml", ".yml")):
        return "not of the form KEY=VALUE; one recipe is taken, before the settings"
    return "not of the form KEY=VALUE; write for example training.epochs=5, without spaces"


def _override_value(text: str) -> Any:
    """The value of an override. Only brackets and quotes are YAML; other text is taken as it stands, as in a shell.

    Without this, `dataset.delimiter=,` and paths with `#` or `: ` would be YAML errors or be cut.
    """
    text = text.strip()
    if text[:1] not in ("[", "{", '"', "'"):
        return Written.of(text, text in ("", "~", "null", "Null", "NULL"), Path.cwd())
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    scratch = _Draft("", Path.cwd())
    value = None if node is None else _plain(scratch, node, ())
    if node is None or scratch.problems:
        raise yaml.YAMLError("a value in brackets or quotes that cannot be used")
    return value


def _set(draft: _Draft, section: dict[str, Any], location: tuple[str, ...], value: Any, place: _Place) -> None:
    for key in location[:-1]:
        inner = section.get(key)
        if key == "encoder" and isinstance(inner, Written) and not inner.is_null:
            inner = {"source": inner}
        if not isinstance(inner, dict):
            if inner is not None and not (isinstance(inner, Written) and inner.is_null):
                return  # The file has something else where a section belongs: that problem is reported instead.
            inner = {}
        section[key] = inner
        section = inner
    section[location[-1]] = value
    for places in (draft.keys, draft.places):
        for inner_location in [known for known in places if known[: len(location)] == location]:
            del places[inner_location]
        places[location] = place


def _dotted_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key that a recipe may have, sections included, as `training.epochs`."""
    dotted = []
    for key, definition in section.model_fields.items():
        dotted.append(prefix + key)
        if isinstance(definition.annotation, type) and issubclass(definition.annotation, BaseModel):
            dotted += _dotted_keys(definition.annotation, f"{prefix}{key}.")
    return dotted


# --- Validation ------------------------------------------------------------------------------------------------------


def _validate(draft: _Draft, values: dict[str, Any]) -> Recipe | None:
    """Type the values and apply the rules; all problems go into the draft.

    When some values are bad, the rules are applied to the good ones: bad values are replaced by defaults, and what a
    rule says about such a key is left out.
    """
    bad: set[str] = set()
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        _report_faults(draft, faults)
        repaired, bad = _without_faults(values, faults)
        try:
            recipe = Recipe.model_validate(repaired)
        except ValidationError:
            return None
    for rule in RULES:
        for breach in rule(recipe):
            if not any(key == one or key.startswith(f"{one}.") for key in breach.keys for one in bad):
                draft.add(draft.place_of_value(tuple(breach.keys[0].split("."))), breach.message)
    return recipe


def _without_faults(values: dict[str, Any], faults: list[ErrorDetails]) -> tuple[dict[str, Any], set[str]]:
    """A copy of the values with faulty ones removed and missing ones filled in, and the dotted keys of both."""
    copy = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    bad = set()
    required = {"name", "dataset.train"}
    for fault in faults:
        keys = [str(key) for key in fault["loc"]]
        inside = len(keys) > 1 and isinstance(copy.get(keys[0]), dict)
        section, key = (copy[keys[0]], keys[1]) if inside else (copy, keys[0])
        section.pop(key, None)
        bad.add(".".join(keys[:2] if inside else keys[:1]))
    copy.setdefault("dataset", {})
    for dotted in required & bad:
        outer, _, inner = dotted.rpartition(".")
        (copy[outer] if outer else copy)[inner] = "missing"
    if "dataset" in bad:
        copy["dataset"] = {"train": "missing"}
    return copy, bad


def _report_faults(draft: _Draft, faults: list[ErrorDetails]) -> None:
    """Pydantic's errors as problems of the draft, in the words of a recipe."""
    unknown = [fault["loc"] for fault in faults if fault["type"] == "extra_forbidden"]
    meant = {(*location[:-1], nearest(str(location[-1]), _section_keys(location[:-1]))) for location in unknown}
    for fault in faults:
        location = fault["loc"]
        if fault["type"] == "extra_forbidden":
            draft.add(draft.place_of_key(location), _unknown_key_message(location))
        elif fault["type"] != "missing":
            written = draft.written(location, draft.places)
            draft.add(draft.place_of_value(location), f"{_dotted(written)} {_fault_message(fault)}")
        elif location not in meant:  # else the misspelt key is reported, with the right spelling
            draft.add(draft.place_of_key(location), _missing_message(location, draft))


def setting_named(name: str) -> str | None:
    """The dotted key of a recipe for a word such as `epochs` or `training.epochs`; None where no key is called so."""
    known = _dotted_keys(Recipe)
    word = name.lower().replace("-", "_")
    return next((key for key in known if word in (key, key.rpartition(".")[2])), None)


def _section_keys(location: Location) -> list[str]:
    section: type[BaseModel] = Recipe
    for key in location:
        section = typing.cast("type[BaseModel]", section.model_fields[str(key)].annotation)
    return list(section.model_fields)


def _unknown_key_message(location: Location) -> str:
    key, inside = str(location[-1]), _section_keys(location[:-1])
    where = f" in `{_dotted(location[:-1])}`" if location[:-1] else ""
    elsewhere = [name for name in _dotted_keys(Recipe) if name.rpartition(".")[2] == key]
    if dotted := setting_named(key) if "." in key else None:
        section, name = dotted.split(".", 1)
        return f"unknown key `{key}`; write `{section}:` and under it, indented, `{name}:`"
    if key == "<<":
        return "merge keys (`<<`) are not understood in a recipe; write the keys out"
    other = OTHER_NAMES.get(key.lower().replace("-", "_").replace(" ", "_"))
    if other:
        name = other.rpartition(".")[2]
        remedy = f"did you mean `{name}`?" if name in inside else f"did you mean `{other}`?"
    elif not nearest(key, inside) and elsewhere:
        section = elsewhere[0].rpartition(".")[0]
        remedy = f"it belongs in `{section}`" if section else "it belongs at the left margin, outside of any section"
    else:
        remedy = _suggestion(key, inside, f"known keys: {', '.join(inside)}")
    return f"unknown key `{key}`{where}; {remedy}"


def _missing_message(location: Location, draft: _Draft) -> str:
    if location == ("name",):
        return f"`name` is missing; add a line such as `name: {_folder_safe(Path(draft.file).stem)}`"
    if location == ("dataset",):
        return "the section `dataset` is missing; add `dataset:` and under it, indented, `train: my_data.csv`"
    example = Recipe.model_fields["dataset"].annotation.model_fields[str(location[-1])].examples[0]  # type: ignore
    return f"`{_dotted(location)}` is missing; add under `{location[0]}:` a line such as `{location[-1]}: {example}`"


def _fault_message(fault: ErrorDetails) -> str:
    """What is wrong with a value and what to write instead, to follow its key."""
    kind, value, context = fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if value == "":
        return "has no value; write one, or remove the line"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        remedy = _suggestion(str(value), choices, "correct it or remove the line")
        return f"is {quoted(value)}, but must be {' or '.join(choices)}; {remedy}"
    wanted = {
        "int_parsing": "a whole number",
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "int_parsing_size": "a smaller whole number",
        "float_parsing": "a number, with a point before decimals",
        "float_type": "a number, with a point before decimals",
        "finite_number": "a finite number",
        "string_type": "plain text",
        "model_type": "a section of indented `key: value` lines",
        "model_attributes_type": "a section of indented `key: value` lines",
        "greater_than": "more than {gt}",
        "greater_than_equal": "{ge} or more",
        "less_than": "less than {lt}",
        "less_than_equal": "{le} or less",
        "string_too_short": "plain text",
    }.get(kind)
    if wanted is None:
        return f"is {quoted(value)}: {fault['msg']}; correct it or remove the line"
    return f"is {quoted(value)}, but must be {wanted.format(**context)}; correct it or remove the line"


def _dotted(location: Location) -> str:
    """`dataset.labels[2]`, counted from 1 as people do, for ("dataset", "labels", 1)."""
    return "".join(f"[{key + 1}]" if isinstance(key, int) else f".{key}" for key in location).removeprefix(".")


def _suggestion(word: str, choices: Iterable[str], otherwise: str) -> str:
    near = nearest(word, choices)
    return f"did you mean `{near}`?" if near else otherwise
