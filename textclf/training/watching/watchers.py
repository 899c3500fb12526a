"""Detects what goes wrong in training: takes losses and validation results, returns troubles with their remedy.

`reactions.py` does what the recipe's `training.watchers` says about them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textclf.errors import TrainingError

RECENT_STEPS = 10
"""The mean loss of this many steps is watched: a single batch says little."""

# Of the loss of guessing: a model that learned anything is below the first, one that diverges above the second.
_STUCK_SHARE = 0.98

_CLIMBED_SHARE = 1.5

# A validation loss up to this multiple of its lowest value is noise.
_RISEN_SHARE = 1.05


@dataclass(frozen=True)
class Trouble:
    """`watcher` is the key in `training.watchers`; `message` says what is wrong and what to do."""

    watcher: str
    message: str


def guessing_loss(row_counts: np.ndarray, weights: np.ndarray, smoothing: float) -> float:
    """Returns the training loss in nats of the best model that does not read the text.

    `row_counts` are the numbers of rows and `weights` the weights of a row, both by label; the mean weight is 1. The
    loss is the entropy of the labels' shares after weighting and smoothing.
    """
    shares = row_counts * weights / (row_counts * weights).sum()
    targets = shares * (1 - smoothing) + smoothing / len(shares)
    targets = targets[targets > 0]
    return float(-(targets * np.log(targets)).sum())


def after_step(
    recent_losses: Sequence[float], guessing: float, learning_rate: float, gradient_norm: float | None = None
) -> Trouble | None:
    """`recent_losses` are those of the last steps, the newest last; `learning_rate` is the recipe's; `gradient_norm` is
    that of the last step, or None if it is unknown."""
    if recent_losses and not math.isfinite(recent_losses[-1]):
        return _divergence(f"the loss is {recent_losses[-1]}", learning_rate)
    if gradient_norm is not None and not math.isfinite(gradient_norm):
        return _divergence(f"the norm of the gradients is {gradient_norm}", learning_rate)
    recent = recent_losses[-RECENT_STEPS:]
    if len(recent) == RECENT_STEPS and np.mean(recent) > _CLIMBED_SHARE * guessing:
        return Trouble(
            "learning_rate",
            f"the mean loss of the last {RECENT_STEPS} steps is {np.mean(recent):.3g}, well above the "
            f"{guessing:.3g} of guessing: the learning rate is too high; lower training.learning_rate "
            f"(now {learning_rate:g}) or raise training.warmup",
        )
    return None


def diverged(
    training_loss: float, validation_logits: np.ndarray, bad_array: str | None, learning_rate: float
) -> Trouble | None:
    """Returns a trouble if an epoch's model is unusable: if its mean training loss, its logits [rows, …] on the
    validation rows, or an array of its weights (its name is `bad_array`) are NaN or infinite."""
    if not math.isfinite(training_loss):
        return _divergence(f"the mean training loss of the epoch is {training_loss}", learning_rate)
    if bad_array is not None:
        return _divergence(f"the weights `{bad_array}` contain NaN or infinity", learning_rate)
    bad = len(_not_finite(validation_logits))
    if bad:
        rows = f"{bad:,} of {len(validation_logits):,} validation rows"
        return _divergence(f"the model returns NaN or infinity for {rows}", learning_rate)
    return None


def _not_finite(logits: np.ndarray) -> np.ndarray:
    """Returns the numbers of the rows of logits, [rows, …], with NaN or infinity."""
    return np.flatnonzero(~np.isfinite(logits).reshape(len(logits), -1).all(axis=1))


def _divergence(found: str, learning_rate: float) -> Trouble:
    return Trouble(
        "not_finite",
        f"{found}: the training has diverged; lower training.learning_rate (now {learning_rate:g}) or raise training.warmup",
    )


def after_epoch(
    history: Sequence[Mapping[str, Any]], predicted_labels: Sequence[str], true_labels: int, guessing: float
) -> list[Trouble]:
    """`history` has `training_loss` and `validation_loss` by epoch, from epoch 1. `predicted_labels` are the distinct
    labels predicted for the validation rows, `true_labels` is the number of distinct true labels. To be called after the
    warm-up."""
    troubles = []
    if len(predicted_labels) == 1 and true_labels > 1:
        troubles.append(
            Trouble(
                "one_class",
                f"the model predicts the label `{predicted_labels[0]}` for every validation row; train for more epochs or with "
                "a higher training.learning_rate, or, if most rows have that label, set training.class_weights=balanced",
            )
        )
    latest = history[-1]
    if latest["training_loss"] >= _STUCK_SHARE * guessing:
        troubles.append(
            Trouble(
                "stuck",
                f"the training loss is {latest['training_loss']:.3g} after epoch {latest['epoch']}, not clearly below the "
                f"{guessing:.3g} of guessing: the model learned nothing from the texts; check that dataset.text and "
                "dataset.label name the right columns, raise training.learning_rate, or train for more epochs",
            )
        )
    if (found := overfitting(history)) is not None:
        troubles.append(found)
    return troubles


def overfitting(history: Sequence[Mapping[str, Any]]) -> Trouble | None:
    """Returns a trouble if the validation loss of the last epochs rises while the training loss falls; `history` is as in
    `after_epoch`."""
    if len(history) < 3:
        return None
    validation = [entry["validation_loss"] for entry in history[-3:]]
    training = [entry["training_loss"] for entry in history[-3:]]
    best = min(history, key=lambda entry: entry["validation_loss"])
    rises = validation[0] < validation[1] < validation[2] and validation[2] > _RISEN_SHARE * best["validation_loss"]
    if not (rises and training[0] > training[1] > training[2]):
        return None
    return Trouble(
        "overfitting",
        f"the validation loss rose from {best['validation_loss']:.3g} (epoch {best['epoch']}) to {validation[2]:.3g} "
        f"(epoch {history[-1]['epoch']}) while the training loss fell to {training[2]:.3g}: the model is "
        "overfitting; train for fewer epochs, set training.early_stopping, or add rows",
    )


def require_finite(logits: np.ndarray, split: str) -> None:
    """Raises TrainingError if the logits of a split, [rows, …], contain NaN or infinity."""
    bad = _not_finite(logits)
    if len(bad):
        raise TrainingError(
            f"the trained model returns NaN or infinity for {len(bad)} of {len(logits)} {split} rows, so it cannot be used; "
            "lower training.learning_rate or raise training.warmup, and check the encoder with `textclf encoder SOURCE`"
        )
