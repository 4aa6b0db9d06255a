/** The assistant in ComfyUI's sidebar. */
import { MessageSquarePlus, PlugZap, Workflow } from "lucide-react";
import { useCallback, useEffect, useMemo, useState } from "react";
import { api, type Conversation as ConversationData, type Model, type Models, type Skill } from "../app/api";
import { useConnection } from "../app/connection";
import { newId } from "../app/ids";
import { useModel } from "../app/useModel";
import { complain, Notices, notify } from "../app/notices";
import { Conversation } from "../chat/Conversation";
import { ProvidersDialog } from "../setup/ProvidersDialog";
import { COMMANDS, type Command } from "../chat/commands";
import { changeConversation } from "../chat/conversationCommands";
import { canvasTools } from "./canvas";
import type { ComfyApp } from "./comfy";

const NO_MODELS: Model[] = [];
const OPEN = "atelier.open";
const IDEAS = [
  "Build a text-to-image workflow with a KSampler.",
  "What does the workflow on the canvas do?",
  "Why does my workflow fail?",
];

export function Tab({ app, address }: { app: ComfyApp; address: string }) {
  const connection = useConnection();
  const [shown, setShown] = useState(() => {
    const known = sessionStorage.getItem(OPEN);
    return known ? { id: known, isNew: false } : { id: newId(), isNew: true };
  });
  const [list, setList] = useState<ConversationData[]>([]);
  const [models, setModels] = useState<Models | null>(null);
  const [skills, setSkills] = useState<Skill[]>([]);
  const [showsProviders, setShowsProviders] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const [idea, setIdea] = useState<{ text: string; id: string } | null>(null);
  const [offered, setOffered] = useState<unknown>(null);
  const tools = useMemo(() => canvasTools(app), [app]);

  const refresh = useCallback(() => {
    api.conversations({ archived: false }).then(
      (page) => setList(page.items),
      () => {},
    );
  }, []);

  useEffect(() => {
    api.models().then(
      (found) => {
        setModels(found);
        setProblem(null);
      },
      (error: Error) => setProblem(error.message),
    );
    api.skills().then(
      (page) => setSkills(page.items),
      () => {},
    );
    refresh();
  }, [connection.returns, refresh]);

  const open = useCallback((id: string | null) => {
    if (id === null) sessionStorage.removeItem(OPEN);
    else sessionStorage.setItem(OPEN, id);
    setShown(id === null ? { id: newId(), isNew: true } : { id, isNew: false });
  }, []);

  // A workflow that was built without a canvas comes to the canvas: at once where that is empty, else when it is asked for.
  useEffect(() => {
    setOffered(null);
    if (shown.isNew) return;
    let isCurrent = true;
    api.canvas(shown.id).then(
      (canvas) => {
        if (!isCurrent || canvas.nodes.length === 0) return;
        if (app.graph.nodes.length === 0) put(canvas);
        else setOffered(canvas);
      },
      () => {}, // the service has no ComfyUI of its own, or the conversation no workflow
    );
    return () => {
      isCurrent = false;
    };
  }, [shown]);

  const put = (canvas: unknown) => {
    tools.run("applyWorkflowJson", { workflow: canvas }).then(() => {
      setOffered(null);
      notify("The conversation's workflow is on the canvas. Ctrl+Z takes it back.");
    }, complain);
  };

  const listed = list.find((one) => one.id === shown.id) ?? null;
  const isListed = listed !== null;
  const model = useModel(shown, listed, models?.items ?? NO_MODELS, refresh);

  const onCommand = (command: Command) => {
    const opened = { id: shown.id, isStored: isListed || !shown.isNew, refresh, leave: () => open(null) };
    if (changeConversation(command, opened)) return;
    switch (command.name) {
      case "help":
        notify(COMMANDS.map((one) => one.usage).join(" · "));
        break;
      case "new":
        open(null);
        break;
      case "model":
        model.choose(command.argument);
        break;
      case "export":
        notify(`Export it on the page at ${address}.`);
        break;
    }
  };

  if (problem !== null && models === null)
    return (
      <div className="thread-state" role="alert">
        <p>
          The service at <code>{address}</code> cannot be used: {problem}
        </p>
        <p className="note">
          Start it there with <code>ALLOWED_ORIGINS={location.origin}</code>, and enter its address and token in
          ComfyUI's settings under Atelier.
        </p>
      </div>
    );
  return (
    <main>
      <header className="top">
        <select
          aria-label="Conversation"
          value={isListed ? shown.id : ""}
          onChange={(event) => open(event.target.value || null)}
        >
          <option value="">New conversation</option>
          {list.map((one) => (
            <option key={one.id} value={one.id}>
              {one.title ?? "Untitled"}
            </option>
          ))}
        </select>
        <button className="icon" aria-label="New conversation" onClick={() => open(null)}>
          <MessageSquarePlus size={18} />
        </button>
      </header>
      {!connection.reachable && (
        <div className="banner" role="alert">
          <PlugZap size={16} /> The service at {address} does not answer. The tab goes on by itself when it is back.
        </div>
      )}
      {offered !== null && (
        <div className="banner">
          <Workflow size={16} /> This conversation has a workflow.
          <button onClick={() => put(offered)}>Put it on the canvas</button>
        </div>
      )}
      <Conversation
        key={`${shown.id}/${connection.returns}`}
        id={shown.id}
        isNew={shown.isNew && sessionStorage.getItem(OPEN) === null}
        models={models?.items ?? []}
        model={model}
        onProviders={() => setShowsProviders(true)}
        onStored={() => sessionStorage.setItem(OPEN, shown.id)}
        onTurn={refresh}
        onCommand={onCommand}
        onMissing={() => open(null)}
        skills={skills}
        onWorkflow={put}
        clientTools={tools}
        idea={idea}
        empty={
          <div className="empty">
            <h2>What shall we make?</h2>
            <div className="ideas">
              {IDEAS.map((text) => (
                <button key={text} onClick={() => setIdea({ text, id: newId() })}>
                  {text}
                </button>
              ))}
            </div>
          </div>
        }
      />
      {showsProviders && <ProvidersDialog onModels={setModels} onClose={() => setShowsProviders(false)} />}
      <Notices />
    </main>
  );
}
