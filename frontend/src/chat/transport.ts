/** The AI SDK wire to the service: only what is new is sent, since the stored history is the truth. */
import { DefaultChatTransport } from "ai";
import { addressOf, api, credentials, failure } from "../app/api";
import { doubt } from "../app/connection";
import { asksForApproval, type ChatMessage } from "../app/history";

/** What the next request says beside the message, read when it is sent. */
export interface Choices {
  model: string | null;
  skill: string | null;
  clientTools: string[];
}

/**
 * The transport of one page or tab.
 *
 * @param onSend is told of the messages, the newest included, at once when one is sent.
 */
export function makeTransport(
  choices: () => Choices,
  onSend: (messages: ChatMessage[]) => void,
): DefaultChatTransport<ChatMessage> {
  return new DefaultChatTransport<ChatMessage>({
    api: addressOf("/api/chat"),
    headers: credentials,
    fetch: async (input, init) => {
      try {
        const response = await fetch(input, init);
        if (!response.ok) throw await failure(response);
        return response;
      } catch (error) {
        if (error instanceof TypeError) doubt();
        throw error;
      }
    },
    prepareSendMessagesRequest: async ({ id, messages, trigger, messageId }) => {
      onSend(messages);
      // Who says something else instead of answering a question does not wait behind it.
      if (trigger === "submit-message" && messages.at(-1)?.role === "user" && asksForApproval(messages.at(-2)))
        await api.stop(id);
      const { model, skill, clientTools } = choices();
      return {
        body: {
          id,
          trigger,
          messageId,
          messages: trigger === "submit-message" ? messages.slice(-1) : [],
          ...(model && { model }),
          ...(skill && { skill }),
          ...(clientTools.length > 0 && { clientTools }),
        },
      };
    },
    prepareReconnectToStreamRequest: ({ id }) => ({
      api: addressOf(`/api/chat/${encodeURIComponent(id)}/stream`),
    }),
  });
}
