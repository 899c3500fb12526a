"""TFLite Model Maker 0.4.3 in a separate environment, as a training engine and as a baseline for comparisons."""

from __future__ import annotations
