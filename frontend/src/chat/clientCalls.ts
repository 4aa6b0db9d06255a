/** Calls that this window runs for the agent: each one runs at most once, also when the page is reloaded in between. */
import { messageOf } from "../app/errors";
import type { ClientTools } from "./Conversation";

export interface Call {
  id: string;
  name: string;
  input: unknown;
}

/** What came of a call. */
export type Outcome = { output: unknown } | { errorText: string };

type Deliver = (outcome: Outcome) => void;

const CALL = "atelier.call.";
const RUN = "atelier.run.";
const CUT_OFF =
  "The page was loaded anew while this ran. Whether it was done is not known: look with getWorkflowInfo before you go on.";

/** Calls that were begun since the page was loaded. The one who asked last gets the outcome. */
const calls = new Map<string, { outcome: Outcome | null; deliver: Deliver }>();

/** Remember that this window takes part in a run, so that it may run its open calls after a reload. */
export function joinRun(runId: string): void {
  sessionStorage.setItem(RUN + runId, "");
}

/** Whether this window took part in a run. */
export function hasJoined(runId: string): boolean {
  return sessionStorage.getItem(RUN + runId) !== null;
}

/** Whether this window has begun a call, perhaps before a reload. */
export function hasBegun(callId: string): boolean {
  return sessionStorage.getItem(CALL + callId) !== null;
}

/** The service has the outcome of a call. */
export function forget(callId: string): void {
  sessionStorage.removeItem(CALL + callId);
  calls.delete(callId);
}

/** Run a call that has not begun yet, and deliver its outcome; or the outcome that is there or on its way. */
export function runOnce(tools: ClientTools, call: Call, deliver: Deliver): void {
  const known = calls.get(call.id);
  if (known) {
    known.deliver = deliver;
    if (known.outcome) deliver(known.outcome);
    return;
  }
  const entry: { outcome: Outcome | null; deliver: Deliver } = { outcome: null, deliver };
  calls.set(call.id, entry);
  void outcomeOf(tools, call).then((outcome) => {
    entry.outcome = outcome;
    entry.deliver(outcome);
  });
}

async function outcomeOf(tools: ClientTools, call: Call): Promise<Outcome> {
  const before = sessionStorage.getItem(CALL + call.id);
  if (before !== null) return before === "" ? { errorText: CUT_OFF } : (JSON.parse(before) as Outcome);
  sessionStorage.setItem(CALL + call.id, "");
  const outcome = await tools.run(call.name, call.input).then(
    (output): Outcome => ({ output }),
    (error: unknown): Outcome => ({ errorText: messageOf(error) }),
  );
  try {
    sessionStorage.setItem(CALL + call.id, JSON.stringify(outcome));
  } catch {
    // The storage is full: after a reload the call counts as cut off.
  }
  return outcome;
}
