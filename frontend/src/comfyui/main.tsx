/** ComfyUI's extension: a tab in the sidebar, with the address and the token of the service in ComfyUI's settings. */
import { createRoot } from "react-dom/client";
import { useService } from "../app/api";
import { inShadow } from "../chat/math";
import styles from "../styles.css?inline";
import type { ComfyApp } from "./comfy";
import { Tab } from "./Tab";
// @ts-expect-error ComfyUI serves this beside its extensions.
import { app as imported } from "../../scripts/app.js";

const app = imported as ComfyApp;
const URL_SETTING = "Atelier.Url";
const TOKEN_SETTING = "Atelier.Token";
const DEFAULT_URL = "http://127.0.0.1:8000";

/** Have `root` in ComfyUI's colours, light or dark, whatever they become. Gives a function that ends it. */
function followTheme(root: HTMLElement): () => void {
  const follow = () => {
    root.dataset.theme = getComputedStyle(document.body).colorScheme.includes("dark") ? "dark" : "light";
  };
  follow();
  const observer = new MutationObserver(follow);
  for (const element of [document.documentElement, document.body])
    observer.observe(element, { attributeFilter: ["class", "style"] });
  return () => observer.disconnect();
}

/** What is shown of the service, and at which address; it lives on while the tab is closed, since the agent may be at work. */
let shown: { host: HTMLElement; address: string; token: string; end: () => void } | null = null;

function show(address: string, token: string): HTMLElement {
  if (shown?.address === address && shown.token === token) return shown.host;
  shown?.end();
  useService(address, token || null);
  const host = document.createElement("div");
  host.style.height = "100%";
  // Its own tree of styles: neither side's reach into the other's.
  const shadow = host.attachShadow({ mode: "open" });
  const style = document.createElement("style");
  style.textContent = styles;
  const root = document.createElement("div");
  root.className = "tab";
  shadow.append(style, root);
  // ComfyUI listens for keys on the whole page; what is written here is not meant for it.
  for (const type of ["keydown", "keyup", "keypress", "paste", "copy"])
    root.addEventListener(type, (event) => event.stopPropagation());
  const drawn = createRoot(root);
  drawn.render(<Tab app={app} address={address} />);
  const unfollow = followTheme(root);
  const end = () => {
    unfollow();
    drawn.unmount();
  };
  shown = { host, address, token, end };
  return host;
}

app.registerExtension({
  name: "Atelier",
  settings: [
    {
      id: URL_SETTING,
      category: ["Atelier", "Service", "Address"],
      name: "Address of the service",
      type: "text",
      defaultValue: DEFAULT_URL,
    },
    {
      id: TOKEN_SETTING,
      category: ["Atelier", "Service", "Token"],
      name: "Token of the service",
      tooltip: "The service prints it when it starts. It is kept in ComfyUI's settings.",
      type: "text",
      defaultValue: "",
    },
  ],
  setup() {
    inShadow();
    app.extensionManager.registerSidebarTab({
      id: "atelier",
      icon: "pi pi-comments",
      title: "Atelier",
      tooltip: "Atelier: build and run workflows by talking",
      type: "custom",
      render(element: HTMLElement) {
        const address = String(app.extensionManager.setting.get(URL_SETTING) || DEFAULT_URL);
        const token = String(app.extensionManager.setting.get(TOKEN_SETTING) || "");
        element.style.height = "100%";
        element.replaceChildren(show(address, token));
      },
    });
  },
});
