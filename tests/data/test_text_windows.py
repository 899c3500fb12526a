"""Windows over texts of any length: which tokens each has, that none is lost, and where the limit is."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tests.tiny import ids_of
from textclf.data.tokens import text_windows
from textclf.data.tokens.row_keys import as_tokens
from textclf.data.tokens.text_windows import EncodedTexts, WindowPlan, encode_texts, window_parts
from textclf.data.tokens.wordpiece import Tokenizer
from textclf.data.tokens.words import WordTokenizer

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghij", *(f"##{letter}" for letter in "abcdefghij")]
UNK, CLS, SEP, A = 1, 2, 3, 4
LETTERS = "a b c d e f g h i j"
ANY = 1000


def encode(*texts: str, length: int = 6, stride: int = 3, most: int = ANY, kind: str = "device") -> EncodedTexts:
    tokenizer = Tokenizer(VOCABULARY, kind)
    return encode_texts(tokenizer, [(text,) for text in texts], length, WindowPlan(stride, most))


def letters_of(found: EncodedTexts) -> list[str]:
    return ["".join("abcdefghij"[number - A] for number in ids[1:-1]) for ids in ids_of(found.encoded)]


def test_a_long_text_is_read_in_overlapping_windows_with_special_tokens_in_each():
    found = encode(LETTERS, "a b", "")
    assert letters_of(found) == ["abcd", "defg", "ghij", "ab", ""]
    assert all((ids[0], ids[-1]) == (CLS, SEP) for ids in ids_of(found.encoded))
    assert found.texts.tolist() == [0, 0, 0, 1, 2]
    assert found.window_counts.tolist() == [3, 1, 1]
    assert found.encoded.first_lengths.tolist() == [6, 6, 6, 4, 2]
    assert not found.truncated.any()


def test_a_text_that_fits_is_what_it_is_without_windows():
    texts = [("a b c d",), ("ja",), ("",)]
    plain = Tokenizer(VOCABULARY).encode(texts, 6)
    found = encode(*(text for (text,) in texts))
    assert ids_of(found.encoded) == ids_of(plain)
    assert found.texts.tolist() == [0, 1, 2]


def test_what_follows_the_last_window_that_is_allowed_is_not_read_and_said():
    found = encode(LETTERS, "a b c d e f g", "a b c d e f g h", most=2)
    assert letters_of(found) == ["abcd", "defg", "abcd", "defg", "abcd", "defg"]
    assert found.truncated.tolist() == [True, False, True]


@pytest.mark.parametrize("room", [1, 2, 5, 9])
@pytest.mark.parametrize("stride", [1, 2, 5, 12])
def test_every_token_is_in_a_window_and_the_plan_knows_their_number(room, stride):
    for pieces in range(30):
        parts = window_parts(pieces, room, stride)
        read = np.zeros(pieces, bool)
        for begin, count in parts:
            assert count <= room
            read[begin : begin + count] = True
        assert read.all()
        plan = WindowPlan(stride, ANY)
        assert len(parts) == plan.windows(pieces, room)
        # The limit reads as many tokens as this many windows have.
        limited = WindowPlan(stride, len(parts))
        assert limited.tokens(room) >= pieces
        assert len(window_parts(limited.tokens(room), room, stride)) == len(parts)


@pytest.mark.parametrize("kind", ["device", "bert"])
def test_a_text_that_is_split_in_pieces_has_the_tokens_of_the_whole(kind, monkeypatch):
    random = np.random.default_rng(2)
    parts = [
        "a",
        "bad",
        "j",
        "é",
        "\n",
        "\t",
        "\u00a0",
        "中",
        "-",
        "\ud83d",
        "xyz",
        "e\u0301",
        "\u200b",
        "cab" * 50,
        "\r\n",
    ]
    texts = [" ".join(random.choice(parts, 80)) + " " * number for number in range(12)]
    texts += ["", "abc" * 60, "a" * 30 + "\0b a" + " c" * 40, " " * 99]
    whole = encode(*texts, kind=kind)
    monkeypatch.setattr(text_windows, "_CHARACTERS_AT_ONCE", 16)
    pieces = encode(*texts, kind=kind)
    assert ids_of(pieces.encoded) == ids_of(whole.encoded)
    assert pieces.texts.tolist() == whole.texts.tolist()
    assert pieces.truncated.tolist() == whole.truncated.tolist()


def test_a_text_of_megabytes_takes_little_more_than_what_is_read_of_it():
    text = "a b c d e f g h i j " * 200_000  # 4 MB, 2,000,000 tokens
    encode("a b", length=128, stride=94)
    tracemalloc.start()
    try:
        found = encode(text, length=128, stride=94, most=64)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found.texts) == 64
    assert found.truncated.tolist() == [True]
    assert peak < 4 << 20


def test_texts_are_equal_to_a_model_if_all_that_its_windows_show_is():
    read = as_tokens(Tokenizer(VOCABULARY), 6, WindowPlan(3, 2))
    keys = read([(LETTERS,), ("A B C D E F G",), ("a b c d e f h",), ("a b c d",)]).keys
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert read([("a b c d e x g",)]).unknown == [True]


@pytest.mark.parametrize(
    ("tokenizer", "texts", "message"),
    [
        (Tokenizer(VOCABULARY), [("a", "b")], "has one text, found 2"),
        (WordTokenizer(["<PAD>", "<UNKNOWN>"]), [("a",)], "WordPiece tokenizer, found WordTokenizer"),
    ],
)
def test_pairs_and_whole_words_have_no_windows(tokenizer, texts, message):
    with pytest.raises(ValueError, match=message):
        encode_texts(tokenizer, texts, 8, WindowPlan(3, 4))
