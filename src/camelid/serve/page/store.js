// Conversations in the browser's own database; nothing of them is anywhere else.

const TITLES = "titles"; // {id, title, changed}: what the list shows
const BODIES = "conversations"; // whole ones, pictures included

/** Opens it. Where the browser has none (some private windows), conversations last as long as the page. */
export async function openStore() {
  try {
    return new DatabaseStore(await open());
  } catch {
    return new MemoryStore();
  }
}

function open() {
  const request = indexedDB.open("camelid", 1);
  request.onupgradeneeded = () => {
    for (const name of [TITLES, BODIES]) request.result.createObjectStore(name, { keyPath: "id" });
  };
  return settled(request);
}

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

class DatabaseStore {
  isLasting = true;

  constructor(database) {
    this.database = database;
  }

  /** Titles, the newest first. */
  async titles() {
    return newestFirst(await settled(this.#store(TITLES, "readonly").getAll()));
  }

  async load(id) {
    return settled(this.#store(BODIES, "readonly").get(id));
  }

  /** Throws what the browser says when there is no room. */
  async save(conversation, title) {
    const change = this.database.transaction([TITLES, BODIES], "readwrite");
    change.objectStore(TITLES).put({ id: conversation.id, title, changed: conversation.changed });
    change.objectStore(BODIES).put(conversation);
    await finished(change);
  }

  async remove(id) {
    const change = this.database.transaction([TITLES, BODIES], "readwrite");
    for (const name of [TITLES, BODIES]) change.objectStore(name).delete(id);
    await finished(change);
  }

  #store(name, mode) {
    return this.database.transaction(name, mode).objectStore(name);
  }
}

function finished(change) {
  return new Promise((resolve, reject) => {
    change.oncomplete = () => resolve();
    change.onerror = change.onabort = () => reject(change.error);
  });
}

class MemoryStore {
  isLasting = false;
  #kept = new Map();

  async titles() {
    const kept = [...this.#kept.values()].map(({ title, body }) => ({ ...JSON.parse(body), title, turns: null }));
    return newestFirst(kept);
  }

  async load(id) {
    const found = this.#kept.get(id);
    return found && JSON.parse(found.body);
  }

  async save(conversation, title) {
    this.#kept.set(conversation.id, { title, body: JSON.stringify(conversation) });
  }

  async remove(id) {
    this.#kept.delete(id);
  }
}

const newestFirst = (titles) => titles.sort((one, other) => other.changed - one.changed);
