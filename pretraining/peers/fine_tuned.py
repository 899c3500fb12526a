"""all-MiniLM-L6-v2 fine-tuned like textclf's encoders: the head is fitted first, rows are grouped by length, the learning
rate rises over a tenth of the steps and then falls to 0, and the best epoch on the validation rows is measured.

Where the recipe has several learning rates, all are tried, and the best one on the validation rows is used.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from pretraining.peers.job import Answer, Job
from pretraining.peers.minilm import MiniLM, by_length

DROPOUT, WEIGHT_DECAY, WARM_UP, CLIP_NORM = 0.1, 0.01, 0.1, 1.0

# Rows of so many batches are sorted by length together.
_BATCHES_SORTED = 50


class Classifier(torch.nn.Module):
    """A dense layer on the mean vector."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.encoder = MiniLM()
        self.head = torch.nn.Linear(self.encoder.width, labels).to(self.encoder.device)

    def forward(self, rows: Sequence[dict[str, list[int]]]) -> torch.Tensor:
        return self.head(torch.nn.functional.dropout(self.encoder(rows), DROPOUT, self.training))

    def fit_head(self, rows: Sequence[dict[str, list[int]]], labels: np.ndarray) -> None:
        """Starts with logistic regression on the vectors of the encoder as it came."""
        fitted = LogisticRegression(max_iter=1000).fit(self.encoder.vectors(rows), labels)
        kernel, bias = fitted.coef_, fitted.intercept_
        if len(kernel) == 1:
            kernel, bias = np.concatenate([-kernel, kernel]) / 2, np.concatenate([-bias, bias]) / 2
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(kernel))
            self.head.bias.copy_(torch.from_numpy(bias))

    @torch.no_grad()
    def logits(self, rows: Sequence[dict[str, list[int]]]) -> torch.Tensor:
        """Returns logits float32 [rows, labels] without dropout."""
        self.eval()
        logits = torch.zeros(len(rows), self.head.out_features)
        for places in by_length(rows):
            logits[places] = self([rows[place] for place in places]).cpu()
        return logits

    def quality(self, rows: Sequence[dict[str, list[int]]], labels: np.ndarray) -> tuple[float, float]:
        """What makes an epoch the best, as in textclf: the highest accuracy; among equals the lowest loss."""
        logits, truth = self.logits(rows), torch.from_numpy(labels)
        accuracy = (logits.argmax(1) == truth).float().mean()
        return float(accuracy), -float(torch.nn.functional.cross_entropy(logits, truth))


@dataclass(frozen=True)
class Trained:
    """The best epoch of a training: its quality on the validation rows and its weights. Epoch 0 has only the fitted head."""

    learning_rate: float
    quality: tuple[float, float]
    epoch: int
    weights: dict[str, torch.Tensor]
    seconds: float


def run(job: Job) -> Answer:
    """`recipe`: `epochs`, `batch_size` and `learning_rates`. Needs validation rows."""
    assert job.validation is not None
    names = sorted(set(job.train.labels))
    model = Classifier(len(names))
    encoder = model.encoder
    train, validation, test = (encoder.tokens(rows) for rows in (job.train, job.validation, job.test))
    labels = np.array([names.index(label) for label in job.train.labels])
    truth = np.array([names.index(label) for label in job.validation.labels])
    model.fit_head(train, labels)
    start = _copied(model)
    trainings = []
    for rate in job.recipe["learning_rates"]:
        model.load_state_dict(start)
        trainings.append(_train(model, train, labels, validation, truth, rate, job))
    best = max(trainings, key=lambda training: training.quality)
    model.load_state_dict(best.weights)
    chosen: dict[str, Any] = {
        "learning_rate": best.learning_rate,
        "epoch": best.epoch,
        "accuracies": {str(training.learning_rate): training.quality[0] for training in trainings},
        "training_seconds": round(best.seconds, 1),
    }
    predicted = [names[index] for index in model.logits(test).argmax(1)]
    return Answer(predicted, chosen, encoder.sha256, encoder.device_name, encoder.bfloat16)


def _train(
    model: Classifier,
    rows: Sequence[dict[str, list[int]]],
    labels: np.ndarray,
    validation: Sequence[dict[str, list[int]]],
    truth: np.ndarray,
    learning_rate: float,
    job: Job,
) -> Trained:
    started = time.monotonic()
    torch.manual_seed(job.seed)
    random = np.random.default_rng(job.seed)
    epochs, batch_size = job.recipe["epochs"], job.recipe["batch_size"]
    steps = epochs * -(-len(rows) // batch_size)
    decayed = [value for value in model.parameters() if value.ndim > 1]
    others = [value for value in model.parameters() if value.ndim == 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    warm_up = WARM_UP * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / max(warm_up, 1.0), (steps - step) / max(steps - warm_up, 1.0))
    )
    best = model.quality(validation, truth), 0, _copied(model)
    for epoch in range(1, epochs + 1):
        model.train()
        for places in batches(rows, batch_size, random):
            logits = model([rows[place] for place in places])
            targets = torch.from_numpy(labels[places]).to(logits.device)
            torch.nn.functional.cross_entropy(logits, targets).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        quality = model.quality(validation, truth)
        if quality > best[0]:
            best = quality, epoch, _copied(model)
    return Trained(learning_rate, *best, time.monotonic() - started)


def _copied(model: Classifier) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def batches(rows: Sequence[dict[str, list[int]]], batch_size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Every row once, in random batches of similar length."""
    lengths = np.array([len(row["input_ids"]) for row in rows])
    order = random.permutation(len(rows))
    sorted_together = batch_size * _BATCHES_SORTED
    batches: list[np.ndarray] = []
    for start in range(0, len(order), sorted_together):
        part = order[start : start + sorted_together]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[place : place + batch_size] for place in range(0, len(part), batch_size)]
    for place in random.permutation(len(batches)):
        yield batches[place]
