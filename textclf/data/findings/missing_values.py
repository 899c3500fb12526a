"""Detects written-out missing values: takes a cell and returns the programs that write a missing value in this way.

The value is not changed: `NA` means Namibia in one file and nothing in another, so a person has to decide.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from textclf.data.findings.finding import Finding, counted, enumerated, of_rows, visible

_PANDAS = "pandas and NumPy"

_PYTHON = "Python"

_SQL = "databases, JSON and Java"

_JAVASCRIPT = "JavaScript"

_R = "R"

_SPREADSHEET = "spreadsheets, as an error value"

_PIVOT = "pivot tables"

_DUMP = "MySQL, PostgreSQL and Hive"

_STATISTICS = "Stata and SAS"

_PEOPLE = "people and forms"

_QUOTES = "programs that quote an empty text twice"

_LISTS = "programs that write an empty list or object as text"

_NIL = "Ruby, Lua, Go and Objective-C"

_SPELLINGS: dict[str, str] = {
    _PANDAS: "nan -nan +nan nan% nan() nat <na> pd.na np.nan 1.#qnan -1.#ind 1.#ind -1.#qnan #qnan",
    _PYTHON: "none nonetype",
    _SQL: "null dbnull system.dbnull #null sql_null",
    _JAVASCRIPT: "undefined [object_object]",
    _R: "na na_character_ na_integer_ na_real_ nan_character_",
    _NIL: "nil",
    _DUMP: r"\n",
    "Julia": "nothing",
    "Mathematica": "missing[] missing[notavailable]",
    "SPSS": "sysmis #null!",
    "surveys, as a code for no answer": "-99 -999 -9999 -99.0 -999.0 -9999.0",
    "Google Analytics": "not_set not_provided",
    "Reddit": "deleted removed",
    "MySQL": "0000-00-00 0000-00-00_00:00:00",
    # Excel, LibreOffice and Google Sheets write their errors in the language of the program.
    _SPREADSHEET: (
        "#n/a #n/a! #n/a_n/a #value! #ref! #div/0! #name? #num! #null! #spill! #calc! #getting_data #field! #blocked! "
        "#connect! #busy! #unknown! #error! #external! #python! "
        "#nv #wert! #bezug! #zahl! #überlauf! #leer! "
        "#valeur! #nom? #nombre! #nul! #propagation! "
        "#n/d #n/d! #¡valor! #¡ref! #¡div/0! #¿nombre? #¡num! #¡nulo! #¡desbordamiento! "
        "#valore! #rif! #nome? #nullo! #valor! #núm! #nulo! #despejar! "
        "#n/b #waarde! #verw! #deel/0! #naam? #getal! #leeg! "
        "#arg! #adr! #liczba! #nazwa? #dziel/0! #zero! "
        "#н/д #знач! #ссылка! #дел/0! #имя? #число! #пусто! "
        "#saknas! #värdefel! #referens! #division/0! #namn? #ogiltigt! #i/t #værdi! #reference! #navn? #verdi! "
        "#puuttuu! #arvo! #viittaus! #nimi? #jako/0! #luku! #yok #değer! #başv! #sayi/0! #sayı/0! #ad? #sayi! #sayı! "
        "#hodnota! #odkaz! #dělení_nulou! #název? #hiányzik #érték! #hiv! #zéróosztó! #név? #szám!"
    ),
    _PIVOT: "blank leer vide en_blanco vuoto vazio lege tomma puste пусто 空白 空 vacío vacías",
    _PEOPLE: (
        "nicht_verfügbar nicht_vorhanden nicht_zutreffend nicht_angegeben non_applicable non_disponible no_disponible "
        "no_aplica não_disponível não_aplicável non_disponibile non_specificato не_указано отсутствует "
        "n/a n.a. n.a n\\a #na missing empty unknown unknown? unk not_available not_applicable no_data no_value no_label "
        "unlabeled unlabelled unspecified unassigned not_specified n.d. n/d tbd tba nd "
        "- -- --- – — ? ?? ??? . .. ... … * _ / // x.x "
        "k.a. k._a. keine_angabe unbekannt fehlt s/d s.d. sin_datos desconocido sans_objet non_renseigné non_renseignée "
        "inconnu inconnue nr sconosciuto desconhecido onbekend okänd ukjent ukendt tuntematon nieznany brak brak_danych "
        "нет нет_данных н/д неизвестно 不明 无 無 未知 なし 不詳 없음 미상 غير_متوفر غير_معروف bilinmiyor"
    ),
    _QUOTES: '"" \'\' """" `` “” «»',
    _LISTS: '[] {} () <> [\'\'] [""] {""}',
}

_WRITTEN_BY = {
    unicodedata.normalize("NFKC", spelling).replace("_", " ").strip() or spelling: program
    for program, spellings in _SPELLINGS.items()
    for spelling in spellings.split()
}

# Underscores that belong to the spelling itself.
_WRITTEN_BY |= {"_": _PEOPLE, "na_character_": _R, "na_integer_": _R, "na_real_": _R, "sql_null": _SQL}

_LONGEST = 2 * max(map(len, _WRITTEN_BY))

_LIBREOFFICE_ERROR = re.compile(r"err:\d{3}")

_STATISTICS_CODE = re.compile(r"\.[a-z_]")

_WRAPPED = re.compile(r"[\[(<{\"'`]\s*(.+?)\s*[\])>}\"'`]")


def written_by(value: str) -> str | None:
    """Returns the programs that write a missing value in this way, in words, or None for any other value."""
    if len(value) > _LONGEST:
        return None
    plain = " ".join(unicodedata.normalize("NFKC", value).casefold().split())
    if _LIBREOFFICE_ERROR.fullmatch(plain):
        return _SPREADSHEET
    if plain == "." or _STATISTICS_CODE.fullmatch(plain):
        return _STATISTICS
    wrapped = _WRAPPED.fullmatch(plain)
    words = plain.split()
    # `nan nan` is the result when a program joins two missing cells.
    joined = words[0] if len(words) > 1 and len(set(words)) == 1 and words[0].isalpha() else ""
    for spelling in (plain, wrapped[1] if wrapped else "", plain.rstrip(" .,;:"), plain.replace(". ", "."), joined):
        if spelling and (program := _WRITTEN_BY.get(spelling)):
            return program
    return None


def missing_labels(file: str, labels: Sequence[str], rows: Sequence[int]) -> list[Finding]:
    """Returns one finding for each label that is a written-out missing value."""
    findings = []
    programs = {label: program for label in dict.fromkeys(labels) if (program := written_by(label))}
    for label, program in programs.items():
        concerned = [row for row, own in zip(rows, labels, strict=True) if own == label]
        have = "row has" if len(concerned) == 1 else "rows have"
        message = (
            f"{file}: {len(concerned):,} {have} the label {visible(label)}, which {_writes(program)} for a missing value; "
            "it is learned as a label like any other. If the label is missing, fill it in or delete the rows"
        )
        findings.append(of_rows("missing_value_label", message, concerned))
    return findings


def missing_texts(file: str, texts: Sequence[tuple[str, ...]], rows: Sequence[int]) -> list[Finding]:
    """Returns one finding for all texts that are written-out missing values."""
    concerned, spellings, programs = [], Counter[str](), dict[str, None]()
    for row_texts, row in zip(texts, rows, strict=True):
        found = [(text, program) for text in row_texts if len(text) <= _LONGEST and (program := written_by(text))]
        if found:
            concerned.append(row)
            spellings.update(text.strip() for text, _ in found)
            programs.update((program, None) for _, program in found)
    if not concerned:
        return []
    shown = [f"{visible(text)} ({count:,})" for text, count in spellings.most_common(5)]
    others = f", {len(spellings) - 5:,} other spellings" if len(spellings) > 5 else ""
    by = enumerated([f"by {program.partition(',')[0]}" for program in list(programs)[:3]])
    message = (
        f"{file}: {counted(len(concerned), 'text is', 'texts are')} nothing but {enumerated(shown)}{others}, written for a "
        f"missing value {by}; they are learned as texts like any other. If a text is missing, fill it in or delete the row"
    )
    return [of_rows("missing_value_text", message, concerned)]


def _writes(program: str) -> str:
    name = program.partition(",")[0]
    plural = " and " in name or name.endswith("s") or name.startswith("programs")
    return f"{name} write{'' if plural else 's'}"
