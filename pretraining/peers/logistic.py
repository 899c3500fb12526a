"""Logistic regression whose C is chosen on validation rows, or by cross-validation where there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from pretraining.peers.job import Job, Rows

_FOLDS, _MOST_ITERATIONS = 5, 2000


def fitted(
    job: Job, made: Callable[[BaseEstimator], Any], inputs: Callable[[Rows], Sequence[Any] | np.ndarray]
) -> tuple[Any, float]:
    """Returns the model fitted to the training rows, and its C: the first of the best of `recipe["C"]`.

    `made` puts what computes the features before the regression; `inputs` are what it is fitted to.
    """
    models = {value: made(LogisticRegression(C=value, max_iter=_MOST_ITERATIONS)) for value in job.recipe["C"]}
    rows, labels = inputs(job.train), np.array(job.train.labels)
    if job.validation is not None:
        unseen = inputs(job.validation)
        accuracies = {}
        for value, model in models.items():
            models[value] = clone(model).fit(rows, labels)
            accuracies[value] = float(np.mean(models[value].predict(unseen) == np.array(job.validation.labels)))
        chosen = max(accuracies, key=accuracies.__getitem__)
        return models[chosen], chosen
    folds = StratifiedKFold(min(_FOLDS, min(Counter(job.train.labels).values())), shuffle=True, random_state=job.seed)
    losses = {
        value: GridSearchCV(model, {}, scoring="neg_log_loss", cv=folds).fit(rows, labels).best_score_
        for value, model in models.items()
    }
    chosen = max(losses, key=losses.__getitem__)
    return clone(models[chosen]).fit(rows, labels), chosen
