// The page: asks the kernel every two seconds, and draws what it says.
let paused = false, token = sessionStorage.getItem("eccos-token") || "", timer = 0;
let looks = 0, slow = {};
// The explanation that is open, by the decision's id; null: none.
let open = {id: "", view: null};

async function ask(path) {
  const headers = token ? {Authorization: "Bearer " + token} : {};
  const answer = await fetch(path, {headers, cache: "no-store"});
  if (answer.status === 401) throw Object.assign(new Error((await answer.json()).detail), {locked: true});
  if (!answer.ok) throw new Error("the kernel answers " + answer.status);
  return joined(await answer.json());
}

function notices(s, failed) {
  const said = [];
  if (failed) said.push(failed);
  if (s) {
    if (s.degraded) said.push("Redis is away: this kernel lends only what no other can have.");
    if (s.set_aside) said.push(`${count(s.set_aside)} messages for the history could not be carried out; the log says why.`);
    for (const a of s.alarms) if (a.broken) said.push(`The floor of ${a.policy || "all agents"} is not kept: asked ${percent(a.floor)}, got ${percent(a.realised)} of ${a.verdicts} verdicts. Dearer models serve until it is.`);
    for (const c of s.caps) if (c.left_usd <= 0) said.push(`The cap of ${c.name} is used up until ${stamp(c.resets_at).slice(0, 16).replace("T", " ")} UTC: calls ${c.at_cap === "refuse" ? "are refused" : "go to the cheapest model"}.`);
  }
  const state = s && s.edge && s.edge.history_note;
  const mild = state ? [prose(`${state[0].toUpperCase()}${state.slice(1)}. Graded records teach the router: \`aios-eccos ingest FILE\` or \`aios-eccos collect\`.`, "notice mild")] : [];
  $("notices").replaceChildren(...said.map(text => el("p", {class: "notice"}, text)), ...mild);
}

function tiles(s, savings) {
  const start = s.windows[0], edge = s.edge || {}, realised = start.realised;
  const saved = savings && savings.windows[0];
  const goal = s.budget_per_call == null ? s.floor : "budget " + money(s.budget_per_call) + " a call";
  const broken = s.alarms.some(a => a.broken);
  const items = [
    ["Calls", s.calls_per_s.toFixed(2) + " /s", `${edge.waiting ?? NONE} waiting, ${edge.running ?? NONE} running`],
    ["Spending", money(s.usd_per_h, s.money) + " /h", `${money(start.cost_usd, s.money)} for ${count(start.calls)} calls`],
    ["Saved", saved ? money(saved.saved_usd.value, savings.money) : NONE,
      saved ? `${percent(saved.saved_share)} beside ${savings.baseline} alone (forecast)` : "no answers yet to compare"],
    ["Success realised", percent(realised && realised.value), realised
      ? `${percent(realised.low)} to ${percent(realised.high)}, on ${percent(start.verdict_share)} of calls` : `no verdicts; promised ${percent(start.promised)}`],
    ["Asked: " + goal, s.alarms.length ? (broken ? "broken" : "holds so far") : "not verified",
      s.alarms.length ? "by verdicts, however often one looks" : "no verdicts yet", broken ? "bad" : ""],
  ];
  $("tiles").replaceChildren(...items.map(([title, value, note, cls]) =>
    el("div", {class: "card tile"}, span(title, "soft"), el("b", {class: cls || ""}, value), span(note, "soft"))));
}

const STATES = {proving: "proving: the strongest serves", earned: "earned: a share is routed", served: "served: all that can be"};
function policies(s) {
  const earning = Object.fromEntries((s.audits ? s.audits.policies : []).map(p => [p.policy, p]));
  const alarms = Object.fromEntries(s.alarms.map(a => [a.policy, a]));
  const names = [...new Set([...Object.keys(alarms), ...Object.keys(earning)])].sort();
  if (!names.length) return $("policies").replaceChildren(empty(
    "No floor is verified and nothing is earned yet. Verdicts verify a floor: `aios-eccos feedback ID --correct`. Without any, `audit: 5 %` lets savings be earned by copies of calls."));
  const rows = names.map(name => {
    const a = alarms[name], p = earning[name];
    const floor = a ? span(a.broken ? "broken" : "holds so far", a.broken ? "bad" : "ok") : span("not verified", "soft");
    const needs = !p ? NONE : p.needs_calls != null ? `about ${count(p.needs_calls)} calls` : p.state === "served" ? NONE : "not known yet";
    const state = p ? p.state : s.audits ? "not audited yet" : "no audits";
    const suspect = p && p.suspects.length ? [" ", span(p.suspects.join(", ") + " may be worse", "warn")] : [];
    return el("tr", {}, cell(name || "all others", "name"), el("td", {}, floor), cell(a ? percent(a.floor) : NONE, "num optional"),
      cell(a ? `${percent(a.realised)} of ${a.verdicts}` : NONE, "num optional"), cell(a ? `${a.e_value.toFixed(2)} / ${a.alarm_at}` : NONE, "num optional"),
      el("td", {class: "name", title: STATES[state] || ""}, state, ...suspect), cell(p ? percent(p.share) : NONE, "num"),
      cell(p && p.loss != null ? `${percent(p.loss)} of ${percent(p.allowed)}` : NONE, "num optional"), cell(needs, "optional"));
  });
  $("policies").replaceChildren(table([["agents"], ["floor"], ["asked", "num optional"], ["got, of verdicts", "num optional"], ["evidence against", "num optional"],
    ["earning"], ["routed", "num"], ["loss, of allowed", "num optional"], ["needs", "optional"]], rows));
}

function canary(s) {
  const c = s.edge && s.edge.canary;
  $("s-canary").hidden = !c;
  if (!c) return;
  const routed = {trial: c.share, promoted: 1, "rolled back": 0}[c.stands];
  $("canary").replaceChildren(facts(
    ["stands", span(c.stands, c.stands === "rolled back" ? "bad" : "ok"), c.why ? ": " + c.why : ""],
    ["routed", bar(routed), percent(routed) + " of the conversations"],
    ["failed", `${count(c.routed_failed)} of ${count(c.routed)} routed calls, ${count(c.control_failed)} of ${count(c.control)} others`],
    ["since", stamp(c.since).slice(0, 16).replace("T", " ") + " UTC"]));
}

function audits(s) {
  const a = s.audits;
  if (!a) return $("audits").replaceChildren(empty(
    "Audits are off. With `audit: 5 %` up to that share of the money pays for copies of calls to other models, so that savings are earned without labels."));
  const paid = a.break_even_calls == null ? "cannot be told yet" : a.break_even_calls === 0 ? "paid back" : `in about ${count(a.break_even_calls)} more calls`;
  const lost = [[a.failed, "failed"], [a.missed, "found no slot"], [a.dropped, "came too fast"], [a.unjudged, "found no judge"]].filter(([n]) => n);
  const items = [
    ["spent", `${money(a.audit_usd + a.judge_usd)}, of it ${money(a.judge_usd)} for the judge; ${money(a.left_usd)} left now`],
    ["saved", money(a.saved_usd) + " by what they have earned (forecast)"],
    ["pays back", paid],
    ["copies", `${count(a.copies)} of ${count(a.calls)} calls` + lost.map(([n, why]) => `; ${count(n)} ${why}`).join("")],
    ["answers", `${count(a.agreed)} agreed, ${count(a.judged)} were judged` + (a.differed ? `, ${count(a.differed)} differed without a judge and count as worse` : "")],
    ["judge", a.judge || "none: differing answers count as worse (setting `judge`)".replaceAll("`", "")],
  ];
  if (a.judge_repeats) items.push(["repeats", `${percent(a.judge_consistency)} of ${count(a.judge_repeats)} said the same again`]);
  const models = a.policies.flatMap(p => p.models.filter(m => m.loss != null).map(m => el("tr", {}, cell(m.model, "name"), cell(p.policy || "all others", "name optional"), cell(percent(m.loss), "num"), cell(count(m.audits), "num"))));
  $("audits").replaceChildren(facts(...items), ...(models.length ? [table([["model"], ["agents", "optional"], ["loss", "num"], ["audits", "num"]], models)] : []));
}

function caps(s) {
  if (!s.caps.length) return $("caps").replaceChildren(empty(
    "No cap. `max_cost: {day: 5, month: 50}` (dollars, UTC) holds for all agents together, and below `agents:` for a pattern."));
  $("caps").replaceChildren(...s.caps.map(c => {
    const taken = c.usd ? (c.spent_usd + c.held_usd) / c.usd : 1;
    const more = [c.held_usd ? `${money(c.held_usd)} held by calls in flight` : "", c.kept ? `kept ${count(c.kept)} calls of the day from a model` : "",
      c.worth ? `$1 more would have bought success worth ${money(c.worth + 1)}` : "", c.over_usd ? `passed by ${money(c.over_usd)}` : "",
      `a new one at ${stamp(c.resets_at).slice(0, 16).replace("T", " ")} UTC`].filter(Boolean).join("; ");
    return el("div", {class: "cap"}, el("b", {}, c.name), ` ${money(c.spent_usd)} of ${money(c.usd)}`, bar(taken), span(more, "soft"));
  }));
}

function plans(s) {
  if (!s.plans.length) return $("plans").replaceChildren(empty(
    "No plan has served a call. With `plans: auto` two cheap models are asked at once where that pays, and a third only where their answers differ."));
  const share = (n, of) => of ? percent(n / of) : NONE;
  $("plans").replaceChildren(table([["plan"], ["calls", "num"], ["agreed", "num"], ["escaped", "num optional"], ["cost", "num optional"], ["saved", "num"]],
    s.plans.map(p => el("tr", {}, cell(p.plan, "name"), cell(count(p.calls), "num"), cell(share(p.agreed, p.calls), "num"), cell(share(p.escaped, p.calls), "num optional"),
      cell(money(p.cost_usd, s.money), "num optional"), cell(money(p.saved_usd, s.money), "num")))));
}

function models(s) {
  if (!s.models.length) return $("models").replaceChildren(empty("No models are configured here: AIOS's `llms.models` names them."));
  const rated = s.models.some(m => m.rpm || m.tpm);
  const minute = m => [m.rpm ? `${count(m.requests)}/${count(m.rpm)} rpm` : "", m.tpm ? `${count(m.tokens)}/${count(m.tpm)} tpm` : ""].filter(Boolean).join(", ") || NONE;
  const heads = [["model"], ["load"], ...(rated ? [["minute", "optional"]] : []), ["calls", "num"], ["share", "num optional"], ["failed", "num optional"], ["cost", "num"], ["realised", "num optional"], ["slot price", "num optional"]];
  $("models").replaceChildren(table(heads, s.models.map((m, i) => {
    const rests = m.closed_s > 0 ? `, closed ${m.closed_s.toFixed(0)} s` : m.cooling_s > 0 ? `, rests ${m.cooling_s.toFixed(0)} s` : "";
    return el("tr", {}, el("td", {class: "name"}, key(i), m.model),
      el("td", {class: rests ? "warn" : ""}, bar(m.limit ? m.in_use / m.limit : 1), `${m.in_use}/${m.limit}${rests}`), ...(rated ? [cell(minute(m), "optional")] : []),
      cell(count(m.calls), "num"), cell(percent(m.share), "num optional"), cell(count(m.failures), "num optional"), cell(money(m.cost_usd, s.money), "num"),
      cell(m.realised ? `${percent(m.realised.value)} of ${m.verdicts}` : NONE, "num optional"), cell(m.slot_price_usd ? money(m.slot_price_usd, s.money) : NONE, "num optional"));
  })));
}

function last(view) {
  if (!view.decisions.length) return $("last").replaceChildren(empty(
    "No decision yet. Agents' calls appear here as the kernel serves them; `aios-eccos route \"a question\"` shows what would be decided."));
  const focused = document.activeElement && document.activeElement.dataset.decision;
  const heads = [["time"], ["agent", "optional"], ["served by"], ["promised", "num"], ["cost", "num optional"], ["waited", "num optional"], ["outcome"], ["why"]];
  const rows = view.decisions.flatMap((d, i) => {
    const verdict = view.verdicts[i], shown = open.id === d.id && open.view;
    const outcome = d.failure ? d.failure : d.model == null ? NONE : verdict == null ? "ok" : verdict >= 1 ? "right" : verdict <= 0 ? "wrong" : verdict.toFixed(2);
    const button = el("button", {class: "id", type: "button", "data-decision": d.id, "aria-expanded": String(!!shown), "aria-label": `${shown ? "close" : "explain"} decision ${d.id}`}, shown ? "close" : "explain");
    button.onclick = () => explain(d.id);
    const row = el("tr", {}, el("td", {}, clock(d.at).slice(0, 5), span(clock(d.at).slice(5), "optional")), cell(d.agent || NONE, "name optional"), cell(d.model || NONE, "name"), cell(percent(d.promised), "num"),
      cell(money(d.cost_usd, d.money), "num optional"), cell(seconds(d.waited_s), "num optional"), cell(outcome, d.failure ? "bad name" : ""), el("td", {}, button));
    return shown ? [row, why(open.view, heads.length)] : [row];
  });
  $("last").replaceChildren(table(heads, rows));
  if (focused) document.querySelector(`[data-decision="${CSS.escape(focused)}"]`)?.focus();
}

function why(view, columns) {
  const d = view.decision, known = d.money;
  const rows = view.choices.map(c => el("tr", {}, el("td", {class: "name"}, (c.chosen ? "▸ " : "") + c.model, span(c.why, "soft narrow")), cell(percent(c.success), "num"), cell(money(c.cost_usd, known), "num"),
    cell(c.chosen || c.extra_usd == null ? NONE : money(c.extra_usd, known), "num optional"), cell(c.support.toFixed(0), "num optional"), cell(String(c.free), "num optional"), cell(c.why, "name optional")));
  const worth = d.floor == null || d.success_price_usd == null ? "The floor has no price yet: too few verdicts, or none near this call."
    : `Floor ${percent(d.floor)}; one success is worth ${money(d.success_price_usd, known)} there.`;
  const vote = d.vote ? [el("p", {}, `${d.vote.members.join(" and ")}: ${d.vote.outcome}; ${d.vote.answered_by || "nobody"}'s answer was given.`)] : [];
  const heads = [["model (forecasts)"], ["success", "num"], ["cost", "num"], ["extra", "num optional"], ["support", "num optional"], ["free", "num optional"], ["why not", "optional"]];
  return el("tr", {class: "why"}, el("td", {colspan: String(columns)}, el("p", {}, view.sentence), ...vote,
    el("p", {class: "soft"}, `${worth} Bound by: ${view.bound_by}. Id ${d.id}.`), rows.length ? table(heads, rows) : empty("No forecasts were made.")));
}

async function explain(id) {
  if (open.id === id) open = {id: "", view: null};
  else try { open = {id, view: await ask("decisions/" + encodeURIComponent(id))}; } catch (error) { notices(null, error.message); return; }
  if (slow.decisions) last(slow.decisions);
}

async function look() {
  clearTimeout(timer);
  try {
    const [s, d, c] = await Promise.all([ask("status"), ask("decisions?n=15"), ask("series")]);
    // What moves slowly, and costs the kernel more, is asked for rarely.
    if (looks++ % 10 === 0) [slow.savings, slow.frontier] = await Promise.all([ask("savings"), ask("frontier")]);
    slow.decisions = d;
    $("token").hidden = true;
    const mode = s.edge ? `mode ${s.edge.mode}, ` : "";
    $("what").textContent = `${mode}${s.kernels} kernel${s.kernels === 1 ? "" : "s"}, ${clock(s.at)} UTC`;
    const served = [...s.models.map(m => m.model), ...s.plans.map(p => p.plan)];
    notices(s); tiles(s, slow.savings); policies(s); canary(s); audits(s); caps(s); plans(s); models(s);
    frontierChart($("frontier"), slow.frontier, served);
    callsChart($("calls"), c.minutes, served);
    const judged = s.alarms.find(a => a.policy === "") || s.alarms[0];
    successChart($("success"), c.hours, judged ? judged.floor : null);
    last(d);
  } catch (error) {
    if (error.locked) $("token").hidden = false;
    looks = 0;
    notices(null, error.message || "the kernel does not answer");
  }
  if (!paused) timer = setTimeout(look, 2000);
}
addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(look, 300); });
addEventListener("keydown", event => { if (event.key === "Escape" && open.id) explain(open.id); });
$("pause").onclick = () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Go on" : "Pause";
  if (!paused) look();
};
$("token").onsubmit = event => {
  event.preventDefault();
  token = $("secret").value;
  sessionStorage.setItem("eccos-token", token);
  look();
};
look();
