/** Whether the service answers: asked every few seconds while the page is seen, and at once when a request fails. */
import { useEffect, useSyncExternalStore } from "react";
import { api } from "./api";
import { Store } from "./store";

const CALM = 15_000;
const WORRIED = 1_000;

interface State {
  reachable: boolean;
  /** Grows each time that the service comes back. */
  returns: number;
}

const state = new Store<State>({ reachable: true, returns: 0 });
let timer: ReturnType<typeof setTimeout> | undefined;
let asking = false;

async function ask(): Promise<void> {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  try {
    await api.alive();
    const { reachable, returns } = state.get();
    if (!reachable) state.set({ reachable: true, returns: returns + 1 });
  } catch {
    const now = state.get();
    if (now.reachable) state.set({ ...now, reachable: false });
  } finally {
    asking = false;
    timer = setTimeout(() => void ask(), state.get().reachable ? CALM : WORRIED);
  }
}

/** Look at once whether the service is there: something failed. */
export function doubt(): void {
  void ask();
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
  return useSyncExternalStore(state.subscribe, state.get);
}
