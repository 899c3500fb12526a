"""Checks whether a graph can run safely: its operands, types, shapes, buffers and memory, before an interpreter is
made.

An interpreter trusts a file: a wrong index, shape or scale can crash the process. Takes a model, and raises a
ModelError that names the problem and its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np

from textclf.errors import ModelError
from textclf.tflite.format import schema
from textclf.tflite.format.flatbuffer import DamagedFlatbufferError
from textclf.tflite.format.packed_files import EXPORT_AGAIN
from textclf.tflite.model_file import Operator, Tensor, TfliteModel, bytes_of
from textclf.tflite.trial.operations import REFUSED, RULES, Step, Value, WrongOperationError

# The full-size MobileBERT needs 60 MB at once for a text of 512 tokens.
_MOST_BYTES_AT_ONCE = 1 << 30

_RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "int4": (-8, 7), "uint4": (0, 15)}


def check_graph(model: TfliteModel, lengths: Sequence[int] = ()) -> None:
    """Raises ModelError for a graph whose run could harm the process, at its stored size or with inputs of [1, length]."""
    _Check(model).run(lengths)


def strange_weights(model: TfliteModel) -> list[str]:
    """Returns one line for each constant tensor whose numbers are not finite; a single infinity may be intended, as in
    a mask."""
    found = []
    for tensor in model.tensors:
        if tensor.type.name not in ("float32", "float16"):
            continue
        numbers = model.constant(tensor)
        if numbers is None or np.isfinite(numbers).all():
            continue
        nans = int(np.isnan(numbers).sum())
        if nans or numbers.size > 1:
            wrong = int(numbers.size - np.isfinite(numbers).sum())
            what = "not numbers (NaN)" if nans else "infinite"
            found.append(f"{wrong:,} of {numbers.size:,} numbers in the tensor {tensor.name!r} are {what}")
    return found


class _Check:
    """The state of the check of a model."""

    def __init__(self, model: TfliteModel) -> None:
        self.model = model
        self.tensors = model.tensors

    def run(self, lengths: Sequence[int]) -> None:
        model = self.model
        if model.subgraph_count != 1:
            self._damaged(f"it has {model.subgraph_count} graphs, but a text classifier has one")
        if model.keeps_weights_elsewhere:
            self._damaged("it keeps weights in other files")
        if schema.CONTROL_DEPENDENCIES in model.metadata_names:
            self._damaged("it changes the order of its operations")
        for number, tensor in enumerate(self.tensors):
            self._check_tensor(number, tensor)
        self._check_ends()
        for number, operator in enumerate(model.operators):
            self._check_operator(number, operator)
        self._check_order()
        self._propagate({index: self.tensors[index].shape for index in model.input_indices}, stored=True)
        for length in lengths:
            self._propagate(dict.fromkeys(model.input_indices, (1, length)), stored=False)

    def _damaged(self, what: str) -> NoReturn:
        raise ModelError(
            f"{self.model.source}: a damaged model, or one that textclf does not know: {what}; {EXPORT_AGAIN}"
        )

    # --- Checks without shapes of inputs

    def _check_tensor(self, number: int, tensor: Tensor) -> None:
        place = f"tensor {number} ({tensor.name[:80]!r})"
        if tensor.strangeness is not None:
            self._damaged(f"{place} has {tensor.strangeness}")
        if tensor.bytes_needed > _MOST_BYTES_AT_ONCE:
            self._damaged(
                f"{place} has the shape {list(tensor.shape)}: {tensor.bytes_needed:,} bytes; expected at most "
                f"{_MOST_BYTES_AT_ONCE:,}"
            )
        if tensor.span is not None and tensor.span[1] != tensor.bytes_needed:
            self._damaged(
                f"{place} is {tensor.type.name} {list(tensor.shape)}, which takes {tensor.bytes_needed:,} bytes, but "
                f"{tensor.span[1]:,} are stored"
            )
        if tensor.shape_signature and len(tensor.shape_signature) != len(tensor.shape):
            self._damaged(
                f"{place} has the shape {list(tensor.shape)} and the signature {list(tensor.shape_signature)}"
            )
        if tensor.quantization is not None:
            self._check_quantization(place, tensor)

    def _check_quantization(self, place: str, tensor: Tensor) -> None:
        found = tensor.quantization
        assert found is not None
        scales, zeros = found.scales, found.zero_points
        if found.has_details:
            self._damaged(f"{place} has an unknown quantisation")
        if scales.size and not (np.isfinite(scales).all() and (scales >= 0).all()):
            self._damaged(f"{place} has scales that are negative or not finite")
        if zeros.size not in (0, scales.size) and not (zeros.size == 1 and scales.size):
            self._damaged(f"{place} has {scales.size:,} scales and {zeros.size:,} zero points")
        low, high = _RANGES.get(tensor.type.name, (-(1 << 31), (1 << 31) - 1))
        if zeros.size and not (low <= zeros.min() and zeros.max() <= high):
            self._damaged(f"{place} has zero points outside the range of {tensor.type.name}")
        if scales.size <= 1:
            return
        if not 0 <= found.dimension < len(tensor.shape) or tensor.shape[found.dimension] != scales.size:
            self._damaged(
                f"{place} has {scales.size:,} scales along dimension {found.dimension} of the shape {list(tensor.shape)}"
            )

    def _check_ends(self) -> None:
        model, count = self.model, len(self.tensors)
        for what, indices in (("input", model.input_indices), ("output", model.output_indices)):
            wrong = [index for index in indices if not 0 <= index < count]
            if wrong:
                self._damaged(f"an {what} is tensor {wrong[0]} of {count}")
            if not indices or len(set(indices)) < len(indices):
                self._damaged(f"its {what}s are the tensors {list(indices)}")
        for index in model.input_indices:
            if self.tensors[index].span is not None:
                self._damaged(f"the input {self.tensors[index].name!r} is a constant")
        for signature in model.signatures:
            if signature.subgraph != 0 or any(index >= count for index in (*signature.inputs, *signature.outputs)):
                self._damaged("a signature names tensors or graphs that are not there")

    def _check_operator(self, number: int, operator: Operator) -> None:
        place = self._place(number, operator)
        if operator.custom:
            self._damaged(f"{place} is a custom operation, which LiteRT does not have")
        if operator.name in REFUSED or operator.name.startswith("STABLEHLO_"):
            self._damaged(f"{place} {REFUSED.get(operator.name, 'is of another library')}")
        if operator.strangeness is not None:
            self._damaged(f"{place} has {operator.strangeness}")
        if operator.version < 1:
            self._damaged(f"{place} has the version {operator.version}")
        if (operator.options_type == 0) != (operator.options is None):
            self._damaged(f"{place} has options without a kind, or a kind without options")
        rule = RULES.get(operator.name)
        count = len(self.tensors)
        for position, index in enumerate(operator.inputs):
            missing = index == -1 and rule is not None and position in rule.optional
            if not missing and not 0 <= index < count:
                self._damaged(f"input {position} of {place} is tensor {index} of {count}")
        for index in operator.outputs:
            if not 0 <= index < count:
                self._damaged(f"an output of {place} is tensor {index} of {count}")
        if rule is None:
            return
        for what, found, (least, most) in (
            ("inputs", len(operator.inputs), rule.inputs),
            ("outputs", len(operator.outputs), rule.outputs),
        ):
            if not least <= found <= most:
                self._damaged(
                    f"{place} has {found} {what}; expected {least if least == most else f'{least} to {most}'}"
                )
        if operator.options_type and operator.options_type not in rule.options:
            self._damaged(f"{place} has the options of another operation")

    def _place(self, number: int, operator: Operator) -> str:
        return f"operation {number} ({operator.name[:80]})"

    def _check_order(self) -> None:
        """Checks that every tensor is written before it is read and that no tensor is written twice."""
        there = {index for index, tensor in enumerate(self.tensors) if tensor.span is not None}
        there.update(self.model.input_indices)
        for number, operator in enumerate(self.model.operators):
            place = self._place(number, operator)
            for index in operator.inputs:
                if index >= 0 and index not in there:
                    self._damaged(f"{place} reads tensor {index}, which nothing has written before")
            for index in operator.outputs:
                if index in there:
                    self._damaged(f"{place} writes tensor {index}, a constant, an input, or written before")
                there.add(index)
        for index in self.model.output_indices:
            if index not in there:
                self._damaged(f"the output {self.tensors[index].name!r} is written by no operation")

    # --- What follows from the inputs

    def _propagate(self, inputs: Mapping[int, tuple[int, ...]], *, stored: bool) -> None:
        """Infers all shapes and types for inputs of these shapes. `stored` compares them with those in the file."""
        values: dict[int, Value] = {
            index: self._constant(tensor) for index, tensor in enumerate(self.tensors) if tensor.span is not None
        }
        values.update({index: self._value(index, shape) for index, shape in inputs.items()})
        last_reader = {index: number for number, op in enumerate(self.model.operators) for index in op.inputs}
        sizes: dict[int, int] = {}
        held = most = 0
        for number, operator in enumerate(self.model.operators):
            place = self._place(number, operator)
            try:
                results = self._results(operator, values)
            except (WrongOperationError, DamagedFlatbufferError) as error:
                shown = ", ".join(f"[1, {shape[-1]}]" for shape in inputs.values() if len(shape) == 2)
                self._damaged(f"{place}: {error}" if stored else f"{place}: {error}, with inputs of {shown}")
            for index, result in zip(operator.outputs, results, strict=True):
                tensor = self.tensors[index]
                if result.type != tensor.type.name:
                    self._damaged(f"{place} returns {result.type}, but its output is {tensor.type.name}")
                if stored and not self._fits(tensor, result.shape):
                    self._damaged(
                        f"{place} returns the shape {list(result.shape or ())}, but its output has {list(tensor.shape)}"
                    )
                values[index] = self._value(index, result.shape, result.numbers)
                sizes[index] = bytes_of(tensor.type, result.shape or ())
                held += sizes[index]
            most = max(most, held)
            if held > _MOST_BYTES_AT_ONCE:
                self._damaged(
                    f"up to {place}, it needs {held:,} bytes at once; expected at most {_MOST_BYTES_AT_ONCE:,}"
                )
            for index in {*operator.inputs, *operator.outputs}:
                if last_reader.get(index, -1) <= number:
                    held -= sizes.pop(index, 0)

    def _results(self, operator: Operator, values: Mapping[int, Value]) -> list[Value]:
        output_types = [self.tensors[index].type.name for index in operator.outputs]
        rule = RULES.get(operator.name)
        if rule is None:
            return [Value(kind, None) for kind in output_types]
        inputs = [None if index < 0 else values[index] for index in operator.inputs]
        results = rule.check(Step(inputs, output_types, operator.options))
        if len(results) != len(output_types):
            raise WrongOperationError(f"it has {len(output_types)} outputs; expected {len(results)}")
        return results

    def _fits(self, tensor: Tensor, shape: tuple[int, ...] | None) -> bool:
        """Returns whether a shape is the stored one, as far as the file says it: sizes that vary are stored as any."""
        varies = -1 in tensor.shape_signature or (not tensor.shape and not tensor.has_rank)
        return shape is None or varies or shape == tensor.shape

    def _constant(self, tensor: Tensor) -> Value:
        numbers = self.model.constant(tensor)
        return self._described(tensor, tensor.shape, numbers)

    def _value(self, index: int, shape: tuple[int, ...] | None, numbers: np.ndarray | None = None) -> Value:
        return self._described(self.tensors[index], shape, numbers)

    def _described(self, tensor: Tensor, shape: tuple[int, ...] | None, numbers: np.ndarray | None) -> Value:
        scales = tensor.quantization
        return Value(
            type=tensor.type.name,
            shape=shape,
            numbers=numbers,
            scales=None if scales is None else int(scales.scales.size),
            scale_dimension=0 if scales is None else scales.dimension,
        )
