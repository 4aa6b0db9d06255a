/** Where one writes: text, attachments, the model, and commands that begin with a slash. */
import { AttachmentPrimitive, ComposerPrimitive, useAui, useAuiState } from "@assistant-ui/react";
import { flushTapSync } from "@assistant-ui/tap";
import { ArrowUp, FileText, Paperclip, Square, X } from "lucide-react";
import { useEffect, useMemo, useRef, useState, type KeyboardEvent } from "react";
import type { Model } from "../app/api";
import { notify } from "../app/notices";
import { COMMANDS, completionsFor, parseCommand, type Command } from "./commands";
import { ModelPicker } from "./ModelPicker";

export type { Command } from "./commands";

interface Props {
  conversationId: string;
  idea: { text: string; id: string } | null;
  models: Model[];
  model: string | null;
  onModel: (model: string) => void;
  onProviders: () => void;
  onCommand: (command: Command) => void;
  skills: { slug: string; name: string; description: string }[];
  onSkill: (slug: string) => void;
  isRunning: boolean;
  /** Whether the turn waits for somebody: one can stop it, or say something else. */
  isWaiting: boolean;
  onStop: () => void;
}

export function Composer(props: Props) {
  const aui = useAui();
  const text = useAuiState((state) => state.composer.text);
  const isEmpty = useAuiState((state) => state.composer.isEmpty);
  const [chosen, setChosen] = useState(0);
  const [isDismissed, setIsDismissed] = useState(false);
  const sent = useRef<string | null>(props.idea?.id ?? null);
  const draft = `atelier.draft.${props.conversationId}`;

  // What was written and not sent outlives a reload, and the service being away.
  useEffect(() => {
    const kept = sessionStorage.getItem(draft);
    if (kept) aui.composer().setText(kept);
  }, [aui, draft]);
  useEffect(() => {
    if (text) sessionStorage.setItem(draft, text);
    else sessionStorage.removeItem(draft);
  }, [text, draft]);

  useEffect(() => {
    if (!props.idea || sent.current === props.idea.id) return;
    sent.current = props.idea.id;
    aui.composer().setText(props.idea.text);
    aui.composer().send();
  }, [aui, props.idea]);

  const choices = useMemo(
    () => (isDismissed ? [] : completionsFor(text, props.models, props.skills)),
    [text, props.models, props.skills, isDismissed],
  );
  const selected = Math.min(chosen, Math.max(0, choices.length - 1));

  /** Put a text into the input before the next key arrives, which would be added to the old one otherwise. */
  const write = (next: string) => flushTapSync(() => aui.composer().setText(next));

  const complete = (index: number) => {
    const choice = choices[index];
    if (!choice) return;
    write(choice.text);
    setChosen(0);
  };

  /** Run the command in the input; false where there is none. */
  const runCommand = (): boolean => {
    const parsed = parseCommand(aui.composer().getState().text, props.models, props.skills);
    if (parsed === null) return false;
    if ("problem" in parsed) {
      notify(parsed.problem, { isError: true });
      return true;
    }
    if (parsed.name === "skill") {
      props.onSkill(parsed.argument);
      write(parsed.rest);
      if (parsed.rest) aui.composer().send();
      else notify(`The next message uses the skill ${parsed.argument}.`);
      return true;
    }
    write("");
    props.onCommand(parsed);
    return true;
  };

  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (event.nativeEvent.isComposing) return;
    if (choices.length > 0) {
      const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
      const isOpen = choices[selected]?.text !== text;
      if (step !== 0) {
        event.preventDefault();
        setChosen((selected + step + choices.length) % choices.length);
        return;
      }
      if (event.key === "Tab" || (event.key === "Enter" && !event.shiftKey && isOpen && !choices[selected]?.runs)) {
        event.preventDefault();
        complete(selected);
        return;
      }
      if (event.key === "Escape") {
        event.preventDefault();
        setIsDismissed(true);
        return;
      }
      if (event.key === "Enter" && !event.shiftKey && choices[selected]?.runs) {
        event.preventDefault();
        complete(selected);
        runCommand();
        return;
      }
    }
    if (event.key === "Enter" && !event.shiftKey && (runCommand() || props.isRunning)) event.preventDefault();
  };

  return (
    <ComposerPrimitive.Root
      className="composer"
      onSubmit={(event) => {
        if (runCommand()) event.preventDefault();
      }}
    >
      {choices.length > 0 && (
        <ul className="completions" id="completions" role="listbox" aria-label="Commands">
          {choices.map((choice, index) => (
            <li
              key={choice.text}
              id={`completion-${index}`}
              role="option"
              aria-selected={index === selected}
              onPointerDown={(event) => {
                event.preventDefault();
                complete(index);
              }}
            >
              <b>{choice.label}</b> <span>{choice.help}</span>
            </li>
          ))}
        </ul>
      )}
      <ComposerPrimitive.AttachmentDropzone className="dropzone">
        <div className="attachments">
          <ComposerPrimitive.Attachments components={{ Attachment: Attached }} />
        </div>
        <ComposerPrimitive.Input
          aria-label="Message"
          id="composer"
          placeholder="Say something, or / for commands"
          className="input"
          minRows={1}
          maxRows={12}
          autoFocus
          submitMode="enter"
          onKeyDown={onKeyDown}
          onChange={() => setIsDismissed(false)}
          {...(choices.length > 0 && {
            "aria-autocomplete": "list",
            "aria-controls": "completions",
            "aria-activedescendant": `completion-${selected}`,
          })}
        />
        <div className="bar">
          <ComposerPrimitive.AddAttachment className="icon" aria-label="Attach files" multiple>
            <Paperclip size={18} />
          </ComposerPrimitive.AddAttachment>
          <ModelPicker
            models={props.models}
            model={props.model}
            onModel={props.onModel}
            onProviders={props.onProviders}
          />
          <span className="space" />
          {props.isRunning || (props.isWaiting && isEmpty) ? (
            <button type="button" className="send" onClick={props.onStop} aria-label="Stop">
              <Square size={15} fill="currentColor" />
            </button>
          ) : (
            <ComposerPrimitive.Send className="send" aria-label="Send">
              <ArrowUp size={18} />
            </ComposerPrimitive.Send>
          )}
        </div>
      </ComposerPrimitive.AttachmentDropzone>
      <p className="hint">
        {COMMANDS.length} commands with <kbd>/</kbd> · <kbd>Shift</kbd>+<kbd>Enter</kbd> for a new line
      </p>
    </ComposerPrimitive.Root>
  );
}

function Attached() {
  const attachment = useAuiState((state) => state.attachment);
  const file = attachment.file;
  const preview = useMemo(
    () => (file && attachment.type === "image" ? URL.createObjectURL(file) : null),
    [file, attachment.type],
  );
  return (
    <AttachmentPrimitive.Root className="attachment">
      {preview ? <img src={preview} alt={attachment.name} /> : <FileText size={16} />}
      <span>{attachment.name}</span>
      <AttachmentPrimitive.Remove className="icon" aria-label={`Remove ${attachment.name}`}>
        <X size={14} />
      </AttachmentPrimitive.Remove>
    </AttachmentPrimitive.Root>
  );
}
