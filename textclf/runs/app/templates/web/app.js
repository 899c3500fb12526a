/* The page: shows what the model makes of the text that is typed. */
import { openModel } from "./textclf.js";

const SHOWN_LABELS = 8;

const find = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

async function start() {
  const model = await openModel();
  const { settings } = model;
  const answers = settings.task === "answers";
  document.title = settings.name;
  find("name").textContent = settings.name;
  const names = answers ? ["Question", "Text"] : settings.columns.length === 1 ? ["Text"] : settings.columns;
  const fields = names.map((name, place) => {
    const field = element("textarea", { id: `field-${place}`, rows: place || !answers ? 4 : 2, dir: "auto", spellcheck: false });
    field.addEventListener("input", update);
    find("fields").append(element("label", { htmlFor: field.id }, name), field);
    return field;
  });
  fields[0].focus();

  let running = false, changed = false;

  /* While a result is computed, only the newest texts wait. */
  async function update() {
    changed = true;
    if (running) return;
    running = true;
    while (changed) {
      changed = false;
      const texts = fields.map((field) => field.value);
      try {
        if (answers) showAnswer(texts[1], await model.answer(...texts));
        else showLabels(await model.classify(...texts));
        document.body.dataset.shown = texts.join("\u0000");
      } catch (error) {
        showProblem(error);
      }
    }
    running = false;
  }

  function showLabels(result) {
    find("result").textContent = !result ? "…" : result.labels.join(", ") || "no label";
    find("result").classList.toggle("none", !result?.labels.length);
    find("note").textContent = result?.rejected
      ? `No probability reaches ${percent(settings.rejectBelow)}.` : result?.truncatedTo ? "The end of the text was not read." : "";
    const order = settings.labels.map((_, place) => place);
    if (result) order.sort((a, b) => result.scores[b] - result.scores[a]);
    find("bars").replaceChildren(...(result ? order.slice(0, SHOWN_LABELS) : []).map((place) => {
      const bar = element("meter", { value: result.scores[place] });
      bar.setAttribute("aria-label", settings.labels[place]);
      return element("li", {}, element("span", { dir: "auto" }, settings.labels[place]), bar, element("output", {}, percent(result.scores[place])));
    }));
  }

  function showAnswer(context, result) {
    find("result").textContent = !result ? "…" : result.text || "no answer";
    find("result").classList.toggle("none", !result?.text);
    find("note").textContent = result ? `Probability ${percent(result.score)}` : "";
    find("context").replaceChildren(...(result?.text ? [context.slice(0, result.start),
      element("mark", {}, context.slice(result.start, result.end)), context.slice(result.end)] : []));
  }

  Object.assign(window, { model });
  document.body.dataset.ready = "true";
}

function showProblem(error) {
  find("note").textContent = `The model cannot be computed: ${error.message}.`;
}

start().catch(showProblem);
