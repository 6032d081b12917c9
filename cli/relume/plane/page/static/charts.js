// Small charts of our own in SVG: a line over time, and a bar of phases.

import { h, s, set } from "./dom.js";
import { duration } from "./format.js";

export const PHASES = [
  "queue", "memory", "environment", "process", "fork", "import", "config", "weights", "engine", "warmup", "first_token",
];
const WIDTH = 160;
const HEIGHT = 34;

const NAMES = { memory: "waits for memory", process: "process starts", first_token: "first token" };
export const phaseName = (phase) => NAMES[phase] ?? phase;

// A chart whose `draw(values, words, {most, least})` shows the newest of at most `most` values at the
// right edge; `words` say them, and `least` is the value that fills the height at least.
export function spark(kind) {
  const area = s("path", { class: "area" });
  const line = s("path", { class: "line" });
  const element = s(
    "svg",
    { class: `spark ${kind}`, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
    area,
    line,
  );
  let drawn = "";
  const draw = (values, words, { most, least = 1 }) => {
    const highest = Math.max(least, ...values);
    const x = (at) => (WIDTH - ((values.length - 1 - at) * WIDTH) / (most - 1)).toFixed(1);
    const y = (value) => (HEIGHT - 2 - (value / highest) * (HEIGHT - 5)).toFixed(1);
    const points = values.map((value, at) => `${x(at)} ${y(value)}`);
    const path = points.length > 1 ? `M${points.join("L")}` : "";
    if (path !== drawn) {
      drawn = path;
      set(line, "d", path);
      set(area, "d", path && `${path}L${WIDTH} ${HEIGHT}L${x(0)} ${HEIGHT}Z`);
    }
    set(element, "aria-label", words);
  };
  return { element, draw };
}

// A bar whose `draw(phases, {scale, running, left, rest})` stacks phases, in ms. `scale` ms fill the
// whole width, `running` is the phase that goes on, `left` is the predicted rest, and `rest` is what
// passed and no phase has measured.
export function phaseBar() {
  const element = s("svg", { class: "bar", role: "img" });
  const draw = (phases, { scale, running = null, left = 0, rest = 0 }) => {
    const parts = PHASES.filter((name) => phases[name] > 0);
    const percent = (ms) => `${((ms / Math.max(scale, 1)) * 100).toFixed(2)}%`;
    let from = 0;
    const drawn = parts.map((name) => {
      const at = { x: percent(from), width: percent(phases[name]), height: "100%" };
      from += phases[name];
      const going = name === running ? " going" : "";
      return s("rect", { ...at, class: `phase ${name}${going}` }, s("title", {}, `${phaseName(name)} ${duration(phases[name])}`));
    });
    const behind = Math.max(left, rest);
    if (behind > 0) drawn.push(s("rect", { x: percent(from), width: percent(behind), height: "100%", class: `phase ${left > 0 ? "left" : "rest"}` }));
    element.replaceChildren(...drawn);
    set(element, "aria-label", inWords(parts, phases, left));
  };
  return { element, draw };
}

function inWords(parts, phases, left) {
  const words = parts.map((name) => `${phaseName(name)} ${duration(phases[name])}`);
  if (left > 0) words.push(`about ${duration(left)} left`);
  return words.join(", ") || "nothing measured yet";
}

// What passed of an ended start and no phase has measured, in ms.
export function unmeasured({ phases, total, ready }) {
  const measured = Object.values(phases).reduce((sum, ms) => sum + ms, 0);
  return { measured, rest: Math.max((total ?? ready ?? 0) - measured, 0) };
}

// The phases that took a millisecond in one of these starts, in their order.
export const measuredIn = (starts) => PHASES.filter((name) => starts.some((phases) => phases[name] >= 1));

// The phases with their times, as a list; the one that runs is marked.
export function phaseList(phases, running = null) {
  const shown = measuredIn([phases]);
  return shown.map((name) =>
    h("li", { class: name === running ? "going" : null }, h("i", { class: `swatch ${name}` }), phaseName(name), h("b", {}, duration(phases[name]))),
  );
}

// The phases of a start that goes on: those that are over, and the one that runs with its time.
export function goingOn(service) {
  const { elapsed = 0, phases = {} } = service.start ?? {};
  const over = Object.values(phases).reduce((sum, ms) => sum + ms, 0);
  const running = PHASES.includes(service.phase) ? service.phase : "process";
  const now = Math.max(elapsed - over, 0);
  return { phases: { ...phases, [running]: (phases[running] ?? 0) + now }, running, elapsed };
}
