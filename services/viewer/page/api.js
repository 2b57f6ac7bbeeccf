// The site's API. Every call answers with JSON or throws a Problem that says what is wrong in words.

export class Problem extends Error {
  constructor(status, title, detail, hint) {
    super(detail || title);
    this.status = status;
    this.hint = hint;
  }
}

let signedOut = () => {};

export function onSignedOut(listener) {
  signedOut = listener;
}

async function ask(method, path, body, signal) {
  const options = { method, headers: { accept: "application/json" }, credentials: "same-origin", signal };
  if (method !== "GET") {
    options.headers["x-fieldline"] = "1";
    if (method !== "DELETE") {
      options.headers["content-type"] = "application/json";
      options.body = JSON.stringify(body ?? {});
    }
  }
  try {
    return await fetch(path, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw lost();
  }
}

const lost = () => new Problem(0, "no answer", "This page cannot reach its site.", "Is the site's viewer running?");

async function json(response) {
  try {
    return JSON.parse(await response.text());
  } catch {
    return null;
  }
}

function refused(response, path, answer) {
  if (response.status === 401 && path !== "/api/session") signedOut();
  return new Problem(response.status, answer?.title ?? response.statusText, answer?.detail, answer?.hint);
}

async function call(method, path, body) {
  const response = await ask(method, path, body);
  const answer = await json(response);
  if (response.ok) return answer;
  throw refused(response, path, answer);
}

// Posts, and hears each JSON line of the answer as it comes; `signal` ends it.
export async function follow(path, body, hear, signal) {
  const response = await ask("POST", path, body, signal);
  if (!response.ok) throw refused(response, path, await json(response));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const lines = (rest + part.value).split("\n");
      rest = lines.pop();
      lines.filter(Boolean).forEach((line) => hear(JSON.parse(line)));
    }
  } catch (error) {
    if (signal?.aborted) throw error;
    throw lost();
  }
}

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body);
export const remove = (path) => call("DELETE", path);

export function query(parameters) {
  const pairs = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return pairs.length ? `?${new URLSearchParams(pairs)}` : "";
}
