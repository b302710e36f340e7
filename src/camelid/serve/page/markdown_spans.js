// The inside of a line of Markdown: emphasis, code, links.

const MAX_DEPTH = 8;
const MARKS = { "**": "strong", __: "strong", "~~": "del", "*": "em", _: "em" };
const SAFE = /^(https?:\/\/|mailto:)[^\s<>"]+$/i;
const BARE = /https?:\/\/[^\s<>"'`*\\)\]]+/iy;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}]/u;
const MAX_LINK = 2000;

/** Spans {kind: "text" | "code", from, to}, {kind: "strong" | "em" | "del" | "link" | "plain", spans, href} and
 * {kind: "break", from}; `from` and `to` are places in the text. */
export function spansOf(text, from = 0, to = text.length, depth = 0) {
  const spans = [];
  const hopeless = new Set(); // marks that nothing closes from here on: looked for once only
  let plain = from;
  let index = from;

  const flush = (end) => {
    if (end > plain) spans.push({ kind: "text", from: plain, to: end });
  };
  const add = (span, next) => {
    flush(index);
    spans.push(span);
    plain = index = next;
  };

  while (index < to) {
    const character = text[index];
    if (character === "\n") add({ kind: "break", from: index }, index + 1);
    else if (character === "\\" && index + 1 < to && ESCAPABLE.test(text[index + 1])) {
      flush(index);
      plain = index + 1;
      index += 2;
    } else if (character === "`") {
      const code = codeAt(text, index, to);
      if (code.to) add({ kind: "code", from: code.from, to: code.to }, code.next);
      else index = code.next;
    } else if ((character === "[" || (character === "!" && text[index + 1] === "[")) && depth < MAX_DEPTH) {
      const link = linkAt(text, index, to, depth);
      if (link) add(link.span, link.next);
      else index += 1;
    } else if (character === "h" || character === "H") {
      const link = bareAt(text, index, to, depth);
      if (link) add(link.span, link.next);
      else index += 1;
    } else if ("*_~".includes(character) && depth < MAX_DEPTH) {
      const marked = markedAt(text, index, to, depth, hopeless);
      if (marked?.span) add(marked.span, marked.next);
      else index += marked?.skip ?? 1;
    } else index += 1;
  }
  flush(to);
  return spans;
}

function codeAt(text, start, to) {
  let from = start;
  while (from < to && text[from] === "`") from += 1;
  const ticks = text.slice(start, from);
  for (let end = text.indexOf(ticks, from); end >= 0 && end + ticks.length <= to; ) {
    let next = end;
    while (text[next] === "`") next += 1;
    if (next - end === ticks.length) return { from, to: end, next };
    end = text.indexOf(ticks, next);
  }
  return { next: from };
}

function linkAt(text, start, to, depth) {
  const from = start + (text[start] === "!" ? 2 : 1);
  const limit = Math.min(to, from + MAX_LINK);
  let level = 1;
  let end = from;
  for (; end < limit; end += 1) {
    if (text[end] === "\\") end += 1;
    else if (text[end] === "[") level += 1;
    else if (text[end] === "]" && --level === 0) break;
  }
  if (end >= limit || text[end + 1] !== "(") return null;
  const close = text.indexOf(")", end + 2);
  if (close < 0 || close >= Math.min(to, end + MAX_LINK)) return null;
  const href = text.slice(end + 2, close).trim().split(/\s/)[0];
  // What leads elsewhere than to the web or to a mailbox is not a link; a picture is only ever a link to it.
  const span = { kind: SAFE.test(href) ? "link" : "plain", href, spans: spansOf(text, from, end, depth + 1) };
  return { span, next: close + 1 };
}

function bareAt(text, start, to, depth) {
  if (depth && WORD.test(text[start - 1] ?? "")) return null;
  BARE.lastIndex = start;
  const href = BARE.exec(text)?.[0].slice(0, to - start).replace(/[.,:;!?]+$/, "");
  if (!href || !SAFE.test(href)) return null;
  const next = start + href.length;
  return { span: { kind: "link", href, spans: [{ kind: "text", from: start, to: next }] }, next };
}

function markedAt(text, start, to, depth, hopeless) {
  const double = text.slice(start, start + 2);
  const mark = MARKS[double] ? double : text[start];
  if (!MARKS[mark]) return null;
  const from = start + mark.length;
  const opens = from < to && !/\s/.test(text[from]) && !(mark[0] === "_" && WORD.test(text[start - 1] ?? ""));
  if (!opens || hopeless.has(mark)) return { skip: mark.length };
  const end = closing(text, from, to, mark);
  if (end < 0) {
    hopeless.add(mark);
    return { skip: mark.length };
  }
  return { span: { kind: MARKS[mark], spans: spansOf(text, from, end, depth + 1) }, next: end + mark.length };
}

function closing(text, from, to, mark) {
  for (let end = text.indexOf(mark, from + 1); end >= 0 && end + mark.length <= to; end = text.indexOf(mark, end + 1)) {
    if (/[\s\\]/.test(text[end - 1])) continue;
    const after = end + mark.length < to ? text[end + mark.length] : "";
    if (mark.length === 1 && (after === mark || (end > from && text[end - 1] === mark))) continue;
    if (mark.length === 2 && after === mark[0] && end + 3 <= to) return end + 1; // ***: the inner one closes first
    if (mark[0] === "_" && WORD.test(after)) continue;
    return end;
  }
  return -1;
}
