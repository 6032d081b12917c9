// Requests to the plane. What it refuses is an Error with the plane's own words.

export async function ask(method, path, body) {
  const answer = await fetch(path, { method, body, cache: "no-store" });
  if (!answer.ok) throw new Error(await refusal(answer));
  return answer;
}

export const get = async (path) => (await ask("GET", path)).json();

export async function refusal(answer) {
  const said = await answer.text();
  try {
    const { error } = JSON.parse(said);
    return error?.message ?? error ?? said;
  } catch {
    return said || `the plane answered ${answer.status}`;
  }
}

export const path = (...parts) => parts.map((each) => encodeURIComponent(each)).join("/");
