/** What this tab uses of ComfyUI's frontend, as it was seen in comfyui-frontend-package 1.27 and 1.58. */

/** A number at first; newer frontends have the number's text. */
export type NodeId = number | string;

export interface Slot {
  name: string;
  type: string | number;
  widget?: { name: string };
}

export interface Widget {
  name: string;
  type: string;
  value: unknown;
  options?: {
    min?: number;
    max?: number;
    step?: number;
    precision?: number;
    values?: unknown[] | (() => unknown[]);
    multiline?: boolean;
  };
  callback?: (value: unknown, ...rest: unknown[]) => void;
}

export interface GraphNode {
  id: NodeId;
  type: string;
  title: string;
  pos: [number, number];
  size: [number, number];
  inputs?: Slot[];
  outputs?: Slot[];
  widgets?: Widget[];
  connect(slot: number, target: GraphNode, targetSlot: number): unknown;
  disconnectInput(slot: number): boolean;
  getInputLink(slot: number): { id: number } | null | undefined;
}

interface Link {
  origin_id: NodeId;
  origin_slot: number;
  target_id: NodeId;
  target_slot: number;
  type: string;
}

export interface Graph {
  nodes: GraphNode[];
  getNodeById(id: NodeId): GraphNode | null;
  add(node: GraphNode): void;
  remove(node: GraphNode): void;
  clear(): void;
  configure(data: unknown): void;
  serialize(): unknown;
  links: Map<number, Link> | Record<number, Link>;
  setDirtyCanvas(foreground: boolean, background: boolean): void;
}

type Definitions = Record<
  string,
  {
    display_name?: string;
    category?: string;
    description?: string;
    input?: Record<"required" | "optional", Record<string, unknown> | undefined>;
    output?: string[];
    output_name?: string[];
    output_node?: boolean;
  }
>;

export interface ComfyApp {
  graph: Graph;
  canvas: unknown;
  api: {
    queuePrompt(number: number, prompt: { output: unknown; workflow: unknown }): Promise<{ prompt_id: string }>;
    interrupt(promptId?: string): Promise<unknown>;
    fetchApi(path: string, init?: RequestInit): Promise<Response>;
    apiURL(path: string): string;
    getNodeDefs(): Promise<Definitions>;
    addEventListener(type: string, listener: (event: CustomEvent) => void): void;
    removeEventListener(type: string, listener: (event: CustomEvent) => void): void;
  };
  graphToPrompt(): Promise<{ output: unknown; workflow: unknown }>;
  refreshComboInNodes?(): Promise<void>;
  registerExtension(extension: Record<string, unknown>): void;
  extensionManager: {
    registerSidebarTab(tab: Record<string, unknown>): void;
    setting: { get(id: string): unknown };
    workflow?: { activeWorkflow?: { changeTracker?: { checkState(): void; captureCanvasState?(): void } } | null };
  };
}

export interface LiteGraphGlobal {
  createNode(type: string): GraphNode | null;
  registered_node_types: Record<string, unknown>;
  isValidConnection(source: unknown, target: unknown): boolean;
}

declare global {
  interface Window {
    LiteGraph: LiteGraphGlobal;
    app: ComfyApp;
  }
}
