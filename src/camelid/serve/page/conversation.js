// Conversations as data, and as the messages that go to the server.

const TITLE_LENGTH = 48;

export const newId = () => Array.from(crypto.getRandomValues(new Uint32Array(3)), (part) => part.toString(36)).join("");

export function newConversation() {
  return { id: newId(), title: "", isNamed: false, changed: Date.now(), turns: [] };
}

/** `files`: [{kind: "image" | "video", name, url}], the URLs being data. */
export function question(text, files) {
  return { role: "user", text, files };
}

/** A name that a person gave, or else the beginning of the first question. */
export function titleOf(conversation) {
  if (conversation.isNamed || !conversation.turns.length) return conversation.title || "New conversation";
  const { text, files } = conversation.turns[0];
  const line = text.trim().split("\n")[0];
  if (!line) return files[0]?.name || "Picture";
  return line.length > TITLE_LENGTH ? `${line.slice(0, TITLE_LENGTH).trimEnd()}…` : line;
}

/** Cuts the turn at `index` and all that came after it. */
export function cutFrom(conversation, index) {
  conversation.turns.length = index;
}

/** The body of a request for the next answer. `look`: with experts and alternatives. */
export function requestBody(conversation, model, settings, look) {
  const body = {
    model: model.id,
    messages: messagesOf(conversation, settings.system),
    stream: true,
    stream_options: { include_usage: true },
  };
  for (const name of ["temperature", "top_p", "max_tokens", "seed"]) {
    if (settings[name] !== null && settings[name] !== undefined) body[name] = settings[name];
  }
  if (look) Object.assign(body, { include_experts: model.num_experts > 0, logprobs: true, top_logprobs: 6 });
  return JSON.stringify(body);
}

function messagesOf(conversation, system) {
  const messages = system?.trim() ? [{ role: "system", content: system }] : [];
  for (const turn of conversation.turns) {
    if (turn.role === "user") messages.push({ role: "user", content: contentOf(turn) });
    else if (turn.text) messages.push({ role: "assistant", content: turn.text });
  }
  return messages;
}

function contentOf({ text, files }) {
  if (!files.length) return text;
  const parts = files.map(({ kind, url }) =>
    kind === "image"
      ? { type: "image_url", image_url: { url } }
      : // An animated picture is a clip to the server, whatever its file is called.
        { type: "video_url", video_url: { url: url.replace(/^data:image\//, "data:video/") } },
  );
  return text ? [...parts, { type: "text", text }] : parts;
}
