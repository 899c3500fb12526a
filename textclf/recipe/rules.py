"""The rules between settings of a recipe. Each takes typed settings and yields every violation with its key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from textclf.files.data_files import named_paths
from textclf.files.kinds import is_squad
from textclf.recipe.settings import (
    AVERAGE_WORDS_DEFAULTS,
    AVERAGE_WORDS_ONLY,
    QUESTION_ANSWERING_DEFAULTS,
    WINDOWS_ONLY,
    Recipe,
)
from textclf.recipe.values import USUAL_SEPARATOR, suggestion, window_room


# --- The rules between values ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Breach:
    """A broken rule: the keys it concerns (the first is where it is reported) and the message."""

    keys: tuple[str, ...]
    message: str


def label_is_not_a_text_column(recipe: Recipe) -> Iterator[Breach]:
    """The label column is not among the text columns: a model that reads the answer learns nothing else."""
    dataset = recipe.dataset
    for name in dataset.labels_from or ():
        if name in dataset.text:
            yield Breach(
                ("dataset.labels_from", "dataset.text"),
                f"dataset.labels_from and dataset.text both name the column `{name}`; remove it from one of them",
            )
    if dataset.labels_from is None and dataset.label in dataset.text:
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
    files = [(split, file) for split, value in named for file in named_paths(value)]
    for index, (split, file) in enumerate(files):
        for earlier, other in files[:index]:
            if file == other and split != earlier:
                yield Breach(
                    (f"dataset.{split}", f"dataset.{earlier}"),
                    f"dataset.{split} is the same file as dataset.{earlier} ({file}); "
                    "name another file, or a share such as 0.1 to set rows aside",
                )


def named_columns_hold_those_that_are_read(recipe: Recipe) -> Iterator[Breach]:
    """Where the recipe names all columns of the files, the columns that it reads are among them."""
    dataset, columns = recipe.dataset, recipe.dataset.columns
    named = [("dataset.text", name) for name in dataset.text]
    named += [("dataset.labels_from", name) for name in dataset.labels_from or ()] or [("dataset.label", dataset.label)]
    if recipe.answers_questions:
        keys = ("question", "context", "answer", "answer_start", "id")
        named = [(f"dataset.{key}", name) for key in keys if (name := getattr(dataset, key)) is not None]
    for key, name in named if columns is not None else ():
        if name not in (columns or ()):
            yield Breach(
                (key, "dataset.columns"),
                f"{key} names the column `{name}`, which is not in dataset.columns; "
                f"{suggestion(name, columns or (), 'name one of its columns')}",
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
                    f"{suggestion(label, labels, 'correct it or remove it')}",
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
    """The Task Library's runtime does not support 4-bit weights."""
    if recipe.export.quantization == "int4" and recipe.export.compatibility == "task-library":
        yield Breach(
            ("export.compatibility", "export.quantization"),
            "export.compatibility is task-library, whose runtime knows no weights of 4 bits (export.quantization is "
            "int4); choose quantization dynamic, or compatibility litert",
        )


_MEANT_FOR_QUESTIONS = {
    "dataset.text": "the text is in the columns of dataset.question and dataset.context",
    "dataset.label": "the column of the answers is dataset.answer",
    "encoder.overflow": "a long context is read in windows",
    "training.reject_for_precision": "a question without an answer is learned from such questions",
}
"""What takes the place of a setting of text classification in question answering."""

_MEANT_FOR_SEVERAL_LABELS = {
    "dataset.unlabelled": "a row without a label is one to which no label applies",
    "training.label_smoothing": "the probability of each label is calibrated separately",
    "export.reject_label": "a row whose labels are all too improbable gets none",
}
"""The same for several labels per row."""


def settings_belong_to_the_task(recipe: Recipe) -> Iterator[Breach]:
    """No setting is written that means nothing to the task."""
    meant = {}
    if recipe.answers_questions or recipe.has_several_labels:
        meant = _MEANT_FOR_QUESTIONS if recipe.answers_questions else _MEANT_FOR_SEVERAL_LABELS
    for key, task in recipe.foreign_settings.items():
        section, name = key.split(".")
        settings = getattr(recipe, section)
        filled = recipe.averages_words and name in AVERAGE_WORDS_DEFAULTS.get(section, ())
        if name in settings.model_fields_set and getattr(settings, name) is not None and not filled:
            instead = f"; {meant[key]}" if key in meant else ""
            other = "" if meant else f", or set task: {task}"
            yield Breach((key, "task"), f"{key} belongs to the task {task}{instead}; remove the line{other}")


def several_labels_have_one_source(recipe: Recipe) -> Iterator[Breach]:
    """The labels of a row are in one cell, with a separator or as a list, or in a column for each label."""
    dataset = recipe.dataset
    if not recipe.has_several_labels:
        return
    given = {"label_separator", "label", "labels"} & dataset.model_fields_set if dataset.labels_from is not None else ()
    for key in sorted(given):
        if getattr(dataset, key) is not None:
            yield Breach(
                (f"dataset.{key}", "dataset.labels_from"),
                f"dataset.{key} and dataset.labels_from are both set, but the columns of labels_from are the labels; remove one "
                "of the lines",
            )


def joined_labels_can_be_separated(recipe: Recipe) -> Iterator[Breach]:
    """No label contains the characters that join the labels of a row."""
    dataset = recipe.dataset
    separator = dataset.label_separator or USUAL_SEPARATOR
    key = "dataset.labels" if dataset.labels_from is None else "dataset.labels_from"
    for label in (dataset.labels_from or dataset.labels or ()) if recipe.has_several_labels else ():
        if separator in label:
            yield Breach(
                (key, "dataset.label_separator"),
                f"{key} names the label `{label}`, which contains `{separator}`, the separator of the labels of a row; rename it",
            )


def several_labels_need_the_own_engine(recipe: Recipe) -> Iterator[Breach]:
    """Model Maker learns one label per row."""
    if recipe.has_several_labels and recipe.training.engine == "model-maker":
        yield Breach(
            ("training.engine", "dataset.label_separator", "dataset.labels_from"),
            "training.engine is model-maker, which learns one label per row, but the recipe has several labels per row; train "
            "with the engine native",
        )


def question_columns_differ(recipe: Recipe) -> Iterator[Breach]:
    """Question, context and answer are three columns."""
    dataset = recipe.dataset
    named: dict[str, str] = {}
    for key in ("question", "context", "answer", "answer_start", "id"):
        column = getattr(dataset, key)
        if column is not None and (earlier := named.setdefault(column, key)) != key:
            yield Breach(
                (f"dataset.{key}", f"dataset.{earlier}"),
                f"dataset.{key} and dataset.{earlier} are both the column `{column}`; name two different columns",
            )


def tables_have_the_columns(recipe: Recipe) -> Iterator[Breach]:
    """Settings of tables are written only where there is a table: SQuAD files have names of their own."""
    dataset = recipe.dataset
    files = [file for value in (dataset.train, dataset.validation, dataset.test) for file in named_paths(value)]
    if not recipe.answers_questions or not all(map(is_squad, files)):
        return
    for key in ("question", "context", "answer", "answer_start", "id", "delimiter", "sheet", "columns"):
        if getattr(dataset, key) != QUESTION_ANSWERING_DEFAULTS["dataset"].get(key):
            yield Breach(
                (f"dataset.{key}", "dataset.train"),
                f"dataset.{key} is a setting of tables, but the recipe names SQuAD files (.json) only; remove the line",
            )


# [CLS] question [SEP] context [SEP]
_SEPARATORS = 3


def windows_fit(recipe: Recipe) -> Iterator[Breach]:
    """The windows of a context have a fixed length, with room for a truncated question and without gaps between them."""
    encoder = recipe.encoder
    if not recipe.answers_questions or encoder.stride is None or encoder.question_length is None:
        return
    if encoder.max_length == "auto":
        yield Breach(
            ("encoder.max_length", "task"),
            "encoder.max_length is auto, but the windows of question-answering have a fixed length; set a number such as 384",
        )
        return
    room = encoder.fixed_length - encoder.question_length - _SEPARATORS
    if encoder.stride > room:
        yield Breach(
            ("encoder.stride", "encoder.max_length", "encoder.question_length"),
            f"encoder.stride is {encoder.stride}, but a window of {encoder.fixed_length} tokens has room for only "
            f"{max(room, 0)} of the context beside a question of {encoder.question_length}, so windows would not overlap; "
            "lower encoder.stride or encoder.question_length, or raise encoder.max_length",
        )


def texts_fit_into_windows(recipe: Recipe) -> Iterator[Breach]:
    """Windows are over single texts, and no token lies between two of them. Their settings are written only with
    encoder.overflow windows."""
    encoder = recipe.encoder
    if recipe.answers_questions:
        return
    if not recipe.classifies_windows:
        for name in WINDOWS_ONLY:
            if getattr(encoder, name) is not None:
                task = " (or task: question-answering)" if name == "stride" else ""
                yield Breach(
                    (f"encoder.{name}", "encoder.overflow"),
                    f"encoder.{name} is a setting of windows, but encoder.overflow is {encoder.overflow}; remove the line, "
                    f"or set encoder.overflow to windows{task}",
                )
        return
    if len(recipe.dataset.text) == 2:
        yield Breach(
            ("encoder.overflow", "dataset.text"),
            "encoder.overflow is windows, but dataset.text is a pair of columns, and windows are over single texts; name one "
            "column, or choose head, tail or head_tail",
        )
    if encoder.stride is None:
        return
    if encoder.max_length == "auto":
        yield Breach(
            ("encoder.stride", "encoder.max_length"),
            "encoder.stride is a number of tokens, but encoder.max_length is auto; set a number for both, or remove "
            "encoder.stride",
        )
    elif encoder.stride > window_room(encoder.fixed_length):
        yield Breach(
            ("encoder.stride", "encoder.max_length"),
            f"encoder.stride is {encoder.stride}, but a window of {encoder.fixed_length} tokens has room for only "
            f"{window_room(encoder.fixed_length)} of the text, so tokens between two windows would not be read; lower "
            "encoder.stride, or raise encoder.max_length",
        )


def the_task_library_reads_384_tokens(recipe: Recipe) -> Iterator[Breach]:
    """The length is a constant of the Task Library's question answerer."""
    wanted = QUESTION_ANSWERING_DEFAULTS["encoder"]
    if not recipe.answers_questions or recipe.averages_words or recipe.export.compatibility != "task-library":
        return
    if recipe.encoder.max_length not in (wanted["max_length"], "auto"):
        yield Breach(
            ("encoder.max_length", "export.compatibility"),
            f"encoder.max_length is {recipe.encoder.max_length}, but the Task Library's BertQuestionAnswerer demands "
            f"{wanted['max_length']} (export.compatibility is task-library); remove the line, or set export.compatibility "
            "to litert",
        )


def questions_need_an_encoder(recipe: Recipe) -> Iterator[Breach]:
    """Averaged words do not know where a word is."""
    if recipe.answers_questions and recipe.averages_words:
        yield Breach(
            ("encoder.source", "task"),
            "encoder.source is average-words, which adds up all words of a text and so cannot find an answer in it; use "
            "another encoder such as builtin",
        )


def average_words_can_do_it(recipe: Recipe) -> Iterator[Breach]:
    """Averaged words have no layers, read one text, and are split by the devices' regex tokenizer; the settings of
    their own mean nothing to other encoders."""
    if not recipe.averages_words:
        for name in AVERAGE_WORDS_ONLY:
            if getattr(recipe.encoder, name) is not None:
                message = f"encoder.{name} belongs to encoder.source average-words alone; remove the line"
                yield Breach((f"encoder.{name}", "encoder.source"), message)
        return
    refused = {
        "encoder.tokenizer": (recipe.encoder.tokenizer == "bert", "bert", "the words of devices' regex tokenizer only"),
        "encoder.overflow": (
            recipe.classifies_windows,
            "windows",
            "no order of words that a window would keep; raise encoder.max_length (at most 512 words), or use another encoder",
        ),
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


def a_last_layer_can_be_fitted(recipe: Recipe) -> Iterator[Breach]:
    """Without epochs, the model is the fitted head on a pretrained encoder, which only textclf's own engine fits."""
    training = recipe.training
    if training.epochs != 0:
        return
    obstacles = {
        "encoder.source": (recipe.averages_words, "average-words, which learns its vectors in epochs"),
        "training.head": (training.head == "fresh", "fresh, so nothing would be learned"),
        "training.engine": (training.engine == "model-maker", "model-maker, which only trains in epochs"),
    }
    for key, (stands_in_the_way, has) in obstacles.items():
        if stands_in_the_way:
            message = f"training.epochs is 0, but {key} is {has}; set training.epochs to 1 or more"
            yield Breach(("training.epochs", key), message)


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
    if recipe.averages_words and rate != AVERAGE_WORDS_DEFAULTS["training"]["learning_rate"]:
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
    named_columns_hold_those_that_are_read,
    shares_leave_rows_to_train_on,
    weighted_labels_exist,
    parts_of_a_batch_hold_rows,
    four_bits_need_litert,
    settings_belong_to_the_task,
    several_labels_have_one_source,
    joined_labels_can_be_separated,
    several_labels_need_the_own_engine,
    question_columns_differ,
    tables_have_the_columns,
    windows_fit,
    texts_fit_into_windows,
    the_task_library_reads_384_tokens,
    questions_need_an_encoder,
    average_words_can_do_it,
    a_last_layer_can_be_fitted,
    model_maker_can_do_it,
)
