"""Recipes: the settings of a training run. Takes YAML text and overrides, returns one validated, frozen `Recipe`.

Two stages: the shape of every value (the models below), then each rule between values (`RULES`, one function each).
All problems of a recipe are reported at once, each with its file, line and column, or with its override.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from textclf.recipe.values import (
    AVERAGE_WORDS,
    DEFAULT_TASK,
    LARGEST_LENGTH,
    LARGEST_MOST_WINDOWS,
    MOST_EPOCHS,
    MOST_WINDOWS,
    MULTI_LABEL,
    QUESTION_ANSWERING,
    Engine,
    Task,
    Written,
    all_columns,
    checked_delimiter,
    checked_encoding,
    columns_of_labels,
    data_paths,
    encoder_source,
    epochs_or_auto,
    file_or_share,
    folder_name,
    frozen_part,
    known_precision,
    label_column,
    label_list,
    length_in_tokens,
    one_column,
    one_label,
    separator_of_labels,
    several_seeds,
    text_columns,
    weights_of_labels,
)

# Editors read unquoted 1, yes and null as a number, a boolean and null. As names they are text.
_NAME_SCHEMA = {"type": ["string", "number", "boolean", "null"]}

_SHARE_OR_FILE_SCHEMA: list[dict[str, Any]] = [
    {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
    {"type": "string", "minLength": 1},
    {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "uniqueItems": True},
]

DataPaths = Annotated[
    Path | tuple[Path, ...], BeforeValidator(data_paths), WithJsonSchema({"anyOf": _SHARE_OR_FILE_SCHEMA[1:]})
]

ColumnName = Annotated[str, Field(min_length=1)]

Label = Annotated[str, BeforeValidator(one_label)]

WatcherAction = Literal["ignore", "warn", "stop", "fail"]

Columns = Annotated[
    tuple[ColumnName, ...],
    BeforeValidator(text_columns),
    WithJsonSchema({"anyOf": [_NAME_SCHEMA, {"type": "array", "items": _NAME_SCHEMA, "minItems": 1, "maxItems": 2}]}),
]


Column = Annotated[
    ColumnName | None,
    BeforeValidator(one_column),
    WithJsonSchema(_NAME_SCHEMA),
]


# --- The shape: sections ---------------------------------------------------------------------------------------------
class Settings(BaseModel):
    """A section of a recipe: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    has_short_form: ClassVar[bool] = False

    @model_validator(mode="before")
    @classmethod
    def _null_where_null_is_allowed(cls, values: object) -> object:
        """`test:` without a value is None if the field may be None. For other fields the written word is kept."""
        if isinstance(values, Written) and values.is_null:
            return {}
        if not isinstance(values, dict):
            return values
        return {key: None if _means_none(cls, key, value) else value for key, value in values.items()}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Returns a section without required keys may be empty. A section with a short form may also be text."""
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

    train: DataPaths = Field(
        description="The table with the training rows: CSV or TSV, JSON Lines, a JSON array, Parquet or Excel; or a folder "
        "with a sub-folder of .txt files for each label; for question-answering also a SQuAD file (`.json`). Several files: a "
        "list, or a pattern such as `part-*.csv`. The path is relative to the recipe. Or an address such as "
        "`https://…` or `s3://…`.",
        examples=["../datasets/support_tickets.csv"],
    )
    validation: Annotated[
        float | Path | tuple[Path, ...],
        BeforeValidator(file_or_share),
        WithJsonSchema({"anyOf": _SHARE_OR_FILE_SCHEMA}),
    ] = Field(
        default=0.1,
        description="The rows on which the best epoch is chosen: a table, or the fraction of the training rows to "
        "set aside (above 0, at most 0.5).",
    )
    test: Annotated[
        float | Path | tuple[Path, ...] | None,
        BeforeValidator(file_or_share),
        WithJsonSchema({"anyOf": [*_SHARE_OR_FILE_SCHEMA, {"type": "null"}]}),
    ] = Field(
        default=None,
        description="The rows on which the finished model is measured: a table, a fraction of the training rows to "
        "set aside, or null for no test.",
    )
    text: Columns = Field(
        default=("text",),
        description="The column with the text, or two columns `[question, answer]` for a sentence pair.",
    )
    question: Column = Field(
        default=None, description="For question-answering: the column of a table with the question (question)."
    )
    context: Column = Field(
        default=None,
        description="For question-answering: the column of a table with the context, the text that contains the answer "
        "(context).",
    )
    answer: Column = Field(
        default=None,
        description="For question-answering: the column of a table with the answer (answer), as it is written in the "
        "context; empty for a question that the context does not answer. Rows with the same context and question are one "
        "question with several answers.",
    )
    answer_start: Column = Field(
        default=None,
        description="For question-answering: the column of a table with the first character of the answer in the context, "
        "counted from 0. null uses the column `answer_start` if there is one. Where it is empty, the context must contain "
        "the answer once.",
    )
    id: Column = Field(
        default=None,
        description="For question-answering: the column of a table that names the question. Rows with the same name are one "
        "question with several answers.",
    )
    label: Annotated[ColumnName, BeforeValidator(label_column), WithJsonSchema(_NAME_SCHEMA)] = Field(
        default="label",
        description="The column with the label, or with several labels: as text (label_separator), or as lists in JSON and "
        "Parquet (task: multi-label-classification).",
    )
    label_separator: Annotated[
        str | None,
        BeforeValidator(separator_of_labels),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]}),
    ] = Field(
        default=None,
        description="For several labels per row: what stands between the labels in a cell of the column label, such as `|`. "
        "An empty cell is a row to which no label applies. null: each row has one label, or, with task: "
        "multi-label-classification, a list of labels.",
    )
    labels_from: Annotated[
        tuple[ColumnName, ...] | None,
        BeforeValidator(columns_of_labels),
        WithJsonSchema(
            {"anyOf": [{"type": "array", "items": _NAME_SCHEMA, "minItems": 2, "uniqueItems": True}, {"type": "null"}]}
        ),
    ] = Field(
        default=None,
        description="For several labels per row: the columns that hold 0 or 1 (or no and yes, false and true), one for each "
        "label. The names of the columns are the labels, in this order.",
    )
    labels: Annotated[
        tuple[Label, ...] | None,
        BeforeValidator(label_list),
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
    sheet: str | None = Field(
        default=None,
        description="The sheet of an Excel workbook. null reads the first visible sheet.",
    )
    columns: Annotated[
        tuple[ColumnName, ...] | None,
        BeforeValidator(all_columns),
        WithJsonSchema({"anyOf": [{"type": "array", "items": _NAME_SCHEMA, "minItems": 1}, {"type": "null"}]}),
    ] = Field(
        default=None,
        description="The names of all columns, in their order, of files without a header row: `[text, label]`. null: the first "
        "row is the header.",
    )
    unlabelled: Literal["error", "skip"] = Field(
        default="error",
        description="What to do with rows without a label: `error` stops, `skip` leaves them out and counts them.",
    )


_AVERAGE_WORDS_WIDTH = 64

AVERAGE_WORDS_DEFAULTS: dict[str, dict[str, Any]] = {
    "encoder": {"max_length": 256, "words": 10_000, "width": _AVERAGE_WORDS_WIDTH, "lowercase": True},
    "training": {"epochs": 30, "learning_rate": 5e-3, "dropout": 0.5, "precision": "float32"},
    # Such a model already runs in every runtime.
    "export": {"compatibility": "task-library"},
}
"""The defaults that differ from those for MobileBERT, by section."""

AVERAGE_WORDS_ONLY = ("words", "width", "lowercase")

WINDOWS_ONLY = ("stride", "max_windows")

BUILTIN, BUILTIN_FOR_QUESTIONS = "builtin", "builtin:mobilebert-small-qa"
"""`encoder: builtin` is the encoder that suits the task; the default of every other task is `locate.DEFAULT_BUILTIN`."""

QUESTION_ANSWERING_DEFAULTS: dict[str, dict[str, Any]] = {
    "dataset": {"question": "question", "context": "context", "answer": "answer"},
    # Those of MobileBERT's published SQuAD training; the Task Library's runtime demands this length.
    "encoder": {"source": BUILTIN_FOR_QUESTIONS, "max_length": 384, "stride": 128, "question_length": 64},
    "training": {"learning_rate": 4e-5},
    "export": {"compatibility": "task-library"},
}
"""The defaults that differ from those of text classification, by section."""

ANSWER_START = "answer_start"
"""The column that is used without `dataset.answer_start`, where a table has it."""

ONLY_FOR_TASK: dict[Task, tuple[str, ...]] = {
    "text-classification": (
        "dataset.text",
        "dataset.label",
        "dataset.labels",
        "dataset.unlabelled",
        "encoder.overflow",
        "encoder.max_windows",
        "training.dropout",
        "training.label_smoothing",
        "training.class_weights",
        "training.head",
        "training.reject_for_precision",
        "export.reject_label",
    ),
    "multi-label-classification": (
        "dataset.text",
        "dataset.label",
        "dataset.label_separator",
        "dataset.labels_from",
        "dataset.labels",
        "encoder.overflow",
        "encoder.max_windows",
        "training.dropout",
        "training.class_weights",
        "training.head",
        "training.reject_for_precision",
    ),
    "question-answering": (
        "dataset.question",
        "dataset.context",
        "dataset.answer",
        "dataset.answer_start",
        "dataset.id",
        "encoder.question_length",
    ),
}
"""The settings that do not mean something to every task, by the tasks to which they do."""


def _filled(values: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values, with defaults for keys that are missing or have no value."""
    written = {key: value for key, value in values.items() if not _is_missing(value)}
    return {**values, **defaults, **written}


def _is_null(value: object) -> bool:
    return isinstance(value, Written) and value.is_null


class EncoderSettings(Settings):
    """The pretrained encoder, and how its input is made from text."""

    has_short_form = True

    source: Annotated[str, BeforeValidator(encoder_source)] = Field(
        default=BUILTIN,
        description="`builtin` (the same as `builtin:mobilebert-medium`, and for question-answering as "
        "`builtin:mobilebert-small-qa`), `builtin:mobilebert-small`, the path of a folder or archive (relative to the recipe), "
        "or a handle such as `hf:google/mobilebert-uncased` or `tfhub:…`; or `average-words`, a fast and tiny baseline that "
        "averages word vectors learned from the training rows alone. Write ./builtin for a folder of that name.",
    )
    max_length: Annotated[
        int | str,
        BeforeValidator(length_in_tokens),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 8, "maximum": 512}, {"const": "auto"}]}),
    ] = Field(
        default=128,
        description="The largest number of tokens per row, [CLS] and [SEP] included; for longer rows see `overflow`. `auto` "
        "uses the number that 99.5% of the training rows need. The default for average-words is 256. The default for "
        "question-answering is 384, and a longer context is read in several windows.",
    )
    stride: int | None = Field(
        default=None,
        ge=1,
        le=LARGEST_LENGTH,
        description="Each window over a long text begins this many tokens after the one before. For question-answering, "
        "windows are over the context (128). To classify texts, it needs `overflow: windows` (three quarters of the tokens "
        "that fit into a window).",
    )
    question_length: int | None = Field(
        default=None,
        ge=1,
        le=LARGEST_LENGTH,
        description="For question-answering: the number of tokens that are kept of a question (64, as on devices).",
    )
    tokenizer: Literal["device", "bert"] = Field(
        default="device",
        description="`device` splits words exactly as MediaPipe and the TFLite Task Library do on a phone. `bert` splits "
        "them as BERT's Python programs do, which also strip accents and lower-case letters beyond ASCII.",
    )

    @property
    def fixed_length(self) -> int:
        """`max_length` as a number. Raises ValueError before it is chosen from the data."""
        return int(self.max_length)

    overflow: Literal["head", "tail", "head_tail", "windows"] = Field(
        default="head",
        description="How a text longer than max_length is read. Either a part is kept: its `head`, its `tail`, or `head_tail` "
        "(a quarter of the tokens from the start, the rest from the end). Or `windows`: the whole text is read in "
        "overlapping windows of max_length tokens, and the mean of their logits decides. Device runtimes always keep the "
        "head, which is the first window.",
    )
    max_windows: int | None = Field(
        default=None,
        ge=1,
        le=LARGEST_MOST_WINDOWS,
        description=f"For `overflow: windows`: the largest number of windows per text ({MOST_WINDOWS}). What follows them is "
        "not read, and such texts are counted as truncated.",
    )

    words: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="For average-words: the number of words that have a vector: the most frequent words that "
        "occur at least twice (10000).",
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
            return _filled(values, AVERAGE_WORDS_DEFAULTS["encoder"])
        return values


class WatcherSettings(Settings):
    """What happens when a training goes wrong: ignore it, warn and continue, stop and export the best epoch so far, or
    fail."""

    not_finite: Literal["stop", "fail"] = Field(
        default="stop",
        description="What to do when the loss is no longer a number. `stop` exports the best epoch so far, or fails if there "
        "is none.",
    )
    learning_rate: WatcherAction = Field(
        default="warn",
        description="What to do when the loss rises well above the loss of guessing: the learning rate is too high.",
    )
    stuck: WatcherAction = Field(
        default="warn",
        description="What to do when the loss after an epoch is not below the loss of guessing by label frequency.",
    )
    one_class: WatcherAction = Field(
        default="warn", description="What to do when every validation row gets the same label after an epoch."
    )
    overfitting: WatcherAction = Field(
        default="warn",
        description="What to do when the validation loss rises for two epochs while the training loss falls.",
    )


class TrainingSettings(Settings):
    """How the classifier is fine-tuned."""

    engine: Engine = Field(
        default="native",
        description="The engine that trains and exports: `native` is textclf's own; `model-maker` is the real TFLite Model "
        "Maker 0.4.3 in a separate environment (`textclf model-maker setup`). Settings that it does not have are errors.",
    )
    epochs: Annotated[
        int | str,
        BeforeValidator(epochs_or_auto),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": MOST_EPOCHS}, {"const": "auto"}]}),
    ] = Field(
        default="auto",
        description="How often each training row is used. 0 fits only the last layer and leaves the encoder as it is, which "
        "takes seconds and is better with few rows. `auto` is 0 for fewer than 300 training rows and 3 for more; for "
        "question-answering it is 5, and 0 exports an encoder with a head for questions without training.",
    )
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
        description="The fraction of the steps in which the learning rate rises; then it falls to 0.",
    )
    weight_decay: float = Field(
        default=0.01, ge=0, lt=1, description="Decoupled weight decay. It is not applied to biases and normalisations."
    )
    dropout: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="The fraction of the pooled features that is dropped before the last layer.",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="The fraction of each row's target that is spread evenly over all labels."
    )
    class_weights: Annotated[
        str | dict[str, float] | None,
        BeforeValidator(weights_of_labels),
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
        "each row of spam three times and the rows of other labels once. With several labels per row, `balanced` gives the rows "
        "with a label and the rows without it the same total weight, and a number weights the rows with the label.",
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
        BeforeValidator(frozen_part),
        WithJsonSchema({"anyOf": [{"enum": ["none", "embeddings"]}, {"type": "integer", "minimum": 1}]}),
    ] = Field(
        default="none",
        description="The weights that are not trained: `none`, the `embeddings`, or, with a number, the embeddings and this many "
        "of the lower layers.",
    )
    precision: Annotated[Literal["auto", "float32", "bfloat16"], BeforeValidator(known_precision)] = Field(
        default="auto",
        description="The precision of matrix products in training. `auto` uses bfloat16 where the processor multiplies it "
        "faster than float32; weights, gradients and sums stay float32.",
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
        "right, and builds it into the model. The predicted labels do not change. With several labels per row, each label has a "
        "factor and an offset in place of the temperature. For question-answering, the temperature is a setting in the model "
        "file.",
    )
    reject_for_precision: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Chooses on the validation rows the probability below which no label is used, so that this "
        "fraction of the used labels is right. null: every row gets a label. With several labels per row: the threshold of each "
        "label is that of the best F1 among those at which this fraction of its predictions is right. null: the threshold "
        "for the best F1, combined with that which the calibrated probabilities expect to be best.",
    )
    seed: int = Field(
        default=1,
        ge=0,
        lt=2**32,
        description="Fixes the splits, the order of rows, the initial weights and the dropout.",
    )
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] | None,
        BeforeValidator(several_seeds),
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
    def epoch_count(self) -> int:
        """`epochs` as a number. Raises ValueError before it is chosen from the data."""
        return int(self.epochs)

    @property
    def frozen_layers(self) -> int | None:
        """The number of lower layers that are frozen together with the embeddings. None if nothing is frozen."""
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
        description="The largest fraction of the compared rows (or questions) for which the exported model may clearly predict "
        "other labels (or another answer) than the trained model; above it the export fails. Default: 0.01, or 0.03 for int4; "
        "for question-answering 0.02, or 0.06 for int4.",
    )
    max_lost_accuracy: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The largest loss of accuracy (several labels per row: micro-F1; questions: F1) that the export may cause; "
        "above it the export fails. Default: 0.005, or 0.01 for int4.",
    )
    reject_label: str = Field(
        default="",
        description="What `textclf classify` writes in place of a label that is too uncertain "
        "(training.reject_for_precision, or --reject-below). It may be one of the labels, such as `other`.",
        examples=["other"],
    )


class Recipe(Settings):
    """All settings of one training run."""

    name: Annotated[str, BeforeValidator(folder_name)] = Field(
        description="The name of the run; its folder is runs/<name>.", examples=["support-tickets"]
    )
    task: Task = Field(
        default=DEFAULT_TASK,
        description="What the model learns: `text-classification` predicts one label for each text; "
        "`multi-label-classification` predicts any number of labels and is set by dataset.label_separator and "
        "dataset.labels_from; `question-answering` finds the answer to a question in a text, its context.",
    )
    dataset: DatasetSettings
    encoder: EncoderSettings = EncoderSettings()
    training: TrainingSettings = TrainingSettings()
    export: ExportSettings = ExportSettings()

    @property
    def averages_words(self) -> bool:
        """Whether the encoder is `average-words`."""
        return self.encoder.source == AVERAGE_WORDS

    @property
    def answers_questions(self) -> bool:
        """Whether the task is question answering."""
        return self.task == QUESTION_ANSWERING

    @property
    def may_read_windows(self) -> bool:
        """Whether `encoder.overflow` may be windows."""
        reads_pairs = self.answers_questions or len(self.dataset.text) > 1
        return not (reads_pairs or self.averages_words or self.training.engine == "model-maker")

    @property
    def classifies_windows(self) -> bool:
        """Whether the model classifies a long text in windows."""
        return self.encoder.overflow == "windows" and not self.answers_questions

    @property
    def reads_windows(self) -> bool:
        """Whether the model reads a long text, or a long context, in windows."""
        return self.answers_questions or self.classifies_windows

    @property
    def has_several_labels(self) -> bool:
        """Whether a row may have any number of labels."""
        return self.task == MULTI_LABEL

    @property
    def foreign_settings(self) -> dict[str, Task]:
        """The settings that mean something to other tasks only, such as `dataset.question`, and the first of these."""
        own, found = ONLY_FOR_TASK[self.task], dict[str, Task]()
        for task, keys in ONLY_FOR_TASK.items():
            for key in keys:
                if key not in own:
                    found.setdefault(key, task)
        return found

    @property
    def columns(self) -> tuple[tuple[str, ...], str | None, tuple[str, ...]]:
        """The columns of a table: those with text, the one with the label, and others with values such as numbers."""
        dataset = self.dataset
        if dataset.labels_from is not None:
            return dataset.text, None, dataset.labels_from
        if not self.answers_questions:
            return dataset.text, dataset.label, ()
        texts = (dataset.question, dataset.context, dataset.answer)
        others = (dataset.answer_start or ANSWER_START, dataset.id)
        return tuple(filter(None, texts)), None, tuple(filter(None, others))

    @property
    def texts_per_row(self) -> int:
        """How many texts the model reads at a time: one, or two segments (a sentence pair, a question and its context)."""
        return 2 if self.answers_questions else len(self.dataset.text)

    @model_serializer(mode="wrap")
    def _without_the_default_task(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves the default task out, so that recipes are written as before there were tasks."""
        values: dict[str, Any] = serialize(self)
        if values.get("task") == DEFAULT_TASK:
            del values["task"]
        return values

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_encoder_and_task(cls, values: object) -> object:
        """Averaged words know nothing before training, so they need other settings than a pretrained encoder. Questions
        need longer inputs than texts to classify."""
        if not isinstance(values, dict):
            return values
        encoder = values.get("encoder")
        source = encoder.get("source") if isinstance(encoder, dict) else getattr(encoder, "source", encoder)
        if source == AVERAGE_WORDS:
            values = _with_defaults(values, {name: AVERAGE_WORDS_DEFAULTS[name] for name in ("training", "export")})
        if _names_several_labels(values.get("dataset")) and _is_missing(values.get("task")):
            values = {**values, "task": MULTI_LABEL}
        if values.get("task") == QUESTION_ANSWERING:
            values = _with_defaults(values, QUESTION_ANSWERING_DEFAULTS)
            encoder = values["encoder"]
            if isinstance(encoder, dict) and encoder["source"] == BUILTIN:
                values["encoder"] = {**encoder, "source": BUILTIN_FOR_QUESTIONS}
        return values


def _names_several_labels(dataset: object) -> bool:
    """Returns whether the section `dataset` says where several labels per row are."""
    keys = ("label_separator", "labels_from")
    if isinstance(dataset, dict):
        return any(not _is_missing(dataset.get(key)) for key in keys)
    return any(getattr(dataset, key, None) is not None for key in keys)


def _is_missing(value: object) -> bool:
    return value is None or _is_null(value)


def _with_defaults(values: dict[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns a recipe's values, with defaults for the keys of each section that are missing or have no value."""
    filled = dict(values)
    for name, own in defaults.items():
        section = values.get(name)
        if isinstance(section, Settings):
            section = section.model_dump(exclude_unset=True)
        elif isinstance(section, str) and not _is_null(section) and name == "encoder":  # the short form
            section = {"source": section}
        elif section is None or _is_null(section):
            section = {}
        if isinstance(section, dict):
            filled[name] = _filled(section, own)
    return filled
