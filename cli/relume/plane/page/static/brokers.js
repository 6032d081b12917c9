// Brokers with what they accept, and under each its Triggers with rates, backlog and failures.

import { spark } from "./charts.js";
import { byId, empty, h, listed, keyed, set, text } from "./dom.js";
import { number, rate } from "./format.js";
import { all, on, rateOf, section, series } from "./store.js";
import { shownSamples } from "./services.js";

export function start() {
  on(["brokers", "triggers", "samples", "window"], render);
}

function render() {
  const nothing = () => empty("No Broker runs here: its manifest has kind Broker.", "relume up config/samples/summarize.yaml");
  listed(byId("brokers-list"), section("brokers").order, nothing, makeBroker, updateBroker);
}

function measure(label) {
  const value = h("dd", { class: "value" });
  return { element: h("div", {}, h("dt", {}, label), value), value };
}

function makeBroker(key) {
  const [namespace, name] = key.split("/");
  const row = {
    chart: spark("events"),
    rate: measure("accepted"),
    total: measure("in all"),
    dead: measure("dead letters"),
    of: h("span", { class: "dim" }),
    triggers: h("ul", { class: "triggers" }),
  };
  row.element = h(
    "li",
    { class: "broker" },
    h("div", { class: "who" }, h("h3", {}, h("span", { class: "dim" }, `${namespace}/`), name), row.of),
    h("dl", { class: "measures" }, row.rate.element, row.total.element, row.dead.element),
    row.chart.element,
    row.triggers,
  );
  return row;
}

function updateBroker(row, key) {
  const broker = section("brokers").items[key];
  text(row.of, broker.of ? `of ${broker.of}` : `${broker.profile} profile`);
  text(row.rate.value, rate(rateOf(`b:${key}`, 0)));
  text(row.total.value, number(broker.accepted));
  dead(row.dead.value, broker.dead_letters);
  const accepted = series(`b:${key}`, 0, shownSamples());
  row.chart.draw(accepted, `Events accepted over time: now ${rate(rateOf(`b:${key}`, 0))}`, { most: shownSamples(), least: 5 });
  const own = all("triggers").filter((each) => `${each.namespace}/${each.broker}` === key);
  set(row.triggers, "hidden", own.length === 0);
  keyed(row.triggers, own.map((each) => `${each.namespace}/${each.name}`), makeTrigger, updateTrigger);
}

function dead(element, many) {
  text(element, number(many));
  element.classList.toggle("bad", many > 0);
}

function makeTrigger(key) {
  const row = { name: h("h4", {}, key.split("/")[1]), to: h("p", { class: "mono dim to" }), chart: spark("events") };
  for (const [field, label] of [["rate", "delivered"], ["backlog", "backlog"], ["running", "running"], ["retried", "retried"], ["dead", "dead"]]) {
    row[field] = measure(label);
  }
  row.element = h(
    "li",
    { class: "trigger" },
    h("div", { class: "who" }, row.name, row.to),
    h("dl", { class: "measures" }, ...["rate", "backlog", "running", "retried", "dead"].map((each) => row[each].element)),
    row.chart.element,
  );
  return row;
}

function updateTrigger(row, key) {
  const trigger = section("triggers").items[key];
  const url = section("plane").items.plane?.http ?? "";
  const subscriber = (trigger.subscriber ?? "").replace(`${url}/serving/`, "");
  text(row.to, `→ ${subscriber}`);
  set(row.to, "title", trigger.subscriber);
  text(row.rate.value, rate(rateOf(`t:${key}`, 0)));
  text(row.backlog.value, number(trigger.pending));
  row.backlog.value.classList.toggle("warm", trigger.pending > 0);
  text(row.running.value, number(trigger.in_flight));
  text(row.retried.value, number(trigger.retried));
  dead(row.dead.value, trigger.dead_lettered);
  const delivered = series(`t:${key}`, 0, shownSamples());
  row.chart.draw(delivered, `Deliveries over time: now ${rate(rateOf(`t:${key}`, 0))}`, { most: shownSamples(), least: 5 });
}
