/* Computes the model: takes messages of textclf.js and answers them. */
"use strict";
importScripts("interpreter.js", "tokenizers.js", "models.js");

let model;

async function read(name) {
  const response = await fetch(new URL(name, location.href));
  if (!response.ok) throw new Error(`${name} cannot be read (${response.status})`);
  return response;
}

const replies = {
  async open() {
    const files = [read("model_settings.json"), read("model_graph.json"), read("model.bin"), read("kernels.wasm")];
    const [settings, graph, constants, kernels] = await Promise.all(files);
    const { tokenizer, ...facts } = await settings.json();
    const bytes = new Uint8Array(await constants.arrayBuffer());
    const interpreter = new Interpreter(await graph.json(), bytes, new Uint8Array(await kernels.arrayBuffer()));
    model = new (facts.task === "answers" ? QuestionAnswerer : Classifier)({ ...facts, tokenizer }, interpreter);
    return facts;
  },
  classify: (texts) => model.classify(texts),
  answer: ([question, context]) => model.answer(question, context, false),
};

onmessage = async ({ data: { id, kind, texts } }) => {
  try {
    postMessage({ id, value: await replies[kind](texts) });
  } catch (error) {
    postMessage({ id, error: String(error?.message ?? error) });
  }
};
