// Drawing: colours, the view, the axis, the faults, and what lies above the hosts' lanes.
let colors = {}, patterns = {};
const EPOCHS = 10;

function readColors() {
  const css = getComputedStyle(document.documentElement);
  const get = (name) => css.getPropertyValue(`--${name}`).trim();
  const names = "ground card ink quiet line soft ok fail info refused partition kill pause packet clock disk none down down-line stop e-ink hazard violation";
  colors = Object.fromEntries(names.split(" ").map((n) => [n, get(n)]));
  colors.epochs = Array.from({ length: EPOCHS }, (_, i) => get(`e${i}`));
  patterns = { down: hatch(colors.down, colors["down-line"]), paused: hatch(null, colors.stop) };
}

function hatch(ground, line) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const c = tile.getContext("2d");
  if (ground) { c.fillStyle = ground; c.fillRect(0, 0, 8, 8); }
  c.strokeStyle = line; c.lineWidth = 1.6;
  c.beginPath();
  for (const d of [-8, 0, 8]) { c.moveTo(d - 1, 9); c.lineTo(d + 9, -1); }
  c.stroke();
  return tile;
}

// The view in microseconds, and the layout in pixels; both change with every zoom or resize.
const view = { from: 0, to: run.end };
const box = { width: 0, left: 0, rows: 1, top: 0, height: 0 };
const FAULT_ROW = 18, MARKS = 18, AXIS = 34, MAX_ROWS = 6, LANE = 52, LOW_LANE = 24;

// Faults that overlap get rows of their own; more than MAX_ROWS at once share the last.
const free = [];
for (const f of run.faults) {
  let row = free.findIndex((until) => until <= f.from);
  if (row < 0) row = Math.min(free.length, MAX_ROWS - 1);
  free[row] = Math.max(free[row] || 0, f.to);
  f.row = row;
}

function layout() {
  box.width = $("lanes").clientWidth;
  box.left = box.width < 560 ? 58 : 88;
  box.rows = Math.max(1, free.length);
  box.marks = AXIS;
  box.faults = box.marks + MARKS;
  box.top = box.faults + box.rows * FAULT_ROW + 8;
  let y = box.top;
  for (const lane of run.lanes) { lane.y = y; y += lane.low ? LOW_LANE : LANE; }
  box.density = y + 4;
  box.height = box.density + 44;
}

const X = (t) => box.left + (t - view.from) / (view.to - view.from) * (box.width - box.left);
const T = (x) => view.from + (x - box.left) / (box.width - box.left) * (view.to - view.from);
const seen = (from, to) => from <= view.to && to >= view.from;

function canvas(id, height) {
  const el = $(id), scale = devicePixelRatio || 1;
  const width = el.clientWidth;
  if (el.width !== Math.round(width * scale) || el.height !== Math.round(height * scale)) {
    el.width = Math.round(width * scale); el.height = Math.round(height * scale); el.style.height = `${height}px`;
  }
  const c = el.getContext("2d");
  c.setTransform(scale, 0, 0, scale, 0, 0);
  c.fillStyle = colors.card; c.fillRect(0, 0, width, height);
  c.font = "11.5px system-ui, sans-serif"; c.textBaseline = "middle";
  return c;
}

function step(span, n) {
  const rough = span / n, power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((m) => m * power >= rough * 0.999);
}

function seconds(t, span, marks = 8) {
  const s = step(span, marks);
  const decimals = s >= 1e6 ? 0 : s >= 1e5 ? 1 : s >= 1e4 ? 2 : s >= 1e3 ? 3 : 6;
  return `${(t / 1e6).toFixed(decimals)} s`;
}

// Text that fits between two abscissas, the visible part of them, or none.
function fitted(c, text, x0, x1, y) {
  x0 = Math.max(x0, box.left) + 4;
  const room = Math.min(x1, box.width) - x0 - 3;
  if (room < 14) return;
  let shown = text;
  while (shown.length > 1 && c.measureText(shown).width > room) shown = shown.slice(0, Math.min(shown.length - 1, Math.floor(shown.length * 0.85))) ;
  if (shown.length < text.length) { if (shown.length < 3) return; shown = `${shown.slice(0, -1)}…`; }
  c.fillText(shown, x0, y);
}

function label(c, text, y, bold) {
  c.fillStyle = bold ? colors.ink : colors.quiet;
  c.font = bold ? "600 12.5px system-ui, sans-serif" : "10.5px system-ui, sans-serif";
  c.fillText(text, 0, y, box.left - 6);
  c.font = "11.5px system-ui, sans-serif";
}

function drawAxis(c) {
  const span = view.to - view.from, width = Math.max(1, box.width - box.left);
  const s = step(span, Math.max(2, width / 110));
  c.textAlign = "center";
  for (let t = Math.ceil(view.from / s) * s; t <= view.to; t += s) {
    const x = Math.round(X(t)) + 0.5;
    c.strokeStyle = colors.line; c.beginPath(); c.moveTo(x, 15); c.lineTo(x, box.height); c.stroke();
    c.fillStyle = colors.quiet;
    const text = seconds(t, span), half = c.measureText(text).width / 2;
    if (x - half >= box.left - 14 && x + half <= box.width) c.fillText(text, x, 7);
  }
  c.textAlign = "left";
}

function drawPhases(c) {
  label(c, "phase", 25, false);
  run.phases.forEach(([name, from, to], i) => {
    if (!seen(from, to)) return;
    const x0 = Math.max(X(from), box.left), x1 = Math.min(X(to), box.width);
    c.fillStyle = i % 2 ? colors.line : colors.soft;
    c.fillRect(x0, 17, Math.max(1, x1 - x0), 15);
    c.fillStyle = colors.ink;
    fitted(c, name, x0, x1, 25);
    if (from > view.from) { c.strokeStyle = colors.quiet; c.beginPath(); c.moveTo(x0 + 0.5, 17); c.lineTo(x0 + 0.5, box.height); c.globalAlpha = 0.5; c.stroke(); c.globalAlpha = 1; }
  });
}

function mark(c, severity, x, y, r) {
  c.fillStyle = colors[severity];
  c.beginPath();
  if (severity === "violation") { c.moveTo(x, y - r); c.lineTo(x + r, y + r * 0.8); c.lineTo(x - r, y + r * 0.8); }
  else { c.moveTo(x, y - r); c.lineTo(x + r * 0.85, y); c.lineTo(x, y + r); c.lineTo(x - r * 0.85, y); }
  c.fill();
}

// Hazards first, so that a violation is never hidden below one.
const byGravity = [...run.anomalies].reverse();

function drawAnomalies(c) {
  label(c, "anomalies", box.marks + 9, false);
  for (const a of byGravity) {
    if (!seen(a.from, a.to)) continue;
    const x0 = Math.max(X(a.from), box.left), x1 = Math.min(X(a.to), box.width);
    c.fillStyle = colors[a.severity]; c.globalAlpha = 0.4;
    c.fillRect(x0, box.marks + 8, Math.max(1, x1 - x0), 3);
    c.globalAlpha = 1;
    mark(c, a.severity, Math.max(X(a.from), box.left + 3), box.marks + 9, 6);
  }
}

function drawFaults(c) {
  label(c, "faults", box.faults + 9, true);
  for (const f of run.faults) {
    if (!seen(f.from, f.to)) continue;
    const x0 = Math.max(X(f.from), box.left), x1 = Math.min(Math.max(X(f.to), X(f.from) + 2), box.width);
    const y = box.faults + f.row * FAULT_ROW;
    c.fillStyle = colors[f.kind]; c.globalAlpha = 0.5;
    c.fillRect(x0, y, x1 - x0, FAULT_ROW - 3);
    c.globalAlpha = 1;
    c.fillRect(x0, y, 2, FAULT_ROW - 3);
    c.fillStyle = colors.ink;
    fitted(c, `${f.n} ${f.what}`, x0 + 1, x1, y + 8);
  }
}
