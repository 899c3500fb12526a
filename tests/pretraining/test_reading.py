"""Questions from plain text, and the encoder with a head that is made from a training on them."""

from __future__ import annotations

import json
import lzma

import numpy as np
import pytest

import textclf
from pretraining.reading.__main__ import main
from pretraining.reading.questions import Question, questions
from pretraining.reading.similar import SimilarWords
from tests.questions import write_question_recipe
from textclf.encoders.formats.question_head import question_head
from textclf.encoders.sources.locate import load_checkpoint
from textclf.errors import EncoderError

NAMES = ["Berta", "Carl", "Dora", "Emil", "Frida", "Gustav"]
THINGS = ["lantern", "violin", "teapot", "ladder", "compass", "blanket", "saddle"]
PLACES = ["harbour", "orchard", "chapel", "meadow", "quarry", "station"]


def passages(count: int) -> list[str]:
    """Passages of five sentences; no two have a sentence in common."""
    made = []
    for number in range(count):
        name, thing, place = (names[number % len(names)] for names in (NAMES, THINGS, PLACES))
        made.append(
            f"In the year {1500 + number} a traveller called {name} came to the old {place} with a {thing}. Nobody near the "
            f"{place} had seen {number + 3} such pieces before that winter. The {thing} was painted green, and it weighed "
            f"{number + 2} pounds. Every morning {name} carried it past the northern gate of the {place}. Later the family "
            f"sold it to a merchant for {number + 7} silver coins."
        )
    return made


def made(count: int, seed: int = 1, similar: object = None) -> list[Question]:
    return list(questions(passages(count), seed, (lambda word: []) if similar is None else similar))  # type: ignore[arg-type]


def test_an_answer_is_a_part_of_the_context_and_not_of_the_question():
    found = made(300)
    assert len(found) > 280
    for one in found:
        if one.answer is not None:
            assert one.context[one.start : one.start + len(one.answer)] == one.answer
    answered = [one for one in found if one.answer is not None]
    assert 0.85 < len(answered) / len(found) < 0.95
    assert len({one.question for one in answered}) > 200


def test_some_contexts_are_several_passages_and_the_answer_is_in_any_of_them():
    found = [one for one in made(400) if one.answer is not None]
    long = [one for one in found if len(one.context) > 600]
    assert 0.15 < len(long) / len(found) < 0.35
    shares = [one.start / len(one.context) for one in long]
    assert min(shares) < 0.3
    assert max(shares) > 0.7


def test_a_question_without_an_answer_is_of_another_text_or_its_sentence_is_not_in_the_context():
    texts = set(passages(400))
    without = [one for one in made(400) if one.answer is None]
    assert {one.context in texts for one in without} == {True, False}


def test_questions_depend_on_the_seed_alone():
    assert made(50) == made(50)
    assert made(50) != made(50, seed=2)


def test_some_words_are_replaced_by_similar_ones():
    replaced = sum("oldish" in one.question for one in made(300, similar=lambda word: ["oldish"]))
    assert replaced > 100


def test_passages_that_are_too_short_or_of_one_sentence_are_left_out():
    texts = ["Too short. It has seven words.", " ".join(["word"] * 80)]
    assert list(questions(texts, 1, lambda word: [])) == []


def test_similar_words_of_a_built_in_encoder_are_forms_of_the_word_and_synonyms():
    similar = SimilarWords(load_checkpoint("builtin:mobilebert-small"))
    assert "returned" in similar("return") or "returns" in similar("return")
    assert similar("zzzz") == []


def test_from_a_corpus_to_an_encoder_with_a_head(tmp_path, capsys, monkeypatch):
    with lzma.open(tmp_path / "corpus.txt.xz", "wt", encoding="utf-8") as file:
        file.writelines(f"{text}\n" for text in passages(60))
    command = ["questions", str(tmp_path / "train.json"), str(tmp_path / "corpus.txt.xz"), "--count", "40"]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{tmp_path}/train.json: 40 questions\n"
    paragraphs = json.loads((tmp_path / "train.json").read_text(encoding="utf-8"))["data"][0]["paragraphs"]
    assert len(paragraphs) == 40

    recipe = write_question_recipe(tmp_path, epochs=1)
    run = textclf.train(recipe, tmp_path / "run", quiet=True)
    monkeypatch.setattr("textclf.encoders.formats.changes.BUILTIN", tmp_path)
    assert main(["export", str(run.dir), str(tmp_path / "shipped"), "--base", str(tmp_path / "encoder")]) == 0
    trained, shipped = load_checkpoint(str(run.dir)), load_checkpoint(str(tmp_path / "shipped"))
    heads = [question_head(one) for one in (trained, shipped)]
    assert heads[0] is not None
    assert heads[1] is not None
    np.testing.assert_array_equal(heads[0].kernel, heads[1].kernel)
    np.testing.assert_array_equal(heads[0].scale, heads[1].scale)
    base = load_checkpoint(str(tmp_path / "encoder"))
    for name, array in trained.weights.items():
        change = np.abs(array - base.weights[name]).max()
        np.testing.assert_allclose(
            array, shipped.weights[name], atol=change if "word_emb" in name else 0.3 * change + 1e-6
        )
    np.testing.assert_array_equal(
        shipped.weights["embeddings/word_embeddings"], base.weights["embeddings/word_embeddings"]
    )
    monkeypatch.undo()
    with pytest.raises(
        EncoderError, match='`base` is "encoder", but only encoders of the package are stored as changes'
    ):
        load_checkpoint(str(tmp_path / "shipped"))


def test_what_has_no_head_is_not_exported(tmp_path, capsys):
    assert main(["export", str(load_checkpoint("builtin:mobilebert-small").path), str(tmp_path / "out")]) == 2
    assert "is no run of question answering" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
