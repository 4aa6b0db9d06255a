/** Short notices at the edge of the page, some with a way back. */
import { X } from "lucide-react";
import { useSyncExternalStore } from "react";
import { messageOf } from "./errors";
import { newId } from "./ids";
import { Store } from "./store";

interface Notice {
  id: string;
  text: string;
  isError: boolean;
  undo?: () => void;
}

const notices = new Store<Notice[]>([]);

function remove(id: string): void {
  notices.set(notices.get().filter((one) => one.id !== id));
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
  const end = () => remove(notice.id);
  notices.set([...notices.get().slice(-3), notice]);
  if (!options.stays) setTimeout(end, UNDO_SECONDS * 1000);
  return end;
}

/** Tell what went wrong. */
export function complain(error: unknown): void {
  notify(messageOf(error), { isError: true });
}

export function Notices() {
  const shown = useSyncExternalStore(notices.subscribe, notices.get);
  return (
    <div className="notices" role="status" aria-live="polite">
      {shown.map((notice) => (
        <div key={notice.id} className={notice.isError ? "notice error" : "notice"}>
          <span>{notice.text}</span>
          {notice.undo && (
            <button
              onClick={() => {
                notice.undo?.();
                remove(notice.id);
              }}
            >
              Undo
            </button>
          )}
          <button className="icon" aria-label="Dismiss" onClick={() => remove(notice.id)}>
            <X size={16} />
          </button>
        </div>
      ))}
    </div>
  );
}
