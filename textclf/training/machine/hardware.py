"""Chooses devices and precision: a distribution strategy, and the precision of matrix products in training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import tensorflow as tf

from textclf.errors import RunError

# What /proc/cpuinfo calls the instructions that multiply bfloat16. Compared with float32 products, those of AVX-512 reach half
# the rate on Intel (160 and 290 GFLOP/s on two cores of a Xeon of the fifth generation) and twice the rate on AMD (380 and
# 199 GFLOP/s on two cores of a Zen 4).
_MATRIX_UNIT, _VECTOR_INSTRUCTION, _INTEL = "amx_bf16", "avx512_bf16", "GenuineIntel"

_PROCESSOR = Path("/proc/cpuinfo")

# NVIDIA's Ampere, the first with bfloat16 tensor cores.
_BFLOAT16_CAPABILITY = (8, 0)


def chosen_precision(wanted: Literal["auto", "float32", "bfloat16"]) -> Literal["float32", "bfloat16"]:
    """Returns the precision for `training.precision`; `auto` is the one that the hardware multiplies faster."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if _bfloat16_is_faster() else "float32"


def _bfloat16_is_faster() -> bool:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in gpus]
        return all(capability is not None and capability >= _BFLOAT16_CAPABILITY for capability in capabilities)
    try:
        words = set(_PROCESSOR.read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return False
    return _MATRIX_UNIT in words or (_VECTOR_INSTRUCTION in words and _INTEL not in words)


def distribution_strategy() -> tf.distribute.Strategy:
    """TensorFlow's default for one GPU or none; with several, each has a copy of the model."""
    gpus = tf.config.list_logical_devices("GPU")
    return mirrored([gpu.name for gpu in gpus]) if len(gpus) > 1 else tf.distribute.get_strategy()


def device_name(strategy: tf.distribute.Strategy) -> str:
    """CPU, GPU, or `2 GPUs`: what messages and the log call the hardware."""
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    replicas = strategy.num_replicas_in_sync
    return kind if replicas == 1 else f"{replicas} {kind}s"


def mirrored(devices: list[str]) -> tf.distribute.Strategy:
    """One replica on each device. Gradients are summed in a fixed order, so that two runs have the same weights."""
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())


_used_in: int | None = None


def use_tensorflow(what: str) -> None:
    """Must be called before TensorFlow computes anything; `what` is a verb for messages, such as train.

    Raises RunError in a process that was forked after TensorFlow had been used in its parent.
    """
    global _used_in
    if _used_in is not None and _used_in != os.getpid():
        raise RunError(
            f"this process was forked from one that had used TensorFlow, so it cannot {what}: it would wait forever; "
            'start it as a new process, with subprocess or multiprocessing.get_context("spawn")'
        )
    _used_in = os.getpid()
