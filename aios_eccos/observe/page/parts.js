"use strict";
// What all of the page is made of: nodes, numbers, tables.
const $ = id => document.getElementById(id);
const NONE = "–";
const COLORS = 8;
const SVG = ["svg", "g", "rect", "path", "line", "text", "circle", "title"];
const colour = i => `var(--m${i % COLORS})`;

function el(name, attributes, ...children) {
  const node = SVG.includes(name) ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
const percent = v => v == null ? NONE : (v * 100).toFixed(1) + " %";
const count = v => v == null ? NONE : v.toLocaleString("en");
function money(v, known = true) {
  if (v == null) return NONE;
  const size = Math.abs(v);
  const text = size >= 1000 ? Math.round(v).toLocaleString("en") : size >= 1 || size === 0 ? v.toFixed(2)
    : size >= 1e-3 ? v.toPrecision(3) : v.toExponential(2);
  const sign = text.startsWith("-") ? "-" : "", plain = sign ? text.slice(1) : text;
  return known ? sign + "$" + plain : text + "u";
}
// Where no price is known (`money` is false), amounts are size units and have keys of their own.
function joined(value, known = true) {
  if (value === null || typeof value !== "object") return value;
  known = value.money ?? known;
  if (!known) for (const key of Object.keys(value))
    if (key.includes("_units") || key.startsWith("units_")) value[key.replace("units", "usd")] = value[key];
  for (const item of Object.values(value)) joined(item, known);
  return value;
}
const stamp = at => new Date(at * 1000).toISOString();
const clock = at => stamp(at).slice(11, 19);
const seconds = v => v == null ? NONE : v < 0.1 ? (v * 1000).toFixed(1) + " ms" : v < 100 ? v.toFixed(2) + " s" : (v / 60).toFixed(0) + " min";
const cell = (text, cls) => el("td", cls ? {class: cls} : {}, text);
const span = (text, cls) => el("span", {class: cls}, text);

function table(heads, rows) {
  const head = el("tr", {}, ...heads.map(([text, cls]) => el("th", {scope: "col", class: cls || ""}, text)));
  return el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows));
}
function facts(...pairs) {
  return el("dl", {}, ...pairs.flatMap(([term, ...said]) => [el("dt", {}, term), el("dd", {}, ...said)]));
}
// What is written between backquotes is shown as code.
function prose(text, cls) {
  const parts = text.split("`").map((part, i) => i % 2 ? el("code", {}, part) : part);
  return el("p", {class: cls}, ...parts);
}
const empty = text => prose(text, "empty");
function bar(share) {
  const inner = el("i");
  inner.style.width = Math.min(Math.max(share, 0), 1) * 100 + "%";
  return el("span", {class: "bar" + (share >= 1 ? " full" : share >= .8 ? " high" : ""), "aria-hidden": "true"}, inner);
}
function key(i) {
  const node = el("span", {class: "key", "aria-hidden": "true"});
  node.style.background = typeof i === "number" ? colour(i) : i;
  return node;
}
const legend = items => el("ul", {class: "legend"}, ...items.map(([i, text]) => el("li", {}, key(i), text)));
