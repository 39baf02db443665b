// The page comes alive: moving, zooming, pointing, copying.
let frame = 0;
function redraw() { if (!frame) frame = requestAnimationFrame(() => { frame = 0; draw(); }); }

function look(from, to) {
  const span = Math.min(Math.max(to - from, 200), run.end);
  from = Math.min(Math.max(0, from + (to - from - span) / 2), run.end - span);
  view.from = from; view.to = from + span;
  $("tip").hidden = true;
  redraw();
}
const zoom = (factor, at = (view.from + view.to) / 2) => look(at - (at - view.from) * factor, at + (view.to - at) * factor);
const pan = (share) => { const d = (view.to - view.from) * share; look(view.from + d, view.to + d); };

// To the first anomaly beyond the middle of the view, in either direction.
function jump(direction) {
  const sorted = [...run.anomalies].sort((a, b) => a.from - b.from);
  const middle = (a) => (a.from + a.to) / 2, now = (view.from + view.to) / 2, whole = view.to - view.from > run.end * 0.999;
  const ahead = whole ? sorted : sorted.filter((a) => direction * (middle(a) - now) > 1);
  const target = direction > 0 ? ahead[0] : ahead[ahead.length - 1];
  if (target) { const margin = Math.max((target.to - target.from) * 0.4, 4e5); look(target.from - margin, target.to + margin); }
}

const deeds = { left: () => pan(-0.3), right: () => pan(0.3), in: () => zoom(0.5), out: () => zoom(2), all: () => look(0, run.end), next: () => jump(1), previous: () => jump(-1) };
const keys = { ArrowLeft: "left", ArrowRight: "right", "+": "in", "=": "in", "-": "out", 0: "all", Home: "all", n: "next", p: "previous" };

function listen() {
  const stage = $("lanes");
  for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => deeds[button.dataset.do]());
  stage.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || !keys[e.key]) return;
    e.preventDefault(); deeds[keys[e.key]]();
  });
  // The plain wheel scrolls the page until the timeline was clicked: a picture must not swallow the reader's way.
  stage.addEventListener("wheel", (e) => {
    const sideways = Math.abs(e.deltaX) > Math.abs(e.deltaY);
    if (!sideways && !e.ctrlKey && !e.metaKey && document.activeElement !== stage) return;
    e.preventDefault();
    if (sideways) pan(e.deltaX / box.width); else zoom(Math.exp(Math.max(-80, Math.min(80, e.deltaY)) * 0.006), T(e.offsetX));
  }, { passive: false });
  touch(stage);
  brush($("overview"));
  document.addEventListener("click", (e) => {
    const link = e.target.closest && e.target.closest("a[data-from]");
    if (link) { look(Number(link.dataset.from), Number(link.dataset.to)); requestAnimationFrame(() => stage.focus({ preventScroll: true })); }
    const copy = e.target.closest && e.target.closest("[data-copy]");
    if (copy) copyText(copy);
  });
  addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColors(); draw(); });
  const print = (on) => { if (on) document.documentElement.dataset.print = ""; else delete document.documentElement.dataset.print; readColors(); draw(); };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
}

// One pointer drags, two pinch; a pointer that does not move asks what is there.
function touch(stage) {
  const pointers = new Map();
  let moved = 0;
  stage.addEventListener("pointerdown", (e) => { pointers.set(e.pointerId, e.offsetX); stage.setPointerCapture(e.pointerId); moved = 0; });
  stage.addEventListener("pointermove", (e) => {
    if (!pointers.has(e.pointerId)) { if (e.pointerType === "mouse") showTip(e.offsetX, e.offsetY); return; }
    const before = [...pointers.values()], x = e.offsetX, was = pointers.get(e.pointerId);
    pointers.set(e.pointerId, x);
    moved += Math.abs(x - was);
    if (pointers.size === 1) { if (moved > 3) { const d = T(was) - T(x); look(view.from + d, view.to + d); } return; }
    const after = [...pointers.values()];
    const spread = (v) => Math.max(12, Math.abs(v[0] - v[1]));
    zoom(spread(before) / spread(after), T((after[0] + after[1]) / 2));
  });
  const end = (e) => {
    const tap = pointers.size === 1 && moved <= 3 && e.type === "pointerup";
    pointers.delete(e.pointerId);
    if (tap) showTip(e.offsetX, e.offsetY);
  };
  stage.addEventListener("pointerup", end);
  stage.addEventListener("pointercancel", end);
  stage.addEventListener("pointerleave", (e) => { if (e.pointerType === "mouse") $("tip").hidden = true; });
}

function brush(overview) {
  const go = (e) => {
    const half = (view.to - view.from) / 2, at = (e.offsetX - box.left) / (box.width - box.left) * run.end;
    look(at - half, at + half);
  };
  overview.addEventListener("pointerdown", (e) => {
    if (view.to - view.from > run.end * 0.99) { const at = (e.offsetX - box.left) / (box.width - box.left) * run.end; look(at - run.end / 12, at + run.end / 12); }
    overview.setPointerCapture(e.pointerId); go(e);
  });
  overview.addEventListener("pointermove", (e) => { if (overview.hasPointerCapture(e.pointerId)) go(e); });
}

async function copyText(button) {
  const source = $(button.dataset.copy);
  try { await navigator.clipboard.writeText(source.textContent); button.textContent = "Copied"; }
  catch { getSelection().selectAllChildren(source); button.textContent = "Selected"; }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

// What a test wants to know: was something drawn, does the page fit its window, how long did it take.
function report(began) {
  const data = document.body.dataset;
  const pixels = (id) => { const el = $(id), p = new Uint32Array(el.getContext("2d").getImageData(0, 0, el.width, el.height).data.buffer); const ground = p[p.length - 1]; let n = 0; for (const v of p) if (v !== ground) n++; return n; };
  const drawing = performance.now();
  draw();
  data.draw = (performance.now() - drawing).toFixed(1);
  data.load = (drawing - began).toFixed(1);
  data.painted = `${pixels("lanes")} ${pixels("overview")}`;
  data.ops = table.ops.start.length;
  data.overflow = document.documentElement.scrollWidth - innerWidth;
  data.ready = "yes";
}

const began = performance.now();
for (const el of document.querySelectorAll(".controls, .stage, .hint, [data-copy]")) el.hidden = false;
readColors();
draw();
listen();
load().then((loaded) => { table = loaded; report(began); });
