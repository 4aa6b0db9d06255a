/** The service's REST surface: one place that knows where it is and how to ask it. */

/** Where the service is, and the token that a page of another origin has to show. */
export interface Access {
  base: string;
  token: string | null;
}

const access: Access = { base: "", token: null };

/** Say where the service is. The page that the service itself serves needs not to. */
export function useService(base: string, token: string | null): void {
  access.base = base.replace(/\/+$/, "");
  access.token = token;
}

/** An address of the service, for links and pictures. */
export function addressOf(path: string): string {
  return path.startsWith("/") ? access.base + path : path;
}

/** Whether this page is of another origin than the service. */
export function isElsewhere(): boolean {
  return access.base !== "";
}

/** Headers that every request carries. */
export function credentials(): Record<string, string> {
  return access.token ? { Authorization: `Bearer ${access.token}` } : {};
}

/** What the service said that it cannot do, in its own words. */
export class ServiceError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** The service cannot be reached at all. */
export class Unreachable extends Error {
  constructor() {
    super("The service does not answer.");
  }
}

/** Ask the service; a `Response` that is not an error. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(addressOf(path), {
      ...init,
      headers: { ...credentials(), ...(init.headers as Record<string, string> | undefined) },
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Unreachable();
  }
  if (response.status === 401 && !isElsewhere()) location.reload(); // the session is over: the service shows its login
  if (!response.ok) throw await failure(response);
  return response;
}

/** The error in an answer: a problem document's words, or its status. */
export async function failure(response: Response): Promise<ServiceError> {
  const text = await response.text();
  try {
    const problem = JSON.parse(text) as { detail?: string; title?: string; code?: string };
    return new ServiceError(response.status, problem.code ?? "", problem.detail ?? problem.title ?? text);
  } catch {
    return new ServiceError(response.status, "", `The service answered with ${response.status}.`);
  }
}

async function json<T>(path: string, method = "GET", body?: unknown, signal?: AbortSignal): Promise<T> {
  const init: RequestInit = { method };
  if (signal) init.signal = signal;
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "Content-Type": "application/json" };
  }
  const response = await request(path, init);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

export interface Conversation {
  id: string;
  title: string | null;
  model: string | null;
  system_prompt: string | null;
  message_count: number;
  archived: boolean;
  pinned: boolean;
  active_run_id: string | null;
  created_at: string;
  updated_at: string;
}

export interface ToolCall {
  id: string;
  name: string;
  args: unknown;
}

export interface Artifact {
  url: string;
  media_type: string;
  name?: string;
}

export interface Usage {
  input_tokens: number;
  output_tokens: number;
  total_tokens: number;
}

export interface ContentPart {
  type: string;
  text?: string;
  image_url?: { url: string };
  file?: { file_data: string; filename?: string };
}

export interface StoredMessage {
  id: string;
  conversation_id: string;
  seq: number;
  parent_id: string | null;
  role: "user" | "assistant" | "system" | "tool";
  content: string | ContentPart[];
  metadata: {
    tool_calls?: ToolCall[];
    tool_call_id?: string;
    name?: string;
    status?: "success" | "error";
    denied?: boolean;
    artifacts?: Artifact[];
    model?: string;
    usage?: Usage;
    finish_reason?: string;
    reasoning?: string;
    skill?: string;
  };
  created_at: string;
}

export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

/** What became of a turn that has no complete answer. */
export interface TurnState {
  status: "failed" | "cancelled" | "waiting" | "running";
  last_message_id: string | null;
  error: { code: string; message: string; retryable: boolean } | null;
}

export interface Messages extends Page<StoredMessage> {
  /** For user messages by id that have no complete answer. */
  runs?: Record<string, TurnState>;
  /** For messages by id that have others in their place on other branches, how many stand there. */
  siblings?: Record<string, number>;
}

export type ApprovalState = "pending" | "approved" | "refused";

export interface Run {
  id: string;
  conversation_id: string;
  status: "queued" | "running" | "waiting" | "completed" | "failed" | "cancelled";
  model: string;
  message_id: string;
  client_tools?: string[];
  approvals?: Record<string, ApprovalState>;
}

export interface Model {
  id: string;
  provider: string;
  name: string;
  default: boolean;
  tools?: boolean;
  images?: boolean;
  reasoning?: boolean;
  context_tokens?: number;
  input_price?: number;
  output_price?: number;
  retires?: string;
  retires_soon?: boolean;
  successor?: string;
}

export interface Provider {
  id: string;
  title: string;
  configured: boolean;
  key_variable: string;
  key_source?: "environment" | "stored";
  error?: string;
}

export interface Models extends Page<Model> {
  providers: Provider[];
}

export interface Skill {
  slug: string;
  name: string;
  description: string;
  instructions: string;
  built_in: boolean;
  author?: "user" | "agent";
  /** Whether its last change can be undone. */
  can_undo?: boolean;
  updated_at?: string;
  deleted_at?: string | null;
}

export interface Me {
  id: string;
  name: string;
  features: { workflows: boolean };
}

export interface ContextPart {
  name: string;
  tokens: number;
  text: string;
}

export interface Context {
  model: string;
  budget: number;
  tokens: number;
  parts: ContextPart[];
  tools: { name: string; tokens: number }[];
  messages: { role: string; content: unknown }[];
  messages_tokens: number;
  oldest_seq: number | null;
}

/** A workflow as ComfyUI's canvas saves it. */
export interface Canvas {
  nodes: {
    id: number;
    type: string;
    title?: string;
    pos: [number, number];
    size: [number, number];
    inputs: { name: string; type: string; link: number | null; widget?: { name: string } }[];
    outputs: { name: string; type: string; links: number[] | null }[];
    widgets_values?: unknown[];
  }[];
  links: [number, number, number, number, number, string][];
}

const skillAt = (slug: string): string => `/api/skills/${encodeURIComponent(slug)}`;
const providerAt = (id: string): string => `/api/providers/${encodeURIComponent(id)}`;
const at = (id: string): string => `/api/conversations/${encodeURIComponent(id)}`;

/** The calls of the REST surface that the page makes. */
export const api = {
  conversations: (options: { q?: string; cursor?: string; archived: boolean }, signal?: AbortSignal) => {
    const query = new URLSearchParams({ limit: "50", archived: String(options.archived) });
    if (options.q) query.set("q", options.q);
    if (options.cursor) query.set("cursor", options.cursor);
    return json<Page<Conversation>>(`/api/conversations?${query}`, "GET", undefined, signal);
  },
  conversation: (id: string) => json<Conversation>(at(id)),
  change: (id: string, changes: Partial<Conversation>) => json<Conversation>(at(id), "PATCH", changes),
  remove: async (id: string) => void (await request(at(id), { method: "DELETE", keepalive: true })),
  messages: (id: string, options: { before?: number; after?: number; limit: number }) => {
    const query = new URLSearchParams(Object.entries(options).map(([name, value]) => [name, String(value)]));
    return json<Messages>(`${at(id)}/messages?${query}`);
  },
  siblings: (id: string, messageId: string) =>
    json<Page<StoredMessage>>(`${at(id)}/messages/${encodeURIComponent(messageId)}/siblings`),
  switchTo: (id: string, messageId: string) => json<Conversation>(`${at(id)}/head`, "PUT", { message_id: messageId }),
  exportUrl: (id: string, format: "json" | "markdown") => addressOf(`${at(id)}/export?format=${format}`),
  run: (id: string) => json<Run>(`/api/runs/${encodeURIComponent(id)}`),
  compact: (id: string) => json<{ messages: number; tokens: number }>(`${at(id)}/compact`, "POST"),
  stop: (id: string) => json<void>(`/api/chat/${encodeURIComponent(id)}/stop`, "POST"),
  context: (id: string, model: string | null) =>
    json<Context>(`${at(id)}/context${model ? `?model=${encodeURIComponent(model)}` : ""}`),
  canvas: (id: string) => json<Canvas>(`${at(id)}/workflow?format=canvas`),
  putWorkflow: (id: string, workflow: unknown) => json<unknown>(`${at(id)}/workflow`, "PUT", { workflow }),
  workflowUrl: (id: string, format: "api" | "canvas") => addressOf(`${at(id)}/workflow?format=${format}`),
  skills: () => json<Page<Skill>>("/api/skills"),
  skillsWithDeleted: () => json<Page<Skill>>("/api/skills?deleted=true"),
  restoreSkill: (slug: string) => json<Skill>(`${skillAt(slug)}/restore`, "POST"),
  addSkill: (skill: Skill) => json<Skill>("/api/skills", "POST", skill),
  changeSkill: (slug: string, changes: Partial<Skill>) => json<Skill>(skillAt(slug), "PATCH", changes),
  removeSkill: (slug: string) => json<void>(skillAt(slug), "DELETE"),
  importSkill: async (text: string) =>
    (await (
      await request("/api/skills/import", { method: "POST", body: text, headers: { "Content-Type": "text/markdown" } })
    ).json()) as Skill,
  skillUrl: (slug: string) => addressOf(`${skillAt(slug)}/export`),
  models: (refresh = false) => json<Models>(`/api/models${refresh ? "?refresh=true" : ""}`),
  setKey: (provider: string, key: string, keep: boolean) =>
    json<Provider>(`${providerAt(provider)}/key`, "PUT", { key, keep }),
  testKey: (provider: string) => json<Provider>(`${providerAt(provider)}/test`, "POST"),
  removeKey: (provider: string) => json<Provider>(`${providerAt(provider)}/key`, "DELETE"),
  me: () => json<Me>("/api/auth/me"),
  alive: async () => (await request("/api/health/live")).ok,
};
