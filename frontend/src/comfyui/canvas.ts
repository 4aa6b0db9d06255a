/**
 * The tools on the canvas in front of the user. A tool that cannot do what it is asked says what could be done, and leaves the
 * canvas as it was; one that changes it makes one step for ComfyUI's own undo.
 */
import type { z } from "zod";
import * as declared from "../generated/tools";
import type { ComfyApp, GraphNode, NodeId, Slot, Widget } from "./comfy";

type Tool = (parameters: never) => unknown;
type Named = Record<string, Tool>;

const COLUMN = 340;
const SHOWN = 40;
/** Folders that ComfyUI lists beside those for models, with code and settings in them. */
const HIDDEN_FOLDERS = ["custom_nodes", "configs"];
const TEXT_TYPES = ["customtext", "text", "string"];

/** A change that cannot be made, in words that a model can act on. */
export class CanvasError extends Error {}

/** The tools by name, each taking what its declaration says. */
export function canvasTools(app: ComfyApp): {
  names: string[];
  run: (name: string, input: unknown) => Promise<unknown>;
  stop: () => Promise<void>;
} {
  const prompts = new Set<string>();
  const tools: Named = { ...graphTools(app, prompts), ...environmentTools(app) };
  const schemas: Record<string, z.ZodType> = { ...declared.graphTools, ...declared.environmentTools };
  return {
    names: Object.keys(tools),
    run: async (name, input) => {
      const tool = tools[name];
      const schema = schemas[name];
      if (!tool || !schema) throw new CanvasError(`There is no tool ${name} here.`);
      const parsed = schema.safeParse(input ?? {});
      if (!parsed.success) {
        const faults = parsed.error.issues.map(
          (issue) => `${issue.path.join(".") || "the parameters"}: ${issue.message}`,
        );
        throw new CanvasError(`The parameters do not fit ${name}. ${faults.join("; ")}`);
      }
      return storable(await tool(parsed.data as never));
    },
    stop: async () => {
      await Promise.all([...prompts].map((promptId) => app.api.interrupt(promptId)));
    },
  };
}

/** A result without what JSON's readers elsewhere cannot take: whole numbers of more than 64 bits, such as a seed's largest. */
function storable(value: unknown): unknown {
  if (typeof value === "number") return Math.abs(value) < 2 ** 63 || !Number.isInteger(value) ? value : String(value);
  if (ArrayBuffer.isView(value)) return Array.from(value as Float32Array);
  if (Array.isArray(value)) return value.map(storable);
  if (isRecord(value)) return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, storable(one)]));
  return value;
}

/** @param prompts the ids of the workflows that run. */
function graphTools(app: ComfyApp, prompts: Set<string>): Named {
  /** Make a change whole or not at all, and one step to undo. */
  const change = <T>(work: () => T): T => {
    const before = app.graph.serialize();
    try {
      const done = work();
      app.graph.setDirtyCanvas(true, true);
      app.extensionManager.workflow?.activeWorkflow?.changeTracker?.checkState();
      return done;
    } catch (error) {
      app.graph.configure(structuredClone(before));
      throw error;
    }
  };

  const nodeOf = (id: number): GraphNode => {
    const node = app.graph.getNodeById(id);
    if (node) return node;
    const there = app.graph.nodes.slice(0, SHOWN).map((one) => `${one.id} (${one.type})`);
    throw new CanvasError(`There is no node ${id}. The nodes: ${there.join(", ") || "none yet"}.`);
  };

  const create = (type: string, place?: { x: number; y: number } | null): GraphNode => {
    const node = window.LiteGraph.createNode(type);
    if (!node) {
      const close = closest(type, Object.keys(window.LiteGraph.registered_node_types));
      throw new CanvasError(
        `This ComfyUI has no node type ${type}. ${close.length ? `Close ones: ${close.join(", ")}. ` : ""}searchInstalledNodes finds what there is.`,
      );
    }
    node.pos = place ? [place.x, place.y] : freePlace(app.graph.nodes);
    app.graph.add(node);
    return node;
  };

  const connect = (source: GraphNode, sourceSlot: number, target: GraphNode, targetSlot: number) => {
    const output = source.outputs?.[sourceSlot];
    const input = target.inputs?.[targetSlot];
    if (!output)
      throw new CanvasError(
        `${said(source)} has no output slot ${sourceSlot}. Its outputs: ${listed(source.outputs)}.`,
      );
    if (!input)
      throw new CanvasError(`${said(target)} has no input slot ${targetSlot}. Its inputs: ${listed(target.inputs)}.`);
    if (!window.LiteGraph.isValidConnection(output.type, input.type)) {
      const takers = (target.inputs ?? [])
        .map((one, place) => ({ one, place }))
        .filter(({ one }) => window.LiteGraph.isValidConnection(output.type, one.type))
        .map(({ one, place }) => `${place} (${one.name})`);
      throw new CanvasError(
        `Output ${output.name} (${output.type}) of ${said(source)} does not fit input ${input.name} (${input.type}) of ${said(target)}.` +
          (takers.length ? ` ${output.type} fits its input slots ${takers.join(", ")}.` : ""),
      );
    }
    if (source === target || needs(source, target))
      throw new CanvasError(`${said(source)} needs the result of ${said(target)}: the workflow would run in a circle.`);
    if (!source.connect(sourceSlot, target, targetSlot))
      throw new CanvasError(`ComfyUI does not link ${said(source)} to ${said(target)}.`);
    return {
      source: idOf(source.id),
      output: output.name,
      target: idOf(target.id),
      input: input.name,
      type: output.type,
    };
  };

  /** Whether a node needs the result of another one. */
  const needs = (node: GraphNode, other: GraphNode): boolean => {
    const seen = new Set<NodeId>();
    const waiting = [idOf(node.id)];
    for (let id = waiting.pop(); id !== undefined; id = waiting.pop())
      for (const link of links()) {
        if (link.target !== id || seen.has(link.source)) continue;
        if (link.source === idOf(other.id)) return true;
        seen.add(link.source);
        waiting.push(link.source);
      }
    return false;
  };

  const links = (): Wire[] => {
    const there = app.graph.links instanceof Map ? [...app.graph.links.values()] : Object.values(app.graph.links);
    return there.map((link) => ({
      source: idOf(link.origin_id),
      sourceSlot: link.origin_slot,
      target: idOf(link.target_id),
      targetSlot: link.target_slot,
      type: link.type,
    }));
  };

  const setValue = (node: GraphNode, name: string, value: unknown) => {
    const widget = node.widgets?.find((one) => one.name === name);
    if (!widget) {
      const there = (node.widgets ?? []).map((one) => one.name);
      throw new CanvasError(`${said(node)} has no widget ${name}. Its widgets: ${there.join(", ") || "none"}.`);
    }
    const taken = takenBy(widget, value, said(node));
    const slot = (node.inputs ?? []).findIndex((one) => one.widget?.name === name);
    if (slot >= 0 && node.getInputLink(slot)) node.disconnectInput(slot);
    widget.value = taken;
    widget.callback?.(taken, app.canvas, node);
    return { nodeId: idOf(node.id), widget: name, value: widget.value };
  };

  return {
    addNode: ({ nodeType, position }: declared.AddNode) =>
      change(() => {
        const node = create(nodeType, position);
        return { nodeId: idOf(node.id), type: node.type, ...slotsOf(node), widgets: valuesOf(node) };
      }),

    removeNode: ({ nodeId }: declared.RemoveNode) => {
      const node = nodeOf(nodeId);
      return change(() => {
        app.graph.remove(node);
        return { removed: nodeId, type: node.type };
      });
    },

    connectNodes: ({ sourceNodeId, sourceSlot, targetNodeId, targetSlot }: declared.ConnectNodes) => {
      const [source, target] = [nodeOf(sourceNodeId), nodeOf(targetNodeId)];
      return change(() => connect(source, sourceSlot, target, targetSlot));
    },

    setNodeWidgetValue: ({ nodeId, widgetName, value }: declared.SetNodeWidgetValue) => {
      const node = nodeOf(nodeId);
      return change(() => setValue(node, widgetName, value));
    },

    fillPromptNode: ({ nodeId, text }: declared.FillPromptNode) => {
      const node = nodeOf(nodeId);
      const texts = (node.widgets ?? []).filter((one) => TEXT_TYPES.includes(one.type));
      const chosen = texts.find((one) => one.type === "customtext") ?? texts[0];
      if (!chosen)
        throw new CanvasError(`${said(node)} has no text widget. A prompt goes into a node such as CLIPTextEncode.`);
      return change(() => setValue(node, chosen.name, text));
    },

    getWorkflowInfo: (wanted: declared.GetWorkflowInfo) => {
      if (wanted.fullFormat) return app.graph.serialize();
      return {
        nodes: app.graph.nodes.map((node) => ({
          id: idOf(node.id),
          type: node.type,
          ...(node.title && node.title !== node.type && { title: node.title }),
          ...(wanted.includeNodeDetails && { ...slotsOf(node), widgets: valuesOf(node) }),
          ...(wanted.includeLayout && {
            position: { x: node.pos[0], y: node.pos[1] },
            size: [node.size[0], node.size[1]],
          }),
          ...(wanted.includeWidgetOptions && { widgetOptions: optionsOf(node) }),
        })),
        links: links(),
      };
    },

    executeWorkflow: ({ timeout }: declared.ExecuteWorkflow) => execute(app, prompts, timeout ?? null),

    applyWorkflowJson: ({ workflow }: declared.ApplyWorkflowJson) => {
      const given = isRecord(workflow.prompt) ? workflow.prompt : workflow;
      const nodes = Array.isArray(given.nodes) ? (given.nodes as { type?: unknown }[]) : null;
      const types = nodes ? nodes.map((one) => String(one.type)) : typesOf(given);
      const subgraphs = new Set(subgraphIds(given));
      const missing = [...new Set(types)].filter(
        (type) => !(type in window.LiteGraph.registered_node_types) && !subgraphs.has(type),
      );
      if (missing.length > 0)
        throw new CanvasError(
          `This ComfyUI does not have the node types ${missing.join(", ")}. Install them, or use others.`,
        );
      return change(() => {
        if (nodes) app.graph.configure(structuredClone(given));
        else applyApi(given as Record<string, ApiNode>);
        return { nodes: app.graph.nodes.length };
      });
    },
  };

  function applyApi(workflow: Record<string, ApiNode>): void {
    app.graph.clear();
    const made = new Map<string, GraphNode>();
    for (const [key, given] of Object.entries(workflow)) {
      const node = window.LiteGraph.createNode(given.class_type);
      if (!node) throw new CanvasError(`This ComfyUI has no node type ${given.class_type}.`);
      if (/^\d+$/.test(key)) node.id = typeof node.id === "string" ? key : Number(key);
      if (given._meta?.title) node.title = given._meta.title;
      app.graph.add(node);
      made.set(key, node);
    }
    for (const [key, given] of Object.entries(workflow)) {
      const node = made.get(key)!;
      for (const [name, value] of Object.entries(given.inputs)) {
        const source = Array.isArray(value) && value.length === 2 ? made.get(String(value[0])) : undefined;
        if (source) {
          const slot = (node.inputs ?? []).findIndex((one) => one.name === name || one.widget?.name === name);
          if (slot >= 0) connect(source, Number((value as unknown[])[1]), node, slot);
        } else if (node.widgets?.some((one) => one.name === name)) setValue(node, name, value);
      }
    }
    layOut([...made.values()], links());
  }
}

/** A link between two nodes, as the tools tell it. */
interface Wire {
  source: NodeId;
  sourceSlot: number;
  target: NodeId;
  targetSlot: number;
  type: string;
}

interface ApiNode {
  class_type: string;
  inputs: Record<string, unknown>;
  _meta?: { title?: string };
}

function environmentTools(app: ComfyApp): Named {
  return {
    refreshEnvironment: async (_: declared.RefreshEnvironment) => {
      await app.refreshComboInNodes?.();
      return { nodes: Object.keys(await app.api.getNodeDefs()).length };
    },

    searchInstalledNodes: async ({ query, category, limit }: declared.SearchInstalledNodes) => {
      const words = query.toLowerCase().split(/\s+/).filter(Boolean);
      const found = Object.entries(await app.api.getNodeDefs())
        .filter(([, node]) => !category || (node.category ?? "").toLowerCase().includes(category.toLowerCase()))
        .map(([name, node]) => {
          const places: [number, string][] = [
            [8, name],
            [5, node.display_name ?? ""],
            [1, `${node.category ?? ""} ${node.description ?? ""}`],
          ];
          const scores = words.map((word) =>
            Math.max(0, ...places.map(([weight, text]) => (text.toLowerCase().includes(word) ? weight : 0))),
          );
          return { name, node, score: scores.some((one) => one === 0) ? 0 : scores.reduce((a, b) => a + b, 0) };
        })
        .filter((one) => one.score > 0)
        .sort((a, b) => b.score - a.score || a.name.localeCompare(b.name));
      return {
        total: found.length,
        nodes: found.slice(0, limit ?? 20).map(({ name, node }) => ({
          type: name,
          title: node.display_name ?? name,
          category: node.category,
          inputs: kindsOf(node.input?.required ?? {}),
          outputs: node.output ?? [],
          description: (node.description ?? "").slice(0, 200),
        })),
      };
    },

    getAvailableModels: async ({ category }: declared.GetAvailableModels) => {
      const read = async (path: string) => (await (await app.api.fetchApi(path)).json()) as string[];
      const known = (await read("/models")).filter(
        (name) => !HIDDEN_FOLDERS.includes(name) && !/^\.{0,2}$|[\\/]/.test(name),
      );
      if (category && !known.includes(category))
        throw new CanvasError(
          `ComfyUI has no folder ${JSON.stringify(category.slice(0, 100))} for models. Its folders: ${known.join(", ")}.`,
        );
      const folders = category ? [category] : known;
      const lists = await Promise.all(
        folders.map((folder) => read(`/models/${encodeURIComponent(folder)}`).catch(() => [])),
      );
      return Object.fromEntries(folders.map((folder, place) => [folder, lists[place]]));
    },

    readDocumentation: async ({ topic }: declared.ReadDocumentation) => {
      const nodes = await app.api.getNodeDefs();
      const wanted = topic.toLowerCase();
      const name = Object.keys(nodes).find(
        (one) => one.toLowerCase() === wanted || nodes[one]?.display_name?.toLowerCase() === wanted,
      );
      if (!name)
        throw new CanvasError(
          `No node is named ${topic}. Close ones: ${closest(topic, Object.keys(nodes)).join(", ")}.`,
        );
      const { input, output, output_name, description, category } = nodes[name]!;
      return { type: name, category, description, inputs: input, outputs: output_name ?? output };
    },
  };
}

/** The types of a node's inputs, without what each can be set to. */
function kindsOf(inputs: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, declared]) => {
      const kind: unknown = Array.isArray(declared) ? declared[0] : declared;
      return [name, Array.isArray(kind) ? "COMBO" : String(kind)];
    }),
  );
}

/** Run what is on the canvas, and wait for its end. */
async function execute(app: ComfyApp, prompts: Set<string>, patience: number | null): Promise<unknown> {
  const prompt = await app.graphToPrompt();
  let promptId: string;
  try {
    promptId = (await app.api.queuePrompt(0, prompt)).prompt_id;
  } catch (error) {
    throw new CanvasError(`ComfyUI does not take the workflow. ${refusalIn(error)}`);
  }
  let wake = () => {};
  const hear = () => wake();
  const ends = ["execution_success", "execution_error", "execution_interrupted"];
  for (const end of ends) app.api.addEventListener(end, hear);
  prompts.add(promptId);
  const deadline = patience === null ? Infinity : Date.now() + patience * 1000;
  try {
    for (;;) {
      const heard = new Promise<void>((resolve) => (wake = resolve));
      const ended = await endOf(app, promptId);
      if (ended) return outcome(app, promptId, ended);
      if (Date.now() > deadline) {
        await app.api.interrupt(promptId);
        throw new CanvasError(
          `The workflow was not done within ${patience} seconds and was stopped. Give it more time.`,
        );
      }
      await Promise.race([heard, new Promise((resolve) => setTimeout(resolve, 1000))]);
    }
  } finally {
    prompts.delete(promptId);
    for (const end of ends) app.api.removeEventListener(end, hear);
  }
}

/** How a run ended, as ComfyUI's history has it; undefined where it goes on. */
async function endOf(app: ComfyApp, promptId: string): Promise<Ended | undefined> {
  try {
    const answer = await app.api.fetchApi(`/history/${encodeURIComponent(promptId)}`);
    return ((await answer.json()) as Record<string, Ended>)[promptId];
  } catch {
    throw new CanvasError("The connection to ComfyUI was lost while this ran. Whether it was done is not known.");
  }
}

interface Ended {
  status?: { status_str?: string; messages?: [string, Record<string, unknown>][] };
  outputs?: Record<string, Record<string, unknown[]>>;
}

function outcome(app: ComfyApp, promptId: string, ended: Ended): unknown {
  for (const [kind, data] of ended.status?.messages ?? []) {
    if (kind === "execution_error")
      throw new CanvasError(
        `${String(data.node_type)} (node ${String(data.node_id)}) failed: ${String(data.exception_message)}`,
      );
    if (kind === "execution_interrupted") throw new CanvasError("The workflow was interrupted in ComfyUI.");
  }
  const images = Object.entries(ended.outputs ?? {}).flatMap(([node, kinds]) =>
    Object.values(kinds)
      .flat()
      .filter(
        (item): item is { filename: string; subfolder?: string; type?: string } => isRecord(item) && "filename" in item,
      )
      .map((item) => {
        const query = new URLSearchParams({
          filename: item.filename,
          subfolder: item.subfolder ?? "",
          type: item.type ?? "output",
        });
        return { node, url: new URL(app.api.apiURL(`/view?${query}`), location.href).href };
      }),
  );
  return { promptId, status: "success", images };
}

function refusalIn(error: unknown): string {
  const response = isRecord(error) && isRecord(error.response) ? error.response : {};
  const faults = isRecord(response.node_errors) ? Object.entries(response.node_errors) : [];
  const told = faults.map(([node, fault]) => {
    const { class_type, errors } = fault as { class_type?: string; errors?: { message: string; details?: string }[] };
    return `${class_type ?? "node"} (node ${node}): ${(errors ?? []).map((one) => `${one.message} (${one.details ?? ""})`).join(", ")}`;
  });
  if (told.length > 0) return told.join("; ");
  return error instanceof Error ? error.message : JSON.stringify(error);
}

// --- reading nodes

function slotsOf(node: GraphNode) {
  return {
    inputs: (node.inputs ?? []).map((one, slot) => ({
      slot,
      name: one.name,
      type: one.type,
      ...(node.getInputLink(slot) && { link: node.getInputLink(slot)!.id }),
    })),
    outputs: (node.outputs ?? []).map((one, slot) => ({ slot, name: one.name, type: one.type })),
  };
}

function valuesOf(node: GraphNode): Record<string, unknown> {
  return Object.fromEntries(
    (node.widgets ?? []).filter((one) => one.type !== "button").map((one) => [one.name, one.value]),
  );
}

function optionsOf(node: GraphNode): Record<string, unknown> {
  return Object.fromEntries(
    (node.widgets ?? []).map((one) => {
      const choices = choicesOf(one);
      const { min, max, step } = one.options ?? {};
      return [one.name, { type: one.type, min, max, step, ...(choices && { choices: choices.slice(0, SHOWN) }) }];
    }),
  );
}

function choicesOf(widget: Widget): unknown[] | null {
  if (widget.type !== "combo") return null;
  const values = widget.options?.values;
  return typeof values === "function" ? values() : Array.isArray(values) ? values : null;
}

/** `value` as the widget takes it. */
function takenBy(widget: Widget, value: unknown, node: string): unknown {
  const refused = (wanted: string) =>
    new CanvasError(`${widget.name} of ${node} must be ${wanted}, and not ${JSON.stringify(value)}.`);
  const choices = choicesOf(widget);
  if (choices) {
    if (choices.includes(value)) return value;
    const names = choices.map(String);
    const near = closest(String(value), names);
    throw refused(`one of ${[...near, ...names.filter((one) => !near.includes(one))].slice(0, 10).join(", ")}`);
  }
  if (widget.type === "toggle") {
    if (typeof value !== "boolean") throw refused("true or false");
    return value;
  }
  if (widget.type === "number" || widget.type === "slider" || widget.type === "knob") {
    if (typeof value !== "number") throw refused("a number");
    const { min, max, precision } = widget.options ?? {};
    if ((min !== undefined && value < min) || (max !== undefined && value > max))
      throw refused(`from ${min ?? "any"} to ${max ?? "any"}`);
    if (precision === 0 && !Number.isInteger(value)) throw refused("a whole number");
    return value;
  }
  if (TEXT_TYPES.includes(widget.type) && typeof value !== "string") throw refused("text");
  return value;
}

/** The number of a node, as the tools name it. */
function idOf(id: NodeId): NodeId {
  return typeof id === "string" && /^\d+$/.test(id) ? Number(id) : id;
}

function said(node: GraphNode): string {
  return `node ${node.id} (${node.type})`;
}

function listed(slots: Slot[] | undefined): string {
  return (slots ?? []).map((one, place) => `${place}: ${one.name} (${one.type})`).join(", ") || "none";
}

function freePlace(nodes: GraphNode[]): [number, number] {
  if (nodes.length === 0) return [80, 120];
  const right = Math.max(...nodes.map((one) => one.pos[0] + one.size[0]));
  const top = Math.min(...nodes.map((one) => one.pos[1]));
  return [right + 60, top];
}

function layOut(nodes: GraphNode[], links: Wire[]): void {
  const columns = new Map(nodes.map((one) => [idOf(one.id), 0]));
  for (let round = 0; round < nodes.length; round++)
    for (const link of links) {
      const wanted = (columns.get(link.source) ?? 0) + 1;
      if (wanted < nodes.length && wanted > (columns.get(link.target) ?? 0)) columns.set(link.target, wanted);
    }
  const heights = new Map<number, number>();
  for (const node of nodes) {
    const column = columns.get(idOf(node.id)) ?? 0;
    const y = heights.get(column) ?? 80;
    node.pos = [60 + column * COLUMN, y];
    heights.set(column, y + node.size[1] + 70);
  }
}

function typesOf(workflow: Record<string, unknown>): string[] {
  const nodes = Object.values(workflow);
  if (
    nodes.length === 0 ||
    !nodes.every((node) => isRecord(node) && typeof node.class_type === "string" && isRecord(node.inputs))
  )
    throw new CanvasError("That is no workflow, neither in ComfyUI's API format nor as its canvas saves it.");
  return nodes.map((node) => String((node as unknown as ApiNode).class_type));
}

function subgraphIds(workflow: Record<string, unknown>): string[] {
  const definitions = isRecord(workflow.definitions) ? workflow.definitions.subgraphs : [];
  return Array.isArray(definitions) ? definitions.map((one: { id?: unknown }) => String(one.id)) : [];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The names that are most like one. */
function closest(wanted: string, names: string[]): string[] {
  const pairs = (text: string) =>
    new Set(Array.from({ length: text.length - 1 }, (_, i) => text.slice(i, i + 2).toLowerCase()));
  const mine = pairs(wanted);
  return names
    .map((name) => {
      const theirs = pairs(name);
      const shared = [...mine].filter((pair) => theirs.has(pair)).length;
      return { name, likeness: (2 * shared) / (mine.size + theirs.size || 1) };
    })
    .filter((one) => one.likeness > 0.4)
    .sort((a, b) => b.likeness - a.likeness)
    .slice(0, 5)
    .map((one) => one.name);
}
