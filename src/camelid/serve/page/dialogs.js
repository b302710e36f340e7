// Settings, and questions that need a yes.

import { byId, make } from "./dom.js";

const FIELDS = [
  { name: "system", label: "System prompt", kind: "textarea", hint: "Said before every conversation." },
  {
    name: "temperature",
    label: "Temperature",
    hint: "0: always the likeliest token.",
    half: true,
    range: { min: 0, max: 2, step: 0.05 },
  },
  {
    name: "top_p",
    label: "Top p",
    hint: "Of the likeliest tokens, this much.",
    half: true,
    range: { min: 0.01, max: 1, step: 0.01 },
  },
  {
    name: "max_tokens",
    label: "Longest answer",
    hint: "In tokens; empty: no limit.",
    half: true,
    range: { min: 1, step: 1 },
  },
  { name: "seed", label: "Seed", hint: "The same one, the same answer.", half: true, range: { min: 0, step: 1 } },
  { name: "key", label: "API key", kind: "password", hint: "Kept in this browser, sent to this server only." },
];

/** Opens the settings; `saved(values)` gets them all. `focus` names a field, `note` says why it is asked for. */
export function openSettings(values, saved, focus = null, note = "") {
  const dialog = byId("settings");
  const inputs = new Map(FIELDS.map((field) => [field.name, inputFor(field, values[field.name])]));
  const rows = FIELDS.map(({ name, label, hint, half }) => {
    const hintId = `hint-${name}`;
    inputs.get(name).setAttribute("aria-describedby", hintId);
    const title = make("label", { for: `setting-${name}` }, label);
    return make(`div.setting${half ? ".half" : ""}`, {}, title, inputs.get(name), make("small", { id: hintId }, hint));
  });
  const cancel = make("button.plain", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const save = make("button.strong", { type: "submit" }, "Save");
  const form = make(
    "form",
    { method: "dialog" },
    make("h2", { id: "settings-title" }, "Settings"),
    note ? make("p.notice", {}, note) : null,
    make("div.setting-rows", {}, ...rows),
    make("div.dialog-actions", {}, cancel, save),
  );
  form.addEventListener("submit", () => {
    saved(Object.fromEntries([...inputs].map(([name, input]) => [name, valueOf(input)])));
  });
  dialog.replaceChildren(form);
  dialog.showModal();
  if (focus) inputs.get(focus).focus();
}

function inputFor({ name, kind, range }, value) {
  const common = { id: `setting-${name}`, name, value: value ?? "", autocomplete: "off" };
  if (kind === "textarea") return make("textarea", { ...common, rows: 3 });
  if (kind) return make("input", { ...common, type: kind });
  return make("input", { ...common, type: "number", ...range, inputMode: "decimal" });
}

function valueOf(input) {
  if (input.type !== "number") return input.value;
  return input.value === "" ? null : Number(input.value);
}

/** Resolves to whether the answer was yes. */
export function ask(text, yes) {
  const dialog = byId("question");
  return new Promise((resolve) => {
    const buttons = [make("button.plain", { value: "" }, "Cancel"), make("button.strong", { value: "yes" }, yes)];
    const question = make("p", { id: "question-text" }, text);
    const form = make("form", { method: "dialog" }, question, make("div.dialog-actions", {}, ...buttons));
    dialog.replaceChildren(form);
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
}
