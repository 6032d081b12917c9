// Dead letters: what no subscriber took and no sink either. Each is looked at, and sent again.

import { ask, get, path } from "./api.js";
import { byId, empty, h, listed, say, text } from "./dom.js";
import { bytes, clock, day, number } from "./format.js";
import { about, all, changed, on } from "./store.js";

const EACH = 20;
const PAGES = 3;
const AGAIN_MS = 2000;
let letters = [];
let counted = "";
let beyond = 0;
let loading = false;
let open = null;

export function start() {
  on(["letters"], render);
  on(["brokers"], look);
  on(["hello"], () => {
    counted = "";
    look();
  });
  byId("letter-close").addEventListener("click", () => byId("letter").close());
  byId("letter-redrive").addEventListener("click", async () => {
    const [broker, sequence] = open;
    if (await redrive(broker, sequence)) byId("letter").close();
  });
  render();
}

// The lists are fetched anew when a Broker counts another number of dead letters.
async function look() {
  const having = all("brokers").filter((broker) => broker.dead_letters > 0);
  const now = having.map((broker) => `${broker.namespace}/${broker.name} ${broker.dead_letters}`).join();
  if (loading || now === counted) return;
  loading = true;
  counted = now;
  try {
    const pages = await Promise.all(having.map((broker) => newest(broker)));
    letters = pages.flat().sort((one, other) => (one.at < other.at ? 1 : -1));
    beyond = having.reduce((sum, broker) => sum + broker.dead_letters, 0) - letters.length;
  } catch (error) {
    say(error.message, true);
  }
  changed("letters");
  setTimeout(() => {
    loading = false;
    look();
  }, AGAIN_MS);
}

// A page has the oldest letters first, so the newest are on the last page, if that is not too far.
async function newest({ namespace, name }) {
  let after = 0;
  let found = [];
  for (let page = 0; page < PAGES && after !== null; page += 1) {
    const { letters: next, next: then } = await get(`/relume/dlq/${path(namespace, name)}?limit=200&after=${after}`);
    found = [...found, ...next].slice(-EACH);
    after = then;
  }
  return found;
}

const keyOf = (letter) => `${letter.broker} ${letter.sequence}`;

function render() {
  const byKey = new Map(letters.map((letter) => [keyOf(letter), letter]));
  const nothing = () => empty("No dead letter: every event was answered, or still waits for its turn.");
  listed(byId("letters-list"), [...byKey.keys()], nothing, (key) => make(byKey.get(key)), () => {});
  text(byId("letters-more"), beyond > 0 ? `${number(beyond)} more: relume dlq list NAMESPACE/BROKER` : "");
}

function make(letter) {
  const named = `of ${letter.type}, number ${letter.sequence} of ${letter.broker}`;
  const element = h(
    "li",
    { class: "letter" },
    h("div", { class: "who" }, h("span", { class: "what" }, letter.type), h("span", { class: "state", "data-state": "failed" }, reasonOf(letter))),
    h("p", { class: "dim" }, `${clock(letter.at)} · ${letter.broker} › ${letter.trigger || "its sink"}`),
    h("button", { type: "button", class: "quiet", "aria-label": `Inspect the dead letter ${named}`, onclick: () => inspect(letter) }, "Inspect"),
    h("button", { type: "button", "aria-label": `Redrive the dead letter ${named}`, onclick: () => redrive(letter.broker, letter.sequence) }, "Redrive"),
  );
  return { element };
}

const reasonOf = (letter) => [letter.code > 0 ? letter.code : "no answer,", letter.reason].filter(Boolean).join(" ") || "dead";

async function inspect(letter) {
  open = [letter.broker, letter.sequence];
  try {
    const whole = await get(`/relume/dlq/${path(...letter.broker.split("/"))}/${letter.sequence}`);
    byId("letter-body").replaceChildren(...described(whole));
    byId("letter").showModal();
  } catch (error) {
    say(error.message, true);
  }
}

function described(letter) {
  const { data, data_base64: base64, ...attributes } = letter.event;
  const facts = { given_up: day(letter.at), trigger: letter.trigger, subscriber: letter.destination, why: reasonOf(letter), data: bytes(letter.bytes) };
  const pairs = (found) => Object.entries(found).map(([name, value]) => h("div", {}, h("dt", {}, name.replace("_", " ")), h("dd", { class: "mono" }, String(value))));
  const parts = [h("dl", { class: "pairs" }, ...pairs(facts)), h("h3", {}, "Attributes"), h("dl", { class: "pairs" }, ...pairs(attributes))];
  if (!about.prompts) {
    const next = `relume dlq show ${letter.broker} ${letter.sequence}`;
    return [...parts, h("p", { class: "empty" }, "The data is hidden; relume up --show-prompts shows it here. In a terminal:", h("code", {}, next))];
  }
  const shown = base64 ?? (typeof data === "string" ? data : JSON.stringify(data, null, 2));
  parts.push(h("h3", {}, "Data"), h("pre", { class: "data", tabindex: "0" }, shown ?? "none"));
  if (letter.said) parts.push(h("h3", {}, "What the subscriber said"), h("pre", { class: "data", tabindex: "0" }, letter.said));
  return parts;
}

async function redrive(broker, sequence) {
  try {
    await ask("POST", `/relume/dlq/${path(...broker.split("/"))}/${sequence}/redrive`);
    letters = letters.filter((each) => each.broker !== broker || each.sequence !== sequence);
    changed("letters");
    say("It is on its way to its Trigger again.");
    return true;
  } catch (error) {
    say(error.message, true);
    return false;
  }
}
