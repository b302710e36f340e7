// The field for a question: text, pictures and clips. It stands at the foot of the page, and where a turn is edited.

import { filesIn, readAttachment } from "./attachments.js";
import { icon, iconButton, make } from "./dom.js";

export class Composer {
  /** `send(text, files)` returns whether it took them; `fail(message)` shows what went wrong. `limits()` gives
   * {maxBytes, sees}. With `cancel` it can be left; with `stop` the button stops an answer that is running. */
  constructor({ label, id, text = "", files = [], send, fail, limits, cancel, stop }) {
    Object.assign(this, { send, fail, limits, stop, files: [...files], isRunning: false });
    this.field = make("textarea", { id, rows: 1, value: text, placeholder: label, "aria-label": label });
    this.previews = make("ul.previews", { "aria-label": "Attached" });
    this.picker = make("input.unseen", { type: "file", accept: "image/*,video/*", multiple: true, tabIndex: -1 });
    this.picker.setAttribute("aria-label", "Pictures and clips");
    this.attach = iconButton("attach", "Attach pictures or clips", () => this.picker.click());
    this.submit = make("button.send", { type: "submit", "aria-label": "Send", title: "Send (Enter)" }, icon("send"));
    const leave = cancel ? make("button.plain", { type: "button", onclick: cancel }, "Cancel") : null;
    const row = make("div.composer-row", {}, this.attach, this.field, leave, this.submit);
    this.element = make("form.composer", {}, this.previews, row, this.picker);
    this.#listen(cancel);
    this.#drawFiles();
  }

  focus() {
    this.field.focus();
    this.field.setSelectionRange(this.field.value.length, this.field.value.length);
    this.fit();
  }

  /** While an answer runs, the button stops it. */
  setRunning(isRunning) {
    this.isRunning = isRunning;
    this.submit.replaceChildren(icon(isRunning ? "stop" : "send"));
    this.submit.setAttribute("aria-label", isRunning ? "Stop" : "Send");
    this.submit.title = isRunning ? "Stop (Escape)" : "Send (Enter)";
    this.#enable();
  }

  /** Whether the model takes more than text is known only later. */
  setSees(sees) {
    this.attach.hidden = !sees;
  }

  clear() {
    this.field.value = "";
    this.files = [];
    this.#drawFiles();
    this.fit();
  }

  async addFiles(files) {
    for (const file of files) {
      try {
        const { maxBytes, sees } = this.limits();
        if (!sees) throw new Error("This model reads text only.");
        this.files.push(await readAttachment(file, maxBytes));
      } catch (error) {
        this.fail(error.message);
      }
    }
    this.#drawFiles();
  }

  /** As high as its text, up to the limit that the style sheet has. */
  fit() {
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight}px`;
    this.#enable();
  }

  #listen(cancel) {
    this.field.addEventListener("input", () => this.fit());
    this.field.addEventListener("keydown", (event) => {
      // Where a character is being composed, Enter belongs to the input method.
      if (event.isComposing) return;
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        if (!this.isRunning) this.#submit();
      } else if (event.key === "Escape" && cancel) {
        event.stopPropagation();
        cancel();
      }
    });
    this.field.addEventListener("paste", (event) => {
      const files = filesIn(event.clipboardData);
      if (!files.length) return;
      event.preventDefault();
      this.addFiles(files);
    });
    this.picker.addEventListener("change", async () => {
      await this.addFiles([...this.picker.files]);
      this.picker.value = "";
      this.field.focus();
    });
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.isRunning) this.stop();
      else this.#submit();
    });
  }

  #submit() {
    const text = this.field.value.trim();
    if ((text || this.files.length) && this.send(text, this.files)) this.clear();
  }

  #enable() {
    this.submit.disabled = !this.isRunning && !this.field.value.trim() && !this.files.length;
  }

  #drawFiles() {
    this.previews.hidden = !this.files.length;
    this.previews.replaceChildren(
      ...this.files.map((file, index) => {
        const remove = iconButton("close", `Remove ${file.name}`, () => {
          this.files.splice(index, 1);
          this.#drawFiles();
          this.field.focus();
        });
        return make("li", {}, pictureOf(file, true), remove);
      }),
    );
    this.#enable();
  }
}

/** A picture or clip as it is shown; a small one has no controls. */
export function pictureOf({ kind, name, url }, isSmall = false) {
  if (url.startsWith("data:image/")) return make("img", { src: url, alt: name });
  const playing = { controls: !isSmall, muted: true, loop: true, playsInline: true };
  return make("video", { src: url, "aria-label": name, ...playing });
}
