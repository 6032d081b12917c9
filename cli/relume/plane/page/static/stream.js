// The one stream from the plane. It is closed while nobody sees the page, and opened again then.

import { ask } from "./api.js";
import { byId, text } from "./dom.js";
import { about, apply } from "./store.js";

const HIDDEN_MS = 20000;
const AGAIN_MS = 2000;
const listeners = [];
let source = null;
let filter = "";
let timer = 0;

// `listen` gets every message.
export function onMessage(listen) {
  listeners.push(listen);
}

export function connect() {
  clearTimeout(timer);
  source?.close();
  tell("connecting", "connecting");
  source = new EventSource(`/relume/page/stream?filter=${encodeURIComponent(filter)}`);
  source.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    apply(message);
    for (const listen of listeners) listen(message);
    tell("live", "live");
  };
  source.onerror = () => {
    tell("lost", "reconnecting");
    source.close();
    clearTimeout(timer);
    timer = setTimeout(connect, AGAIN_MS);
  };
}

// Only events that pass the filter are told from now on. Throws what the plane says about it.
export async function setFilter(expression) {
  await ask("PUT", `/relume/page/streams/${about.stream}/filter`, expression);
  filter = expression;
}

function tell(state, words) {
  const connection = byId("connection");
  connection.dataset.state = state;
  text(connection, words);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (document.hidden) {
    timer = setTimeout(() => {
      source?.close();
      tell("lost", "asleep");
    }, HIDDEN_MS);
  } else if (source?.readyState !== EventSource.OPEN) connect();
});
