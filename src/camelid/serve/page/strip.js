// The heat strip: a column per token, a row per layer, coloured by the expert that worked there.

import { expertColour } from "./expert_colours.js";
import { make } from "./dom.js";
import { percent, visible } from "./tokens.js";

const COLUMNS = [21, 15, 11]; // pixels, the gap of one included: the widest with which all fit, else the last
const GUTTER = 26; // for the numbers of layers
const HEIGHT = 240; // that rows share, within limits
const ROW = { least: 4, most: 20 };

export class Strip {
  /** `onpick(index)` is told which column the pointer or an arrow key is at. */
  constructor(onpick) {
    this.canvas = make("canvas");
    this.inner = make("div.strip-inner", {}, this.canvas);
    this.element = make("div.strip", { tabIndex: 0, role: "slider", "aria-label": "Tokens of the answer" }, this.inner);
    this.tokens = [];
    this.numExperts = 0;
    this.selected = this.expert = null;
    this.column = COLUMNS[0];
    this.onpick = onpick;
    this.element.addEventListener("scroll", () => this.#paint());
    this.canvas.addEventListener("pointermove", (event) => this.#pick(event));
    this.canvas.addEventListener("pointerdown", (event) => this.#pick(event));
    this.element.addEventListener("keydown", (event) => {
      const next = stepBy(event.key, this.selected, this.tokens.length);
      if (next === null) return;
      event.preventDefault();
      onpick(next);
    });
    new ResizeObserver(() => this.#paint()).observe(this.element);
    addEventListener("theme", () => this.#paint());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#paint());
  }

  /** `expert`: the one that is shown alone, or null. While an answer comes in, its end stays in view. */
  draw(tokens, numExperts, selected, expert, isLive) {
    Object.assign(this, { tokens, numExperts, expert });
    const isNew = this.selected !== selected;
    this.selected = selected;
    const { element } = this;
    const isAtEnd = element.scrollLeft + element.clientWidth >= element.scrollWidth - 2 * this.column;
    const room = element.clientWidth - GUTTER;
    this.column = COLUMNS.find((width) => width * tokens.length <= room) ?? COLUMNS.at(-1);
    this.inner.style.width = `${GUTTER + tokens.length * this.column}px`;
    Object.assign(this.canvas.dataset, { column: this.column, gutter: GUTTER });
    if (isLive && isAtEnd) element.scrollLeft = element.scrollWidth;
    if (isNew && selected !== null) this.#show(selected);
    this.#describe();
    this.#paint();
  }

  #show(index) {
    const { element } = this;
    const left = index * this.column - element.scrollLeft; // from the first column that is in view
    const room = element.clientWidth - GUTTER;
    if (left < 0 || left + this.column > room) element.scrollLeft += left - room / 2;
  }

  #describe() {
    const { tokens, selected, element } = this;
    const token = tokens[selected];
    element.setAttribute("aria-valuemin", tokens.length ? 1 : 0);
    element.setAttribute("aria-valuemax", tokens.length);
    element.setAttribute("aria-valuenow", token ? selected + 1 : 0);
    element.setAttribute("aria-valuetext", token ? describeToken(tokens, selected) : `${tokens.length} tokens`);
  }

  #pick(event) {
    const place = event.clientX - this.canvas.getBoundingClientRect().left + this.element.scrollLeft - GUTTER;
    const index = Math.floor(place / this.column);
    if (index >= 0 && index < this.tokens.length && index !== this.selected) this.onpick(index);
  }

  #paint() {
    const { canvas, element, tokens, numExperts } = this;
    const numLayers = tokens[0]?.experts.length ?? 0;
    const width = element.clientWidth;
    if (!width || !numLayers) {
      canvas.style.height = "0px";
      return;
    }
    const row = Math.max(ROW.least, Math.min(ROW.most, Math.floor(HEIGHT / numLayers)));
    const height = numLayers * row + 1;
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const style = getComputedStyle(canvas);
    const paper = canvas.getContext("2d");
    paper.scale(scale, scale);

    const first = Math.floor(element.scrollLeft / this.column);
    const last = Math.min(tokens.length, first + Math.ceil(width / this.column) + 1);
    for (let index = first; index < last; index += 1) {
      const left = GUTTER + index * this.column - element.scrollLeft;
      tokens[index].experts.forEach((chosen, layer) => {
        const box = { left, top: layer * row, width: this.column - 1, height: row - 1 };
        this.#cell(paper, box, chosen, numExperts, style.borderTopColor);
      });
    }
    if (this.selected !== null && this.selected < tokens.length) {
      paper.globalAlpha = 1;
      paper.strokeStyle = style.outlineColor;
      paper.lineWidth = 2;
      paper.strokeRect(GUTTER + this.selected * this.column - element.scrollLeft - 0.5, 0.5, this.column, height - 1.5);
    }
    this.#labels(paper, style, numLayers, row, height);
  }

  #cell(paper, { left, top, width, height }, chosen, numExperts, dense) {
    if (!chosen.length) {
      paper.globalAlpha = 1;
      paper.fillStyle = dense;
      paper.fillRect(left, top + height / 2 - 0.5, width, 1);
      return;
    }
    const share = width / chosen.length;
    chosen.forEach((expert, place) => {
      paper.globalAlpha = this.expert === null || this.expert === expert ? 1 : 0.13;
      paper.fillStyle = expertColour(expert, numExperts);
      paper.fillRect(left + place * share, top, share, height);
    });
  }

  #labels(paper, style, numLayers, row, height) {
    paper.globalAlpha = 1;
    paper.fillStyle = style.backgroundColor;
    paper.fillRect(0, 0, GUTTER - 2, height);
    paper.fillStyle = style.color;
    paper.font = `10px ${style.fontFamily}`;
    paper.textAlign = "right";
    paper.textBaseline = "middle";
    const every = [1, 2, 4, 8, 16, 32].find((step) => step * row >= 12) ?? 64;
    for (let layer = 0; layer < numLayers; layer += every) {
      paper.fillText(String(layer), GUTTER - 8, Math.max(layer * row + row / 2, 5));
    }
  }
}

/** In one line, for those who hear it. */
export function describeToken(tokens, index) {
  const { text, logprob, experts } = tokens[index];
  const chosen = experts.map((layer) => (layer.length ? layer.join(" and ") : "none")).join(", ");
  const ways = experts.some((layer) => layer.length) ? `; experts ${chosen}` : "";
  return `token ${index + 1} of ${tokens.length}: ${visible(text)}, ${percent(logprob)}${ways}`;
}

/** Where an arrow key leads from a token; null for other keys. */
export function stepBy(key, selected, count) {
  if (!count) return null;
  if (key === "ArrowRight" || key === "ArrowDown") return selected === null ? 0 : Math.min(selected + 1, count - 1);
  if (key === "ArrowLeft" || key === "ArrowUp") return selected === null ? count - 1 : Math.max(selected - 1, 0);
  if (key === "Home") return 0;
  return key === "End" ? count - 1 : null;
}
