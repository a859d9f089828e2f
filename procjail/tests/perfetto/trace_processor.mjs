// Runs Perfetto's trace processor, as the viewer has it (WebAssembly), over trace files:
//   node trace_processor.mjs ENGINE_DIRECTORY TRACE... < queries.json
// Queries are a JSON list of SQL. The answer is a JSON list: for each trace, for each query, its rows as objects.
// The engine is asked as the viewer's own code does it, in the protocol of trace_processor.proto.
import { readFileSync } from 'node:fs';
import vm from 'node:vm';
import path from 'node:path';

const [directory, ...traces] = process.argv.slice(2);

// The engine expects to be a worker of a browser that fetches its WebAssembly from beside it.
globalThis.self = globalThis;
globalThis.WorkerGlobalScope = class {};
globalThis.location = { href: 'https://localhost/engine_bundle.js' };
globalThis.XMLHttpRequest = class {
  open(_, name) {
    this.name = path.basename(name);
  }
  send() {
    const file = readFileSync(path.join(directory, this.name));
    this.response = file.buffer.slice(file.byteOffset, file.byteOffset + file.length);
    this.status = 200;
  }
};
const node = process;
globalThis.process = undefined;
console.log = console.warn = (...text) => console.error(...text);

const METHOD = { append: 1, finalize: 2, query: 3, reset: 11 };

function varint(value) {
  const bytes = [];
  for (let rest = BigInt(value); ; rest >>= 7n) {
    if (rest < 128n) return Buffer.from([...bytes, Number(rest)]);
    bytes.push(Number(rest & 127n) | 128);
  }
}
const number = (field, value) => Buffer.concat([varint(field << 3), varint(value)]);
const bytes = (field, value) => Buffer.concat([varint((field << 3) | 2), varint(value.length), value]);

// The fields of a message: [field, value], numbers as BigInt, the rest as bytes.
function* fields(message) {
  let at = 0;
  const next = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message[at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const key = Number(next());
    const field = key >>> 3;
    if ((key & 7) === 0) yield [field, next()];
    else if ((key & 7) === 1) yield [field, message.subarray(at, (at += 8))];
    else if ((key & 7) === 2) {
      const length = Number(next());
      yield [field, message.subarray(at, (at += length))];
    } else throw new Error(`wire type ${key & 7}`);
  }
}
const all = (message, field) => [...fields(message)].filter(([n]) => n === field).map(([, value]) => value);
const text = (value) => Buffer.from(value).toString();
function* varints(packed) {
  for (let at = 0; at < packed.length; ) {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = packed[at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) break;
    }
    yield Number(BigInt.asIntN(64, value));
  }
}

// Answers come one message after another, in pieces of any size.
const waiting = [];
let pending = Buffer.alloc(0);
function answered(piece) {
  pending = Buffer.concat([pending, piece]);
  for (;;) {
    let at = 1, length = 0, shift = 0;
    while (at < pending.length && pending[at] >= 128) length += (pending[at++] & 127) * 2 ** shift, (shift += 7);
    if (at >= pending.length) return;
    length += pending[at++] * 2 ** shift;
    if (pending.length < at + length) return;
    const message = pending.subarray(at, at + length);
    pending = pending.subarray(at + length);
    const [fatal] = all(message, 5);
    if (fatal) throw new Error(text(fatal));
    waiting[0]?.(message);
  }
}

const port = { postMessage: (piece) => answered(Buffer.from(piece)) };
let sequence = 0;
function request(method, argument, done) {
  const message = Buffer.concat([number(1, sequence++), number(2, method), argument]);
  return new Promise((resolve) => {
    waiting.push((answer) => {
      if (done(answer)) {
        waiting.shift();
        resolve();
      }
    });
    port.onmessage({ data: new Uint8Array(bytes(1, message)) });
  });
}

async function query(sql) {
  let columns = [];
  const values = [];
  await request(METHOD.query, bytes(103, bytes(1, Buffer.from(sql))), (answer) => {
    let last = false;
    for (const result of all(answer, 203)) {
      const [error] = all(result, 2);
      if (error?.length) throw new Error(`${sql}: ${text(error)}`);
      const names = all(result, 1).map(text);
      if (names.length) columns = names;
      for (const batch of all(result, 3)) {
        const integers = all(batch, 2).flatMap((packed) => [...varints(packed)]);
        const floats = all(batch, 3).flatMap((packed) => {
          const view = Buffer.from(packed);
          return Array.from({ length: view.length / 8 }, (_, index) => view.readDoubleLE(index * 8));
        });
        const strings = all(batch, 5).flatMap((joined) => text(joined).split('\0'));
        const blobs = all(batch, 4);
        for (const cell of all(batch, 1).flatMap((packed) => [...varints(packed)])) {
          values.push({
            1: () => null,
            2: () => integers.shift(),
            3: () => floats.shift(),
            4: () => strings.shift(),
            5: () => blobs.shift().length,
          }[cell]());
        }
        last ||= all(batch, 6).some((flag) => flag === 1n);
      }
    }
    return last;
  });
  const rows = [];
  for (let at = 0; at < values.length; at += columns.length) {
    rows.push(Object.fromEntries(columns.map((name, index) => [name, values[at + index]])));
  }
  return rows;
}

vm.runInThisContext(readFileSync(path.join(directory, 'engine_bundle.js'), 'utf8'));
globalThis.onmessage({ data: port });
// The WebAssembly is there by now; the engine hears of it in a promise.
await new Promise((resolve) => setTimeout(resolve, 0));
async function load(trace) {
  const content = readFileSync(trace);
  for (let at = 0; at < content.length; at += 1 << 24) {
    await request(METHOD.append, bytes(101, content.subarray(at, at + (1 << 24))), (answer) => {
      for (const result of all(answer, 201)) {
        const [error] = all(result, 2);
        if (error?.length) throw new Error(`${trace}: ${text(error)}`);
      }
      return true;
    });
  }
  await request(METHOD.finalize, Buffer.alloc(0), () => true);
}

const queries = JSON.parse(readFileSync(0, 'utf8'));
const answers = [];
for (const trace of traces) {
  await load(trace);
  const rows = [];
  for (const sql of queries) rows.push(await query(sql));
  answers.push(rows);
  await request(METHOD.reset, bytes(107, Buffer.alloc(0)), () => true);
}
node.stdout.write(JSON.stringify(answers), () => node.exit(0));
