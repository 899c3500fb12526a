"""Checks whether runtimes can load and understand a `.tflite`. Takes the file's bytes and returns one line per problem.

The requirements come from the sources of MediaPipe and the Task Library, and were tested on both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from textclf.data.tokens.vocabulary import vocabulary_hash
from textclf.data.tokens.words import PAD, UNKNOWN, WordTokenizer
from textclf.errors import EncoderError, ModelError
from textclf.tflite import classification
from textclf.tflite.metadata import ModelMetadata, metadata_of
from textclf.tflite.model_file import TfliteModel
from textclf.tflite.runtimes import OPERATION_LIMITS, RUNTIMES, Compatibility
from textclf.tflite.trial.graph_check import check_graph, strange_weights

_INPUTS = {
    "ids": ("ids", "input_ids", "input_word_ids"),
    "mask": ("mask", "input_mask"),
    "segment_ids": ("segment_ids", "input_type_ids"),
}

_SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")

_SPECIAL_WORDS = (PAD, UNKNOWN)

# The types of the kernels of products in each form. The head is always float32.
_KERNEL_TYPES = {
    "none": {"float32"},
    "float16": {"float16"},
    "dynamic": {"int8"},
    "int4": {"int4", "int8"},
}

_WORD_TABLE = "words/table"
"""The word table of a model of averaged words. It is the only tensor that depends on the form."""


OutputProblems: TypeAlias = Callable[[ModelMetadata, TfliteModel], Iterator[str]]
"""Checks the outputs of a model as runtimes expect them of its task; yields one line per problem."""


def structure_problems(
    model: bytes,
    *,
    compatibility: Compatibility | None = None,
    vocabulary: Sequence[str] | None = None,
    output_problems: OutputProblems = classification.output_problems,
) -> list[str]:
    """Returns the problems that keep runtimes from using a model as intended. The list is empty for a valid file.

    `compatibility` names the runtimes that must load it, by default the ones that the file says it was made for.
    `vocabulary` is the one that it was trained with, if known. `output_problems` checks the outputs of the model's task.
    """
    try:
        graph = TfliteModel(model)
        metadata = metadata_of(graph)
        problems = [
            *_input_problems(metadata, graph),
            *output_problems(metadata, graph),
            *_tokenizer_problems(metadata),
        ]
    except ModelError as error:
        return [str(error)]
    try:
        check_graph(graph)
    except ModelError as error:
        return [*problems, str(error)]
    settings = metadata.settings or {}
    runtimes = RUNTIMES[compatibility or settings.get("compatibility", "litert")]
    return [
        *problems,
        *_vocabulary_problems(metadata, graph, vocabulary),
        *_operation_problems(graph, runtimes),
        # Model Maker's converter does not change small kernels, and it writes attention with the same kind of products.
        *([] if settings.get("engine") == "model-maker" else _content_problems(graph, settings.get("quantization"))),
        *strange_weights(graph),
    ]


def _input_problems(metadata: ModelMetadata, graph: TfliteModel) -> Iterator[str]:
    tensors = graph.inputs
    names = list(metadata.input_names)
    if metadata.tokenizer == "regex":
        if len(tensors) != 1:
            yield f"the model has {len(tensors)} inputs, but runtimes write the ids of a regex tokenizer into one"
    elif sorted(names) != sorted(_INPUTS):
        yield (
            f"the metadata name the inputs {', '.join(names) or '(none)'}; MediaPipe finds its inputs by the names "
            "ids, mask and segment_ids only"
        )
    for name, tensor in zip(names, tensors, strict=False):
        plain = tensor.name.removeprefix("serving_default_").partition(":")[0]
        meant = next((known for known, aliases in _INPUTS.items() if plain in aliases), name)
        if name in _INPUTS and meant != name:
            yield f"the metadata call the input tensor {tensor.name} {name}, but it is {meant}: they are in another order"
        if tensor.type.name != "int32":
            yield f"the input {name} is {tensor.type.name}; runtimes write int32"
    shapes = {tensor.shape for tensor in tensors}
    if len(shapes) != 1 or any(len(shape) != 2 or shape[0] != 1 or shape[1] < 3 for shape in shapes):
        yield (
            f"the inputs have the shapes {', '.join(str(list(shape)) for shape in sorted(shapes))}; runtimes write one "
            "text, [1, length], into each"
        )


def _tokenizer_problems(metadata: ModelMetadata) -> Iterator[str]:
    if metadata.tokenizer not in ("bert", "regex"):
        yield (
            f"the tokenizer is {metadata.tokenizer or 'missing'}; expected BERT's among the graph's process units, or a "
            "regex tokenizer among the input's"
        )
        return
    if metadata.tokenizer == "regex":
        if all(word in metadata.vocabulary for word in _SPECIAL_WORDS):
            try:
                WordTokenizer(metadata.vocabulary, metadata.delimiter_pattern or "")
            except EncoderError as error:
                yield str(error)
        if metadata.tokenizer_at_graph:
            yield "the tokenizer is attached to the graph; runtimes look for a regex tokenizer at the input"
    elif not metadata.tokenizer_at_graph:
        yield "the tokenizer is attached to an input; runtimes look for BERT's tokenizer at the graph"


def _vocabulary_problems(
    metadata: ModelMetadata, graph: TfliteModel, vocabulary: Sequence[str] | None
) -> Iterator[str]:
    pieces = metadata.vocabulary
    special = _SPECIAL_WORDS if metadata.tokenizer == "regex" else _SPECIAL_PIECES
    missing = [piece for piece in special if piece not in pieces]
    if missing:
        yield f"the vocabulary of {len(pieces)} entries lacks {', '.join(missing)}; expected the encoder's vocab.txt"
    expected = (metadata.settings or {}).get("vocabulary_sha256")
    found = vocabulary_hash(pieces)
    if vocabulary is not None and found != vocabulary_hash(vocabulary):
        yield "the vocabulary inside is not the one that the model was trained with"
    elif expected is not None and found != expected:
        yield f"the vocabulary inside has the SHA-256 {found[:12]}…, but the model was exported with {expected[:12]}…"
    # The position of the table among the inputs of each look-up operation.
    places = {"GATHER": 0, "EMBEDDING_LOOKUP": 1}
    tables = [graph.tensors[op.inputs[places[op.name]]] for op in graph.operators if op.name in places]
    if metadata.tokenizer == "bert":
        tables = [tensor for tensor in tables if len(tensor.shape) == 2]
    rows = max((tensor.shape[0] for tensor in tables if tensor.shape), default=None)
    if rows is not None and rows < len(pieces):
        yield f"the vocabulary has {len(pieces)} entries, but the largest table {rows} rows: ids would lie outside"


def _operation_problems(graph: TfliteModel, runtimes: Sequence[str]) -> Iterator[str]:
    used: dict[str, int] = {}
    for operator in graph.operators:
        used[operator.name] = max(operator.version, used.get(operator.name, 0))
    for runtime in runtimes:
        limits = OPERATION_LIMITS[runtime]
        for name, version in used.items():
            if name in limits and version > limits[name]:
                yield (
                    f"{name} has version {version}, but {runtime} knows versions up to {limits[name]}; "
                    "export with compatibility=task-library"
                )


def _kernels(graph: TfliteModel) -> Iterator[tuple[str, str]]:
    """Yields the name and the stored type of each product's kernel, and of the vectors of averaged words."""
    stored = {op.outputs[0]: op.inputs[0] for op in graph.operators if op.name == "DEQUANTIZE"}
    places = {"FULLY_CONNECTED": 1, "GATHER": 0}
    for op in graph.operators:
        if op.name in places:
            kernel = op.inputs[places[op.name]]
            tensor = graph.tensors[stored.get(kernel, kernel)]
            if op.name == "FULLY_CONNECTED" or tensor.name == _WORD_TABLE:
                yield tensor.name, tensor.type.name


def _content_problems(graph: TfliteModel, quantization: str | None) -> Iterator[str]:
    """Checks that the weights are stored as the file says."""
    allowed = _KERNEL_TYPES.get(quantization or "")
    if allowed is None:
        return
    counts = Counter(kind for name, kind in _kernels(graph) if not name.startswith("head"))
    wrong = {kind: count for kind, count in counts.items() if kind not in allowed}
    if wrong or (quantization == "int4" and not counts["int4"]):
        shown = ", ".join(f"{count} as {kind}" for kind, count in counts.items())
        yield f"the file says quantization {quantization}, but its products' weights are stored {shown}"
