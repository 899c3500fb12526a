"""Describes a `.tflite` file for people: labels, tokenizer, inputs and outputs, numbers of tensors by type, size."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from textclf.errors import ModelError
from textclf.files.model_path import model_path_of, run_of_model
from textclf.recipe.values import MOST_WINDOWS, MULTI_LABEL, default_stride
from textclf.tflite.metadata import ModelMetadata, load_model, metadata_of
from textclf.tflite.model_file import Operator, Tensor, TfliteModel
from textclf.tflite.runtimes import RuntimeSupport, remedy_lines, runtime_support

_SHOWN_LABELS = 12


@dataclass(frozen=True)
class TensorFacts:
    """An input or output: its name in the graph and in the metadata, its type, its shape."""

    name: str
    metadata_name: str | None
    type: str
    shape: list[int]


@dataclass(frozen=True)
class Inspection:
    """`weight_types` and `weight_bytes` count the stored tensors by type, `operators` the operations with versions.

    `runtimes` says for each known runtime which of its versions load the file.
    """

    file: str
    bytes: int
    name: str | None
    description: str | None
    labels: list[str]
    tokenizer: str
    vocabulary_size: int
    max_length: int
    inputs: list[TensorFacts]
    outputs: list[TensorFacts]
    weight_types: dict[str, int]
    weight_bytes: dict[str, int]
    operators: dict[str, int]
    associated_files: list[str]
    settings: dict[str, Any] | None
    runtimes: list[RuntimeSupport]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def task(self) -> str:
        """What the model does, as a recipe names it."""
        named: str | None = (self.settings or {}).get("task")
        return named or ("question-answering" if not self.labels else "text-classification")

    @property
    def thresholds(self) -> dict[str, float]:
        """The probability from which each label is predicted; empty for a model of one label per text."""
        values = (self.settings or {}).get("thresholds", ())
        return dict(zip(self.labels, values, strict=False)) if self.task == MULTI_LABEL else {}

    @property
    def windows(self) -> str | None:
        """How textclf reads a text of more than `max_length` tokens with a text classifier, if it reads windows."""
        settings = self.settings or {}
        if settings.get("overflow") != "windows" or not self.labels:
            return None
        stride = settings.get("stride", default_stride(self.max_length))
        most = settings.get("max_windows", MOST_WINDOWS)
        return (
            f"windows, each {stride:,} tokens after the one before, at most {most:,}; the mean of their logits decides. "
            "Apps read the first window only"
        )

    def as_text(self) -> str:
        """Returns aligned lines for a terminal."""
        labels = ", ".join(self.labels[:_SHOWN_LABELS])
        if len(self.labels) > _SHOWN_LABELS:
            labels += f", … ({len(self.labels) - _SHOWN_LABELS} more)"
        lines = [
            ("file", f"{self.file}, {self.bytes / 1e6:.2f} MB"),
            ("name", self.name or "none"),
            *([("labels", f"{len(self.labels)}: {labels}")] if self.labels else [("task", str(self.task))]),
            *self._lines_about_thresholds(),
            ("max_length", f"{self.max_length} tokens"),
            *([("long texts", windows)] if (windows := self.windows) is not None else []),
            ("tokenizer", f"{self.tokenizer}, {self.vocabulary_size} entries"),
            *[("input", _tensor_text(tensor)) for tensor in self.inputs],
            *[("output", _tensor_text(tensor)) for tensor in self.outputs],
            *[
                ("weights", f"{count} of type {kind}, {self.weight_bytes[kind] / 1e6:.2f} MB")
                for kind, count in self.weight_types.items()
            ],
            ("operators", ", ".join(f"{name} ×{count}" for name, count in self.operators.items())),
            ("files inside", ", ".join(self.associated_files) or "none"),
            *[("loads in", f"{one.runtime} ({one.platforms}): {one.as_text()}") for one in self.runtimes],
            *[("", line) for line in remedy_lines(self.runtimes)],
        ]
        return "\n".join(f"{key:<13} {value}" for key, value in lines)

    def _lines_about_thresholds(self) -> list[tuple[str, str]]:
        if not self.thresholds:
            return []
        shown = ", ".join(f"{label} {value:.3f}" for label, value in list(self.thresholds.items())[:_SHOWN_LABELS])
        more = len(self.thresholds) - _SHOWN_LABELS
        return [
            ("task", f"{self.task}, any number of labels for a text"),
            ("thresholds", shown + (f", … ({more} more)" if more > 0 else "")),
        ]


def inspect_model(model: str | Path) -> Inspection:
    """Reads the structure and the metadata of a `.tflite` file, or of the one in the folder of a run.

    Raises ModelError for a file that is not a TFLite model for texts.
    """
    path = model_path_of(model)
    source, content = load_model(path)
    graph = TfliteModel(content, source)
    metadata = metadata_of(graph)
    types: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for tensor in graph.tensors:
        if tensor.span is not None:
            types[tensor.type.name] += 1
            sizes[tensor.type.name] += tensor.span[1]
    operators = Counter(_operator_name(operator) for operator in graph.operators)
    inputs = [_facts(tensor, name) for tensor, name in zip(graph.inputs, metadata.input_names, strict=True)]
    outputs = [_facts(tensor, name) for tensor, name in zip(graph.outputs, metadata.output_names, strict=True)]
    if not inputs or not inputs[0].shape:
        raise ModelError(f"{path}: the model has no input of a known shape; expected a text classifier")
    return Inspection(
        file=str(path),
        bytes=len(content),
        name=metadata.name,
        description=metadata.description,
        labels=list(metadata.labels),
        tokenizer=str((metadata.settings or {}).get("tokenizer", metadata.tokenizer)),
        vocabulary_size=len(metadata.vocabulary),
        max_length=inputs[0].shape[-1],
        inputs=inputs,
        outputs=outputs,
        weight_types=dict(types.most_common()),
        weight_bytes=dict(sizes),
        operators=dict(operators.most_common()),
        associated_files=list(metadata.files),
        settings=metadata.settings,
        runtimes=runtimes_of(graph, metadata, path),
    )


def runtimes_of(graph: TfliteModel, metadata: ModelMetadata, path: Path) -> list[RuntimeSupport]:
    """Returns for each known runtime which of its versions load a model, whose file is `path`."""
    return runtime_support(
        graph,
        answers_questions=not metadata.labels,
        settings=metadata.settings,
        run=run_of_model(path) or "RUN",
    )


def _facts(tensor: Tensor, metadata_name: str | None) -> TensorFacts:
    return TensorFacts(tensor.name, metadata_name, tensor.type.name, list(tensor.shape))


def _tensor_text(tensor: TensorFacts) -> str:
    return f"{tensor.metadata_name or 'unnamed'} ({tensor.name}): {tensor.type} {tensor.shape}"


def _operator_name(operator: Operator) -> str:
    return operator.name if operator.custom else f"{operator.name} v{operator.version}"
