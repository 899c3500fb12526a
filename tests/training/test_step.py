"""The training step against a plain reference, in parts, frozen, padded, and in bfloat16."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny import VOCABULARY, tiny_checkpoint
from textclf.data.tokens.encoded import Tokens
from textclf.encoders import mobilebert
from textclf.encoders.checkpoint import EncoderCheckpoint
from textclf.recipe.settings import TrainingSettings
from textclf.training.classification.task import PooledClassifier
from textclf.training.learning_rate import scheduled_learning_rate
from textclf.training.model import Part
from textclf.training.optimizer import AdamW
from textclf.training.step import TrainingStep


def checkpoint_without_dropout(**changes: object) -> EncoderCheckpoint:
    return tiny_checkpoint(attention_probs_dropout_prob=0.0, **changes)


def training(checkpoint: EncoderCheckpoint, dtype: tf.DType = tf.float32, **changes: object) -> tuple:
    settings = TrainingSettings(dropout=0.0, **changes)
    classifier = PooledClassifier(checkpoint, 2, seed=1)
    optimizer = AdamW(
        classifier.variables, settings.weight_decay, settings.clip_norm, decayed_from=settings.frozen_layers or 0
    )
    return classifier, TrainingStep(classifier, optimizer, settings, dtype)


def batch(number: int, rows: int = 8, length: int = 12) -> Part:
    random = np.random.default_rng(number)
    ids = random.integers(5, len(VOCABULARY), (rows, length)).astype(np.int32)
    mask = np.ones_like(ids)
    for row, padding in enumerate(random.integers(1, 6, rows)):
        ids[row, length - padding :] = mask[row, length - padding :] = 0
    return Part(Tokens(ids, mask, np.zeros_like(ids)), (ids[:, 0] % 2).astype(np.int32), np.ones(rows, np.float32))


def rows_of(part: Part, rows: slice | np.ndarray) -> Part:
    """Some of a part's rows."""
    return tf.nest.map_structure(lambda array: array[rows], part)


# --- A reference: one variable a checkpoint array, one layer after the other, the optimiser in numpy --------------------


def reference_logits(config, weights, ids, mask, scale):
    def dense(name, rows):
        return rows @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    def norm(name, rows):
        return rows * weights[f"{name}/FakeLayerNorm/gamma"] + weights[f"{name}/FakeLayerNorm/beta"]

    words = tf.gather(weights["embeddings/word_embeddings"], ids)
    edge = tf.zeros_like(words[:, :1])
    trigrams = tf.concat([tf.concat([words[:, 1:], edge], 1), words, tf.concat([edge, words[:, :-1]], 1)], 2)
    states = dense("embeddings/embedding_transformation", trigrams)
    states += weights["embeddings/token_type_embeddings"][0] + weights["embeddings/position_embeddings"][: ids.shape[1]]
    states = norm("embeddings", states)
    for index in range(config.num_hidden_layers):
        at = f"encoder/layer_{index}"
        layer_input = norm(f"{at}/bottleneck/input", dense(f"{at}/bottleneck/input/dense", states))
        shared = norm(f"{at}/bottleneck/attention", dense(f"{at}/bottleneck/attention/dense", states))
        heads = [
            tf.stack(tf.split(dense(f"{at}/attention/self/{kind}", source), config.num_attention_heads, -1), 1)
            for kind, source in (("query", shared), ("key", shared), ("value", states))
        ]
        scores = heads[0] @ tf.transpose(heads[1], [0, 1, 3, 2]) / np.sqrt(heads[0].shape[-1])
        attention = tf.nn.softmax(scores + (1.0 - mask[:, None, None, :]) * -10000.0) @ heads[2]
        context = tf.concat(tf.unstack(attention, axis=1), -1)
        narrow = norm(f"{at}/attention/output", dense(f"{at}/attention/output/dense", context) + layer_input)
        for network in [f"{at}/ffn_layer_{k}" for k in range(config.num_feedforward_networks - 1)] + [at]:
            inner = tf.nn.relu(dense(f"{network}/intermediate/dense", narrow))
            narrow = norm(f"{network}/output", dense(f"{network}/output/dense", inner) + narrow)
        states = norm(f"{at}/output/bottleneck", dense(f"{at}/output/bottleneck/dense", narrow) + states)
    return ((states[:, 0] - scale[0]) * scale[1]) @ weights["head/kernel"] + weights["head/bias"]


def reference_losses(checkpoint, head, batches, scale, peak, settings) -> list[float]:
    weights = {name: tf.Variable(array) for name, array in {**checkpoint.weights, **head}.items()}
    first = {name: np.zeros(variable.shape, np.float32) for name, variable in weights.items()}
    second = {name: np.zeros(variable.shape, np.float32) for name, variable in weights.items()}

    @tf.function
    def backward(ids, mask, labels):
        with tf.GradientTape() as tape:
            logits = reference_logits(checkpoint.config, weights, ids, tf.cast(mask, tf.float32), scale)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
        gradients = tape.gradient(loss, weights)
        return loss, {name: tf.convert_to_tensor(g) for name, g in gradients.items() if g is not None}

    losses = []
    for number, part in enumerate(batches):
        loss, tensors = backward(part.tokens.ids, part.tokens.mask, part.targets)
        gradients = {name: tensor.numpy() for name, tensor in tensors.items()}
        norm = np.sqrt(sum(np.square(gradient).sum() for gradient in gradients.values()))
        rate = scheduled_learning_rate(number, len(batches), peak, settings.warmup)
        for name, gradient in gradients.items():
            gradient = gradient * min(1.0, settings.clip_norm / norm)
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            update = first[name] / (np.sqrt(second[name]) + 1e-6)
            if not name.endswith(("bias", "gamma", "beta")):
                update += settings.weight_decay * weights[name].numpy()
            weights[name].assign_sub(rate * update)
        losses.append(float(loss))
    return losses


def test_fifty_steps_have_the_losses_of_a_plain_float32_reference():
    checkpoint = checkpoint_without_dropout()
    classifier, step = training(checkpoint)
    batches = [batch(number) for number in range(50)]
    classifier.standardize(np.concatenate([classifier.pooled_outputs(part.tokens) for part in batches[:4]]))
    scale = (classifier.feature_mean.numpy(), classifier.feature_scale.numpy())
    head = {name: array for name, array in classifier.state().items() if name.startswith("head/")}
    settings = TrainingSettings()
    # A higher rate makes the trainings chaotic: equal maths then drift apart by rounding alone.
    expected = reference_losses(checkpoint, head, batches, scale, 5e-4, settings)
    losses = [
        step([part], scheduled_learning_rate(number, 50, 5e-4, settings.warmup), 1, number)[0]
        for number, part in enumerate(batches)
    ]
    assert max(losses) - min(losses) > 0.05, "nothing was learned, so equal losses prove little"
    difference = np.abs(np.array(losses) - expected).max()
    print(f"largest difference in a loss over 50 steps: {difference:.2e}")
    assert difference < 1e-4


@pytest.mark.parametrize("freeze", ["none", 1])
def test_layers_in_a_loop_learn_as_layers_one_after_the_other(freeze, monkeypatch: pytest.MonkeyPatch):
    losses = []
    for unrolled in (2, 0):
        monkeypatch.setattr(mobilebert, "_UNROLLED_LAYERS", unrolled)
        _, step = training(tiny_checkpoint(), freeze=freeze)
        losses.append([step([batch(number)], 1e-2, 1, number) for number in range(5)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_a_step_in_parts_is_the_step_of_the_whole_batch():
    checkpoint = checkpoint_without_dropout()
    whole, whole_step = training(checkpoint)
    parts, parts_step = training(checkpoint, accumulate=3)
    for number in range(3):
        rows = batch(number)
        pieces = [rows_of(rows, slice(begin, begin + 3)) for begin in (0, 3, 6)]
        loss, norm = whole_step([rows], 1e-3, 1, number)
        assert parts_step(pieces, 1e-3, 1, number) == (pytest.approx(loss, rel=1e-5), pytest.approx(norm, rel=1e-4))
    for name, variable in whole.variables.items():
        np.testing.assert_allclose(parts.variables[name], variable, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(("freeze", "accumulate"), [("embeddings", 1), (1, 2), (2, 1)])
def test_what_is_frozen_keeps_its_bits_and_the_rest_learns(freeze, accumulate):
    checkpoint = checkpoint_without_dropout()
    classifier, step = training(checkpoint, freeze=freeze, accumulate=accumulate, weight_decay=0.1)
    before = classifier.state()
    parts = np.array_split(np.arange(8), accumulate)
    for number in range(2):
        step([rows_of(batch(number), rows) for rows in parts], 1e-2, 1, number)
    frozen_layers = 0 if freeze == "embeddings" else freeze
    for name, after in classifier.state().items():
        if name.startswith("embeddings/"):
            np.testing.assert_array_equal(after, before[name], err_msg=name)
        elif name.startswith("layers/"):
            np.testing.assert_array_equal(after[:frozen_layers], before[name][:frozen_layers], err_msg=name)
            for layer in range(frozen_layers, 2):
                # Adding to every key the same moves no attention.
                assert name == "layers/key/bias" or (after[layer] != before[name][layer]).any(), (name, layer)
        elif name.startswith("head/"):
            assert (after != before[name]).any()


def test_a_rows_weight_scales_its_share_of_the_loss():
    classifier, step = training(checkpoint_without_dropout())
    rows = batch(0)
    logits = classifier.predict_logits(rows.tokens)
    costs = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(8), rows.targets]
    weights = np.array([3, 1, 1, 0.5, 1, 1, 2, 1], np.float32)
    loss, _ = step([rows._replace(weights=weights)], 1e-3, 1, 0)
    assert loss == pytest.approx((costs * weights).mean(), rel=1e-5)


def test_smoothing_spreads_its_share_over_all_labels():
    classifier, step = training(checkpoint_without_dropout(), label_smoothing=0.2)
    rows = batch(0)
    logits = classifier.predict_logits(rows.tokens)
    costs = np.log(np.exp(logits).sum(axis=1, keepdims=True)) - logits
    targets = np.eye(2)[rows.targets] * 0.8 + 0.1
    assert step([rows], 1e-3, 1, 0)[0] == pytest.approx((costs * targets).sum(axis=1).mean(), rel=1e-5)


def test_padded_to_16_and_to_128_loss_and_gradients_are_the_same():
    checkpoint = checkpoint_without_dropout(max_position_embeddings=128)
    _, short_step = training(checkpoint)
    _, long_step = training(checkpoint)
    rows = batch(0, length=16)
    longer = Tokens(*(np.pad(array, ((0, 0), (0, 112))) for array in rows.tokens))
    loss, norm = short_step([rows], 1e-3, 1, 0)
    assert long_step([rows._replace(tokens=longer)], 1e-3, 1, 0) == pytest.approx((loss, norm), rel=1e-5)


def test_dropout_depends_on_seed_and_step_only():
    classifier = PooledClassifier(tiny_checkpoint(num_hidden_layers=1), 2, seed=1)
    step = TrainingStep(classifier, AdamW(classifier.variables, 0.01, 1.0), TrainingSettings(), tf.float32)

    def loss(seed: int, number: int) -> float:
        # With a learning rate of 0, a step changes no weight.
        return step([batch(0)], 0.0, seed, number)[0]

    first = loss(1, 0)
    assert len({first, loss(1, 1), loss(2**32 - 1, 0)}) == 3
    assert loss(1, 0) == first


def test_bfloat16_products_stay_within_their_precision():
    _, exact_step = training(checkpoint_without_dropout())
    _, rounded_step = training(checkpoint_without_dropout(), tf.bfloat16)
    exact_result, rounded_result = (s([batch(0)], 1e-3, 1, 0) for s in (exact_step, rounded_step))
    assert rounded_result == pytest.approx(exact_result, rel=0.02)
    assert rounded_result != exact_result


def test_two_replicas_have_the_losses_of_one_and_keep_their_weights_equal():
    devices = subprocess.run(
        [sys.executable, "-c", TWO_REPLICAS],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert devices.returncode == 0, devices.stderr[-3000:]


# Logical devices can only be made before TensorFlow starts, so this has a process of its own.
TWO_REPLICAS = """
import numpy as np
import pytest
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.training.test_step import batch, checkpoint_without_dropout, rows_of, training
from textclf.training.machine.hardware import mirrored

checkpoint = checkpoint_without_dropout(num_hidden_layers=1)
strategy = mirrored(["CPU:0", "CPU:1"])
with strategy.scope():
    both, two_step = training(checkpoint)
one, one_step = training(checkpoint)
# Steps of one part, of two parts, and of a single row, which leaves a replica without one.
parts = [
    *([batch(number, rows=7)] for number in range(3)),
    *([rows_of(batch(number, rows=7), slice(half, None, 2)) for half in range(2)] for number in range(3, 6)),
    [batch(9, rows=1)],
]
for number, step in enumerate(parts):
    loss, norm = one_step(step, 1e-3, 1, number)
    two_loss, two_norm = two_step(step, 1e-3, 1, number)
    assert two_loss == pytest.approx(loss, rel=1e-5), (number, loss, two_loss)
    assert two_norm == pytest.approx(norm, rel=1e-4), (number, norm, two_norm)
for name, variable in both.variables.items():
    first, second = (copy.numpy() for copy in strategy.experimental_local_results(variable))
    assert np.array_equal(first, second), name
    assert first == pytest.approx(one.variables[name].numpy(), abs=2e-4), name
"""


def test_every_layer_of_every_part_of_every_step_draws_with_a_number_of_its_own():
    _, step = training(tiny_checkpoint())
    layers = 3
    seen = set()
    for number in range(4):
        for part in (*range(600), 65_535):
            first, second = step._dropout_seed(7, number, part).view(np.uint32).tolist()
            if part < 256:
                assert (first, second) == (7, (number * 256 + part) * layers)
            seen |= {(first, second + layer) for layer in range(layers)}
    assert len(seen) == 4 * 601 * layers
