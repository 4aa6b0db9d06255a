/** Whether the service answers: asked every few seconds while the page is seen, and at once when a request fails. */
import { useEffect, useSyncExternalStore } from "react";
import { api } from "./api";

const CALM = 15_000;
const WORRIED = 1_000;

interface State {
  reachable: boolean;
  /** Grows each time that the service comes back. */
  returns: number;
}

let state: State = { reachable: true, returns: 0 };
let timer: ReturnType<typeof setTimeout> | undefined;
let asking = false;
const listeners = new Set<() => void>();

function set(next: State): void {
  state = next;
  for (const listener of listeners) listener();
}

async function ask(): Promise<void> {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  try {
    await api.alive();
    if (!state.reachable) set({ reachable: true, returns: state.returns + 1 });
  } catch {
    if (state.reachable) set({ ...state, reachable: false });
  } finally {
    asking = false;
    timer = setTimeout(() => void ask(), state.reachable ? CALM : WORRIED);
  }
}

/** Look at once whether the service is there: something failed. */
export function doubt(): void {
  void ask();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Whether the service answers, and how often it has come back. */
export function useConnection(): State {
  useEffect(() => {
    const look = () => {
      if (document.visibilityState === "visible") void ask();
    };
    void ask();
    window.addEventListener("online", look);
    window.addEventListener("offline", look);
    document.addEventListener("visibilitychange", look);
    return () => {
      clearTimeout(timer);
      window.removeEventListener("online", look);
      window.removeEventListener("offline", look);
      document.removeEventListener("visibilitychange", look);
    };
  }, []);
  return useSyncExternalStore(subscribe, () => state);
}
