/** Which model answers, with what each can. */
import { Brain, ChevronDown, Image, KeyRound, Wrench } from "lucide-react";
import { useEffect, useId, useMemo, useRef, useState } from "react";
import type { Model } from "../app/api";

export function ModelPicker({
  models,
  model,
  onModel,
  onProviders,
}: {
  models: Model[];
  model: string | null;
  onModel: (model: string) => void;
  onProviders: () => void;
}) {
  const [isOpen, setIsOpen] = useState(false);
  const [wanted, setWanted] = useState("");
  const box = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const list = useId();
  const current = models.find((one) => (model === null ? one.default : one.id === model));
  const id = model ?? current?.id ?? null;
  const groups = useMemo(() => {
    const found = new Map<string, Model[]>();
    for (const one of models)
      if (one.id.toLowerCase().includes(wanted.toLowerCase()))
        found.set(one.provider, [...(found.get(one.provider) ?? []), one]);
    return [...found];
  }, [models, wanted]);

  useEffect(() => {
    if (!isOpen) return;
    const close = (event: PointerEvent) => {
      if (!box.current?.contains(event.target as Node)) setIsOpen(false);
    };
    document.addEventListener("pointerdown", close);
    return () => document.removeEventListener("pointerdown", close);
  }, [isOpen]);

  const choose = (id: string) => {
    onModel(id);
    setIsOpen(false);
    button.current?.focus();
  };

  return (
    <div
      className="picker"
      ref={box}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || !isOpen) return;
        event.stopPropagation();
        setIsOpen(false);
        button.current?.focus();
      }}
    >
      <button
        type="button"
        ref={button}
        className="quiet"
        aria-haspopup="listbox"
        aria-expanded={isOpen}
        aria-label={`Model: ${id ?? "none"}`}
        onClick={() => setIsOpen(!isOpen)}
      >
        <span>{current?.name ?? (id ? `${id} (not available)` : "Model")}</span> <ChevronDown size={14} />
      </button>
      {isOpen && (
        <div className="menu">
          <input
            autoFocus
            type="search"
            aria-label="Search models"
            placeholder="Search models"
            value={wanted}
            onChange={(event) => setWanted(event.target.value)}
            onKeyDown={(event) => {
              const first = groups[0]?.[1][0];
              if (event.key === "Enter") {
                event.preventDefault();
                if (first) choose(first.id);
              }
            }}
          />
          <div id={list} className="options">
            {groups.map(([provider, ones]) => (
              <div key={provider} role="group" aria-label={provider}>
                <h4>{provider}</h4>
                {ones.map((one) => (
                  <button
                    type="button"
                    key={one.id}
                    aria-pressed={one.id === current?.id}
                    onClick={() => choose(one.id)}
                    title={one.id}
                  >
                    <span>{one.name}</span>
                    <small>
                      {one.tools !== false && <Wrench size={13} aria-label="uses tools" />}
                      {one.images && <Image size={13} aria-label="sees pictures" />}
                      {one.reasoning && <Brain size={13} aria-label="reasons" />}
                      {one.context_tokens !== undefined && ` ${Math.round(one.context_tokens / 1000)}k`}
                      {one.input_price !== undefined && ` $${one.input_price}/$${one.output_price ?? "?"}`}
                      {one.retires_soon && (
                        <em title={one.successor && `Use ${one.successor} instead`}> retires {one.retires}</em>
                      )}
                    </small>
                  </button>
                ))}
              </div>
            ))}
            {groups.length === 0 && <p className="none">No model of that name.</p>}
          </div>
          <button
            type="button"
            className="more"
            onClick={() => {
              setIsOpen(false);
              onProviders();
            }}
          >
            <KeyRound size={15} aria-hidden="true" /> Providers and keys
          </button>
        </div>
      )}
    </div>
  );
}
