// The newest jobs, with the life of each, and what a person may do to it.

import { ask, get } from "./api.js";
import { byId, empty, h, listed, s, say, set, text } from "./dom.js";
import { clock, count, duration } from "./format.js";
import { onMessage } from "./stream.js";
import { all, changed, on } from "./store.js";

const AGAIN_MS = 1000;
const WHILE_OPEN_MS = 5000;
const WORDS = { leased: "running", streaming: "answering" };
const SETTLED = new Set(["completed", "failed", "expired", "cancelled", "dead"]);
let jobs = [];
let timer = 0;
let why = "";

export function start() {
  on(["jobs", "queues"], render);
  on(["queues", "hello"], soon);
  onMessage((message) => {
    if (message.jobs) soon();
  });
}

function soon() {
  timer ||= setTimeout(load, AGAIN_MS / 4);
}

async function load() {
  try {
    jobs = (await get("/v1/jobs?limit=20")).data;
    why = "";
  } catch (error) {
    why = error.message;
  }
  changed("jobs");
  const open = jobs.some((job) => !SETTLED.has(job.status));
  timer = 0;
  if (open && !document.hidden) timer = setTimeout(load, WHILE_OPEN_MS);
}

function render() {
  const words = all("queues")
    .filter((queue) => queue.waiting || queue.running || queue.paused)
    .map((queue) => `${queue.service}: ${queue.waiting ?? 0} waiting, ${queue.running ?? 0} running${queue.paused ? ", paused" : ""}`);
  text(byId("queues"), words.join(" · "));
  const byKey = new Map(jobs.map((job) => [job.id, job]));
  const nothing = () => empty(why || "No job yet: add Prefer: respond-async to a request.", "relume jobs submit --help");
  listed(byId("jobs-list"), [...byKey.keys()], nothing, make, (row, id) => update(row, byKey.get(id)));
}

function make(id) {
  const row = {
    state: h("span", { class: "state" }),
    service: h("span", { class: "name" }),
    times: h("p", { class: "dim" }),
    life: s("svg", { class: "life", role: "img" }),
    cancel: h("button", { type: "button", class: "quiet", onclick: () => act(id, "cancel") }, "Cancel"),
    retry: h("button", { type: "button", class: "quiet", onclick: () => act(id, "retry") }, "Retry"),
  };
  set(row.cancel, "aria-label", `Cancel job ${id}`);
  set(row.retry, "aria-label", `Retry job ${id}`);
  row.element = h(
    "li",
    { class: "job" },
    h("div", { class: "who" }, row.state, row.service, h("span", { class: "mono dim id" }, id)),
    row.cancel,
    row.retry,
    row.life,
    row.times,
  );
  return row;
}

function update(row, job) {
  row.state.dataset.state = job.status;
  text(row.state, WORDS[job.status] ?? job.status);
  text(row.service, job.service);
  set(row.cancel, "hidden", SETTLED.has(job.status));
  set(row.retry, "hidden", !SETTLED.has(job.status) || job.status === "completed" || job.deleted);
  const at = (time) => (time ? new Date(time).getTime() : null);
  const [created, begun, ended] = [at(job.created_at), at(job.started_at), at(job.settled_at)];
  const last = ended ?? Date.now();
  const waited = Math.max((begun ?? last) - created, 0);
  const ran = begun ? Math.max(last - begun, 0) : 0;
  life(row.life, waited, ran, job.status);
  const words = [clock(job.created_at), `waited ${duration(waited)}`];
  if (begun) words.push(`ran ${duration(ran)}`);
  if (job.attempts > 1) words.push(count(job.attempts, "attempt"));
  if (job.position) words.push(`number ${job.position} in the queue`);
  if (job.predicted_start_s) words.push(`starts in about ${duration(job.predicted_start_s * 1000)}`);
  if (job.usage?.completion_tokens) words.push(count(job.usage.completion_tokens, "token"));
  if (job.reason && job.reason !== job.status) words.push(job.reason);
  text(row.times, words.join(" · "));
}

function life(element, waited, ran, status) {
  const whole = Math.max(waited + ran, 1);
  const percent = (ms) => `${((ms / whole) * 100).toFixed(1)}%`;
  element.replaceChildren(
    s("rect", { class: "waited", width: percent(waited), height: "100%" }),
    s("rect", { class: `ran ${status}`, x: percent(waited), width: percent(ran), height: "100%" }),
  );
  set(element, "aria-label", `waited ${duration(waited)}, ran ${duration(ran)}`);
}

async function act(id, what) {
  try {
    await ask("POST", `/v1/jobs/${id}/${what}`);
    say(what === "cancel" ? "The job is cancelled." : "The job is queued again.");
    await load();
  } catch (error) {
    say(error.message, true);
  }
}
