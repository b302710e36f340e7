// Markdown as elements. Text goes into text nodes and nowhere else: what looks like HTML is shown as it was written.

import { copyButton, make } from "./dom.js";
import { blocksOf, linesOf } from "./markdown_blocks.js";
import { spansOf } from "./markdown_spans.js";

const drawn = new WeakMap(); // element → the sources of its blocks, so that only what changed is drawn again

/** Draws the source into the element. `leaf(parent, text, offsets)` appends text; `offsets[i]` is the place of
 * character i in the source. */
export function drawMarkdown(element, source, leaf = plainLeaf) {
  const lines = linesOf(source);
  const blocks = blocksOf(lines);
  const sources = blocks.map((block) => sourceOf(lines, block));
  const before = drawn.get(element) ?? [];
  let same = 0;
  while (same < sources.length && same < before.length && sources[same] === before[same]) same += 1;
  while (element.childNodes.length > same) element.lastChild.remove();
  for (const block of blocks.slice(same)) element.append(elementOf(block, leaf));
  drawn.set(element, sources);
}

/** Draws everything anew the next time. */
export function forgetDrawn(element) {
  drawn.delete(element);
}

const plainLeaf = (parent, text) => parent.append(text);

function sourceOf(lines, { from, to, kind, isClosed }) {
  const text = lines.slice(from, to).map((line) => line.text);
  return `${kind} ${isClosed} ${lines[from].at}\n${text.join("\n")}`;
}

function elementOf(block, leaf) {
  switch (block.kind) {
    case "code":
      return codeBlock(block, leaf);
    case "rule":
      return make("hr");
    case "heading":
      // The page's own title is the first level.
      return inline(make(`h${Math.min(block.level + 1, 6)}`), block.lines, leaf);
    case "quote":
      return make("blockquote", {}, ...block.blocks.map((inner) => elementOf(inner, leaf)));
    case "list":
      return list(block, leaf);
    case "table":
      return table(block, leaf);
    default:
      return inline(make("p"), block.lines, leaf);
  }
}

function codeBlock(block, leaf) {
  const text = block.lines.map((line) => line.text).join("\n");
  const code = make("code");
  leaf(code, text, offsetsOf(block.lines));
  const copy = copyButton("Copy the code", () => text);
  const head = make("figcaption", {}, make("span", {}, block.language || "text"), copy);
  return make("figure.code", {}, head, make("pre", { tabIndex: 0 }, code));
}

function list({ isOrdered, first, items }, leaf) {
  const made = make(isOrdered ? "ol" : "ul");
  if (isOrdered && first !== 1) made.start = first;
  for (const { blocks } of items) {
    const item = make("li");
    const isShort = blocks.filter(({ kind }) => kind === "paragraph").length < 2;
    for (const block of blocks) {
      if (isShort && block.kind === "paragraph") inline(item, block.lines, leaf);
      else item.append(elementOf(block, leaf));
    }
    made.append(item);
  }
  return made;
}

function table({ rows, alignments }, leaf) {
  const [head, ...body] = rows.map((row, index) => {
    const cells = row.slice(0, alignments.length).map((cell, column) => {
      const made = make(`${index ? "td" : "th"}.${alignments[column]}`);
      return inline(made, [cell], leaf);
    });
    return make("tr", {}, ...cells);
  });
  const made = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  return make("div.wide-table", { tabIndex: 0 }, made);
}

function inline(parent, lines, leaf) {
  const text = lines.map((line) => line.text).join("\n");
  drawSpans(parent, spansOf(text), text, offsetsOf(lines), leaf);
  return parent;
}

function offsetsOf(lines) {
  const offsets = [];
  for (const { text, at } of lines) {
    for (let index = 0; index <= text.length; index += 1) offsets.push(at + index); // the line's end included
  }
  return offsets;
}

function drawSpans(parent, spans, text, offsets, leaf) {
  for (const span of spans) {
    const { kind, from, to } = span;
    if (kind === "text") leaf(parent, text.slice(from, to), offsets.slice(from, to));
    else if (kind === "break") parent.append(make("br"));
    else if (kind === "plain") drawSpans(parent, span.spans, text, offsets, leaf);
    else {
      const link = { href: span.href, target: "_blank", rel: "noopener noreferrer" };
      const made = kind === "link" ? make("a", link) : make(kind);
      if (kind === "code") leaf(made, text.slice(from, to), offsets.slice(from, to));
      else drawSpans(made, span.spans, text, offsets, leaf);
      parent.append(made);
    }
  }
}
