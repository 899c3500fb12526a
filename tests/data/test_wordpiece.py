"""The device tokenizer against ids that MediaPipe itself made, and the behaviour around it."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import ids_of
from textclf.data.tokens import wordpiece as tokenizer_module
from textclf.data.tokens.encoded import pad
from textclf.data.tokens.vocabulary import parse_vocabulary, read_vocabulary
from textclf.data.tokens.wordpiece import Tokenizer, share_of_different_rows
from textclf.errors import EncoderError

GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures" / "device_tokens.json").read_text(encoding="utf-8"))
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LETTERS = [*SPECIAL, "a", "b", "c", "d", "##a", "##b", "cafe", "café"]
PAD, UNK, CLS, SEP, A, B, C, D = range(8)


def segments_of(encoded):
    lengths = zip(encoded.first_lengths.tolist(), encoded.lengths.tolist(), strict=True)
    return [[0] * first + [1] * (length - first) for first, length in lengths]


@pytest.fixture
def letters() -> Tokenizer:
    return Tokenizer(LETTERS)


@pytest.mark.parametrize("row", GOLDEN["rows"], ids=lambda row: ascii(row["text"][:30]))
def test_ids_are_those_that_mediapipe_made(row):
    encoded = Tokenizer(GOLDEN["vocabulary"]).encode([(row["text"],)], max_length=128)
    assert ids_of(encoded)[0] == row["ids"]


def test_the_delimiters_are_those_that_mediapipe_splits_at():
    characters = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code <= 0xDFFF]
    words = tokenizer_module._word_pattern().findall("aa".join(["", *characters, ""]))
    delimiters = " ".join(str(ord(word)) for word in words if len(word) == 1)
    assert delimiters.count(" ") + 1 == GOLDEN["delimiters"]["count"]
    assert hashlib.sha256(delimiters.encode()).hexdigest() == GOLDEN["delimiters"]["sha256_of_code_points_in_decimal"]


def test_a_second_look_gives_the_same_pieces_as_the_first():
    tokenizer = Tokenizer(GOLDEN["vocabulary"])
    texts = [row["text"] for row in GOLDEN["rows"]]
    assert tokenizer.pieces(texts) == tokenizer.pieces(texts)


def test_pieces_stay_right_when_the_cache_overflows(monkeypatch):
    texts = [row["text"] for row in GOLDEN["rows"]]
    expected = Tokenizer(GOLDEN["vocabulary"]).pieces(texts)
    monkeypatch.setattr(tokenizer_module, "CACHE_ENTRIES", 3)
    tokenizer = Tokenizer(GOLDEN["vocabulary"])
    assert tokenizer.pieces(texts) == expected
    assert tokenizer.pieces(texts) == expected
    assert len(tokenizer._ids_of_chunk) <= 3


def test_long_chunks_are_not_kept_in_the_cache(letters):
    assert letters.pieces(["a." * 30]) == [[A, UNK] * 30]
    assert list(letters._ids_of_chunk) == [b""]


def test_threads_share_a_tokenizer(monkeypatch):
    monkeypatch.setattr(tokenizer_module, "CACHE_ENTRIES", 20)
    tokenizer = Tokenizer(LETTERS)
    texts = [f"a{number % 7} b{'ab' * (number % 13)} c" for number in range(500)]
    expected = Tokenizer(LETTERS).pieces(texts)
    with ThreadPoolExecutor(4) as threads:
        assert all(pieces == expected for pieces in threads.map(lambda _: tokenizer.pieces(texts), range(8)))


def test_a_lone_surrogate_counts_as_an_unknown_character(letters):
    assert letters.pieces(["a \ud83d b", "a\ud83d", "\ud83d\ude00 c"]) == [[A, UNK, B], [UNK], [UNK, C]]
    assert Tokenizer(LETTERS, "bert").pieces(["a\ud800 b"]) == [[A, B]]


def test_a_text_keeps_its_first_pieces_between_the_special_ones(letters):
    encoded = letters.encode([("a b c",), ("a b c d",), ("",)], max_length=5)
    assert ids_of(encoded) == [[CLS, A, B, C, SEP], [CLS, A, B, C, SEP], [CLS, SEP]]
    assert segments_of(encoded) == [[0] * 5, [0] * 5, [0] * 2]
    assert encoded.truncated.tolist() == [False, True, False]
    assert encoded.lengths.tolist() == [5, 5, 2]


def test_the_second_text_of_a_pair_is_segment_one(letters):
    encoded = letters.encode([("a b", "c"), ("", "d"), ("a",)], max_length=16)
    assert ids_of(encoded) == [[CLS, A, B, SEP, C, SEP], [CLS, SEP, D, SEP], [CLS, A, SEP]]
    assert segments_of(encoded) == [[0, 0, 0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize("room", range(2, 10))
@pytest.mark.parametrize("first", range(6))
@pytest.mark.parametrize("second", range(6))
def test_the_longer_text_of_a_pair_is_cut_first(letters, first, second, room):
    kept = [["a"] * first, ["b"] * second]
    while len(kept[0]) + len(kept[1]) > room:
        (kept[0] if len(kept[0]) > len(kept[1]) else kept[1]).pop()
    encoded = letters.encode([("a " * first, "b " * second)], max_length=room + 3)
    assert ids_of(encoded)[0] == [CLS] + [A] * len(kept[0]) + [SEP] + [B] * len(kept[1]) + [SEP]
    assert encoded.truncated.tolist() == [first + second > room]


def test_rows_are_padded_to_three_arrays(letters):
    encoded = letters.encode([("a",), ("a", "b c"), ("d",)], max_length=16)
    tokens = pad(encoded, [1, 2], 7)
    assert tokens.ids.tolist() == [[CLS, A, SEP, B, C, SEP, PAD], [CLS, D, SEP, PAD, PAD, PAD, PAD]]
    assert tokens.mask.tolist() == [[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0]]
    assert tokens.segments.tolist() == [[0, 0, 0, 1, 1, 1, 0], [0] * 7]
    assert {array.dtype for array in tokens} == {np.dtype("int32")}


def test_one_of_several_padded_rows_keeps_its_three_arrays(letters):
    encoded = letters.encode([("a",), ("b", "c")], max_length=16)
    row = pad(encoded, [1, 0], 6).row(0)
    assert row.ids.tolist() == [[CLS, B, SEP, C, SEP, PAD]]
    assert row.mask.tolist() == [[1, 1, 1, 1, 1, 0]]
    assert row.segments.tolist() == [[0, 0, 0, 1, 1, 0]]


def test_padding_uses_the_vocabulary_s_own_pad():
    tokenizer = Tokenizer(["[UNK]", "[CLS]", "[SEP]", "a", "[PAD]"], "bert")
    assert pad(tokenizer.encode([("a",)], 8), [0], 4).ids.tolist() == [[1, 3, 2, 4]]


def test_no_rows_pad_to_empty_arrays(letters):
    encoded = letters.encode([], max_length=16)
    assert [array.shape for array in pad(encoded, [], 16)] == [(0, 16)] * 3


def test_a_row_that_does_not_fit_cannot_be_padded(letters):
    with pytest.raises(ValueError, match="a row of 5 ids does not fit into 4"):
        pad(letters.encode([("a b c",)], 16), [0], 4)


def test_rows_that_are_neither_texts_nor_pairs_are_refused(letters):
    with pytest.raises(ValueError, match="one or two texts, found 3"):
        letters.encode([("a", "b", "c")], max_length=16)
    with pytest.raises(ValueError, match="max_length is 4, expected at least 5"):
        letters.encode([("a", "b")], max_length=4)


def test_the_bert_kind_folds_case_and_strips_accents():
    texts = ["CAFÉ", "café", "Ａ", "a\u00a0b", "a\x00b\x01", "#a"]
    assert Tokenizer(LETTERS, "bert").pieces(texts) == [[10], [10], [UNK], [A, B], [A, 9], [UNK, A]]
    assert Tokenizer(LETTERS, "device").pieces(texts) == [[UNK], [11], [UNK], [UNK], [A], [UNK, A]]


def test_the_bert_kind_leaves_a_cased_vocabulary_s_case_alone():
    assert Tokenizer([*SPECIAL, "a", "A"], "bert", lowercase=False).pieces(["A a"]) == [[5, 4]]


def test_the_bert_kind_counts_characters_where_the_device_counts_bytes():
    text = "a" + "é" * 60
    vocabulary = [*SPECIAL, "a", "##é", "##e"]
    assert Tokenizer(vocabulary, "bert").pieces([text]) == [[4] + [6] * 60]
    assert Tokenizer(vocabulary, "device").pieces([text]) == [[UNK]]


def test_of_equal_entries_the_last_counts():
    vocabulary = [*SPECIAL, "a", "b", "a"]
    assert Tokenizer(vocabulary, "device").pieces(["a"]) == Tokenizer(vocabulary, "bert").pieces(["a"]) == [[6]]


def test_an_entry_longer_than_the_longest_word_is_never_found():
    word = "a" * 101
    assert Tokenizer([*SPECIAL, word]).pieces([word, "a" * 100]) == [[UNK], [UNK]]


@pytest.mark.parametrize("missing", SPECIAL)
@pytest.mark.parametrize("kind", ["device", "bert"])
def test_a_vocabulary_without_a_special_entry_is_refused(missing, kind):
    with pytest.raises(EncoderError, match=rf"the vocabulary of 4 entries lacks \[{missing[1:-1]}\]; expected"):
        Tokenizer([piece for piece in [*SPECIAL, "a"] if piece != missing], kind)


def test_the_device_kind_refuses_what_devices_cannot_do():
    with pytest.raises(EncoderError, match="always lower-case ASCII"):
        Tokenizer(LETTERS, lowercase=False)
    with pytest.raises(EncoderError, match=r"\[PAD\] is entry 1 .* pad with id 0"):
        Tokenizer(["[UNK]", "[PAD]", "[CLS]", "[SEP]"])
    with pytest.raises(ValueError, match="kind is 'regex'"):
        Tokenizer(LETTERS, "regex")


def test_the_share_of_rows_that_differ_is_measured():
    assert share_of_different_rows(LETTERS, ["a b", "café", "A", "CAFÉ"]) == 0.5
    assert share_of_different_rows(LETTERS, []) == 0.0


def test_a_vocabulary_file_is_split_at_line_feeds_only(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("[PAD]\r\na\u2028b\n\u00a0\n\x0b\n##é".encode())
    assert read_vocabulary(path) == ["[PAD]", "a\u2028b", "\u00a0", "\x0b", "##é"]
    assert parse_vocabulary(b"a\nb\n", "x") == ["a", "b"]


def test_bad_vocabulary_files_say_where(tmp_path):
    with pytest.raises(EncoderError, match=r"vocab.txt:2: the line is empty"):
        parse_vocabulary(b"a\n\nb\n", "vocab.txt")
    with pytest.raises(EncoderError, match=r"vocab.txt:2: byte 0xe9 at offset 5 is not UTF-8"):
        parse_vocabulary(b"a\ncaf\xe9\n", "vocab.txt")
    with pytest.raises(EncoderError, match=r"nothing.txt: the vocabulary cannot be read \(No such file"):
        read_vocabulary(tmp_path / "nothing.txt")


def test_the_device_kind_does_not_load_the_tokenizers_library():
    code = (
        "import sys; from textclf.data.tokens.wordpiece import Tokenizer;"
        f"Tokenizer({LETTERS!r}).pieces(['a b']);"
        "print([name for name in ('tokenizers', 'tensorflow', 'keras', 'pandas') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_real_texts_give_the_same_pieces_with_and_without_a_warm_cache(shared):
    vocabulary = read_vocabulary(shared / "encoders" / "hugging_face" / "vocab.txt")
    with open(shared / "data" / "umsab_french" / "test.csv", encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    tokenizer = Tokenizer(vocabulary)
    assert tokenizer.pieces(texts) == tokenizer.pieces(texts)
    assert share_of_different_rows(vocabulary, texts) > 0.5


@pytest.mark.parametrize(
    ("overflow", "kept"),
    [
        ("head", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("tail", [12, 13, 14, 15, 16, 17, 18, 19]),
        ("head_tail", [0, 1, 14, 15, 16, 17, 18, 19]),
    ],
)
def test_overflow_says_which_pieces_of_a_long_text_are_kept(overflow, kept):
    letters = "abcdefghijklmnopqrst"
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters])
    long, short = " ".join(letters), "a b c"
    encoded = tokenizer.encode([(long,), (short,)], 10, overflow)
    assert ids_of(encoded)[0] == [2, *(4 + piece for piece in kept), 3]
    assert ids_of(encoded)[1] == [2, 4, 5, 6, 3]
    assert encoded.truncated.tolist() == [True, False]
    [pair] = ids_of(tokenizer.encode([(long, short)], 14, overflow))
    assert pair == [2, *(4 + piece for piece in kept), 3, 4, 5, 6, 3]
