/** Stored messages as the messages of the AI SDK: a turn's answers, calls and results are one message, as they are streamed. */
import type { UIMessage } from "ai";
import { addressOfText, splitAttachments } from "../chat/textFiles.ts";
import type { ApprovalState, ContentPart, StoredMessage, ToolCall, TurnState, Usage } from "./api";

/** What stands beside a message's parts. */
export interface Metadata {
  model?: string;
  usage?: Usage;
  finishReason?: string;
  seq?: number;
  /** How many messages stand in this one's place, itself among them. */
  siblings?: number;
  runId?: string;
  skill?: string;
  /** Why the turn that ends with this message has no complete answer. */
  outcome?: Outcome;
  /** Milliseconds that each call took, by its id. */
  took?: Record<string, number>;
}

export type Outcome = { status: "stopped" } | { status: "failed"; reason: string };

export type ChatMessage = UIMessage<Metadata>;
type Part = ChatMessage["parts"][number];

/** The calls of a message that nobody has answered, by what they wait for. */
function openCalls(message: ChatMessage | undefined, state: "input-available" | "approval-requested"): OpenCall[] {
  if (message?.role !== "assistant") return [];
  return message.parts.flatMap((part) => {
    if (!("toolCallId" in part) || part.state !== state) return [];
    return [{ id: part.toolCallId, name: part.type.replace(/^tool-/, ""), input: part.input }];
  });
}

interface OpenCall {
  id: string;
  name: string;
  input: unknown;
}

/**
 * Whether the last step of a message has answers that the service does not have yet, and asks the user for no more.
 *
 * @param results the calls whose results are not sent yet.
 */
export function hasAnswers(message: ChatMessage | undefined, results: Set<string>): boolean {
  if (message?.role !== "assistant" || asksForApproval(message)) return false;
  const step = message.parts.slice(message.parts.findLastIndex((part) => part.type === "step-start") + 1);
  const calls = step.flatMap((part) => ("toolCallId" in part ? [part] : []));
  if (calls.some((part) => part.state === "approval-responded")) return true;
  const isOpen = (state: string | undefined) => state === "input-available" || state === "input-streaming";
  return calls.some((part) => results.has(part.toolCallId)) && !calls.some((part) => isOpen(part.state));
}

/** What the open calls of a run wait for. */
export interface Waits {
  /** The tools that clients run. */
  clientTools: Set<string>;
  /** The calls that need the user's approval, by id. */
  approvals: Record<string, ApprovalState>;
}

/** The calls of a message that a program has to run, such as the one where this page is. */
export function callsForPrograms(message: ChatMessage | undefined): OpenCall[] {
  return openCalls(message, "input-available");
}

/** Whether a message has calls that the user has not agreed to yet. */
export function asksForApproval(message: ChatMessage | undefined): boolean {
  return openCalls(message, "approval-requested").length > 0;
}

/**
 * The messages of a stretch of history, oldest first.
 *
 * @param siblings how many messages stand in the place of each, where there are others.
 * @param waits what the open calls wait for, where the run waits.
 * @param runs what became of the turns that have no complete answer, by the id of their user message.
 */
export function toChatMessages(
  stored: StoredMessage[],
  siblings: Record<string, number> = {},
  waits: Waits | null = null,
  runs: Record<string, TurnState> = {},
): ChatMessage[] {
  const messages: ChatMessage[] = [];
  const results = new Map<string, StoredMessage>();
  for (const one of stored)
    if (one.role === "tool" && one.metadata.tool_call_id) results.set(one.metadata.tool_call_id, one);
  for (const one of stored) {
    if (one.role === "tool") continue;
    const previous = messages.at(-1);
    if (one.role === "assistant" && previous?.role === "assistant") {
      addAnswer(previous, one, results, waits);
    } else if (one.role === "assistant") {
      const answer: ChatMessage = { id: one.id, role: "assistant", parts: [], metadata: headOf(one, siblings) };
      addAnswer(answer, one, results, waits);
      messages.push(answer);
    } else {
      const metadata = headOf(one, siblings);
      if (one.metadata.skill) metadata.skill = one.metadata.skill;
      messages.push({ id: one.id, role: one.role, parts: partsOf(one.content).flatMap(withFiles), metadata });
    }
  }
  for (const [place, message] of messages.entries()) {
    const run = message.role === "user" ? runs[message.id] : undefined;
    const outcome = run && outcomeOf(run);
    const next = messages[place + 1];
    const last = next?.role === "assistant" ? next : message;
    if (outcome) last.metadata = { ...last.metadata, outcome };
  }
  return messages;
}

function outcomeOf({ status, error }: TurnState): Outcome | null {
  if (status === "cancelled") return { status: "stopped" };
  return status === "failed" ? { status: "failed", reason: error?.message ?? "The answer failed." } : null;
}

function headOf(stored: StoredMessage, siblings: Record<string, number>): Metadata {
  const count = siblings[stored.id];
  return count === undefined ? { seq: stored.seq } : { seq: stored.seq, siblings: count };
}

function addAnswer(
  answer: ChatMessage,
  stored: StoredMessage,
  results: Map<string, StoredMessage>,
  waits: Waits | null,
): void {
  const metadata = (answer.metadata ??= {});
  answer.parts.push({ type: "step-start" });
  if (stored.metadata.reasoning)
    answer.parts.push({ type: "reasoning", text: stored.metadata.reasoning, state: "done" });
  answer.parts.push(...partsOf(stored.content));
  for (const call of stored.metadata.tool_calls ?? []) {
    const result = results.get(call.id);
    answer.parts.push(toolPart(call, result, waits));
    if (result) {
      const took = Date.parse(result.created_at) - Date.parse(stored.created_at);
      (metadata.took ??= {})[call.id] = Math.max(0, took);
      for (const artifact of result.metadata.artifacts ?? [])
        answer.parts.push({ type: "file", url: artifact.url, mediaType: artifact.media_type });
    }
  }
  if (stored.metadata.model) metadata.model = stored.metadata.model;
  if (stored.metadata.finish_reason) metadata.finishReason = stored.metadata.finish_reason;
  if (stored.metadata.usage) metadata.usage = sum(metadata.usage, stored.metadata.usage);
}

function toolPart(call: ToolCall, result: StoredMessage | undefined, waits: Waits | null): Part {
  const head = { type: `tool-${call.name}` as const, toolCallId: call.id, input: call.args };
  if (result?.metadata.denied)
    return { ...head, state: "output-denied", approval: { id: call.id, approved: false } } as Part;
  if (result?.metadata.status === "error")
    return { ...head, state: "output-error", errorText: textOf(result.content) } as Part;
  if (result) return { ...head, state: "output-available", output: valueOf(textOf(result.content)) } as Part;
  if (waits && waitsForApproval(call, waits))
    return { ...head, state: "approval-requested", approval: { id: call.id } } as Part;
  return { ...head, state: "input-available" } as Part;
}

function waitsForApproval(call: ToolCall, waits: Waits): boolean {
  const state = waits.approvals[call.id];
  return state === undefined ? !waits.clientTools.has(call.name) : state === "pending";
}

function partsOf(content: string | ContentPart[]): Part[] {
  if (typeof content === "string") return content ? [{ type: "text", text: content, state: "done" }] : [];
  return content.flatMap((part): Part[] => {
    if (part.type === "text" && part.text) return [{ type: "text", text: part.text, state: "done" }];
    if (part.image_url) return [{ type: "file", url: part.image_url.url, mediaType: mediaTypeOf(part.image_url.url) }];
    if (part.file)
      return [
        {
          type: "file",
          url: part.file.file_data,
          mediaType: mediaTypeOf(part.file.file_data),
          filename: part.file.filename ?? "file",
        },
      ];
    return [];
  });
}

/** A part of what the user said: text files are in its text, and are parts of their own here. */
function withFiles(part: Part): Part[] {
  if (part.type !== "text") return [part];
  const { text, files } = splitAttachments(part.text);
  return [
    ...files.map((file): Part => ({
      type: "file",
      url: addressOfText(file.text),
      mediaType: "text/plain",
      filename: file.name,
    })),
    ...(text ? [{ ...part, text }] : []),
  ];
}

function mediaTypeOf(url: string): string {
  return /^data:([^;,]+)/.exec(url)?.[1] ?? "image/png";
}

function textOf(content: string | ContentPart[]): string {
  return typeof content === "string" ? content : content.map((part) => part.text ?? "").join("");
}

function valueOf(text: string): unknown {
  if (!/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function sum(a: Usage | undefined, b: Usage): Usage {
  if (!a) return b;
  return {
    input_tokens: a.input_tokens + b.input_tokens,
    output_tokens: a.output_tokens + b.output_tokens,
    total_tokens: a.total_tokens + b.total_tokens,
  };
}
