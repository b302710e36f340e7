// The list of conversations, and the model that answers in them. On a narrow screen it is a drawer.

import { byId, iconButton, make } from "./dom.js";

export class Sidebar {
  /** `actions`: open(id), rename(id, title), remove(id), create(). */
  constructor(actions) {
    this.actions = actions;
    this.list = byId("conversations");
    this.drawn = "";
    this.element = byId("sidebar");
    byId("new-chat").addEventListener("click", () => actions.create());
    byId("open-sidebar").addEventListener("click", () => this.toggle(true));
    byId("close-sidebar").addEventListener("click", () => this.toggle(false));
    byId("shade").addEventListener("click", () => this.toggle(false));
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.isOpen) {
        event.stopPropagation();
        this.toggle(false);
      }
    });
  }

  get isOpen() {
    return this.element.classList.contains("open");
  }

  /** The drawer of narrow screens; on wide ones this changes nothing that is seen. */
  toggle(isOpen) {
    const wasOpen = this.isOpen;
    this.element.classList.toggle("open", isOpen);
    byId("shade").hidden = !isOpen;
    byId("open-sidebar").setAttribute("aria-expanded", String(isOpen));
    if (isOpen) byId("close-sidebar").focus();
    else if (wasOpen) byId("open-sidebar").focus();
  }

  /** `titles`: [{id, title}]. What is drawn already stays, and with it the focus. */
  draw(titles, currentId) {
    const wanted = JSON.stringify([currentId, titles.map(({ id, title }) => [id, title])]);
    if (wanted === this.drawn) return;
    this.drawn = wanted;
    this.list.replaceChildren(...titles.map(({ id, title }) => this.#row(id, title, id === currentId)));
  }

  #row(id, title, isCurrent) {
    const row = make("li");
    const open = make("button.open", { type: "button", title, onclick: () => this.actions.open(id) }, title);
    if (isCurrent) open.setAttribute("aria-current", "true");
    const rename = iconButton("edit", `Rename “${title}”`, () => this.#rename(row, id, title));
    const remove = iconButton("delete", `Delete “${title}”`, () => this.actions.remove(id, title));
    row.append(open, rename, remove);
    return row;
  }

  #rename(row, id, title) {
    const before = [...row.childNodes];
    const field = make("input", { value: title, maxLength: 120, "aria-label": "Name of the conversation" });
    let isDone = false;
    const finish = (isKept) => {
      if (isDone) return;
      isDone = true;
      const name = field.value.trim();
      row.replaceChildren(...before);
      if (isKept && name && name !== title) this.actions.rename(id, name);
      else before[1].focus();
    };
    field.addEventListener("blur", () => finish(true));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") finish(true);
      else if (event.key === "Escape") {
        event.stopPropagation();
        finish(false);
      }
    });
    row.replaceChildren(field);
    field.select();
    field.focus();
  }
}

/** What is known of the model; null while nothing is. */
export function drawModelFacts(model) {
  const facts = [];
  if (model) {
    facts.push(["Model", model.id], ["Context", `${model.max_context.toLocaleString("en")} tokens`]);
    facts.push(["Weights", model.quantisation]);
    if (model.num_experts) facts.push(["Experts", `${model.num_experts} in ${model.num_layers} layers`]);
    facts.push(["Digest", model.digest.slice(0, 12)]);
  }
  const rows = facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
  byId("model-facts").replaceChildren(...rows);
  if (model) byId("model-facts").lastElementChild.title = model.digest;
}
