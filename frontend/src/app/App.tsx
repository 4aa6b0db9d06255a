/** The page: the list beside one conversation, and what stands above both. */
import { Gauge, Menu, PlugZap, Workflow } from "lucide-react";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { Conversation } from "../chat/Conversation";
import { ContextDialog } from "../chat/ContextDialog";
import { COMMANDS, type Command } from "../chat/commands";
import { changeConversation } from "../chat/conversationCommands";
import { ProvidersDialog } from "../setup/ProvidersDialog";
import { Setup } from "../setup/Setup";
import { Sidebar } from "../sidebar/Sidebar";
import { useConversations } from "../sidebar/useConversations";
import { SkillsDialog } from "../skills/SkillsDialog";
import { WorkflowDialog } from "../workflow/WorkflowDialog";
import { api, type Conversation as ConversationData, type Model, type Models, type Skill } from "./api";
import { useConnection } from "./connection";
import { Dialog } from "./Dialog";
import { newId } from "./ids";
import { complain, Notices, notify } from "./notices";
import { useModel } from "./useModel";

const NO_MODELS: Model[] = [];

interface Shown {
  id: string;
  isNew: boolean;
}

/** Have the browser save what is at an address. */
function save(url: string, name: string): void {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}

function download(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  save(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** The conversation that the address names, or a new one. */
function shownByAddress(): Shown {
  const id = decodeURIComponent(location.hash.slice(1));
  return /^[A-Za-z0-9_-]{1,64}$/.test(id) ? { id, isNew: false } : { id: newId(), isNew: true };
}

export function App() {
  const connection = useConnection();
  const [shown, setShown] = useState(shownByAddress);
  const [models, setModels] = useState<Models | null>(null);
  const [showsList, setShowsList] = useState(false);
  const [dialog, setDialog] = useState<"help" | "skills" | "workflow" | "context" | "providers" | null>(null);
  const [hasWorkflows, setHasWorkflows] = useState(false);
  const [skills, setSkills] = useState<Skill[]>([]);
  const [idea, setIdea] = useState<{ text: string; id: string } | null>(null);
  const menuButton = useRef<HTMLButtonElement>(null);

  const open = useCallback((id: string | null) => {
    setShowsList(false);
    setShown((now) => (id === null ? { id: newId(), isNew: true } : now.id === id ? now : { id, isNew: false }));
    history.pushState(null, "", id === null ? location.pathname : `#${id}`);
  }, []);

  const list = useConversations(
    useCallback((id: string) => {
      if (location.hash.slice(1) === id) history.replaceState(null, "", location.pathname);
      setShown((now) => (now.id === id ? { id: newId(), isNew: true } : now));
    }, []),
  );

  useEffect(() => {
    const follow = () => {
      const named = shownByAddress();
      setShown((now) => (now.id === named.id || (named.isNew && now.isNew) ? now : named));
    };
    window.addEventListener("popstate", follow);
    window.addEventListener("hashchange", follow);
    return () => {
      window.removeEventListener("popstate", follow);
      window.removeEventListener("hashchange", follow);
    };
  }, []);

  useEffect(() => {
    api.models().then(setModels, complain);
    api.me().then((me) => setHasWorkflows(me.features.workflows), complain);
    api.skills().then((page) => setSkills(page.items), complain);
    list.refresh();
  }, [connection.returns, list.refresh]);

  // What other clients did meanwhile is seen when one comes back to the page.
  useEffect(() => {
    window.addEventListener("focus", list.refresh);
    return () => window.removeEventListener("focus", list.refresh);
  }, [list.refresh]);

  // The list may leave out the conversation that is open: it is searched, or shows others only.
  const begun = useRef(new Set<string>());
  const [opened, setOpened] = useState<ConversationData | null>(null);
  useEffect(() => {
    const listed = list.items.find((one) => one.id === shown.id);
    setOpened((now) => listed ?? (now?.id === shown.id ? now : null));
    if (listed || list.isLoading || (shown.isNew && !begun.current.has(shown.id))) return;
    let isCurrent = true;
    api.conversation(shown.id).then(
      (found) => isCurrent && setOpened(found),
      () => {}, // whoever shows its messages says so
    );
    return () => {
      isCurrent = false;
    };
  }, [list.items, list.isLoading, shown]);
  const onTurn = useCallback(
    (id: string) => {
      begun.current.add(id);
      list.refresh();
    },
    [list.refresh],
  );

  const title = opened?.title ?? null;
  useEffect(() => {
    document.title = title ? `${title} · Atelier` : "Atelier";
  }, [title]);

  const stored = opened?.id === shown.id ? opened : null;
  const model = useModel(shown, stored, models?.items ?? NO_MODELS, list.refresh);
  const next = models?.items.find((one) => (model.next === null ? one.default : one.id === model.next));

  const onStored = useCallback(() => {
    if (location.hash.slice(1) !== shown.id) history.replaceState(null, "", `#${shown.id}`);
  }, [shown.id]);

  const onCommand = useCallback(
    (command: Command) => {
      const isStored = opened !== null;
      if (changeConversation(command, { id: shown.id, isStored, refresh: list.refresh, leave: () => open(null) }))
        return;
      switch (command.name) {
        case "help":
          setDialog("help");
          break;
        case "new":
          open(null);
          break;
        case "model":
          model.choose(command.argument);
          notify(`${command.argument} answers in this conversation from now on.`);
          break;
        case "export":
          save(api.exportUrl(shown.id, command.argument === "json" ? "json" : "markdown"), "");
          break;
      }
    },
    [shown.id, opened, open, model.choose, list.refresh],
  );

  const empty = useMemo(
    () => (
      <Setup
        models={models}
        isDemo={next?.provider === "demo"}
        onIdea={(text) => setIdea({ text, id: newId() })}
        onModels={setModels}
      />
    ),
    [models, next?.provider],
  );

  return (
    <div className={showsList ? "page shows-list" : "page"}>
      <button className="skip" onClick={() => document.getElementById("composer")?.focus()}>
        To the message box
      </button>
      <Sidebar
        list={list}
        current={shown.id}
        onOpen={open}
        onNew={() => open(null)}
        onSkills={() => {
          setShowsList(false);
          setDialog("skills");
        }}
      />
      <button className="shade" tabIndex={-1} aria-hidden="true" onClick={() => setShowsList(false)} />
      <main>
        <header className="top">
          <button
            className="icon menu-button"
            ref={menuButton}
            aria-label="Conversations"
            aria-expanded={showsList}
            onClick={() => setShowsList(!showsList)}
          >
            <Menu size={20} />
          </button>
          <h2>{title ?? "New conversation"}</h2>
          {opened !== null && (
            <>
              {hasWorkflows && (
                <button className="quiet" aria-label="Workflow" onClick={() => setDialog("workflow")}>
                  <Workflow size={16} /> <span>Workflow</span>
                </button>
              )}
              <button className="quiet" aria-label="Context" onClick={() => setDialog("context")}>
                <Gauge size={16} /> <span>Context</span>
              </button>
            </>
          )}
        </header>
        {!connection.reachable && (
          <div className="banner" role="alert">
            <PlugZap size={16} /> The service does not answer. What you wrote is kept; the page goes on by itself when
            it is back.
          </div>
        )}
        <Conversation
          key={`${shown.id}/${connection.returns}`}
          id={shown.id}
          isNew={shown.isNew && location.hash === ""}
          models={models?.items ?? []}
          model={model}
          onProviders={() => setDialog("providers")}
          onStored={onStored}
          onTurn={onTurn}
          onCommand={onCommand}
          onMissing={() => {
            notify("There is no such conversation.", { isError: true });
            open(null);
          }}
          skills={skills}
          onWorkflow={(workflow) => {
            api.putWorkflow(shown.id, workflow).then(
              () => setDialog("workflow"),
              (error: Error) => {
                notify(`${error.message} The workflow is downloaded instead.`, { isError: true });
                download("workflow.json", JSON.stringify(workflow, null, 2));
              },
            );
          }}
          empty={empty}
          idea={idea}
        />
      </main>
      {dialog === "providers" && <ProvidersDialog onModels={setModels} onClose={() => setDialog(null)} />}
      {dialog === "skills" && <SkillsDialog onClose={() => setDialog(null)} onChange={setSkills} />}
      {dialog === "workflow" && (
        <WorkflowDialog
          id={shown.id}
          onClose={() => setDialog(null)}
          onRun={() => {
            setDialog(null);
            setIdea({ text: "Run the workflow.", id: newId() });
          }}
        />
      )}
      {dialog === "context" && <ContextDialog id={shown.id} model={model.next} onClose={() => setDialog(null)} />}
      {dialog === "help" && (
        <Dialog title="Help" onClose={() => setDialog(null)}>
          <dl className="help">
            {COMMANDS.map((command) => (
              <div key={command.name}>
                <dt>
                  <code>{command.usage}</code>
                </dt>
                <dd>{command.help}</dd>
              </div>
            ))}
          </dl>
        </Dialog>
      )}
      <Notices />
    </div>
  );
}
