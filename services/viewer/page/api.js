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

async function call(method, path, body) {
  const options = { method, headers: { accept: "application/json" }, credentials: "same-origin" };
  if (method !== "GET") {
    options.headers["x-fieldline"] = "1";
    if (method !== "DELETE") {
      options.headers["content-type"] = "application/json";
      options.body = JSON.stringify(body ?? {});
    }
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Problem(0, "no answer", "This page cannot reach its site.", "Is the site's viewer running?");
  }
  const text = await response.text();
  let answer = null;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    answer = null;
  }
  if (response.ok) return answer;
  if (response.status === 401 && path !== "/api/session") signedOut();
  throw new Problem(response.status, answer?.title ?? response.statusText, answer?.detail, answer?.hint);
}

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body);
export const remove = (path) => call("DELETE", path);

export function query(parameters) {
  const pairs = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return pairs.length ? `?${new URLSearchParams(pairs)}` : "";
}
