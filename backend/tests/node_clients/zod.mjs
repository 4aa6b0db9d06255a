// Says of each case in a file whether the generated Zod schema of a tool takes it: zod.mjs TOOL FILE
import { readFileSync, writeFileSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [tool, file] = process.argv.slice(2);
const source = readFileSync(new URL("../../../frontend/src/generated/tools.ts", import.meta.url), "utf8");
// The file is TypeScript in its types alone.
const script = source
  .replace(/^export type .*$/gm, "")
  .replace(/ as const;/g, ";")
  .replace('"zod"', JSON.stringify(import.meta.resolve("zod")));
const path = join(mkdtempSync(join(tmpdir(), "zod-")), "tools.mjs");
writeFileSync(path, script);
const tools = await import(pathToFileURL(path).href);
const cases = JSON.parse(readFileSync(file, "utf8"));
console.log(JSON.stringify(cases.map((one) => tools[tool].safeParse(one).success)));
