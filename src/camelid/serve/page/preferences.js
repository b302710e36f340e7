// Small choices that outlive the page: sampling, the key, what is switched on.

const NAME = "camelid.preferences";

// Temperature and top_p are what Meta ships with the family.
const DEFAULTS = {
  temperature: 0.6,
  top_p: 0.9,
  max_tokens: 1024,
  seed: null,
  system: "",
  key: "",
  isInsideOpen: false,
  conversation: null,
};

export function loadPreferences() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(NAME) ?? "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

export function savePreferences(preferences) {
  localStorage.setItem(NAME, JSON.stringify(preferences));
}
