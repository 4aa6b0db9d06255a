/** One message: what the user said, or one turn of the agent with its text, reasoning, tools and pictures. */
import { MessagePrimitive, useAuiState } from "@assistant-ui/react";
import { Brain, Check, ChevronLeft, ChevronRight, Copy, FileText, Pencil, RefreshCw } from "lucide-react";
import { memo, useEffect, useRef, useState } from "react";
import { addressOf, api, type StoredMessage } from "../app/api";
import { Picture } from "../app/Picture";
import { asksForApproval, type ChatMessage } from "../app/history";
import { complain } from "../app/notices";
import { useChatContext } from "./chat";
import { Markdown } from "./Markdown";
import { ToolCard } from "./ToolCard";

/** The message of the AI SDK behind the one that is being shown. */
function useMessage(): ChatMessage | undefined {
  const { chat } = useChatContext();
  const id = useAuiState((state) => state.message.id);
  return chat.messages.find((one) => one.id === id);
}

export const UserMessage = memo(function UserMessage() {
  const message = useMessage();
  const { isBusy, edit } = useChatContext();
  const [isEdited, setIsEdited] = useState(false);
  if (!message) return null;
  const text = message.parts.map((part) => (part.type === "text" ? part.text : "")).join("");
  const files = message.parts.filter((part) => part.type === "file");
  return (
    <MessagePrimitive.Root className="message user" aria-label="You">
      {isEdited ? (
        <Edit
          text={text}
          onCancel={() => setIsEdited(false)}
          onSave={(changed) => {
            setIsEdited(false);
            edit(message.id, [...files, { type: "text", text: changed }]);
          }}
        />
      ) : (
        <div className="bubble">
          {files.length > 0 && (
            <div className="files">
              {files.map((file, index) => (
                <File key={index} url={file.url} mediaType={file.mediaType} name={file.filename} />
              ))}
            </div>
          )}
          {message.metadata?.skill && <span className="tag">/skill {message.metadata.skill}</span>}
          {text && <p>{text}</p>}
        </div>
      )}
      <div className="actions">
        <Branches message={message} />
        <CopyButton text={text} />
        <button className="icon" aria-label="Edit and send again" disabled={isBusy} onClick={() => setIsEdited(true)}>
          <Pencil size={15} />
        </button>
      </div>
      <TurnOutcome message={message} />
    </MessagePrimitive.Root>
  );
});

function Edit({ text, onCancel, onSave }: { text: string; onCancel: () => void; onSave: (text: string) => void }) {
  const [changed, setChanged] = useState(text);
  const input = useRef<HTMLTextAreaElement>(null);
  const { edits } = useChatContext();
  useEffect(() => input.current?.focus(), []);
  useEffect(() => {
    edits.current += 1;
    return () => {
      edits.current -= 1;
    };
  }, [edits]);
  return (
    <form
      className="edit"
      onSubmit={(event) => {
        event.preventDefault();
        if (changed.trim()) onSave(changed);
      }}
    >
      <textarea
        ref={input}
        aria-label="Edit the message"
        value={changed}
        rows={Math.min(12, changed.split("\n").length + 1)}
        onChange={(event) => setChanged(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") onCancel();
          if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
            event.preventDefault();
            event.currentTarget.form?.requestSubmit();
          }
        }}
      />
      <div>
        <button type="button" onClick={onCancel}>
          Cancel
        </button>
        <button className="primary" disabled={!changed.trim()}>
          Send
        </button>
      </div>
    </form>
  );
}

export const AssistantMessage = memo(function AssistantMessage() {
  const message = useMessage();
  const { isBusy, models, answerAgain } = useChatContext();
  const isLast = useAuiState((state) => state.message.isLast);
  const isRunning = isLast && isBusy;
  const text =
    message?.parts
      .flatMap((part) => (part.type === "text" ? [part.text] : []))
      .join("\n\n")
      .trim() ?? "";
  const metadata = message?.metadata;
  const price = models.find((model) => model.id === metadata?.model);
  return (
    <MessagePrimitive.Root className="message assistant" aria-label="Atelier" aria-busy={isRunning}>
      <MessagePrimitive.Parts
        components={{
          Text: TextPart,
          Reasoning: ReasoningPart,
          File: FilePart,
          Empty: Waiting,
          tools: { Override: ToolCard },
        }}
      />
      {!isRunning && message && !asksForApproval(message) && (
        <div className="actions">
          <Branches message={message} />
          {text && <CopyButton text={text} />}
          <button className="icon" aria-label="Answer again" disabled={isBusy} onClick={() => answerAgain(message.id)}>
            <RefreshCw size={15} />
          </button>
          <small className="usage">
            {[
              metadata?.model,
              metadata?.usage && `${metadata.usage.input_tokens} in · ${metadata.usage.output_tokens} out`,
              metadata?.usage && price && costOf(metadata.usage, price),
              metadata?.finishReason === "cancelled" && !metadata.outcome && "stopped",
              metadata?.finishReason === "length" && "cut at the model's limit",
            ]
              .filter(Boolean)
              .join(" · ")}
          </small>
        </div>
      )}
      {message && <TurnOutcome message={message} />}
    </MessagePrimitive.Root>
  );
});

/** Why a turn has no complete answer, and a way to have it answered again; below the turn's last message. */
function TurnOutcome({ message }: { message: ChatMessage }) {
  const { chat, isBusy, answerAgain } = useChatContext();
  const outcome = message.metadata?.outcome;
  const next = chat.messages[chat.messages.indexOf(message) + 1];
  const isAnsweredNow = next === undefined ? isBusy || chat.error !== undefined : next.role === "assistant";
  if (!outcome || isAnsweredNow) return null;
  return (
    <div className={outcome.status === "failed" ? "failure" : "failure stopped"} role="group" aria-label="Not answered">
      <p>{outcome.status === "failed" ? outcome.reason : "Stopped"}</p>
      <button disabled={isBusy} onClick={() => answerAgain(message.id)}>
        Try again
      </button>
    </div>
  );
}

export function SystemMessage() {
  const message = useMessage();
  return (
    <MessagePrimitive.Root className="message system" aria-label="Instruction">
      {message?.parts.map((part) => (part.type === "text" ? part.text : "")).join("")}
    </MessagePrimitive.Root>
  );
}

function costOf(
  usage: { input_tokens: number; output_tokens: number },
  model: { input_price?: number; output_price?: number },
): string | null {
  if (model.input_price === undefined || model.output_price === undefined) return null;
  const dollars = (usage.input_tokens * model.input_price + usage.output_tokens * model.output_price) / 1e6;
  return dollars === 0 ? "free" : `$${dollars < 0.01 ? dollars.toFixed(5) : dollars.toFixed(3)}`;
}

function TextPart({ text }: { text: string }) {
  return <Markdown text={text} />;
}

function ReasoningPart({ text }: { text: string }) {
  return (
    <details className="reasoning">
      <summary>
        <Brain size={15} /> Reasoning
      </summary>
      <Markdown text={text} />
    </details>
  );
}

function Waiting() {
  const { isBusy } = useChatContext();
  if (!isBusy) return null;
  return (
    <span className="dots" role="img" aria-label="The answer is on its way">
      <i />
      <i />
      <i />
    </span>
  );
}

function FilePart({ data, mimeType, filename }: { data: string; mimeType: string; filename?: string }) {
  return <File url={data} mediaType={mimeType} name={filename} />;
}

/** A picture or file of a message; only what this service keeps, or the message itself holds, is loaded. */
function File({ url, mediaType, name }: { url: string; mediaType: string; name?: string | undefined }) {
  const { showPicture } = useChatContext();
  const isOurs = (url.startsWith("/") && !url.startsWith("//")) || /^data:/.test(url);
  if (!isOurs)
    return (
      <a
        className="file"
        href={/^https?:/.test(url) ? url : undefined}
        target="_blank"
        rel="noopener noreferrer nofollow"
      >
        <FileText size={16} /> {name ?? url}
      </a>
    );
  if (mediaType.startsWith("image/") && mediaType !== "image/svg+xml")
    return (
      <button className="picture" onClick={() => showPicture(url)} aria-label={`Open the picture ${name ?? ""}`.trim()}>
        <Picture url={url} alt={name ?? "A picture"} lazy />
      </button>
    );
  if (mediaType.startsWith("video/"))
    return <video className="picture" src={addressOf(url)} controls aria-label={name ?? "A video"} />;
  if (mediaType.startsWith("audio/")) return <audio src={addressOf(url)} controls aria-label={name ?? "A sound"} />;
  return (
    <a className="file" href={addressOf(url)} download={name ?? "file"}>
      <FileText size={16} /> {name ?? "File"}
    </a>
  );
}

function CopyButton({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  return (
    <button
      className="icon"
      aria-label={copied ? "Copied" : "Copy"}
      onClick={() => {
        navigator.clipboard.writeText(text).then(() => {
          setCopied(true);
          setTimeout(() => setCopied(false), 1500);
        }, complain);
      }}
    >
      {copied ? <Check size={15} /> : <Copy size={15} />}
    </button>
  );
}

/** Arrows between the messages that stand in one's place on other branches. */
function Branches({ message }: { message: ChatMessage }) {
  const { id, isBusy, reload } = useChatContext();
  const [others, setOthers] = useState<StoredMessage[]>([]);
  const count = message.metadata?.siblings ?? 1;
  useEffect(() => {
    if (count < 2) return;
    let isCurrent = true;
    api.siblings(id, message.id).then((page) => isCurrent && setOthers(page.items), complain);
    return () => {
      isCurrent = false;
    };
  }, [id, message.id, count]);
  const place = others.findIndex((one) => one.id === message.id);
  if (others.length < 2 || place < 0) return null;
  const go = (step: number) => {
    const target = others[place + step];
    if (target) api.switchTo(id, target.id).then(reload, complain);
  };
  return (
    <span className="branches" role="group" aria-label="Branches">
      <button className="icon" aria-label="Previous branch" disabled={place === 0 || isBusy} onClick={() => go(-1)}>
        <ChevronLeft size={15} />
      </button>
      <span>
        {place + 1}/{others.length}
      </span>
      <button
        className="icon"
        aria-label="Next branch"
        disabled={place === others.length - 1 || isBusy}
        onClick={() => go(1)}
      >
        <ChevronRight size={15} />
      </button>
    </span>
  );
}
