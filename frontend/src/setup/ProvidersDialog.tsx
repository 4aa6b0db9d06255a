/** The providers and their keys: add, test, replace, remove. */
import { CircleAlert, CircleCheck } from "lucide-react";
import { useEffect, useState } from "react";
import { api, type Models, type Provider } from "../app/api";
import { Dialog } from "../app/Dialog";
import { messageOf } from "../app/errors";
import { complain } from "../app/notices";
import { KeyForm } from "./KeyForm";

interface Props {
  onModels: (models: Models) => void;
  onClose: () => void;
}

export function ProvidersDialog({ onModels, onClose }: Props) {
  const [providers, setProviders] = useState<Provider[] | null>(null);

  const read = async () => {
    const models = await api.models();
    setProviders(models.providers);
    onModels(models);
  };
  useEffect(() => {
    read().catch(complain);
  }, []);

  return (
    <Dialog title="Providers and keys" onClose={onClose}>
      <p className="note">
        A key is stored on the machine of the service, readable by its owner alone, and sent to its provider only.
      </p>
      <ul className="providers" aria-busy={providers === null}>
        {providers?.map((one) => (
          <Entry key={one.id} provider={one} onChange={() => read().catch(complain)} />
        ))}
      </ul>
    </Dialog>
  );
}

interface Result {
  text: string;
  isError: boolean;
}

function Entry({ provider, onChange }: { provider: Provider; onChange: () => Promise<void> }) {
  const [isEntering, setIsEntering] = useState(false);
  const [result, setResult] = useState<Result | null>(null);
  const [isBusy, setIsBusy] = useState(false);
  const shown = result ?? (provider.error ? { text: provider.error, isError: true } : null);

  const attempt = async (work: () => Promise<Result>) => {
    setIsBusy(true);
    setResult(null);
    try {
      setResult(await work());
      await onChange();
    } catch (error) {
      setResult({ text: messageOf(error), isError: true });
    } finally {
      setIsBusy(false);
    }
  };

  const test = async (): Promise<Result> => {
    const { error } = await api.testKey(provider.id);
    return error ? { text: error, isError: true } : { text: `${provider.title} answers.`, isError: false };
  };

  const remove = async (): Promise<Result> => {
    await api.removeKey(provider.id);
    return { text: "The key was removed.", isError: false };
  };

  return (
    <li aria-label={provider.title}>
      <div className="provider">
        <b>{provider.title}</b>
        <small>{stateOf(provider)}</small>
        <span className="buttons">
          {provider.configured && (
            <button disabled={isBusy} onClick={() => void attempt(test)}>
              Test
            </button>
          )}
          {provider.key_source === "stored" && (
            <button disabled={isBusy} onClick={() => void attempt(remove)}>
              Remove
            </button>
          )}
          {provider.key_source !== "environment" && (
            <button aria-expanded={isEntering} disabled={isBusy} onClick={() => setIsEntering(!isEntering)}>
              {provider.key_source === "stored" ? "Replace" : "Add a key"}
            </button>
          )}
        </span>
      </div>
      {shown && (
        <p className={shown.isError ? "result error" : "result"} role="status">
          {shown.isError ? <CircleAlert size={15} /> : <CircleCheck size={15} />} {shown.text}
        </p>
      )}
      {isEntering && (
        <KeyForm
          providers={[provider]}
          isFocused
          onStored={(stored) => {
            setIsEntering(false);
            setResult(
              stored.error
                ? { text: stored.error, isError: true }
                : { text: `${stored.title} accepts the key. It was stored.`, isError: false },
            );
            void onChange();
          }}
        >
          <button type="button" onClick={() => setIsEntering(false)}>
            Cancel
          </button>
        </KeyForm>
      )}
    </li>
  );
}

function stateOf({ key_source, key_variable, configured }: Provider): string {
  if (key_source === "environment") return key_variable ? `Key from ${key_variable}` : "Key from the environment";
  if (key_source === "stored") return "Key stored here";
  if (!key_variable) return configured ? "Needs no key" : "Needs no key; was not found";
  return configured ? "No key" : "No key yet";
}
