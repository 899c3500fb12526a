"""Detects the character encoding of a file from the rows that are not ASCII.

An encoding is reported only if it decodes every row and its text is far more plausible than with every other encoding.
Plausible text has the letters of a language with their usual frequencies, and capitals, quotation marks and other signs
in their usual places.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

# If several encodings give the same text, the first is reported.
CANDIDATES = (
    "cp1252 iso-8859-15 latin-1 mac-roman cp850 cp437 cp1251 koi8-r cp866 mac-cyrillic iso-8859-5 koi8-u cp855 "
    "cp1250 iso-8859-2 cp852 mac-latin2 iso-8859-16 cp1253 iso-8859-7 cp737 mac-greek cp869 cp1254 iso-8859-9 cp857 "
    "mac-turkish cp1257 iso-8859-13 iso-8859-4 cp775 cp1255 iso-8859-8 cp862 cp1256 iso-8859-6 cp720 cp864 cp1258 cp874 "
    "cp858 cp865 cp861 cp860 cp863 mac-iceland iso-8859-10 iso-8859-14 iso-8859-3 "
    "shift_jis cp932 euc-jp gb18030 big5 cp950 big5hkscs euc-kr cp949 johab"
).split()

_RARE = frozenset(
    "koi8-u cp855 cp869 cp775 cp720 cp864 cp858 cp865 cp861 cp860 cp863 iso-8859-10 iso-8859-14 iso-8859-3".split()
)

_SAMPLE_BYTES = 1 << 12

_BLOCK_BYTES = 1 << 16

_CLEAR_LEAD = 4.0
"""Natural logarithm of how much more probable the best text must be than the next: e⁴ is 55 times."""

_LOWEST_MEAN = -6.0
"""Mean log probability of a non-ASCII byte; random bytes are below this in every encoding."""

# The letters beyond ASCII of each language, the most frequent first.
_LATIN = {
    "German": "üäöß",
    "French": "éèàêçôîûâùëïœ",
    "Spanish": "óíáéñúü",
    "Portuguese": "ãçéáíóõêúâàô",
    "Italian": "èàùòìé",
    "Catalan": "àéèóíçòúïü",
    "Swedish": "äåöé",
    "Danish": "åøæé",
    "Dutch": "ëéïèöüó",
    "Icelandic": "áðíþóéöúýæ",
    "Albanian": "ëç",
    "Polish": "łęąóżśćńź",
    "Czech": "íáěéýžčřšůúťďňó",
    "Slovak": "áíéžýčšúťľďôňäóŕĺ",
    "Hungarian": "áéöóőüíúű",
    "Romanian": "ăîţşâțș",
    "Croatian": "čžšćđ",
    "Turkish": "ıüşçğöİâî",
    "Lithuanian": "ėšųžįūčąę",
    "Latvian": "āīēšūņļžķčģ",
    "Estonian": "äõüöšž",
    "Esperanto": "ĉĝŝŭĥĵ",
    "Maltese": "ħżġċàùò",
    "Vietnamese": "đà\u0323\u0301\u0300ưôêáơâạả\u0309ếộấăãóớựđíìềờệ\u0303ứúốủọợòầậýịùồừữùểụéạắặổởửỏẻèõĩ",
}

_OTHER_SCRIPTS = {
    "Russian": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё",
    "Ukrainian": "оанивірестлкмдупзяьбгйчхцїшжєюфщґ",
    "Belarusian": "аніреосткляўдмпувызьгбчйцхёшжэюф",
    "Bulgarian": "аиоентрсвлкдпмзгяъубчцйжщхюшфьѝ",
    "Serbian": "аиоенрсутјкдвмплгзбчшцжћљхњђфџѓќѕ",
    "Greek": "αοιετνσρκπμςληυωθδγάίόέήύώχφβξζψϊϋΐΰ",
    "Hebrew": "יוהלאתמרבשנםעדקחפסכגטצןזךףץ",
    "Arabic": "اليمونرتبةعدسفهكقأحجشطصىخإذضزثئءغظآؤ",
    "Persian": "ایردنهومتبسلکشزفگعخقجآپحطصچژضظثذغئيكة",
    "Thai": "านรอกเง่มย้ลวดทัสีติะปบคหุแจพชขใ์ไื็ำึผโูซณศธภถญษฉฐฝฟ",
}

_KANA = (
    "のいたるてにとしをはでがなかれらさっりすあもこまうくよきんめおけそつだやえどわちみせじばへびずろほげむべひょゆぶごゃねふ"
    "ーンスルトリイアラックドシレジタフロカテマグバムプオコデニウメサビナブャエュチキズダパミェョハセ"
)

_COMMON_CHARACTERS = {
    "Japanese": (
        "日一人年大十二本中長出三時行見月分後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千水半男西電校語土木聞食車何南万毎白天母火右読友左休父雨会社事者自地業方新場員立開手力問代明動京目"
        "通言理体田主題意不作用度強公持野以思家世多正安院心界教文元重近考画海売知道集別物使品計死特私始朝運終台広住真有無口少町料工建空急止送切転研足究楽起着店病質待試族銀早映親験仕注届返商配請求連絡対応確認変"
        "更"
    ),
    "Chinese": (
        "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实"
        "日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员"
        "解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市"
    ),
    "Traditional Chinese": (
        "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方多經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實"
        "日軍者意無力它與長把機十民第公此已工使情明性知全三又關點正業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果加西斯月話合回特代內信表化老給世位次度門任常先海通教兒原東聲提立及比員"
        "解水名真論處走義各入幾口認條平系氣題活爾更別打女變四神總何電數安少報才結反受目太量再感建務做接必場件"
    ),
    "Korean": (
        "이다에의는로하을가고지서한은기으년대사시를리도인스일어있자해수그나부정라것보전제장아들주구만게상여원요습니비세동국조과트관성공면드치오안중거선되와미신생경위모유했방당실학화문교회체행개민간소무후진영적"
        "된발내계분금용단말할물품편없때연속등데러저마음"
    ),
}

_COMMON_SIGNS = "’“”–—…«»„€\u00a0、。，！？「」，：（）・；《》"

_OTHER_SIGNS = "‘°£§•·¿¡ºª©®™№‚‹›²½´¥‰™※『』【】～〜"

_BETWEEN_LETTERS = frozenset("’'·-‑–—…`´/&・ー")

_UNUSUAL_LETTER = -9.0

_UNUSUAL_SIGN = -9.5

_NO_TEXT = -14.0

_PENALTY = -5.0

_BONUS = 3.0

_SIGN_IN_PLACE = re.compile(
    r"(?<=[a-z])’(?=(?:s|t|re|ll|d|m|ve)\b)|(?<=\b[dlcnsj])’(?=\w)|(?:^|(?<=[\s(]))[“„«](?=[\w\s])|(?<=[\w.,!?\s])[”»](?=[\s.,;)]|$)"
    r"|(?<=\s)[–—](?=\s)|[£€](?=\s?\d)|(?<=\d)\s?[£€°]|(?<=\w)…|[¿¡](?=\w)",
    re.MULTILINE,
)

_WORD = re.compile(r"[^\W\d_]+(?:[\u0300-\u036f]+[^\W\d_]*)*")

_SIGN_IN_WORD = re.compile(r"(?<=[^\W\d_])[^\w\s\x00-\x7f](?=[^\W\d_])")


@dataclass(frozen=True)
class Verdict:
    """The evidence for an encoding. `example` is a word of the rows as this encoding decodes it."""

    encoding: str
    example: str


@dataclass
class Evidence:
    """The evidence about the encoding of a file from its non-ASCII rows. Its size does not grow with the file.

    `undecodable` rows do not fit the encoding in which the file was read, `decodable` ones do.
    """

    encoding: str
    undecodable: int = 0
    decodable: int = 0
    _bad: _Rows = field(default_factory=lambda: _Rows())
    _good: _Rows = field(default_factory=lambda: _Rows())

    def add(self, raw: str) -> None:
        """Count a row: its text as it was decoded with the error handler `surrogateescape`."""
        if raw.isascii() or self.encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
            return
        codec = "utf-8" if self.encoding == "utf-8-sig" else self.encoding
        try:
            row = raw.encode(codec, "surrogateescape")
        except UnicodeError:
            return
        if re.search("[\udc80-\udcff]", raw):
            self.undecodable += 1
            self._bad.add(row)
        else:
            self.decodable += 1
            self._good.add(row)

    @property
    def is_mixed(self) -> bool:
        """Whether the rows that fit are better read as they were, so that the other rows are the exception."""
        if not self.decodable or not self.undecodable:
            return False
        if self.encoding.startswith("utf-8"):
            verdict = self._bad.verdict()
            return verdict is None or self._good.mean("utf-8") >= self._good.mean(verdict.encoding)
        return _both(self._bad, self._good).verdict() is None

    def verdict(self) -> Verdict | None:
        """Returns the encoding of the whole file, or None if the rows are not conclusive or have more than one
        encoding."""
        return None if self.is_mixed else _both(self._bad, self._good).verdict()

    def verdict_on_undecodable(self) -> Verdict | None:
        """Returns the encoding of the undecodable rows alone."""
        return self._bad.verdict()

    def doubt(self) -> Verdict | None:
        """An encoding that fits all rows far better than the given one: UTF-8, or text instead of nonsense."""
        if self.encoding.startswith("utf-8") or not self.decodable:
            return None
        rows = _both(self._bad, self._good)
        verdict = rows.verdict()
        if verdict is None or verdict.encoding == "utf-8":
            return verdict
        differs = rows.text(verdict.encoding) != rows.text(self.encoding)
        return verdict if differs and rows.mean(self.encoding) < _LOWEST_MEAN else None


class _Rows:
    """Rows of bytes: a sample of the first, and which encodings decode all of them."""

    def __init__(self) -> None:
        self.sample = b""
        self._block: list[bytes] = []
        self._block_size = 0
        self._candidates = ["utf-8", *CANDIDATES]

    def add(self, row: bytes) -> None:
        row = row if row.endswith((b"\n", b"\r")) else row + b"\n"
        if len(self.sample) < _SAMPLE_BYTES:
            self.sample += row[:_SAMPLE_BYTES] if len(row) > _SAMPLE_BYTES else row
        self._block.append(row)
        self._block_size += len(row)
        if self._block_size > _BLOCK_BYTES:
            self.candidates()

    def candidates(self) -> list[str]:
        """Returns the encodings in which all rows so far are text."""
        block = b"".join(self._block)
        self._block, self._block_size = [], 0
        self._candidates = [codec for codec in self._candidates if _decoded(block, codec) is not None]
        return self._candidates

    def text(self, codec: str) -> str | None:
        return _decoded(self.sample, codec)

    def mean(self, codec: str) -> float:
        """Log probability of a non-ASCII byte of the sample, on average; minus infinity where it is not in the codec."""
        text = self.text(codec)
        return -math.inf if text is None else _plausibility(text) / max(1, _beyond_ascii(self.sample))

    def verdict(self) -> Verdict | None:
        """Returns the encoding whose text is the most plausible by far."""
        candidates = self.candidates()
        beyond = _beyond_ascii(self.sample)
        if not beyond:
            return None
        if candidates[:1] == ["utf-8"]:  # multi-byte UTF-8 rarely occurs by accident
            return Verdict("utf-8", _example(self.text("utf-8") or ""))
        codecs_of: dict[str, str] = {}
        for codec in candidates:
            codecs_of.setdefault(self.text(codec) or "", codec)
        ranked = sorted(
            ((_plausibility(text) + _prior(codec), text) for text, codec in codecs_of.items() if text), reverse=True
        )
        if not ranked or ranked[0][0] / beyond < _LOWEST_MEAN:
            return None
        if len(ranked) > 1 and ranked[0][0] - ranked[1][0] < _CLEAR_LEAD:
            return None
        return Verdict(codecs_of[ranked[0][1]], _example(ranked[0][1]))


def _both(one: _Rows, other: _Rows) -> _Rows:
    both = _Rows()
    both.sample = (one.sample[: _SAMPLE_BYTES // 2] if other.sample else one.sample) + other.sample
    known = set(other.candidates())
    both._candidates = [codec for codec in one.candidates() if codec in known]
    return both


def _decoded(rows: bytes, codec: str) -> str | None:
    try:
        return rows.decode(codec)
    except (UnicodeError, LookupError):
        return None


def _beyond_ascii(rows: bytes) -> int:
    return len(rows) - len(rows.translate(None, bytes(range(128, 256))))


def _example(text: str) -> str:
    """Returns the longest of the first words that are not ASCII."""
    words = [word for word in _WORD.findall(text[:4000]) if not word.isascii()]
    return max(words[:20], key=len, default="")[:30]


# --- Plausibility ----------------------------------------------------------------------------------------------------
def _plausibility(text: str) -> float:
    """Log probability of the characters beyond ASCII in the language that fits best, less a penalty for odd places."""
    counts = Counter(character for character in text if character > "\x7f")
    letters = {character: count for character, count in counts.items() if _is_letter(character)}
    signs = sum(count * _sign(character) for character, count in counts.items() if character not in letters)
    capitals = sum(count for character, count in letters.items() if character.isupper())
    best = max(
        sum(count * table.get(_lowered(character, table), _floor(character)) for character, count in letters.items())
        for table in _languages()
    )
    in_place = _BONUS * len(_SIGN_IN_PLACE.findall(text))
    return best + signs + in_place - 0.7 * capitals + _PENALTY * _oddities(text)


def _prior(codec: str) -> float:
    """Log probability, but for a constant, of meeting an encoding: the list of candidates begins with the common ones."""
    return -1.5 if codec.startswith("mac-") or codec in _RARE else 0.0


def _oddities(text: str) -> float:
    """Returns how many letters and signs are where no language puts them."""
    odd = 2.0 * sum(sign not in _BETWEEN_LETTERS for sign in _SIGN_IN_WORD.findall(text))
    for word in _WORD.findall(text):
        if not word.isascii():
            odd += _oddities_of_word(word)
    return odd


def _oddities_of_word(word: str) -> float:
    scripts = {_script(character) for character in word} - {""}
    odd = 0.0
    if len(scripts) > 1 and not scripts <= {"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "LATIN"}:
        odd += 1.5
    for one, other in pairwise(word):
        if one.islower() and other.isupper() and not (one.isascii() and other.isascii()):
            odd += 1.0
    if len(word) > 2 and word[:2].isupper() and any(c.islower() and not c.isascii() for c in word[2:]):
        odd += 1.0
    odd += len(re.findall(r"[a-z][^\x00-\x7f](?=[a-z])", word)) if len(scripts) > 1 else 0.0
    if scripts == {"LATIN"}:
        if len(word) > 1 and not any(character.isascii() for character in word):
            odd += 1.0
        odd += sum(len(run) > 2 for run in re.findall(r"[^\x00-\x7f]+", word))
    return odd


def _floor(character: str) -> float:
    """Letters that no listed language uses. All Chinese characters are possible."""
    return -8.5 if _script(character) in ("CJK", "HANGUL") else _UNUSUAL_LETTER


def _lowered(character: str, table: dict[str, float]) -> str:
    return character if character in table else character.lower()


@lru_cache(maxsize=1 << 14)
def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM" and character not in "ªºー"


@lru_cache(maxsize=1 << 14)
def _sign(character: str) -> float:
    if character in _COMMON_SIGNS:
        return -4.0
    if character in _OTHER_SIGNS:
        return -6.0
    category = unicodedata.category(character)
    if category in ("Cc", "Co", "Cn", "Cs") or "\u2500" <= character <= "\u259f":
        return _NO_TEXT
    return -4.5 if character == "ー" else _UNUSUAL_SIGN


@lru_cache(maxsize=1 << 14)
def _script(character: str) -> str:
    """Returns the first word of a letter's name, such as LATIN; nothing for marks that any script may have."""
    if unicodedata.category(character)[0] == "M":
        return ""
    return unicodedata.name(character, " ").split(maxsplit=1)[0] if character != "ー" else ""


@lru_cache(maxsize=1)
def _languages() -> list[dict[str, float]]:
    """Log probabilities of the letters beyond ASCII, one table a language."""
    tables = [dict(_by_rank(letters, 0.93)) for letters in (*_LATIN.values(), *_OTHER_SCRIPTS.values())]
    for language, characters in _COMMON_CHARACTERS.items():
        distinct = list(dict.fromkeys(characters))
        table = dict(_by_rank(_KANA, 0.6)) if language == "Japanese" else {}
        share = 0.25 if language == "Japanese" else 0.6
        table.update(dict.fromkeys(distinct, math.log(share / len(distinct))))
        tables.append(table)
    return tables


def _by_rank(letters: str, mass: float) -> Iterator[tuple[str, float]]:
    distinct = list(dict.fromkeys(letters))
    scale = max(1.5, len(distinct) / 3)
    weights = [math.exp(-rank / scale) for rank in range(len(distinct))]
    for letter, weight in zip(distinct, weights, strict=True):
        yield letter, math.log(mass * weight / sum(weights))
