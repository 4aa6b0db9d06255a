/** Commands in the composer: what there is, what completes a beginning, and what a line means. */
import type { Model } from "../app/api";

/** A command that somebody entered. */
export interface Command {
  name: "help" | "new" | "rename" | "model" | "compact" | "clear" | "export";
  argument: string;
}

interface SkillCommand {
  name: "skill";
  argument: string;
  rest: string;
}

interface Declared {
  name: Command["name"] | "skill";
  usage: string;
  help: string;
  takesArgument: boolean;
}

export const COMMANDS: Declared[] = [
  { name: "help", usage: "/help", help: "What one can do here", takesArgument: false },
  { name: "new", usage: "/new", help: "Begin a new conversation", takesArgument: false },
  { name: "rename", usage: "/rename TITLE", help: "Give this conversation another title", takesArgument: true },
  { name: "model", usage: "/model NAME", help: "Answer with another model", takesArgument: true },
  { name: "skill", usage: "/skill NAME [message]", help: "Use a skill for one message", takesArgument: true },
  { name: "compact", usage: "/compact", help: "Replace old messages by a summary for the model", takesArgument: false },
  { name: "clear", usage: "/clear", help: "Archive this conversation and begin anew", takesArgument: false },
  { name: "export", usage: "/export [json|markdown]", help: "Download this conversation", takesArgument: false },
];

interface Skill {
  slug: string;
  name: string;
  description: string;
}

interface Completion {
  text: string;
  label: string;
  help: string;
  /** Whether the line is complete with it, and Enter runs it. */
  runs: boolean;
}

const MOST = 8;

/** What may be meant by a line that begins with a slash. */
export function completionsFor(text: string, models: Model[], skills: Skill[]): Completion[] {
  if (!text.startsWith("/") || text.includes("\n")) return [];
  const [, word = "", gap, argument = ""] = /^\/(\S*)(\s+)?(.*)$/.exec(text) ?? [];
  if (gap === undefined)
    return COMMANDS.filter((command) => command.name.startsWith(word.toLowerCase())).map((command) => ({
      text: `/${command.name}${command.takesArgument ? " " : ""}`,
      label: command.usage,
      help: command.help,
      runs: !command.takesArgument,
    }));
  const wanted = argument.toLowerCase();
  if (word === "model")
    return models
      .filter((model) => model.id.toLowerCase().includes(wanted) && model.id !== argument)
      .slice(0, MOST)
      .map((model) => ({ text: `/model ${model.id}`, label: model.id, help: "", runs: true }));
  if (word === "skill" && !argument.includes(" "))
    return skills
      .filter((skill) => skill.slug.includes(wanted) && skill.slug !== argument)
      .slice(0, MOST)
      .map((skill) => ({ text: `/skill ${skill.slug} `, label: skill.name, help: skill.description, runs: false }));
  return [];
}

/** What a line means: null where it is no command, and a problem where it is one that cannot be run. */
export function parseCommand(
  text: string,
  models: Model[],
  skills: Skill[],
): Command | SkillCommand | { problem: string } | null {
  const match = /^\/([a-z]+)(?:\s+([\s\S]*))?$/.exec(text.trim());
  if (!match) return null;
  const [, word = "", argument = ""] = match;
  const command = COMMANDS.find((one) => one.name === word);
  if (!command) return { problem: `There is no command /${word}. /help lists what there is.` };
  if (command.takesArgument && !argument) return { problem: `Write ${command.usage}.` };
  if (command.name === "model" && !models.some((model) => model.id === argument))
    return { problem: `No configured model is named ${argument}. Choose one from the list.` };
  if (command.name === "export" && argument && argument !== "json" && argument !== "markdown")
    return { problem: "Write /export json or /export markdown." };
  if (command.name === "skill") {
    const [, slug = "", rest = ""] = /^(\S+)\s*([\s\S]*)$/.exec(argument) ?? [];
    if (!skills.some((skill) => skill.slug === slug)) return { problem: `There is no skill named ${slug}.` };
    return { name: "skill", argument: slug, rest };
  }
  return { name: command.name, argument };
}
