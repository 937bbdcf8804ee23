// Charts: each draws into the width that its place has.
const H = 220, L = 46, R = 10, T = 12, B = 26;
const wide = place => Math.max(260, Math.min(place.clientWidth || 560, 900));
function chart(W, label) {
  return el("svg", {viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label, preserveAspectRatio: "xMinYMin meet"});
}
function scale(svg, W, top, bottom, label) {
  for (let i = 0; i <= 4; i++) {
    const y = T + (H - T - B) * i / 4;
    svg.append(el("line", {x1: L, x2: W - R, y1: y, y2: y, stroke: "var(--line)"}),
      el("text", {x: L - 6, y: y + 4, "text-anchor": "end"}, label(top - (top - bottom) * i / 4)));
  }
}
function times(svg, W, points, step) {
  const n = points.length;
  points.forEach((p, i) => {
    if ((n - 1 - i) % step) return;
    const x = L + (W - L - R) * (i + .5) / n;
    svg.append(el("text", {x: Math.min(x, W - 24), y: H - 6, "text-anchor": "middle"}, clock(p.at).slice(0, 5)));
  });
}

function callsChart(place, points, names) {
  const total = points.reduce((sum, p) => sum + p.calls, 0);
  if (!total) return place.replaceChildren(empty("No calls in the last hour."));
  const W = wide(place), peak = Math.max(...points.map(p => p.calls));
  const unit = Math.max(1, Math.pow(10, Math.floor(Math.log10(Math.max(peak, 1)))) / 4);
  const most = Math.max(4, Math.ceil(peak / (4 * unit)) * 4 * unit);
  const svg = chart(W, `${total} calls in the last hour, at most ${peak} in a minute`);
  scale(svg, W, most, 0, v => v >= 10 || Number.isInteger(v) ? v.toFixed(0) : v.toFixed(1));
  times(svg, W, points, 15);
  const width = (W - L - R) / points.length;
  points.forEach((p, i) => {
    let y = H - B;
    const group = el("g", {}, el("title", {}, `${clock(p.at).slice(0, 5)} UTC: ` + (Object.entries(p.by_model).map(([n, c]) => `${n} ${c}`).join(", ") || "none")));
    names.forEach((name, j) => {
      const height = (H - T - B) * (p.by_model[name] || 0) / most;
      if (!height) return;
      y -= height;
      group.append(el("rect", {x: L + i * width + .5, y, width: Math.max(width - 1, 1), height, fill: colour(j)}));
    });
    svg.append(group);
  });
  place.replaceChildren(svg, legend(names.map((name, j) => [j, name])));
}

function successChart(place, points, floor) {
  if (!points.some(p => p.promised != null || p.realised != null))
    return place.replaceChildren(empty("Nothing was promised or judged in the last day. A verdict on a decision: `aios-eccos feedback ID --correct`."));
  const W = wide(place), now = points.at(-1);
  const svg = chart(W, `Success by hour over the last day: promised ${percent(now.promised)}, realised ${percent(now.realised)} in this hour`);
  scale(svg, W, 1, 0, v => (v * 100).toFixed(0) + " %");
  times(svg, W, points, W < 400 ? 8 : 4);
  const at = (i, v) => [L + (W - L - R) * (i + .5) / points.length, T + (H - T - B) * (1 - v)];
  const draw = (name, color, dash, round) => {
    let path = "", open = false;
    points.forEach((p, i) => {
      if (p[name] == null) { open = false; return; }
      const [x, y] = at(i, p[name]);
      path += (open ? "L" : "M") + x.toFixed(1) + " " + y.toFixed(1);
      open = true;
      const tip = el("title", {}, `${clock(p.at).slice(0, 5)} UTC: ${name} ${percent(p[name])}`);
      svg.append(round ? el("circle", {cx: x, cy: y, r: 4, fill: color}, tip) : el("rect", {x: x - 3.5, y: y - 3.5, width: 7, height: 7, fill: color}, tip));
    });
    if (path) svg.append(el("path", {d: path, fill: "none", stroke: color, "stroke-width": 2, "stroke-dasharray": dash}));
  };
  draw("promised", "var(--m0)", "6 4", true);
  draw("realised", "var(--m1)", "none", false);
  const items = [["var(--m0)", "promised (dashed, round)"], ["var(--m1)", "realised, of calls with a verdict (square)"]];
  if (floor != null) {
    const y = at(0, floor)[1];
    svg.append(el("line", {x1: L, x2: W - R, y1: y, y2: y, stroke: "var(--bad)", "stroke-dasharray": "2 3", "stroke-width": 2}));
    items.push(["var(--bad)", "floor of the judged calls (dotted)"]);
  }
  place.replaceChildren(svg, legend(items));
}

// The curve of prices on the history, each single model, and where the calls of now stand.
function frontierChart(place, f, names) {
  if (!f.points.length) return place.replaceChildren(empty("No frontier yet: " + f.note + "."));
  const W = wide(place), known = f.money;
  const spots = [...f.points, ...f.models, ...[f.here, f.day].filter(Boolean)];
  const costs = spots.map(p => p.cost_usd).filter(c => c > 0);
  const least = costs.length ? Math.min(...costs) : 1e-6, dearest = costs.length ? Math.max(...costs) : 1e-5;
  // Four steps of a round number of percent, with room for a label above what is highest.
  const lowest = Math.min(...spots.map(p => p.success), f.floor ?? 1), highest = Math.max(...spots.map(p => p.success), f.floor ?? 0);
  const step = [.01, .02, .05, .1, .15, .2, .25].find(s => Math.floor(lowest / s) * s + 4 * s >= Math.min(highest + s / 2, 1)) ?? .25;
  const low = Math.floor(lowest / step) * step, high = low + 4 * step;
  const x = c => L + 8 + (W - L - R - 16) * Math.log(Math.max(c, least) / least) / (Math.log(dearest / least) || 1);
  const y = v => T + (H - T - B) * (high - v) / ((high - low) || 1);
  const here = f.here ? `; you are at ${percent(f.here.success)} for ${money(f.here.cost_usd * 1000, known)} per 1,000 calls` : "";
  const svg = chart(W, `What success costs: from ${percent(f.points[0].success)} to ${percent(f.points.at(-1).success)}${here}`);
  scale(svg, W, high, low, v => (v * 100).toFixed(0) + " %");
  for (let power = Math.ceil(Math.log10(least * 1000)); power <= Math.log10(dearest * 1000); power++) {
    const at = Math.min(x(10 ** power / 1000), W - 24);
    svg.append(el("text", {x: at, y: H - 6, "text-anchor": "middle"}, known ? "$" + +(10 ** power).toPrecision(1) : 10 ** power + "u"));
  }
  if (f.floor != null) svg.append(el("line", {x1: L, x2: W - R, y1: y(f.floor), y2: y(f.floor), stroke: "var(--bad)", "stroke-dasharray": "2 3", "stroke-width": 2}));
  const path = f.points.map((p, i) => (i ? "L" : "M") + x(p.cost_usd).toFixed(1) + " " + y(p.success).toFixed(1)).join("");
  svg.append(el("path", {d: path, fill: "none", stroke: "var(--ok)", "stroke-width": 2.5}));
  const told = (what, p) => el("title", {}, `${what}: ${percent(p.success)} for ${money(p.cost_usd * 1000, known)} per 1,000 calls`);
  const number = name => names.includes(name) ? names.indexOf(name) : 7;
  f.models.forEach(p => svg.append(
    el("g", {}, told(p.model, p), el("circle", {cx: x(p.cost_usd), cy: y(p.success), r: 8, fill: colour(number(p.model))}),
      el("text", {class: "on", x: x(p.cost_usd), y: y(p.success) + 3.5, "text-anchor": "middle"}, String(number(p.model) + 1)))));
  if (f.day) svg.append(el("rect", {x: x(f.day.cost_usd) - 5, y: y(f.day.success) - 5, width: 10, height: 10, fill: "none", stroke: "var(--ink)", "stroke-width": 2}, told("the last 24 hours", f.day)));
  if (f.here) {
    const hx = x(f.here.cost_usd), right = hx > W - 130;
    svg.append(el("circle", {cx: hx, cy: y(f.here.success), r: 7, fill: "none", stroke: "var(--ink)", "stroke-width": 3}, told("you are here", f.here)),
      el("text", {class: "here", x: hx + (right ? -12 : 12), y: y(f.here.success) - 13, "text-anchor": right ? "end" : "start"}, "you are here"));
  }
  const items = [["var(--ok)", "any price of success"], ...f.models.map(p => [number(p.model), `${number(p.model) + 1} ${p.model} alone`])];
  if (f.floor != null) items.push(["var(--bad)", "floor asked (dotted)"]);
  const note = `Cost per 1,000 calls. The ring is the price of success at the last decisions${f.day ? "; the square is what the judged calls of the last 24 hours had" : ""}.`;
  place.replaceChildren(svg, legend(items), el("p", {class: "note"}, note));
}
