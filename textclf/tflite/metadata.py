"""Reads and writes the metadata of a `.tflite`: labels, vocabulary, tokenizer, names of tensors.

`write_metadata` adds TFLite metadata to a model; `read_metadata` reads them. The metadata are a flatbuffer in a buffer
named TFLITE_METADATA, byte for byte as the writer of tflite-support 0.4.4 makes it. The files that it names are packed
behind the model. MediaPipe's TextClassifier and the Task Library read both. Another file, `textclf.json`, contains the
settings that only textclf needs.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from textclf.errors import ModelError
from textclf.recipe.values import DEFAULT_TASK, QUESTION_ANSWERING, quoted
from textclf.tflite import question_answering
from textclf.tflite.classification import ClassifierMetadata
from textclf.tflite.format import metadata_schema as schema
from textclf.tflite.format.flatbuffer import (
    DamagedFlatbufferError,
    FlatTable,
    Table,
    pack_bytes,
    pack_offsets,
    pack_table,
)
from textclf.tflite.format.metadata_parts import LABELS_FILE, associated_file, feature, lines_file
from textclf.tflite.format.packed_files import EXPORT_AGAIN, PackedFiles, append_files
from textclf.tflite.model_file import Tensor, TfliteModel, read_file
from textclf.tflite.settings import SETTINGS_FILE, read_settings

TokenizerKind = Literal["bert", "regex", "sentencepiece"]

VOCABULARY_FILE = "vocab.txt"

_VOCABULARY_DESCRIPTION = "Vocabulary file to convert natural language words to embedding vectors."

_SETTINGS_DESCRIPTION = "JSON: what textclf needs to classify with this model; other runtimes ignore it."

# The version of the metadata schema that introduced each tokenizer. A reader must know it to use the file.
_MIN_PARSER_VERSION = {"bert": "1.1.0", "regex": "1.2.1"}

# The names of the inputs in textclf's graphs and in TensorFlow's text models.
_TENSOR_NAMES = {
    "ids": ("ids", "input_ids", "input_word_ids"),
    "mask": ("mask", "input_mask"),
    "segment_ids": ("segment_ids", "input_type_ids"),
}

# A vocabulary of every language has 250,000 entries; a classifier of everything that people sell has 10,000 labels.
_MOST_LINES = {LABELS_FILE: 100_000, VOCABULARY_FILE: 2_000_000}

_LONGEST_LINE = 10_000

# Ids of up to a billion. More digits would take long to convert.
_MOST_DIGITS = 9

# Flatbuffers are aligned to their largest member; no TFLite writer uses more.
_MODEL_ALIGNMENT = 64


_CLASSIFIER = ClassifierMetadata()


@dataclass(frozen=True)
class ModelMetadata:
    """The metadata of a model. Names of inputs and outputs are in the order of the graph's tensors.

    `input_names` and `output_names` are the metadata's (`ids`, `mask`, …), `input_tensors` and `output_tensors` the
    graph's; missing texts are "". `vocabulary` is empty without a tokenizer and for sentencepiece;
    `delimiter_pattern` belongs to the regex tokenizer, and `settings` to files of textclf.
    """

    name: str
    description: str
    version: str
    author: str
    license: str
    min_parser_version: str
    labels: tuple[str, ...]
    tokenizer: TokenizerKind | None
    vocabulary: tuple[str, ...]
    delimiter_pattern: str | None
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    input_tensors: tuple[str, ...]
    output_tensors: tuple[str, ...]
    files: tuple[str, ...]
    settings: dict[str, Any] | None
    tokenizer_at_graph: bool
    """Whether the tokenizer is attached to the graph, as runtimes expect BERT's, or to an input."""

    @property
    def task(self) -> str:
        """What the model does: the task of its recipe. Files that name none are text classifiers, unless their outputs are
        those of Model Maker's question answering models."""
        answers = sorted(self.output_names) == sorted(question_answering.OUTPUTS)
        task: str = (self.settings or {}).get("task", QUESTION_ANSWERING if answers else DEFAULT_TASK)
        return task

    @property
    def resizable(self) -> bool:
        """Whether the graph is correct at shorter lengths. This is known only for textclf's graphs."""
        settings = self.settings or {}
        return "tokenizer" in settings and not settings.get("fixed_length", False)


class TaskMetadata(Protocol):
    """What the metadata say of a model's task. `ClassifierMetadata` is that of text classification."""

    @property
    def description(self) -> str:
        """What the model does, in a sentence."""

    def input_description(self, name: str) -> str:
        """Returns what an input holds, by its name in the metadata."""

    def check_outputs(self, outputs: Sequence[Tensor]) -> None:
        """Raises ModelError unless the graph has the outputs of the task."""

    def output_tables(self) -> list[Table]:
        """Returns the metadata of the outputs, in the order of the graph's."""

    def files(self) -> dict[str, bytes]:
        """Returns the files that the outputs name. Raises ModelError for what they cannot hold."""


def write_metadata(
    model: bytes,
    *,
    name: str,
    vocabulary: Sequence[str],
    labels: Sequence[str] = (),
    task: TaskMetadata | None = None,
    settings: Mapping[str, Any] | None = None,
    description: str | None = None,
    version: str | None = None,
    author: str | None = None,
    license: str | None = None,
    delimiter_pattern: str | None = None,
) -> bytes:
    """Returns the model with its metadata, the same bytes for the same arguments.

    `model` has inputs named ids, mask and segment_ids (or as in `_TENSOR_NAMES`) in any order, and the outputs of its
    `task`, by default those of text classification with these `labels`. With `delimiter_pattern`, a regular expression
    of RE2, it has one input of word ids instead, for the runtimes' regex tokenizer, and the entries of `vocabulary` are
    numbered in their order. `settings` come back from `read_metadata` and are stored as JSON.

    Raises ModelError for a model with other inputs or outputs, with metadata already, or another number of labels, and
    for labels and entries that a file of lines cannot hold.
    """
    bare = TfliteModel(model)
    _check_bare(bare)
    task = task or ClassifierMetadata(labels)
    task.check_outputs(bare.outputs)
    buffer = metadata_buffer(
        _bert_input_names(bare.inputs) if delimiter_pattern is None else _regex_input_names(bare.inputs),
        name=name,
        task=task,
        description=description,
        version=version,
        author=author,
        license=license,
        delimiter_pattern=delimiter_pattern,
        with_settings=settings is not None,
    )
    try:
        described = _with_metadata_buffer(model, bare.root, buffer)
    except DamagedFlatbufferError as error:
        raise ModelError(f"the model is not a whole TFLite file: {error}") from error
    entries = vocabulary if delimiter_pattern is None else [f"{word} {index}" for index, word in enumerate(vocabulary)]
    files = {
        **task.files(),
        VOCABULARY_FILE: lines_file(entries, "vocabulary entry"),
    }
    if settings is not None:
        files[SETTINGS_FILE] = json.dumps(settings, indent=1, sort_keys=True).encode() + b"\n"
    return append_files(described, files)


def metadata_buffer(
    input_names: Sequence[str],
    *,
    name: str,
    task: TaskMetadata = _CLASSIFIER,
    description: str | None = None,
    version: str | None = None,
    author: str | None = None,
    license: str | None = None,
    delimiter_pattern: str | None = None,
    with_settings: bool = False,
) -> bytes:
    """Returns the flatbuffer of a model's metadata.

    `input_names` are those of the graph's inputs, in their order: ids, mask and segment_ids, or input_text with
    `delimiter_pattern`. `with_settings` announces `textclf.json`. Without a `description` it is the task's.
    """
    import flatbuffers

    vocabulary = associated_file(VOCABULARY_FILE, _VOCABULARY_DESCRIPTION, schema.AssociatedFileType.VOCABULARY)
    tokenizer = _tokenizer_unit(vocabulary, delimiter_pattern)
    # Runtimes look for BERT's tokenizer beside the three inputs, and for the regex tokenizer at the one input.
    for_graph, for_input = ([tokenizer], None) if delimiter_pattern is None else (None, [tokenizer])
    subgraph: Table = {
        schema.SubgraphMetadata.INPUT_TENSOR_METADATA: [
            feature(input_name, task.input_description(input_name), units=for_input) for input_name in input_names
        ],
        schema.SubgraphMetadata.OUTPUT_TENSOR_METADATA: task.output_tables(),
        schema.SubgraphMetadata.INPUT_PROCESS_UNITS: for_graph,
    }
    settings = associated_file(SETTINGS_FILE, _SETTINGS_DESCRIPTION, schema.AssociatedFileType.UNKNOWN)
    model: Table = {
        schema.ModelMetadata.NAME: name,
        schema.ModelMetadata.DESCRIPTION: task.description if description is None else description,
        schema.ModelMetadata.VERSION: version,
        schema.ModelMetadata.SUBGRAPH_METADATA: [subgraph],
        schema.ModelMetadata.AUTHOR: author,
        schema.ModelMetadata.LICENSE: license,
        schema.ModelMetadata.ASSOCIATED_FILES: [settings] if with_settings else None,
        schema.ModelMetadata.MIN_PARSER_VERSION: _MIN_PARSER_VERSION["bert" if delimiter_pattern is None else "regex"],
    }
    builder = flatbuffers.Builder(1024)
    builder.Finish(pack_table(builder, model), schema.METADATA_IDENTIFIER)
    return bytes(builder.Output())


def read_metadata(
    model: bytes | bytearray | memoryview | str | os.PathLike[str], name: str | None = None
) -> ModelMetadata:
    """Returns the metadata of a model, given as its bytes or its path. `name` is its name in messages.

    Nothing in it is executed or trusted: sizes and offsets are checked before they are used. Raises
    ModelError for what cannot be read, is no TFLite model, has no metadata, is damaged, or lacks a file that its
    metadata names.
    """
    source, content = load_model(model)
    return metadata_of(TfliteModel(content, name or source))


def metadata_of(model: TfliteModel) -> ModelMetadata:
    """Does the same as `read_metadata` for a model that is already read."""
    if model.metadata_buffer is None:
        raise ModelError(
            f"{model.source}: a TFLite model without metadata, so its labels and tokenizer are unknown; "
            "expected a text classifier with TFLite metadata"
        )
    try:
        return _interpret(model, FlatTable.root(model.metadata_buffer, schema.METADATA_IDENTIFIER))
    except DamagedFlatbufferError as error:
        raise ModelError(f"{model.source}: not a whole TFLite model: {error}; {EXPORT_AGAIN}") from error


def load_model(model: bytes | bytearray | memoryview | str | os.PathLike[str]) -> tuple[str, bytes]:
    """Returns the name of a model for messages, and its bytes; only the start of a file that is not a TFLite model."""
    if isinstance(model, (bytes, bytearray, memoryview)):
        return "the model", bytes(model)
    return os.fspath(model), read_file(model)


def _tokenizer_unit(vocabulary: Table, delimiter_pattern: str | None) -> Table:
    if delimiter_pattern is None:
        kind = schema.ProcessUnitOptions.BERT_TOKENIZER
        options: Table = {schema.BertTokenizerOptions.VOCABULARY_FILE: [vocabulary]}
    else:
        kind = schema.ProcessUnitOptions.REGEX_TOKENIZER
        options = {
            schema.RegexTokenizerOptions.DELIMITER_PATTERN: delimiter_pattern,
            schema.RegexTokenizerOptions.VOCABULARY_FILE: [vocabulary],
        }
    return {schema.ProcessUnit.OPTIONS_TYPE: int(kind), schema.ProcessUnit.OPTIONS: options}


def _with_metadata_buffer(model: bytes, root: FlatTable, buffer: bytes) -> bytes:
    """Returns the model with one more buffer, named in its metadata list.

    The whole old file is kept behind a new root table that points into it: weights stay aligned and are not
    parsed. Only the old root, a few hundred bytes, is no longer used.
    """
    import flatbuffers

    builder = flatbuffers.Builder(len(model) + len(buffer) + 8 * len(root.table_positions(schema.Model.BUFFERS)) + 4096)
    # Offsets are counted from the file's end: this one is of the old file's first byte, behind the vector's length.
    start = pack_bytes(builder, model, _MODEL_ALIGNMENT) - 4
    data = pack_bytes(builder, buffer, schema.BUFFER_ALIGNMENT)
    builder.StartObject(schema.Buffer.DATA + 1)
    builder.PrependUOffsetTRelativeSlot(schema.Buffer.DATA, data, 0)
    added = builder.EndObject()
    buffers = [start - position for position in root.table_positions(schema.Model.BUFFERS)] + [added]

    name = builder.CreateString(schema.METADATA_BUFFER_NAME)
    builder.StartObject(schema.Metadata.BUFFER + 1)
    builder.PrependUOffsetTRelativeSlot(schema.Metadata.NAME, name, 0)
    builder.PrependUint32Slot(schema.Metadata.BUFFER, len(buffers) - 1, 0)
    entry = builder.EndObject()
    entries = [start - position for position in root.table_positions(schema.Model.METADATA)] + [entry]

    targets = {field: root.target(field) for field in root.present() if field != schema.Model.VERSION}
    offsets = {field: start - target for field, target in targets.items() if target is not None}
    offsets[schema.Model.BUFFERS] = pack_offsets(builder, buffers)
    offsets[schema.Model.METADATA] = pack_offsets(builder, entries)
    builder.StartObject(len(schema.Model))
    builder.PrependUint32Slot(schema.Model.VERSION, root.integer(schema.Model.VERSION, "I"), 0)
    for field, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    builder.Finish(builder.EndObject(), schema.MODEL_IDENTIFIER)
    return bytes(builder.Output())


def _check_bare(model: TfliteModel) -> None:
    """A model that can be given metadata: none yet, no packed files, and nothing that counts from the file's start."""
    if model.metadata_buffer is not None or zipfile.is_zipfile(io.BytesIO(model.content)):
        raise ModelError("the model has metadata or packed files already; start from the model without them")
    if model.keeps_weights_elsewhere:
        raise ModelError(
            "the model has fields of a later TFLite schema, which this version cannot move; write it with a converter "
            "that stores the weights in the file"
        )
    if model.reaches_beyond:
        raise ModelError("the model keeps its weights outside its flatbuffer, as models above 2 GB do; expected less")


def _bert_input_names(inputs: Sequence[Tensor]) -> list[str]:
    """Returns the metadata's names for the graph's inputs, in their order."""
    tensors = [tensor.name for tensor in inputs]
    plain = [tensor.removeprefix("serving_default_").removesuffix(":0") for tensor in tensors]
    meanings = {alias: name for name, aliases in _TENSOR_NAMES.items() for alias in aliases}
    names = [meanings.get(tensor, "") for tensor in plain]
    if sorted(names) != sorted(_TENSOR_NAMES):
        raise ModelError(
            f"the model's inputs are named {', '.join(tensors) or '(none)'}; expected ids, mask and segment_ids"
        )
    return names


def _regex_input_names(inputs: Sequence[Tensor]) -> list[str]:
    if len(inputs) != 1:
        raise ModelError(f"the model has {len(inputs)} inputs, expected one of word ids for a regex tokenizer")
    return ["input_text"]


def _interpret(model: TfliteModel, described: FlatTable) -> ModelMetadata:
    source, inputs, outputs = model.source, model.inputs, model.outputs
    graphs = described.tables(schema.ModelMetadata.SUBGRAPH_METADATA)
    if not graphs:
        raise ModelError(f"{source}: its metadata describes no graph, so its inputs are unknown; {EXPORT_AGAIN}")
    described_inputs = graphs[0].tables(schema.SubgraphMetadata.INPUT_TENSOR_METADATA)
    described_outputs = graphs[0].tables(schema.SubgraphMetadata.OUTPUT_TENSOR_METADATA)
    if (len(described_inputs), len(described_outputs)) != (len(inputs), len(outputs)):
        raise ModelError(
            f"{source}: its metadata describes {len(described_inputs)} inputs and {len(described_outputs)} outputs, "
            f"but the graph has {len(inputs)} and {len(outputs)}; {EXPORT_AGAIN}"
        )
    graph_units = graphs[0].tables(schema.SubgraphMetadata.INPUT_PROCESS_UNITS)
    units = list(graph_units)
    for tensor in described_inputs:
        units += tensor.tables(schema.TensorMetadata.PROCESS_UNITS)
    tokenizer, vocabulary, delimiter_pattern = _tokenizer(source, units, model.files)
    return ModelMetadata(
        name=described.text(schema.ModelMetadata.NAME) or "",
        description=described.text(schema.ModelMetadata.DESCRIPTION) or "",
        version=described.text(schema.ModelMetadata.VERSION) or "",
        author=described.text(schema.ModelMetadata.AUTHOR) or "",
        license=described.text(schema.ModelMetadata.LICENSE) or "",
        min_parser_version=described.text(schema.ModelMetadata.MIN_PARSER_VERSION) or "",
        labels=tuple(_labels(described_outputs, model.files)),
        tokenizer=tokenizer,
        vocabulary=tuple(vocabulary),
        delimiter_pattern=delimiter_pattern,
        input_names=tuple(tensor.text(schema.TensorMetadata.NAME) or "" for tensor in described_inputs),
        output_names=tuple(tensor.text(schema.TensorMetadata.NAME) or "" for tensor in described_outputs),
        input_tensors=tuple(tensor.name for tensor in inputs),
        output_tensors=tuple(tensor.name for tensor in outputs),
        files=model.files.names,
        settings=_settings(source, model.files, tokenizer),
        tokenizer_at_graph=bool(graph_units),
    )


def _labels(outputs: Sequence[FlatTable], files: PackedFiles) -> list[str]:
    for output in outputs:
        for file in output.tables(schema.TensorMetadata.ASSOCIATED_FILES):
            if file.integer(schema.AssociatedFile.TYPE, "b") == schema.AssociatedFileType.TENSOR_AXIS_LABELS:
                text = files.text(file.text(schema.AssociatedFile.NAME) or "")
                _check_lines(files.source, LABELS_FILE, text)
                return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    return []


def _tokenizer(
    source: str, units: Sequence[FlatTable], files: PackedFiles
) -> tuple[TokenizerKind | None, list[str], str | None]:
    """Returns the kind, vocabulary and delimiter pattern of the first tokenizer among process units."""
    for unit in units:
        kind = unit.integer(schema.ProcessUnit.OPTIONS_TYPE, "B")
        options = unit.table(schema.ProcessUnit.OPTIONS)
        if kind == schema.ProcessUnitOptions.SENTENCE_PIECE_TOKENIZER:
            return "sentencepiece", [], None
        if options is not None and kind == schema.ProcessUnitOptions.BERT_TOKENIZER:
            name = _vocabulary_file(source, options, schema.BertTokenizerOptions.VOCABULARY_FILE)
            return "bert", _entries(source, files.text(name)), None
        if options is not None and kind == schema.ProcessUnitOptions.REGEX_TOKENIZER:
            name = _vocabulary_file(source, options, schema.RegexTokenizerOptions.VOCABULARY_FILE)
            pattern = options.text(schema.RegexTokenizerOptions.DELIMITER_PATTERN)
            return "regex", _numbered_entries(source, name, _entries(source, files.text(name))), pattern
    return None, [], None


def _vocabulary_file(source: str, options: FlatTable, field: int) -> str:
    named = options.tables(field)
    name = named[0].text(schema.AssociatedFile.NAME) if named else None
    if name is None:
        raise ModelError(f"{source}: its tokenizer names no vocabulary file; {EXPORT_AGAIN}")
    return name


def _check_lines(source: str, kind: str, text: str) -> None:
    """Raises ModelError for a file of more or longer lines than any labels or vocabulary have."""
    count, most = text.count("\n"), _MOST_LINES[kind]
    if count > most:
        raise ModelError(f"{source}: {kind} in it has {count:,} lines; expected at most {most:,}; {EXPORT_AGAIN}")
    lengths = list(map(len, text.split("\n")))
    longest = max(lengths)
    if longest > _LONGEST_LINE:
        raise ModelError(
            f"{source}: {kind}:{lengths.index(longest) + 1} in it has {longest:,} characters; expected at most "
            f"{_LONGEST_LINE:,}; {EXPORT_AGAIN}"
        )


def _entries(source: str, vocabulary: str) -> list[str]:
    """Returns lines as devices read them, without empty lines and without carriage returns at the end of lines."""
    _check_lines(source, VOCABULARY_FILE, vocabulary)
    return [line.removesuffix("\r") for line in vocabulary.split("\n") if line]


def _numbered_entries(source: str, name: str, lines: Sequence[str]) -> list[str]:
    """Returns a regex tokenizer's vocabulary, `word id` per line, as entries in the order of their ids 0, 1, 2, …"""
    entries: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        word, _, index = line.rpartition(" ")
        if not (index.isascii() and index.isdecimal() and len(index) <= _MOST_DIGITS):
            raise ModelError(
                f"{source}: {name}:{number} in it is {quoted(line)}, expected a word and its id; {EXPORT_AGAIN}"
            )
        entries[int(index)] = word
    if sorted(entries) != list(range(len(lines))):
        raise ModelError(
            f"{source}: {name} in it gives {len(lines)} words {len(entries)} different ids up to "
            f"{max(entries)}; expected 0 to {len(lines) - 1}, each once; {EXPORT_AGAIN}"
        )
    return [entries[index] for index in range(len(lines))]


def _settings(source: str, files: PackedFiles, tokenizer: TokenizerKind | None) -> dict[str, Any] | None:
    if SETTINGS_FILE not in files:
        return None
    settings = read_settings(source, files.read(SETTINGS_FILE))
    if "tokenizer" in settings and (settings["tokenizer"] == "regex") != (tokenizer == "regex"):
        raise ModelError(
            f"{source}: {SETTINGS_FILE} in it says the tokenizer {settings['tokenizer']}, its metadata {tokenizer}; "
            f"{EXPORT_AGAIN}"
        )
    return settings
