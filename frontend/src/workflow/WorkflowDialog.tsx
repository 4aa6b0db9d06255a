/** The workflow of a conversation as a drawing, and what one does with it. */
import { Download, Play } from "lucide-react";
import { useEffect, useState } from "react";
import { api, type Canvas } from "../app/api";
import { Dialog } from "../app/Dialog";
import { Drawing } from "./Drawing";

export function WorkflowDialog({ id, onClose, onRun }: { id: string; onClose: () => void; onRun: () => void }) {
  const [canvas, setCanvas] = useState<Canvas | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    api.canvas(id).then(setCanvas, (error: Error) => setProblem(error.message));
  }, [id]);
  return (
    <Dialog title="Workflow" onClose={onClose} wide>
      {problem && <p role="alert">{problem}</p>}
      {canvas && canvas.nodes.length === 0 && (
        <p className="note">There is no workflow yet. Ask for one: “Build a text-to-image workflow with a KSampler.”</p>
      )}
      {canvas && canvas.nodes.length > 0 && (
        <>
          <Drawing canvas={canvas} />
          <div className="row">
            <button className="primary" onClick={onRun}>
              <Play size={15} /> Run it
            </button>
            <a className="file" href={api.workflowUrl(id, "api")} download>
              <Download size={15} /> API format
            </a>
            <a className="file" href={api.workflowUrl(id, "canvas")} download>
              <Download size={15} /> For ComfyUI's canvas
            </a>
          </div>
        </>
      )}
    </Dialog>
  );
}
