"""Rounds weights to 8 and 4 bits: returns the values and scales of a matrix, and reduces the loss of accuracy.

The changes before rounding are exact: the function stays the same, and its weights need fewer bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from textclf.encoders.checkpoint import MobileBertConfig
from textclf.errors import ModelError

# How much the scales of the units between two products are equalised: 0 changes nothing; 1 makes the range of all rows of
# the second product equal, at the cost of the first product, which has a separate scale for each output.
_BALANCE = 0.5

# Candidates for the largest 4-bit value, as fractions of a row's largest value.
_CLIPPING_SHARES = np.linspace(0.4, 1.0, 13)

# The value that is added to the variance of every input, as a fraction of their mean.
_DAMPING = 0.05

# The number of columns whose corrections are applied to later columns together, as one product.
_BLOCK = 64

# Rows whose values are all closer to zero are rounded to zero.
_SMALLEST_RANGE = 100 * float(np.finfo(np.float32).tiny)


def require_finite_weights(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ModelError that names the first array, its place in the model, that holds NaN or infinity."""
    for name, array in arrays.items():
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise ModelError(
                f"{bad:,} of the {array.size:,} weights of `{name}` are NaN or infinite, so no model can be written; train "
                "again with a lower training.learning_rate, or from another encoder"
            )


def quantize_rows(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float [rows, columns] → int8 values and a float32 scale for each row, symmetric, largest value at ±127.

    Raises ModelError for a matrix that holds NaN or infinity.
    """
    require_finite_weights({"matrix": matrix})
    scales = np.abs(matrix).max(axis=1).astype(np.float32) / np.float32(127.0)
    scales = np.where(scales < np.finfo(np.float32).tiny, np.float32(1.0), scales)
    return np.clip(np.rint(matrix / scales[:, None]), -127, 127).astype(np.int8), scales


def quantize_rows_to_4_bits(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float [rows, columns] → int8 values within ±7 and a float32 scale for each row; raises as `quantize_rows`."""
    require_finite_weights({"matrix": matrix})
    scales = _scales_for_4_bits(matrix, np.ones(matrix.shape[1]))
    return np.clip(np.rint(matrix / scales[:, None]), -7, 7).astype(np.int8), scales


def quantize_rows_for_inputs(matrix: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Does the same as `quantize_rows_to_4_bits` for a matrix that is multiplied with inputs of this covariance
    [columns, columns].

    This minimises the error of the product, not of each weight: the columns that are not yet rounded correct the error
    of a rounded column as far as they correlate with it (GPTQ, arXiv 2210.17323; columns of large inputs come first).
    Raises ModelError where the matrix or the covariance holds NaN or infinity.
    """
    require_finite_weights({"matrix": matrix, "covariance": covariance})
    columns = matrix.shape[1]
    variances = np.diag(covariance)
    scales = _scales_for_4_bits(matrix, variances)
    order = np.argsort(-variances, kind="stable")
    # Inputs are rounded to 8 bits, and other rows vary differently. Therefore no direction may have zero variance.
    steadied = covariance[np.ix_(order, order)] + np.eye(columns) * (_DAMPING * variances.mean() or 1.0)
    # Row i of the upper factor tells how the columns after i are changed for an error in column i.
    factor = np.linalg.cholesky(np.linalg.inv(steadied)).T
    # One row for each column of the matrix. The rows are processed one after the other.
    left = matrix.T[order].astype(np.float64)
    values = np.zeros(left.shape, np.int8)
    for begin in range(0, columns, _BLOCK):
        end = min(begin + _BLOCK, columns)
        errors = np.zeros((end - begin, len(matrix)))
        for column in range(begin, end):
            values[column] = np.clip(np.rint(left[column] / scales), -7, 7)
            error = (left[column] - values[column] * scales) / factor[column, column]
            left[column + 1 : end] -= np.outer(factor[column, column + 1 : end], error)
            errors[column - begin] = error
        left[end:] -= factor[begin:end, end:].T @ errors
    unordered = np.zeros_like(values)
    unordered[order] = values
    return np.ascontiguousarray(unordered.T), scales


def _scales_for_4_bits(matrix: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """Returns the scale for each row with the least squared error among some candidates, with columns weighted by
    `importance`.

    With so few steps, clipping the largest values often costs less than a coarser step that includes them.
    """
    largest = np.abs(matrix).max(axis=1).astype(np.float32)
    # Below this, a fraction of it is too small for a float32 division.
    largest = np.where(largest < _SMALLEST_RANGE, np.float32(7.0), largest)
    least = np.full(len(matrix), np.inf)
    scales = np.ones(len(matrix), np.float32)
    for share in _CLIPPING_SHARES:
        candidate = largest * np.float32(share / 7.0)
        rounded = np.clip(np.rint(matrix / candidate[:, None]), -7, 7) * candidate[:, None]
        error = np.square(matrix - rounded) @ importance
        scales = np.where(error < least, candidate, scales)
        least = np.minimum(error, least)
    return scales


def balance_encoder(config: MobileBertConfig, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the same encoder with the scales of inner units evened out (cross-layer equalisation, arXiv 1906.04721).

    relu(x W₁ + b₁) W₂ = relu((x W₁ + b₁) s) (W₂ / s) for any s > 0; the same holds between value and attention output,
    because only a weighted sum is between them. A unit with unusually large outgoing weights no longer sets the scale
    of all.
    """
    balanced = dict(weights)

    def balance(first: str, second: str) -> None:
        outgoing = np.abs(balanced[f"{second}/kernel"]).max(axis=1)
        scale = np.where(outgoing > 0, outgoing, 1.0) ** _BALANCE
        balanced[f"{first}/kernel"] = balanced[f"{first}/kernel"] * scale
        balanced[f"{first}/bias"] = balanced[f"{first}/bias"] * scale
        balanced[f"{second}/kernel"] = balanced[f"{second}/kernel"] / scale[:, None]

    for layer in range(config.num_hidden_layers):
        prefix = f"encoder/layer_{layer}"
        balance(f"{prefix}/attention/self/value", f"{prefix}/attention/output/dense")
        networks = [f"{prefix}/ffn_layer_{network}" for network in range(config.num_feedforward_networks - 1)]
        for network in [*networks, prefix]:
            balance(f"{network}/intermediate/dense", f"{network}/output/dense")
    return balanced
