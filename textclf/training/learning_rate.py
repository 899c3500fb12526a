"""The learning rate rises linearly during warm-up, then falls linearly to zero, as MobileBERT was fine-tuned
(google-research mobilebert/optimization.py). Needs no TensorFlow."""

from __future__ import annotations


def scheduled_learning_rate(step: int, total_steps: int, peak: float, warmup: float) -> float:
    """Returns the learning rate of step 0, 1, …; `warmup` is the share of `total_steps` during which it rises.

    It is 0 from `total_steps` on: an epoch can have one batch more than the first one, from which the total is estimated.
    """
    warmup_steps = round(total_steps * warmup)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * max(total_steps - step, 0) / max(total_steps - warmup_steps, 1)
