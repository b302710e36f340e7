// Markdown into blocks. Every character keeps its place in the source, so that tokens can be found again.

const FENCE = /^ {0,3}(`{3,}|~{3,}) *([\w+#.-]*)/;
const HEADING = /^ {0,3}(#{1,6})(?: +|$)/;
const RULE = /^ {0,3}([-*_])(?: *\1){2,} *$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?: +|$)/;
const TABLE_RULE = /^ {0,3}\|?(?: *:?-+:? *\|)+(?: *:?-+:? *)?$|^ {0,3}\| *:?-+:? *$/;
const MAX_DEPTH = 8;

/** Lines {text, at}: `at` is the place of their first character in the source. */
export function linesOf(source) {
  const lines = [];
  let at = 0;
  for (const text of source.split("\n")) {
    lines.push({ text: text.replace(/\r$/, ""), at });
    at += text.length + 1;
  }
  return lines;
}

/** Blocks {kind, from, to, …}: `from` and `to` count lines. Paragraphs, headings and cells have `lines`;
 * code has `lines` and `language`; quotes and items have `blocks`; lists have `items`; tables have `rows`. */
export function blocksOf(lines, depth = 0) {
  const blocks = [];
  let next = 0;
  while (next < lines.length) {
    if (!lines[next].text.trim()) {
      next += 1;
      continue;
    }
    const block = blockAt(lines, next, depth);
    block.from = next;
    next = block.to;
    blocks.push(block);
  }
  return blocks;
}

function blockAt(lines, start, depth) {
  const { text } = lines[start];
  const fence = FENCE.exec(text);
  if (fence && !(fence[1][0] === "`" && text.includes("`", fence[0].length))) return code(lines, start, fence);
  const heading = HEADING.exec(text);
  if (heading) return headingAt(lines, start, heading);
  if (RULE.test(text)) return { kind: "rule", to: start + 1 };
  if (depth < MAX_DEPTH && QUOTE.test(text)) return quote(lines, start, depth);
  if (depth < MAX_DEPTH && ITEM.test(text)) return list(lines, start, depth);
  if (isTable(lines, start)) return table(lines, start);
  return paragraph(lines, start, depth);
}

function code(lines, start, fence) {
  const closing = fence[1];
  let end = start + 1;
  while (end < lines.length && !closes(lines[end].text, closing)) end += 1;
  const to = Math.min(end + 1, lines.length); // still open at the end of what has come: code as well
  return { kind: "code", language: fence[2], lines: lines.slice(start + 1, end), isClosed: end < lines.length, to };
}

function closes(text, fence) {
  const trimmed = text.trim();
  return trimmed.length >= fence.length && trimmed === fence[0].repeat(trimmed.length);
}

function headingAt(lines, start, match) {
  const { text, at } = lines[start];
  const rest = text.slice(match[0].length).trimEnd();
  const bare = rest.replace(/#+$/, "");
  const title = bare.endsWith(" ") || !bare ? bare.trimEnd() : rest;
  return { kind: "heading", level: match[1].length, lines: [{ text: title, at: at + match[0].length }], to: start + 1 };
}

function quote(lines, start, depth) {
  const inner = [];
  let next = start;
  for (; next < lines.length; next += 1) {
    const mark = QUOTE.exec(lines[next].text);
    if (!mark && (!lines[next].text.trim() || beginsBlock(lines, next, depth))) break;
    inner.push(cut(lines[next], mark ? mark[0].length : 0));
  }
  return { kind: "quote", blocks: blocksOf(inner, depth + 1), to: next };
}

function list(lines, start, depth) {
  const isOrdered = /\d/.test(ITEM.exec(lines[start].text)[2]);
  const items = [];
  let next = start;
  while (next < lines.length) {
    const mark = ITEM.exec(lines[next].text);
    if (!mark || /\d/.test(mark[2]) !== isOrdered || RULE.test(lines[next].text)) break;
    const width = mark[0].length;
    const inner = [cut(lines[next], width)];
    for (next += 1; next < lines.length; next += 1) {
      const { text } = lines[next];
      const indent = text.length - text.trimStart().length;
      const isBlank = !text.trim();
      // Two spaces are enough for what belongs to an item: models are not exact about it.
      const isOther = () => ITEM.test(text) || beginsBlock(lines, next, depth) || isBlankLine(lines, next - 1);
      if (!isBlank && indent < 2 && isOther()) break;
      inner.push(cut(lines[next], Math.min(indent, width)));
    }
    items.push({ blocks: blocksOf(inner, depth + 1), to: next });
  }
  const first = parseInt(ITEM.exec(lines[start].text)[2], 10);
  return { kind: "list", isOrdered, first, items, to: next };
}

function isTable(lines, start) {
  const rule = lines[start + 1]?.text;
  return Boolean(rule && rule.length < 1000 && lines[start].text.includes("|") && TABLE_RULE.test(rule));
}

function table(lines, start) {
  const rows = [cells(lines[start])];
  const alignments = cells(lines[start + 1]).map(({ text }) =>
    /^:-+:$/.test(text) ? "center" : /-:$/.test(text) ? "right" : "left",
  );
  let next = start + 2;
  for (; next < lines.length && lines[next].text.includes("|"); next += 1) rows.push(cells(lines[next]));
  return { kind: "table", rows, alignments, to: next };
}

function cells({ text, at }) {
  const found = [];
  let from = 0;
  for (let index = 0; index <= text.length; index += 1) {
    if (index < text.length && (text[index] !== "|" || text[index - 1] === "\\")) continue;
    const raw = text.slice(from, index);
    const isEdge = !raw.trim() && (from === 0 || index === text.length);
    if (!isEdge) found.push({ text: raw.trim(), at: at + from + raw.length - raw.trimStart().length });
    from = index + 1;
  }
  return found;
}

function paragraph(lines, start, depth) {
  let next = start + 1;
  while (next < lines.length && lines[next].text.trim() && !beginsBlock(lines, next, depth)) next += 1;
  const own = lines.slice(start, next).map((line) => cut(line, line.text.length - line.text.trimStart().length));
  return { kind: "paragraph", lines: own, to: next };
}

/** Whether a line ends the paragraph before it. */
function beginsBlock(lines, index, depth) {
  const { text } = lines[index];
  if (FENCE.test(text) || HEADING.test(text) || RULE.test(text)) return true;
  if (depth < MAX_DEPTH && (QUOTE.test(text) || /^ {0,3}([-*+]|1[.)]) /.test(text))) return true;
  return isTable(lines, index);
}

const isBlankLine = (lines, index) => !lines[index].text.trim();
const cut = (line, width) => ({ text: line.text.slice(width), at: line.at + width });
