/** Where a provider's key is entered. The service asks the provider before it stores the key. */
import { useId, useState, type ReactNode } from "react";
import { api, ServiceError, type Provider } from "../app/api";
import { messageOf } from "../app/errors";

interface Props {
  /** The providers to choose from: one, or several. */
  providers: Provider[];
  onStored: (provider: Provider) => void;
  /** Whether the key can be entered at once. */
  isFocused?: boolean;
  /** A second button, beside the one that stores the key. */
  children?: ReactNode;
}

interface Problem {
  message: string;
  /** The key was not refused: the provider could not be asked. */
  isUnchecked: boolean;
}

export function KeyForm({ providers, onStored, isFocused = false, children }: Props) {
  const [chosen, setChosen] = useState(providers[0]?.id ?? "");
  const [key, setKey] = useState("");
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isBusy, setIsBusy] = useState(false);
  const problemId = useId();

  const store = async (keep: boolean) => {
    setIsBusy(true);
    setProblem(null);
    try {
      const stored = await api.setKey(chosen, key.trim(), keep);
      setKey("");
      onStored(stored);
    } catch (error) {
      setProblem({
        message: messageOf(error),
        isUnchecked: error instanceof ServiceError && error.code === "key_unchecked",
      });
    } finally {
      setIsBusy(false);
    }
  };

  return (
    <form
      className="key-form"
      onSubmit={(event) => {
        event.preventDefault();
        void store(false);
      }}
    >
      {providers.length > 1 && (
        <label>
          Provider
          <select
            value={chosen}
            onChange={(event) => {
              setChosen(event.target.value);
              setProblem(null);
            }}
          >
            {providers.map((one) => (
              <option key={one.id} value={one.id}>
                {one.title}
              </option>
            ))}
          </select>
        </label>
      )}
      <label>
        Key
        <input
          type="password"
          autoFocus={isFocused}
          autoComplete="off"
          required
          maxLength={1000}
          value={key}
          onChange={(event) => {
            setKey(event.target.value);
            setProblem(null);
          }}
          aria-describedby={problem ? problemId : undefined}
        />
      </label>
      {problem && (
        <p className="error" role="alert" id={problemId}>
          {problem.message}
        </p>
      )}
      <div className="buttons">
        <button className="primary" disabled={isBusy || !key.trim()}>
          {isBusy ? "Asking the provider…" : "Store the key"}
        </button>
        {problem?.isUnchecked && (
          <button type="button" disabled={isBusy} onClick={() => void store(true)}>
            Store it anyway
          </button>
        )}
        {children}
      </div>
    </form>
  );
}
