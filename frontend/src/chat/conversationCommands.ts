/** Commands that change the conversation that is open. */
import { api } from "../app/api";
import { complain, notify } from "../app/notices";
import type { Command } from "./commands";

interface Opened {
  id: string;
  /** Whether the service knows it: something has been said in it. */
  isStored: boolean;
  /** It looks different in lists now. */
  refresh: () => void;
  /** It is not to be shown any more. */
  leave: () => void;
}

const ABOUT_ONE: Command["name"][] = ["rename", "clear", "compact", "export"];

/** Do what a command asks of the open conversation; false where the command is left to the caller. */
export function changeConversation(command: Command, opened: Opened): boolean {
  if (ABOUT_ONE.includes(command.name) && !opened.isStored) {
    notify("There is nothing in this conversation yet. Say something first.", { isError: true });
    return true;
  }
  switch (command.name) {
    case "rename":
      api.change(opened.id, { title: command.argument }).then(opened.refresh, complain);
      return true;
    case "clear":
      api.change(opened.id, { archived: true }).then(opened.refresh, complain);
      opened.leave();
      return true;
    case "compact": {
      const over = notify("The model is asked for a summary of the older messages…", { stays: true });
      api
        .compact(opened.id)
        .then(
          (done) =>
            notify(
              `${done.messages} messages are now a summary of ${done.tokens} tokens for the model. All of them stay here.`,
            ),
          complain,
        )
        .finally(over);
      return true;
    }
    default:
      return false;
  }
}
