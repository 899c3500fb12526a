"""WordPiece exactly as the runtimes on phones and in browsers do it: takes texts and returns token ids with [CLS] and
[SEP].

`kind="device"` returns the ids that MediaPipe's TextClassifier and TensorFlow Lite's Task Library make of the same
text; `kind="bert"` returns those of BERT's Python tokenizer, which lower-cases all of Unicode and strips accents.

The device kind is implemented here. The `tokenizers` library cannot be told to lower-case ASCII only, to count bytes or
to use the runtimes' version of Unicode, and made 34,000 SMS a second on one core of an AVX-512 server where this module
made 230,000 (`sms_spam`, 79 characters on average, `encode`): natural text repeats itself, so the text between two
spaces is looked up in a cache and rarely split again. With an empty cache, the first 3,612 SMS were tokenized at 73,000
a second.

What the runtimes do was read from their sources (`bert_tokenizer.h`, `bert_preprocessor_calculator.cc`,
`bert_preprocessor.cc`, `regex_split.cc`, `wordpiece_tokenizer.cc`) and probed, with every code point and with 8,700
real and random texts, on mediapipe 1.2.2 and tflite-support 0.4.4 with a model that returns its own inputs:

- the text ends at its first NUL; A-Z become a-z and nothing else is folded, stripped or normalised;
- tab, line feed, form feed, carriage return and space separate words (vertical tab and the no-break space do not);
- each ASCII symbol, Unicode punctuation mark and CJK ideograph is a separate word;
- a word of more than 100 bytes of UTF-8 is [UNK]; other words are split greedily, longest entry first, and are
  one [UNK] if some part of them is not in the vocabulary;
- the first `max_length - 2` tokens are kept; positions after [SEP] have id 0.

mediapipe 1.2.2 knows 14 punctuation marks (Balinese, Garay, Tulu-Tigalari, Kirat Rai and other rare scripts) that
tflite-support 0.4.4 treats as letters; this module follows mediapipe.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from textclf.errors import EncoderError

if TYPE_CHECKING:
    import tokenizers
from textclf.data.tokens.encoded import Encoded, Overflow, kept_pieces, utf8

TokenizerKind = Literal["device", "bert"]

MAX_WORD_BYTES = 100

MAX_WORD_CHARACTERS = 100

SUFFIX_MARK = "##"

# Bounds on the cache: about 30 MB when full, without long chunks, which rarely occur twice.
CACHE_ENTRIES = 1 << 17

CACHED_CHUNK_BYTES = 48

BERT_BATCH = 4096

# Lower case and white space in one pass. Afterwards single spaces separate the words.
_FOLD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ\t\n\f\r", b"abcdefghijklmnopqrstuvwxyz    ")

# The delimiters outside ASCII that mediapipe 1.2.2 keeps as words (Python's own tables change with its version).
_PUNCTUATION = """
A1 A7 AB B6-B7 BB BF 37E 387 55A-55F 589-58A 5BE 5C0 5C3 5C6 5F3-5F4 609-60A 60C-60D 61B 61D-61F 66A-66D 6D4
700-70D 7F7-7F9 830-83E 85E 964-965 970 9FD A76 AF0 C77 C84 DF4 E4F E5A-E5B F04-F12 F14 F3A-F3D F85 FD0-FD4
FD9-FDA 104A-104F 10FB 1360-1368 1400 166E 169B-169C 16EB-16ED 1735-1736 17D4-17D6 17D8-17DA 1800-180A 1944-1945
1A1E-1A1F 1AA0-1AA6 1AA8-1AAD 1B4E-1B4F 1B5A-1B60 1B7D-1B7F 1BFC-1BFF 1C3B-1C3F 1C7E-1C7F 1CC0-1CC7 1CD3
2010-2027 2030-2043 2045-2051 2053-205E 207D-207E 208D-208E 2308-230B 2329-232A 2768-2775 27C5-27C6 27E6-27EF
2983-2998 29D8-29DB 29FC-29FD 2CF9-2CFC 2CFE-2CFF 2D70 2E00-2E2E 2E30-2E4F 2E52-2E5D 3001-3003 3008-3011
3014-301F 3030 303D 30A0 30FB A4FE-A4FF A60D-A60F A673 A67E A6F2-A6F7 A874-A877 A8CE-A8CF A8F8-A8FA A8FC
A92E-A92F A95F A9C1-A9CD A9DE-A9DF AA5C-AA5F AADE-AADF AAF0-AAF1 ABEB FD3E-FD3F FE10-FE19 FE30-FE52 FE54-FE61
FE63 FE68 FE6A-FE6B FF01-FF03 FF05-FF0A FF0C-FF0F FF1A-FF1B FF1F-FF20 FF3B-FF3D FF3F FF5B FF5D FF5F-FF65
10100-10102 1039F 103D0 1056F 10857 1091F 1093F 10A50-10A58 10A7F 10AF0-10AF6 10B39-10B3F 10B99-10B9C 10D6E
10EAD 10ED0 10F55-10F59 10F86-10F89 11047-1104D 110BB-110BC 110BE-110C1 11140-11143 11174-11175 111C5-111C8
111CD 111DB 111DD-111DF 11238-1123D 112A9 113D4-113D5 113D7-113D8 1144B-1144F 1145A-1145B 1145D 114C6
115C1-115D7 11641-11643 11660-1166C 116B9 1173C-1173E 1183B 11944-11946 119E2 11A3F-11A46 11A9A-11A9C
11A9E-11AA2 11B00-11B09 11BE1 11C41-11C45 11C70-11C71 11EF7-11EF8 11F43-11F4F 11FFF 12470-12474 12FF1-12FF2
16A6E-16A6F 16AF5 16B37-16B3B 16B44 16D6D-16D6F 16E97-16E9A 16FE2 1BC9F 1DA87-1DA8B 1E5FF 1E95E-1E95F
"""

_SURROGATE = re.compile("[\ud800-\udfff]")

_IDEOGRAPHS = "3400-4DBF 4E00-9FFF F900-FAFF 20000-2A6DF 2A700-2B73F 2B740-2B81F 2B820-2CEAF 2F800-2FA1F"

_ASCII_SYMBOLS = "21-2F 3A-40 5B-60 7B-7E"


def device_delimiters() -> list[tuple[int, int]]:
    """Returns the code points of which each is a separate word on devices, as ranges with their last one."""
    return _ranges(f"{_ASCII_SYMBOLS} {_PUNCTUATION} {_IDEOGRAPHS}")


def ideographs() -> list[tuple[int, int]]:
    """Returns the ranges of CJK ideographs in the same way."""
    return _ranges(_IDEOGRAPHS)


def _ranges(listed: str) -> list[tuple[int, int]]:
    ends = (item.partition("-") for item in listed.split())
    return [(int(first, 16), int(last or first, 16)) for first, _, last in ends]


@functools.cache
def _word_pattern() -> re.Pattern[str]:
    """Matches one delimiter, or the longest run of other characters."""
    delimiters = "".join(rf"\U{first:08x}-\U{last:08x}" for first, last in device_delimiters())
    return re.compile(f"[{delimiters}]|[^{delimiters}]+")


class Spans(NamedTuple):
    """The tokens of one text: their ids, and the first character and the one after the last of each."""

    ids: np.ndarray  # int32 [tokens]
    starts: np.ndarray  # int32 [tokens]
    ends: np.ndarray  # int32 [tokens]


class Tokenizer:
    """Texts to ids of `vocabulary`, whose entry i has id i (of equal entries the last counts, as everywhere).

    May be used by several threads at once. Raises EncoderError when the vocabulary lacks [PAD], [UNK], [CLS] or [SEP],
    or cannot be used in the way that devices do (`kind="device"`: always lower-cased, [PAD] has id 0).
    """

    def __init__(self, vocabulary: Sequence[str], kind: TokenizerKind = "device", lowercase: bool = True) -> None:
        if kind not in get_args(TokenizerKind):
            raise ValueError(f"kind is {kind!r}, expected one of {', '.join(get_args(TokenizerKind))}")
        ids = {piece: index for index, piece in enumerate(vocabulary)}
        self.kind = kind
        self.vocabulary = tuple(vocabulary)
        self.pad_id, self.unknown_id, self.classification_id, self.separator_id = _special_ids(ids)
        self._ids_of_chunk: _PiecesOfChunk | None = None
        self._bert: tokenizers.Tokenizer | None = None
        if kind == "device":
            _check_fit_for_devices(self.pad_id, lowercase)
            self._ids_of_chunk = _PiecesOfChunk(ids, self.unknown_id)
        else:
            self._bert = _bert_tokenizer(ids, lowercase)

    def ids_added(self, texts: int) -> int:
        """Returns how many ids `encode` adds to the tokens of this many texts: [CLS], and a [SEP] after each."""
        return 1 + texts

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the token ids of each text, without [CLS] and [SEP] and not truncated."""
        return list(self._iterate_pieces(texts))

    def encode(self, texts: Sequence[tuple[str, ...]], max_length: int, overflow: Overflow = "head") -> Encoded:
        """Rows of one or two texts as [CLS] first [SEP] or [CLS] first [SEP] second [SEP], at most `max_length` ids.

        `overflow` says which tokens of a text that is too long are kept. In a pair, the longer text is truncated until
        both fit, as in BERT's `_truncate_seq_pair`. Device runtimes always keep the head and accept single texts only:
        a pair needs a runtime that sets segment ids. Raises ValueError for rows of no or more than two texts, and for a
        `max_length` without room for a token of each.
        """
        widths = set(map(len, texts))
        if widths - {1, 2}:
            raise ValueError(f"a row to encode has one or two texts, found {max(widths - {1, 2})}")
        shortest = 1 + 2 * max(widths, default=1)
        if max_length < shortest:
            raise ValueError(f"max_length is {max_length}, expected at least {shortest}")
        pieces = self._iterate_pieces(list(chain.from_iterable(texts)))
        start, separator = [self.classification_id], [self.separator_id]
        flat: list[int] = []
        offsets = np.zeros(len(texts) + 1, dtype=np.int64)
        first_lengths = np.zeros(len(texts), dtype=np.int32)
        truncated = np.zeros(len(texts), dtype=bool)
        for row, row_texts in enumerate(texts):
            first = next(pieces)
            if len(row_texts) == 1:
                ids = kept_pieces(first, max_length - 2, overflow)
                truncated[row] = len(ids) < len(first)
                flat += start + ids + separator
                first_lengths[row] = len(ids) + 2
            else:
                second = next(pieces)
                kept_first, kept_second = _lengths_of_pair(len(first), len(second), max_length - 3)
                truncated[row] = kept_first + kept_second < len(first) + len(second)
                flat += start + kept_pieces(first, kept_first, overflow) + separator
                flat += kept_pieces(second, kept_second, overflow) + separator
                first_lengths[row] = kept_first + 2
            offsets[row + 1] = len(flat)
        return Encoded(np.array(flat, dtype=np.int32), offsets, first_lengths, truncated, self.pad_id)

    def spans(self, text: str) -> Spans:
        """Returns the tokens of a text, as `pieces` does, and the characters (code points) of each in the text.

        A word that the encoder does not know is one token. Without accents (`kind="bert"`), a letter's token has the
        combining marks that follow it.
        """
        clean, places = _without_surrogates(text)
        spans = self._device_spans(clean) if self._bert is None else self._bert_spans(clean)
        return spans if places is None else Spans(spans.ids, places[spans.starts], places[spans.ends])

    def _device_spans(self, text: str) -> Spans:
        assert self._ids_of_chunk is not None
        chunks = text.partition("\0")[0].encode().translate(_FOLD).decode().split(" ")
        spans = list(map(self._ids_of_chunk.spans, chunks))
        places = np.cumsum([0, *(len(chunk) + 1 for chunk in chunks[:-1])])
        ids, starts, ends = (np.fromiter(chain.from_iterable(column), np.int32) for column in zip(*spans, strict=True))
        shift = np.repeat(places, [len(own[0]) for own in spans]).astype(np.int32)
        return Spans(ids, starts + shift, ends + shift)

    def _bert_spans(self, text: str) -> Spans:
        assert self._bert is not None
        encoding = self._bert.encode(text, add_special_tokens=False)
        starts, ends = np.array(encoding.offsets, np.int32).reshape(-1, 2).T
        if not text.isascii():
            for place, end in enumerate(ends.tolist()):
                until = starts[place + 1] if place + 1 < len(starts) else len(text)
                while end < until and not text[end].isascii() and unicodedata.category(text[end]).startswith("M"):
                    end += 1
                ends[place] = end
        return Spans(np.array(encoding.ids, np.int32), starts, ends)

    def _iterate_pieces(self, texts: Sequence[str]) -> Iterator[list[int]]:
        if self._ids_of_chunk is not None:
            look_up = self._ids_of_chunk.__getitem__
            for text in texts:
                folded = utf8(text).partition(b"\0")[0].translate(_FOLD)
                yield list(chain.from_iterable(map(look_up, folded.split(b" "))))
        elif self._bert is not None:
            for begin in range(0, len(texts), BERT_BATCH):
                batch = [utf8(text).decode() for text in texts[begin : begin + BERT_BATCH]]
                for encoding in self._bert.encode_batch_fast(batch, add_special_tokens=False):
                    yield encoding.ids


def share_of_different_rows(vocabulary: Sequence[str], texts: Sequence[str]) -> float:
    """Returns the fraction (0 to 1) of texts that the device tokenizer and BERT's split into different tokens; 0 for no
    texts."""
    if not texts:
        return 0.0
    device = Tokenizer(vocabulary, "device").pieces(texts)
    bert = Tokenizer(vocabulary, "bert").pieces(texts)
    return sum(a != b for a, b in zip(device, bert, strict=True)) / len(texts)


def _without_surrogates(text: str) -> tuple[str, np.ndarray | None]:
    """Returns the text as `utf8` reads it and, where it has surrogates, the places of its characters in the original."""
    if not _SURROGATE.search(text):
        return text, None
    clean = utf8(text).decode()
    places, place = [], 0
    for character in clean:
        places.append(place)
        place += 2 if character > "\uffff" and text[place] != character else 1
    return clean, np.array([*places, len(text)], np.int32)


def _special_ids(ids: dict[str, int]) -> list[int]:
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    missing = [piece for piece in special if piece not in ids]
    if missing:
        raise EncoderError(
            f"the vocabulary of {len(ids)} entries lacks {', '.join(missing)}; expected BERT's vocab.txt with "
            f"{', '.join(special)}. Use the vocabulary that came with the encoder"
        )
    return [ids[piece] for piece in special]


def _check_fit_for_devices(pad_id: int, lowercase: bool) -> None:
    if not lowercase:
        raise EncoderError(
            "the vocabulary is cased (do_lower_case is false), but device runtimes always lower-case ASCII letters; "
            "use an uncased encoder, or set `encoder.tokenizer: bert` for use outside those runtimes"
        )
    if pad_id != 0:
        raise EncoderError(
            f"[PAD] is entry {pad_id} of the vocabulary, but device runtimes pad with id 0; "
            "use a vocabulary that begins with [PAD], or set `encoder.tokenizer: bert`"
        )


def _lengths_of_pair(first: int, second: int, room: int) -> tuple[int, int]:
    """Returns what is left of two lengths when the longer (of equal ones the second) loses one until both fit into
    `room`."""
    kept_second = min(second, max(room // 2, room - first))
    return min(first, room - kept_second), kept_second


_ChunkSpans: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


class _PiecesOfChunk(dict[bytes, tuple[int, ...]]):
    """Maps the text between two spaces (normalised UTF-8) to its token ids. Filled at first use while there is room."""

    def __init__(self, ids: dict[str, int], unknown_id: int) -> None:
        super().__init__({b"": ()})
        self._vocabulary = ids
        self._longest_piece = max(map(len, ids))
        self._spans: dict[str, _ChunkSpans] = {}
        self._lengths = {index: len(piece) for piece, index in ids.items()}
        self._unknown = (unknown_id,)

    def __missing__(self, chunk: bytes) -> tuple[int, ...]:
        words = _word_pattern().findall(chunk.decode())
        pieces = tuple(chain.from_iterable(map(self._pieces_of_word, words)))
        if len(chunk) <= CACHED_CHUNK_BYTES:
            if len(self) >= CACHE_ENTRIES:
                self.clear()
                self[b""] = ()
            self[chunk] = pieces
        return pieces

    def spans(self, chunk: str) -> _ChunkSpans:
        """Returns the tokens of the text between two spaces with their characters in it."""
        known = self._spans.get(chunk)
        if known is not None:
            return known
        ids: list[int] = []
        starts: list[int] = []
        ends: list[int] = []
        place = 0
        for word in _word_pattern().findall(chunk):
            pieces = self._pieces_of_word(word)
            end = place
            for number, piece in enumerate(pieces):
                starts.append(end)
                is_last = number == len(pieces) - 1
                end = place + len(word) if is_last else end + self._lengths[piece] - len(SUFFIX_MARK) * (number > 0)
                ends.append(end)
            ids.extend(pieces)
            place += len(word)
        spans = tuple(ids), tuple(starts), tuple(ends)
        if len(chunk) <= CACHED_CHUNK_BYTES:
            if len(self._spans) >= CACHE_ENTRIES:
                self._spans.clear()
            self._spans[chunk] = spans
        return spans

    def _pieces_of_word(self, word: str) -> tuple[int, ...]:
        # Before the look-up in the vocabulary: it might contain a longer entry, which devices never find.
        if len(word.encode()) > MAX_WORD_BYTES:
            return self._unknown
        vocabulary = self._vocabulary
        whole = vocabulary.get(word)
        if whole is not None:
            return (whole,)
        pieces: list[int] = []
        rest = word
        while rest:
            mark = SUFFIX_MARK if pieces else ""
            for end in range(min(len(rest), self._longest_piece), 0, -1):
                piece = vocabulary.get(mark + rest[:end])
                if piece is not None:
                    break
            else:
                return self._unknown
            pieces.append(piece)
            rest = rest[end:]
        return tuple(pieces)


def _bert_tokenizer(ids: dict[str, int], lowercase: bool) -> tokenizers.Tokenizer:
    """The steps of BERT's tokenizer: clean, lower-case and strip accents (for uncased vocabularies), split into tokens."""
    import tokenizers

    bert = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            ids,
            unk_token="[UNK]",
            max_input_chars_per_word=MAX_WORD_CHARACTERS,
            continuing_subword_prefix=SUFFIX_MARK,
        )
    )
    bert.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    bert.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return bert
