"""Which operations each release of a runtime registers, and up to which version.

A runtime refuses a file that declares an operation, or a version of one, that it does not register. The figures are measured:
`benchmarks/operation_versions.py` writes a file for each operation and version, and notes which ones a runtime opens. They
agree with `tensorflow/lite/core/kernels/register.cc` of each release (of LiteRT: `tflite/core/kernels/register.cc`).
"""

from __future__ import annotations

from collections.abc import Mapping

_TENSORFLOW_2_12 = {
    "ABS": 5, "ADD": 4, "ADD_N": 1, "ARG_MAX": 3, "ARG_MIN": 3, "ASSIGN_VARIABLE": 1, "ATAN2": 1, "AVERAGE_POOL_2D": 3,
    "BATCH_MATMUL": 4, "BATCH_TO_SPACE_ND": 3, "BIDIRECTIONAL_SEQUENCE_LSTM": 3, "BIDIRECTIONAL_SEQUENCE_RNN": 3,
    "BROADCAST_ARGS": 1, "BROADCAST_TO": 3, "BUCKETIZE": 1, "CALL_ONCE": 1, "CAST": 4, "CEIL": 1, "COMPLEX_ABS": 1,
    "CONCATENATION": 3, "CONV_2D": 7, "CONV_3D": 1, "CONV_3D_TRANSPOSE": 1, "COS": 1, "CUMSUM": 1, "DENSIFY": 1,
    "DEPTHWISE_CONV_2D": 6, "DEPTH_TO_SPACE": 2, "DEQUANTIZE": 5, "DIV": 2, "DYNAMIC_UPDATE_SLICE": 1, "ELU": 1,
    "EMBEDDING_LOOKUP": 3, "EMBEDDING_LOOKUP_SPARSE": 1, "EQUAL": 3, "EXP": 1, "EXPAND_DIMS": 1, "FAKE_QUANT": 2, "FILL": 4,
    "FLOOR": 1, "FLOOR_DIV": 2, "FLOOR_MOD": 1, "FULLY_CONNECTED": 9, "GATHER": 5, "GATHER_ND": 3, "GELU": 2, "GREATER": 2,
    "GREATER_EQUAL": 2, "HARD_SWISH": 1, "HASHTABLE": 1, "HASHTABLE_FIND": 1, "HASHTABLE_IMPORT": 1, "HASHTABLE_LOOKUP": 1,
    "HASHTABLE_SIZE": 1, "IF": 1, "IMAG": 1, "L2_NORMALIZATION": 2, "L2_POOL_2D": 1, "LEAKY_RELU": 2, "LESS": 2,
    "LESS_EQUAL": 2, "LOCAL_RESPONSE_NORMALIZATION": 1, "LOG": 1, "LOGICAL_AND": 1, "LOGICAL_NOT": 1, "LOGICAL_OR": 1,
    "LOGISTIC": 3, "LOG_SOFTMAX": 2, "LSH_PROJECTION": 1, "LSTM": 4, "MATRIX_DIAG": 1, "MATRIX_SET_DIAG": 1, "MAXIMUM": 4,
    "MAX_POOL_2D": 3, "MEAN": 3, "MINIMUM": 4, "MIRROR_PAD": 2, "MUL": 6, "MULTINOMIAL": 1, "NEG": 1,
    "NON_MAX_SUPPRESSION_V4": 1, "NON_MAX_SUPPRESSION_V5": 1, "NOT_EQUAL": 3, "ONE_HOT": 1, "PACK": 3, "PAD": 4, "PADV2": 4,
    "POW": 1, "PRELU": 1, "QUANTIZE": 3, "RANDOM_STANDARD_NORMAL": 1, "RANDOM_UNIFORM": 1, "RANGE": 1, "RANK": 1,
    "READ_VARIABLE": 1, "REAL": 1, "REDUCE_ALL": 1, "REDUCE_ANY": 1, "REDUCE_MAX": 3, "REDUCE_MIN": 3, "REDUCE_PROD": 2,
    "RELU": 3, "RELU6": 3, "RELU_0_TO_1": 1, "RELU_N1_TO_1": 1, "RESHAPE": 1, "RESIZE_BILINEAR": 4,
    "RESIZE_NEAREST_NEIGHBOR": 4, "REVERSE_SEQUENCE": 1, "REVERSE_V2": 3, "RFFT2D": 1, "RNN": 3, "ROUND": 1, "RSQRT": 2,
    "SCATTER_ND": 1, "SEGMENT_SUM": 1, "SELECT": 3, "SELECT_V2": 1, "SHAPE": 1, "SIGN": 2, "SIN": 1, "SKIP_GRAM": 1,
    "SLICE": 5, "SOFTMAX": 3, "SPACE_TO_BATCH_ND": 3, "SPACE_TO_DEPTH": 2, "SPARSE_TO_DENSE": 3, "SPLIT": 4, "SPLIT_V": 2,
    "SQRT": 1, "SQUARE": 1, "SQUARED_DIFFERENCE": 2, "SQUEEZE": 2, "STRIDED_SLICE": 6, "SUB": 5, "SUM": 2, "SVDF": 4,
    "TANH": 3, "TILE": 3, "TOPK_V2": 2, "TRANSPOSE": 6, "TRANSPOSE_CONV": 4, "UNIDIRECTIONAL_SEQUENCE_LSTM": 4,
    "UNIDIRECTIONAL_SEQUENCE_RNN": 3, "UNIQUE": 1, "UNPACK": 4, "UNSORTED_SEGMENT_MAX": 1, "UNSORTED_SEGMENT_MIN": 1,
    "UNSORTED_SEGMENT_PROD": 1, "UNSORTED_SEGMENT_SUM": 1, "VAR_HANDLE": 1, "WHERE": 2, "WHILE": 1, "ZEROS_LIKE": 1,
}  # fmt: skip

_CHANGES: tuple[tuple[str, str, dict[str, int]], ...] = (
    # TensorFlow Lite 2.11 was not measured. What 2.12 added comes from runtime_version.cc of TensorFlow, which names the first
    # release of each version.
    (
        "TensorFlow Lite 2.11",
        "TensorFlow Lite 2.12",
        {"ABS": 4, "CAST": 4, "FILL": 3, "SELECT": 2, "SIGN": 1, "TRANSPOSE": 5, "UNIDIRECTIONAL_SEQUENCE_LSTM": 3},
    ),
    (
        "TensorFlow Lite 2.13",
        "TensorFlow Lite 2.12",
        {
            "ADD": 5, "BATCH_TO_SPACE_ND": 4, "BITCAST": 1, "BITWISE_XOR": 1, "CAST": 5, "DEPTHWISE_CONV_2D": 7, "EQUAL": 4,
            "EXP": 2, "FLOOR_DIV": 3, "FLOOR_MOD": 2, "FULLY_CONNECTED": 10, "GATHER": 6, "GATHER_ND": 4, "GREATER_EQUAL": 3,
            "LESS": 3, "MIRROR_PAD": 3, "MUL": 7, "RIGHT_SHIFT": 1, "SPACE_TO_BATCH_ND": 4, "TOPK_V2": 3,
        },
    ),
    (
        "TensorFlow Lite 2.14",
        "TensorFlow Lite 2.13",
        {"CONCATENATION": 4, "PACK": 4, "RANGE": 2, "SELECT": 4, "SELECT_V2": 2, "SLICE": 6, "STRIDED_SLICE": 8},
    ),
    (
        "TensorFlow Lite 2.15",
        "TensorFlow Lite 2.14",
        {
            "CAST": 6, "CONV_2D": 8, "DILATE": 1, "FULLY_CONNECTED": 11, "GATHER": 7, "LOG": 2, "REDUCE_WINDOW": 1,
            "RSQRT": 3, "STABLEHLO_RNG_BIT_GENERATOR": 1, "STABLEHLO_SCATTER": 1, "TRANSPOSE_CONV": 5,
        },
    ),
    (
        "TensorFlow Lite 2.16",
        "TensorFlow Lite 2.15",
        {
            "GATHER_ND": 5, "STABLEHLO_ADD": 1, "STABLEHLO_GATHER": 1, "STABLEHLO_MAXIMUM": 1, "STABLEHLO_MINIMUM": 1,
            "STABLEHLO_MULTIPLY": 1, "STABLEHLO_PAD": 1, "STABLEHLO_REDUCE_WINDOW": 1,
        },
    ),
    ("TensorFlow Lite 2.17", "TensorFlow Lite 2.16", {"FULLY_CONNECTED": 12}),
    (
        "LiteRT 1.0",
        "TensorFlow Lite 2.17",
        {"DEQUANTIZE": 6, "DYNAMIC_UPDATE_SLICE": 2, "EMBEDDING_LOOKUP": 4, "FULLY_CONNECTED": 13, "STABLEHLO_COMPOSITE": 1},
    ),
    ("TensorFlow Lite 2.18", "LiteRT 1.0", {"STABLEHLO_AND": 1, "STABLEHLO_SHIFT_LEFT": 1}),
    ("TensorFlow Lite 2.19", "TensorFlow Lite 2.18", {"CAST": 7, "DYNAMIC_UPDATE_SLICE": 3, "STABLEHLO_CASE": 1}),
    (
        "TensorFlow Lite 2.20",
        "TensorFlow Lite 2.19",
        {"DYNAMIC_UPDATE_SLICE": 4, "PAD": 5, "PADV2": 5, "TRANSPOSE": 7},
    ),
    (
        "TensorFlow Lite 2.21",
        "TensorFlow Lite 2.20",
        {
            "CAST": 8, "CONCATENATION": 5, "DEQUANTIZE": 7, "DYNAMIC_UPDATE_SLICE": 5, "EMBEDDING_LOOKUP": 5, "EQUAL": 5,
            "FULLY_CONNECTED": 14, "NOT_EQUAL": 4, "QUANTIZE": 4, "SLICE": 7, "SQRT": 2,
        },
    ),
    ("LiteRT 1.1", "TensorFlow Lite 2.19", {}),
    ("LiteRT 1.2", "LiteRT 1.1", {"TRANSPOSE": 7}),
    ("LiteRT 1.3", "LiteRT 1.2", {"DYNAMIC_UPDATE_SLICE": 4}),
    ("LiteRT 2.0", "LiteRT 1.3", {"PAD": 5, "PADV2": 5, "SQRT": 2}),
    (
        "LiteRT 2.1",
        "LiteRT 2.0",
        {"CAST": 8, "DEQUANTIZE": 7, "EQUAL": 5, "FULLY_CONNECTED": 14, "NOT_EQUAL": 4, "QUANTIZE": 4, "SLICE": 7},
    ),
    (
        "LiteRT 2.1.6",
        "LiteRT 2.1",
        {
            "ADD": 6, "CONCATENATION": 6, "COS": 2, "DEQUANTIZE": 8, "DYNAMIC_UPDATE_SLICE": 6, "EMBEDDING_LOOKUP": 5,
            "GELU": 3, "MUL": 8, "QUANTIZE": 6, "SIN": 2, "SLICE": 8, "SOFTMAX": 4, "TRANSPOSE": 9, "UNPACK": 5,
        },
    ),
    (
        "LiteRT 2.2",
        "LiteRT 2.1.6",
        {
            "BROADCAST_TO": 4, "CAST": 9, "CONCATENATION": 7, "DEQUANTIZE": 9, "FILL": 5, "GATHER": 8, "GATHER_ND": 6,
            "PACK": 5, "PAD": 6, "PADV2": 6, "REVERSE_V2": 4, "SPLIT": 5, "SPLIT_V": 3, "UNPACK": 6,
        },
    ),
)  # fmt: skip
"""A release, the release that it is described against, and what it registers otherwise."""


def _registered() -> dict[str, Mapping[str, int]]:
    releases: dict[str, Mapping[str, int]] = {"TensorFlow Lite 2.12": _TENSORFLOW_2_12}
    for release, base, changes in _CHANGES:
        releases[release] = {**releases[base], **changes}
    return releases


REGISTERED: dict[str, Mapping[str, int]] = _registered()
"""Release → operation → the highest version that it registers. A release does not know an operation that is missing."""
