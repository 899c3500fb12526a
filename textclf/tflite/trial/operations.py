"""The rules of the operations of text classifiers: each takes shapes, types and options, and returns shapes and types.

Each rule follows LiteRT's `Prepare` of the kernel. It raises WrongOperationError if the kernel would refuse, or read or
write outside its tensors. It returns a value without a shape if the shape is known only at run time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textclf.tflite.format.flatbuffer import FlatTable

# LiteRT's limit for the number of dimensions, and for the numbers of shapes, axes and bounds.
_MOST_SHAPE_NUMBERS = 8

_ACTIVATIONS = 6

_INTEGERS = frozenset(("int8", "uint8", "int4", "int16", "int32"))

_INDICES = frozenset(("int32", "int64", "int16"))


class WrongOperationError(ValueError):
    """The operands or options of an operation are invalid."""


@dataclass(frozen=True)
class Value:
    """What is known of a tensor: the shape, None where it depends on the input's numbers; and of constants and shapes
    the numbers themselves. `scales` counts the scales of quantised numbers, None for others."""

    type: str
    shape: tuple[int, ...] | None
    numbers: np.ndarray | None = None
    scales: int | None = None
    scale_dimension: int = 0


@dataclass(frozen=True)
class Step:
    """An operation with the known properties of its inputs. A missing input is None."""

    inputs: Sequence[Value | None]
    output_types: Sequence[str]
    options: FlatTable | None

    def value(self, position: int) -> Value:
        found = self.inputs[position]
        if found is None:
            raise WrongOperationError(f"input {position} is missing")
        return found

    def shape(self, position: int) -> tuple[int, ...] | None:
        return self.value(position).shape

    def option(self, field: int, kind: str, default: int = 0) -> int:
        """Returns a number of the options, or the default if the file omits it or all options."""
        return default if self.options is None else self.options.integer(field, kind, default)

    def small_numbers(self, position: int) -> list[int] | None:
        """Returns a constant list of integers such as a shape, or None if it is computed."""
        value = self.value(position)
        demand(value.type in _INDICES, f"input {position} is {value.type}, expected integers")
        if value.shape is not None:
            count = math.prod(value.shape)
            demand(count <= 2 * _MOST_SHAPE_NUMBERS, f"input {position} has {count:,} numbers, more than dimensions")
        return None if value.numbers is None else [int(number) for number in value.numbers.reshape(-1)]

    def activation(self, field: int = 0) -> None:
        chosen = self.option(field, "b")
        demand(0 <= chosen < _ACTIVATIONS, f"its activation has the number {chosen}, which the schema does not know")


def demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise WrongOperationError(otherwise)


def _axis(axis: int, rank: int, what: str = "the axis") -> int:
    demand(-rank <= axis < rank, f"{what} is {axis} of a tensor of {rank} dimensions")
    return axis % rank


def _same_type(step: Step, positions: Sequence[int]) -> str:
    types = {step.value(position).type for position in positions}
    demand(len(types) == 1, f"its inputs have the types {', '.join(sorted(types))}")
    return types.pop()


def _broadcast(*shapes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return None
    try:
        return tuple(int(size) for size in np.broadcast_shapes(*known))
    except ValueError:
        raise WrongOperationError(f"shapes that do not fit together: {', '.join(map(_shown, known))}") from None


def _shown(shape: tuple[int, ...]) -> str:
    return str(list(shape))


# --- Rules -----------------------------------------------------------------------------------------------------------
def _unchanged(step: Step) -> list[Value]:
    value = step.value(0)
    return [Value(value.type, value.shape)]


def _of_floats(step: Step) -> list[Value]:
    value = step.value(0)
    demand(value.type in ("float32", "int8", "uint8", "int16"), f"its input is {value.type}")
    return [Value(value.type, value.shape)]


def _softmax(step: Step) -> list[Value]:
    value = step.value(0)
    demand(value.shape is None or len(value.shape) > 0, "its input is a single number")
    if step.options is not None:
        factor = step.options.number(0)
        demand(math.isfinite(factor), f"its factor beta is {factor}")
    # Of 8 bits, the result may have 16.
    return [Value(step.output_types[0] if value.type != "float32" else "float32", value.shape)]


def _binary(step: Step) -> list[Value]:
    step.activation()
    return [Value(_same_type(step, (0, 1)), _broadcast(step.shape(0), step.shape(1)))]


def _binary_without_activation(step: Step) -> list[Value]:
    return [Value(_same_type(step, (0, 1)), _broadcast(step.shape(0), step.shape(1)))]


def _comparison(step: Step) -> list[Value]:
    _same_type(step, (0, 1))
    return [Value("bool", _broadcast(step.shape(0), step.shape(1)))]


def _select(step: Step) -> list[Value]:
    demand(step.value(0).type == "bool", f"its condition is {step.value(0).type}")
    return [Value(_same_type(step, (1, 2)), _broadcast(*(step.shape(position) for position in range(3))))]


def _cast(step: Step) -> list[Value]:
    value = step.value(0)
    numbers = value.numbers if value.type in _INDICES and step.output_types[0] in _INDICES else None
    return [Value(step.output_types[0], value.shape, numbers)]


def _dequantize(step: Step) -> list[Value]:
    value = step.value(0)
    demand(value.type in (*_INTEGERS - {"int32"}, "float16"), f"its input is {value.type}")
    if value.type != "float16":
        _check_scales(value, "its input")
    return [Value("float32", value.shape)]


def _quantize(step: Step) -> list[Value]:
    return [Value(step.output_types[0], step.shape(0))]


def _check_scales(value: Value, what: str, dimension: int | None = None) -> None:
    demand(bool(value.scales), f"{what} is {value.type} without a scale")
    if dimension is not None and value.scales != 1:
        demand(value.scale_dimension == dimension, f"{what} has scales along dimension {value.scale_dimension}")


def _fully_connected(step: Step) -> list[Value]:
    step.activation()
    demand(step.option(1, "b") == 0, "its weights are shuffled, which text classifiers are not")
    rows, kernel = step.value(0), step.value(1)
    bias = step.inputs[2] if len(step.inputs) > 2 else None
    if rows.type == "float32":
        demand(kernel.type in ("float32", "int8", "uint8", "int4"), f"its weights are {kernel.type}")
        demand(bias is None or bias.type == "float32", f"its bias is {bias.type if bias else ''}")
    else:
        demand(rows.type in ("int8", "uint8", "int16"), f"its input is {rows.type}")
        demand(kernel.type in ("int8", "uint8", "int4"), f"its weights are {kernel.type} beside inputs of {rows.type}")
        demand(bias is None or bias.type in ("int32", "int64"), f"its bias is {bias.type if bias else ''}")
        _check_scales(rows, "its input")
    if kernel.type != "float32":
        _check_scales(kernel, "its weights", 0)
    if kernel.shape is None:
        return [Value(step.output_types[0], None)]
    demand(len(kernel.shape) == 2, f"its weights have the shape {_shown(kernel.shape)}, expected two dimensions")
    outputs, width = kernel.shape
    demand(width > 0 and outputs > 0, f"its weights have the shape {_shown(kernel.shape)}")
    if bias is not None and bias.shape is not None:
        demand(math.prod(bias.shape) == outputs, f"its bias has the shape {_shown(bias.shape)} for {outputs} outputs")
    if rows.shape is None:
        return [Value(step.output_types[0], None)]
    demand(len(rows.shape) > 0, "its input is a single number")
    if step.option(2, "B"):
        demand(
            rows.shape[-1] == width, f"its input has the shape {_shown(rows.shape)}, its weights {_shown(kernel.shape)}"
        )
        return [Value(step.output_types[0], (*rows.shape[:-1], outputs))]
    count = math.prod(rows.shape)
    demand(count % width == 0, f"its input has the shape {_shown(rows.shape)}, its weights {_shown(kernel.shape)}")
    return [Value(step.output_types[0], (count // width, outputs))]


def _batch_matmul(step: Step) -> list[Value]:
    left, right = step.value(0), step.value(1)
    demand(left.type in ("float32", "int8", "int16"), f"its first input is {left.type}")
    demand(right.type in (left.type, "int8"), f"its second input is {right.type} beside {left.type}")
    if right.type == "int8":
        _check_scales(right, "its second input")
    if left.shape is None or right.shape is None:
        return [Value(step.output_types[0], None)]
    for shape in (left.shape, right.shape):
        demand(2 <= len(shape) <= 5, f"an input has the shape {_shown(shape)}, expected 2 to 5 dimensions")
    rows, inner = left.shape[-2:] if not step.option(0, "B") else left.shape[:-3:-1]
    other, columns = right.shape[-2:] if not step.option(1, "B") else right.shape[:-3:-1]
    demand(inner == other, f"its inputs have the shapes {_shown(left.shape)} and {_shown(right.shape)}")
    batch = _broadcast(left.shape[:-2], right.shape[:-2])
    return [Value(step.output_types[0], (*(batch or ()), rows, columns))]


def _cumsum(step: Step) -> list[Value]:
    value, axis = step.value(0), step.small_numbers(1)
    demand(value.type in ("float32", "int32", "int64"), f"its input is {value.type}")
    if axis is not None and value.shape is not None:
        demand(len(axis) == 1, f"{len(axis)} axes are given")
        _axis(axis[0], len(value.shape))
    return [Value(value.type, value.shape)]


def _gather(step: Step) -> list[Value]:
    table, indices = step.value(0), step.value(1)
    demand(indices.type in _INDICES, f"its indices are {indices.type}")
    if table.shape is None or indices.shape is None:
        return [Value(table.type, None)]
    demand(len(table.shape) > 0, "its table is a single number")
    axis = _axis(step.option(0, "i"), len(table.shape))
    batch = step.option(1, "i")
    demand(0 <= batch <= min(axis, len(indices.shape)), f"it has {batch} batch dimensions")
    demand(
        table.shape[:batch] == indices.shape[:batch], f"its batches are {_shown(table.shape)}, {_shown(indices.shape)}"
    )
    _check_indices(indices, table.shape[axis])
    return [Value(table.type, (*table.shape[:axis], *indices.shape[batch:], *table.shape[axis + 1 :]))]


def _check_indices(indices: Value, size: int) -> None:
    if indices.numbers is not None and indices.numbers.size:
        low, high = int(indices.numbers.min()), int(indices.numbers.max())
        demand(low >= 0 and high < size, f"its indices are {low} to {high} of {size} rows")


def _embedding_lookup(step: Step) -> list[Value]:
    indices, table = step.value(0), step.value(1)
    demand(indices.type == "int32", f"its indices are {indices.type}")
    demand(table.type in ("float32", "int8", "uint8", "int4"), f"its table is {table.type}")
    if table.type != "float32":
        _check_scales(table, "its table", 0)
    if indices.shape is None or table.shape is None:
        return [Value("float32", None)]
    demand(len(indices.shape) == 1, f"its indices have the shape {_shown(indices.shape)}, expected a list")
    demand(len(table.shape) >= 2, f"its table has the shape {_shown(table.shape)}")
    _check_indices(indices, table.shape[0])
    return [Value(step.output_types[0], (*indices.shape, *table.shape[1:]))]


def _reduce(step: Step) -> list[Value]:
    value, axes = step.value(0), step.small_numbers(1)
    if value.shape is None or axes is None:
        return [Value(value.type, None)]
    rank = len(value.shape)
    if rank == 0:
        demand(not axes, "a single number has no axis")
        return [Value(value.type, ())]
    gone = {_axis(axis, rank) for axis in axes}
    if step.option(0, "B"):
        return [Value(value.type, tuple(1 if axis in gone else size for axis, size in enumerate(value.shape)))]
    return [Value(value.type, tuple(size for axis, size in enumerate(value.shape) if axis not in gone))]


def _pack(step: Step) -> list[Value]:
    kind = _same_type(step, range(len(step.inputs)))
    demand(
        step.option(0, "i") == len(step.inputs),
        f"it has {len(step.inputs)} inputs, its options say {step.option(0, 'i')}",
    )
    shapes = {step.shape(position) for position in range(len(step.inputs))}
    if None in shapes:
        return [Value(kind, None)]
    demand(len(shapes) == 1, "its inputs have different shapes")
    [shape] = shapes
    assert shape is not None
    axis = _axis(step.option(1, "i"), len(shape) + 1)
    parts = [step.value(position).numbers for position in range(len(step.inputs))]
    known = [part for part in parts if part is not None]
    numbers = np.array([int(part.reshape(-1)[0]) for part in known]) if not shape and len(known) == len(parts) else None
    return [Value(kind, (*shape[:axis], len(step.inputs), *shape[axis:]), numbers)]


def _unpack(step: Step) -> list[Value]:
    value = step.value(0)
    count = step.option(0, "i")
    demand(count == len(step.output_types), f"it has {len(step.output_types)} outputs, its options say {count}")
    if value.shape is None:
        return [Value(value.type, None)] * count
    demand(len(value.shape) > 0, "its input is a single number")
    axis = _axis(step.option(1, "i"), len(value.shape))
    demand(value.shape[axis] == count, f"it has {count} outputs for the shape {_shown(value.shape)}")
    return [Value(value.type, (*value.shape[:axis], *value.shape[axis + 1 :]))] * count


def _concatenation(step: Step) -> list[Value]:
    step.activation(1)
    positions = range(len(step.inputs))
    kind = _same_type(step, positions)
    shapes = [step.shape(position) for position in positions]
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return [Value(kind, None)]
    axis = _axis(step.option(0, "i"), len(known[0]))
    others = {(*shape[:axis], *shape[axis + 1 :]) for shape in known}
    demand(
        len(others) == 1 and len({len(shape) for shape in known}) == 1,
        "its inputs have shapes that do not fit together",
    )
    return [Value(kind, (*known[0][:axis], sum(shape[axis] for shape in known), *known[0][axis + 1 :]))]


def _pad(step: Step) -> list[Value]:
    value, amounts = step.value(0), step.small_numbers(1)
    if len(step.inputs) > 2:
        filling = step.value(2)
        demand(filling.type == value.type, f"its input is {value.type} and what it adds {filling.type}")
        demand(filling.shape is None or math.prod(filling.shape) == 1, "what it adds is more than one number")
    if value.shape is None or amounts is None:
        return [Value(value.type, None)]
    rank = len(value.shape)
    demand(step.shape(1) == (rank, 2), f"{len(amounts)} amounts are given for {rank} dimensions")
    demand(min(amounts, default=0) >= 0, f"it adds {min(amounts, default=0)} places")
    return [Value(value.type, tuple(size + amounts[2 * i] + amounts[2 * i + 1] for i, size in enumerate(value.shape)))]


def _reshape(step: Step) -> list[Value]:
    value = step.value(0)
    wanted: list[int] | None
    if len(step.inputs) > 1:
        given = step.value(1)
        demand(given.type == "int32", f"its shape is {given.type}")
        demand(given.shape is None or len(given.shape) == 1, "its shape is not a list")
        wanted = step.small_numbers(1)
    else:
        demand(step.options is not None, "it does not say which shape")
        wanted = step.options.integers(0) if step.options is not None else []
    if wanted is None or value.shape is None:
        return [Value(value.type, None)]
    demand(min(wanted, default=0) >= -1 and wanted.count(-1) <= 1, f"its shape is {wanted}")
    count, known = math.prod(value.shape), math.prod(size for size in wanted if size != -1)
    if -1 in wanted:
        demand(known > 0 and count % known == 0, f"{_shown(value.shape)} cannot have the shape {wanted}")
        return [Value(value.type, tuple(count // known if size == -1 else size for size in wanted))]
    demand(count == known, f"{_shown(value.shape)} cannot have the shape {wanted}")
    return [Value(value.type, tuple(wanted), value.numbers)]


def _slice(step: Step) -> list[Value]:
    value, begins, sizes = step.value(0), step.small_numbers(1), step.small_numbers(2)
    _same_type(step, (1, 2))
    if value.shape is None or begins is None or sizes is None:
        return [Value(value.type, None)]
    demand(len(begins) == len(sizes) == len(value.shape), f"{len(begins)} beginnings and {len(sizes)} sizes are given")
    result = []
    for begin, size, whole in zip(begins, sizes, value.shape, strict=True):
        size = whole - begin if size == -1 else size
        demand(begin >= 0 and size >= 0 and begin + size <= whole, f"{begin} + {size} of {whole} are asked for")
        result.append(size)
    return [Value(value.type, tuple(result))]


def _strided_slice(step: Step) -> list[Value]:
    value = step.value(0)
    for position in (1, 2, 3):
        demand(step.value(position).type == "int32", f"input {position} is {step.value(position).type}")
    bounds = [step.small_numbers(position) for position in (1, 2, 3)]
    known = [bound for bound in bounds if bound is not None]
    if len(known) < 3 or value.shape is None:
        return [Value(value.type, None)]
    lengths = {len(bound) for bound in known}
    demand(len(lengths) == 1, f"its bounds have the lengths {', '.join(map(str, sorted(lengths)))}")
    begin_mask, end_mask, ellipsis, new_axis, shrink = (step.option(field, "i") for field in range(5))
    offset = step.option(5, "B")
    index: list[Any] = []
    for i, (begin, end, stride) in enumerate(zip(*known, strict=True)):
        if ellipsis >> i & 1:
            index.append(Ellipsis)
        elif new_axis >> i & 1:
            index.append(None)
        elif shrink >> i & 1:
            index.append(begin)
        else:
            demand(stride != 0, "a stride is 0")
            end = begin + end if offset else end
            index.append(slice(None if begin_mask >> i & 1 else begin, None if end_mask >> i & 1 else end, stride))
    try:
        chosen = np.broadcast_to(np.int8(0), value.shape)[tuple(index)]
        numbers = None if value.numbers is None else value.numbers.reshape(value.shape)[tuple(index)]
    except (IndexError, ValueError) as error:
        raise WrongOperationError(f"bounds outside the shape {_shown(value.shape)} ({error})") from None
    return [Value(value.type, chosen.shape, None if numbers is None else np.asarray(numbers))]


def _split(step: Step) -> list[Value]:
    axes, value = step.small_numbers(0), step.value(1)
    count = step.option(0, "i")
    demand(count == len(step.output_types), f"it has {len(step.output_types)} outputs, its options say {count}")
    if axes is None or value.shape is None:
        return [Value(value.type, None)] * count
    demand(len(axes) == 1 and len(value.shape) > 0, f"{len(axes)} axes are given")
    axis = _axis(axes[0], len(value.shape))
    demand(value.shape[axis] % count == 0, f"{_shown(value.shape)} in {count} parts")
    return [Value(value.type, (*value.shape[:axis], value.shape[axis] // count, *value.shape[axis + 1 :]))] * count


def _transpose(step: Step) -> list[Value]:
    value, order = step.value(0), step.small_numbers(1)
    if value.shape is None or order is None:
        return [Value(value.type, None)]
    rank = len(value.shape)
    demand(len(order) == rank, f"{len(order)} axes are given for {rank} dimensions")
    axes = [_axis(axis, rank) for axis in order]
    demand(len(set(axes)) == rank, f"the axes {order} name one twice")
    return [Value(value.type, tuple(value.shape[axis] for axis in axes))]


def _squeeze(step: Step) -> list[Value]:
    value = step.value(0)
    axes = step.options.integers(0) if step.options is not None else []
    demand(len(axes) <= _MOST_SHAPE_NUMBERS, f"{len(axes)} axes are given")
    if value.shape is None:
        return [Value(value.type, None)]
    gone = {_axis(axis, len(value.shape)) for axis in axes}
    if not axes:
        gone = {axis for axis, size in enumerate(value.shape) if size == 1}
    demand(all(value.shape[axis] == 1 for axis in gone), f"the axes {axes} of {_shown(value.shape)} are not all 1")
    return [Value(value.type, tuple(size for axis, size in enumerate(value.shape) if axis not in gone))]


def _expand_dims(step: Step) -> list[Value]:
    value, axes = step.value(0), step.small_numbers(1)
    if value.shape is None or axes is None:
        return [Value(value.type, None)]
    demand(len(axes) == 1, f"{len(axes)} axes are given")
    axis = _axis(axes[0], len(value.shape) + 1)
    return [Value(value.type, (*value.shape[:axis], 1, *value.shape[axis:]))]


def _shape_of(step: Step) -> list[Value]:
    shape = step.shape(0)
    if shape is None:
        return [Value(step.output_types[0], None)]
    return [Value(step.output_types[0], (len(shape),), np.array(shape, np.int64))]


def _fill(step: Step) -> list[Value]:
    shape, value = step.small_numbers(0), step.value(1)
    demand(value.shape is None or math.prod(value.shape) == 1, "what it fills with is more than one number")
    demand(shape is None or min(shape, default=0) >= 0, f"its shape is {shape}")
    return [Value(value.type, None if shape is None else tuple(shape))]


def _broadcast_to(step: Step) -> list[Value]:
    value, shape = step.value(0), step.small_numbers(1)
    if shape is None or value.shape is None:
        return [Value(value.type, None)]
    demand(min(shape, default=0) >= 0, f"its shape is {shape}")
    demand(_broadcast(value.shape, tuple(shape)) == tuple(shape), f"{_shown(value.shape)} does not fit {shape}")
    return [Value(value.type, tuple(shape))]


def _tile(step: Step) -> list[Value]:
    value, times = step.value(0), step.small_numbers(1)
    if times is None or value.shape is None:
        return [Value(value.type, None)]
    demand(
        len(times) == len(value.shape) and min(times, default=1) >= 0, f"{times} for the shape {_shown(value.shape)}"
    )
    return [Value(value.type, tuple(size * count for size, count in zip(value.shape, times, strict=True)))]


# --- The rule for each operation -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Rule:
    """`inputs` and `outputs` are the smallest and the largest numbers of operands, `optional` the positions that may be
    left out, `options` the numbers of the kinds of options in the schema that fit (0, none, always does)."""

    check: Callable[[Step], list[Value]]
    inputs: tuple[int, int]
    outputs: tuple[int, int] = (1, 1)
    optional: tuple[int, ...] = ()
    options: tuple[int, ...] = ()


_MANY = 1000

RULES: dict[str, Rule] = {
    "ABS": Rule(_unchanged, (1, 1), options=(78,)),
    "ADD": Rule(_binary, (2, 2), options=(11,)),
    "BATCH_MATMUL": Rule(_batch_matmul, (2, 2), options=(101,)),
    "BROADCAST_TO": Rule(_broadcast_to, (2, 2), options=(104,)),
    "CAST": Rule(_cast, (1, 1), options=(37,)),
    "CONCATENATION": Rule(_concatenation, (1, _MANY), options=(10,)),
    "CUMSUM": Rule(_cumsum, (2, 2), options=(102,)),
    "DEQUANTIZE": Rule(_dequantize, (1, 1), options=(38,)),
    "DIV": Rule(_binary, (2, 2), options=(29,)),
    "ELU": Rule(_of_floats, (1, 1)),
    "EMBEDDING_LOOKUP": Rule(_embedding_lookup, (2, 2)),
    "EQUAL": Rule(_comparison, (2, 2), options=(53,)),
    "EXP": Rule(_of_floats, (1, 1), options=(33,)),
    "EXPAND_DIMS": Rule(_expand_dims, (2, 2), options=(52,)),
    "FILL": Rule(_fill, (2, 2), options=(68,)),
    "FLOOR": Rule(_of_floats, (1, 1)),
    "FLOOR_DIV": Rule(_binary_without_activation, (2, 2), options=(65,)),
    "FULLY_CONNECTED": Rule(_fully_connected, (2, 3), optional=(2,), options=(8,)),
    "GATHER": Rule(_gather, (2, 2), options=(23,)),
    "GELU": Rule(_of_floats, (1, 1), options=(116,)),
    "GREATER": Rule(_comparison, (2, 2), options=(44,)),
    "GREATER_EQUAL": Rule(_comparison, (2, 2), options=(45,)),
    "HARD_SWISH": Rule(_of_floats, (1, 1), options=(91,)),
    "LESS": Rule(_comparison, (2, 2), options=(41,)),
    "LESS_EQUAL": Rule(_comparison, (2, 2), options=(46,)),
    "LOG": Rule(_of_floats, (1, 1)),
    "LOGICAL_AND": Rule(_comparison, (2, 2), options=(62,)),
    "LOGICAL_NOT": Rule(_unchanged, (1, 1), options=(63,)),
    "LOGICAL_OR": Rule(_comparison, (2, 2), options=(60,)),
    "LOGISTIC": Rule(_of_floats, (1, 1)),
    "LOG_SOFTMAX": Rule(_of_floats, (1, 1), options=(36,)),
    "MAXIMUM": Rule(_binary_without_activation, (2, 2), options=(39,)),
    "MEAN": Rule(_reduce, (2, 2), options=(27,)),
    "MINIMUM": Rule(_binary_without_activation, (2, 2), options=(39,)),
    "MUL": Rule(_binary, (2, 2), options=(21,)),
    "NEG": Rule(_unchanged, (1, 1), options=(42,)),
    "NOT_EQUAL": Rule(_comparison, (2, 2), options=(54,)),
    "PACK": Rule(_pack, (1, _MANY), options=(59,)),
    "PAD": Rule(_pad, (2, 2), options=(22,)),
    "PADV2": Rule(_pad, (3, 3), options=(43,)),
    "POW": Rule(_binary_without_activation, (2, 2), options=(56,)),
    "QUANTIZE": Rule(_quantize, (1, 1), options=(89,)),
    "REDUCE_MAX": Rule(_reduce, (2, 2), options=(27,)),
    "REDUCE_MIN": Rule(_reduce, (2, 2), options=(27,)),
    "REDUCE_PROD": Rule(_reduce, (2, 2), options=(27,)),
    "RELU": Rule(_of_floats, (1, 1)),
    "RELU6": Rule(_of_floats, (1, 1)),
    "RESHAPE": Rule(_reshape, (1, 2), options=(17,)),
    "RSQRT": Rule(_of_floats, (1, 1)),
    "SELECT": Rule(_select, (3, 3), options=(47,)),
    "SELECT_V2": Rule(_select, (3, 3), options=(98,)),
    "SHAPE": Rule(_shape_of, (1, 1), options=(55,)),
    "SLICE": Rule(_slice, (3, 3), options=(48,)),
    "SOFTMAX": Rule(_softmax, (1, 1), options=(9,)),
    "SPLIT": Rule(_split, (2, 2), (1, _MANY), options=(35,)),
    "SQRT": Rule(_of_floats, (1, 1)),
    "SQUARE": Rule(_unchanged, (1, 1), options=(66,)),
    "SQUARED_DIFFERENCE": Rule(_binary_without_activation, (2, 2), options=(76,)),
    "SQUEEZE": Rule(_squeeze, (1, 1), options=(30,)),
    "STRIDED_SLICE": Rule(_strided_slice, (4, 4), options=(32,)),
    "SUB": Rule(_binary, (2, 2), options=(28,)),
    "SUM": Rule(_reduce, (2, 2), options=(27,)),
    "TANH": Rule(_of_floats, (1, 1)),
    "TILE": Rule(_tile, (2, 2), options=(51,)),
    "TRANSPOSE": Rule(_transpose, (2, 2), options=(26,)),
    "UNPACK": Rule(_unpack, (1, 1), (1, _MANY), options=(64,)),
}
"""The rules for the operations of text classifiers. Any other operation runs in a separate process first."""

REFUSED = {
    "DELEGATE": "belongs to no file",
    **dict.fromkeys(("CALL", "CALL_ONCE", "IF", "WHILE"), "calls another graph"),
    **dict.fromkeys(
        ("HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE", "HASHTABLE_LOOKUP", "LSH_PROJECTION"),
        "needs texts or tables of the runtime",
    ),
    **dict.fromkeys(("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"), "keeps values from call to call"),
}
"""Operations that no text classifier of ids has, and that a check cannot follow."""
