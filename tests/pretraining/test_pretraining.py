"""The distillation of the built-in encoder, on a teacher of random weights that is small enough for seconds."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pretraining import corpus as corpora  # noqa: E402
from pretraining import student  # noqa: E402
from pretraining.corpus import Corpus, Mixture  # noqa: E402
from pretraining.distil import Distillation, Progress, Settings, loss_weights, stream  # noqa: E402
from pretraining.export import export  # noqa: E402
from pretraining.initialise import fit_linear, initial_weights  # noqa: E402
from pretraining.teacher import Teacher  # noqa: E402
from tests.tiny import VOCABULARY  # noqa: E402
from textclf.data.tokens.wordpiece import Tokenizer  # noqa: E402
from textclf.encoders.checkpoint import MobileBertConfig, expected_shapes  # noqa: E402
from textclf.encoders.formats.textclf_format import read  # noqa: E402

WIDTH, HEADS, INTERMEDIATE, LAYERS = 32, 4, 64, 3
CONFIG = MobileBertConfig(
    vocab_size=len(VOCABULARY),
    embedding_size=16,
    hidden_size=WIDTH,
    num_hidden_layers=2,
    intra_bottleneck_size=WIDTH,
    num_attention_heads=HEADS,
    intermediate_size=48,
    num_feedforward_networks=1,
    key_query_shared_bottleneck=False,
    max_position_embeddings=64,
)
SETTINGS = Settings(
    layer_map=(0, 2),
    tokens=4_000,
    learning_rate=2e-3,
    warmup_tokens=200,
    mixture=Mixture(tokens=256, short=32, longest=48),
)
# Ids of [CLS] and [SEP] are those of BERT's vocabulary; the tiny one is padded up to them.
PIECES = 110
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """A BERT of random weights in the files that the real teacher comes in."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("teacher")
    generator = torch.Generator().manual_seed(3)
    shapes = {
        "embeddings.word_embeddings": (PIECES, WIDTH),
        "embeddings.position_embeddings": (64, WIDTH),
        "embeddings.token_type_embeddings": (2, WIDTH),
    }
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            shapes[f"{prefix}attention.self.{part}"] = (WIDTH, WIDTH)
        shapes[f"{prefix}attention.output.dense"] = (WIDTH, WIDTH)
        shapes[f"{prefix}intermediate.dense"] = (INTERMEDIATE, WIDTH)
        shapes[f"{prefix}output.dense"] = (WIDTH, INTERMEDIATE)
    weights = {}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = torch.randn(shape, generator=generator) / shape[1] ** 0.5
        weights[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    norms = ["embeddings.LayerNorm"]
    norms += [f"encoder.layer.{layer}.{part}output.LayerNorm" for layer in range(LAYERS) for part in ("attention.", "")]
    for name in norms:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = torch.ones(WIDTH), torch.zeros(WIDTH)
    save_file(weights, folder / "model.safetensors")
    settings = {
        "hidden_size": WIDTH,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "intermediate_size": INTERMEDIATE,
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in _vocabulary()), encoding="utf-8")
    return Teacher(folder, CPU)


def _vocabulary() -> list[str]:
    return [
        *VOCABULARY[: PIECES - 9],
        *(f"[unused{number}]" for number in range(PIECES - len(VOCABULARY[: PIECES - 9]))),
    ]


@pytest.fixture
def corpus() -> Corpus:
    """Passages of 4 to 60 pieces."""
    random = np.random.default_rng(0)
    lengths = random.integers(4, 60, 400)
    return Corpus(random.integers(5, 100, lengths.sum()).astype(np.uint16), np.concatenate([[0], np.cumsum(lengths)]))


@pytest.fixture
def config() -> MobileBertConfig:
    return replace(CONFIG, vocab_size=PIECES)


def start(teacher: Teacher, config: MobileBertConfig, corpus: Corpus, settings: Settings = SETTINGS) -> Distillation:
    torch.manual_seed(0)
    batches = list(itertools.islice(corpora.batches(corpus, settings.mixture, 1, 99), 8))
    run = Distillation(teacher, config, settings, CPU, compiled=False)
    run.start(initial_weights(config, teacher, settings.layer_map, batches, settings.seed))
    return run


def total(run: Distillation, batches: list[corpora.Batch]) -> float:
    with torch.no_grad():
        return sum(float((run.evaluate(batch) * loss_weights(run.config)).sum()) for batch in batches)


def test_ridge_regression_finds_the_map_that_made_the_data() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 6, generator=generator)
    kernel, bias = torch.randn(6, 3, generator=generator), torch.randn(3, generator=generator)
    found_kernel, found_bias = fit_linear(inputs, inputs @ kernel + bias, ridge=1e-9)
    torch.testing.assert_close(found_kernel, kernel, atol=1e-4, rtol=0)
    torch.testing.assert_close(found_bias, bias, atol=1e-4, rtol=0)


def test_fitted_weights_are_nearer_to_the_teacher_than_a_constant_would_be(teacher, config, corpus) -> None:
    run = start(teacher, config, corpus)
    assert {name: tuple(value.shape) for name, value in run.weights.items()} == expected_shapes(config)
    batch = next(corpora.batches(corpus, SETTINGS.mixture, 1, 0))
    with torch.no_grad():
        embeddings, first, second = run.evaluate(batch)[:3].tolist()
    assert embeddings < 0.7
    assert first < 0.7
    assert second < 0.9


def test_a_student_of_another_form_than_the_fit_is_written_for_is_refused(teacher, config, corpus) -> None:
    with pytest.raises(ValueError, match="cannot be fitted"):
        initial_weights(replace(config, num_feedforward_networks=2), teacher, (0, 2), [], 0)


def test_training_lowers_the_loss_on_text_it_does_not_see(teacher, config, corpus) -> None:
    run = start(teacher, config, corpus)
    held_out = list(itertools.islice(corpora.batches(corpus, SETTINGS.mixture, 1, 50), 3))
    before = total(run, held_out)
    for batch in itertools.islice(stream(corpus, SETTINGS, run.progress), 12):
        run.step(batch)
    assert total(run, held_out) < 0.9 * before


def test_a_resumed_run_ends_with_the_weights_of_one_that_never_stopped(teacher, config, corpus, tmp_path: Path) -> None:
    whole = start(teacher, config, corpus)
    for batch in itertools.islice(stream(corpus, SETTINGS, whole.progress), 4):
        whole.step(batch)

    stopped = start(teacher, config, corpus)
    for batch in itertools.islice(stream(corpus, SETTINGS, stopped.progress), 2):
        stopped.step(batch)
    stopped.save(tmp_path / "state.pt")
    resumed = Distillation(teacher, config, SETTINGS, CPU, compiled=False)
    resumed.restore(tmp_path / "state.pt")
    for batch in itertools.islice(stream(corpus, SETTINGS, resumed.progress), 2):
        resumed.step(batch)

    assert resumed.progress == whole.progress
    for name, value in whole.weights.items():
        torch.testing.assert_close(resumed.weights[name], value, atol=0, rtol=0)


def test_the_learning_rate_rises_over_the_warm_up_and_ends_at_zero(teacher, config) -> None:
    run = Distillation(teacher, config, SETTINGS, CPU, compiled=False)
    rates = []
    for seen in (0, 100, 200, 2_100, 4_000):
        run.progress.tokens = seen
        rates.append(run.learning_rate())
    assert rates == pytest.approx([1e-5, 1.01e-3, 2e-3, 1e-3, 0.0], rel=1e-6)


def test_the_exported_folder_gives_the_students_states_within_the_error_of_eight_bits(
    teacher, config, corpus, tmp_path: Path
) -> None:
    run = start(teacher, config, corpus)
    arrays = {name: value.detach().numpy() for name, value in run.weights.items()}
    export(tmp_path, config, arrays, _vocabulary())
    loaded = read(tmp_path)
    assert (loaded.config, loaded.vocabulary, loaded.mask_convention) == (config, _vocabulary(), "additive")
    batch = next(corpora.batches(corpus, SETTINGS.mixture, 1, 0))
    inputs = [torch.from_numpy(part) for part in (batch.ids, batch.mask, batch.segments)]
    exact = student.encode(run.weights, config, *inputs)[-1][inputs[1].bool()]
    stored = {name: torch.from_numpy(array) for name, array in loaded.weights.items()}
    rounded = student.encode(stored, config, *inputs)[-1][inputs[1].bool()]
    error = (rounded - exact).square().mean() / exact.var()
    assert 0 < error < 3e-3


def test_the_students_states_are_those_of_the_encoder_that_users_train(teacher, config, corpus, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    from textclf import load_encoder

    run = start(teacher, config, corpus)
    export(tmp_path, config, {name: value.detach().numpy() for name, value in run.weights.items()}, _vocabulary())
    stored = {name: torch.from_numpy(array) for name, array in read(tmp_path).weights.items()}
    batch = next(corpora.batches(corpus, replace(SETTINGS.mixture, pairs=1.0), 1, 0))
    inputs = [torch.from_numpy(part) for part in (batch.ids, batch.mask, batch.segments)]
    states = student.encode(stored, config, *inputs)[-1].numpy()
    encoded = load_encoder(tmp_path).encode(
        *(part.astype(np.int32) for part in (batch.ids, batch.mask, batch.segments))
    )
    present = batch.mask.astype(bool)
    np.testing.assert_allclose(encoded.sequence_output[present], states[present], atol=1e-4)
    np.testing.assert_allclose(encoded.pooled_output, states[:, 0], atol=1e-4)


def test_padding_changes_nothing_once_one_pad_follows_the_text(teacher, config, corpus) -> None:
    run = start(teacher, config, corpus)
    texts = corpora.single_batch(corpus, [0, 1, 2], 24)
    ids, mask, segments = (torch.from_numpy(part) for part in (texts.ids, texts.mask, texts.segments))
    short = [torch.nn.functional.pad(part, (0, 1)) for part in (ids, mask, segments)]
    long = [torch.nn.functional.pad(part, (0, 17)) for part in (ids, mask, segments)]
    with torch.no_grad():
        first, second = (student.encode(run.weights, config, *parts)[-1] for parts in (short, long))
    torch.testing.assert_close(first[:, : ids.shape[1]], second[:, : ids.shape[1]], atol=1e-5, rtol=1e-4)


def test_batches_hold_marked_texts_of_like_length_and_every_short_passage_once(corpus) -> None:
    mixture = Mixture(tokens=256, short=32, longest=48, keep_long=0.0, pairs=0.0)
    batches = list(corpora.batches(corpus, mixture, seed=1, epoch=0))
    assert sum(len(batch.ids) for batch in batches) == int((corpus.lengths <= 30).sum())
    for batch in batches:
        rows, length = batch.ids.shape
        ends = batch.mask.sum(1)
        assert rows * length <= 256
        assert length % 8 == 0
        assert (batch.ids[:, 0] == corpora.CLASSIFICATION).all()
        assert (batch.ids[np.arange(rows), ends - 1] == corpora.SEPARATOR).all()
        assert (batch.ids * (1 - batch.mask) == 0).all()
        assert (batch.segments == 0).all()


def test_pairs_are_two_segments_with_a_separator_after_each(corpus) -> None:
    mixture = Mixture(tokens=256, short=32, longest=48, pairs=1.0)
    for batch in itertools.islice(corpora.batches(corpus, mixture, seed=1, epoch=0), 10):
        assert ((batch.ids == corpora.SEPARATOR).sum(1) == 2).all()
        assert batch.mask.sum(1).max() <= 48
        for ids, mask, segments in zip(batch.ids, batch.mask, batch.segments, strict=True):
            first, second = np.flatnonzero(ids == corpora.SEPARATOR)
            assert second == mask.sum() - 1
            assert segments.sum() == second - first
            assert segments[first + 1 : second + 1].all()


def test_the_order_of_batches_depends_on_seed_and_epoch_only(corpus) -> None:
    def first(seed: int, epoch: int) -> np.ndarray:
        return next(corpora.batches(corpus, Mixture(tokens=256), seed, epoch)).ids

    np.testing.assert_array_equal(first(1, 0), first(1, 0))
    assert not np.array_equal(first(1, 0), first(1, 1))
    assert not np.array_equal(first(1, 0), first(2, 0))


def test_two_workers_together_take_every_batch_of_one(corpus) -> None:
    def rows(worker: int, workers: int, count: int) -> list[bytes]:
        batches = stream(corpus, SETTINGS, Progress(), worker, workers)
        return [batch.ids.tobytes() for batch in itertools.islice(batches, count)]

    alone = rows(0, 1, 8)
    assert [rows(0, 2, 4), rows(1, 2, 4)] == [alone[0::2], alone[1::2]]


def test_a_prepared_corpus_holds_each_text_once_in_the_device_tokenizers_pieces(tmp_path: Path) -> None:
    lines = ["I love this film!", "so sad, please help", "i LOVE this film!", "12:30", "the best app"]
    (tmp_path / "corpus-0.txt").write_text("\n".join(lines), encoding="utf-8")
    vocabulary = _vocabulary()
    prepared = corpora.prepare([tmp_path / "corpus-0.txt"], vocabulary, tmp_path / "out", 4, seed=0)
    kept = Tokenizer(vocabulary, "device").pieces([lines[0], lines[1], lines[4]])
    found = [prepared.passage(index).tolist() for index in range(len(prepared))]
    assert sorted(found) == sorted(pieces[:4] for pieces in kept)
    again = corpora.load(tmp_path / "out")
    assert [again.passage(index).tolist() for index in range(len(again))] == found
