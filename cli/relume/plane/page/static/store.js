// What the plane has told: sections of named items, and the samples of the last hour.

const KEPT = 720;
const sections = new Map();
const waiting = new Set();
const renderers = [];
let asked = 0;

export const samples = [];
export const about = { prompts: false, stream: "", everyS: 5 };

export function section(name) {
  return sections.get(name) ?? { order: [], items: {} };
}

export const all = (name) => section(name).order.map((key) => section(name).items[key]);

// `render` is called before the next frame after one of the parts has changed.
export function on(parts, render) {
  renderers.push([new Set(parts), render]);
}

export function changed(part) {
  waiting.add(part);
  asked ||= requestAnimationFrame(renderAll);
}

function renderAll() {
  asked = 0;
  const now = new Set(waiting);
  waiting.clear();
  for (const [parts, render] of renderers) {
    if ([...parts].some((each) => now.has(each))) render();
  }
}

export function apply(message) {
  if (message.hello) {
    about.prompts = message.hello.prompts;
    about.stream = message.hello.stream;
    about.everyS = message.hello.every_s;
    sections.clear();
    samples.length = 0;
    changed("hello");
  }
  for (const [name, news] of Object.entries(message)) {
    if (news.items) {
      merge(name, news);
      changed(name);
    }
  }
  if (message.samples) {
    samples.push(...message.samples);
    if (samples.length > KEPT) samples.splice(0, samples.length - KEPT);
    changed("samples");
  }
}

function merge(name, { items, order }) {
  const before = section(name);
  const merged = { order: order ?? before.order, items: { ...before.items, ...items } };
  if (order) merged.items = Object.fromEntries(order.map((key) => [key, merged.items[key]]));
  sections.set(name, merged);
}

// The numbers at one place of a series over the last `most` samples; what is missing is 0.
export function series(name, place, most) {
  return samples.slice(-most).map(([, numbers]) => numbers[name]?.[place] ?? 0);
}

// How much a counter grew per second, over the last ten seconds.
export function rateOf(name, place) {
  const newest = series(name, place, 2);
  return newest.reduce((sum, each) => sum + each, 0) / (Math.max(newest.length, 1) * about.everyS);
}
