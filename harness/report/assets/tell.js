// What lies under the pointer, in words. Text goes to the page through textContent and nothing else.
const time = (t) => `${(t / 1e6).toFixed(3)} s`;
const took = (us) => us >= 1e6 ? `${(us / 1e6).toFixed(2)} s` : us >= 1e3 ? `${(us / 1e3).toFixed(1)} ms` : `${Math.round(us)} µs`;

// How far a pointer may be beside what it means: five pixels, in microseconds.
const near = () => (view.to - view.from) / Math.max(1, box.width - box.left) * 5;

function under(x, y) {
  const t = T(x), reach = near(), lines = [];
  const inside = (from, to) => t >= from - reach && t <= to + reach;
  if (x < box.left) return lines;
  if (y < box.marks) {
    for (const [name, from, to] of run.phases) if (t >= from && t <= to) lines.push(`phase ${name}`, `${time(from)} to ${time(to)}`);
  } else if (y < box.faults) {
    for (const a of run.anomalies) if (inside(a.from, a.from) || (t >= a.from && t <= a.to)) lines.push(`${a.severity} ${a.n}`, a.title, `${time(a.from)} to ${time(a.to)}`);
  } else if (y < box.top) {
    const row = Math.floor((y - box.faults) / FAULT_ROW);
    for (const f of run.faults) if (f.row === row && inside(f.from, f.to)) lines.push(`fault ${f.n}: ${f.kind}`, f.what, `${time(f.from)} to ${f.healed ? time(f.to) : "the end, not healed"}`, ...(f.aim ? [`aim: ${f.aim}`] : []));
  } else if (y < box.density) {
    const i = run.lanes.findLastIndex((lane) => lane.y <= y), lane = run.lanes[i];
    if (lane && !lane.low) tellLane(lane, i, t, y - lane.y, inside, lines);
  } else if (table) {
    const a = lower(table.ops.start, t - reach), b = lower(table.ops.start, t + reach), n = [0, 0, 0];
    for (let k = a; k < b; k++) n[Math.min(2, table.ops.code[k] & 3)]++;
    lines.push(`${b - a} operations within ${took(reach * 2)}`, `${n[0]} ok, ${n[1]} failed, ${n[2]} unknown`);
  }
  return lines;
}

function tellLane(lane, i, t, y, inside, lines) {
  if (i === run.storage) return tellStore(t, lines);
  if (y >= 34 && table) {
    const found = nearestOp(t, i, y);
    if (found >= 0) {
      const o = table.ops, k = o.code[found];
      lines.push(`${run.operations[k >> 2]} ${["ok", "failed", "unknown", "never completed"][k & 3]}`, `asked of ${lane.name} at ${time(o.start[found])}`, `took ${took(o.length[found])}, event #${o.index[found]}`);
    }
    return;
  }
  for (const [from, definite, to, , epoch, reign, token, ending] of lane.reigns) {
    if (inside(from, to)) lines.push(`${lane.name} led${epoch === null ? ", no epochs" : ` in epoch ${epoch}`}`, `reign ${reign}${token === null ? "" : `, token ${token}`}`, `proven ${time(from)} to ${time(definite)}`, `possible until ${time(to)}`, ending);
  }
  for (const [from, to, state] of lane.states) if (inside(from, to)) lines.push(`${lane.name} ${state}`, `${time(from)} to ${time(to)}`);
  for (const [at, how] of lane.exits) if (inside(at, at)) lines.push(`${lane.name} exited by itself`, time(at), how);
  for (const f of run.faults) if (f.lanes.includes(i) && t >= f.from && t <= f.to && f.kind !== "kill" && f.kind !== "pause") lines.push(`under fault ${f.n}: ${f.what}`);
}

function nearestOp(t, lane, y) {
  const o = table.ops, reach = near(), write = y >= 41;
  let best = -1, distance = Infinity;
  // Operations that began long before may still be under way; a bounded look back finds them.
  const first = Math.max(0, lower(o.start, t - 30e6)), last = lower(o.start, t + reach);
  for (let k = last - 1; k >= first && last - k < 200000; k--) {
    if (o.lane[k] !== lane || o.start[k] + o.length[k] < t - reach) continue;
    const d = Math.max(0, o.start[k] - t, t - o.start[k] - o.length[k]) + ((o.code[k] >> 2 === 1) === write ? 0 : reach / 2);
    if (d < distance) { distance = d; best = k; if (!d) break; }
  }
  return best;
}

function tellStore(t, lines) {
  if (!table) return;
  const s = table.stores, reach = near();
  const a = lower(s.time, t - reach), b = lower(s.time, t + reach);
  if (a === b) return;
  if (b - a > 6) {
    let refused = 0; const tokens = new Set();
    for (let k = a; k < b; k++) { if (!s.seq[k]) refused++; tokens.add(s.token[k]); }
    lines.push(`${b - a - refused} writes accepted, ${refused} refused`, `tokens ${[...tokens].slice(0, 5).join(", ")}`, `around ${time(t)}`);
    return;
  }
  lines.push(`storage at ${time(s.time[a])}`);
  for (let k = a; k < b; k++) lines.push(s.seq[k] ? `accepted as ${s.seq[k]}: token ${s.token[k]} by ${run.lanes[s.by[k]].name}` : `refused: token ${s.token[k]} by ${run.lanes[s.by[k]].name}`);
}

function showTip(x, y) {
  const tip = $("tip"), lines = under(x, y);
  tip.hidden = !lines.length;
  tip.replaceChildren(...lines.slice(0, 12).map((text) => { const line = document.createElement("div"); line.textContent = text; return line; }));
  if (tip.hidden) return;
  const stage = $("lanes").parentElement.clientWidth;
  tip.style.left = `${Math.max(0, Math.min(x + 14, stage - tip.offsetWidth))}px`;
  tip.style.top = `${y + 16}px`;
}
