"""The first weights: a least-squares fit to the teacher."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pretraining import student  # noqa: E402
from pretraining.corpus import prepared  # noqa: E402
from pretraining.initialise import fit_linear, initial_weights  # noqa: E402
from pretraining.objective import present_tokens, state_error  # noqa: E402
from pretraining.rows import Texts, make_texts, plan_epoch  # noqa: E402
from pretraining.settings import Mixture  # noqa: E402
from pretraining.teacher import Teacher  # noqa: E402
from pretraining.teacher_files import read_teacher  # noqa: E402
from tests.pretraining.tiny_teachers import (  # noqa: E402
    BERT_VOCABULARY,
    SETTINGS,
    STUDENT,
    write_bert,
    write_corpus,
)
from textclf.encoders.checkpoint import MobileBertConfig, expected_shapes  # noqa: E402
from textclf.errors import EncoderError  # noqa: E402

CONFIG = MobileBertConfig(**STUDENT["config"])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return Teacher(read_teacher(write_bert(tmp_path_factory.mktemp("teachers") / "bert")), torch.device("cpu"))


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> list[Texts]:
    folder = tmp_path_factory.mktemp("texts")
    corpus = prepared(write_corpus(folder / "corpus"), "corpus", BERT_VOCABULARY, folder / "ids", seed=0)
    planned = plan_epoch(corpus, Mixture(**SETTINGS["mixture"]), seed=1, epoch=0)
    ids = torch.from_numpy(corpus.ids.astype(np.int32))
    return [make_texts(ids, batch, torch.Generator()) for batch in planned[:14]]


def test_ridge_regression_finds_the_map_that_made_the_data() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 6, generator=generator)
    kernel, bias = torch.randn(6, 3, generator=generator), torch.randn(3, generator=generator)
    found_kernel, found_bias = fit_linear(inputs, inputs @ kernel + bias, ridge=1e-9)
    torch.testing.assert_close(found_kernel, kernel, atol=1e-4, rtol=0)
    torch.testing.assert_close(found_bias, bias, atol=1e-4, rtol=0)


@pytest.mark.parametrize("layer_map", [(0, 2), (0, 1, 2)])
def test_fitted_weights_are_nearer_to_the_teacher_than_a_constant_would_be(
    layer_map: tuple[int, ...], teacher: Teacher, batches: list[Texts]
) -> None:
    config = replace(CONFIG, num_hidden_layers=len(layer_map))
    weights = initial_weights(config, teacher, layer_map, batches[:10], seed=5)
    assert {name: tuple(value.shape) for name, value in weights.items()} == expected_shapes(config)
    errors = []
    for texts in batches[10:]:
        wanted = teacher(texts).states
        states = student.encode(weights, config, texts).states
        present = present_tokens(texts, without_first=True)
        pairs = zip(states, [wanted[0], *(wanted[layer + 1] for layer in layer_map)], strict=True)
        errors.append([float(state_error(state, target, present)) for state, target in pairs])
    embeddings, first, *others = np.mean(errors, 0)
    assert embeddings < 0.7
    assert first < 0.7
    assert max(others) < 0.9


@pytest.mark.parametrize(
    ("changes", "layer_map", "message"),
    [
        ({"hidden_size": 16}, (0, 2), "`hidden_size` 16 cannot be fitted to this teacher; expected 32"),
        ({"num_attention_heads": 2}, (0, 2), "`num_attention_heads` 2"),
        ({"intermediate_size": 65}, (0, 2), "a teacher with 64 inner units"),
        ({}, (0, 3), r"names the layers \[3\]"),
    ],
)
def test_a_student_that_cannot_be_fitted_is_refused(
    changes: dict[str, int], layer_map: tuple[int, ...], message: str, teacher: Teacher, batches: list[Texts]
) -> None:
    with pytest.raises(EncoderError, match=message):
        initial_weights(replace(CONFIG, **changes), teacher, layer_map, batches, seed=0)
