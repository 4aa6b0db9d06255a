/** A tool call as a card: what it was asked, how far it is, what came of it, and the question whether it may run. */
import type { ToolCallMessagePartProps } from "@assistant-ui/react";
import {
  Ban,
  CheckCircle2,
  CircleAlert,
  Hourglass,
  LoaderCircle,
  ShieldQuestion,
  Workflow,
  Wrench,
} from "lucide-react";
import { useEffect, useRef, useState, useSyncExternalStore } from "react";
import { Picture } from "../app/Picture";
import { Store } from "../app/store";
import { useChatContext } from "./chat";
import { Code } from "./Markdown";

/** What the AI SDK knows of a call. */
interface CallPart {
  type: string;
  toolCallId: string;
  state: string;
  input?: unknown;
  output?: unknown;
  errorText?: string;
  preliminary?: boolean;
  approval?: { id: string; approved?: boolean; reason?: string };
}

interface Progress {
  progress?: number;
  total?: number;
  text?: string;
  preview?: string;
}

const STATES = {
  running: { label: "Running", Icon: LoaderCircle },
  elsewhere: { label: "Waits for the program that runs it", Icon: Hourglass },
  asking: { label: "Needs your approval", Icon: ShieldQuestion },
  done: { label: "Done", Icon: CheckCircle2 },
  failed: { label: "Failed", Icon: CircleAlert },
  denied: { label: "Refused", Icon: Ban },
  stopped: { label: "Not run", Icon: Ban },
} as const;

export function ToolCard({ toolName, toolCallId, args }: ToolCallMessagePartProps) {
  const { chat, isBusy, showPicture } = useChatContext();
  const message = chat.messages.findLast((one) => one.parts.some((part) => isCall(part, toolCallId)));
  const part = message?.parts.find((one) => isCall(one, toolCallId)) as CallPart | undefined;
  const isLast = message !== undefined && message === chat.messages.at(-1);
  const runs = isLast && isBusy;
  const state = stateOf(part, runs, isLast);
  const took = useTook(state === "running", message?.metadata?.took?.[toolCallId]);
  const { label, Icon } = STATES[state];
  const input = part?.input ?? args;
  const hasInput = input !== undefined && JSON.stringify(input) !== "{}";
  return (
    <section className={`tool ${state}`} aria-label={`Tool ${toolName}: ${label}`}>
      <details open={state === "asking" || undefined}>
        <summary>
          <Wrench size={15} aria-hidden="true" />
          <b>{toolName}</b>
          <span className="state">
            <Icon size={15} aria-hidden="true" /> {label}
            {took !== null && <time>{took}</time>}
          </span>
        </summary>
        {hasInput && (
          <>
            <h4>Arguments</h4>
            <Code text={JSON.stringify(input, null, 2)} language="json" />
          </>
        )}
        {state === "done" && part && (
          <>
            <h4>Result</h4>
            <Code {...shown(part.output)} />
          </>
        )}
      </details>
      {state === "running" && part?.preliminary && <ProgressBar {...(part.output as Progress)} />}
      {state === "failed" && <p className="error">{part?.errorText}</p>}
      {state === "asking" && part?.approval && <Question approvalId={part.approval.id} name={toolName} />}
      {state === "done" &&
        picturesIn(part?.output).map((url) => (
          <button key={url} className="picture" onClick={() => showPicture(url)} aria-label="Open the picture">
            <img src={url} alt="Made by the workflow" loading="lazy" />
          </button>
        ))}
      {state === "done" && isWorkflow(part?.output) && (
        <a className="file" href={downloadOf(part?.output)} download={`${toolName}.json`}>
          <Workflow size={16} /> Download the workflow
        </a>
      )}
    </section>
  );
}

function isCall(part: { type: string }, id: string): boolean {
  return "toolCallId" in part && part.toolCallId === id;
}

function stateOf(part: CallPart | undefined, runs: boolean, isLast: boolean): keyof typeof STATES {
  switch (part?.state) {
    case "output-available":
      return part.preliminary ? (runs ? "running" : "stopped") : "done";
    case "output-error":
      return "failed";
    case "output-denied":
      return "denied";
    case "approval-requested":
      return isLast ? "asking" : "stopped";
    case "approval-responded":
      return part.approval?.approved ? "running" : "denied";
    default:
      return runs ? "running" : isLast ? "elsewhere" : "stopped";
  }
}

/** How long a call takes, counted while it runs; what the history says of one that is over. */
function useTook(isRunning: boolean, stored: number | undefined): string | null {
  const [milliseconds, setMilliseconds] = useState<number | null>(null);
  const started = useRef<number | null>(null);
  useEffect(() => {
    if (!isRunning) return;
    started.current ??= performance.now();
    const count = () => setMilliseconds(performance.now() - (started.current ?? 0));
    const timer = setInterval(count, 250);
    return () => {
      clearInterval(timer);
      count();
    };
  }, [isRunning]);
  const known = stored ?? milliseconds;
  return known === null || known === undefined ? null : `${(known / 1000).toFixed(1)} s`;
}

function ProgressBar({ progress, total, text, preview }: Progress) {
  return (
    <div className="progress">
      {text && <span>{text}</span>}
      <progress aria-label="Progress" value={progress} max={total ?? 1} />
      {progress !== undefined && total !== undefined && (
        <small>
          {progress} of {total}
        </small>
      )}
      {preview && <Picture url={preview} alt="What there is so far" />}
    </div>
  );
}

/** What was written so far as the reasons of refusals: a message that is drawn anew, even at that moment, must not lose it. */
const reasons = new Store<Record<string, string>>({});

function Question({ approvalId, name }: { approvalId: string; name: string }) {
  const { chat } = useChatContext();
  const reason = useSyncExternalStore(reasons.subscribe, () => reasons.get()[approvalId] ?? "");
  const answer = (approved: boolean) => {
    const said = reasons.get()[approvalId]?.trim();
    void chat.addToolApprovalResponse({ id: approvalId, approved, ...(said && { reason: said }) });
  };
  return (
    <div className="question" role="group" aria-label={`May ${name} run?`}>
      <p>May this tool run?</p>
      <input
        aria-label="Reason, for the model"
        placeholder="Reason, if you refuse (the model reads it)"
        value={reason}
        maxLength={1000}
        onChange={(event) => reasons.set({ ...reasons.get(), [approvalId]: event.target.value })}
      />
      <button className="primary" onClick={() => answer(true)}>
        Allow
      </button>
      <button onClick={() => answer(false)}>Refuse</button>
    </div>
  );
}

function shown(output: unknown): { text: string; language: string } {
  if (typeof output === "string") return { text: output, language: "text" };
  return { text: JSON.stringify(output, null, 2) ?? "", language: "json" };
}

/** Pictures of the page's own origin in a result: what ComfyUI made in front of the user. */
function picturesIn(output: unknown): string[] {
  const images = typeof output === "object" && output !== null && "images" in output ? output.images : [];
  return (Array.isArray(images) ? images : [])
    .map((one: { url?: unknown }) => String(one.url))
    .filter((url) => url.startsWith(`${location.origin}/`) && url.includes("/view?"));
}

/** Whether a result is a workflow in ComfyUI's API format. */
function isWorkflow(output: unknown): boolean {
  if (typeof output !== "object" || output === null || Array.isArray(output)) return false;
  const nodes = Object.values(output);
  return nodes.length > 0 && nodes.every((node) => typeof node === "object" && node !== null && "class_type" in node);
}

function downloadOf(output: unknown): string {
  return `data:application/json,${encodeURIComponent(JSON.stringify(output, null, 2))}`;
}
