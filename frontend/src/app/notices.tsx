/** Short notices at the edge of the page, some with a way back. */
import { X } from "lucide-react";
import { useSyncExternalStore } from "react";
import { messageOf } from "./errors";
import { newId } from "./ids";

interface Notice {
  id: string;
  text: string;
  isError: boolean;
  undo?: () => void;
}

let notices: Notice[] = [];
const listeners = new Set<() => void>();

function set(next: Notice[]): void {
  notices = next;
  for (const listener of listeners) listener();
}

export const UNDO_SECONDS = 7;

interface Options {
  isError?: boolean;
  /** Takes back what is told, while the notice stands. */
  undo?: () => void;
  /** The notice stands until it is taken away. */
  stays?: boolean;
}

/** Tell something. Gives a function that takes the notice away. */
export function notify(text: string, options: Options = {}): () => void {
  const notice: Notice = { id: newId(), text, isError: options.isError ?? false };
  if (options.undo) notice.undo = options.undo;
  const remove = () => set(notices.filter((one) => one.id !== notice.id));
  set([...notices.slice(-3), notice]);
  if (!options.stays) setTimeout(remove, UNDO_SECONDS * 1000);
  return remove;
}

/** Tell what went wrong. */
export function complain(error: unknown): void {
  notify(messageOf(error), { isError: true });
}

export function Notices() {
  const shown = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => notices,
  );
  return (
    <div className="notices" role="status" aria-live="polite">
      {shown.map((notice) => (
        <div key={notice.id} className={notice.isError ? "notice error" : "notice"}>
          <span>{notice.text}</span>
          {notice.undo && (
            <button
              onClick={() => {
                notice.undo?.();
                set(notices.filter((one) => one.id !== notice.id));
              }}
            >
              Undo
            </button>
          )}
          <button
            className="icon"
            aria-label="Dismiss"
            onClick={() => set(notices.filter((one) => one.id !== notice.id))}
          >
            <X size={16} />
          </button>
        </div>
      ))}
    </div>
  );
}
