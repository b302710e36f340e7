// The page: puts its parts together and holds what is going on.

import { emptyAnswer, fillAnswer } from "./answer.js";
import { checkRequest, takeDrops } from "./attachments.js";
import { Composer } from "./composer.js";
import { cutFrom, newConversation, question, requestBody, titleOf } from "./conversation.js";
import { ask, openSettings } from "./dialogs.js";
import { byId, make } from "./dom.js";
import { Inside } from "./inside.js";
import { loadPreferences, savePreferences } from "./preferences.js";
import { fetchModel } from "./server.js";
import { Sidebar, drawModelFacts } from "./sidebar.js";
import { openStore } from "./store.js";
import { Transcript } from "./transcript.js";

const SAVE_EVERY_MS = 5000;

class App {
  constructor() {
    this.preferences = loadPreferences();
    this.model = null;
    this.conversation = newConversation();
    this.running = null; // {turn, conversation, controller}
    this.removed = new Set(); // ids that an answer still on its way must not bring back
    const shared = { fail: (message) => this.notify(message), limits: () => this.limits() };
    this.composer = new Composer({
      ...shared,
      id: "message",
      label: "Ask something",
      send: (text, files) => this.ask(text, files),
      stop: () => this.stop(),
    });
    byId("composer").replaceWith(this.composer.element);
    this.sidebar = new Sidebar({
      open: (id) => this.open(id),
      create: () => this.create(),
      rename: (id, title) => this.rename(id, title),
      remove: (id, title) => this.remove(id, title),
    });
    this.transcript = new Transcript(byId("transcript"), {
      ...shared,
      again: (index) => this.again(index),
      edit: (index, text, files) => this.edit(index, text, files),
      look: (turn, token) => this.look(turn, token),
    });
    this.inside = new Inside(byId("inside"), (turn, index) => this.transcript.mark(turn, index));
    this.#listen();
    this.setInside(this.preferences.isInsideOpen);
  }

  async start() {
    this.store = await openStore();
    if (!this.store.isLasting) this.notify("This browser keeps nothing: conversations last until the page is closed.");
    const last = this.preferences.conversation;
    if (last) this.conversation = (await this.store.load(last)) ?? this.conversation;
    this.#settle(this.conversation);
    await Promise.all([this.loadModel(), this.drawTitles()]);
    this.drawConversation();
    this.composer.focus();
  }

  async loadModel() {
    try {
      this.model = await fetchModel(this.preferences.key);
      this.inside.numExperts = this.model.num_experts;
      this.composer.setSees(this.limits().sees);
      byId("notice").hidden = true;
    } catch (error) {
      this.model = null;
      if (error.status === 401) this.askForKey();
      else this.notify(error.message);
    }
    drawModelFacts(this.model);
    if (!this.conversation.turns.length) this.drawConversation();
    this.drawContext();
  }

  limits() {
    return {
      maxBytes: this.model?.max_body_bytes ?? Infinity,
      sees: this.model?.input_modalities.includes("image") ?? true,
    };
  }

  /** Takes a question, if it can be asked now. */
  ask(text, files) {
    return this.#begin((conversation) => conversation.turns.push(question(text, files)));
  }

  edit(index, text, files) {
    return this.#begin((conversation) => {
      cutFrom(conversation, index);
      conversation.turns.push(question(text, files));
    });
  }

  again(index) {
    this.#begin((conversation) => cutFrom(conversation, index));
  }

  /** Changes the conversation and asks for the next answer; undoes the change and returns false if that cannot be. */
  #begin(change) {
    if (!this.model) {
      this.loadModel();
      return false;
    }
    this.stop();
    const { conversation } = this;
    const before = [...conversation.turns];
    change(conversation);
    const body = requestBody(conversation, this.model, this.preferences, this.preferences.isInsideOpen);
    try {
      checkRequest(body, this.model.max_body_bytes);
    } catch (error) {
      conversation.turns = before;
      this.notify(error.message);
      return false;
    }
    byId("notice").hidden = true;
    this.#answer(conversation, body);
    return true;
  }

  async #answer(conversation, body) {
    const turn = emptyAnswer();
    const running = { turn, conversation, controller: new AbortController() };
    conversation.turns.push(turn);
    conversation.changed = Date.now();
    this.running = running;
    this.composer.setRunning(true);
    this.drawConversation();
    this.save(conversation);
    this.say("Answering");
    const saving = setInterval(() => this.save(conversation), SAVE_EVERY_MS);
    let isDue = false;
    const draw = () => {
      isDue = false;
      if (this.running === running) this.#drawAnswer(turn, true);
    };
    await fillAnswer(turn, body, this.preferences.key, running.controller.signal, () => {
      if (!isDue) requestAnimationFrame(draw);
      isDue = true;
    });
    clearInterval(saving);
    if (this.running === running) {
      this.running = null;
      this.composer.setRunning(false);
    }
    this.#drawAnswer(turn, false);
    this.drawContext();
    this.say(turn.error ? turn.error.message : turn.text);
    if (turn.error?.status === 401) this.askForKey();
    await this.save(conversation);
  }

  #drawAnswer(turn, isRunning) {
    this.transcript.update(turn, isRunning);
    if (this.conversation.turns.at(-1) === turn) this.inside.show(turn, isRunning);
  }

  stop() {
    this.running?.controller.abort();
    if (this.running) this.running.turn.finish = "stopped";
    this.running = null;
    this.composer.setRunning(false);
  }

  /** Looks at a token of any answer. */
  look(turn, token) {
    if (!this.preferences.isInsideOpen) return;
    const isLive = this.running?.turn === turn;
    if (this.inside.turn !== turn) this.inside.show(turn, isLive);
    if (token !== null) this.inside.select(token);
  }

  setInside(isOpen) {
    this.preferences.isInsideOpen = isOpen;
    savePreferences(this.preferences);
    byId("inside").hidden = !isOpen;
    byId("inside-switch").setAttribute("aria-pressed", String(isOpen));
    document.body.classList.toggle("is-inside", isOpen);
    if (isOpen) this.#showLastInside();
    else this.transcript.mark(null, null);
  }

  #showLastInside() {
    const last = this.conversation.turns.findLast((turn) => turn.role === "assistant") ?? null;
    this.inside.show(last, this.running !== null && this.running.turn === last);
  }

  async open(id) {
    this.sidebar.toggle(false);
    if (id === this.conversation.id) return;
    this.stop();
    const found = await this.store.load(id);
    if (found) this.#setConversation(found);
  }

  create() {
    this.sidebar.toggle(false);
    this.stop();
    if (this.conversation.turns.length) this.#setConversation(newConversation());
    this.composer.focus();
  }

  #setConversation(conversation) {
    this.conversation = conversation;
    this.#settle(conversation);
    this.drawConversation();
    this.#keepCurrent();
    this.drawTitles();
  }

  /** An answer that the page was left in the middle of has ended there. */
  #settle(conversation) {
    for (const turn of conversation.turns) if (turn.role === "assistant") turn.finish ??= "stopped";
  }

  async rename(id, title) {
    const found = id === this.conversation.id ? this.conversation : await this.store.load(id);
    if (!found) return;
    Object.assign(found, { title, isNamed: true });
    await this.save(found);
    if (found === this.conversation) this.drawTitle();
  }

  async remove(id, title) {
    if (!(await ask(`Delete “${title}”? It is nowhere else.`, "Delete"))) return;
    this.removed.add(id);
    await this.store.remove(id);
    if (id === this.conversation.id) {
      this.stop();
      this.#setConversation(newConversation());
    } else this.drawTitles();
  }

  async save(conversation) {
    if (this.removed.has(conversation.id)) return;
    try {
      await this.store.save(conversation, titleOf(conversation));
    } catch (error) {
      this.notify(`The browser could not keep this conversation: ${error?.message ?? "no room"}`);
    }
    if (conversation === this.conversation) this.#keepCurrent();
    await this.drawTitles();
  }

  #keepCurrent() {
    this.preferences.conversation = this.conversation.id;
    savePreferences(this.preferences);
  }

  drawConversation() {
    this.transcript.draw(this.conversation.turns, this.#welcome());
    this.drawTitle();
    this.drawContext();
    this.#showLastInside();
  }

  #welcome() {
    const sees = this.limits().sees;
    return make(
      "div.welcome",
      {},
      make("h2", {}, this.model ? `Talk to ${this.model.id}` : "Camelid"),
      make("p", {}, sees ? "Ask something, or drop a picture or a clip." : "Ask something."),
      make("p.soft", {}, "Conversations stay in this browser."),
    );
  }

  drawTitle() {
    const title = titleOf(this.conversation);
    byId("title").textContent = title;
    document.title = this.conversation.turns.length ? `${title} · Camelid` : "Camelid";
  }

  async drawTitles() {
    this.sidebar.draw(await this.store.titles(), this.conversation.id);
  }

  /** How much of the context the conversation has used, by the last answer that the server counted. */
  drawContext() {
    const used = this.conversation.turns.findLast((turn) => turn.counts?.total)?.counts.total;
    byId("context").hidden = !used || !this.model;
    if (!used || !this.model) return;
    const most = this.model.max_context;
    byId("context-text").textContent = `${used.toLocaleString("en")} of ${most.toLocaleString("en")} tokens of context`;
    byId("context-meter").value = used / most;
  }

  askForKey() {
    this.openSettings("key", "This server wants an API key.");
  }

  openSettings(focus, note) {
    const saved = (values) => {
      const isNewKey = values.key !== this.preferences.key;
      Object.assign(this.preferences, values);
      savePreferences(this.preferences);
      if (isNewKey || !this.model) this.loadModel();
    };
    openSettings(this.preferences, saved, focus, note);
  }

  notify(message) {
    byId("notice").textContent = message;
    byId("notice").hidden = false;
  }

  /** For those who hear the page. */
  say(text) {
    byId("status").textContent = text;
  }

  #listen() {
    byId("open-settings").addEventListener("click", () => this.openSettings());
    byId("inside-switch").addEventListener("click", () => this.setInside(!this.preferences.isInsideOpen));
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.running && !document.querySelector("dialog[open]")) this.stop();
      const isFree = !/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName) && !event.ctrlKey && !event.metaKey;
      if (event.key === "/" && isFree && !document.querySelector("dialog[open]")) {
        event.preventDefault();
        this.composer.focus();
      }
    });
    this.composer.field.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowUp" || this.composer.field.value || this.running) return;
      event.preventDefault();
      this.transcript.edit(this.conversation.turns.findLastIndex((turn) => turn.role === "user"));
    });
    takeDrops(byId("drop"), (files) => {
      this.composer.addFiles(files);
      this.composer.focus();
    });
  }
}

await new App().start();
