// Elements in one expression. Text always becomes text nodes: nothing here, or anywhere else, parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `kind` is "tag.class.class"; properties with a dash or in lower case `aria…` are attributes. */
export function make(kind, properties = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.includes("-") || name === "role" || name === "for") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** One of the icons that index.html draws. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows an icon only; the label is for those who do not see it, and for the pointer that rests. */
export function iconButton(name, label, onclick, more = {}) {
  return make("button.icon", { type: "button", title: label, "aria-label": label, onclick, ...more }, icon(name));
}

export const byId = (id) => document.getElementById(id);

/** Text to the clipboard, also where the page has no secure origin. */
export async function copyText(text) {
  if (navigator.clipboard && isSecureContext) return navigator.clipboard.writeText(text);
  const field = make("textarea.unseen", { value: text });
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

/** A button that copies what `text()` gives, and says so for a moment. */
export function copyButton(label, text) {
  const button = iconButton("copy", label, async () => {
    await copyText(text());
    button.classList.add("done");
    button.title = "Copied";
    setTimeout(() => {
      button.classList.remove("done");
      button.title = label;
    }, 1200);
  });
  return button;
}
