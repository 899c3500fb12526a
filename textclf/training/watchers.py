"""What goes wrong in trainings, noticed and said in plain words: losses and validation results in, troubles out.

The recipe's `training.watchers` says what a trouble does; this module only finds it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RECENT_STEPS = 10
"""Steps whose mean loss is watched: a single batch says little."""

# A model that learned anything stays below the first, one that is thrown about goes above the second.
_STUCK_SHARE = 0.98

_CLIMBED_SHARE = 1.5

# A validation loss within this of its lowest value is noise.
_RISEN_SHARE = 1.05


@dataclass(frozen=True)
class Trouble:
    """`watcher` is the key in `training.watchers`, `message` what is wrong and what to do."""

    watcher: str
    message: str


def guessing_loss(row_counts: np.ndarray, weights: np.ndarray, smoothing: float) -> float:
    """The training loss in nats of the best model that does not read the text.

    `row_counts` are the rows and `weights` the weight of a row by label; mean weight 1. It is the entropy of the labels'
    shares after weighting and smoothing.
    """
    shares = row_counts * weights / (row_counts * weights).sum()
    targets = shares * (1 - smoothing) + smoothing / len(shares)
    targets = targets[targets > 0]
    return float(-(targets * np.log(targets)).sum())


def after_step(
    recent_losses: Sequence[float], guessing: float, learning_rate: float, gradient_norm: float | None = None
) -> Trouble | None:
    """`recent_losses` are those of the last steps, the newest last; `learning_rate` is the recipe's; `gradient_norm` is the
    last step's, None where it is not known."""
    if recent_losses and not math.isfinite(recent_losses[-1]):
        return _divergence(f"the loss is {recent_losses[-1]}", learning_rate)
    if gradient_norm is not None and not math.isfinite(gradient_norm):
        return _divergence(f"the norm of the gradients is {gradient_norm}", learning_rate)
    recent = recent_losses[-RECENT_STEPS:]
    if len(recent) == RECENT_STEPS and np.mean(recent) > _CLIMBED_SHARE * guessing:
        return Trouble(
            "learning_rate",
            f"the loss of the last {RECENT_STEPS} steps is {np.mean(recent):.3g} on average, well above the "
            f"{guessing:.3g} of guessing: the learning rate is too high; lower training.learning_rate "
            f"(now {learning_rate:g}) or raise training.warmup",
        )
    return None


def diverged(
    training_loss: float, validation_logits: np.ndarray, bad_array: str | None, learning_rate: float
) -> Trouble | None:
    """What makes an epoch's model no model: its mean training loss, its logits [rows, labels] on validation, or an array
    of its weights, `bad_array` by name, is NaN or infinite."""
    if not math.isfinite(training_loss):
        return _divergence(f"the mean training loss of the epoch is {training_loss}", learning_rate)
    if bad_array is not None:
        return _divergence(f"the weights `{bad_array}` hold NaN or infinity", learning_rate)
    bad = int(np.count_nonzero(~np.isfinite(validation_logits).all(axis=1)))
    if bad:
        rows = f"{bad:,} of {len(validation_logits):,} validation rows"
        return _divergence(f"the model returns NaN or infinity for {rows}", learning_rate)
    return None


def _divergence(found: str, learning_rate: float) -> Trouble:
    return Trouble(
        "not_finite",
        f"{found}: the training has diverged; lower training.learning_rate (now {learning_rate:g}) or raise training.warmup",
    )


def after_epoch(
    history: Sequence[Mapping[str, Any]], predicted_labels: Sequence[str], true_labels: int, guessing: float
) -> list[Trouble]:
    """`history` holds `training_loss` and `validation_loss` by epoch, `predicted_labels` the different labels that the
    validation rows were given, `true_labels` how many different ones they have. Called once the warm-up is over."""
    troubles = []
    if len(predicted_labels) == 1 and true_labels > 1:
        troubles.append(
            Trouble(
                "one_class",
                f"every validation row is given the label `{predicted_labels[0]}`; train for more epochs, with a higher "
                "training.learning_rate, or with training.class_weights=balanced where that label is by far the commonest",
            )
        )
    latest = history[-1]
    if latest["training_loss"] >= _STUCK_SHARE * guessing:
        troubles.append(
            Trouble(
                "stuck",
                f"the training loss is {latest['training_loss']:.3g} after epoch {latest['epoch']}, hardly below the "
                f"{guessing:.3g} of guessing: nothing was learned from the texts; check that dataset.text and "
                "dataset.label name the right columns, raise training.learning_rate, or train for more epochs",
            )
        )
    if (overfitting := _overfitting(history)) is not None:
        troubles.append(overfitting)
    return troubles


def _overfitting(history: Sequence[Mapping[str, Any]]) -> Trouble | None:
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
        f"(epoch {history[-1]['epoch']}) while the training loss fell to {training[2]:.3g}: the model learns the rows "
        "by heart; train for fewer epochs, set training.early_stopping, or add rows",
    )
