// What happens to events, the newest first, of those that pass the filter.

import { byId, empty, h, set, text } from "./dom.js";
import { bytes, clock, duration, number, rate } from "./format.js";
import { onMessage, setFilter } from "./stream.js";
import { about } from "./store.js";

const MOST_ROWS = 120;
const MOMENTS = 20;
// Their detail repeats what the row says: the subscriber, and the id of the request.
const SAID_ALREADY = new Set(["delivering", "replied"]);
let rows = [];
let paused = false;
let asked = 0;
let applied = "";
const moments = [];

export function start() {
  onMessage(({ events, hello }) => {
    if (hello) rows = [];
    if (!events) return;
    moments.push([Date.now(), events.matched]);
    if (paused && !events.reset) return;
    if (events.reset) rows = [];
    rows.push(...events.records);
    if (rows.length > MOST_ROWS) rows.splice(0, rows.length - MOST_ROWS);
    asked ||= requestAnimationFrame(render);
  });
  setInterval(showRate, 1000);
  byId("filter-form").addEventListener("submit", apply);
  byId("events-pause").addEventListener("click", pause);
  render();
}

async function apply(event) {
  event.preventDefault();
  const field = byId("filter");
  const said = byId("filter-said");
  try {
    await setFilter(field.value);
    applied = field.value.trim();
    set(field, "aria-invalid", null);
    text(said, applied ? "Only events that pass are shown." : "");
  } catch (error) {
    set(field, "aria-invalid", "true");
    text(said, error.message);
  }
  said.classList.toggle("error", field.getAttribute("aria-invalid") === "true");
}

function pause() {
  paused = !paused;
  text(byId("events-pause"), paused ? "Go on" : "Pause");
}

function showRate() {
  const since = Date.now() - MOMENTS * 500;
  while (moments.length && moments[0][0] < since) moments.shift();
  const matched = moments.reduce((sum, [, many]) => sum + many, 0);
  text(byId("events-rate"), moments.length ? rate(matched / (MOMENTS / 2)) : "");
}

// Rows are made once and never changed, so only the new ones are added on top.
function render() {
  asked = 0;
  const list = byId("events-list");
  const known = new Set(rows);
  for (const element of [...list.children]) if (!known.has(element.record)) element.remove();
  if (rows.length === 0) {
    const words = applied ? "No event has passed this filter yet." : "No event has come yet.";
    list.replaceChildren(empty(words, "relume send --type com.example.summarize.request --data '{…}'"));
    return;
  }
  const newest = list.firstElementChild?.record;
  const fresh = newest ? rows.slice(rows.indexOf(newest) + 1) : [...rows];
  list.prepend(...fresh.reverse().map(rowOf));
}

function rowOf(record) {
  const where = record.trigger ? `${record.broker} › ${record.trigger}` : record.broker;
  const facts = [
    record.attempt > 1 ? `attempt ${number(record.attempt)}` : null,
    record.status ? `status ${record.status}` : null,
    record.ms === undefined ? null : duration(record.ms),
    record.bytes ? bytes(record.bytes) : null,
    SAID_ALREADY.has(record.stage) ? null : record.detail,
  ].filter(Boolean);
  const element = h(
    "li",
    {},
    h("time", { class: "mono dim" }, clock(record.at)),
    h("span", { class: "stage", "data-stage": record.stage }, record.stage),
    h("span", { class: "what" }, record.type),
    h("span", { class: "mono dim id", title: `${record.source} ${record.id}` }, record.id),
    h("span", { class: "where dim" }, where),
    h("span", { class: "facts dim" }, facts.join(" · ")),
    about.prompts && record.data ? h("pre", { class: "data" }, record.data) : null,
  );
  element.record = record;
  return element;
}
