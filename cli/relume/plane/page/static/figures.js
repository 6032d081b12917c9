// The first line: where this plane is, and the few numbers that say whether all is well.

import { byId, h, keyed, text } from "./dom.js";
import { bytes, number, rate } from "./format.js";
import { all, on, rateOf, section } from "./store.js";

export function start() {
  on(["plane", "services", "brokers", "triggers", "queues", "samples"], render);
}

function render() {
  const plane = section("plane").items.plane;
  if (!plane) return;
  const more = plane.hidden ? ` · ${number(plane.hidden)} more are not shown` : "";
  text(byId("address"), `${plane.http.replace("http://", "")} · ${plane.version}${more}`);
  document.title = `Relume · ${plane.http.replace("http://", "")}`;
  const services = all("services");
  const sum = (found, field) => found.reduce((total, each) => total + (each[field] ?? 0), 0);
  const awake = services.filter((each) => each.replicas > 0).length;
  const accepted = section("brokers").order.reduce((total, key) => total + rateOf(`b:${key}`, 0), 0);
  const backlog = sum(all("triggers"), "pending") + sum(all("queues"), "waiting");
  const dead = sum(all("brokers"), "dead_letters");
  const memory = plane.memory ?? {};
  const figures = [
    ["awake", `${awake} of ${services.length}`],
    ["in flight", number(sum(services, "in_flight"))],
    ["held", number(sum(services, "held"))],
    ["events", rate(accepted)],
    ["waiting", number(backlog)],
    ["dead letters", number(dead), dead > 0],
    ["memory", memory.budget ? `${bytes(memory.used)} of ${bytes(memory.budget)}` : "not bounded"],
    ["template", plane.template?.state ?? "off"],
  ];
  const byName = new Map(figures.map((each) => [each[0], each]));
  keyed(byId("figures"), [...byName.keys()], make, (row, name) => {
    text(row.value, byName.get(name)[1]);
    row.value.classList.toggle("bad", byName.get(name)[2] === true);
  });
}

function make(name) {
  const value = h("dd", { class: "value" });
  return { element: h("div", {}, h("dt", {}, name), value), value };
}
