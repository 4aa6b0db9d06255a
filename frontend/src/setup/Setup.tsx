/** What an empty conversation shows: how to begin, and, where no provider is configured, a place for a key. */
import { KeyRound } from "lucide-react";
import { useState } from "react";
import { api, type Models } from "../app/api";
import { complain } from "../app/notices";
import { KeyForm } from "./KeyForm";

const IDEAS = [
  "What can you do here?",
  "Draft a polite reply to a late invoice.",
  "Explain recursion with an example.",
];
/** What the built-in demonstration can answer. */
const DEMO_IDEAS = ["What can you do here?", "What is 17 times 23?", "Calculate 5 * 3, then multiply that by 2"];

interface Props {
  models: Models | null;
  /** Whether the next answer is the demonstration's. */
  isDemo: boolean;
  onIdea: (text: string) => void;
  onModels: (models: Models) => void;
}

export function Setup({ models, isDemo, onIdea, onModels }: Props) {
  const [goesOn, setGoesOn] = useState(false);
  if (models === null) return <div className="empty" aria-busy="true" />;
  const hasProvider = models.items.some((model) => model.provider !== "demo");
  return (
    <div className="empty">
      <h2>What shall we make?</h2>
      {!hasProvider && !goesOn ? (
        <div className="setup">
          <p>
            <KeyRound size={18} aria-hidden="true" /> To talk to a real model, enter the key of one provider. It is
            stored on this machine, readable by you alone, and sent to that provider only.
          </p>
          <KeyForm
            providers={models.providers.filter((one) => one.key_variable)}
            onStored={() => void api.models().then(onModels, complain)}
          >
            <button type="button" onClick={() => setGoesOn(true)}>
              Go on with the demo model
            </button>
          </KeyForm>
        </div>
      ) : (
        <div className="ideas">
          {!hasProvider && (
            <p className="note">
              The demo model answers, which does arithmetic and nothing else.{" "}
              <button className="link" onClick={() => setGoesOn(false)}>
                Enter a key
              </button>
            </p>
          )}
          {(isDemo ? DEMO_IDEAS : IDEAS).map((idea) => (
            <button key={idea} onClick={() => onIdea(idea)}>
              {idea}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}
