"""Answers are chosen from logits as run_squad.py does, or as a phone does."""

from __future__ import annotations

import collections
import math

import numpy as np
import pytest

from tests.tiny import VOCABULARY
from textclf.classify.question_answering.selection import (
    PhoneWindows,
    Selected,
    phone_answer,
    phone_windows,
    select_answers,
)
from textclf.data.tokens.spans import Windows, make_windows
from textclf.data.tokens.wordpiece import Tokenizer

WORDS = "the film was good and not bad so i love this app".split()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(VOCABULARY)


def random_contexts(random: np.random.Generator, count: int, longest: int) -> list[str]:
    return [" ".join(random.choice(WORDS, random.integers(1, longest))) + "." for _ in range(count)]


def logits_for(windows: Windows, random: np.random.Generator, length: int) -> np.ndarray:
    """Random logits, with -1e9 beyond the tokens of each window. Few different values, so that many are equal."""
    logits = random.integers(-4, 5, (len(windows), length, 2)).astype(np.float32) / 2
    logits[np.arange(length) >= windows.encoded.lengths[:, None]] = -1e9
    return logits


# --- On windows --------------------------------------------------------------------------------------------------------
def run_squad_answers(
    windows: Windows, row: int, logits: np.ndarray, context: str, n_best: int, longest: int
) -> list[tuple[str, float]]:
    """The loops of `write_predictions`, for the spans that are not "no answer"."""
    found = []
    for window, positions in zip(windows.of_question(row), windows.positions_of_question(row), strict=True):
        orders = [sorted(range(len(logits[0])), key=lambda i, k=k: -logits[window, i, k])[:n_best] for k in (0, 1)]
        places = {positions.first + i: piece for i, piece in enumerate(positions.pieces)}
        for start in orders[0]:
            for end in orders[1]:
                if start not in places or end not in places or not positions.is_maximum[start - positions.first]:
                    continue
                if end < start or end - start + 1 > longest:
                    continue
                score = float(logits[window, start, 0]) + float(logits[window, end, 1])
                found.append((places[start], places[end], score))
    found.sort(key=lambda span: span[2], reverse=True)
    answers: dict[str, float] = {}
    pieces = windows.contexts[row]
    for first, last, score in found:
        if len(answers) >= n_best:
            break
        answers.setdefault(context[pieces.starts[first] : pieces.ends[last]], score)
    return list(answers.items())


@pytest.mark.parametrize(("n_best", "longest"), [(20, 30), (3, 2), (1, 1)])
def test_answers_are_those_of_run_squad_on_random_logits(tokenizer, n_best, longest):
    random = np.random.default_rng(1)
    contexts = random_contexts(random, 30, 40)
    windows = make_windows(tokenizer, ["what app"] * 30, contexts, max_length=16, stride=4, question_length=4)
    logits = logits_for(windows, random, 20)
    selected = select_answers(windows, logits, contexts, n_best=n_best, longest=longest)
    for row, (one, context) in enumerate(zip(selected, contexts, strict=True)):
        expected = run_squad_answers(windows, row, logits, context, n_best, longest)
        assert [(candidate.text, candidate.score) for candidate in one.candidates] == expected
        assert all(context[candidate.start : candidate.end] == candidate.text for candidate in one.candidates)
        assert one.best == (one.candidates[0] if expected else None)
        assert one.null_score == min(float(logits[window, 0].sum()) for window in windows.of_question(row))


def peaked(windows: Windows, peaks: dict[tuple[int, int, int], float]) -> np.ndarray:
    """Logits that are 0 but at [window, position, start or end]."""
    logits = np.zeros((len(windows), 32, 2), np.float32)
    logits[:, 1:] = -10
    logits[np.arange(32) >= windows.encoded.lengths[:, None]] = -1e9
    for place, value in peaks.items():
        logits[place] = value
    return logits


def select(tokenizer: Tokenizer, context: str, peaks: dict[tuple[int, int, int], float]) -> Selected:
    windows = make_windows(tokenizer, ["what"], [context], max_length=32, stride=4, question_length=4)
    (selected,) = select_answers(windows, peaked(windows, peaks), [context])
    return selected


def test_the_best_answer_is_a_text_of_the_context_with_its_characters_and_score(tokenizer):
    # [CLS] what [SEP] the film was good [SEP]
    selected = select(tokenizer, "The FILM was good", {(0, 4, 0): 5, (0, 5, 1): 4})
    assert selected.best is not None
    assert (selected.best.text, selected.best.start, selected.best.end, selected.best.score) == ("FILM was", 4, 12, 9)
    assert (selected.null_score, selected.null_margin) == (0, -9)


def test_no_answer_wins_if_it_is_better_by_more_than_the_bound(tokenizer):
    selected = select(tokenizer, "the film was good", {(0, 4, 0): 1, (0, 4, 1): 1, (0, 0, 0): 3, (0, 0, 1): 2})
    assert selected.null_margin == 3
    assert selected.answer() == selected.answer(3) == selected.best
    assert selected.answer(2.9) is None


def test_a_context_without_tokens_has_no_answer(tokenizer):
    selected = select(tokenizer, " \n", {})
    assert (selected.best, selected.candidates, selected.null_margin) == (None, [], math.inf)
    assert selected.answer() is None


def test_an_answer_has_at_most_30_tokens_and_does_not_end_before_it_begins(tokenizer):
    context = "good bad " * 20
    windows = make_windows(tokenizer, ["what"], [context], max_length=64, stride=4, question_length=4)
    logits = np.full((1, 64, 2), -10, np.float32)
    logits[0, 3, 0] = logits[0, 33, 1] = 5  # 31 tokens
    logits[0, 20, 0] = logits[0, 10, 1] = 4
    (selected,) = select_answers(windows, logits, [context])
    assert selected.best is not None
    assert selected.best.text == "good bad good bad good bad good bad"  # 3 to 10: nothing better is allowed
    assert max(len(candidate.text.split()) for candidate in selected.candidates) <= 30


def test_logits_of_another_shape_are_refused(tokenizer):
    windows = make_windows(tokenizer, ["what"], ["good film"], max_length=32, stride=4, question_length=4)
    for shape in ((2, 32, 2), (1, 3, 2), (1, 32, 3), (1, 32)):
        with pytest.raises(ValueError, match="logits have the shape"):
            select_answers(windows, np.zeros(shape, np.float32), ["good film"])
    with pytest.raises(ValueError, match="2 contexts for 1 questions"):
        select_answers(windows, np.zeros((1, 32, 2), np.float32), ["good film", "x"])


# --- On a phone --------------------------------------------------------------------------------------------------------
def answers_of_the_task_library(
    tokenizer: Tokenizer, question: str, context: str, start_logits: np.ndarray, end_logits: np.ndarray, length: int
) -> tuple[list[int], list[tuple[str, float]]]:
    """`Preprocess` and `Postprocess` of bert_question_answerer.cc, line by line. Returns the ids and the answers."""
    orig_tokens = [word for word in context.split(" ") if word]
    query_tokens = tokenizer.pieces([question])[0][:64]
    all_doc_tokens, token_to_orig_index = [], []
    for index, word in enumerate(orig_tokens):
        for sub_token in tokenizer.pieces([word])[0]:
            token_to_orig_index.append(index)
            all_doc_tokens.append(sub_token)
    all_doc_tokens = all_doc_tokens[: length - len(query_tokens) - 3]
    tokens = [tokenizer.classification_id, *query_tokens, tokenizer.separator_id]
    token_to_orig_map = {}
    for index, token in enumerate(all_doc_tokens):
        tokens.append(token)
        token_to_orig_map[len(tokens)] = token_to_orig_index[index]
    tokens.append(tokenizer.separator_id)
    starts = sorted(range(length), key=lambda index: -start_logits[index])
    ends = sorted(range(length), key=lambda index: -end_logits[index])
    results = []
    for start in starts[:5]:
        for end in ends[:5]:
            if start + 1 not in token_to_orig_map or end + 1 not in token_to_orig_map:
                continue
            if end < start or end - start + 1 > 32:
                continue
            results.append((start, end, start_logits[start] + end_logits[end]))
    results.sort(key=lambda result: -result[2])
    return tokens, [
        (" ".join(orig_tokens[token_to_orig_map[start + 1] : token_to_orig_map[end + 1] + 1]), float(score))
        for start, end, score in results[:5]
    ]


def test_answers_on_a_phone_are_those_of_the_task_librarys_source(tokenizer):
    random, length = np.random.default_rng(2), 48
    questions = random_contexts(random, 200, 9)
    contexts = [f" {context}  the\tend" for context in random_contexts(random, 200, 60)]
    windows = phone_windows(tokenizer, questions, contexts, max_length=length)
    some = collections.Counter()
    for row, (question, context) in enumerate(zip(questions, contexts, strict=True)):
        logits = random.standard_normal((length, 2)).astype(np.float32)
        ids, expected = answers_of_the_task_library(tokenizer, question, context, *logits.T, length)
        own = slice(int(windows.encoded.offsets[row]), int(windows.encoded.offsets[row + 1]))
        assert windows.encoded.flat_ids[own].tolist() == ids
        answers = phone_answer(windows, row, logits, context)
        assert [(answer.text, answer.score) for answer in answers] == expected
        assert all(context[answer.start : answer.end].split() == answer.text.split() for answer in answers)
        some[len(answers)] += 1
    assert len(some) > 3


def phone(tokenizer: Tokenizer, context: str, **more: int) -> PhoneWindows:
    return phone_windows(tokenizer, ["what"], [context], **more)


def test_a_phone_gives_whole_words_with_their_punctuation(tokenizer):
    context = "it was  (good), and"
    windows = phone(tokenizer, context)
    # [CLS] what [SEP] it was ( good ) , and [SEP]
    logits = np.full((384, 2), -5, np.float32)
    logits[4, 0] = logits[6, 1] = 3
    best = phone_answer(windows, 0, logits, context)[0]
    assert (best.text, best.score) == ("was (good),", 6)
    assert context[best.start : best.end] == "was  (good),"


def test_a_phone_reads_one_window_and_knows_no_answer_in_the_question(tokenizer):
    windows = phone(tokenizer, "good bad good", max_length=6)
    assert windows.encoded.truncated.tolist() == [True]
    assert windows.encoded.lengths.tolist() == [6]
    logits = np.zeros((6, 2), np.float32)
    logits[1] = 9
    assert [answer.text for answer in phone_answer(windows, 0, logits, "good bad good")] == ["good", "good bad", "bad"]
    (nothing,) = [phone_answer(phone(tokenizer, ""), 0, np.zeros((384, 2), np.float32), "")]
    assert nothing == []


def test_only_the_tokenizer_of_devices_is_a_phones():
    with pytest.raises(ValueError, match="kind device, not bert"):
        phone_windows(Tokenizer(VOCABULARY, "bert"), ["a"], ["b"])
