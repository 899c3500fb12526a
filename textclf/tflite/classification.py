"""What only text classification has in a `.tflite`: an output of probabilities, and the labels that belong to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textclf.errors import ModelError
from textclf.tflite.format import metadata_schema as schema
from textclf.tflite.format.flatbuffer import Table
from textclf.tflite.format.metadata_parts import LABELS_FILE, associated_file, feature, lines_file
from textclf.tflite.model_file import Tensor, TfliteModel

if TYPE_CHECKING:
    from textclf.tflite.metadata import ModelMetadata

# The texts of tflite-support's writer. Tools show them, and some search for them.
_DESCRIPTION = "Classify the input text into a set of known categories."

_INPUTS = {
    "ids": "Tokenized ids of the input text.",
    "mask": "Mask with 1 for real tokens and 0 for padding tokens.",
    "segment_ids": "0 for the first sequence, 1 for the second sequence if exists.",
    "input_text": "Embedding vectors representing the input text to be classified.",
}

_OUTPUT = ("probability", "Probabilities of the labels respectively.")

_LABELS_DESCRIPTION = "Labels for categories that the model can recognize."


@dataclass(frozen=True)
class ClassifierMetadata:
    """The `TaskMetadata` of text classification: one output, a probability for each of the `labels`."""

    labels: Sequence[str] = ()

    @property
    def description(self) -> str:
        return _DESCRIPTION

    def input_description(self, name: str) -> str:
        return _INPUTS[name]

    def check_outputs(self, outputs: Sequence[Tensor]) -> None:
        shapes, count = [list(output.shape) for output in outputs], len(self.labels)
        if shapes != [[1, count]]:
            raise ModelError(
                f"the model's outputs have the shapes {', '.join(map(str, shapes)) or '(none)'}; "
                f"expected one of [1, {count}] for {count} labels"
            )

    def output_tables(self) -> list[Table]:
        labels = associated_file(LABELS_FILE, _LABELS_DESCRIPTION, schema.AssociatedFileType.TENSOR_AXIS_LABELS)
        return [feature(*_OUTPUT, stats={schema.Stats.MAX: [1.0], schema.Stats.MIN: [0.0]}, files=[labels])]

    def files(self) -> dict[str, bytes]:
        return {LABELS_FILE: lines_file(self.labels, "label")}


def output_problems(metadata: ModelMetadata, graph: TfliteModel) -> Iterator[str]:
    """Yields what keeps runtimes from reading the probabilities and their labels, one line per problem."""
    tensors = graph.outputs
    if len(tensors) != 1:
        yield f"the model has {len(tensors)} outputs, expected one of probabilities"
        return
    if list(metadata.output_names) != ["probability"]:
        yield (
            f"the output is named {', '.join(map(repr, metadata.output_names))}; without one named probability the Task "
            "Library ends with a segmentation fault"
        )
    if tensors[0].type.name != "float32":
        yield f"the output is {tensors[0].type.name}; expected probabilities as float32"
    if not metadata.labels:
        yield "no labels are attached to the output, so runtimes return numbers; expected labels.txt in the metadata"
    elif tensors[0].shape != (1, len(metadata.labels)):
        yield (
            f"{len(metadata.labels)} labels for an output of the shape {list(tensors[0].shape)}; expected one label for "
            "each number"
        )
    repeated = [label for label, count in Counter(metadata.labels).items() if count > 1]
    if repeated:
        yield f"the label {repeated[0]!r} occurs twice; the two cannot be distinguished"
