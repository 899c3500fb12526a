"""What a `.tflite` file holds, for people: labels, tokenizer, inputs and outputs, tensor types counted, size."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from textclf.errors import ModelError
from textclf.export.metadata import read_metadata
from textclf.model_path import model_path_of

_TYPE_NAMES = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
_OPERATOR_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
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
    """`weight_types` and `weight_bytes` count the stored tensors by type, `operators` the operations with versions."""

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

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        """Aligned lines for a terminal."""
        labels = ", ".join(self.labels[:_SHOWN_LABELS])
        if len(self.labels) > _SHOWN_LABELS:
            labels += f", … ({len(self.labels) - _SHOWN_LABELS} more)"
        lines = [
            ("file", f"{self.file}, {self.bytes / 1e6:.2f} MB"),
            ("name", self.name or "none"),
            ("labels", f"{len(self.labels)}: {labels}"),
            ("max_length", f"{self.max_length} tokens"),
            ("tokenizer", f"{self.tokenizer}, {self.vocabulary_size} pieces"),
            *[("input", _tensor_text(tensor)) for tensor in self.inputs],
            *[("output", _tensor_text(tensor)) for tensor in self.outputs],
            *[
                ("weights", f"{count} of type {kind}, {self.weight_bytes[kind] / 1e6:.2f} MB")
                for kind, count in self.weight_types.items()
            ],
            ("operators", ", ".join(f"{name} ×{count}" for name, count in self.operators.items())),
            ("files inside", ", ".join(self.associated_files) or "none"),
        ]
        return "\n".join(f"{key:<13} {value}" for key, value in lines)


def inspect_model(path: Path) -> Inspection:
    """Reads a model's structure and metadata; raises ModelError for a file that is no text classifier in TFLite form."""
    path = model_path_of(path)
    metadata = read_metadata(path)
    content = path.read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    graph = model.subgraphs[0]
    types: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for tensor in graph.tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data):
            types[_TYPE_NAMES[tensor.type]] += 1
            sizes[_TYPE_NAMES[tensor.type]] += len(data)
    operators = Counter(_operator_name(model.operatorCodes[operator.opcodeIndex]) for operator in graph.operators)
    inputs = [_facts(graph.tensors[i], name) for i, name in zip(graph.inputs, metadata.input_names, strict=True)]
    outputs = [_facts(graph.tensors[i], name) for i, name in zip(graph.outputs, metadata.output_names, strict=True)]
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
    )


def _facts(tensor: schema.TensorT, metadata_name: str | None) -> TensorFacts:
    return TensorFacts(tensor.name.decode(), metadata_name, _TYPE_NAMES[tensor.type], [int(n) for n in tensor.shape])


def _tensor_text(tensor: TensorFacts) -> str:
    return f"{tensor.metadata_name or 'unnamed'} ({tensor.name}): {tensor.type} {tensor.shape}"


def _operator_name(code: schema.OperatorCodeT) -> str:
    if code.customCode:
        return code.customCode.decode()
    # Files of the older schema hold the code in the first field alone.
    name = _OPERATOR_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
    return f"{name} v{code.version}"
