// Look inside: which experts worked for each token of an answer, and what else could have been said.

import { make } from "./dom.js";
import { expertColour } from "./expert_colours.js";
import { Strip, describeToken } from "./strip.js";
import { distribution, leastSure, loads, percent, visible } from "./tokens.js";

const MAX_ROUTE = 64; // layers whose experts are also written as numbers
const SCALES = [0.1, 0.25, 0.5, 1]; // probabilities that a full bar may stand for: the least with which all fit

export class Inside {
  /** `onselect(turn, index)` is told which token is looked at. */
  constructor(element, onselect) {
    this.element = element;
    this.onselect = onselect;
    this.turn = this.selected = this.expert = null;
    this.isPicked = false; // by the reader, and not by us
    this.numExperts = 0;
    this.strip = new Strip((index) => this.select(index));
    this.parts = {
      hint: make("p.inside-hint"),
      experts: make("p.inside-note"),
      load: make("div.load", { role: "img" }),
      token: make("h3"),
      bars: make("ol.bars"),
      route: make("div.route"),
      spoken: make("p.unseen", { role: "status", "aria-live": "polite" }),
    };
    const { hint, experts, load, token, bars, route, spoken } = this.parts;
    this.expertParts = make(
      "div",
      {},
      make("section", {}, make("h3", {}, "Experts"), experts, this.strip.element),
      make("section", {}, make("h3", {}, "Load"), load),
    );
    this.tokenPart = make("section", {}, token, bars, route);
    element.append(make("h2", {}, "Look inside"), hint, this.expertParts, this.tokenPart, spoken);
    load.addEventListener("pointerover", (event) => this.#pointAt(event, false));
    load.addEventListener("click", (event) => this.#pointAt(event, true));
    load.addEventListener("pointerleave", () => this.#showExpert(null));
  }

  /** Another answer, or the same one grown. */
  show(turn, isLive) {
    if (turn !== this.turn) {
      this.turn = turn;
      this.selected = null;
      this.isPicked = false;
    }
    if (!isLive && turn && !this.isPicked) this.#setSelected(leastSure(turn.tokens));
    this.draw(isLive);
  }

  /** Looks at one token of the answer that is shown. */
  select(index) {
    this.isPicked = true;
    this.#setSelected(index);
    this.draw(false);
    this.parts.spoken.textContent = describeToken(this.turn.tokens, index);
  }

  #setSelected(index) {
    this.selected = index;
    this.onselect(this.turn, index);
  }

  /** A finger taps a bar, and taps it again; it does not rest on one. */
  #pointAt(event, isClick) {
    if ((event.pointerType === "touch") !== isClick) return;
    const bar = event.target.closest("[data-expert]");
    const expert = bar ? Number(bar.dataset.expert) : null;
    this.#showExpert(isClick && expert === this.expert ? null : expert);
  }

  #showExpert(expert) {
    this.expert = expert;
    this.#drawStrip(false);
  }

  draw(isLive) {
    if (this.element.hidden) return;
    const tokens = this.turn?.tokens ?? [];
    const hasTokens = tokens.length > 0;
    const hasExperts = hasTokens && tokens[0].experts.some((layer) => layer.length);
    this.parts.hint.hidden = hasTokens;
    if (!hasTokens) this.parts.hint.textContent = this.#whyEmpty(isLive);
    this.expertParts.hidden = !hasExperts;
    if (hasExperts) {
      this.parts.experts.textContent = "Columns are tokens, rows are layers, colours are experts.";
      this.#drawStrip(isLive);
      this.#drawLoad(tokens);
    }
    this.#drawToken(tokens);
  }

  #whyEmpty(isLive) {
    if (isLive) return "The first token is on its way.";
    if (!this.turn) return "Ask something: this shows which experts each layer chose for every token, live.";
    return "This answer was made while nobody looked inside. Ask again to see it.";
  }

  #drawStrip(isLive) {
    this.strip.draw(this.turn?.tokens ?? [], this.numExperts, this.selected, this.expert, isLive);
  }

  #drawLoad(tokens) {
    const counts = loads(tokens, this.numExperts);
    const total = counts.reduce((sum, count) => sum + count, 0) || 1;
    const most = Math.max(...counts, 1);
    const { load } = this.parts;
    if (load.childElementCount !== counts.length) {
      load.classList.toggle("many", counts.length > 32);
      load.replaceChildren(
        ...counts.map((_, expert) => {
          const bar = make("i");
          bar.style.background = expertColour(expert, counts.length);
          const label = counts.length <= 16 ? make("small", {}, String(expert)) : null;
          const made = make("span", {}, make("b", {}, bar), label);
          made.dataset.expert = expert;
          return made;
        }),
      );
    }
    counts.forEach((count, expert) => {
      const made = load.children[expert];
      made.querySelector("i").style.height = `${(100 * count) / most}%`;
      made.title = `Expert ${expert}: ${count} of ${total} times`;
    });
    const busiest = counts.indexOf(most);
    load.setAttribute("aria-label", `Expert ${busiest} was chosen most often, ${most} of ${total} times`);
  }

  #drawToken(tokens) {
    const token = this.selected === null ? undefined : tokens[this.selected];
    this.tokenPart.hidden = !token;
    if (!token) return;
    const { rows, rest } = distribution(token);
    const scale = SCALES.find((most) => rows.every((row) => row.probability <= most)) ?? 1;
    const name = make("code", {}, visible(token.text));
    const place = this.isPicked ? `Token ${this.selected + 1} of ${tokens.length}` : "Least sure";
    const note = make("small", {}, `bars to ${100 * scale} %`);
    this.parts.token.replaceChildren(make("span", {}, place), name, note);
    const bars = rows.map((row) => bar(row, scale));
    if (rest > 0.0005) bars.push(restRow(rest));
    this.parts.bars.replaceChildren(...bars);
    const chosen = token.experts.slice(0, MAX_ROUTE).map((layer, index) => this.#routeStep(layer, index));
    const isRouted = token.experts.some((layer) => layer.length);
    this.parts.route.replaceChildren(...(isRouted ? [make("h3", {}, "Its expert in each layer"), ...chosen] : []));
  }

  #routeStep(experts, layer) {
    if (!experts.length) return make("span.dense", { title: `Layer ${layer}: dense` }, "–");
    const step = make("span", { title: `Layer ${layer}: expert ${experts.join(", ")}` }, experts.join("+"));
    step.style.borderBottomColor = expertColour(experts[0], this.numExperts);
    return step;
  }
}

function bar({ text, probability, isChosen }, scale) {
  const fill = make("i");
  fill.style.width = `${Math.min(100, Math.max((100 * probability) / scale, 0.5))}%`;
  return row(isChosen ? "li.chosen" : "li", make("code", {}, visible(text)), make("b", {}, fill), probability);
}

const restRow = (probability) => row("li.rest", make("span", {}, "all others"), make("span"), probability);

function row(kind, name, middle, probability) {
  const made = make(kind, {}, name, middle, make("span", {}, percent(Math.log(probability))));
  made.dataset.probability = probability;
  return made;
}
