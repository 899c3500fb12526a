"""The student in PyTorch is the encoder that users train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pretraining import student  # noqa: E402
from pretraining.export import export  # noqa: E402
from pretraining.rows import Texts  # noqa: E402
from tests.pretraining.tiny_teachers import BERT_VOCABULARY, STUDENT  # noqa: E402
from textclf.encoders.checkpoint import MobileBertConfig, expected_shapes  # noqa: E402
from textclf.encoders.formats.textclf_format import read  # noqa: E402

CONFIG = MobileBertConfig(**STUDENT["config"])


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    weights = {}
    for name, shape in expected_shapes(CONFIG).items():
        spread = 0.5 / np.sqrt(shape[0]) if name.endswith("kernel") else 0.2
        weights[name] = (random.standard_normal(shape) * spread + name.endswith("gamma")).astype(np.float32)
    return weights


@pytest.fixture
def texts() -> Texts:
    """Rows of 20, 12 and 3 tokens, the second segment from the sixth token on."""
    mask = torch.arange(24)[None] < torch.tensor([20, 12, 3])[:, None]
    ids = torch.randint(1, 100, mask.shape, generator=torch.Generator().manual_seed(0))
    return Texts(ids * mask, mask, ((torch.arange(24)[None] > 4) & mask).long())


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_the_students_states_are_those_of_the_encoder_that_users_train(
    arrays: dict[str, np.ndarray], texts: Texts, tmp_path: Path
) -> None:
    pytest.importorskip("tensorflow")
    from textclf import load_encoder

    export(tmp_path, CONFIG, arrays, BERT_VOCABULARY)
    states = student.encode(tensors(read(tmp_path).weights), CONFIG, texts).states[-1].view(3, 24, -1).numpy()
    inputs = (part.numpy().astype(np.int32) for part in (texts.ids, texts.mask, texts.segments))
    encoded = load_encoder(tmp_path).encode(*inputs)
    present = texts.mask.numpy()
    np.testing.assert_allclose(np.asarray(encoded.sequence_output)[present], states[present], atol=1e-4)
    np.testing.assert_allclose(encoded.pooled_output, states[:, 0], atol=1e-4)


def test_the_last_layers_relations_are_its_queries_keys_and_values(arrays: dict[str, np.ndarray], texts: Texts) -> None:
    weights = tensors(arrays)
    encoded = student.encode(weights, CONFIG, texts)
    for part, found in zip(("query", "key", "value"), encoded.relations, strict=True):
        name = f"encoder/layer_1/attention/self/{part}"
        expected = encoded.states[1] @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_padding_changes_nothing_once_one_pad_follows_the_text(arrays: dict[str, np.ndarray], texts: Texts) -> None:
    longer = Texts(*(torch.nn.functional.pad(part, (0, 17)) for part in (texts.ids, texts.mask, texts.segments)))
    short, long = (
        student.encode(tensors(arrays), CONFIG, part).states[-1].view(3, part.length, -1) for part in (texts, longer)
    )
    torch.testing.assert_close(short[texts.mask], long[longer.mask], atol=1e-5, rtol=1e-4)


def test_the_exported_folder_gives_the_students_states_within_the_error_of_eight_bits(
    arrays: dict[str, np.ndarray], texts: Texts, tmp_path: Path
) -> None:
    export(tmp_path, CONFIG, arrays, BERT_VOCABULARY)
    loaded = read(tmp_path)
    assert (loaded.config, loaded.vocabulary, loaded.mask_convention) == (CONFIG, BERT_VOCABULARY, "additive")
    exact, rounded = (
        student.encode(tensors(weights), CONFIG, texts).states[-1][texts.present]
        for weights in (arrays, loaded.weights)
    )
    error = (rounded - exact).square().mean() / exact.var()
    assert 0 < error < 3e-3
