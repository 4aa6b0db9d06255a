/** The conversations that the list shows, and what one does with them. */
import { useCallback, useEffect, useRef, useState } from "react";
import { api, type Conversation } from "../app/api";
import { complain, notify, UNDO_SECONDS } from "../app/notices";

export interface Conversations {
  items: Conversation[];
  wanted: string;
  isSearching: boolean;
  isLoading: boolean;
  hasMore: boolean;
  showsArchived: boolean;
  search: (wanted: string) => void;
  showArchived: (shows: boolean) => void;
  more: () => void;
  refresh: () => void;
  change: (conversation: Conversation, changes: Partial<Conversation>) => void;
  remove: (conversation: Conversation) => void;
}

const TYPING = 200;
/** Marks what was deleted while the page was left: the service may list it once more. */
const DELETED = "atelier.deleted.";

/** Whether the service searches for this: some word has two letters, or is an ideograph. */
export function isSearchable(wanted: string): boolean {
  return /[\p{L}\p{N}]{2}|[\u2e80-\u{3ffff}]/u.test(wanted);
}

/** @param onGone is told of a conversation that is not to be shown any more. */
export function useConversations(onGone: (id: string) => void): Conversations {
  const [items, setItems] = useState<Conversation[]>([]);
  const [cursor, setCursor] = useState<string | null>(null);
  const [wanted, setWanted] = useState("");
  const query = isSearchable(wanted) ? wanted.trim() : "";
  const [showsArchived, setShowsArchived] = useState(false);
  const [isLoading, setIsLoading] = useState(true);
  const [round, setRound] = useState(0);
  const leaving = useRef(new Map<string, () => void>());
  const last = useRef("");

  useEffect(() => {
    const stop = new AbortController();
    const isTyping = query !== last.current;
    last.current = query;
    const timer = setTimeout(
      () => {
        api
          .conversations({ q: query, archived: showsArchived }, stop.signal)
          .then((page) => {
            setItems(
              page.items.filter(
                (one) => !leaving.current.has(one.id) && sessionStorage.getItem(DELETED + one.id) === null,
              ),
            );
            setCursor(page.next_cursor);
            setIsLoading(false);
          })
          .catch((error: unknown) => {
            if (stop.signal.aborted) return;
            setIsLoading(false);
            if (round === 0) complain(error);
          });
      },
      isTyping ? TYPING : 0,
    );
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [query, showsArchived, round]);

  // Leaving the page ends the time in which a deletion can be taken back.
  useEffect(() => {
    const finish = () => {
      for (const [id, done] of leaving.current) {
        sessionStorage.setItem(`${DELETED}${id}`, "");
        done();
      }
    };
    window.addEventListener("pagehide", finish);
    return () => window.removeEventListener("pagehide", finish);
  }, []);

  const refresh = useCallback(() => setRound((n) => n + 1), []);

  const change = useCallback(
    (conversation: Conversation, changes: Partial<Conversation>) => {
      setItems((all) => all.map((one) => (one.id === conversation.id ? { ...one, ...changes } : one)));
      api
        .change(conversation.id, changes)
        .then(() => {
          if (changes.archived) notify("Archived.", { undo: () => change(conversation, { archived: false }) });
        }, complain)
        .finally(refresh);
    },
    [refresh],
  );

  const remove = useCallback(
    (conversation: Conversation) => {
      setItems((all) => all.filter((one) => one.id !== conversation.id));
      onGone(conversation.id);
      const finish = () => {
        clearTimeout(timer);
        leaving.current.delete(conversation.id);
        api.remove(conversation.id).catch(complain).finally(refresh);
      };
      const timer = setTimeout(finish, UNDO_SECONDS * 1000);
      leaving.current.set(conversation.id, finish);
      notify(`Deleted “${conversation.title ?? "Untitled"}”.`, {
        undo: () => {
          clearTimeout(timer);
          leaving.current.delete(conversation.id);
          refresh();
        },
      });
    },
    [onGone, refresh],
  );

  const more = useCallback(() => {
    if (cursor === null) return;
    api.conversations({ q: query, archived: showsArchived, cursor }).then((page) => {
      setItems((all) => [...all, ...page.items.filter((one) => !all.some((known) => known.id === one.id))]);
      setCursor(page.next_cursor);
    }, complain);
  }, [cursor, query, showsArchived]);

  return {
    items,
    wanted,
    isSearching: query !== "",
    isLoading,
    hasMore: cursor !== null,
    showsArchived,
    search: setWanted,
    showArchived: setShowsArchived,
    more,
    refresh,
    change,
    remove,
  };
}
