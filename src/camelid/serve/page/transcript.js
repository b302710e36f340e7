// The turns of a conversation, drawn.

import { describeCounts } from "./answer.js";
import { Composer, pictureOf } from "./composer.js";
import { copyButton, iconButton, make } from "./dom.js";
import { drawMarkdown, forgetDrawn } from "./markdown.js";
import { stepBy } from "./strip.js";
import { tokenLeaf } from "./tokens.js";

const NEAR = 80; // pixels from the end that count as at the end
const ENDS = { length: "cut off at the token limit", stopped: "stopped" };

export class Transcript {
  /** `actions`: again(index), edit(index, text, files), look(turn, token), and the composer's fail and limits. */
  constructor(element, actions) {
    this.element = element;
    this.actions = actions;
    this.views = new Map(); // answer turn → what is drawn of it
    this.looked = null;
    element.addEventListener("pointerover", (event) => this.#lookAt(event.target.closest?.(".token")));
    element.addEventListener("click", (event) => this.#lookAt(event.target.closest?.(".token")));
    element.addEventListener("keydown", (event) => this.#step(event));
    element.addEventListener("focusin", (event) => this.#enter(event.target));
  }

  /** All turns; with none of them, `welcome`. */
  draw(turns, welcome) {
    this.views.clear();
    this.looked = null;
    this.element.replaceChildren(
      ...(turns.length ? turns.map((turn, index) => this.#turn(turn, index)) : [welcome]),
    );
    this.scrollToEnd();
  }

  scrollToEnd() {
    this.element.scrollTop = this.element.scrollHeight;
  }

  /** Draws what came to an answer since; keeps the end in view if it was. */
  update(turn, isRunning) {
    const view = this.views.get(turn);
    if (!view) return;
    const { element } = this;
    const isAtEnd = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
    this.#fill(view, turn, isRunning);
    if (isAtEnd) this.scrollToEnd();
  }

  /** Marks a token's text wherever it stands. */
  mark(turn, index) {
    for (const old of this.element.querySelectorAll(".token.looked")) old.classList.remove("looked");
    this.looked = { turn, index };
    const body = this.views.get(turn)?.body;
    if (index === null || !body) return;
    for (const span of body.querySelectorAll(`[data-token="${index}"]`)) span.classList.add("looked");
  }

  /** Opens a question for editing, as its button does. */
  edit(index) {
    this.element.querySelector(`[data-index="${index}"] .edit`)?.click();
  }

  #turn(turn, index) {
    const made = turn.role === "user" ? this.#question(turn, index) : this.#answer(turn, index);
    made.dataset.index = index;
    return made;
  }

  #question(turn, index) {
    const made = make("article.turn.question", { "aria-label": "You" });
    const show = () => {
      const files = turn.files.map((file) => pictureOf(file));
      const text = turn.text ? make("p.said", {}, turn.text) : null;
      const edit = iconButton("edit", "Edit the question; what came after it goes", () => {
        const composer = this.#editor(turn, index, show);
        made.replaceChildren(composer.element);
        composer.focus();
      });
      edit.classList.add("edit");
      const actions = make("div.actions", {}, copyButton("Copy the question", () => turn.text), edit);
      const shown = [files.length ? make("div.files", {}, ...files) : null, text, actions];
      made.replaceChildren(...shown.filter(Boolean));
    };
    show();
    return made;
  }

  #editor(turn, index, show) {
    const { fail, limits, edit } = this.actions;
    const cancel = () => {
      show();
      document.getElementById("message").focus();
    };
    const send = (text, files) => edit(index, text, files);
    return new Composer({ label: "Edit the question", ...turn, send, fail, limits, cancel });
  }

  #answer(turn, index) {
    const body = make("div.said.markdown");
    const facts = make("p.facts");
    const error = make("p.error", { role: "alert", hidden: true });
    const actions = make(
      "div.actions",
      {},
      copyButton("Copy the answer", () => turn.text),
      iconButton("again", "Answer again; what came after it goes", () => this.actions.again(index)),
      facts,
    );
    const made = make("article.turn.answer", { "aria-label": "Answer" }, body, error, actions);
    const view = { made, body, facts, error, turn };
    this.views.set(turn, view);
    this.#fill(view, turn, turn.finish === null);
    return made;
  }

  #fill({ made, body, facts, error }, turn, isRunning) {
    const hasTokens = turn.tokens.length > 0;
    if (hasTokens && !body.hasAttribute("tabindex")) {
      forgetDrawn(body);
      body.replaceChildren();
      body.tabIndex = 0;
      body.setAttribute("role", "group");
      body.setAttribute("aria-label", "Answer; arrow keys go from token to token");
    }
    drawMarkdown(body, turn.text, hasTokens ? tokenLeaf(turn.tokens) : undefined);
    made.classList.toggle("running", isRunning);
    made.classList.toggle("waiting", isRunning && !turn.text);
    made.setAttribute("aria-busy", String(isRunning));
    error.hidden = !turn.error;
    error.textContent = turn.error?.message ?? "";
    const words = describeCounts(turn.counts);
    if (!isRunning && ENDS[turn.finish]) words.push(ENDS[turn.finish]);
    facts.textContent = words.join(" · ");
    if (this.looked?.turn === turn) this.mark(turn, this.looked.index);
  }

  #viewOf(target) {
    const made = target?.closest?.(".answer");
    return made && [...this.views.values()].find((view) => view.made === made);
  }

  #lookAt(span) {
    const view = this.#viewOf(span);
    if (view) this.actions.look(view.turn, Number(span.dataset.token));
  }

  #enter(target) {
    const view = this.#viewOf(target);
    if (view?.body === target && this.looked?.turn !== view.turn) this.actions.look(view.turn, null);
  }

  #step(event) {
    const view = this.#viewOf(event.target);
    if (view?.body !== event.target || !view.turn.tokens.length) return;
    const selected = this.looked?.turn === view.turn ? this.looked.index : null;
    const next = stepBy(event.key, selected, view.turn.tokens.length);
    if (next === null) return;
    event.preventDefault();
    this.actions.look(view.turn, next);
  }
}
