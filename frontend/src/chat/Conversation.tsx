/** One conversation: its newest page of history, and the AI SDK's chat that goes on from there. */
import { useChat, type UseChatHelpers } from "@ai-sdk/react";
import { AssistantRuntimeProvider } from "@assistant-ui/react";
import { useAISDKRuntime } from "@assistant-ui/react-ai-sdk";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { api, ServiceError, type Conversation as ConversationData, type Model, type StoredMessage } from "../app/api";
import { doubt } from "../app/connection";
import { asksForApproval, callsForPrograms, hasAnswers, toChatMessages, type ChatMessage } from "../app/history";
import { messageOf } from "../app/errors";
import { complain } from "../app/notices";
import type { ModelChoice } from "../app/useModel";
import { attachments } from "./attachments";
import { forget, hasBegun, hasJoined, joinRun, runOnce, type Call } from "./clientCalls";
import { ChatProvider, type ChatContext } from "./chat";
import { Composer, type Command } from "./Composer";
import { PictureViewer } from "./PictureViewer";
import { Thread } from "./Thread";
import { makeTransport, type Choices } from "./transport";
import { useOthers } from "./useOthers";

const PAGE = 60;
const THROTTLE = 60;

/** Messages whose turn was taken up again because a step began anew. */
const begunAnew = new Set<string>();

/** Tools that run where this page is: the canvas of ComfyUI. */
export interface ClientTools {
  names: string[];
  run: (name: string, input: unknown) => Promise<unknown>;
  /** End what runs: the turn was stopped. */
  stop: () => Promise<void>;
}

interface Props {
  id: string;
  /** There is nothing stored yet. */
  isNew: boolean;
  models: Model[];
  model: ModelChoice;
  /** Show the providers and their keys. */
  onProviders: () => void;
  onStored: () => void;
  onTurn: (conversationId: string) => void;
  onCommand: (command: Command) => void;
  onMissing: () => void;
  /** Open a workflow that was found in a picture. */
  onWorkflow: (workflow: Record<string, unknown>) => void;
  skills: { slug: string; name: string; description: string }[];
  empty: React.ReactNode;
  /** Something to say at once: `id` is another one each time. */
  idea?: { text: string; id: string } | null;
  clientTools?: ClientTools;
}

interface Loaded {
  messages: ChatMessage[];
  /** The smallest `seq` that is loaded, or null where nothing stands before. */
  before: number | null;
  /** The greatest `seq` that is loaded. */
  newest: number;
  isRunning: boolean;
  /** The run that waits for answers. */
  waitingRun: string | null;
  conversation: ConversationData | null;
}

/** The conversation, read from the service when it is opened and each time that its branch changes. */
export function Conversation(props: Props) {
  const [loaded, setLoaded] = useState<Loaded | null>(
    props.isNew
      ? { messages: [], before: null, newest: 0, isRunning: false, waitingRun: null, conversation: null }
      : null,
  );
  const [failed, setFailed] = useState<string | null>(null);
  const [generation, setGeneration] = useState(0);
  const [resets, setResets] = useState(0);
  const reload = useCallback(() => setGeneration((n) => n + 1), []);
  const turns = useRef({ begun: 0, isOutdated: false });

  useEffect(() => {
    if (props.isNew && generation === 0) return;
    let isCurrent = true;
    setFailed(null);
    const { begun } = turns.current;
    load(props.id, props.clientTools?.names ?? [])
      .then((found) => {
        if (!isCurrent) return;
        // What was read does not have a turn that was begun since: it is read again behind that one.
        turns.current.isOutdated = turns.current.begun !== begun;
        if (turns.current.isOutdated) return;
        setLoaded(found);
        setResets(generation);
      })
      .catch((error: unknown) => {
        if (!isCurrent) return;
        if (error instanceof ServiceError && error.status === 404) props.onMissing();
        else setFailed(messageOf(error));
        doubt();
      });
    return () => {
      isCurrent = false;
    };
  }, [props.id, generation]);

  if (failed !== null)
    return (
      <div className="thread-state" role="alert">
        <p>{failed}</p>
        <button onClick={reload}>Try again</button>
      </div>
    );
  if (!loaded) return <div className="thread-state" aria-busy="true" aria-label="The conversation is being read" />;
  return <Open key={resets} {...props} loaded={loaded} reload={reload} turns={turns} />;
}

async function load(id: string, clientTools: string[]): Promise<Loaded> {
  const conversation = await api.conversation(id);
  const run = conversation.active_run_id ? await api.run(conversation.active_run_id) : null;
  const page = await api.messages(id, { limit: PAGE });
  const { kept, before } = wholeTurns(page.items, page.next_cursor);
  let stored = kept;
  const isRunning = run?.status === "running" || run?.status === "queued";
  if (isRunning && run) {
    // The stream tells the turn from its beginning: what of it is stored already must not be shown twice.
    const asked = stored.findIndex((one) => one.id === run.message_id);
    if (asked >= 0) stored = stored.slice(0, asked + 1);
  }
  const waiting = run?.status === "waiting" ? run : null;
  const waits = waiting && {
    clientTools: new Set([...(waiting.client_tools ?? []), ...clientTools]),
    approvals: waiting.approvals ?? {},
  };
  const messages = toChatMessages(stored, page.siblings, waits, page.runs);
  const waitingRun = waiting?.id ?? null;
  return { messages, before, newest: stored.at(-1)?.seq ?? 0, isRunning, waitingRun, conversation };
}

/** A page of history that begins with a user's message, so that no turn is cut in two, and where the rest begins. */
function wholeTurns(items: StoredMessage[], cursor: string | null): { kept: StoredMessage[]; before: number | null } {
  if (cursor === null) return { kept: items, before: null };
  const start = items.findIndex((one) => one.role === "user");
  const kept = start > 0 ? items.slice(start) : items;
  return { kept, before: kept[0]?.seq ?? null };
}

interface OpenProps extends Props {
  loaded: Loaded;
  reload: () => void;
  /** How many turns were begun here, and whether there is more to read than is shown. */
  turns: { current: { begun: number; isOutdated: boolean } };
}

function Open(props: OpenProps) {
  const { id, loaded, clientTools, onTurn, onStored, reload, turns } = props;
  const choices = useRef<Choices>({ model: null, skill: null, clientTools: [] });
  choices.current.model = props.model.named;
  choices.current.clientTools = clientTools?.names ?? [];
  const sent = useRef(new Set<string>());
  const onSend = useRef((_: ChatMessage[]) => {});
  const [transport] = useState(() =>
    makeTransport(
      () => {
        const now = choices.current;
        choices.current = { ...now, skill: null };
        return now;
      },
      (messages) => onSend.current(messages),
    ),
  );
  /** Whether the turn that runs is on a new branch: the ids of its messages are the service's to give. */
  const branches = useRef(false);
  const chatRef = useRef<UseChatHelpers<ChatMessage> | null>(null);
  const isAtEnd = useRef(true);
  const edits = useRef(0);
  const [picture, setPicture] = useState<string | null>(null);
  const [before, setBefore] = useState(loaded.before);

  /** Whether the turn was stopped while it waited for calls that run here: nobody waits for them any more. */
  const isStopped = useRef(false);
  /** Whether the request under way brings answers to open calls. */
  const isAnswering = useRef(false);
  /** Calls that were answered here: those whose answer is not sent yet, and those whose answer is being sent. */
  const answered = useRef({ ready: new Set<string>(), sent: new Set<string>() });
  const runCall = (call: Call) => {
    if (!clientTools?.names.includes(call.name)) return;
    runOnce(clientTools, call, (outcome) => {
      if (isStopped.current) return;
      answered.current.ready.add(call.id);
      const state = "errorText" in outcome ? "output-error" : "output-available";
      void chatRef.current?.addToolOutput({ state, tool: call.name, toolCallId: call.id, ...outcome } as never);
    });
  };

  const chat = useChat<ChatMessage>({
    id,
    messages: loaded.messages,
    transport,
    resume: loaded.isRunning,
    experimental_throttle: THROTTLE,
    sendAutomaticallyWhen: ({ messages }) => hasAnswers(messages.at(-1), answered.current.ready),
    onToolCall: ({ toolCall }) => {
      // The service sends a call's input as available only once the call may run. The stream goes on meanwhile.
      runCall({ id: toolCall.toolCallId, name: toolCall.toolName, input: toolCall.input });
    },
    onData: (part) => {
      // A step began anew: what was streamed of it is void. The stream is taken up again from the beginning, once.
      if (part.type !== "data-reset") return;
      const { messageId } = part.data as { messageId: string };
      if (begunAnew.has(messageId)) return;
      begunAnew.add(messageId);
      reload();
    },
    onError: (error) => {
      if (error instanceof TypeError) doubt();
      // Somebody else has answered meanwhile: what the run waits for now is read again.
      if (isAnswering.current && error instanceof ServiceError && error.status === 404) reload();
    },
    onFinish: ({ isError }) => {
      if (!isError) for (const callId of answered.current.sent) forget(callId);
      onTurn(id);
      if (branches.current || turns.current.isOutdated) reload();
      else others.settle();
    },
  });
  chatRef.current = chat;
  const isBusy = chat.status === "submitted" || chat.status === "streaming";
  const last = chat.messages.at(-1);
  const isWaiting = chat.status === "ready" && (asksForApproval(last) || callsForPrograms(last).length > 0);

  // Calls that this window had begun before a reload, or that were approved meanwhile: the turn goes on.
  useEffect(() => {
    const isOurs = loaded.waitingRun !== null && hasJoined(loaded.waitingRun);
    for (const call of callsForPrograms(loaded.messages.at(-1))) if (isOurs || hasBegun(call.id)) runCall(call);
  }, [loaded]);

  const runId = chat.status === "streaming" && clientTools ? last?.metadata?.runId : undefined;
  useEffect(() => {
    if (runId !== undefined) joinRun(runId);
  }, [runId]);

  useEffect(() => {
    if (chat.status === "submitted") onStored();
    if (chat.status === "streaming") onTurn(id);
  }, [chat.status, id, onStored, onTurn]);

  const stop = useCallback(async () => {
    try {
      const isFollowed = chatRef.current?.status !== "ready";
      isStopped.current = !isFollowed;
      await api.stop(id);
      await clientTools?.stop();
      if (!isFollowed) reload();
    } catch (error) {
      await chatRef.current?.stop();
      complain(error);
    }
  }, [id, reload, clientTools]);

  const runtime = useAISDKRuntime(
    useMemo(() => ({ ...chat, stop }), [chat, stop]),
    {
      adapters: { attachments },
      cancelPendingToolCallsOnSend: false,
      joinStrategy: "none",
    },
  );

  const others = useOthers(id, loaded.isRunning ? null : loaded.conversation, loaded.newest, {
    shows: (messageId) => sent.current.has(messageId) || chat.messages.some((one) => one.id === messageId),
    isIdle: () => isAtEnd.current && edits.current === 0 && runtime.thread.composer.getState().isEmpty,
    reload,
    onMissing: props.onMissing,
  });

  onSend.current = (messages) => {
    turns.current.begun += 1;
    others.begin();
    for (const one of messages) sent.current.add(one.id);
    isAnswering.current = messages.at(-1)?.role === "assistant";
    answered.current = { ready: new Set(), sent: answered.current.ready };
  };

  const loadOlder = useMemo(() => {
    if (before === null) return null;
    return async () => {
      const page = await api.messages(id, { before, limit: 100 });
      const older = wholeTurns(page.items, page.next_cursor);
      chatRef.current?.setMessages((messages) => [
        ...toChatMessages(older.kept, page.siblings, null, page.runs),
        ...messages,
      ]);
      setBefore(older.before);
    };
  }, [before, id]);

  const context: ChatContext = {
    id,
    chat,
    isBusy,
    models: props.models,
    loadOlder,
    edit: (messageId, parts) => {
      branches.current = true;
      void chat.sendMessage({ parts, messageId });
    },
    isAtEnd,
    edits,
    answerAgain: (messageId) => {
      branches.current = true;
      void chat.regenerate(messageId === undefined ? {} : { messageId });
    },
    reload,
    showPicture: setPicture,
  };
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <ChatProvider value={context}>
        <Thread empty={props.empty} />
        <Composer
          conversationId={id}
          idea={props.idea ?? null}
          models={props.models}
          model={props.model.next}
          onModel={props.model.choose}
          onProviders={props.onProviders}
          onCommand={props.onCommand}
          skills={props.skills}
          onSkill={(slug) => (choices.current.skill = slug)}
          isRunning={isBusy}
          isWaiting={isWaiting}
          onStop={() => void stop()}
        />
        {picture !== null && (
          <PictureViewer
            url={picture}
            onClose={() => setPicture(null)}
            onWorkflow={(workflow) => {
              setPicture(null);
              props.onWorkflow(workflow);
            }}
          />
        )}
      </ChatProvider>
    </AssistantRuntimeProvider>
  );
}
