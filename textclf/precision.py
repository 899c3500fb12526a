"""In which precision dense layers are multiplied in training: the recipe's word in, a matrix product out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tensorflow as tf

from textclf.encoders.mobilebert import Product, bfloat16_product

# What /proc/cpuinfo calls the instructions that multiply bfloat16.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
# NVIDIA's Ampere, the first with bfloat16 tensor cores.
_BFLOAT16_CAPABILITY = (8, 0)


def chosen_precision(wanted: Literal["auto", "float32", "bfloat16"]) -> Literal["float32", "bfloat16"]:
    """What `auto` means on this machine: bfloat16 where hardware multiplies it."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if _multiplies_bfloat16() else "float32"


def matrix_product(precision: Literal["float32", "bfloat16"]) -> Product:
    """Evaluation and export always use float32; this is for training steps."""
    return bfloat16_product if precision == "bfloat16" else tf.matmul


def _multiplies_bfloat16() -> bool:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in gpus]
        return all(capability is not None and capability >= _BFLOAT16_CAPABILITY for capability in capabilities)
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False
    return not _BFLOAT16_FLAGS.isdisjoint(flags)
