/* Texts as token ids, exactly as textclf makes them (textclf/data/tokens/, whose modules say what devices do and why).
 *
 * Each tokenizer has `spans(text)`: the ids of a text, and the first character and the one after the last of each.
 * Characters are counted as JavaScript counts them, in UTF-16.
 */
"use strict";

const MAX_WORD = 100;
const BYTES_OF = new TextEncoder();

/* Python's str.isspace. */
const BLANK = /^[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$/u;

const isBlank = (text) => BLANK.test(text);

/* A text with U+FFFD for each half of a surrogate pair. */
const wellFormed = (text) => text.replace(/[\ud800-\udfff]/gu, "\ufffd");

const untilNul = (text) => text.split("\0", 1)[0];

const classOf = (ranges) => ranges.map(([first, last]) => `\\u{${first.toString(16)}}-\\u{${last.toString(16)}}`).join("");

class Spans {
  constructor() {
    this.ids = [];
    this.starts = [];
    this.ends = [];
  }

  add(id, start, end) {
    this.ids.push(id);
    this.starts.push(start);
    this.ends.push(end);
  }
}

/* Splits words greedily into the longest entries of a vocabulary. */
class WordPieces {
  constructor(vocabulary) {
    this.ids = new Map(vocabulary.map((piece, id) => [piece, id]));
    this.longest = vocabulary.reduce((longest, piece) => Math.max(longest, piece.length), 0);
    this.unknown = this.ids.get("[UNK]");
  }

  /* [id, end in the word] of each piece; one unknown piece if a part is in no entry. */
  split(word) {
    const pieces = [];
    for (let begin = 0; begin < word.length; ) {
      let end = Math.min(word.length, begin + this.longest), id;
      for (; end > begin; end--) {
        id = this.ids.get((begin ? "##" : "") + word.slice(begin, end));
        if (id !== undefined) break;
      }
      if (id === undefined) return [[this.unknown, word.length]];
      pieces.push([id, end]);
      begin = end;
    }
    return pieces;
  }
}

/* The tokenizer of phones and of the runtimes in browsers. */
class DeviceTokenizer {
  constructor(vocabulary, delimiters) {
    this.pieces = new WordPieces(vocabulary);
    this.words = new RegExp(`[${classOf(delimiters)}]|[^\\t\\n\\f\\r ${classOf(delimiters)}]+`, "gu");
  }

  spans(text) {
    const spans = new Spans();
    const folded = untilNul(wellFormed(text)).replace(/[A-Z]/g, (letter) => letter.toLowerCase());
    for (const { 0: word, index } of folded.matchAll(this.words)) {
      if (BYTES_OF.encode(word).length > MAX_WORD) {
        spans.add(this.pieces.unknown, index, index + word.length);
        continue;
      }
      let start = 0;
      for (const [id, end] of this.pieces.split(word)) {
        spans.add(id, index + start, index + end);
        start = end;
      }
    }
    return spans;
  }
}

/* BERT's own tokenizer, which lower-cases all of Unicode and strips accents. It knows the characters of the browser's version
 * of Unicode; the library with which textclf computes it knows fewer, so some 650 rare ones differ. */
class BertTokenizer {
  constructor(vocabulary, ideographs) {
    this.pieces = new WordPieces(vocabulary);
    // The library does not know the ideographs before U+2B920 (its normalizers/bert.rs).
    this.ideograph = new RegExp(`(?![\\u{2b820}-\\u{2b91f}])[${classOf(ideographs)}]`, "u");
  }

  spans(text) {
    const spans = new Spans();
    for (const word of this.#words(wellFormed(text))) {
      if (word.length > MAX_WORD) {
        spans.add(this.pieces.unknown, word[0].start, word.at(-1).end);
        continue;
      }
      // The character of each place of the word.
      const owners = word.flatMap((character) => Array(character.letter.length).fill(character));
      let start = 0;
      for (const [id, end] of this.pieces.split(word.map(({ letter }) => letter).join(""))) {
        spans.add(id, owners[start].start, owners[end - 1].end);
        start = end;
      }
    }
    return spans;
  }

  /* The words of a text: lists of {letter, start, end}, where the end includes the marks that were stripped. */
  #words(text) {
    const words = [];
    let word = null, last = null, place = 0;
    for (const character of text) {
      const start = place, end = (place += character.length);
      const isControl = character === "\ufffd" || /^(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}]$/u.test(character);
      if (isControl) continue;
      if (/^\p{White_Space}$/u.test(character)) {
        word = last = null;
        continue;
      }
      const isIdeograph = this.ideograph.test(character);
      const letters = [...character.normalize("NFD")].filter((letter) => !/^\p{Mn}$/u.test(letter));
      if (!letters.length && last && last.end === start) last.end = end;
      for (const letter of letters.flatMap((one) => [...one.toLowerCase()])) {
        const isAlone = isIdeograph || /^[!-/:-@[-`{-~]$|^\p{P}$/u.test(letter);
        if (isAlone || word === null) words.push((word = []));
        word.push((last = { letter, start, end }));
        if (isAlone) word = null;
      }
    }
    return words;
  }
}

/* The runtimes' regex tokenizer: whole words between delimiters. */
class WordTokenizer {
  constructor(vocabulary, pattern) {
    this.ids = new Map(vocabulary.map((word, id) => [word, id]));
    this.delimiters = new RegExp(pattern, "gu");
  }

  spans(text) {
    const spans = new Spans(), whole = untilNul(wellFormed(text));
    let start = 0;
    for (const { 0: delimiter, index } of [...whole.matchAll(this.delimiters), { 0: "", index: whole.length }]) {
      const word = whole.slice(start, index);
      if (word) spans.add(this.ids.get(word) ?? this.ids.get("<UNKNOWN>"), start, index);
      start = index + delimiter.length;
    }
    return spans;
  }
}

function newTokenizer({ kind, vocabulary, delimiters, ideographs, pattern }) {
  if (kind === "regex") return new WordTokenizer(vocabulary, pattern);
  return kind === "bert" ? new BertTokenizer(vocabulary, ideographs) : new DeviceTokenizer(vocabulary, delimiters);
}
