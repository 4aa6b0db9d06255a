/** A picture in its full size, with what one does with it. */
import { Download, X } from "lucide-react";
import { useEffect, useRef } from "react";
import { addressOf } from "../app/api";

export function PictureViewer({ url, onClose }: { url: string; onClose: () => void }) {
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
        <a className="icon" href={addressOf(url)} download aria-label="Download">
          <Download size={20} />
        </a>
        <button className="icon" onClick={onClose} aria-label="Close">
          <X size={20} />
        </button>
      </div>
      <img src={addressOf(url)} alt="Made by a tool" />
    </dialog>
  );
}
