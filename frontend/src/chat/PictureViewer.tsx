/** A picture in its full size, with what one does with it. */
import { Download, Workflow, X } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { workflowIn } from "../app/png";
import { useSource } from "../app/source";

interface Props {
  url: string;
  onClose: () => void;
  onWorkflow: (workflow: Record<string, unknown>) => void;
}

export function PictureViewer({ url, onClose, onWorkflow }: Props) {
  const source = useSource(url) ?? undefined;
  const dialog = useRef<HTMLDialogElement>(null);
  const [workflow, setWorkflow] = useState<Record<string, unknown> | null>(null);
  useEffect(() => dialog.current?.showModal(), []);
  useEffect(() => {
    if (!source) return;
    let isCurrent = true;
    bytesOf(source).then(
      (bytes) => isCurrent && setWorkflow(workflowIn(bytes)),
      () => {}, // the picture itself shows that it cannot be loaded
    );
    return () => {
      isCurrent = false;
    };
  }, [source]);
  return (
    <dialog
      ref={dialog}
      className="viewer"
      aria-label="Picture"
      onClose={onClose}
      onClick={(event) => event.target === dialog.current && onClose()}
    >
      <div className="bar">
        {workflow && (
          <button onClick={() => onWorkflow(workflow)}>
            <Workflow size={16} /> Open the workflow
          </button>
        )}
        <a className="icon" href={source} download="" aria-label="Download">
          <Download size={20} />
        </a>
        <button className="icon" onClick={onClose} aria-label="Close">
          <X size={20} />
        </button>
      </div>
      {source && <img src={source} alt="In its full size" />}
    </dialog>
  );
}

/** The bytes behind an address; those of a data URL without asking anybody, which the page's policy would refuse. */
async function bytesOf(source: string): Promise<ArrayBuffer> {
  const data = /^data:[^,]*;base64,(.*)$/s.exec(source)?.[1];
  if (data === undefined) return (await fetch(source)).arrayBuffer();
  return Uint8Array.from(atob(data), (character) => character.charCodeAt(0)).buffer;
}
