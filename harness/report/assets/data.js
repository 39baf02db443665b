// Data: the JSON head and the packed columns, and a record of everything that goes wrong, for whoever tests the page.
const errors = [];
const note = (text) => { errors.push(String(text)); document.body.dataset.errors = JSON.stringify(errors); };
addEventListener("error", (e) => note(e.message));
addEventListener("unhandledrejection", (e) => note(e.reason));
addEventListener("securitypolicyviolation", (e) => note(`policy: ${e.violatedDirective} ${e.blockedURI}`));
document.body.dataset.errors = "[]";

const $ = (id) => document.getElementById(id);
const run = JSON.parse($("data").textContent);
run.end = Math.max(run.end, 1);

// Base64 to bytes, zlib away.
async function inflate(id) {
  const text = atob($(id).textContent);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Columns of byte planes, lowest byte first; `delta` columns add up.
function reader(bytes, rows) {
  let at = 0;
  return (width, delta, Type) => {
    const out = new Type(rows);
    for (let plane = 0, scale = 1; plane < width; plane++, scale *= 256) {
      for (let i = 0; i < rows; i++) out[i] += bytes[at + i] * scale;
      at += rows;
    }
    if (delta) for (let i = 1; i < rows; i++) out[i] += out[i - 1];
    return out;
  };
}

// All times become microseconds.
const scaled = (column) => { if (run.unit !== 1) for (let i = 0; i < column.length; i++) column[i] *= run.unit; return column; };

async function load() {
  const ops = reader(await inflate("ops"), run.ops);
  const stores = reader(await inflate("stores"), run.stores);
  const table = {
    start: scaled(ops(4, true, Float64Array)), length: scaled(ops(4, false, Float64Array)),
    index: ops(4, true, Float64Array), lane: ops(2, false, Uint16Array), code: ops(1, false, Uint8Array),
  };
  const store = {
    time: scaled(stores(4, true, Float64Array)), seq: stores(4, false, Float64Array), rank: stores(4, false, Float64Array),
    token: stores(8, false, Float64Array), by: stores(2, false, Uint16Array),
  };
  return { ops: table, stores: store };
}

// The first row whose value is not below `value`.
function lower(column, value) {
  let from = 0, to = column.length;
  while (from < to) { const mid = (from + to) >> 1; if (column[mid] < value) from = mid + 1; else to = mid; }
  return from;
}
