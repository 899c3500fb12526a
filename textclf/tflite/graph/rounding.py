"""Eight- and four-bit weights: values and scales of a matrix, and what is done so that little is lost.

The changes made beforehand are exact: the same function with weights that few bits hold better.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from textclf.encoders.checkpoint import MobileBertConfig
from textclf.errors import ModelError

# How far the scales of the units between two products are evened out: 0 leaves them, 1 gives all rows of the second
# product one range and leaves the first, whose outputs have scales of their own, to bear it.
_BALANCE = 0.5

# Shares of a row's largest value at which 4 bits may end.
_CLIPPING_SHARES = np.linspace(0.4, 1.0, 13)

# What is added to the variance of every input, as a share of their mean.
_DAMPING = 0.05

# Columns whose corrections reach the columns behind them together, as one product.
_BLOCK = 64

# Rows whose values all lie nearer to zero are rounded to zero.
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
    """As `quantize_rows_to_4_bits`, for a matrix that is multiplied with inputs of this covariance [columns, columns].

    Not each weight but the product stays near: what rounding a column does to it, the columns still to be rounded make
    up for as far as they go together with it (GPTQ, arXiv 2210.17323; columns of large inputs come first). Raises
    ModelError where the matrix or the covariance holds NaN or infinity.
    """
    require_finite_weights({"matrix": matrix, "covariance": covariance})
    columns = matrix.shape[1]
    variances = np.diag(covariance)
    scales = _scales_for_4_bits(matrix, variances)
    order = np.argsort(-variances, kind="stable")
    # Inputs are rounded to 8 bits on the way, and other rows vary otherwise: trust no direction to stand still.
    steadied = covariance[np.ix_(order, order)] + np.eye(columns) * (_DAMPING * variances.mean() or 1.0)
    # Row i of the upper factor tells how the columns after i are changed for an error in column i.
    factor = np.linalg.cholesky(np.linalg.inv(steadied)).T
    # One row for each column of the matrix: they are worked through one by one.
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
    """The scale for each row that of some candidates leaves the least squared error, columns weighted by `importance`.

    With so few steps, cutting the largest values off is often cheaper than the coarser step that would hold them.
    """
    largest = np.abs(matrix).max(axis=1).astype(np.float32)
    # Below that, a share of it is no number that float32 can divide by.
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
    """The same encoder with the scales of inner units evened out (cross-layer equalisation, arXiv 1906.04721).

    relu(x W₁ + b₁) W₂ = relu((x W₁ + b₁) s) (W₂ / s) for any s > 0; the same holds between value and attention output,
    which only a weighted sum parts. A unit with unusually large outgoing weights no longer sets the scale of all.
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
