// Sends a chat or an event, and shows what happens to it until it is answered: a cold start with
// its phases as they pass, and the prediction.

import { ask, get, path, refusal } from "./api.js";
import { goingOn, phaseBar, phaseList, phaseName, unmeasured } from "./charts.js";
import { byId, h, say, text } from "./dom.js";
import { duration } from "./format.js";
import { onMessage } from "./stream.js";
import { about, all, on, section } from "./store.js";

const EXAMPLE = { messages: [{ role: "user", content: "Summarize: a model sleeps until an event wakes it." }], max_tokens: 48 };
const ERROR = "relume.inference.error";
let running = null;

export function start() {
  on(["services", "coldstarts"], progress);
  on(["services", "hello"], models);
  on(["brokers"], () => options("broker", all("brokers").filter((each) => !each.of).map((each) => `${each.namespace}/${each.name}`)));
  onMessage(({ followed }) => followed?.forEach(followedBy));
  byId("data").value = JSON.stringify(EXAMPLE, null, 2);
  byId("type").value = "com.example.summarize.request";
  byId("kind").addEventListener("change", ({ target }) => {
    byId("chat-form").hidden = target.value !== "chat";
    byId("event-form").hidden = target.value !== "event";
  });
  byId("chat-form").addEventListener("submit", (event) => begin(event, sendChat));
  byId("event-form").addEventListener("submit", (event) => begin(event, sendEvent));
}

let listedModels = "";
async function models() {
  const now = section("services").order.join();
  if (now === listedModels) return;
  listedModels = now;
  try {
    const { data } = await get("/openai/v1/models");
    options("model", data.map((model) => model.id), data.map((model) => model.owned_by));
  } catch (error) {
    listedModels = "";
    say(error.message, true);
  }
}

function options(id, names, owners = names) {
  const select = byId(id);
  if (select.shown === names.join()) return;
  select.shown = names.join();
  const made = names.map((name, at) => h("option", { value: name, "data-service": owners[at] }, name));
  select.replaceChildren(...(made.length ? made : [h("option", { value: "" }, "none runs here")]));
}

// One request from now until its answer. `services` may have to start for it.
function begin(event, send) {
  event.preventDefault();
  const status = h("p", { class: "status", role: "status" });
  const answer = h("div", { class: "answer", hidden: true });
  const figures = h("dl", { class: "measures" });
  const bar = phaseBar();
  const phases = h("ol", { class: "legend", "aria-label": "Phases of the cold start" });
  const lane = h("div", { class: "lane", hidden: true }, bar.element, phases);
  byId("outcome").replaceChildren(status, lane, answer, figures);
  running = { since: performance.now(), at: Date.now(), status, answer, figures, bar, lane, phases, services: [], predicted: null, done: false };
  const mine = running;
  send(mine).catch((error) => fail(mine, error.message));
}

async function sendChat(mine) {
  const chosen = byId("model").selectedOptions[0];
  mine.services = [chosen.dataset.service];
  tell(mine, "Sent.");
  const body = { model: chosen.value, messages: [{ role: "user", content: byId("prompt").value }], stream: true, max_tokens: 128 };
  const answer = await fetch("/openai/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(await refusal(answer));
  await readStream(mine, answer.body);
  finish(mine);
}

async function readStream(mine, stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.filter((each) => each.startsWith("data: {"))) part(mine, JSON.parse(line.slice(6)));
  }
}

function part(mine, chunk) {
  if (chunk.error) throw new Error(chunk.error.message ?? chunk.error);
  const content = chunk.choices?.[0]?.delta?.content;
  if (!content) return;
  mine.first ??= performance.now();
  mine.tokens = (mine.tokens ?? 0) + 1;
  mine.answer.hidden = false;
  mine.answer.append(content);
  tell(mine, "Answering.");
}

async function sendEvent(mine) {
  const broker = byId("broker").value;
  const data = dataWritten();
  mine.services = servicesOf(broker);
  tell(mine, "Sent.");
  const target = `/relume/page/streams/${about.stream}/send/${path(...broker.split("/"))}`;
  const answer = await ask("POST", target, JSON.stringify({ type: byId("type").value, data }));
  mine.event = answer.headers.get("relume-event-id");
  tell(mine, "Accepted: it is stored, and on its way to the Triggers that want it.");
  for (const record of mine.early ?? []) followedBy(record);
}

function dataWritten() {
  try {
    return JSON.parse(byId("data").value);
  } catch (error) {
    throw new Error(`The data is not JSON: ${error.message}`);
  }
}

// The services to which the Triggers of a Broker deliver.
function servicesOf(broker) {
  const urls = all("triggers").filter((each) => `${each.namespace}/${each.broker}` === broker).map((each) => `${each.subscriber}/`);
  return section("services").order.filter((key) => urls.some((url) => url.includes(`/serving/${key}/`)));
}

// A record of an event that this page has sent, or of what answers it.
function followedBy(record) {
  const mine = running;
  if (!mine || mine.done) return;
  if (!mine.event) {
    (mine.early ??= []).push(record);
    return;
  }
  const isAnswer = record.cause === mine.event;
  if (record.id !== mine.event && !isAnswer) return;
  if (record.stage === "retrying") tell(mine, `Trigger ${record.trigger} tries again: ${record.detail ?? record.status ?? ""}`);
  else if (record.stage === "dead-lettered" || record.stage === "dropped") fail(mine, `Given up by Trigger ${record.trigger}: ${record.detail ?? "see the dead letters"}`);
  else if (record.stage === "delivering" && !isAnswer) tell(mine, `Trigger ${record.trigger} delivers it.`);
  else if (isAnswer && record.data && record.broker && !mine.first) {
    mine.first = performance.now();
    mine.answer.hidden = false;
    text(mine.answer, answerIn(record.data));
    if (record.type === ERROR) fail(mine, "Answered with an error.");
    else finish(mine);
  }
}

function answerIn(data) {
  try {
    const parsed = JSON.parse(data);
    return parsed.choices?.[0]?.message?.content ?? parsed.error?.message ?? data;
  } catch {
    return data;
  }
}

// The services have changed: show how far the start that this request waits for is.
function progress() {
  const mine = running;
  if (!mine) return;
  const service = mine.services.map((key) => section("services").items[key]).find((each) => each?.state === "starting");
  if (service && !mine.done) {
    const { phases, running: phase, elapsed } = goingOn(service);
    const left = (service.ready_in_s ?? 0) * 1000;
    mine.predicted ??= service.ready_in_s === undefined ? null : elapsed + left;
    mine.lane.hidden = false;
    mine.bar.draw(phases, { scale: Math.max(elapsed + left, mine.predicted ?? 0), running: phase, left });
    mine.phases.replaceChildren(...phaseList(phases, phase));
    tell(mine, `Cold start: ${phaseName(phase)}${service.ready_in_s === undefined ? "" : `, ready in about ${Math.ceil(left / 1000)} s`}.`);
  }
  const entry = all("coldstarts").filter((each) => mine.services.includes(each.service) && Date.parse(each.at) >= mine.at - 1000).at(-1);
  if (entry && entry !== mine.entry) {
    mine.entry = entry;
    mine.lane.hidden = false;
    const { measured, rest } = unmeasured(entry);
    mine.bar.draw(entry.phases, { scale: measured + rest, rest });
    mine.phases.replaceChildren(...phaseList(entry.phases));
    if (mine.done) showFigures(mine);
  }
}

function tell(mine, words) {
  text(mine.status, words);
}

function finish(mine) {
  mine.done = true;
  mine.took = performance.now() - mine.since;
  tell(mine, "Answered.");
  showFigures(mine);
}

function fail(mine, words) {
  mine.done = true;
  mine.status.classList.add("error");
  tell(mine, words);
}

function showFigures(mine) {
  const shown = [["first word", mine.first - mine.since], ["answered", mine.took]];
  if (mine.entry) shown.push(["cold start", mine.entry.ready]);
  if (mine.predicted) shown.push(["predicted", mine.predicted]);
  const pairs = shown.filter(([, ms]) => ms > 0).map(([name, ms]) => [name, duration(ms)]);
  if (mine.tokens > 1) pairs.push(["tokens", `${(((mine.tokens - 1) * 1000) / Math.max(mine.took - (mine.first - mine.since), 1)).toFixed(0)}/s`]);
  mine.figures.replaceChildren(...pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "value" }, value))));
}
