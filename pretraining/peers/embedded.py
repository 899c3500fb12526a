"""Logistic regression on the vectors of all-MiniLM-L6-v2, whose weights stay as they are."""

from __future__ import annotations

import numpy as np

from pretraining.peers.job import Answer, Job, Rows
from pretraining.peers.logistic import fitted
from pretraining.peers.minilm import MiniLM


def run(job: Job) -> Answer:
    """`recipe`: `C`, the values that are tried. The vectors have length 1, as sentence-transformers returns them."""
    encoder = MiniLM()

    def vectors(rows: Rows) -> np.ndarray:
        found = encoder.vectors(encoder.tokens(rows))
        unit: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
        return unit

    model, chosen = fitted(job, lambda head: head, vectors)
    predicted = list(model.predict(vectors(job.test)))
    return Answer(predicted, {"C": chosen}, encoder.sha256, encoder.device_name, encoder.bfloat16)
