// Pictures and clips on their way from a file to a data URL.

const CLIP_ENDINGS = { mp4: "mp4", m4v: "mp4", mov: "quicktime", webm: "webm", mkv: "x-matroska", avi: "x-msvideo" };

/** {kind, name, url}. Throws an Error to show: not a picture or clip, or more than a request may have. */
export async function readAttachment(file, maxBytes) {
  const type = file.type || guessedType(file.name);
  if (!/^(image|video)\//.test(type)) throw new Error(`${file.name} is neither a picture nor a clip.`);
  const encoded = Math.ceil(file.size / 3) * 4;
  if (encoded > maxBytes) {
    throw new Error(`${file.name} has ${megabytes(encoded)} on the wire, and the server takes ${megabytes(maxBytes)}.`);
  }
  const bytes = new Uint8Array(await file.arrayBuffer());
  const isClip = type.startsWith("video/") || isAnimated(bytes);
  return { kind: isClip ? "video" : "image", name: file.name || "picture", url: await dataUrl(bytes, type) };
}

/** Throws an Error to show if the whole request is more than the server takes. */
export function checkRequest(body, maxBytes) {
  const size = new Blob([body]).size;
  if (size > maxBytes) {
    throw new Error(
      `With its pictures and clips this conversation has ${megabytes(size)}, and the server takes ` +
        `${megabytes(maxBytes)}. Remove some, or begin a new conversation.`,
    );
  }
}

/** The files of a paste or a drop. */
export function filesIn(transfer) {
  return [...(transfer?.files ?? [])];
}

/** Whatever is dropped anywhere on the page; the sign is shown while something hovers over it. */
export function takeDrops(sign, taken) {
  addEventListener("dragover", (event) => {
    event.preventDefault();
    sign.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) sign.hidden = true;
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    sign.hidden = true;
    taken(filesIn(event.dataTransfer));
  });
}

export const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 1)} MB`;

function guessedType(name) {
  const ending = CLIP_ENDINGS[name.split(".").pop().toLowerCase()];
  return ending ? `video/${ending}` : "";
}

/** GIF with a loop, WebP with ANIM, PNG with acTL: all say so near their beginning. */
function isAnimated(bytes) {
  const start = String.fromCharCode(...bytes.subarray(0, 1024));
  if (start.startsWith("GIF8")) return start.includes("NETSCAPE2.0");
  if (start.startsWith("RIFF")) return start.slice(8, 16) === "WEBPVP8X" && start.includes("ANIM");
  return start.startsWith("\x89PNG") && start.includes("acTL");
}

function dataUrl(bytes, type) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("The file could not be read."));
    // Parameters such as codecs are not part of what the server reads.
    reader.readAsDataURL(new Blob([bytes], { type: type.split(";")[0] }));
  });
}
