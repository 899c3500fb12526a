"""Logistic regression on TF-IDF of words and characters: what a careful user tries before any encoder."""

from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline, make_union

from pretraining.peers.job import Answer, Job
from pretraining.peers.logistic import fitted


def run(job: Job) -> Answer:
    """`recipe`: `words` and `characters`, each the shortest and the longest n-gram, and `C`, the values that are tried."""
    recipe = job.recipe
    features = make_union(
        TfidfVectorizer(
            ngram_range=tuple(recipe["words"]), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]", dtype=np.float32
        ),
        TfidfVectorizer(
            analyzer="char_wb", ngram_range=tuple(recipe["characters"]), sublinear_tf=True, dtype=np.float32
        ),
    )
    model, chosen = fitted(job, lambda head: make_pipeline(features, head), lambda rows: rows.joined)
    return Answer(list(model.predict(job.test.joined)), {"C": chosen})
