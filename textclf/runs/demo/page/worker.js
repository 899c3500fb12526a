/* The worker of the page: it has the model and computes, so that typing never waits. The files before it in this script are
 * interpreter.js, tokenizers.js and models.js.
 */
"use strict";

/* How long it computes between two looks at new messages, in ms. */
const LOOK_AFTER = 25;

const bytesOf = (base64) => Uint8Array.fromBase64?.(base64) ?? Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));

async function inflated(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

let model;
let newest = 0;

function timed(compute) {
  const begun = performance.now(), result = compute();
  return { result, milliseconds: performance.now() - begun };
}

const replies = {
  async load({ facts, graph, constants, kernels }) {
    const interpreter = new Interpreter(graph, await inflated(constants), await inflated(kernels));
    model = new (facts.task === "answers" ? QuestionAnswerer : Classifier)(facts, interpreter);
  },
  classify: ({ texts }) => timed(() => model.classify(texts)),
  answer: ({ question, context, phone }) => timed(() => model.answer(question, context, phone)),
  tokens: ({ text }) => model.tokenizer.spans(text),
  /* Classifies the texts once without each part, a [text, start, end], and reports each result, until other work arrives. */
  async explain({ id, texts, parts }) {
    let begun = performance.now();
    for (const [index, [text, start, end]] of parts.entries()) {
      if (performance.now() - begun > LOOK_AFTER) {
        await new Promise((resume) => setTimeout(resume));
        if (newest !== id) return null;
        begun = performance.now();
      }
      const without = texts.map((own, place) => (place === text ? own.slice(0, start) + own.slice(end) : own));
      postMessage({ id, index, scores: model.classify(without)?.scores ?? null });
    }
    return true;
  },
};

onmessage = async ({ data }) => {
  newest = data.id;
  try {
    postMessage({ id: data.id, done: true, value: await replies[data.kind](data) });
  } catch (error) {
    postMessage({ id: data.id, done: true, error: String(error?.message ?? error) });
  }
};
