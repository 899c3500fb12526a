"""What only question answering has in a `.tflite`: two outputs, the logits of where an answer ends and starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textclf.errors import ModelError
from textclf.tflite.format.flatbuffer import Table
from textclf.tflite.format.metadata_parts import feature
from textclf.tflite.model_file import Tensor, TfliteModel

if TYPE_CHECKING:
    from textclf.tflite.metadata import ModelMetadata

TASK_LIBRARY_LENGTH = 384
"""The number of tokens that the Task Library's BertQuestionAnswerer writes into each input, whatever the model's length."""

OUTPUTS = ("end_logits", "start_logits")
"""The names of the outputs in the graph and in the metadata, in the order of Model Maker's files."""

# The texts of Model Maker's writer.
_DESCRIPTION = (
    "Answers questions based on the content of a given passage. To integrate the model into your app, try the "
    "`BertQuestionAnswerer` API in the TensorFlow Lite Task library. `BertQuestionAnswerer` takes a passage string and a "
    "query string, and returns the answer strings. It encapsulates the processing logic of inputs and outputs and runs the "
    "inference with the best practice."
)

_INPUTS = {
    "ids": "Tokenized ids of input text.",
    "mask": "Mask with 1 for real tokens and 0 for padding tokens.",
    "segment_ids": "0 for the first sequence, 1 for the second sequence if exists.",
}

_OUTPUT_DESCRIPTION = (
    "logits over the sequence which indicates the {place} position of the answer span with closed interval."
)


@dataclass(frozen=True)
class QuestionAnswererMetadata:
    """The `TaskMetadata` of question answering: `end_logits` and `start_logits`, each [1, length], and no labels.

    `names` say what the graph's outputs are, in their order, and `tensors` what the graph calls them.
    """

    names: tuple[str, ...] = OUTPUTS
    tensors: tuple[str, ...] = OUTPUTS

    description = _DESCRIPTION

    @classmethod
    def of(cls, outputs: Sequence[Tensor], meanings: Mapping[str, str]) -> QuestionAnswererMetadata:
        """Returns the metadata of a graph whose outputs have other names; `meanings` says what is what."""
        tensors = tuple(output.name for output in outputs)
        return cls(tuple(meanings.get(name, name) for name in tensors), tensors)

    def input_description(self, name: str) -> str:
        return _INPUTS[name]

    def check_outputs(self, outputs: Sequence[Tensor]) -> None:
        found = [(output.name, output.shape) for output in outputs]
        names = tuple(name for name, _ in found)
        shapes = {shape for _, shape in found}
        is_known = names == self.tensors and sorted(self.names) == sorted(OUTPUTS)
        if not is_known or len(shapes) != 1 or any(len(shape) != 2 or shape[0] != 1 for shape in shapes):
            shown = ", ".join(f"{name} {list(shape)}" for name, shape in found)
            raise ModelError(
                f"the model's outputs are {shown or '(none)'}; expected {OUTPUTS[0]} and {OUTPUTS[1]}, each [1, length]"
            )

    def output_tables(self) -> list[Table]:
        return [feature(name, _OUTPUT_DESCRIPTION.format(place=name.removesuffix("_logits"))) for name in self.names]

    def files(self) -> dict[str, bytes]:
        return {}


def output_problems(metadata: ModelMetadata, graph: TfliteModel) -> Iterator[str]:
    """Yields what keeps runtimes from reading the two logits of a token, one line per problem."""
    tensors, names = graph.outputs, metadata.output_names
    if len(tensors) != len(OUTPUTS):
        yield f"the model has {len(tensors)} outputs; expected two, the logits of the end and of the start of an answer"
        return
    if sorted(names) != sorted(OUTPUTS):
        yield (
            f"the outputs are named {', '.join(map(repr, names))}; without ones named end_logits and start_logits the Task "
            "Library ends with a segmentation fault"
        )
    for name, tensor in zip(names, tensors, strict=True):
        plain = tensor.name.partition(":")[0]
        if name in OUTPUTS and plain in OUTPUTS and plain != name:
            yield f"the metadata call the output tensor {tensor.name} {name}: starts and ends of answers are swapped"
        if tensor.type.name != "float32":
            yield f"the output {name} is {tensor.type.name}; expected logits as float32"
    lengths = {tensor.shape for tensor in graph.inputs}
    if {tensor.shape for tensor in tensors} != lengths:
        shown = ", ".join(str(list(tensor.shape)) for tensor in tensors)
        yield (
            f"the outputs have the shapes {shown} and the inputs {', '.join(str(list(shape)) for shape in sorted(lengths))}; "
            "expected one logit for each token"
        )
    if metadata.labels:
        yield f"{len(metadata.labels)} labels are attached, but a question answerer has none"
    made_for = (metadata.settings or {}).get("compatibility")
    if made_for == "task-library" and lengths != {(1, TASK_LIBRARY_LENGTH)}:
        yield (
            f"the inputs have the shapes {', '.join(str(list(shape)) for shape in sorted(lengths))}, but the Task Library writes "
            f"[1, {TASK_LIBRARY_LENGTH}] into each and fails at the first question; set encoder.max_length to "
            f"{TASK_LIBRARY_LENGTH}"
        )
