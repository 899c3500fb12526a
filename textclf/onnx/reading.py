"""Reads an ONNX file that textclf wrote: takes its bytes and returns its metadata. No other ONNX file is run.

A file is refused if it holds an operation that textclf's graphs do not have, or names data outside of it.
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any

from textclf import extras
from textclf.errors import ModelError
from textclf.tflite.metadata import ModelMetadata
from textclf.tflite.settings import SETTINGS_FILE, read_settings

LABELS, VOCABULARY, DELIMITERS = "labels", "vocabulary", "delimiters"
"""Keys of the metadata besides SETTINGS_FILE: a JSON list of the labels in the order of the output, the vocabulary, one
entry per line, and for averaged words the pattern that separates words."""

LARGEST_FILE = (1 << 31) - 1
"""In bytes: protocol buffers end there."""

_OPERATIONS = frozenset(
    "Abs Add Cast Concat Div Gather MatMul MatMulInteger Max Min Mul Pad ReduceMax ReduceMin ReduceSum Relu Reshape Round Shape "
    "Sigmoid Slice Softmax Squeeze Sub Tanh Transpose Unsqueeze".split()
)

# Operations whose outputs are larger than their inputs. A chain of them could need any amount of memory.
_GROWING = {"Concat": 2, "Pad": 1}

_MOST_OPERATIONS = 100_000

_INPUTS = {"bert": ("ids", "mask", "segment_ids"), "regex": ("input_text",)}

_EXPORT_AGAIN = "export the run again: textclf export RUN --to onnx"


def is_onnx(content: bytes) -> bool:
    """Returns whether this begins like an ONNX file and not like a TFLite file."""
    return content[:1] == b"\x08" and content[4:8] != b"TFL3"


def read_file(path: Path) -> bytes:
    """Returns the bytes of a file. Raises ModelError for one that cannot be read or is larger than any ONNX file."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path}: not a file; give the path of an .onnx file")
        if status.st_size > LARGEST_FILE:
            raise ModelError(f"{path}: has {status.st_size:,} bytes; an ONNX file has at most {LARGEST_FILE:,}")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: the model cannot be read ({error.strerror or error})") from error


def metadata_of(content: bytes, name: str) -> ModelMetadata:
    """Returns the metadata of an ONNX file of textclf; `name` is its name in messages.

    Raises ModelError for any other file, and MissingPackageError without the packages.
    """
    extras.require("onnx", "to read ONNX files")
    extras.require("onnxruntime", "to run ONNX files")
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # the errors of protocol buffers have no public base class
        raise ModelError(f"{name}: is not an ONNX file, or is damaged; {_EXPORT_AGAIN}") from error
    facts = {fact.key: fact.value for fact in model.metadata_props}
    if SETTINGS_FILE not in facts:
        raise ModelError(
            f"{name}: is not an ONNX file of textclf: its metadata have no {SETTINGS_FILE}, so its tokenizer and labels are "
            "unknown; run it with the program that it was made for"
        )
    _check_graph(model, name)
    settings = read_settings(name, facts[SETTINGS_FILE].encode())
    tokenizer: Any = "regex" if DELIMITERS in facts else "bert"
    return ModelMetadata(
        name=model.graph.name,
        description=model.graph.doc_string,
        version="",
        author="",
        license="",
        min_parser_version="",
        labels=_labels(facts, name),
        tokenizer=tokenizer,
        vocabulary=tuple(facts.get(VOCABULARY, "").removesuffix("\n").split("\n")),
        delimiter_pattern=facts.get(DELIMITERS),
        input_names=_INPUTS[tokenizer],
        output_names=tuple(value.name for value in model.graph.output),
        input_tensors=tuple(value.name for value in model.graph.input),
        output_tensors=tuple(value.name for value in model.graph.output),
        files=(),
        settings=settings,
        tokenizer_at_graph=True,
    )


def read_metadata(path: str | os.PathLike[str]) -> ModelMetadata:
    """Returns the metadata of an ONNX file of textclf. Raises ModelError and MissingPackageError."""
    return metadata_of(read_file(Path(path)), os.fspath(path))


def _labels(facts: dict[str, str], name: str) -> tuple[str, ...]:
    try:
        labels = json.loads(facts.get(LABELS, "[]"))
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ModelError(f"{name}: its labels are not a JSON list of texts; {_EXPORT_AGAIN}")
    return tuple(labels)


def _check_graph(model: Any, name: str) -> None:
    """Raises ModelError for what textclf does not write: such a file was changed, and is not run."""
    graph, counts = model.graph, Counter(node.op_type for node in model.graph.node)
    foreign = sorted(set(counts) - _OPERATIONS)
    foreign += [kind for kind, most in _GROWING.items() if counts[kind] > most]
    foreign += sorted({node.domain for node in graph.node} - {"", "ai.onnx"})
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        foreign.append("a graph inside an operation")
    outside = [tensor.name for tensor in graph.initializer if tensor.external_data or tensor.data_location]
    if outside:
        foreign.append(f"data in other files ({outside[0]})")
    if model.functions or graph.sparse_initializer or model.training_info or len(graph.node) > _MOST_OPERATIONS:
        foreign.append("functions, sparse weights, training information or too many operations")
    if foreign:
        raise ModelError(
            f"{name}: holds {', '.join(map(repr, foreign[:5]))}, which textclf does not write, so the file is not run; "
            f"{_EXPORT_AGAIN}"
        )
