/** A conversation that is open here may be gone on with elsewhere: in another tab, on a phone, by a program. */
import { useCallback, useEffect, useRef } from "react";
import { api, ServiceError, type Conversation } from "../app/api";
import { doubt } from "../app/connection";

/** How often it is looked, in milliseconds; it is looked as well when one comes back to the page. */
const LOOK = 15_000;
const PAGE = 60;

interface Reader {
  /** Whether a message is shown here. */
  shows: (messageId: string) => boolean;
  /** Whether nobody is disturbed when the conversation is read anew: nothing is being written, nothing older is being read. */
  isIdle: () => boolean;
  reload: () => void;
  onMissing: () => void;
}

interface Others {
  /** A turn of our own begins: until it is over, what is stored changes because of it. */
  begin: () => void;
  /** Our own turn is over. */
  settle: () => void;
}

/** How far a conversation is: another one when anybody went on in it. */
function placeOf(conversation: Conversation): string {
  return `${conversation.message_count}/${conversation.active_run_id ?? ""}`;
}

/**
 * Have the conversation read anew when somebody else went on in it.
 *
 * @param known the conversation when all of it was read; null where it runs, or is not stored yet.
 * @param seq the greatest number of a message that was read.
 */
export function useOthers(id: string, known: Conversation | null, seq: number, reader: Reader): Others {
  const place = useRef(known && placeOf(known));
  const newest = useRef(seq);
  const latest = useRef(reader);
  latest.current = reader;

  useEffect(() => {
    const look = async () => {
      const before = place.current;
      if (before === null || document.visibilityState !== "visible") return;
      try {
        const now = placeOf(await api.conversation(id));
        // Else what is missing comes later, at the latest when something is sent.
        if (place.current === before && now !== before && latest.current.isIdle()) latest.current.reload();
      } catch (error) {
        if (error instanceof ServiceError && error.status === 404) latest.current.onMissing();
        else doubt();
      }
    };
    const follow = () => void look();
    const timer = setInterval(follow, LOOK);
    window.addEventListener("focus", follow);
    document.addEventListener("visibilitychange", follow);
    return () => {
      clearInterval(timer);
      window.removeEventListener("focus", follow);
      document.removeEventListener("visibilitychange", follow);
    };
  }, [id]);

  const begin = useCallback(() => {
    place.current = null;
  }, []);

  const settle = useCallback(() => {
    const read = async () => {
      const [now, page] = await Promise.all([
        api.conversation(id),
        api.messages(id, { after: newest.current, limit: PAGE }),
      ]);
      const hasMore = page.items.some((one) => one.role === "user" && !latest.current.shows(one.id));
      // A turn that was stopped, here or elsewhere, is shown as the service has it stored.
      const isStopped = Object.values(page.runs ?? {}).some((run) => run.status === "cancelled");
      if (hasMore || isStopped) {
        latest.current.reload();
        return;
      }
      newest.current = page.items.at(-1)?.seq ?? newest.current;
      place.current = placeOf(now);
    };
    read().catch(doubt);
  }, [id]);

  return { begin, settle };
}
