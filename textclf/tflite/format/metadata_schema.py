"""The numbers of the published flatbuffer schemas that a text classifier's metadata needs.

Each enumeration lists a table's fields in the schema's order, which is their position in the file.
Sources: TensorFlow Lite's `schema.fbs` (the model) and `metadata_schema.fbs` 1.5.0 (its metadata buffer).
"""

from __future__ import annotations

from enum import IntEnum

MODEL_IDENTIFIER = b"TFL3"

METADATA_IDENTIFIER = b"M001"

METADATA_BUFFER_NAME = "TFLITE_METADATA"

BUFFER_ALIGNMENT = 16


class Model(IntEnum):
    VERSION = 0
    OPERATOR_CODES = 1
    SUBGRAPHS = 2
    DESCRIPTION = 3
    BUFFERS = 4
    METADATA_BUFFER = 5
    METADATA = 6
    SIGNATURE_DEFS = 7


class Metadata(IntEnum):
    NAME = 0
    BUFFER = 1


class Buffer(IntEnum):
    DATA = 0
    OFFSET = 1
    SIZE = 2


class Subgraph(IntEnum):
    TENSORS = 0
    INPUTS = 1
    OUTPUTS = 2


class Tensor(IntEnum):
    SHAPE = 0
    TYPE = 1
    BUFFER = 2
    NAME = 3


class ModelMetadata(IntEnum):
    NAME = 0
    DESCRIPTION = 1
    VERSION = 2
    SUBGRAPH_METADATA = 3
    AUTHOR = 4
    LICENSE = 5
    ASSOCIATED_FILES = 6
    MIN_PARSER_VERSION = 7


class SubgraphMetadata(IntEnum):
    INPUT_TENSOR_METADATA = 2
    OUTPUT_TENSOR_METADATA = 3
    INPUT_PROCESS_UNITS = 5


class TensorMetadata(IntEnum):
    NAME = 0
    DESCRIPTION = 1
    CONTENT = 3
    PROCESS_UNITS = 4
    STATS = 5
    ASSOCIATED_FILES = 6


class Content(IntEnum):
    PROPERTIES_TYPE = 0
    PROPERTIES = 1


class ContentProperties(IntEnum):
    FEATURE = 1


class Stats(IntEnum):
    MAX = 0
    MIN = 1


class ProcessUnit(IntEnum):
    OPTIONS_TYPE = 0
    OPTIONS = 1


class ProcessUnitOptions(IntEnum):
    BERT_TOKENIZER = 4
    SENTENCE_PIECE_TOKENIZER = 5
    REGEX_TOKENIZER = 6


class BertTokenizerOptions(IntEnum):
    VOCABULARY_FILE = 0


class RegexTokenizerOptions(IntEnum):
    DELIMITER_PATTERN = 0
    VOCABULARY_FILE = 1


class AssociatedFile(IntEnum):
    NAME = 0
    DESCRIPTION = 1
    TYPE = 2


class AssociatedFileType(IntEnum):
    UNKNOWN = 0
    TENSOR_AXIS_LABELS = 2
    VOCABULARY = 5
