from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny import tiny_checkpoint
from textclf.encoders.formats import tf1_hub
from textclf.encoders.mobilebert import Encoder
from textclf.model_maker.hub_module import write_hub_module

_FORMS = [
    {},
    {"mask_convention": "scaled"},
    {"classifier_activation": True},
    {"use_bottleneck_attention": True},
    {"key_query_shared_bottleneck": False, "num_feedforward_networks": 1},
]


@pytest.mark.parametrize("form", _FORMS, ids=str)
def test_a_module_computes_what_the_encoder_does(form: dict, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(**form)
    write_hub_module(tmp_path / "module", checkpoint)
    random = np.random.default_rng(0)
    ids = random.integers(0, len(checkpoint.vocabulary), (3, 12)).astype(np.int32)
    mask, segments = np.ones_like(ids), np.zeros_like(ids)
    mask[1, 7:], segments[2, 5:] = 0, 1
    tokens = tf.saved_model.load(str(tmp_path / "module"), tags=[]).signatures["tokens"]
    output = tokens(input_ids=tf.constant(ids), input_mask=tf.constant(mask), segment_ids=tf.constant(segments))
    expected = Encoder(checkpoint).encode(ids, mask, segments)
    np.testing.assert_allclose(output["pooled_output"], expected.pooled_output, atol=2e-6)
    np.testing.assert_allclose(output["sequence_output"], expected.sequence_output, atol=2e-6)


def test_a_module_is_read_back_as_the_same_encoder(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(mask_convention="scaled")
    write_hub_module(tmp_path / "module", checkpoint)
    found = tf1_hub.read(tmp_path / "module")
    assert found.config == checkpoint.config
    assert found.vocabulary == checkpoint.vocabulary
    assert found.mask_convention == "scaled"
    assert found.do_lower_case is True
    for name, array in checkpoint.weights.items():
        np.testing.assert_array_equal(found.weights[name], array)
    assert (tmp_path / "module" / "tfhub_module.pb").read_bytes() == b"\x08\x03"
