/** What can be attached: pictures, text files and PDFs, by the picker, pasted or dropped. */
import {
  CompositeAttachmentAdapter,
  SimpleImageAttachmentAdapter,
  SimpleTextAttachmentAdapter,
  type AttachmentAdapter,
  type CompleteAttachment,
  type PendingAttachment,
} from "@assistant-ui/react";
import { newId } from "../app/ids";
import { notify } from "../app/notices";

const MAX_BYTES = 8 * 1024 * 1024;

class PdfAdapter implements AttachmentAdapter {
  accept = "application/pdf";

  async add({ file }: { file: File }): Promise<PendingAttachment> {
    return {
      id: newId(),
      type: "document",
      name: file.name,
      contentType: file.type,
      file,
      status: { type: "requires-action", reason: "composer-send" },
    };
  }

  async remove(): Promise<void> {}

  async send(attachment: PendingAttachment): Promise<CompleteAttachment> {
    const data = await new Promise<string>((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(String(reader.result));
      reader.onerror = () => reject(new Error(`${attachment.name} cannot be read.`));
      reader.readAsDataURL(attachment.file);
    });
    return {
      ...attachment,
      status: { type: "complete" },
      content: [{ type: "file", data, mimeType: "application/pdf", filename: attachment.name }],
    };
  }
}

class Attachments extends CompositeAttachmentAdapter {
  constructor() {
    super([new SimpleImageAttachmentAdapter(), new SimpleTextAttachmentAdapter(), new PdfAdapter()]);
  }

  override add(state: { file: File }) {
    if (state.file.size > MAX_BYTES) {
      const problem = `${state.file.name} is larger than ${MAX_BYTES / 1024 / 1024} MB. Make it smaller and attach it again.`;
      notify(problem, { isError: true });
      throw new Error(problem);
    }
    return super.add(state);
  }
}

export const attachments: AttachmentAdapter = new Attachments();
