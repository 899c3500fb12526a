"""TFLite Model Maker 0.4.3 as a training engine, in an environment of its own, and as the baseline to compare with."""

from __future__ import annotations
