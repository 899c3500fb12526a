"""Fine-tuning in PyTorch is that of textclf, and recipes side by side do not disturb each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pretraining.fine_tuning import stack as maths  # noqa: E402
from pretraining.fine_tuning.__main__ import main  # noqa: E402
from pretraining.fine_tuning.optimizer import AdamW  # noqa: E402
from pretraining.fine_tuning.recipes import FineTuning  # noqa: E402
from pretraining.fine_tuning.stack import Dropout, Stack  # noqa: E402
from pretraining.fine_tuning.tokens import Rows, TokenSet  # noqa: E402
from pretraining.fine_tuning.training import DeviceRows, SideBySide, fit_first_head  # noqa: E402
from tests.pretraining.peers import read_results, write_set  # noqa: E402
from tests.tiny import tiny_checkpoint, write_tiny_encoder  # noqa: E402
from textclf.data.tokens.batching import training_batches  # noqa: E402
from textclf.data.tokens.encoded import pad  # noqa: E402
from textclf.encoders.checkpoint import EncoderCheckpoint  # noqa: E402
from textclf.recipe.settings import EncoderSettings  # noqa: E402
from textclf.training.learning_rate import scheduled_learning_rate  # noqa: E402

CPU = torch.device("cpu")
FORM = {
    "intra_bottleneck_size": 32,
    "num_feedforward_networks": 1,
    "key_query_shared_bottleneck": False,
    "attention_probs_dropout_prob": 0.0,
}
RECIPES = [
    FineTuning(learning_rate=3e-3, dropout=0.0, label_smoothing=0.1, weight_decay=0.1),
    FineTuning(learning_rate=1e-3, dropout=0.0, clip_norm=0.5),
]


@pytest.fixture
def encoder() -> EncoderCheckpoint:
    return tiny_checkpoint(**FORM)


@pytest.fixture
def rows(encoder: EncoderCheckpoint) -> Rows:
    random = np.random.default_rng(0)
    texts = [(" ".join(random.choice(encoder.vocabulary[60:], random.integers(2, 20))), "so good") for _ in range(100)]
    return Rows(encoder.tokenizer(EncoderSettings()).encode(texts, 32), random.integers(0, 3, 100))


def stack_of(encoder: EncoderCheckpoint, runs: int, frozen: int | None) -> tuple[Stack, tuple[torch.Tensor, ...]]:
    random = np.random.default_rng(1)
    head = random.standard_normal((32, 3)).astype(np.float32), random.standard_normal(3).astype(np.float32)
    constants = tuple(torch.from_numpy(random.random(32).astype(np.float32)) for _ in range(2))
    return Stack.of(maths.arrays_of_run(encoder, *head), encoder.layers, runs, frozen, CPU), constants


@pytest.mark.parametrize(
    ("frozen", "bfloat16", "tolerance", "compared"),
    [(None, False, 1e-4, 4), (1, False, 1e-4, 4), (None, True, 2e-2, 2)],
)
def test_losses_and_norms_of_the_first_steps_are_those_of_textclf(
    frozen: int | None, bfloat16: bool, tolerance: float, compared: int, encoder: EncoderCheckpoint, rows: Rows
) -> None:
    tf = pytest.importorskip("tensorflow")
    from textclf.recipe.settings import TrainingSettings
    from textclf.training import optimizer as textclf_optimizer
    from textclf.training.classification.task import PooledClassifier
    from textclf.training.model import Part
    from textclf.training.step import TrainingStep

    recipes = [recipe.model_copy(update={"freeze": frozen}) for recipe in RECIPES]
    stack, constants = stack_of(encoder, 2, frozen)
    batches = training_batches(rows.encoded.lengths, 32, 32, seed=1, epoch=0)
    ours: list[list[list[float]]] = [[], []]
    optimizer = AdamW(stack, recipes)
    smoothing = torch.tensor([recipe.label_smoothing for recipe in recipes])
    for step, (texts, labels) in enumerate(DeviceRows(rows, 32, CPU).batches(batches)):
        rates = [scheduled_learning_rate(step, 4, recipe.learning_rate, 0.5) for recipe in recipes]
        stack.clear_gradients()
        found = maths.logits(stack, encoder.config, constants, texts, Dropout(0.0, torch.zeros(2, 1, 1)), bfloat16)
        losses = maths.row_losses(found, labels, smoothing).mean(dim=1)
        losses.sum().backward()
        norms = optimizer.update(torch.tensor(rates)[:, None])
        for run in range(2):
            ours[run].append([float(losses[run].detach()), float(norms[run])])

    start, _ = stack_of(encoder, 1, None)
    for run, recipe in enumerate(recipes):
        settings = TrainingSettings(
            dropout=0.0,
            label_smoothing=recipe.label_smoothing,
            freeze="none" if frozen is None else frozen,
        )
        model = PooledClassifier(encoder, 3, 1)
        for name in ("head/kernel", "head/bias"):
            model.variables[name].assign(start.values[name][0].detach().numpy())
        model.feature_mean.assign(constants[0].numpy())
        model.feature_scale.assign(constants[1].numpy())
        adam = textclf_optimizer.AdamW(model.variables, recipe.weight_decay, recipe.clip_norm, decayed_from=frozen or 0)
        take_step = TrainingStep(model, adam, settings, tf.bfloat16 if bfloat16 else tf.float32)
        theirs = []
        for step, batch in enumerate(batches):
            rate = scheduled_learning_rate(step, 4, recipe.learning_rate, 0.5)
            part = Part(
                pad(rows.encoded, batch.rows, batch.length),
                rows.labels[batch.rows].astype(np.int32),
                np.ones(len(batch.rows), np.float32),
            )
            theirs.append(take_step([part], rate, 1, step))
        assert len(theirs) == 4
        np.testing.assert_allclose(ours[run][:compared], theirs[:compared], atol=tolerance, rtol=tolerance)
        assert abs(theirs[-1][0] - theirs[0][0]) > 0.05


def test_the_rate_falls_by_layer(encoder: EncoderCheckpoint, rows: Rows) -> None:
    stack, constants = stack_of(encoder, 2, None)
    before = {name: value.detach().clone() for name, value in stack.values.items()}
    recipes = [FineTuning(weight_decay=0.0), FineTuning(weight_decay=0.0, rate_by_layer=0.5)]
    texts, labels = next(
        iter(DeviceRows(rows, 32, CPU).batches(training_batches(rows.encoded.lengths, 32, 32, seed=1, epoch=0)))
    )
    maths.row_losses(maths.logits(stack, encoder.config, constants, texts), labels, torch.zeros(2)).sum().backward()
    AdamW(stack, recipes).update(torch.tensor([[1e-2], [1e-2]]))
    for name, share in {
        "head/kernel": 1.0,
        "encoder/layer_1/wide/kernel": 0.5,
        "encoder/layer_0/wide/kernel": 0.25,
        "embeddings/embedding_transformation/kernel": 0.125,
        maths.WORDS: 0.125,
    }.items():
        full, reduced = stack.values[name].detach() - before[name]
        assert full.abs().max() > 1e-3
        torch.testing.assert_close(reduced, share * full, atol=1e-6, rtol=1e-3)


def test_recipes_side_by_side_are_trained_as_if_alone(encoder: EncoderCheckpoint, rows: Rows) -> None:
    data = TokenSet("made up", ("a", "b", "c"), 32, rows, rows.some(60), rows.some(70))
    head = fit_first_head(encoder, data, CPU)
    # A head that knows nothing, so that later epochs are better.
    head = replace(head, kernel=np.zeros_like(head.kernel))
    recipes = [FineTuning(epochs=epochs, learning_rate=1e-3, dropout=0.0) for epochs in (5, 8, 6)]

    together = SideBySide(encoder, data, head, recipes, 1, CPU, False).run()
    for recipe, run in zip(recipes, together, strict=True):
        (alone,) = SideBySide(encoder, data, head, [recipe], 1, CPU, False).run()
        assert len(run.losses) == recipe.epochs
        assert run.losses == pytest.approx(alone.losses, rel=1e-3)
        assert run.validation == alone.validation
        assert (run.metrics.loss, run.best_epoch) == (pytest.approx(alone.metrics.loss, rel=1e-3), alone.best_epoch)
    assert all(run.best_epoch for run in together)


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    write_set(tmp_path / "data" / "easy", ("text_a", "text_b", "label"), rows=80)
    encoder = write_tiny_encoder(tmp_path / "encoder", **FORM, max_position_embeddings=128)
    (tmp_path / "recipes.yaml").write_text(
        "default: {epochs: 1}\nlonger: {epochs: 3, learning_rate: 1e-3}\ntwice: {epochs: 1, r_drop: 1}\n"
    )
    files = ["--recipes", str(tmp_path / "recipes.yaml"), "--results", str(tmp_path / "results.jsonl")]
    return ["--data", str(tmp_path / "data"), "--encoders", f"tiny={encoder}", *files, "--seeds", "1", "2"]


def test_runs_are_measured_once_and_stand_in_a_table(options, tmp_path, capsys) -> None:
    assert main([*options, "--device", "cpu"]) == 0
    found = read_results(tmp_path / "results.jsonl")
    assert [(row["seed"], row["recipe"]["epochs"], len(row["validation"]), row["side_by_side"]) for row in found] == [
        (1, 1, 2, 2),
        (1, 3, 4, 2),
        (1, 1, 2, 1),
        (2, 1, 2, 2),
        (2, 3, 4, 2),
        (2, 1, 2, 1),
    ]
    assert all(row["accuracy"] == 1.0 and row["split"] == "dev" for row in found)
    shown = capsys.readouterr().out
    assert "| longer | tiny | 100.0 ± 0.0 | 100.00 ± 0.00 |" in shown
    assert main([*options, "--device", "cpu"]) == 0
    assert capsys.readouterr().out == shown
    assert read_results(tmp_path / "results.jsonl") == found


def test_token_files_take_the_place_of_the_sets(options, tmp_path, capsys) -> None:
    tokens = ["--tokens", str(tmp_path / "tokens"), "--only", "default", "--seeds", "1"]
    assert main([*options, *tokens, "--prepare"]) == 0
    assert main([*options[2:], *tokens, "--device", "cpu", "--sets", "easy", "--rows", "24", "--processes", "2"]) == 0
    assert read_results(tmp_path / "results.jsonl")[0]["recipe"]["rows"] == 24
    assert main([*options[2:], *tokens, "--sets", "hard"]) == 2
    assert "hard-dev-128" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipes", "message"),
    [
        ("a: {epoch: 2}", "`a`: epoch: Extra inputs are not permitted"),
        ("a: {epochs: 0}", "`a`: epochs"),
        ("- a", "has no lines of"),
    ],
)
def test_recipes_that_cannot_be_used_are_explained(recipes, message, options, tmp_path, capsys) -> None:
    (tmp_path / "recipes.yaml").write_text(recipes)
    assert main(options) == 2
    assert message in capsys.readouterr().err
