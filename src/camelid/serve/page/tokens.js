// Where tokens lie in an answer, and how they are named.

/** The index of the token whose text holds the place `offset`; the last one for what comes after all. */
export function tokenAt(tokens, offset) {
  let low = 0;
  let high = tokens.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tokens[middle].end > offset) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** A leaf for `drawMarkdown` that puts each token's text into a span of its own. */
export function tokenLeaf(tokens) {
  return (parent, text, offsets) => {
    let from = 0;
    while (from < text.length) {
      const token = tokenAt(tokens, offsets[from]);
      let to = from + 1;
      while (to < text.length && offsets[to] < tokens[token].end) to += 1;
      if (token === tokens.length - 1) to = text.length;
      const span = document.createElement("span");
      span.className = "token";
      span.dataset.token = token;
      span.textContent = text.slice(from, to);
      parent.append(span);
      from = to;
    }
  };
}

/** A token's text with what cannot be seen made visible. */
export function visible(text) {
  if (!text) return "∅";
  return text.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/[\u0000-\u001f\u007f]/g, "�");
}

/** Of a logarithm, in per cent. */
export function percent(logprob) {
  const value = Math.exp(logprob) * 100;
  if (value >= 99.95) return "100 %";
  return value < 0.1 ? "< 0.1 %" : `${value.toFixed(1)} %`;
}

/** The token that the model was least sure of; null where there is none. */
export function leastSure(tokens) {
  if (!tokens.length) return null;
  return tokens.reduce((least, token, index) => (token.logprob < tokens[least].logprob ? index : least), 0);
}

/** The likeliest alternatives with what was said among them, and the probability of all others together.
 * Rows {text, probability, isChosen}. */
export function distribution(token) {
  const rows = token.alternatives.map(([text, logprob]) => ({
    text,
    probability: Math.exp(logprob),
    isChosen: text === token.text && Math.abs(logprob - token.logprob) < 1e-9,
  }));
  if (!rows.some((row) => row.isChosen)) {
    rows.push({ text: token.text, probability: Math.exp(token.logprob), isChosen: true });
  }
  const rest = Math.max(0, 1 - rows.reduce((sum, row) => sum + row.probability, 0));
  return { rows, rest };
}

/** How often each expert was chosen, over all layers. */
export function loads(tokens, numExperts) {
  const counts = new Array(numExperts).fill(0);
  for (const { experts } of tokens) for (const layer of experts) for (const expert of layer) counts[expert] += 1;
  return counts;
}
