// The page: what is chosen, and the elimination that is played.
const element = id => document.getElementById(id);
const count = number => number.toLocaleString("en-US");
const shape = sizes => sizes.length ? sizes.join(" × ") : "a number";
const escaped = text => text.replace(/[&<>"]/g, c => ({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})[c]);
const CODES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
const boxOf = new Map(DATA.boxes.flatMap((own, box) => own.map(vertex => [vertex, box])));
const baseOf = new Map(DATA.game.results);
const base = vertex => baseOf.has(vertex) ? baseOf.get(vertex) : vertex;
const nameOf = vertex => DATA.vertices[base(vertex)].name;
const inner = new Set(DATA.game.inner);
const edgeAt = new Map(DATA.edges.map((edge, n) => [edge.tail + "," + edge.head, n]));
const lineAt = new Map(DATA.lines.map(([, tail, head], n) => [tail + "," + head, n]));
const svg = document.querySelector(".pane svg");
const boxes = DATA.boxes.map((_, n) => element("vertex-" + n));
const lines = DATA.lines.map((_, n) => element("edge-" + n));
const labels = new Map([...svg.querySelectorAll("[data-label]")].map(own => [+own.dataset.label, own]));
const rects = boxes.map(box => {
  const [x, y, width, height] = ["x", "y", "width", "height"].map(
    name => +box.querySelector("rect").getAttribute(name));
  return {x, y, width, height};
});

// Elimination, played on frames: what each step removes and sets.
const ORDERS = {
  reverse: "reverse (backpropagation)", forward: "forward", cheapest: "cheapest vertex next",
  own: "your own: choose vertices",
};
const runs = {};
let mode = "reverse", position = 0, timer = null;

function initial() {
  const elimination = new Elimination(DATA.game), view = new Map();
  for (const [tail, heads] of elimination.leaving)
    for (const [head, edge] of heads) view.set(tail + "," + head, edge);
  return [elimination, view];
}
function frame(elimination, vertex) {
  const tails = [...elimination.tails(vertex)], heads = [...elimination.heads(vertex).keys()];
  const cost = elimination.eliminate(vertex), set = [];
  for (const tail of tails) for (const head of heads)
    if (elimination.heads(tail).has(head))
      set.push([tail + "," + head, elimination.heads(tail).get(head)]);
  const removed = [...tails.map(tail => tail + "," + vertex), ...heads.map(head => vertex + "," + head)];
  return {vertex, cost, removed, set};
}
function run(name) {
  if (runs[name]) return runs[name];
  const own = runs[name] = {frames: [], elimination: initial()[0], written: null};
  if (name !== "own") {
    const order = name === "forward" ? DATA.game.inner
      : name === "reverse" ? [...DATA.game.inner].reverse() : cheapestOrder(DATA.game);
    for (const vertex of order) own.frames.push(frame(own.elimination, vertex));
    own.written = own.elimination.write();
  }
  return own;
}
function total(name) {
  const own = runs[name];
  if (!own || own.written === null) return null;
  return own.frames.reduce((sum, step) => sum + step.cost, own.written);
}
const START = initial()[1];
function viewAt(own, place) {  // the edges, and which of them are not elemental
  const view = new Map(START), computed = new Set();
  for (const step of own.frames.slice(0, place)) {
    for (const key of step.removed) { view.delete(key); computed.delete(key); }
    for (const [key, edge] of step.set) { view.set(key, edge); computed.add(key); }
  }
  return [view, computed];
}

function eliminateNext(vertices) {
  const own = run("own");
  if (position > own.frames.length) return;
  const done = new Set(own.frames.slice(0, position).map(step => step.vertex));
  const next = vertices.filter(vertex => inner.has(vertex) && !done.has(vertex)).reverse();
  if (!next.length) return;
  if (position < own.frames.length) {  // another way from here on
    const kept = own.frames.slice(0, position).map(step => step.vertex);
    own.elimination = initial()[0];
    own.frames = kept.map(vertex => frame(own.elimination, vertex));
    own.written = null;
  }
  for (const vertex of next) own.frames.push(frame(own.elimination, vertex));
  position = own.frames.length;
  if (position === inner.size) own.written = own.elimination.write();
  show();
}
function restart() { delete runs.own; run("own"); position = 0; show(); }

function most() { const own = run(mode); return own.frames.length + (own.written === null ? 0 : 1); }
function go(place) { position = Math.max(0, Math.min(most(), place)); show(); }
function stop() { clearInterval(timer); timer = null; element("play").textContent = "Play"; }
function play() {
  if (timer) return stop();
  if (position >= most()) position = 0;
  element("play").textContent = "Pause";
  timer = setInterval(() => { go(position + 1); if (position >= most()) stop(); },
    Math.max(60, Math.min(900, 30000 / Math.max(1, most()))));
  go(position + 1);
}

function show() {
  const own = run(mode), place = Math.min(position, own.frames.length);
  const [view, computed] = viewAt(own, place);
  const done = new Set(own.frames.slice(0, place).map(step => step.vertex));
  const last = place ? own.frames[place - 1].vertex : null;
  boxes.forEach((box, n) => {
    const vertices = DATA.boxes[n];
    box.classList.toggle("gone", vertices.every(v => done.has(v) && !DATA.vertices[v].result));
    box.classList.toggle("last", last !== null && vertices.includes(last));
  });
  const present = new Map();
  for (const [key, edge] of view) {
    const [tail, head] = key.split(",").map(Number);
    const pair = boxOf.get(base(tail)) + "," + boxOf.get(base(head));
    if (boxOf.get(base(tail)) === boxOf.get(base(head))) continue;
    if (!present.has(pair)) present.set(pair, []);
    present.get(pair).push([key, edge]);
  }
  lines.forEach((line, n) => {
    const [, tail, head] = DATA.lines[n], shown = present.get(tail + "," + head);
    const isHere = !!shown, isNew = isHere && shown.some(([key]) => computed.has(key));
    line.classList.toggle("gone", !isHere);
    line.classList.toggle("new", isNew);
    line.lastChild.setAttribute("marker-end", isNew ? "url(#bj-arrow-new)" : "url(#bj-arrow)");
    if (labels.has(n)) labels.get(n).classList.toggle("gone", !isHere || isNew);
  });
  drawNew(present);
  const slider = element("slider"), spent = own.frames.slice(0, place).map(step => step.cost);
  const isWritten = position > own.frames.length;
  const sofar = spent.reduce((x, y) => x + y, 0) + (isWritten ? own.written : 0);
  slider.max = mode === "own" ? inner.size + 1 : most();
  slider.value = position;
  slider.setAttribute("aria-valuetext", position + " of " + slider.max);
  element("back").disabled = element("start").disabled = position === 0;
  element("next").disabled = position >= most();
  let text;
  if (!position) text = mode === "own"
    ? "Choose vertices of the graph in the order in which they are to be eliminated."
    : "Nothing is eliminated yet: the lines are the elemental Jacobians.";
  else if (isWritten) text = `The Jacobian is written out by ${count(own.written)} multiplications: ` +
    `${count(sofar)} in all.`;
  else text = `${position} of ${inner.size}: ${nameOf(last)} is eliminated by ` +
    `${count(spent[place - 1])} multiplications; ${count(sofar)} so far. ` +
    (place === inner.size ? "The lines left are the Jacobian." : `${inner.size - place} left.`);
  element("status").textContent = text;
  table(sofar);
}
function table(sofar) {
  const known = Object.keys(ORDERS).map(name => [name, total(name)]);
  const largest = Math.max(1, sofar, ...known.map(([, cost]) => cost || 0));
  element("totals").tBodies[0].innerHTML = known.map(([name, cost]) => {
    const isNow = name === mode, bar = isNow ? sofar : cost || 0;
    return `<tr class="${isNow ? "now" : ""}"><th scope="row">${ORDERS[name].split(" (")[0].split(":")[0]}</th>` +
      `<td class="number">${isNow ? count(sofar) : ""}</td>` +
      `<td class="number">${cost === null ? "–" : count(cost)}</td>` +
      `<td><span class="bar" aria-hidden="true"><span style="width:${100 * bar / largest}%"></span></span></td></tr>`;
  }).join("");
}
function route([x, y], [u, v], standing) {  // a curve that runs through few boxes, and is not bent much
  const {x: least, width} = svg.viewBox.baseVal, far = Math.max(0, Math.round((v - y) / 104));
  const lift = (v - y) * 0.4, wide = 40 + 22 * far;
  // A bend goes about three quarters of the way to its control points, and stays in the picture.
  const reach = (end, bow) => bow < 0
    ? -Math.min(-bow, Math.max(0, end - least - 8) / 0.75)
    : Math.min(bow, Math.max(0, least + width - end - 8) / 0.75);
  let best = "", fewest = Infinity;
  for (const share of far ? [0, -0.5, 0.5, -1, 1, -1.6, 1.6] : [0]) {
    const c = x + reach(x, share * wide), e = u + reach(u, share * wide);
    let hits = 0;
    for (let t = 0.04; t < 0.97; t += 0.04) {
      const r = 1 - t, weights = [r * r * r, 3 * r * r * t, 3 * r * t * t, t * t * t];
      const mix = (...own) => own.reduce((sum, value, n) => sum + value * weights[n], 0);
      const px = mix(x, c, e, u), py = mix(y, y + lift, v - lift, v);
      for (const n of standing) {
        const {x: a, y: b, width: w, height: h} = rects[n];
        if (px > a - 5 && px < a + w + 5 && py > b - 3 && py < b + h + 3) hits++;
      }
    }
    if (hits < fewest) { fewest = hits; best = `M${x} ${y}C${c} ${y + lift} ${e} ${v - lift} ${u} ${v}`; }
    if (!hits) break;
  }
  return best;
}
function drawNew(present) {
  const old = svg.querySelector(".fills");
  if (old) old.remove();
  const group = document.createElementNS(svg.namespaceURI, "g");
  group.setAttribute("class", "fills");
  const standing = [...boxes.keys()].filter(n => !boxes[n].classList.contains("gone")), ends = new Map();
  for (const pair of present.keys()) if (!lineAt.has(pair)) {
    const head = +pair.split(",")[1];
    ends.set(head, [...(ends.get(head) || []), pair]);
  }
  for (const own of ends.values())
    own.sort((p, q) => rects[+p.split(",")[0]].x - rects[+q.split(",")[0]].x);
  for (const [pair, own] of present) {
    if (lineAt.has(pair)) continue;
    const [from, to] = pair.split(",").map(Number), a = rects[from], b = rects[to];
    const beside = ends.get(to), port = beside.indexOf(pair) - (beside.length - 1) / 2;
    const x = a.x + a.width / 2, y = a.y + a.height, v = b.y - 5;
    const u = b.x + b.width / 2 + port * Math.min(16, b.width * 0.8 / beside.length);
    const d = route([x, y], [u, v], standing.filter(n => n !== from && n !== to));
    const text = `Jacobian of ${nameOf(DATA.boxes[to].at(-1))} by ${nameOf(DATA.boxes[from][0])}, computed on the way`;
    const g = document.createElementNS(svg.namespaceURI, "g");
    g.setAttribute("class", "edge new");
    g.dataset.tail = from; g.dataset.head = to;
    named(g, text);
    g.innerHTML = `<title>${escaped(text)}</title><path class="hit" d="${d}"/><path d="${d}" marker-end="url(#bj-arrow-new)"/>`;
    g.addEventListener("click", () => { select(g); panel(newDetail(own)); });
    group.append(g);
  }
  svg.insertBefore(group, boxes[0] || null);
}

// What is chosen.
let chosen = null;
function select(target) {
  if (chosen) { chosen.classList.remove("selected"); chosen.setAttribute("aria-pressed", "false"); }
  chosen = target;
  target.classList.add("selected");
  target.setAttribute("aria-pressed", "true");
  reachable(target);
}
function panel(parts) { const own = element("panel"); own.replaceChildren(...parts); own.scrollTop = 0; paint(own); }
function html(tag, content) { const own = document.createElement(tag); own.innerHTML = content; return own; }
function rows(pairs) {
  return html("dl", pairs.filter(Boolean).map(([key, value]) => `<dt>${key}</dt><dd>${value}</dd>`).join(""));
}
function share(stored, dense) {
  const part = dense ? 100 * stored / dense : 0;
  return `${count(stored)} numbers of ${count(dense)} dense` +
    (stored && stored < dense ? ` (${part >= 0.1 ? part.toFixed(part < 10 ? 1 : 0) : "< 0.1"}\u00a0%)` : "");
}
function vertexDetail(n) {
  const own = DATA.vertices[n], parts = [html("h3", escaped(own.name))];
  parts.push(rows([
    ["is", own.step ? `computed by ${escaped(own.step)}` + (own.result ? ", a result" : "") : "an argument"],
    ["space", (own.space || "") + " " + shape(own.shape)],
  ]));
  if (own.formula) parts.push(html("div", `<div class="equation">${own.formula}</div>`));
  if (own.adjoint) parts.push(html("div", `<p class="soft">The Jacobian by ${escaped(own.name)}:</p>${own.adjoint}`));
  if (DATA.large) parts.push(html("p", `<span class="soft">Formulas of a program of this many steps are left out.</span>`));
  return parts;
}
function boxDetail(box) {
  const vertices = DATA.boxes[box];
  if (vertices.length === 1) return vertexDetail(vertices[0]);
  const list = vertices.slice(0, 40).map(v => `<li>${escaped(nameOf(v))} = ${escaped(DATA.vertices[v].step || "")}, ${shape(DATA.vertices[v].shape)}</li>`);
  if (vertices.length > 40) list.push(`<li>… and ${vertices.length - 40} more</li>`);
  return [html("h3", `${vertices.length} tensors, folded`), html("ul", list.join(""))];
}
function edgeDetail(n) {
  const edge = DATA.edges[n], dense = product([...edge.out, ...edge.wrt]);
  const parts = [html("h3", edge.math || escaped(edge.name)), rows([
    ["maps", `${escaped(nameOf(edge.tail))}, ${shape(edge.wrt)} to ${escaped(nameOf(edge.head))}, ${shape(edge.out)}`],
    ["structure", DATA.kinds[edge.kind]],
    ["stores", edge.stored === undefined ? "nothing: applied as a map" : share(edge.stored, dense)],
    edge.structure && edge.structure !== "0" ? ["as kept", `<code>${escaped(edge.structure)}</code>`] : null,
  ])];
  if (edge.formula) parts.push(html("div", edge.formula));
  const heat = edge.heat || (edge.like !== undefined ? DATA.edges[edge.like].heat : null);
  if (!heat) { parts.push(html("p", `<span class="soft">Heat map: not computed, the block is too large or applied as a map.</span>`)); return parts; }
  const canvas = document.createElement("canvas");
  canvas.heat = heat;
  canvas.setAttribute("role", "img");
  const all = [product(edge.out), product(edge.wrt)];
  canvas.setAttribute("aria-label", `heat map of the block ${edge.name}, ${all[0]} by ${all[1]}, ${edge.kind}`);
  parts.push(canvas);
  const reduced = heat[0] < all[0] || heat[1] < all[1];
  parts.push(html("p", `<span class="soft">${count(all[0])} rows (${escaped(nameOf(edge.head))}) by ${count(all[1])} columns (${escaped(nameOf(edge.tail))})` +
    (reduced ? `, in ${heat[0]} × ${heat[1]} cells, each its largest entry` : "") +
    `; blue positive, orange negative, the largest ${heat[2]} in size; blank: no entry.</span>`));
  return parts;
}
function lineDetail(n) {
  const own = DATA.lines[n][0], parts = own.slice(0, 8).flatMap(edgeDetail);
  const [view, computed] = viewAt(run(mode), Math.min(position, run(mode).frames.length));
  const now = own.map(e => DATA.edges[e].tail + "," + DATA.edges[e].head)
    .filter(key => computed.has(key)).map(key => [key, view.get(key)]);
  if (now.length) parts.unshift(...newDetail(now), html("p", "Before the elimination it was:"));
  if (own.length > 8) parts.push(html("p", `… and ${own.length - 8} more elemental Jacobians.`));
  return parts;
}
function newDetail(own) {
  return own.slice(0, 8).flatMap(([key, edge]) => {
    const [tail, head] = key.split(",").map(Number);
    const title = html("h3", `Jacobian of ${escaped(nameOf(head))} by ${escaped(nameOf(tail))}`);
    if (!edge) return [title, rows([["structure", "the identity"]])];
    const arrays = new Map(), sizes = run(mode).elimination.costs.sizes;
    for (const term of edge.terms) for (const f of term.f)
      arrays.set(f.a, f.l.reduce((n, l) => n * sizes[l], 1));
    const stored = [...arrays.values()].reduce((x, y) => x + y, 0);
    return [title, rows([
      ["maps", `${shape(edge.wrt)} to ${shape(edge.out)}`],
      ["stores", share(stored, product([...edge.out, ...edge.wrt]))],
      ["terms", String(edge.terms.length)],
    ]), html("p", `<span class="soft">Contracted in the elimination above; factors are kept unmultiplied as long as that is cheaper.</span>`)];
  });
}
function paint(within) {
  const style = getComputedStyle(document.documentElement), color = name => style.getPropertyValue(name).trim();
  for (const canvas of within.querySelectorAll("canvas")) {
    const [down, across, , cells] = canvas.heat, size = Math.max(4, Math.floor(264 / Math.max(down, across)));
    canvas.width = across * size; canvas.height = down * size;
    const context = canvas.getContext("2d");
    for (let n = 0; n < cells.length; n++) {
      const code = CODES.indexOf(cells[n]);
      if (!code) continue;
      const value = (code - 32) / 31;
      context.fillStyle = color(value > 0 ? "--plus" : value < 0 ? "--minus" : "--none");
      context.globalAlpha = value ? 0.12 + 0.88 * Math.abs(value) : 0.45;
      context.fillRect(n % across * size, Math.floor(n / across) * size, size, size);
    }
  }
}

// Mouse and keys.
function choose(kind, n) {
  const target = (kind === "vertex" ? boxes : lines)[n];
  if (kind === "vertex" && mode === "own") eliminateNext(DATA.boxes[n]);
  select(target);
  panel(kind === "vertex" ? boxDetail(n) : lineDetail(n));
}
function links() {  // the lines that are shown, with the boxes at their ends
  const elemental = lines.map((own, n) => ({own, tail: DATA.lines[n][1], head: DATA.lines[n][2]}));
  const computed = [...svg.querySelectorAll(".fills .edge")].map(own => (
    {own, tail: +own.dataset.tail, head: +own.dataset.head}));
  return [...elemental.filter(({own}) => !own.classList.contains("gone")), ...computed];
}
function next(target, key) {
  const all = links(), link = all.find(({own}) => own === target);
  const step = key === "ArrowRight" ? 1 : -1;
  if (link) {
    if (key === "ArrowDown") return boxes[link.head];
    if (key === "ArrowUp") return boxes[link.tail];
    const beside = all.filter(({tail, head}) => tail === link.tail || head === link.head);
    return beside[(beside.indexOf(link) + step + beside.length) % beside.length].own;
  }
  const n = boxes.indexOf(target);
  if (key === "ArrowDown") return all.find(({tail}) => tail === n)?.own;
  if (key === "ArrowUp") return all.find(({head}) => head === n)?.own;
  const sorted = [...boxes.keys()].sort((a, b) => rects[a].y - rects[b].y || rects[a].x - rects[b].x);
  return boxes[sorted[sorted.indexOf(n) + step]];
}
function reachable(target) {  // the one that Tab comes to
  for (const own of svg.querySelectorAll("[tabindex='0']")) own.setAttribute("tabindex", "-1");
  target.setAttribute("tabindex", "0");
}
function named(target, text) {
  target.setAttribute("role", "button");
  target.setAttribute("tabindex", "-1");
  target.setAttribute("aria-label", text);
}
function ready(target, kind, n) {
  named(target, target.querySelector("title").textContent);
  if (kind === "edge") {
    const hit = target.lastChild.cloneNode();
    hit.removeAttribute("marker-end");
    hit.setAttribute("class", "hit");
    target.insertBefore(hit, target.lastChild);
  }
  target.addEventListener("click", () => choose(kind, n));
}
svg.addEventListener("keydown", event => {
  const target = event.target.closest(".vertex, .edge"), {key} = event;
  if (!target || !(key === "Enter" || key === " " || key.startsWith("Arrow"))) return;
  event.preventDefault();
  if (!key.startsWith("Arrow")) return target.dispatchEvent(new MouseEvent("click"));
  const other = next(target, key);
  if (other) { reachable(other); other.focus(); }
});
boxes.forEach((box, n) => ready(box, "vertex", n));
lines.forEach((line, n) => ready(line, "edge", n));
if (boxes.length) boxes[0].setAttribute("tabindex", "0");

const arrow = svg.querySelector("marker").cloneNode(true);
arrow.id = "bj-arrow-new";
arrow.firstChild.setAttribute("class", "arrow new");
svg.querySelector("defs").append(arrow);

element("order").addEventListener("change", event => { stop(); mode = event.target.value; position = mode === "own" ? run("own").frames.length : 0; show(); });
element("start").addEventListener("click", () => { stop(); mode === "own" ? restart() : go(0); });
element("back").addEventListener("click", () => { stop(); go(position - 1); });
element("next").addEventListener("click", () => { stop(); go(position + 1); });
element("play").addEventListener("click", play);
element("slider").addEventListener("input", event => { stop(); go(+event.target.value); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paint(document));
addEventListener("beforeprint", () => {
  const all = element("all");
  const shown = [...DATA.edges.keys()].filter(n => DATA.edges[n].kind).slice(0, 120);
  all.replaceChildren(...shown.map(n => {
    const article = document.createElement("article");
    article.append(...edgeDetail(n));
    return article;
  }));
  paint(all);
});
addEventListener("afterprint", () => element("all").replaceChildren());

show();
if (lines.length) panel([html("p", "Choose a vertex or a line of the graph: by mouse, or with Tab, the arrow keys and Enter.")]);
// The totals of the other orders come when the page is on the screen.
const rest = ["forward", "cheapest"];
const later = () => { const name = rest.shift(); if (name) { run(name); show(); setTimeout(later, 0); } else document.body.dataset.ready = "1"; };
setTimeout(later, 0);
