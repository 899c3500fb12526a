"""One student in training: its maps, its learning rate, and gradients that are not finite."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from pretraining.learner import Learner  # noqa: E402
from pretraining.rows import Texts  # noqa: E402
from pretraining.settings import read_settings  # noqa: E402
from pretraining.teacher import Teacher  # noqa: E402
from pretraining.teacher_files import read_teacher  # noqa: E402
from tests.pretraining.tiny_teachers import BERT_VOCABULARY, write_bert, write_mpnet, write_settings  # noqa: E402
from textclf.encoders.checkpoint import expected_shapes  # noqa: E402
from textclf.errors import TrainingError  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def texts() -> Texts:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(32)[None] < torch.randint(6, 32, (24, 1), generator=generator)
    ids = torch.randint(5, 100, mask.shape, generator=generator)
    return Texts(ids * mask, mask, torch.zeros_like(ids))


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Teacher, Teacher]:
    folder = tmp_path_factory.mktemp("teachers")
    minilm = Teacher(read_teacher(write_bert(folder / "minilm")), CPU)
    return minilm, Teacher(read_teacher(write_mpnet(folder / "mpnet"), BERT_VOCABULARY), CPU)


@pytest.fixture
def learner(texts: Texts, teachers: tuple[Teacher, Teacher], tmp_path: Path) -> Learner:
    """Random first weights, so that only the maps are fitted."""
    learner = Learner("both", read_settings(write_settings(tmp_path / "settings.yaml")), CPU)
    generator = torch.Generator().manual_seed(1)
    shapes = expected_shapes(learner.config)
    weights = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    learner.start(weights, [texts], [teachers[1](texts)])
    return learner


def test_fitted_maps_are_better_than_a_constant_although_one_number_of_the_target_never_changes(
    learner: Learner, texts: Texts, teachers: tuple[Teacher, Teacher]
) -> None:
    minilm, mpnet = (teacher(texts) for teacher in teachers)
    assert mpnet.states[2][texts.present].std(0).min() < 1e-6
    assert max(value.max() for value in learner.inverse_deviations.values()) < 100
    losses = {name: error.item() for name, (_, error) in learner.losses(texts, minilm, mpnet).items()}
    assert losses["mpnet_1"] < 0.9
    assert losses["mpnet_2"] < 0.9
    assert losses["mpnet_sentence"] < 0.9
    assert losses["minilm_2"] > 1


def test_the_cosine_counts_twice_and_weights_follow_progress(
    learner: Learner, texts: Texts, teachers: tuple[Teacher, Teacher]
) -> None:
    minilm, mpnet = (teacher(texts) for teacher in teachers)
    losses = learner.losses(texts, minilm, mpnet)
    assert losses["mpnet_sentence"][0] == (0.5, 1.5)
    assert losses["mpnet_cosine"][0] == (1.0, 3.0)
    expected = sum((start + (end - start) * 0.25) * error.item() for (start, end), error in losses.values())
    total, norm = learner.backward(losses, 0.25)
    assert float(total) == pytest.approx(expected, rel=1e-5)
    clipped = torch.stack([value.grad.norm() for value in learner.parameters]).norm()
    assert float(norm) > 1
    assert float(clipped) == pytest.approx(1, rel=1e-3)


def test_the_learning_rate_rises_over_the_warm_up_and_ends_at_zero(learner: Learner) -> None:
    rates = [learner.learning_rate(progress) for progress in (0, 0.02, 0.04, 0.52, 1, 1.01)]
    assert rates == pytest.approx([0, 0.002, 0.004, 0.002, 0, 0])


def test_gradients_that_are_not_finite_are_left_out_and_ten_in_a_row_end_the_run(learner: Learner) -> None:
    before = {name: value.detach().clone() for name, value in learner.weights.items()}
    for value in learner.parameters:
        value.grad = torch.full_like(value, float("nan"))
    for _ in range(9):
        learner.update(float("nan"), 0.5)
    assert all(torch.equal(value, before[name]) for name, value in learner.weights.items())
    with pytest.raises(TrainingError, match="student both were not finite in 10 steps in a row"):
        learner.update(float("inf"), 0.5)
    assert learner.skipped == 10
