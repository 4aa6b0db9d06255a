/** What the next call would send to the model, and what each part of it costs. */
import { useEffect, useState } from "react";
import { api, type Context } from "../app/api";
import { Dialog } from "../app/Dialog";

export function ContextDialog({ id, model, onClose }: { id: string; model: string | null; onClose: () => void }) {
  const [context, setContext] = useState<Context | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    api.context(id, model).then(setContext, (error: Error) => setProblem(error.message));
  }, [id, model]);
  const tools = context?.tools.reduce((sum, tool) => sum + tool.tokens, 0) ?? 0;
  return (
    <Dialog title="Context" onClose={onClose}>
      {problem && <p role="alert">{problem}</p>}
      {context && (
        <>
          <p>
            The next call to <code>{context.model}</code> sends about <b>{context.tokens.toLocaleString("en")}</b> of{" "}
            {context.budget.toLocaleString("en")} tokens.
          </p>
          <progress aria-label="Share of the budget" value={context.tokens} max={context.budget} />
          <div className="costs">
            {context.parts.map((part) => (
              <details key={part.name}>
                <summary>
                  {part.name} <small>{part.tokens}</small>
                </summary>
                <pre>{part.text}</pre>
              </details>
            ))}
            <details>
              <summary>
                {context.tools.length} tools <small>{tools}</small>
              </summary>
              <p>{context.tools.map((tool) => `${tool.name} ${tool.tokens}`).join(" · ")}</p>
            </details>
            <details>
              <summary>
                {context.messages.filter((one) => one.role !== "system").length} messages{" "}
                <small>{context.messages_tokens}</small>
              </summary>
              <pre>{JSON.stringify(context.messages, null, 2)}</pre>
            </details>
          </div>
        </>
      )}
    </Dialog>
  );
}
