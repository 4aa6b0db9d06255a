/** What an empty conversation shows: how to begin, and, where no provider is configured, a place for a key. */
import { KeyRound } from "lucide-react";
import { useState } from "react";
import { api, type Models } from "../app/api";
import { messageOf } from "../app/errors";

const IDEAS = ["What can you do here?", "What is 17 times 23?", "Explain how a sampler turns noise into a picture."];

interface Props {
  models: Models | null;
  onIdea: (text: string) => void;
  onModels: (models: Models) => void;
}

export function Setup({ models, onIdea, onModels }: Props) {
  const [goesOn, setGoesOn] = useState(false);
  const hasProvider = models?.items.some((model) => model.provider !== "demo") ?? true;
  return (
    <div className="empty">
      <h2>What shall we make?</h2>
      {models !== null && !hasProvider && !goesOn ? (
        <KeyForm models={models} onModels={onModels} onDemo={() => setGoesOn(true)} />
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
          {IDEAS.map((idea) => (
            <button key={idea} onClick={() => onIdea(idea)}>
              {idea}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}

function KeyForm({
  models,
  onModels,
  onDemo,
}: {
  models: Models;
  onModels: (models: Models) => void;
  onDemo: () => void;
}) {
  const providers = models.providers.filter((one) => one.key_variable);
  const [provider, setProvider] = useState(providers[0]?.id ?? "");
  const [key, setKey] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const [isStored, setIsStored] = useState(false);
  const [isBusy, setIsBusy] = useState(false);

  const store = async () => {
    setIsBusy(true);
    setProblem(null);
    setIsStored(false);
    try {
      const stored = await api.setKey(provider, key.trim());
      setIsStored(true);
      if (stored.error) setProblem(stored.error);
      else onModels(await api.models());
    } catch (error) {
      setProblem(messageOf(error));
    } finally {
      setIsBusy(false);
    }
  };

  return (
    <form
      className="setup"
      onSubmit={(event) => {
        event.preventDefault();
        void store();
      }}
    >
      <p>
        <KeyRound size={18} aria-hidden="true" /> To talk to a real model, enter the key of one provider. It is kept on
        this machine, readable by you alone, and is sent to that provider only.
      </p>
      <label>
        Provider
        <select value={provider} onChange={(event) => setProvider(event.target.value)}>
          {providers.map((one) => (
            <option key={one.id} value={one.id}>
              {one.title}
            </option>
          ))}
        </select>
      </label>
      <label>
        Key
        <input
          type="password"
          autoComplete="off"
          required
          value={key}
          onChange={(event) => setKey(event.target.value)}
          aria-describedby={problem ? "key-problem" : undefined}
        />
      </label>
      {problem && (
        <p className="error" role="alert" id="key-problem">
          {problem}{" "}
          {isStored && (
            <button type="button" className="link" onClick={() => void api.models().then(onModels)}>
              Use it all the same
            </button>
          )}
        </p>
      )}
      <div>
        <button className="primary" disabled={isBusy || !key.trim()}>
          {isBusy ? "Asking the provider…" : "Store the key"}
        </button>
        <button type="button" onClick={onDemo}>
          Go on with the demo model
        </button>
      </div>
    </form>
  );
}
