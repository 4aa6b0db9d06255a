/** Which model answers next. It belongs to the conversation; a new one begins with the model that was chosen last. */
import { useCallback, useEffect, useState } from "react";
import { api, type Conversation } from "./api";
import { complain } from "./notices";

const LAST_CHOSEN = "atelier.model";

interface Shown {
  id: string;
  /** Whether it began here, and may not be stored yet. */
  isNew: boolean;
}

interface ModelChoice {
  /** The model of the next answer; null is the service's default. */
  model: string | null;
  choose: (model: string) => void;
  /** The conversation has its first message: its model is settled. */
  settle: () => void;
}

/**
 * @param conversation the conversation as it is stored; null where it is not, or not known yet.
 * @param onChange is told when the stored conversation has another model.
 */
export function useModel(shown: Shown, conversation: Conversation | null, onChange: () => void): ModelChoice {
  const { id } = shown;
  const [lastChosen, setLastChosen] = useState(() => localStorage.getItem(LAST_CHOSEN));
  /** What was chosen here, by conversation, until the service has stored it. */
  const [choices, setChoices] = useState<Record<string, string>>({});
  const own = choices[id] ?? null;
  const stored = conversation ? conversation.model : shown.isNew ? lastChosen : null;
  const model = own ?? stored;

  const choose = useCallback(
    (chosen: string) => {
      setLastChosen(chosen);
      localStorage.setItem(LAST_CHOSEN, chosen);
      setChoices((all) => ({ ...all, [id]: chosen }));
    },
    [id],
  );

  const settle = useCallback(() => {
    if (model !== null) setChoices((all) => ({ ...all, [id]: model }));
  }, [id, model]);

  const isStored = conversation !== null;
  const storedModel = conversation?.model;
  useEffect(() => {
    if (!isStored || own === null) return;
    if (storedModel === own) {
      setChoices(({ [id]: _, ...others }) => others);
      return;
    }
    api.change(id, { model: own }).then(onChange, complain);
  }, [id, own, isStored, storedModel, onChange]);

  return { model, choose, settle };
}
