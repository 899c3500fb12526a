/* Computes a graph of textclf: takes the operations and constants that graph.py wrote, and the inputs; returns the outputs.
 *
 * Everything lies in one WebAssembly memory: the kernels' stack, the constants, then the results of the operations, each
 * until its last use. Products and softmax are in kernels.c; the rest is too small to matter.
 */
"use strict";

const KERNEL_SPACE = 1 << 16;
const PAGE_BYTES = 1 << 16;
const ALIGNMENT = 16;
const BYTES = { float32: 4, int32: 4, float16: 2, int8: 1 };
const ARRAYS = { float32: Float32Array, int32: Int32Array, float16: Uint16Array, int8: Int8Array };
const BINARY = {
  ADD: (a, b) => a + b,
  SUB: (a, b) => a - b,
  MUL: (a, b) => a * b,
  DIV: (a, b) => a / b,
  MINIMUM: (a, b) => Math.min(a, b),
};
const KERNELS = { ADD: "add", MUL: "scale" };
const UNARY = { LOGISTIC: (x) => 1 / (1 + Math.exp(-x)), TANH: Math.tanh };

const sizeOf = (shape) => shape.reduce((size, length) => size * length, 1);
const aligned = (bytes) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/* How far apart the elements of each dimension are. */
function stridesOf(shape) {
  const strides = new Array(shape.length);
  for (let axis = shape.length - 1, stride = 1; axis >= 0; stride *= shape[axis--]) strides[axis] = stride;
  return strides;
}

/* The strides of a tensor that is repeated along the dimensions of `shape` that it lacks. */
function broadcastStrides(own, shape) {
  const missing = shape.length - own.length;
  const strides = stridesOf(own);
  return shape.map((_, axis) => (axis < missing || own[axis - missing] === 1 ? 0 : strides[axis - missing]));
}

function broadcastShape(a, b) {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const [one, other] = [a[axis - rank + a.length] ?? 1, b[axis - rank + b.length] ?? 1];
    return one === 1 ? other : one;
  });
}

/* Whether a tensor, repeated as a whole, has the shape: whether its dimensions are the last ones. */
function isRepeated(own, shape) {
  const first = own.findIndex((length) => length !== 1), kept = first === -1 ? [] : own.slice(first);
  return kept.every((length, axis) => length === shape[axis - kept.length + shape.length]);
}

/* Calls `row` with the places of the first element of each row of `shape`, by the strides of two tensors. */
function eachRow(shape, first, second, row) {
  const outer = shape.slice(0, -1);
  const place = outer.map(() => 0);
  for (let count = sizeOf(outer); count > 0; count--) {
    let a = 0, b = 0;
    for (let axis = 0; axis < outer.length; axis++) {
      a += place[axis] * first[axis];
      b += place[axis] * second[axis];
    }
    row(a, b);
    for (let axis = outer.length - 1; axis >= 0 && ++place[axis] === outer[axis]; axis--) place[axis] = 0;
  }
}

function halfToFloat(half) {
  const sign = half & 0x8000 ? -1 : 1, exponent = (half >> 10) & 31, fraction = half & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return exponent === 31 ? (fraction ? NaN : sign * Infinity) : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

class Interpreter {
  constructor(graph, constants, kernels) {
    this.graph = graph;
    this.memory = new WebAssembly.Memory({ initial: Math.ceil((KERNEL_SPACE + constants.length) / PAGE_BYTES) + 16 });
    const module = new WebAssembly.Module(kernels);
    this.kernels = new WebAssembly.Instance(module, { env: { memory: this.memory } }).exports;
    new Uint8Array(this.memory.buffer).set(constants, KERNEL_SPACE);
    this.end = aligned(KERNEL_SPACE + constants.length);
    this.free = new Map();
    this.tensors = graph.tensors.map(({ type, shape, offset, scales }) =>
      offset === undefined ? null : {
        type, shape, address: KERNEL_SPACE + offset, constant: true,
        scales: scales && { address: KERNEL_SPACE + scales.offset, count: scales.count },
      });
    this.operations = [];
    for (const operation of graph.operations) {
      if (operation.inputs.every((input) => this.tensors[input])) this.compute(operation, true);
      else this.operations.push(operation);
    }
    this.start = this.end;
    this.#findLastUses();
  }

  /* `inputs` are arrays of one length by name; returns a Float32Array for each output. */
  run(inputs) {
    this.end = this.start;
    this.free.clear();
    for (const [name, tensor] of Object.entries(this.graph.inputs)) {
      this.array(this.put(tensor, "int32", [1, inputs[name].length])).set(inputs[name]);
    }
    this.operations.forEach((operation, number) => {
      this.compute(operation, false);
      for (const tensor of this.dying[number]) this.#release(this.tensors[tensor]);
    });
    return this.graph.outputs.map((tensor) => this.array(this.tensors[tensor]).slice());
  }

  array({ type, shape, address }) {
    return new ARRAYS[type](this.memory.buffer, address, sizeOf(shape));
  }

  numbers(tensor) {
    return Array.from(this.array(this.tensors[tensor]));
  }

  put(tensor, type, shape, constant = false) {
    return (this.tensors[tensor] = { type, shape, address: this.take(sizeOf(shape) * BYTES[type]), constant });
  }

  take(bytes) {
    const size = aligned(bytes);
    const known = this.free.get(size);
    if (known?.length) return known.pop();
    const address = this.end;
    this.end += size;
    const lacking = this.end - this.memory.buffer.byteLength;
    if (lacking > 0) this.memory.grow(Math.ceil(lacking / PAGE_BYTES) + 64);
    return address;
  }

  give(address, bytes) {
    const size = aligned(bytes);
    if (!this.free.has(size)) this.free.set(size, []);
    this.free.get(size).push(address);
  }

  #release(value) {
    this.give(value.address, sizeOf(value.shape) * BYTES[value.type]);
  }

  /* For each operation, the tensors whose memory nothing reads after it. A RESHAPE shares the memory of its input. */
  #findLastUses() {
    const owner = new Map(), last = new Map();
    const owned = (tensor) => owner.get(tensor) ?? tensor;
    this.operations.forEach(({ name, inputs, outputs }, number) => {
      if (name === "RESHAPE") owner.set(outputs[0], owned(inputs[0]));
      for (const tensor of [...inputs, ...outputs]) last.set(owned(tensor), number);
    });
    for (const tensor of this.graph.outputs) last.delete(owned(tensor));
    this.dying = this.operations.map(() => []);
    for (const [tensor, number] of last) {
      if (!this.tensors[tensor]?.constant) this.dying[number].push(tensor);
    }
  }

  compute({ name, inputs, outputs, options }, constant) {
    const values = inputs.map((input) => this.tensors[input]);
    const [first, second, third] = values;
    const make = (shape, type = "float32") => this.put(outputs[0], type, shape, constant);
    if (name in BINARY) this.#binary(name, first, second, make);
    else if (name in UNARY) {
      const result = this.array(make(first.shape));
      this.array(first).forEach((value, place) => (result[place] = UNARY[name](value)));
    } else if (name === "RESHAPE") {
      const wanted = this.numbers(inputs[1]), size = sizeOf(first.shape);
      const known = wanted.reduce((product, length) => (length === -1 ? product : product * length), 1);
      this.tensors[outputs[0]] = { ...first, shape: wanted.map((length) => (length === -1 ? size / known : length)) };
    } else if (name === "CAST") {
      this.array(make(first.shape)).set(this.array(first));
    } else if (name === "DEQUANTIZE") {
      const result = this.array(make(first.shape)), given = this.array(first);
      if (first.type === "float16") given.forEach((half, place) => (result[place] = halfToFloat(half)));
      else {
        const scale = this.#scale(first, 0);
        given.forEach((value, place) => (result[place] = value * scale));
      }
    } else if (name === "GATHER" || name === "EMBEDDING_LOOKUP") {
      const [table, ids] = name === "GATHER" ? [first, second] : [second, first];
      this.#lookUp(table, ids, make, name === "EMBEDDING_LOOKUP");
    } else if (name === "PADV2") {
      const [before, after] = this.numbers(inputs[1]), size = sizeOf(first.shape);
      const result = make([before + size + after], first.type);
      this.array(result).fill(this.numbers(inputs[2])[0]);
      this.array(result).set(this.array(first), before);
    } else if (name === "PACK") {
      const axis = options.axis, inner = sizeOf(first.shape.slice(axis));
      const result = this.array(make([...first.shape.slice(0, axis), values.length, ...first.shape.slice(axis)], first.type));
      values.forEach((value, part) => this.array(value).forEach((number, place) => {
        result[(Math.floor(place / inner) * values.length + part) * inner + (place % inner)] = number;
      }));
    } else if (name === "CONCATENATION") {
      const rows = values.reduce((sum, value) => sum + value.shape[0], 0);
      const result = this.array(make([rows, ...first.shape.slice(1)], first.type));
      let place = 0;
      for (const value of values) {
        result.set(this.array(value), place);
        place += sizeOf(value.shape);
      }
    } else if (name === "SLICE") {
      const begins = this.numbers(inputs[1]);
      const sizes = this.numbers(inputs[2]).map((size, axis) => (size === -1 ? first.shape[axis] - begins[axis] : size));
      this.#box(first, begins, sizes, make);
    } else if (name === "STRIDED_SLICE") {
      const limited = (given, masked, otherwise) => given.map((place, axis) =>
        (masked >> axis) & 1 ? otherwise[axis] : place < 0 ? place + first.shape[axis] : place);
      const begins = limited(this.numbers(inputs[1]), options.begin_mask, first.shape.map(() => 0));
      const ends = limited(this.numbers(inputs[2]), options.end_mask, first.shape);
      this.#box(first, begins, ends.map((end, axis) => end - begins[axis]), make);
    } else if (name === "SPLIT") {
      const axis = this.numbers(inputs[0])[0], parts = outputs.length;
      const sizes = second.shape.map((length, own) => (own === axis ? length / parts : length));
      outputs.forEach((output, part) => {
        const begins = second.shape.map((_, own) => (own === axis ? part * sizes[axis] : 0));
        this.#box(second, begins, sizes, (shape, type) => this.put(output, type, shape, constant));
      });
    } else if (name === "TRANSPOSE") {
      const order = this.numbers(inputs[1]), shape = order.map((axis) => first.shape[axis]);
      const given = stridesOf(first.shape), from = order.map((axis) => given[axis]);
      this.#copy(first, from, 0, make(shape, first.type));
    } else if (name === "SUM") {
      const result = this.array(make([1, first.shape[1]])), given = this.array(first), width = first.shape[1];
      result.fill(0);
      given.forEach((value, place) => (result[place % width] += value));
    } else if (name === "CUMSUM") {
      const result = this.array(make(first.shape, first.type));
      let sum = 0;
      this.array(first).forEach((value, place) => {
        result[place] = sum;
        sum += value;
      });
    } else if (name === "SOFTMAX") {
      const result = make(first.shape), columns = first.shape.at(-1);
      this.kernels.softmax(first.address, sizeOf(first.shape) / columns, columns, result.address);
    } else if (name === "FULLY_CONNECTED") {
      this.#fullyConnected(first, second, third, options.relu, make);
    } else if (name === "BATCH_MATMUL") {
      this.#batchProduct(first, second, options.transposed, make);
    } else throw new Error(`the operation ${name} is unknown`);
  }

  #scale(value, row) {
    const { address, count } = value.scales;
    return new Float32Array(this.memory.buffer, address, count)[count > 1 ? row : 0];
  }

  #binary(name, first, second, make) {
    const shape = broadcastShape(first.shape, second.shape), compute = BINARY[name];
    const size = sizeOf(first.shape), period = sizeOf(second.shape);
    const kernel = first.type === "float32" && size === sizeOf(shape) && isRepeated(second.shape, shape) && KERNELS[name];
    if (kernel) {
      this.kernels[kernel](first.address, size, second.address, period, make(shape).address);
      return;
    }
    const result = this.array(make(shape, first.type)), a = this.array(first), b = this.array(second);
    const [strideA, strideB] = [first, second].map((value) => broadcastStrides(value.shape, shape));
    const width = shape.at(-1) ?? 1, [stepA, stepB] = [strideA.at(-1) ?? 0, strideB.at(-1) ?? 0];
    let place = 0;
    eachRow(shape, strideA, strideB, (from, other) => {
      for (let i = 0; i < width; i++) result[place++] = compute(a[from + i * stepA], b[other + i * stepB]);
    });
  }

  /* The rows `ids` of a table. A lookup multiplies each with its scale. */
  #lookUp(table, ids, make, scaled) {
    const rows = this.array(ids), [count, ...rest] = table.shape, width = sizeOf(rest);
    const found = make([...ids.shape, ...rest], scaled ? "float32" : table.type);
    if (!scaled) found.scales = table.scales;
    const result = this.array(found), values = this.array(table);
    rows.forEach((row, place) => {
      if (row < 0 || row >= count) throw new Error(`row ${row} of ${count} is looked up`);
      const vector = values.subarray(row * width, (row + 1) * width);
      if (!scaled) result.set(vector, place * width);
      else {
        const scale = this.#scale(table, row);
        for (let i = 0; i < width; i++) result[place * width + i] = vector[i] * scale;
      }
    });
  }

  /* The part of a tensor that begins at `begins`. */
  #box(value, begins, sizes, make) {
    const strides = stridesOf(value.shape);
    const start = begins.reduce((place, begin, axis) => place + begin * strides[axis], 0);
    this.#copy(value, strides, start, make(sizes, value.type));
  }

  #copy(value, strides, start, target) {
    const given = this.array(value), result = this.array(target), width = target.shape.at(-1), step = strides.at(-1);
    let place = 0;
    eachRow(target.shape, strides, strides, (from) => {
      if (step === 1) result.set(given.subarray(start + from, start + from + width), place);
      else for (let i = 0; i < width; i++) result[place + i] = given[start + from + i * step];
      place += width;
    });
  }

  #fullyConnected(input, kernel, bias, relu, make) {
    const [outputs, inner] = kernel.shape, rows = sizeOf(input.shape) / inner;
    const result = make([rows, outputs]).address, biasAddress = bias?.address ?? 0;
    if (kernel.type === "float32") {
      this.kernels.multiply(input.address, kernel.address, biasAddress, rows, inner, outputs, relu, result);
      return;
    }
    const bytes = [2 * rows * inner, 4 * rows], [rounded, steps] = bytes.map((size) => this.take(size));
    const { address, count } = kernel.scales;
    this.kernels.round_rows(input.address, rows, inner, rounded, steps);
    this.kernels.multiply_rounded(
      rounded, steps, kernel.address, address, count, biasAddress, rows, inner, outputs, relu, result);
    this.give(rounded, bytes[0]);
    this.give(steps, bytes[1]);
  }

  #batchProduct(first, second, transposed, make) {
    const [rows, inner] = first.shape.slice(-2), batch = first.shape.slice(0, -2);
    const outputs = second.shape.at(transposed ? -2 : -1), bytes = 4 * inner * outputs;
    const result = make([...batch, rows, outputs]).address, turned = this.take(bytes);
    for (let number = 0; number < sizeOf(batch); number++) {
      const a = first.address + 4 * number * rows * inner, b = second.address + number * bytes;
      if (transposed) this.kernels.transpose(b, outputs, inner, turned);
      this.kernels.multiply_plain(a, transposed ? turned : b, rows, inner, outputs, result + 4 * number * rows * outputs);
    }
    this.give(turned, bytes);
  }
}
