/* Opens the model in this folder. It is computed in a worker, so the page stays responsive.
 *
 *     import { openModel } from "./textclf.js";
 *     const model = await openModel();
 *     const { labels, rejected, scores } = await model.classify("a text");    // or ("text", "second text") of a pair
 *     const { text, start, end, score } = await model.answer("a question", "a text that has the answer");
 *
 * Both return null for an empty text. `scores` are the probabilities in the order of model.settings.labels.
 */
export async function openModel() {
  const worker = new Worker(new URL("worker.js", import.meta.url));
  const waiting = new Map();
  let asked = 0;
  const ask = (kind, texts) => new Promise((resolve, reject) => {
    waiting.set(++asked, { resolve, reject });
    worker.postMessage({ id: asked, kind, texts });
  });
  worker.onmessage = ({ data: { id, value, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new Error(error));
    else resolve(value);
  };
  worker.onerror = (event) => waiting.forEach(({ reject }) => reject(new Error(event.message || "the worker cannot start")));
  const settings = await ask("open", []);
  return {
    settings,
    classify: (...texts) => ask("classify", texts),
    answer: (question, context) => ask("answer", [question, context]),
  };
}
