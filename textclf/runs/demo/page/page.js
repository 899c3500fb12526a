/* The page: shows what the model in the worker makes of the text that is typed. */
"use strict";

const SHOWN_LABELS = 12;
const MOST_PARTS = 120;
const STRONGEST = 3;
/* The pauses in typing, in ms, before words are left out and before a question is answered. */
const EXPLAIN_AFTER = 350;
const ANSWER_AFTER = 200;
/* A change of the logarithmic odds that gets the full colour, unless another word changes them more. */
const FULL_COLOUR = 1.5;
/* With less than this, no word decided alone. */
const LITTLE_CHANGE = 0.1;

const { model: facts, graph, examples, kept } = JSON.parse(document.getElementById("page-facts").textContent);
const find = (id) => document.getElementById(id);
const answers = facts.task === "answers", several = facts.task === "label-sets";

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/* Near 0 and 1 with two decimals; what would be rounded to them is not shown as them. */
function percent(share) {
  if (share > 0 && share < 0.00005) return "< 0.01 %";
  if (share < 1 && share >= 0.99995) return "> 99.99 %";
  return `${(100 * share).toFixed(share === 0 || share === 1 ? 0 : share < 0.01 || share >= 0.99 ? 2 : 1)} %`;
}

const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

/* --- The worker ------------------------------------------------------------------------------------------------------- */
const source = find("worker-source").textContent;
const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
const waiting = new Map();
let asked = 0;

/* Asks the worker; `progress` is called with what it reports before its answer. */
function ask(kind, order, progress) {
  const id = ++asked;
  worker.postMessage({ id, kind, ...order });
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject, progress }));
}

worker.onmessage = ({ data }) => {
  const { resolve, reject, progress } = waiting.get(data.id);
  if (!data.done) return progress(data);
  waiting.delete(data.id);
  if (data.error) reject(new Error(data.error));
  else resolve(data.value);
};
worker.onerror = (event) => showProblem(event.message || "the worker cannot be started");

function showProblem(message) {
  find("problem").textContent = `The model cannot be computed in this browser: ${message}. Use a browser of 2023 or later.`;
  find("problem").hidden = false;
  find("measure").classList.remove("busy");
}

/* --- The fields -------------------------------------------------------------------------------------------------------- */
const fields = facts.columns.map((column, place) => {
  const lone = facts.columns.length === 1;
  const field = element("textarea", {
    id: `field-${place}`, spellcheck: false, dir: "auto",
    className: answers ? (place ? "long" : "short") : lone ? "" : "short",
    placeholder: answers ? (place ? "Paste a text that holds the answer" : "Ask a question") : "Type a text",
  });
  const label = element("label", { htmlFor: field.id }, answers ? ["Question", "Text"][place] : lone ? "Text" : column);
  find("fields").append(element("div", { className: "field" }, label, field));
  return field;
});
const texts = () => fields.map((field) => field.value);

let phone = answers && facts.fitsPhones;
if (phone) {
  for (const [name, asPhone] of [["as a phone answers", true], ["as textclf answers", false]]) {
    const radio = element("input", { type: "radio", name: "mode", checked: asPhone, value: String(asPhone) });
    radio.addEventListener("change", () => {
      phone = asPhone;
      changed();
    });
    find("modes").append(element("label", { title: asPhone
      ? "One window of the text, whole words, and always an answer, as the Task Library answers"
      : "All windows of a long text, the exact characters, and no answer where the text has none" }, radio, ` ${name}`));
  }
}

find("lead").textContent = answers
  ? "Ask a question about a text. The model in this page marks the answer. No text leaves this page."
  : `Type ${fields.length > 1 ? "two texts" : "a text"}. The model in this page ${several
    ? "says which labels apply" : "predicts the label"}. No text leaves this page.`;

/* --- Results ----------------------------------------------------------------------------------------------------------- */
let shown = null;
let running = false;
let pending = false;
let explainTimer = 0;
let answerTimer = 0;
let chosenExample = null;
let askedLabel = null;
let showAll = false;

async function changed() {
  clearTimeout(explainTimer);
  if (chosenExample && chosenExample.texts.some((text, place) => text !== fields[place].value)) chooseExample(null);
  if (!answers) return update();
  find("measure").classList.add("busy");
  clearTimeout(answerTimer);
  answerTimer = setTimeout(update, ANSWER_AFTER);
}

/* Computes the result of the texts as they are now. While one is computed, only the newest texts wait. */
async function update() {
  if (running) {
    pending = true;
    return;
  }
  running = true;
  find("measure").classList.add("busy");
  try {
    do {
      pending = false;
      const given = texts();
      const reply = answers
        ? await ask("answer", { question: given[0], context: given[1], phone })
        : await ask("classify", { texts: given });
      show(given, reply);
    } while (pending);
  } catch (error) {
    showProblem(error.message);
  }
  running = false;
  find("measure").classList.remove("busy");
}

function show(given, { result, milliseconds }) {
  shown = { texts: given, result };
  document.body.dataset.shown = given.join("\u0000");
  find("measure").replaceChildren(...(result ? measures(result, milliseconds) : []));
  if (answers) return showAnswer(given, result);
  askedLabel = null;
  showVerdict(result);
  showBars(result);
  find("why").hidden = true;
  if (result) explainTimer = setTimeout(explain, EXPLAIN_AFTER);
}

function measures(result, milliseconds) {
  const took = milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds).toLocaleString("en");
  const parts = [`${took} ms in this browser · ${counted(result.tokens, "token")}`];
  if (result.windows > 1) parts.push(` · ${result.windows} windows`);
  const cut = result.truncatedTo ? `the model reads ${result.truncatedTo} tokens; the rest was not used`
    : result.contextTruncated ? "the end of the text was not read" : result.questionTruncated ? "the end of the question was not read" : "";
  if (cut) parts.push(element("span", { className: "cut" }, ` · ${cut}`));
  return parts;
}

function showVerdict(result) {
  const verdict = find("verdict");
  if (!result) {
    verdict.replaceChildren(element("span", { className: "label none" }, "…"), element("p", {}, "Type a text, or choose a test row."));
    return;
  }
  const best = facts.labels[result.scores.indexOf(Math.max(...result.scores))];
  const score = percent(Math.max(...result.scores));
  const parts = [];
  if (several) {
    parts.push(result.labels.length
      ? element("span", { className: "chips" }, ...result.labels.map((label) => element("b", { dir: "auto" }, label)))
      : element("span", { className: "label none" }, "no label"));
    const reached = counted(result.labels.length, "label");
    parts.push(element("p", {}, result.labels.length ? `${reached} of ${facts.labels.length} reached their thresholds.`
      : "No label reaches its threshold."));
  } else if (result.rejected) {
    parts.push(element("span", { className: "label none", dir: "auto" }, result.labels[0] ?? "no label"));
    parts.push(element("p", {}, `The most probable label, “${best}”, has ${score}, below the threshold of ${percent(facts.rejectBelow)}.`));
  } else {
    parts.push(element("span", { className: "label", dir: "auto" }, best));
    parts.push(element("p", {}, `Probability ${score}`));
  }
  if (chosenExample) parts.push(truth(result));
  verdict.replaceChildren(...parts);
}

function truth(result) {
  const own = chosenExample.labels, given = result.labels;
  const right = own.length === given.length && own.every((label) => given.includes(label));
  return element("p", {}, mark(right), ` The test row says: ${own.join(", ") || "no label"}.`);
}

const mark = (right) => element("span", { className: `mark ${right ? "right" : "wrong"}` }, right ? "✓ right" : "✗ wrong");

function showBars(result) {
  const bars = find("bars"), scores = result?.scores ?? facts.labels.map(() => 0);
  let order = facts.labels.map((_, place) => place);
  const hidden = showAll ? 0 : Math.max(0, order.length - SHOWN_LABELS);
  if (order.length > SHOWN_LABELS) order = order.sort((a, b) => scores[b] - scores[a]).slice(0, order.length - hidden);
  find("more").hidden = order.length <= SHOWN_LABELS && !hidden;
  find("more").textContent = hidden ? `Show ${hidden} more labels` : "Show fewer labels";
  const chosen = new Set(result?.labels);
  while (bars.children.length > order.length) bars.lastChild.remove();
  while (bars.children.length < order.length) bars.append(newBar());
  order.forEach((place, row) => {
    const button = bars.children[row].firstChild, label = facts.labels[place], [name, share, track] = button.children;
    button.dataset.label = place;
    button.classList.toggle("chosen", chosen.has(label));
    button.setAttribute("aria-pressed", "false");
    button.title = `Which words decided on “${label}”?`;
    button.disabled = !result;
    name.textContent = (several && chosen.has(label) ? "✓ " : "") + label;
    share.textContent = result ? percent(scores[place]) : "";
    track.style.setProperty("--share", scores[place]);
    const bound = facts.thresholds ? facts.thresholds[place] : facts.rejectBelow;
    track.lastChild.hidden = !bound;
    track.lastChild.style.setProperty("--bound", bound || 0);
    track.lastChild.title = several ? `threshold ${percent(bound)}` : `bound ${percent(bound)}`;
  });
}

function newBar() {
  const track = element("span", { className: "track" }, element("i"), element("span", { className: "bound" }));
  const button = element("button", { type: "button" }, element("span", { className: "name", dir: "auto" }),
    element("span", { className: "percent" }), track);
  button.addEventListener("click", () => {
    askedLabel = Number(button.dataset.label);
    explain();
  });
  return element("li", {}, button);
}

find("more").addEventListener("click", () => {
  showAll = !showAll;
  showBars(shown.result);
});

/* --- Which words decided ------------------------------------------------------------------------------------------------ */
/* The words of a text, as [start, end]; an ideograph is a word. Of long texts, several words are one part. */
function partsOf(text) {
  const words = Array.from(text.matchAll(/\p{Script=Han}|[^\s\p{Script=Han}]+/gu), ({ 0: word, index }) => [index, index + word.length]);
  const size = Math.ceil(words.length / MOST_PARTS) || 1;
  return words.flatMap((_, place) => place % size ? [] : [[words[place][0], words[Math.min(words.length, place + size) - 1][1]]]);
}

const odds = (share) => Math.log(Math.min(Math.max(share, 1e-7), 1 - 1e-7) / (1 - Math.min(Math.max(share, 1e-7), 1 - 1e-7)));

async function explain() {
  clearTimeout(explainTimer);
  const own = shown;
  if (!own?.result) return;
  const { scores, labels } = own.result;
  const target = askedLabel ?? scores.indexOf(Math.max(...scores));
  for (const { firstChild: button } of find("bars").children) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.label) === target));
  }
  find("why-label").textContent = facts.labels[target];
  const parts = own.texts.flatMap((text, place) => partsOf(text).map(([start, end]) => [place, start, end]));
  if (parts.length < 2) return;
  const spans = paintWords(own.texts, parts);
  find("why").hidden = false;
  find("strongest").replaceChildren();
  const changes = new Array(parts.length).fill(null);
  const report = ({ index, scores: without }) => {
    const share = without ? without[target] : 0;
    changes[index] = { index, share, change: odds(scores[target]) - odds(share) };
    if (shown === own) spans[index].title = `without it: ${percent(share)}`;
  };
  const done = await ask("explain", { texts: own.texts, parts }, report).catch((error) => showProblem(error.message));
  if (!done || shown !== own || (askedLabel ?? target) !== target) return;
  const largest = Math.max(FULL_COLOUR, ...changes.map(({ change }) => Math.abs(change)));
  for (const { index, change } of changes) {
    spans[index].classList.toggle("against", change < 0);
    spans[index].style.setProperty("--weight", (0.6 * Math.abs(change) / largest).toFixed(3));
  }
  const strongest = changes.sort((a, b) => Math.abs(b.change) - Math.abs(a.change)).slice(0, STRONGEST);
  const little = Math.abs(strongest[0].change) < LITTLE_CHANGE;
  if (little) find("strongest").replaceChildren(element("li", {}, "No word alone changes the probability much."));
  else find("strongest").replaceChildren(...strongest.map(({ index, share }) => {
    const word = element("q", { dir: "auto" }, spans[index].textContent);
    return element("li", {}, "Without ", word, `: ${percent(scores[target])} → ${percent(share)}`);
  }));
  document.body.dataset.explained = own.texts.join("\u0000");
}

function paintWords(own, parts) {
  const nodes = [], spans = [];
  own.forEach((text, place) => {
    let end = 0;
    if (place) nodes.push(element("span", { className: "between" }));
    for (const [, start, stop] of parts.filter(([first]) => first === place)) {
      spans.push(element("span", {}, text.slice(start, stop)));
      nodes.push(text.slice(end, start), spans.at(-1));
      end = stop;
    }
    nodes.push(text.slice(end));
  });
  find("words").replaceChildren(...nodes);
  return spans;
}

/* --- Answers ------------------------------------------------------------------------------------------------------------- */
function showAnswer([, context], result) {
  const verdict = find("verdict"), place = find("place");
  place.hidden = !result;
  if (!result) {
    verdict.replaceChildren(element("span", { className: "label none" }, "…"),
      element("p", {}, "Ask a question about a text, or choose a test row."));
    return;
  }
  const parts = [element("span", { className: result.text ? "label answer" : "label none", dir: "auto" }, result.text || "no answer")];
  parts.push(element("p", {}, result.text || !phone ? `Probability ${percent(result.score)}` : "No words of the text are an answer."));
  if (chosenExample) {
    const right = chosenExample.labels.length ? chosenExample.labels.includes(result.text) : !result.text;
    parts.push(element("p", {}, right ? mark(true) : "", ` The test row says: ${chosenExample.labels.join(" / ") || "no answer"}.`));
  }
  verdict.replaceChildren(...parts);
  if (result.start < 0) place.replaceChildren(context);
  else {
    const answer = element("mark", {}, context.slice(result.start, result.end));
    place.replaceChildren(context.slice(0, result.start), answer, context.slice(result.end));
    place.scrollTop = answer.offsetTop - place.offsetTop - place.clientHeight / 3;
  }
}

/* --- Test rows ----------------------------------------------------------------------------------------------------------- */
function chooseExample(example) {
  chosenExample = example;
  find("example-list").querySelectorAll("button").forEach((button, place) =>
    button.setAttribute("aria-pressed", String(examples[place] === example)));
}

if (examples.length) {
  find("examples").hidden = false;
  find("examples-note").textContent = kept;
  find("example-list").append(...examples.map((example) => {
    const truthText = answers ? example.labels[0] ?? "no answer" : example.labels.join(", ") || "no label";
    const button = element("button", { type: "button" },
      element("span", { className: `mark ${example.right ? "right" : "wrong"}`, title: example.right ? "predicted right" : "predicted wrong" }, example.right ? "✓" : "✗"),
      element("span", { className: "text", dir: "auto" }, answers ? example.texts[0] : example.texts.join(" — ")),
      element("span", { className: "truth", dir: "auto" }, truthText));
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      fields.forEach((field, place) => (field.value = example.texts[place]));
      chooseExample(example);
      update();
    });
    return element("li", {}, button);
  }));
  find("example-list").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const buttons = [...find("example-list").querySelectorAll("button")];
    buttons[buttons.indexOf(document.activeElement) + step]?.focus();
    event.preventDefault();
  });
}

/* --- Start --------------------------------------------------------------------------------------------------------------- */
const forms = { none: "32-bit floating point", float16: "16-bit floating point", dynamic: "8-bit integers", int4: "4-bit integers" };
find("footer").append(...[
  `Model: ${megabytes(facts.bytes)}${forms[facts.quantization] ? `, ${forms[facts.quantization]}` : ""}`,
  answers ? `reads ${facts.maxLength} tokens at a time` : `${counted(facts.labels.length, "label")}, reads ${facts.maxLength} tokens${facts.windows ? " in each window" : ""}`,
  "Works without a network: model and program are in this file",
].map((fact) => element("span", {}, fact)));

find("input").addEventListener("submit", (event) => event.preventDefault());
find("input").addEventListener("input", changed);
find("input").addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target.matches("textarea")) {
    event.target.value = "";
    changed();
  }
});

/* For the console of the browser: await textclf.classify("a text"), or textclf.answer("a question", "a text"). */
const loaded = ask("load", {
  facts, graph, constants: find("constants").textContent, kernels: find("kernels").textContent,
});
window.textclf = {
  classify: (...given) => loaded.then(() => ask("classify", { texts: given })).then(({ result }) => result),
  answer: (question, context, asPhone = phone) =>
    loaded.then(() => ask("answer", { question, context, phone: asPhone })).then(({ result }) => result),
  tokens: (text) => loaded.then(() => ask("tokens", { text })).then(({ ids }) => ids),
};

find("measure").textContent = `Loading the model (${megabytes(facts.bytes)})`;
find("measure").classList.add("busy");
running = true;
if (!answers) showBars(null);
fields[0].focus({ preventScroll: true });
loaded.then(() => {
  find("constants").remove();
  running = false;
  document.body.dataset.ready = "true";
  update();
}, (error) => showProblem(error.message));
