// What the page asks of the server that it came from: the model, and answers as they come.

import { readEvents } from "./events.js";

/** The server said no. `status` 0: it said nothing. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const UNREACHABLE = "The server does not answer.";
const BROKEN = "The connection broke in the middle of the answer.";

/** The model that is served: id, max_context, digest, quantisation, num_layers, num_experts, … */
export async function fetchModel(key) {
  const response = await ask("/v1/models", { headers: headers(key) });
  return (await response.json()).data[0];
}

/** The chunks of one answer. Aborting the signal hangs up, which ends the work at the server too. */
export async function* streamAnswer(body, key, signal) {
  const sent = { method: "POST", body, headers: { ...headers(key), "Content-Type": "application/json" }, signal };
  const response = await ask("/v1/chat/completions", sent);
  let isDone = false;
  for await (const data of unbroken(readEvents(response.body))) {
    if (data === "[DONE]") {
      isDone = true; // and the stream ends by itself: who leaves now would be counted as hanging up
      continue;
    }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Refusal(500, chunk.error.message);
    yield chunk;
  }
  if (!isDone) throw new Refusal(0, BROKEN);
}

async function* unbroken(events) {
  try {
    yield* events;
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refusal(0, BROKEN);
  }
}

const headers = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, UNREACHABLE);
  }
  if (response.ok) return response;
  throw new Refusal(response.status, await explain(response));
}

async function explain(response) {
  const wait = response.headers.get("Retry-After");
  if (response.status === 429) return `The server is busy. Try again${wait ? ` in ${wait} seconds` : ""}.`;
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server answered ${response.status}.`;
  }
}
