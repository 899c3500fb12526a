/* What textclf does around a graph: texts become inputs, and outputs become labels or an answer.
 *
 * The rules are those of textclf/classify/ (classifier.py, combining.py, question_answering/selection.py).
 */
"use strict";

const SMALLEST = 1.17549435e-38;

/* The largest float32 below 1 is this far from it. */
const NEAREST = 2 ** -24;
const NEVER = -1e9;
const N_BEST = 20, LONGEST = 30;
const PHONE_BEST = 5, PHONE_LONGEST = 32, PHONE_QUESTION = 64;

/* The kept ones of too many tokens. */
function kept(tokens, count, overflow) {
  if (tokens.length <= count) return tokens;
  const head = { head: count, tail: 0, head_tail: Math.floor(count / 4) }[overflow];
  return [...tokens.slice(0, head), ...tokens.slice(tokens.length - (count - head))];
}

/* The first token and the number of tokens of each window. */
function windowParts(tokens, room, stride) {
  const parts = [[0, Math.min(tokens, room)]];
  while (parts.at(-1)[0] + parts.at(-1)[1] < tokens) {
    const begin = parts.at(-1)[0] + Math.min(room, stride);
    parts.push([begin, Math.min(tokens - begin, room)]);
  }
  return parts;
}

function softmax(logits) {
  const largest = Math.max(...logits), powers = logits.map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/* A graph with its inputs: the parts of every task. */
class Model {
  constructor(facts, interpreter) {
    this.facts = facts;
    this.interpreter = interpreter;
    this.tokenizer = newTokenizer(facts.tokenizer);
    const special = (piece) => facts.tokenizer.vocabulary.lastIndexOf(piece);
    const names = facts.tokenizer.kind === "regex" ? ["<PAD>", "<START>"] : ["[PAD]", "[CLS]", "[SEP]"];
    [this.padding, this.first, this.separator] = names.map(special);
  }

  /* Runs a row, whose first text ends before `firstLength`; returns the outputs. A [PAD] follows it if there is room. */
  run(ids, firstLength, full = false) {
    const { maxLength, resizable, lengthStep } = this.facts;
    const length = resizable && !full
      ? Math.min(maxLength, Math.ceil((ids.length + 1) / lengthStep) * lengthStep) : maxLength;
    const padded = new Int32Array(length).fill(this.padding);
    padded.set(ids);
    const mask = Int32Array.from(padded, (_, place) => (place < ids.length ? 1 : 0));
    const segments = Int32Array.from(padded, (_, place) => (place >= firstLength && place < ids.length ? 1 : 0));
    const names = Object.keys(this.interpreter.graph.inputs);
    const inputs = { ids: padded, mask, segment_ids: segments };
    return this.interpreter.run(names.length === 1 ? { [names[0]]: padded } : inputs);
  }
}

class Classifier extends Model {
  /* Takes one or two texts; returns the probability of each label, the chosen labels, and how much of the texts was read. */
  classify(texts) {
    if (texts.every(isBlank)) return null;
    const tokens = texts.map((text) => this.tokenizer.spans(text).ids);
    const rows = this.#rows(tokens);
    const outputs = rows.map(({ ids, firstLength }) => Array.from(this.run(ids, firstLength)[0]));
    const scores = outputs.length === 1 ? outputs[0] : this.#combined(outputs);
    const read = rows.truncated ? this.facts.maxLength : null;
    const count = rows.reduce((sum, { ids }) => sum + ids.length, 0);
    return { scores, ...this.choose(scores), tokens: count, windows: rows.length, truncatedTo: read };
  }

  choose(scores) {
    const { labels, thresholds, rejectBelow, rejectLabel } = this.facts;
    if (thresholds) {
      const chosen = labels.filter((_, place) => scores[place] >= Math.fround(thresholds[place]));
      return { labels: chosen, rejected: false };
    }
    const best = scores.indexOf(Math.max(...scores)), rejected = !(scores[best] >= rejectBelow);
    const label = rejected ? rejectLabel : labels[best];
    return { labels: label ? [label] : [], rejected };
  }

  #rows(tokens) {
    const { maxLength, overflow, windows, tokenizer } = this.facts;
    const rows = [];
    rows.truncated = false;
    if (tokenizer.kind === "regex") {
      const start = this.first < 0 ? [] : [this.first];
      rows.truncated = tokens[0].length > maxLength - start.length;
      rows.push({ ids: [...start, ...kept(tokens[0], maxLength - start.length, overflow)], firstLength: maxLength });
    } else if (tokens.length === 2) {
      const room = maxLength - 3, [first, second] = tokens;
      const secondCount = Math.min(second.length, Math.max(Math.floor(room / 2), room - first.length));
      const firstCount = Math.min(first.length, room - secondCount);
      rows.truncated = firstCount + secondCount < first.length + second.length;
      const begin = [this.first, ...kept(first, firstCount, overflow), this.separator];
      rows.push({ ids: [...begin, ...kept(second, secondCount, overflow), this.separator], firstLength: begin.length });
    } else {
      const room = maxLength - 2, [own] = tokens;
      const readable = windows ? room + (windows.most - 1) * Math.min(room, windows.stride) : room;
      rows.truncated = own.length > readable;
      const parts = windows ? windowParts(Math.min(own.length, readable), room, windows.stride)
        .map(([begin, count]) => own.slice(begin, begin + count)) : [kept(own, room, overflow)];
      for (const part of parts) {
        rows.push({ ids: [this.first, ...part, this.separator], firstLength: part.length + 2 });
      }
    }
    return rows;
  }

  /* The probabilities of the mean logits of the windows: their softmax, or the sigmoid of each label. */
  #combined(outputs) {
    const mean = (logit) => outputs[0].map((_, label) =>
      outputs.reduce((sum, scores) => sum + logit(scores[label]), 0) / outputs.length);
    if (!this.facts.thresholds) return softmax(mean((score) => Math.log(Math.max(score, SMALLEST))));
    const kept = (score) => Math.min(Math.max(score, NEAREST), 1 - NEAREST);
    return mean((score) => Math.log(kept(score)) - Math.log1p(-kept(score))).map((logit) => 1 / (1 + Math.exp(-logit)));
  }
}

class QuestionAnswerer extends Model {
  /* Returns the best answer with its place in the context, or none; null for an empty text. `phone`: as a phone answers. */
  answer(question, context, phone) {
    if (isBlank(question) || isBlank(context)) return null;
    return phone ? this.#onPhone(question, context) : this.#inWindows(question, context);
  }

  /* The starts and ends of a row, as [start logits, end logits]. */
  #logits(ids, firstLength, full) {
    return this.run(ids, firstLength, full).map((output) => Array.from(output));
  }

  #best(logits, count) {
    return Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b).slice(0, count);
  }

  #onPhone(question, context) {
    const asked = this.tokenizer.spans(question).ids;
    const words = Array.from(context.matchAll(/[^ ]+/g), ({ 0: word, index }) => [index, index + word.length]);
    const tokens = words.flatMap(([start, end], word) =>
      this.tokenizer.spans(context.slice(start, end)).ids.map((id) => ({ id, word })));
    const head = [this.first, ...asked.slice(0, PHONE_QUESTION), this.separator], room = this.facts.maxLength - 1 - head.length;
    const shown = tokens.slice(0, room), ids = [...head, ...shown.map(({ id }) => id), this.separator];
    const [starts, ends] = this.#logits(ids, head.length, true);
    const candidates = [];
    for (const start of this.#best(starts, PHONE_BEST)) {
      for (const end of this.#best(ends, PHONE_BEST)) {
        const inside = start >= head.length && end >= start && end < ids.length - 1 && end - start < PHONE_LONGEST;
        if (inside) candidates.push({ start, end, score: Math.fround(starts[start] + ends[end]) });
      }
    }
    candidates.sort((a, b) => b.score - a.score).splice(PHONE_BEST);
    const cut = { tokens: ids.length, windows: 1, contextTruncated: tokens.length > room, questionTruncated: asked.length > PHONE_QUESTION };
    if (!candidates.length) return { text: "", start: -1, end: -1, score: 0, ...cut };
    const [best] = candidates;
    const start = words[shown[best.start - head.length].word][0], end = words[shown[best.end - head.length].word][1];
    const text = context.slice(start, end).split(" ").filter(Boolean).join(" ");
    return { text, start, end, score: softmax(candidates.map(({ score }) => score / this.facts.temperature))[0], ...cut };
  }

  #inWindows(question, context) {
    const { maxLength, stride, questionLength, nullBound, temperature } = this.facts;
    const asked = this.tokenizer.spans(question).ids, spans = this.tokenizer.spans(context);
    const head = [this.first, ...asked.slice(0, questionLength), this.separator];
    const parts = windowParts(spans.ids.length, maxLength - 1 - head.length, stride);
    const owners = this.#owners(spans.ids.length, parts);
    let nullScore = Infinity;
    const found = [];
    parts.forEach(([begin, count], number) => {
      const ids = [...head, ...spans.ids.slice(begin, begin + count), this.separator];
      const [starts, ends] = this.#logits(ids, head.length, false);
      for (const logits of [starts, ends]) logits.fill(NEVER, ids.length);
      nullScore = Math.min(nullScore, starts[0] + ends[0]);
      const shown = (places) => places.map((place) => place - head.length).filter((place) => place >= 0 && place < count);
      const last = shown(this.#best(ends, N_BEST));
      for (const start of shown(this.#best(starts, N_BEST))) {
        if (owners[begin + start] !== number) continue;
        for (const end of last) {
          if (end < start || end - start >= LONGEST) continue;
          const score = starts[start + head.length] + ends[end + head.length];
          found.push({ score, start: spans.starts[begin + start], end: spans.ends[begin + end] });
        }
      }
    });
    found.sort((a, b) => b.score - a.score);
    const candidates = new Map();
    for (const one of found) {
      const text = context.slice(one.start, one.end);
      if (!candidates.has(text)) candidates.set(text, { text, ...one });
      if (candidates.size === N_BEST) break;
    }
    const [best] = candidates.values();
    const cut = { tokens: spans.ids.length + head.length + 1, windows: parts.length, contextTruncated: false, questionTruncated: asked.length > questionLength };
    const all = [nullScore - (nullBound ?? 0), ...Array.from(candidates.values(), ({ score }) => score)];
    const shares = softmax(all.map((score) => score / temperature));
    if (!best || (nullBound !== null && nullScore - best.score > nullBound)) {
      return { text: "", start: -1, end: -1, score: shares[0], ...cut };
    }
    const share = nullBound === null ? shares[1] : Math.max(shares[0], shares[1]);
    return { text: best.text, start: best.start, end: best.end, score: share, ...cut };
  }

  /* For each token of the context, the window that shows the most text on both sides of it. */
  #owners(count, parts) {
    const best = new Array(count).fill(-1), owners = new Array(count).fill(-1);
    parts.forEach(([begin, size], number) => {
      for (let place = 0; place < size; place++) {
        const score = Math.min(place, size - 1 - place) + 0.01 * size;
        if (score > best[begin + place]) [best[begin + place], owners[begin + place]] = [score, number];
      }
    });
    return owners;
  }
}
