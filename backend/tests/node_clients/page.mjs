// Tests of the page's own small parts, run as they stand: Node 22 reads TypeScript.
// node --experimental-strip-types page.mjs
import assert from "node:assert/strict";
import { deflateSync } from "node:zlib";
import test from "node:test";

const source = "../../../frontend/src/";
const { blocksOf } = await import(`${source}chat/blocks.ts`);
const { completionsFor, parseCommand, COMMANDS } = await import(`${source}chat/commands.ts`);
const { workflowIn } = await import(`${source}app/png.ts`);
const { decode, isTextFile, splitAttachments } = await import(`${source}chat/textFiles.ts`);
const { toChatMessages } = await import(`${source}app/history.ts`);

const MODELS = [{ id: "openai@gpt", provider: "openai", name: "gpt" }];
const SKILLS = [{ slug: "haiku", name: "Haiku", description: "Poems." }];

test("blocks are the text, cut between its parts", () => {
  const text = "# A\n\nOne\ntwo\n\n- a\n\n- b\n\n  still b\n\n```py\nx = 1\n\ny = 2\n```\n\n$$\na\n\nb\n$$\n\n\\[\na\n\nb\n\\]\n\nEnd";
  const blocks = blocksOf(text);
  assert.equal(blocks.join("\n"), text);
  assert.deepEqual(
    blocks.map((block) => block.trim()),
    ["# A", "One\ntwo", "- a\n\n- b\n\n  still b", "```py\nx = 1\n\ny = 2\n```", "$$\na\n\nb\n$$", "\\[\na\n\nb\n\\]", "End"],
  );
});

test("blocks that have come stay what they are while the text grows", () => {
  const text = "One.\n\n1. a\n2. b\n\n```\ncode\n\nmore\n```\n\nTwo $$x$$.\n\nThree\n\n> quote\n\nEnd.";
  for (let length = 1; length < text.length; length++) {
    const [now, later] = [blocksOf(text.slice(0, length)), blocksOf(text)];
    assert.equal(now.join("\n"), text.slice(0, length));
    assert.deepEqual(now.slice(0, -1), later.slice(0, now.length - 1));
  }
});

test("what defines references stays whole", () => {
  const text = "See [it][1].\n\n[1]: https://example.org";
  assert.deepEqual(blocksOf(text), [text]);
});

test("commands are told from text, completed and checked", () => {
  assert.equal(parseCommand("hello / there", MODELS, SKILLS), null);
  assert.equal(parseCommand("/usr/bin is a folder", MODELS, SKILLS), null);
  assert.deepEqual(parseCommand("/rename A title", MODELS, SKILLS), { name: "rename", argument: "A title" });
  assert.deepEqual(parseCommand("/skill haiku about rain", MODELS, SKILLS), {
    name: "skill",
    argument: "haiku",
    rest: "about rain",
  });
  for (const wrong of ["/nothing", "/rename", "/model none@x", "/export pdf", "/skill nobody x"])
    assert.ok("problem" in parseCommand(wrong, MODELS, SKILLS), wrong);
  assert.equal(completionsFor("/", MODELS, SKILLS).length, COMMANDS.length);
  assert.deepEqual(completionsFor("/re", MODELS, SKILLS).map((one) => one.text), ["/rename "]);
  assert.deepEqual(completionsFor("/model g", MODELS, SKILLS).map((one) => one.text), ["/model openai@gpt"]);
  assert.deepEqual(completionsFor("/skill h", MODELS, SKILLS).map((one) => one.text), ["/skill haiku "]);
  assert.deepEqual(completionsFor("no command", MODELS, SKILLS), []);
});

function png(...chunks) {
  const parts = [Buffer.from([137, 80, 78, 71, 13, 10, 26, 10])];
  for (const [kind, data] of chunks) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(Buffer.byteLength(data));
    parts.push(length, Buffer.from(kind), Buffer.from(data), Buffer.alloc(4));
  }
  const whole = Buffer.concat(parts);
  return whole.buffer.slice(whole.byteOffset, whole.byteOffset + whole.length);
}

test("the workflow in a picture is found, and nothing else is taken for one", () => {
  assert.deepEqual(workflowIn(png(["tEXt", 'prompt\0{"1": {}}'])), { 1: {} });
  assert.deepEqual(workflowIn(png(["tEXt", 'prompt\0{"1": {}}'], ["tEXt", 'workflow\0{"nodes": []}'])), { nodes: [] });
  assert.deepEqual(workflowIn(png(["iTXt", 'workflow\0\0\0en\0key\0{"n": "ü"}'])), { n: "ü" });
  assert.equal(workflowIn(png(["iTXt", `workflow\0\x01\0\0\0${deflateSync("{}").toString("latin1")}`])), null);
  assert.equal(workflowIn(png(["tEXt", "workflow\0not JSON"])), null);
  assert.equal(workflowIn(png(["tEXt", "Comment\0{}"])), null);
  assert.equal(workflowIn(new TextEncoder().encode("GIF89a").buffer), null);
  assert.equal(workflowIn(png(["tEXt", 'prompt\0{"1": {}}']).slice(0, 20)), null);
});

const at = "2026-01-01T00:00:00Z";
const message = (seq, role, content, metadata = {}) => ({
  id: `m${seq}`, conversation_id: "c", seq, parent_id: null, role, content, metadata, created_at: at,
});

test("text files are found in stored messages, and come out as they went in", () => {
  const code = "a\n\n</b>\n";
  const stored = `Look:\n\n<attachment name="a &quot;b&quot;.py">\n${code}\n</attachment>\n\n<attachment name=old name.txt>\nx\n</attachment>`;
  assert.deepEqual(splitAttachments(stored), {
    text: "Look:",
    files: [{ name: 'a "b".py', text: code }, { name: "old name.txt", text: "x" }],
  });
  for (const text of ["no files", "<attachment name=unfinished>\nx", "a </attachment> b"])
    assert.deepEqual(splitAttachments(text), { text, files: [] });
  for (const name of ["a.py", "A.MD", "Dockerfile", "x.ts", ".gitignore", "noending"])
    assert.equal(isTextFile({ name, type: "" }), name !== "noending", name);
  assert.ok(isTextFile({ name: "noending", type: "text/x-unknown" }));
  for (const [name, type] of [["a.docx", "application/zip"], ["a.zip", "application/zip"], ["a.exe", ""]])
    assert.ok(!isTextFile({ name, type }), name);
  assert.equal(decode(new Uint8Array([0xff, 0xfe, 0x41, 0]).buffer), "A");
  assert.equal(decode(new Uint8Array([0xef, 0xbb, 0xbf, 0x41]).buffer), "A");
  for (const bytes of [[0x41, 0], [0xff, 0x41]]) assert.equal(decode(new Uint8Array(bytes).buffer), null);
});

test("a turn without a complete answer says why, below its last message", () => {
  const failed = { status: "failed", last_message_id: null, error: { code: "c", message: "Why.", retryable: true } };
  const stopped = { status: "cancelled", last_message_id: "m4", error: null };
  const stored = [
    message(1, "user", "one"), message(2, "user", "two"), message(3, "assistant", "Half"), message(4, "user", "three"),
  ];
  const shown = toChatMessages(stored, {}, null, { m1: failed, m2: stopped, m4: { ...failed, status: "running" } });
  assert.deepEqual(
    shown.map((one) => one.metadata.outcome),
    [{ status: "failed", reason: "Why." }, undefined, { status: "stopped" }, undefined],
  );
});

test("a stored turn is one message, as it is streamed", () => {
  const calls = (...ids) => ({ tool_calls: ids.map((id) => ({ id, name: "draw", args: { a: 1 } })), model: "m@x" });
  const stored = [
    message(1, "user", "Draw"),
    message(2, "assistant", "", { ...calls("a", "b"), usage: { input_tokens: 1, output_tokens: 2, total_tokens: 3 } }),
    message(3, "tool", '{"ok": true}', { tool_call_id: "a", status: "success", artifacts: [{ url: "/f", media_type: "image/png" }] }),
    message(4, "tool", "no", { tool_call_id: "b", status: "error" }),
    message(5, "assistant", "Done.", { usage: { input_tokens: 10, output_tokens: 20, total_tokens: 30 }, finish_reason: "stop" }),
  ];
  const [asked, answer] = toChatMessages(stored, { m1: 2 });
  assert.equal(asked.metadata.siblings, 2);
  assert.equal(answer.id, "m2");
  assert.deepEqual(answer.metadata.usage, { input_tokens: 11, output_tokens: 22, total_tokens: 33 });
  assert.deepEqual(
    answer.parts.map((part) => part.state ?? part.type),
    ["step-start", "output-available", "file", "output-error", "step-start", "done"],
  );
  const [, waiting] = toChatMessages(stored.slice(0, 2), {}, { clientTools: new Set(), approvals: {} });
  assert.deepEqual(waiting.parts.slice(1).map((part) => part.state), ["approval-requested", "approval-requested"]);
  const [, atClient] = toChatMessages(stored.slice(0, 2), {}, { clientTools: new Set(["draw"]), approvals: {} });
  assert.deepEqual(atClient.parts.slice(1).map((part) => part.state), ["input-available", "input-available"]);
});
