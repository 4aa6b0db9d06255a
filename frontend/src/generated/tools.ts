// Written by scripts/tool_schemas.py from backend/app/core/domain/declared_tools.py. Do not edit.

import { z } from "zod";

/** Add a node to the ComfyUI workflow. Answers its number and its slots. */
export const addNode = z.strictObject({ nodeType: z.string().min(1).describe("The class of the node, for example KSampler."), position: z.strictObject({ x: z.number(), y: z.number() }).nullable().describe("Where to put it; a free place when left out.").optional() });
export type AddNode = z.infer<typeof addNode>;

/** Remove a node from the ComfyUI workflow. */
export const removeNode = z.strictObject({ nodeId: z.int().gte(0).lte(9007199254740991).describe("The node's number on the canvas.") });
export type RemoveNode = z.infer<typeof removeNode>;

/** Connect an output of one node to an input of another. */
export const connectNodes = z.strictObject({ sourceNodeId: z.int().gte(0).lte(9007199254740991).describe("The node's number on the canvas."), sourceSlot: z.int().gte(0).lte(9007199254740991).describe("The slot's number, from 0."), targetNodeId: z.int().gte(0).lte(9007199254740991).describe("The node's number on the canvas."), targetSlot: z.int().gte(0).lte(9007199254740991).describe("The slot's number, from 0.") });
export type ConnectNodes = z.infer<typeof connectNodes>;

/** Read the ComfyUI workflow that is being worked on. */
export const getWorkflowInfo = z.strictObject({ includeNodeDetails: z.boolean().describe("Inputs, outputs and widget values of each node.").optional(), includeLayout: z.boolean().describe("Positions and sizes.").optional(), includeWidgetOptions: z.boolean().describe("What each widget can be set to.").optional(), fullFormat: z.boolean().describe("The whole workflow as ComfyUI saves it.").optional() });
export type GetWorkflowInfo = z.infer<typeof getWorkflowInfo>;

/** Set a widget of a node to a value. */
export const setNodeWidgetValue = z.strictObject({ nodeId: z.int().gte(0).lte(9007199254740991).describe("The node's number on the canvas."), widgetName: z.string().min(1).describe("The widget's name, for example steps."), value: z.union([z.string(), z.number(), z.boolean()]).nullable().describe("The new value.") });
export type SetNodeWidgetValue = z.infer<typeof setNodeWidgetValue>;

/** Write a prompt into a text node. */
export const fillPromptNode = z.strictObject({ nodeId: z.int().gte(0).lte(9007199254740991).describe("The node's number on the canvas."), text: z.string().describe("The prompt.") });
export type FillPromptNode = z.infer<typeof fillPromptNode>;

/** Run the workflow that is being worked on and wait for its result. */
export const executeWorkflow = z.strictObject({ timeout: z.number().lte(3600).gt(0).nullable().describe("Seconds to wait for the result.").optional() });
export type ExecuteWorkflow = z.infer<typeof executeWorkflow>;

/** Replace the workflow that is being worked on by a whole one. */
export const applyWorkflowJson = z.strictObject({ workflow: z.record(z.string(), z.unknown()).describe("A workflow in ComfyUI's API or canvas format.") });
export type ApplyWorkflowJson = z.infer<typeof applyWorkflowJson>;

/** Keep instructions of the user's as a skill, for later conversations. */
export const createSkill = z.strictObject({ name: z.string().min(1).refine((text) => [...text].length <= 80, "at most 80 characters").describe("What users call it."), description: z.string().min(1).refine((text) => [...text].length <= 500, "at most 500 characters").describe("When it is to be used, in a sentence."), instructions: z.string().min(1).refine((text) => [...text].length <= 20000, "at most 20000 characters").describe("What to do, in Markdown.") });
export type CreateSkill = z.infer<typeof createSkill>;

/** Change a skill of the user's; what is left out stays. */
export const updateSkill = z.strictObject({ slug: z.string().refine((text) => [...text].length <= 80, "at most 80 characters").regex(/^[a-z0-9]+(-[a-z0-9]+)*$/).describe("The skill's short name."), name: z.string().min(1).refine((text) => [...text].length <= 80, "at most 80 characters").nullable().optional(), description: z.string().min(1).refine((text) => [...text].length <= 500, "at most 500 characters").nullable().optional(), instructions: z.string().min(1).refine((text) => [...text].length <= 20000, "at most 20000 characters").nullable().optional() });
export type UpdateSkill = z.infer<typeof updateSkill>;

/** Delete a skill of the user's. */
export const deleteSkill = z.strictObject({ slug: z.string().refine((text) => [...text].length <= 80, "at most 80 characters").regex(/^[a-z0-9]+(-[a-z0-9]+)*$/).describe("The skill's short name.") });
export type DeleteSkill = z.infer<typeof deleteSkill>;

/** Read the instructions of a skill, before doing what it is for. */
export const getUserSkill = z.strictObject({ slug: z.string().refine((text) => [...text].length <= 80, "at most 80 characters").regex(/^[a-z0-9]+(-[a-z0-9]+)*$/).describe("The skill's short name.") });
export type GetUserSkill = z.infer<typeof getUserSkill>;

/** List the skills with what each is for. */
export const listUserSkills = z.strictObject({});
export type ListUserSkills = z.infer<typeof listUserSkills>;

/** Read anew what is installed in ComfyUI. */
export const refreshEnvironment = z.strictObject({});
export type RefreshEnvironment = z.infer<typeof refreshEnvironment>;

/** Search the node types that are installed in ComfyUI. */
export const searchInstalledNodes = z.strictObject({ query: z.string().min(1).describe("Words to look for in names, titles and descriptions."), category: z.string().nullable().describe("Only nodes whose category has this in it.").optional(), limit: z.int().gte(1).lte(100).nullable().describe("How many to list; 20 when left out.").optional() });
export type SearchInstalledNodes = z.infer<typeof searchInstalledNodes>;

/** List the model files in ComfyUI. */
export const getAvailableModels = z.strictObject({ category: z.string().nullable().describe("A folder, such as checkpoints or loras; all when left out.").optional() });
export type GetAvailableModels = z.infer<typeof getAvailableModels>;

/** Read a node's inputs, outputs and help text. */
export const readDocumentation = z.strictObject({ topic: z.string().min(1).describe("A node's class or title, for example KSampler."), source: z.string().nullable().describe("Where to look; ComfyUI itself when left out.").optional() });
export type ReadDocumentation = z.infer<typeof readDocumentation>;

/** What ComfyUI runs now, and what waits behind it. */
export const getQueue = z.strictObject({});
export type GetQueue = z.infer<typeof getQueue>;

/** Stop a job in ComfyUI, or take it out of the queue. */
export const cancelJob = z.strictObject({ promptId: z.string().min(1).describe("The job's id, as getQueue tells it.") });
export type CancelJob = z.infer<typeof cancelJob>;

/** ComfyUI's version, memory and devices. */
export const systemStats = z.strictObject({});
export type SystemStats = z.infer<typeof systemStats>;

export const graphTools = { addNode, removeNode, connectNodes, getWorkflowInfo, setNodeWidgetValue, fillPromptNode, executeWorkflow, applyWorkflowJson } as const;

export const skillTools = { createSkill, updateSkill, deleteSkill, getUserSkill, listUserSkills } as const;

export const environmentTools = { refreshEnvironment, searchInstalledNodes, getAvailableModels, readDocumentation, getQueue, cancelJob, systemStats } as const;
