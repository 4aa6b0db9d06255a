/** What ComfyUI writes into its pictures: the workflow that made them, as text chunks of the PNG. */
const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

/** The workflow in a picture: as the canvas has it where it is there, else in API format; null where there is none. */
export function workflowIn(bytes: ArrayBuffer): Record<string, unknown> | null {
  const view = new DataView(bytes);
  if (bytes.byteLength < 8 || SIGNATURE.some((byte, place) => view.getUint8(place) !== byte)) return null;
  const texts = new Map<string, string>();
  for (let at = 8; at + 12 <= bytes.byteLength;) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...new Uint8Array(bytes, at + 4, 4));
    if (at + 12 + length > bytes.byteLength) break;
    const data = new Uint8Array(bytes, at + 8, length);
    if (kind === "tEXt" || kind === "iTXt") {
      const end = data.indexOf(0);
      // iTXt: key, 0, two flags, language, 0, translated key, 0, text. A compressed one is passed over.
      const start = kind === "tEXt" ? end + 1 : data.indexOf(0, data.indexOf(0, end + 3) + 1) + 1;
      if (end > 0 && (kind === "tEXt" || data[end + 1] === 0))
        texts.set(new TextDecoder().decode(data.subarray(0, end)), new TextDecoder().decode(data.subarray(start)));
    }
    at += 12 + length;
  }
  for (const key of ["workflow", "prompt"]) {
    try {
      const parsed: unknown = JSON.parse(texts.get(key) ?? "null");
      if (typeof parsed === "object" && parsed !== null) return parsed as Record<string, unknown>;
    } catch {
      continue; // not JSON: some other program's text
    }
  }
  return null;
}
