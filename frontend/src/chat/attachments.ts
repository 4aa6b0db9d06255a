/** What can be attached: pictures, text files and PDFs, by the picker, pasted or dropped. */
import type { AttachmentAdapter, CompleteAttachment, PendingAttachment } from "@assistant-ui/react";
import { newId } from "../app/ids";
import { notify } from "../app/notices";
import { addressOfText, decode, isTextFile } from "./textFiles";

const MEGABYTE = 1024 * 1024;
const MAX_BYTES = 8 * MEGABYTE;
const MAX_TEXT_BYTES = MEGABYTE;
const PICTURES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const PDF = "application/pdf";
const POSSIBLE = "Pictures (PNG, JPEG, GIF, WebP), PDFs and text files such as Markdown, CSV or code can be attached.";

/** Why a file cannot be attached; null where it can. */
async function problemWith(file: File): Promise<string | null> {
  const isPicture = PICTURES.includes(file.type);
  const isText = !isPicture && file.type !== PDF && isTextFile(file);
  if (!isPicture && !isText && file.type !== PDF) return `${file.name} cannot be attached. ${POSSIBLE}`;
  if (file.size === 0) return `${file.name} is empty. Attach a file with something in it.`;
  const most = isText ? MAX_TEXT_BYTES : MAX_BYTES;
  if (file.size > most)
    return `${file.name} is larger than ${most / MEGABYTE} MB. Make it smaller and attach it again.`;
  if (isText && decode(await file.arrayBuffer()) === null)
    return `${file.name} is named like a text file, but is none. ${POSSIBLE}`;
  return null;
}

function dataOf(file: File): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(new Error(`${file.name} cannot be read. Attach it again.`));
    reader.readAsDataURL(file);
  });
}

/** Takes every file, and says of those that cannot be attached why: by all ways alike. */
class Attachments implements AttachmentAdapter {
  accept = "*";

  async add({ file }: { file: File }): Promise<PendingAttachment> {
    const problem = await problemWith(file);
    if (problem !== null) {
      notify(problem, { isError: true });
      throw new Error(problem);
    }
    return {
      id: newId(),
      type: PICTURES.includes(file.type) ? "image" : "document",
      name: file.name,
      contentType: file.type,
      file,
      status: { type: "requires-action", reason: "composer-send" },
    };
  }

  async remove(): Promise<void> {}

  async send(attachment: PendingAttachment): Promise<CompleteAttachment> {
    return {
      ...attachment,
      status: { type: "complete" },
      content: [await this.#part(attachment.file)],
    };
  }

  async #part(file: File): Promise<CompleteAttachment["content"][number]> {
    if (PICTURES.includes(file.type)) return { type: "image", image: await dataOf(file), filename: file.name };
    if (file.type === PDF) return { type: "file", data: await dataOf(file), mimeType: PDF, filename: file.name };
    const text = decode(await file.arrayBuffer()) ?? "";
    return { type: "file", data: addressOfText(text), mimeType: "text/plain", filename: file.name };
  }
}

export const attachments: AttachmentAdapter = new Attachments();
