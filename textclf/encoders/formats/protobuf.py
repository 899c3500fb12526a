"""Reads the wire format of protocol buffers (protobuf.dev/programming-guides/encoding) field by field.

Takes the bytes of an untrusted message and returns its fields as views of these bytes. Only requested values are built,
and lengths beyond the message are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

Value = int | memoryview
"""The value of a field: a whole number (varint), or the bytes of a text, message, packed list or number of fixed size.
"""

_LONGEST_VARINT = 10


class ProtobufError(ValueError):
    """The bytes are not a protocol buffer, or not the expected one."""


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Yields the numbers and values of a message's fields, in their order."""
    position, end = 0, len(message)
    while position < end:
        key, position = varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = varint(message, position)
            yield number, value
            continue
        if kind == 2:
            size, position = varint(message, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ProtobufError(f"wire type {kind} at byte {position}")
        if size > end - position:
            raise ProtobufError(f"a field of {size} bytes at byte {position} of {end}")
        yield number, message[position : position + size]
        position += size


def varint(data: memoryview, position: int) -> tuple[int, int]:
    """Returns the whole number at a position, and the position after it."""
    result = 0
    for index in range(_LONGEST_VARINT):
        if position >= len(data):
            raise ProtobufError("it ends inside a number")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return result & (2**64 - 1), position
    raise ProtobufError(f"a number of more than {_LONGEST_VARINT} bytes")


def messages(message: memoryview, number: int) -> Iterator[memoryview]:
    """The values of a field that holds messages, texts or bytes."""
    for found, value in fields(message):
        if found == number:
            yield as_bytes(value)


def message_in(message: memoryview, number: int) -> memoryview:
    """Returns the last value of such a field, or an empty value."""
    found = memoryview(b"")
    for value in messages(message, number):
        found = value
    return found


def text(value: Value) -> str:
    try:
        return bytes(as_bytes(value)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtobufError("a text is not UTF-8") from error


def as_bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ProtobufError("a number in place of a text or message")
    return value


def as_number(value: Value) -> int:
    if not isinstance(value, int):
        raise ProtobufError("a text or message in place of a number")
    return value


def fixed32(value: Value) -> int:
    data = as_bytes(value)
    if len(data) != 4:
        raise ProtobufError("a number of another size")
    return int(struct.unpack("<I", data)[0])
