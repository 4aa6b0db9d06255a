/** What the parts of a thread share: the chat of the AI SDK, and what the page does beside it. */
import type { UseChatHelpers } from "@ai-sdk/react";
import { createContext, useContext } from "react";
import type { Model } from "../app/api";
import type { ChatMessage } from "../app/history";

export interface ChatContext {
  id: string;
  chat: UseChatHelpers<ChatMessage>;
  /** Whether a turn runs that is followed here. */
  isBusy: boolean;
  models: Model[];
  /** Puts the page of history before the oldest one; null where there is none. */
  loadOlder: (() => Promise<void>) | null;
  /** Put another message in the place of one of the user's, on a branch of its own. */
  edit: (messageId: string, parts: ChatMessage["parts"]) => void;
  /** Whether the reader follows the end of the conversation, and has not scrolled away from it. */
  isAtEnd: { current: boolean };
  /** How many messages are being edited now. */
  edits: { current: number };
  /** Have a turn of the agent's run again, on a branch of its own; the missing one where none is named. */
  answerAgain: (messageId?: string) => void;
  /** Read the history again: another branch is the active one now. */
  reload: () => void;
  showPicture: (url: string) => void;
}

const context = createContext<ChatContext | null>(null);

export const ChatProvider = context.Provider;

export function useChatContext(): ChatContext {
  const value = useContext(context);
  if (!value) throw new Error("Only inside a conversation");
  return value;
}
