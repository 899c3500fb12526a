"""Windows over long contexts: where their tokens stand in the text, and which of them show an answer."""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tests.tiny import VOCABULARY
from textclf.data.question_answering.dataset import load_question_file
from textclf.data.question_answering.questions import QuestionSplit
from textclf.data.tokens.encoded import pad
from textclf.data.tokens.spans import Windows, make_windows, piece_spans, pieces_with_offsets, span_targets
from textclf.data.tokens.wordpiece import Tokenizer, TokenizerKind
from textclf.data.tokens.words import WordTokenizer
from textclf.recipe.settings import Recipe

ALPHABET = "abcXYZ  \n\t.,-éÉñ\u0301\u0308üß😀👩\u200d🔧中文字かな\ud83d\ude00\udc00\u00a0\u200b\ufe0f\x01\x7f'’ΑΒİıK\u0345ﬁ한국"
BOTH = pytest.mark.parametrize("kind", ["device", "bert"])


@pytest.fixture(scope="module")
def builtin() -> list[str]:
    folder = Path(__file__).resolve().parents[2] / "textclf" / "encoders" / "builtin" / "mobilebert-medium"
    return (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()


def shown(tokenizer: Tokenizer, text: str) -> list[tuple[str, str]]:
    """Each token of a text with the characters that it stands for."""
    pieces = pieces_with_offsets(tokenizer, text)
    return [
        (tokenizer.vocabulary[token], text[start:end])
        for token, start, end in zip(pieces.ids, pieces.starts, pieces.ends, strict=True)
    ]


# --- Offsets -----------------------------------------------------------------------------------------------------------
@BOTH
def test_every_token_has_its_characters_whatever_the_text_holds(builtin, kind: TokenizerKind):
    tokenizer, random = Tokenizer(builtin, kind), Random(1)
    for _ in range(3000):
        text = "".join(random.choice(ALPHABET) for _ in range(random.randrange(30))) + random.choice(["", "", "\0abc"])
        pieces = pieces_with_offsets(tokenizer, text)
        assert pieces.ids.tolist() == tokenizer.pieces([text])[0], ascii(text)
        spans = list(zip(pieces.starts.tolist(), pieces.ends.tolist(), strict=True))
        assert all(0 <= start < end <= len(text) for start, end in spans), ascii(text)
        # The parts of a Korean syllable are tokens of the same character; all others follow each other.
        assert all(before[1] <= after[0] or before[0] == after[0] for before, after in itertools.pairwise(spans))


def test_offsets_count_code_points_of_the_original_text(builtin):
    device, bert = Tokenizer(builtin, "device"), Tokenizer(builtin, "bert")
    assert shown(device, "A😀 cafe") == [("[UNK]", "A😀"), ("cafe", "cafe")]
    assert shown(bert, "Café au lait") == [("cafe", "Café"), ("au", "au"), ("lai", "lai"), ("##t", "t")]
    assert shown(bert, "cafe\u0301s") == [("cafes", "cafe\u0301s")]
    assert shown(bert, "un cafe\u0301 noir")[1] == ("cafe", "cafe\u0301")
    assert shown(device, "東京 in") == [("東", "東"), ("京", "京"), ("in", "in")]
    assert shown(device, "x \ud83d\ude00 the") == [("x", "x"), ("[UNK]", "\ud83d\ude00"), ("the", "the")]
    assert shown(bert, "\udc00 the") == [("the", "the")]
    assert shown(device, "\tUnbelievable!") == [("unbelievable", "Unbelievable"), ("!", "!")]
    assert shown(device, "the\0 end") == [("the", "the")]


def test_averaged_words_have_no_windows():
    words = WordTokenizer(["<PAD>", "<START>", "<UNKNOWN>", "the"])
    with pytest.raises(TypeError, match="WordPiece"):
        pieces_with_offsets(words, "the")
    with pytest.raises(TypeError, match="WordPiece"):
        make_windows(words, ["the"], ["the"])


# --- Windows -----------------------------------------------------------------------------------------------------------
def run_squad_parts(question: int, pieces: int, max_length: int, stride: int) -> list[tuple[int, int]]:
    """The loop of `convert_examples_to_features`."""
    room, parts, begin = max_length - question - 3, [], 0
    while begin < pieces:
        length = min(pieces - begin, room)
        parts.append((begin, length))
        if begin + length == pieces:
            break
        begin += min(length, stride)
    return parts or [(0, 0)]


def run_squad_is_maximum(parts: list[tuple[int, int]], window: int, place: int) -> bool:
    """`_check_is_max_context`."""
    best_score, best = None, None
    for number, (begin, length) in enumerate(parts):
        end = begin + length - 1
        if not begin <= place <= end:
            continue
        score = min(place - begin, end - place) + 0.01 * length
        if best_score is None or score > best_score:
            best_score, best = score, number
    return window == best


def windows_of(lengths: list[tuple[int, int]], max_length: int, stride: int, question_length: int) -> Windows:
    """Windows of questions and contexts of so many tokens."""
    tokenizer = Tokenizer(VOCABULARY)
    return make_windows(
        tokenizer,
        ["the " * question for question, _ in lengths],
        ["good bad " * (context // 2) + "film " * (context % 2) for _, context in lengths],
        max_length=max_length,
        stride=stride,
        question_length=question_length,
    )


@pytest.mark.parametrize(
    ("max_length", "stride", "cut"), [(12, 3, 4), (16, 16, 2), (10, 1, 6), (40, 7, 30), (60, 25, 4)]
)
def test_windows_and_their_maximum_context_are_those_of_run_squad(max_length, stride, cut):
    lengths = [(question, context) for question in (0, 1, 4, 9) for context in (0, 1, 2, 5, 8, 9, 13, 31, 60, 71, 99)]
    windows = windows_of(lengths, max_length, stride, cut)
    for row, (question, context) in enumerate(lengths):
        kept = min(question, cut)
        parts = run_squad_parts(kept, context, max_length, stride)
        positions = windows.positions_of_question(row)
        assert [(own.pieces.start, len(own.pieces)) for own in positions] == parts
        for number, own in enumerate(positions):
            assert own.first == kept + 2
            assert own.is_maximum.tolist() == [run_squad_is_maximum(parts, number, place) for place in own.pieces]
            window = windows.of_question(row)[number]
            assert windows.positions(window).pieces == own.pieces
            assert windows.positions(window).is_maximum.tolist() == own.is_maximum.tolist()


def test_a_window_is_the_question_and_a_part_of_the_context_in_two_segments():
    tokenizer = Tokenizer(VOCABULARY)
    windows = make_windows(tokenizer, ["what film is it"], ["good bad nice"], max_length=9, stride=1, question_length=4)
    tokens = pad(windows.encoded, [0, 1], 10)
    words = [[VOCABULARY[token] for token in row] for row in tokens.ids]
    assert words[0] == ["[CLS]", "what", "film", "is", "it", "[SEP]", "good", "bad", "[SEP]", "[PAD]"]
    assert words[1] == ["[CLS]", "what", "film", "is", "it", "[SEP]", "bad", "nice", "[SEP]", "[PAD]"]
    assert tokens.segments[0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 0]
    assert tokens.mask[0].tolist() == [1] * 9 + [0]
    assert windows.rows.tolist() == [0, 0]
    assert windows.first_piece.tolist() == [0, 1]


def test_a_question_is_truncated_and_its_windows_say_so():
    windows = windows_of([(3, 4), (9, 4)], 20, 5, 4)
    assert windows.question_lengths.tolist() == [3, 4]
    assert windows.encoded.truncated.tolist() == [False, True]


def test_questions_about_one_context_share_its_tokens():
    tokenizer = Tokenizer(VOCABULARY)
    windows = make_windows(tokenizer, ["what", "when"], ["good film", "good film"])
    assert windows.contexts[0] is windows.contexts[1]


@pytest.mark.parametrize(("max_length", "stride", "cut"), [(10, 1, 7), (10, 0, 4), (10, 1, 0)])
def test_lengths_without_room_for_the_context_are_refused(max_length, stride, cut):
    with pytest.raises(ValueError, match=f"max_length is {max_length}"):
        windows_of([(1, 1)], max_length, stride, cut)


def test_no_question_has_no_window():
    windows = make_windows(Tokenizer(VOCABULARY), [], [])
    assert (len(windows), len(windows.encoded)) == (0, 0)
    assert span_targets(windows, np.zeros((0, 2), np.int32)).shape == (0, 2)


# --- Targets -----------------------------------------------------------------------------------------------------------
def test_a_window_learns_the_answer_where_it_shows_the_whole_and_position_0_elsewhere():
    tokenizer = Tokenizer(VOCABULARY)
    context = "the film was good and not bad"  # one token each
    windows = make_windows(tokenizer, ["what", "what"], [context] * 2, max_length=8, stride=2, question_length=1)
    start = context.index("good")
    labels = np.array([(start, start + len("good and")), (-1, -1)], np.int32)
    # [CLS] what [SEP] t t t t [SEP]: contexts from 0, 2 and 4
    assert windows.first_piece.tolist() == [0, 2, 4, 0, 2, 4]
    assert span_targets(windows, labels).tolist() == [[0, 0], [4, 5], [0, 0], [0, 0], [0, 0], [0, 0]]
    assert piece_spans(windows, labels).tolist() == [[3, 4], [-1, -1]]


def test_an_answer_inside_a_word_is_the_shortest_span_of_tokens_with_it(builtin):
    text = "no surfboarding"
    assert shown(Tokenizer(builtin), text) == [("no", "no"), ("surf", "surf"), ("##boarding", "boarding")]
    pieces = pieces_with_offsets(Tokenizer(builtin), text)
    assert [pieces.span_of(*span) for span in ((4, 6), (8, 10), (5, 9), (0, 4))] == [(1, 1), (2, 2), (1, 2), (0, 1)]


def test_an_answer_without_a_token_has_no_span():
    tokenizer = Tokenizer(VOCABULARY)
    assert pieces_with_offsets(tokenizer, "good  bad").span_of(4, 6) == (-1, -1)
    assert pieces_with_offsets(tokenizer, "").span_of(0, 1) == (-1, -1)


# --- Real data ---------------------------------------------------------------------------------------------------------
REAL = {
    "policyqa/dev.json": (3809, 3809, 6044, 97),
    "policyqa/test.json": (4152, 4164, 6354, 105),
    "xquad_en/xquad.en.json": (1190, 1232, 1190, 1),
    "covid_qa/200423_covidQA.json": (1380, 70581, 1380, 34),
}
"""The questions, the windows, the answers, and the answers that begin or end inside a word, by file."""


def real_questions(shared: Path, name: str) -> QuestionSplit:
    recipe = Recipe(name="real", task="question-answering", dataset={"train": "train.json"})
    return load_question_file(recipe.dataset, shared / "data-qa" / name)[0]


@BOTH
@pytest.mark.parametrize("name", REAL)
def test_answers_of_real_data_come_back_from_their_tokens(shared, builtin, name, kind: TokenizerKind):
    questions, all_windows, answers, inside_words = REAL[name]
    split = real_questions(shared, name)
    windows = make_windows(Tokenizer(builtin, kind), split.questions, split.contexts)
    assert len(split.rows) == questions
    assert abs(len(windows) - all_windows) < 100
    different = total = 0
    for pieces, context, golds in zip(windows.contexts, split.contexts, split.answers, strict=True):
        for gold in golds:
            first, last = pieces.span_of(gold.start, gold.end)
            total += 1
            different += context[pieces.starts[first] : pieces.ends[last]] != gold.text.strip()
    assert (total, different) == (answers, inside_words)
    found = {
        row for row, (start, _) in zip(windows.rows.tolist(), span_targets(windows, split.labels), strict=True) if start
    }
    assert len(found) == questions, "every answer is in a window"
