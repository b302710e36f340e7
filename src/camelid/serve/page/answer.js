// One answer while it comes in: text, what was seen inside, and how long it took.

import { streamAnswer } from "./server.js";

/** An answer without a word yet. `tokens` has entries only where the look inside was on:
 * {end: where its text ends, text, logprob, alternatives: [[text, logprob]], experts: per layer [ids]}. */
export function emptyAnswer() {
  return { role: "assistant", text: "", tokens: [], finish: null, error: null, counts: null };
}

/** Fills the turn from the server; `changed` is called after every chunk. Never throws: errors stay in the turn. */
export async function fillAnswer(turn, body, key, signal, changed) {
  const began = performance.now();
  let first = 0;
  let last = 0;
  let count = 0;
  const countUp = () => {
    last = performance.now();
    first ||= last;
    count += 1;
    turn.counts = countsOf(count, first - began, last - first, false);
  };
  try {
    for await (const chunk of streamAnswer(body, key, signal)) {
      const choice = chunk.choices[0];
      if (choice) {
        if (addChunk(turn, choice)) countUp();
        if (choice.finish_reason) {
          turn.finish = choice.finish_reason;
          last = performance.now();
        }
      }
      if (chunk.usage) addUsage(turn, chunk.usage, first - began, last - first);
      changed();
    }
  } catch (error) {
    if (error.name === "AbortError") turn.finish = "stopped";
    else Object.assign(turn, { finish: "error", error: { status: error.status ?? 0, message: error.message } });
  }
  turn.finish ??= "stopped";
  changed();
}

/** Returns whether the chunk has a token of its own. */
function addChunk(turn, choice) {
  const text = choice.delta?.content ?? "";
  turn.text += text;
  const entry = choice.logprobs?.content?.[0];
  if (entry) {
    turn.tokens.push({
      end: turn.text.length,
      text: entry.token,
      logprob: entry.logprob,
      alternatives: entry.top_logprobs.map((other) => [other.token, other.logprob]),
      experts: choice.experts?.[0] ?? [],
    });
  } else if (text && turn.tokens.length) {
    turn.tokens.at(-1).end = turn.text.length; // what was held back until the answer's end
    return false;
  }
  return Boolean(entry || text);
}

function addUsage(turn, usage, firstMs, streamMs) {
  turn.counts = {
    ...countsOf(usage.completion_tokens, firstMs, streamMs, true),
    prompt: usage.prompt_tokens,
    cached: usage.prompt_tokens_details.cached_tokens,
    total: usage.total_tokens,
  };
}

/** The first token is not part of the speed, since it came after the prompt was read; few tokens have none. */
function countsOf(tokens, firstMs, streamMs, isExact) {
  const perSecond = tokens >= 8 && streamMs > 0 ? ((tokens - 1) * 1000) / streamMs : null;
  return { tokens, isExact, firstSeconds: firstMs / 1000, perSecond };
}

/** The same in words, for the line below an answer. */
export function describeCounts(counts) {
  if (!counts) return [];
  const words = [`${counts.isExact ? "" : "≈ "}${number(counts.tokens)} ${counts.tokens === 1 ? "token" : "tokens"}`];
  if (counts.perSecond) words.push(`${number(counts.perSecond)} tokens/s`);
  if (counts.firstSeconds > 0) words.push(`first after ${seconds(counts.firstSeconds)}`);
  if (counts.prompt) words.push(`${number(counts.cached)} of ${number(counts.prompt)} prompt tokens cached`);
  return words;
}

const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
const seconds = (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`);
