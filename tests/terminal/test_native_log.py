"""How TensorFlow is started, each time in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_START = """
import os, sys
from textclf.terminal.native_log import load_tensorflow

load_tensorflow(in_command=True)
print(any(name.partition(".")[0] == "keras" for name in sys.modules), os.environ.get("TF_USE_LEGACY_KERAS"))
import tensorflow as tf

print(tf.keras.__version__.partition(".")[0], tf.keras.layers.Dense(2)(tf.ones([1, 3])).shape)
"""


def test_a_command_starts_without_keras_which_is_still_there() -> None:
    pytest.importorskip("tensorflow")
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run([sys.executable, "-c", _START], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False None", "3 (1, 2)"]
