"""On which devices training runs: what TensorFlow sees in, the distribution strategy out."""

from __future__ import annotations

import tensorflow as tf


def distribution_strategy() -> tf.distribute.Strategy:
    """TensorFlow's default for one GPU or none; a copy of the model on each where there are several."""
    gpus = tf.config.list_logical_devices("GPU")
    return mirrored([gpu.name for gpu in gpus]) if len(gpus) > 1 else tf.distribute.get_strategy()


def mirrored(devices: list[str]) -> tf.distribute.Strategy:
    """One replica on each device. Copies meet in a fixed order, so that two runs give the same weights."""
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())
