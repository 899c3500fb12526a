"""What tests ask of a model's file, and how they damage it."""

from __future__ import annotations

import random
import struct
from collections import Counter

from textclf.tflite.format import schema
from textclf.tflite.format.metadata_schema import Model
from textclf.tflite.model_file import TfliteModel

_DAMAGE = (0, 1, 2, 3, 7, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def stored_types(content: bytes) -> dict[str, int]:
    """How many kernels of products, and tables of words, are stored in each type."""
    model = TfliteModel(content)
    made_from = {op.outputs[0]: op.inputs[0] for op in model.operators if op.name == "DEQUANTIZE"}
    kernels = [op.inputs[1] for op in model.operators if op.name == "FULLY_CONNECTED"]
    tables = [op.inputs[0] for op in model.operators if op.name == "GATHER"]
    kernels += [table for table in tables if model.tensors[made_from.get(table, table)].name == "words/table"]
    return dict(Counter(model.tensors[made_from.get(kernel, kernel)].type.name for kernel in kernels))


def with_random_damage(content: bytes, chance: random.Random) -> bytes:
    """A few bytes or numbers changed anywhere, now and then also the end cut off."""
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        place = chance.randrange(len(damaged) - 8)
        kind = chance.choice("BHIi")
        value = chance.choice((*_DAMAGE, len(damaged), chance.randrange(1 << 32))) % (1 << 8 * struct.calcsize(kind))
        damaged[place : place + struct.calcsize(kind)] = value.to_bytes(struct.calcsize(kind), "little")
    return bytes(damaged[: chance.choice((len(damaged), len(damaged), len(damaged), chance.randrange(len(damaged))))])


def places_of_graph(content: bytes) -> list[tuple[int, int]]:
    """Where the numbers of a graph lie, with their sizes in bytes: offsets, counts, operands, shapes, types, buffers,
    options, scales, small constants."""
    model = TfliteModel(content)
    graph = model.root.item(Model.SUBGRAPHS, 0)
    places: list[tuple[int, int]] = [(0, 4)]
    for field in (schema.Subgraph.INPUTS, schema.Subgraph.OUTPUTS):
        places += _vector(graph, field)
    tables = [graph, *model.root.tables(Model.OPERATOR_CODES)]
    for operator in graph.tables(schema.Subgraph.OPERATORS):
        places += _vector(operator, schema.Operator.INPUTS) + _vector(operator, schema.Operator.OUTPUTS)
        tables += [
            operator,
            *([operator.table(schema.Operator.OPTIONS)] if operator.table(schema.Operator.OPTIONS) else []),
        ]
    for tensor in graph.tables(schema.Subgraph.TENSORS):
        places += _vector(tensor, schema.Tensor.SHAPE)
        tables.append(tensor)
        if (quantization := tensor.table(schema.Tensor.QUANTIZATION)) is not None:
            places += _vector(quantization, schema.Quantization.SCALE)[:4]
            places += _vector(quantization, schema.Quantization.ZERO_POINT)[:4]
            tables.append(quantization)
    for table in tables:
        places += [(table.position, 4)]
        places += [(place, size) for field in table.present() for size in (1, 4) if (place := table.place(field, "B"))]
    for found in model.tensors:
        if found.span is not None and found.span[1] <= 64:
            places += [(found.span[0] + start, 4) for start in range(0, found.span[1] - 3, 4)]
    return [(place, size) for place, size in places if place + size <= len(content)]


def with_meaningful_damage(content: bytes, places: list[tuple[int, int]], chance: random.Random) -> bytes:
    """One number of the graph, or two, made another that might be meant."""
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2))):
        place, size = chance.choice(places)
        old = int.from_bytes(damaged[place : place + size], "little")
        values = (old + 1, old - 1, old + 4, old * 2, old ^ 0xFF, chance.randrange(200), *_DAMAGE)
        damaged[place : place + size] = (chance.choice(values) % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(damaged)


def _vector(table: object, field: int) -> list[tuple[int, int]]:
    start, count = table.vector(field, 4)  # type: ignore[attr-defined]
    if start is None:
        return []
    return [(start - 4, 4), *((start + 4 * index, 4) for index in range(count))]
