// The ledger: every cold start as a bar of its phases, and on top those that happen now.

import { goingOn, measuredIn, phaseBar, phaseName, PHASES, unmeasured } from "./charts.js";
import { byId, empty, h, listed, set, text } from "./dom.js";
import { clock, count, duration } from "./format.js";
import { all, changed, on, section } from "./store.js";

const FEW = 8;
let every = false;

export function start() {
  on(["coldstarts", "services", "more"], render);
  byId("coldstarts-more").addEventListener("click", () => {
    every = !every;
    changed("more");
  });
}

const FROM = { engine: "loaded engine", template: "template", fresh: "new process" };

function lengthOf(entry) {
  const { measured, rest } = unmeasured(entry);
  return measured + rest;
}

function render() {
  const starting = all("services").filter((each) => each.state === "starting").map((each) => `now ${each.namespace}/${each.name}`);
  const { order, items } = section("coldstarts");
  const entries = [...order].reverse();
  const keys = [...starting, ...(every ? entries : entries.slice(0, FEW))];
  const scale = Math.max(1, ...keys.map((key) => (key.startsWith("now ") ? wholeOf(current(key)) : lengthOf(items[key]))));
  const nothing = () => empty("Nothing has started yet: a request or an event wakes a service.", "relume warm NAME");
  listed(byId("coldstarts-list"), keys, nothing, make, (row, key) => update(row, key, scale));
  const more = byId("coldstarts-more");
  set(more, "hidden", entries.length <= FEW);
  text(more, every ? "Show the newest" : `Show all ${entries.length}`);
  legend(keys.map((key) => (key.startsWith("now ") ? goingOn(current(key)).phases : items[key].phases)));
}

const current = (key) => section("services").items[key.slice(4)] ?? {};
const wholeOf = (service) => goingOn(service).elapsed + (service.ready_in_s ?? 0) * 1000;

function legend(seen) {
  const names = measuredIn(seen);
  const element = byId("legend");
  if (element.shown === names.join()) return;
  element.shown = names.join();
  element.replaceChildren(...names.map((name) => h("li", {}, h("i", { class: `swatch ${name}` }), phaseName(name))));
}

function make() {
  const row = {
    bar: phaseBar(),
    at: h("time", { class: "mono dim" }),
    name: h("span", { class: "name" }),
    total: h("span", { class: "total" }),
    note: h("span", { class: "dim note" }),
    detail: h("div", { class: "detail" }),
  };
  const summary = h("summary", {}, row.at, row.name, row.bar.element, row.total, row.note);
  row.element = h("li", { class: "coldstart" }, h("details", {}, summary, row.detail));
  return row;
}

function update(row, key, scale) {
  if (key.startsWith("now ")) {
    const service = current(key);
    const { phases, running, elapsed } = goingOn(service);
    const left = (service.ready_in_s ?? 0) * 1000;
    text(row.at, "now");
    text(row.name, key.slice(4));
    row.bar.draw(phases, { scale, running, left });
    text(row.total, duration(elapsed));
    text(row.note, service.ready_in_s === undefined ? phaseName(running) : `${phaseName(running)}, ${Math.ceil(service.ready_in_s)} s left`);
    row.detail.replaceChildren(list(phases, []));
    return;
  }
  const entry = section("coldstarts").items[key];
  text(row.at, clock(entry.at));
  text(row.name, entry.service);
  row.bar.draw(entry.phases, { scale, rest: unmeasured(entry).rest });
  text(row.total, duration(entry.total ?? entry.ready ?? lengthOf(entry)));
  text(row.note, entry.outcome === "ready" ? FROM[entry.started] : entry.outcome);
  row.element.classList.toggle("ready", entry.outcome === "ready");
  row.element.classList.toggle("failed", entry.outcome === "failed");
  if (row.entry !== entry) {
    row.entry = entry;
    row.detail.replaceChildren(list(entry.phases, beside(entry)));
  }
}

function beside(entry) {
  const more = [["started from", FROM[entry.started] ?? "–"], ["unmeasured", duration(unmeasured(entry).rest)], ["process ready after", duration(entry.ready)], ["first answer after", duration(entry.total)]];
  if (entry.triggered_by) more.push(["woken by event", entry.triggered_by]);
  if (entry.reason) more.push(["reason", entry.reason]);
  return more;
}

function list(phases, more) {
  const pairs = PHASES.filter((name) => name in phases).map((name) => [phaseName(name), duration(phases[name])]);
  const shown = [...pairs, ...more].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
  return h("dl", { class: "pairs", "aria-label": count(pairs.length, "phase") }, ...shown);
}
