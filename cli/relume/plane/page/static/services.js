// The services: state, replicas, memory, and both over the last minutes.

import { ask, path } from "./api.js";
import { phaseName, spark } from "./charts.js";
import { byId, empty, h, keyed, listed, say, set, text } from "./dom.js";
import { bytes, count, duration, number } from "./format.js";
import { all, changed, on, section, series } from "./store.js";

const MIB = 2 ** 20;
let shown = 60;

export function start() {
  on(["services", "coldstarts", "samples", "window"], render);
  byId("window").addEventListener("change", ({ target }) => {
    shown = Number(target.value);
    changed("window");
  });
}

export const shownSamples = () => shown;

export function stateWords(service) {
  if (service.state !== "starting") return service.state;
  const phase = service.phase ? `, ${phaseName(service.phase)}` : "";
  const left = service.ready_in_s === undefined ? "" : `, ${Math.ceil(service.ready_in_s)} s left`;
  return `starting${phase}${left}`;
}

function render() {
  const nothing = () => empty("No service runs here yet.", "relume up config/samples/summarize.yaml");
  listed(byId("services-list"), section("services").order, nothing, make, update);
}

function figure(label) {
  const value = h("dd", { class: "value" });
  return { element: h("div", {}, h("dt", {}, label), value), value };
}

function make(key) {
  const [namespace, name] = key.split("/");
  const row = {
    state: h("span", { class: "state" }),
    reason: h("p", { class: "reason", hidden: true }),
    shares: h("ul", { class: "shares", "aria-label": "Revisions that share its requests" }),
    log: h("pre", { class: "data", hidden: true }),
    replicas: figure("replicas"),
    busy: figure("in flight"),
    held: figure("held"),
    memory: figure("memory"),
    last: figure("last start"),
    replicasChart: spark("replicas"),
    memoryChart: spark("memory"),
    wake: h("button", { type: "button", class: "quiet", onclick: () => wake(namespace, name) }, "Wake"),
  };
  set(row.wake, "aria-label", `Wake ${key}`);
  row.element = h(
    "li",
    { class: "service" },
    h("div", { class: "who" }, h("h3", {}, h("span", { class: "dim" }, `${namespace}/`), name), row.state),
    h("dl", { class: "measures" }, ...["replicas", "busy", "held", "memory", "last"].map((each) => row[each].element)),
    h("div", { class: "charts" }, chart("replicas", row.replicasChart), chart("memory", row.memoryChart)),
    row.wake,
    row.shares,
    row.reason,
    row.log,
  );
  return row;
}

const chart = (label, { element }) => h("figure", {}, element, h("figcaption", {}, label));

function update(row, key) {
  const service = section("services").items[key];
  row.state.dataset.state = service.state;
  text(row.state, stateWords(service));
  text(row.replicas.value, service.desired > service.replicas ? `${service.replicas} of ${service.desired}` : service.replicas);
  text(row.busy.value, number(service.in_flight));
  text(row.held.value, number(service.held));
  row.held.value.classList.toggle("warm", service.held > 0);
  const memory = series(`s:${key}`, 3, shown);
  const now = memory.at(-1) ?? 0;
  text(row.memory.value, service.replicas && now ? bytes(now * MIB) : service.memory?.need ? `needs ${bytes(service.memory.need)}` : "–");
  const last = all("coldstarts").filter((entry) => entry.service === key).at(-1);
  text(row.last.value, last ? duration(last.total ?? last.ready) : "–");
  const replicas = series(`s:${key}`, 0, shown);
  row.replicasChart.draw(replicas, `Replicas over time: now ${service.replicas}, at most ${Math.max(0, ...replicas)}`, { most: shown });
  row.memoryChart.draw(memory, `Memory over time: now ${bytes(now * MIB)}, at most ${bytes(Math.max(0, ...memory) * MIB)}`, { most: shown, least: 64 });
  set(row.wake, "hidden", service.state !== "zero" && service.state !== "failed");
  const shares = service.traffic ?? [];
  set(row.shares, "hidden", shares.length === 0);
  keyed(row.shares, shares.map((each) => each.tag), () => ({ element: h("li", {}) }), ({ element }, tag) => {
    const share = shares.find((each) => each.tag === tag);
    text(element, `${share.percent} % to ${share.revision} (${tag}): ${share.state}, ${count(share.replicas, "replica")}`);
  });
  const why = reasonOf(service);
  set(row.reason, "hidden", !why);
  text(row.reason, why);
  set(row.log, "hidden", !service.log_tail?.length);
  text(row.log, (service.log_tail ?? []).join("\n"));
}

function reasonOf(service) {
  const waits = service.memory?.waiting_s;
  if (waits !== undefined && waits !== null) {
    return `has waited ${duration(waits * 1000)} for memory that ${service.memory.waits_for.join(" and ") || "others"} hold`;
  }
  const words = [];
  if (service.reason) words.push(service.reason);
  if (service.state === "failed" && !service.log_tail) words.push("relume status shows the end of its log");
  if (service.rollout) words.push(`${service.rollout.to} is to follow: ${service.rollout.reason ?? "it is starting"}`);
  if (service.refused) words.push(`${count(service.refused, "request")} refused: too many waited`);
  return words.join(" · ");
}

async function wake(namespace, name) {
  try {
    await ask("POST", `/relume/services/${path(namespace, name)}/warm`);
    say(`${namespace}/${name} is waking`);
  } catch (error) {
    say(error.message, true);
  }
}
