// The hosts' lanes, the storage's lane, and the density of operations. Nothing here draws a million ticks: what does not
// fit one by one is counted by pixel, and shares are drawn as shares, so that two failures in a hundred look like two.
let table = null;
const TICKS = 3000;
const OUTCOMES = ["ok", "fail", "info", "info"];

function drawLane(c, lane, i) {
  const y = lane.y;
  c.strokeStyle = colors.line; c.beginPath(); c.moveTo(0, y + 0.5); c.lineTo(box.width, y + 0.5); c.stroke();
  if (lane.low) return label(c, `${lane.name} ${lane.role}`, y + 13, false);
  label(c, lane.name, y + 18, true);
  if (lane.role !== lane.name) label(c, lane.role, y + 33, false);
  if (i === run.storage) return drawStores(c, y);
  for (const [from, to, state] of lane.states) {
    if (state === "paused" || !seen(from, to)) continue;
    const x0 = Math.max(X(from), box.left), x1 = Math.min(X(to), box.width);
    c.fillStyle = c.createPattern(patterns.down, "repeat");
    c.fillRect(x0, y + 7, Math.max(1, x1 - x0), 23);
  }
  for (const reign of lane.reigns) drawReign(c, reign, y);
  for (const [from, to, state] of lane.states) {
    if (state !== "paused" || !seen(from, to)) continue;
    const x0 = Math.max(X(from), box.left), x1 = Math.min(X(to), box.width);
    c.fillStyle = c.createPattern(patterns.paused, "repeat");
    c.fillRect(x0, y + 5, Math.max(1, x1 - x0), 27);
    c.strokeStyle = colors.stop; c.strokeRect(x0 + 0.5, y + 5.5, Math.max(1, x1 - x0 - 1), 26);
  }
  for (const reign of lane.reigns) nameReign(c, reign, y);
  for (const [t] of lane.exits) if (seen(t, t)) { c.fillStyle = colors.violation; c.fillText("✕", X(t) - 4, y + 18); }
  // Who suffers under a fault of links, clocks or disks is told by a line above his lane.
  for (const f of run.faults) {
    if (!f.lanes.includes(i) || !seen(f.from, f.to) || f.kind === "kill" || f.kind === "pause") continue;
    const x0 = Math.max(X(f.from), box.left), x1 = Math.min(X(f.to), box.width);
    c.fillStyle = colors[f.kind]; c.fillRect(x0, y + 1, Math.max(1, x1 - x0), 3);
  }
}

function drawReign(c, [from, definite, to, rank], y) {
  if (!seen(from, to)) return;
  const clip = (t) => Math.min(Math.max(X(t), box.left), box.width);
  const x0 = clip(from), xd = clip(definite), x1 = Math.max(clip(to), clip(from) + 1.5);
  c.fillStyle = colors.epochs[rank % EPOCHS];
  c.globalAlpha = 0.38; c.fillRect(x0, y + 7, x1 - x0, 23); c.globalAlpha = 1;
  if (definite >= view.from) c.fillRect(x0, y + 7, Math.max(1.5, xd - x0), 23);
}

// The epoch's number, or the reign's where there are no epochs, stands over the hatches, in the proven part where it fits there, and with a rim that keeps it legible.
function nameReign(c, [from, definite, to, rank, epoch, reign], y) {
  if (!seen(from, to)) return;
  const clip = (t) => Math.min(Math.max(X(t), box.left), box.width);
  const x0 = clip(from), xd = clip(definite), x1 = clip(to), fits = (text, x) => c.measureText(text).width + 7 <= x - x0;
  const names = epoch === null ? [`reign ${reign}`, reign] : [`epoch ${epoch}`, epoch];
  const text = names.find((t) => fits(t, xd)) || names.find((t) => fits(t, x1));
  if (!text) return;
  const proven = fits(text, xd);
  c.lineWidth = 3; c.lineJoin = "round"; c.strokeStyle = proven ? colors.epochs[rank % EPOCHS] : colors.card;
  c.strokeText(text, x0 + 4, y + 19); c.lineWidth = 1;
  c.fillStyle = proven ? colors["e-ink"] : colors.ink;
  c.fillText(text, x0 + 4, y + 19);
}

// Counts by pixel and outcome, of one lane or of all.
function countOps(first, last) {
  const w = Math.max(1, Math.floor(box.width - box.left)), lanes = run.lanes.length;
  const all = [new Uint32Array(w), new Uint32Array(w), new Uint32Array(w)];
  const by = [0, 1, 2].map(() => new Uint32Array(w * lanes));
  const scale = w / (view.to - view.from), from = view.from, ops = table.ops;
  for (let i = first; i < last; i++) {
    const x = Math.min(w - 1, Math.max(0, ((ops.start[i] - from) * scale) | 0)), k = Math.min(2, ops.code[i] & 3);
    all[k][x]++; by[k][ops.lane[i] * w + x]++;
  }
  return { w, all, by };
}

function bars(c, counts, offset, w, y, height, peak) {
  // One path a colour: a change of colour costs more than a bar.
  const below = new Float32Array(w);
  for (let k = 0; k < 3; k++) {
    c.fillStyle = colors[OUTCOMES[k]]; c.beginPath();
    for (let x = 0; x < w; x++) {
      const part = counts[k][offset + x];
      if (!part) continue;
      const sum = counts[0][offset + x] + counts[1][offset + x] + counts[2][offset + x];
      const h = Math.max(2, height * sum / peak) * part / sum;
      below[x] += h;
      c.rect(box.left + x, y + height - below[x], 1, h);
    }
    c.fill();
  }
}

const most = (counts) => { let peak = 1; for (let i = 0; i < counts[0].length; i++) peak = Math.max(peak, counts[0][i] + counts[1][i] + counts[2][i]); return peak; };

function drawOps(c) {
  const first = lower(table.ops.start, view.from), last = lower(table.ops.start, view.to);
  const { w, all, by } = countOps(first, last);
  if (last - first > TICKS) {
    const peak = most(by);
    run.lanes.forEach((lane, i) => bars(c, by, i * w, w, lane.y + 35, 12, peak));
  } else {
    // Long operations begin before the window: look back as far as the longest plausible one.
    const back = lower(table.ops.start, view.from - 30e6);
    for (let i = back; i < last; i++) {
      if (table.ops.start[i] + table.ops.length[i] < view.from) continue;
      const x0 = Math.max(box.left, X(table.ops.start[i])), x1 = X(table.ops.start[i] + table.ops.length[i]);
      const k = table.ops.code[i] & 3, write = table.ops.code[i] >> 2 === 1;
      c.fillStyle = colors[OUTCOMES[k]];
      c.fillRect(x0, run.lanes[table.ops.lane[i]].y + (write ? 42 : 36), Math.max(1.5, Math.min(x1, box.width) - x0), 4);
    }
  }
  label(c, "operations", box.density + 16, false);
  bars(c, all, 0, w, box.density, 40, most(all));
}

function drawStores(c, y) {
  if (!table) return;
  const { time, seq, rank } = table.stores;
  const first = lower(time, view.from), last = lower(time, view.to);
  c.fillStyle = colors.line; c.fillRect(box.left, y + 28, box.width - box.left, 1);
  const many = last - first > TICKS;
  const width = many ? 1 : 2;
  // Epoch by epoch to the pixel: with many writes in one, the rarest colour must not be painted over.
  const painted = new Float64Array(64).fill(-1);
  for (let i = last - 1; i >= first; i--) {
    const x = many ? Math.floor(X(time[i])) : X(time[i]);
    if (many) { const key = seq[i] ? rank[i] % 63 : 63; if (painted[key] === x) continue; painted[key] = x; }
    if (seq[i]) { c.fillStyle = rank[i] ? colors.epochs[(rank[i] - 1) % EPOCHS] : colors.none; c.fillRect(x, y + 8, width, 20); }
    else { c.fillStyle = colors.fail; c.fillRect(x, y + 29, width, 12); }
  }
}

function drawOverview() {
  const height = 46, c = canvas("overview", height);
  const w = box.width - box.left, at = (t) => box.left + t / run.end * w;
  label(c, "whole run", 22, false);
  const [ok, fail, info] = run.density, n = ok.length;
  const peak = most(run.density);
  for (const f of run.faults) {
    c.fillStyle = colors[f.kind]; c.globalAlpha = 0.3;
    c.fillRect(at(f.from), 8, Math.max(1, at(f.to) - at(f.from)), height - 10);
    c.globalAlpha = 1;
  }
  for (let i = 0; i < n; i++) {
    let bottom = height - 2;
    [ok[i], fail[i], info[i]].forEach((part, k) => {
      if (!part) return;
      const h = Math.max(1, part / peak * (height - 14));
      c.fillStyle = colors[OUTCOMES[k]]; c.fillRect(box.left + i / n * w, bottom - h, w / n + 0.3, h); bottom -= h;
    });
  }
  for (const a of byGravity) mark(c, a.severity, Math.min(Math.max(at(a.from), box.left + 4), box.width - 4), 5, 4.5);
  c.fillStyle = colors.ground; c.globalAlpha = 0.7;
  c.fillRect(box.left, 10, at(view.from) - box.left, height); c.fillRect(at(view.to), 10, box.width - at(view.to), height);
  c.globalAlpha = 1;
  c.strokeStyle = colors.quiet; c.lineWidth = 1.5;
  c.strokeRect(at(view.from) + 0.75, 10.75, Math.max(3, at(view.to) - at(view.from) - 1.5), height - 11.5);
}

function draw() {
  layout();
  const c = canvas("lanes", box.height);
  drawAxis(c); drawPhases(c); drawFaults(c);
  run.lanes.forEach((lane, i) => drawLane(c, lane, i));
  if (table) drawOps(c);
  drawAnomalies(c);
  drawOverview();
  const span = view.to - view.from;
  $("window").textContent = span >= run.end * 0.9999 ? "whole run" : `${seconds(view.from, span, 80)} – ${seconds(view.to, span, 80)}`;
}
