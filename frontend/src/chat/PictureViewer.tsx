/** A picture in its full size, with what one does with it. */
import { Download, X } from "lucide-react";
import { useEffect, useRef } from "react";
import { useSource } from "../app/source";

export function PictureViewer({ url, onClose }: { url: string; onClose: () => void }) {
  const source = useSource(url) ?? undefined;
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog
      ref={dialog}
      className="viewer"
      aria-label="Picture"
      onClose={onClose}
      onClick={(event) => event.target === dialog.current && onClose()}
    >
      <div className="bar">
        <a className="icon" href={source} download aria-label="Download">
          <Download size={20} />
        </a>
        <button className="icon" onClick={onClose} aria-label="Close">
          <X size={20} />
        </button>
      </div>
      {source && <img src={source} alt="Made by a tool" />}
    </dialog>
  );
}
