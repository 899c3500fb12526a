"""Trains some recipes of one encoder on one set side by side, like textclf/training/loop.py: returns the scores of each.

The head is fitted first and measured as epoch 0; the epoch with the best validation accuracy is measured, among equals the
one with the lowest loss.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pretraining.attention import chosen_kernels
from pretraining.fine_tuning import stack as maths
from pretraining.fine_tuning.optimizer import AdamW
from pretraining.fine_tuning.recipes import FineTuning
from pretraining.fine_tuning.stack import Dropout, Stack
from pretraining.fine_tuning.tokens import Rows, TokenSet
from pretraining.rows import Texts
from textclf.classify.metrics import Metrics, evaluate, softmax
from textclf.data.tokens.batching import Batch, evaluation_batches, training_batches
from textclf.data.tokens.encoded import pad
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.training.classification.head import fit_best_head
from textclf.training.classification.measured_rows import measured_rows
from textclf.training.features import standardisation
from textclf.training.learning_rate import scheduled_learning_rate

# Rows times runs that are computed at once without gradients, by the type of device.
_MEASURED_AT_ONCE = {"cuda": 1024}
_MEASURED_AT_ONCE_ELSEWHERE = 128


def _measured_at_once(device: torch.device) -> int:
    return _MEASURED_AT_ONCE.get(device.type, _MEASURED_AT_ONCE_ELSEWHERE)


class DeviceRows:
    """The rows of one part on a device, all padded to `max_length`; batches are cut out of them there."""

    def __init__(self, rows: Rows, max_length: int, device: torch.device) -> None:
        self.lengths = rows.encoded.lengths
        tokens = pad(rows.encoded, np.arange(len(rows)), max_length)
        self._ids, self._segments = (torch.from_numpy(part).to(device) for part in (tokens.ids, tokens.segments))
        self._mask = torch.from_numpy(tokens.mask.astype(bool)).to(device)
        self.labels = torch.from_numpy(rows.labels).to(device)
        self.device = device

    def batches(self, planned: Sequence[Batch], twice: bool = False) -> Iterator[tuple[Texts, Tensor]]:
        """Yields the texts and the labels of each batch; with `twice`, every row comes a second time after all others."""
        order = torch.from_numpy(np.concatenate([batch.rows for batch in planned])).to(self.device)
        start = 0
        for batch in planned:
            rows = order[start : start + len(batch.rows)]
            start += len(batch.rows)
            chosen = torch.cat([rows, rows]) if twice else rows
            ids, mask, segments = (
                part[:, : batch.length].index_select(0, chosen) for part in (self._ids, self._mask, self._segments)
            )
            yield Texts(ids.long(), mask, segments.long()), self.labels[rows]


@dataclass(frozen=True)
class FirstHead:
    """What the untrained encoder's outputs for the training rows decide, whatever the recipe."""

    mean: np.ndarray
    scale: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray


def fit_first_head(encoder: EncoderCheckpoint, data: TokenSet, device: torch.device) -> FirstHead:
    """Standardises the outputs and fits the head, with textclf's own functions."""
    labels, count = data.train.labels, len(data.label_names)
    rows = measured_rows(labels, count)
    nothing = np.zeros((encoder.width, count), np.float32), np.zeros(count, np.float32)
    stack = Stack.of(maths.arrays_of_run(encoder, *nothing), encoder.layers, 1, None, device)
    on_device = DeviceRows(data.train, data.max_length, device)
    planned = [
        Batch(rows[batch.rows], batch.length)
        for batch in evaluation_batches(on_device.lengths[rows], _measured_at_once(device), data.max_length)
    ]
    outputs = np.zeros((len(labels), encoder.width), np.float32)
    with torch.no_grad(), chosen_kernels(device):
        for batch, (texts, _) in zip(planned, on_device.batches(planned), strict=True):
            outputs[batch.rows] = maths.pooled(stack, encoder.config, texts)[0].cpu().numpy()
    measured = outputs[rows]
    mean, scale = (part.astype(np.float32) for part in standardisation(measured))
    head = fit_best_head((measured - mean) * scale, labels[rows], np.ones(len(rows), np.float32), count)
    return FirstHead(mean, scale, head.kernel, head.bias)


@dataclass
class Trained:
    """One run: the metrics of the best epoch on the measured rows; `validation` has the accuracy of each epoch from 0 on."""

    metrics: Metrics
    best_epoch: int
    validation: list[float]
    losses: list[float] = field(default_factory=list)


class SideBySide:
    """The runs of some recipes for which `FineTuning.together` is equal, with one seed."""

    def __init__(
        self,
        encoder: EncoderCheckpoint,
        data: TokenSet,
        head: FirstHead,
        recipes: Sequence[FineTuning],
        seed: int,
        device: torch.device,
        bfloat16: bool,
    ) -> None:
        # Runs that end early are the last of the stack, so that the others are its first.
        self.order = sorted(range(len(recipes)), key=lambda index: -recipes[index].epochs)
        self.recipes = [recipes[index] for index in self.order]
        self.encoder, self.data, self.seed, self.bfloat16 = encoder, data, seed, bfloat16
        self.device = device
        self.train, self.validation, self.test = (
            DeviceRows(rows, data.max_length, device) for rows in (data.train, data.validation, data.test)
        )
        arrays = maths.arrays_of_run(encoder, head.kernel, head.bias)
        self.stack = Stack.of(arrays, encoder.layers, len(recipes), self.recipes[0].freeze, device)
        self.constants = torch.from_numpy(head.mean).to(device), torch.from_numpy(head.scale).to(device)
        self.optimizer = AdamW(self.stack, self.recipes)
        rate = self.recipes[0].attention_dropout
        self.attention_dropout = encoder.config.attention_probs_dropout_prob if rate is None else rate

    def run(self) -> list[Trained]:
        """Returns what `recipes` led to, in their order."""
        torch.manual_seed(self.seed)
        best = [part.clone() for part in (self.stack.words.detach(), self.stack.others)]
        trained = [
            Trained(metrics, 0, []) for metrics in self._measured(self.stack, self.data.validation, self.validation)
        ]
        quality = [_quality(run.metrics) for run in trained]
        for run in trained:
            run.validation.append(run.metrics.accuracy)
        rates = self._rates()
        step = 0
        for epoch in range(self.recipes[0].epochs):
            active = sum(recipe.epochs > epoch for recipe in self.recipes)
            if active < len(self.optimizer.stack):
                self.optimizer = self.optimizer.first(active)
            planned = self._planned(epoch)
            losses = self._train(planned, rates[step : step + len(planned)])
            step += len(planned)
            stack = self.optimizer.stack
            for index, metrics in enumerate(self._measured(stack, self.data.validation, self.validation)):
                run = trained[index]
                run.validation.append(metrics.accuracy)
                run.losses.append(losses[index])
                # Comparisons with NaN are false, so a run that diverged keeps an earlier epoch.
                if _quality(metrics) > quality[index]:
                    quality[index], run.best_epoch = _quality(metrics), epoch + 1
                    for kept, now in zip(best, (stack.words.detach(), stack.others), strict=True):
                        kept[index] = now[index]
        chosen = Stack(best[0], best[1], self.stack.places, self.stack.frozen)
        for run, metrics in zip(trained, self._measured(chosen, self.data.test, self.test), strict=True):
            run.metrics = metrics
        return [trained[self.order.index(index)] for index in range(len(trained))]

    def _planned(self, epoch: int) -> list[Batch]:
        size = self.recipes[0].batch_size
        return training_batches(self.train.lengths, size, self.data.max_length, seed=self.seed, epoch=epoch)

    def _rates(self) -> Tensor:
        """The learning rates, float32 [steps of the longest run, runs, 1]; as in textclf, the first epoch's steps count."""
        first = len(self._planned(0))
        steps = sum(len(self._planned(epoch)) for epoch in range(self.recipes[0].epochs))
        rates = [
            [
                scheduled_learning_rate(step, first * recipe.epochs, recipe.learning_rate, recipe.warmup)
                for recipe in self.recipes
            ]
            for step in range(steps)
        ]
        return torch.tensor(rates, dtype=torch.float32, device=self.device)[:, :, None]

    def _train(self, planned: Sequence[Batch], rates: Tensor) -> list[float]:
        """One epoch; returns the mean loss of each run."""
        stack, runs = self.optimizer.stack, len(self.optimizer.stack)
        recipes = self.recipes[:runs]
        total = torch.zeros(runs, device=self.device)
        smoothing, drops, r_drop = (
            torch.tensor([getattr(recipe, key) for recipe in recipes], device=self.device)
            for key in ("label_smoothing", "dropout", "r_drop")
        )
        dropout = Dropout(self.attention_dropout, drops[:, None, None])
        twice = recipes[0].r_drop > 0
        with chosen_kernels(self.device):
            for batch, rate, (texts, labels) in zip(planned, rates, self.train.batches(planned, twice), strict=True):
                stack.clear_gradients()
                found = maths.logits(stack, self.encoder.config, self.constants, texts, dropout, self.bfloat16)
                targets = torch.cat([labels, labels]) if twice else labels
                losses = maths.row_losses(found, targets, smoothing).mean(dim=1)
                if twice:
                    losses = losses + r_drop * maths.divergence(found).mean(dim=1)
                losses.sum().backward()
                self.optimizer.update(rate[:runs])
                total += losses.detach() * len(batch.rows)
        means: list[float] = (total / len(self.train.lengths)).tolist()
        return means

    @torch.no_grad()
    def _measured(self, stack: Stack, rows: Rows, on_device: DeviceRows) -> list[Metrics]:
        """Returns the metrics of each run, computed in float32 without dropout."""
        size = max(1, _measured_at_once(self.device) // len(stack))
        planned = evaluation_batches(on_device.lengths, size, self.data.max_length)
        with chosen_kernels(self.device):
            found = [
                maths.logits(stack, self.encoder.config, self.constants, texts)
                for texts, _ in on_device.batches(planned)
            ]
        logits = np.zeros((len(stack), len(rows), len(self.data.label_names)), np.float32)
        logits[:, np.concatenate([batch.rows for batch in planned])] = torch.cat(found, dim=1).cpu().numpy()
        return [evaluate(softmax(of_run), rows.labels, self.data.label_names) for of_run in logits]


def _quality(metrics: Metrics) -> tuple[float, float]:
    return metrics.accuracy, -metrics.loss


def synchronised_time(device: torch.device) -> float:
    """The time in seconds after everything that the device was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
