/** Which model answers next. It belongs to the conversation; a new one begins with the model that was chosen last. */
import { useCallback, useEffect, useState } from "react";
import { api, type Conversation, type Model } from "./api";
import { complain } from "./notices";

const LAST_CHOSEN = "atelier.model";

interface Shown {
  id: string;
  /** Whether it began here, and may not be stored yet. */
  isNew: boolean;
}

export interface ModelChoice {
  /** The model of the next answer; null is the service's default. */
  next: string | null;
  /** The model that the next message has to name; null where the service knows it. */
  named: string | null;
  choose: (model: string) => void;
}

/**
 * @param conversation the conversation as it is stored; null where it is not, or not known yet.
 * @param onChange is told when the stored conversation has another model.
 */
export function useModel(
  { id, isNew }: Shown,
  conversation: Conversation | null,
  models: Model[],
  onChange: () => void,
): ModelChoice {
  const [lastChosen, setLastChosen] = useState(() => localStorage.getItem(LAST_CHOSEN));
  /** What was chosen here, by conversation, until the service has stored it. */
  const [choices, setChoices] = useState<Record<string, string>>({});
  const own = choices[id] ?? null;
  const first = isNew && models.some((one) => one.id === lastChosen) ? lastChosen : null;
  const named = own ?? (conversation === null ? first : null);

  const choose = useCallback(
    (chosen: string) => {
      setLastChosen(chosen);
      localStorage.setItem(LAST_CHOSEN, chosen);
      setChoices((all) => ({ ...all, [id]: chosen }));
    },
    [id],
  );

  const isStored = conversation !== null;
  const stored = conversation?.model;
  useEffect(() => {
    if (!isStored || own === null) return;
    if (stored === own) setChoices(({ [id]: _, ...others }) => others);
    else api.change(id, { model: own }).then(onChange, complain);
  }, [id, own, isStored, stored, onChange]);

  return { next: named ?? conversation?.model ?? null, named, choose };
}
