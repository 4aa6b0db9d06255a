// The official OpenAI client for Node against the service: what it saw, as one JSON document.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const [scenario, url, token, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: token, maxRetries: 0 });
const hello = [{ role: "user", content: "Hello" }];
const addTool = {
  type: "function",
  function: {
    name: "add",
    parameters: { type: "object", properties: { a: { type: "number" }, b: { type: "number" } }, required: ["a", "b"] },
    function: ({ a, b }) => String(a + b),
    parse: JSON.parse,
  },
};

const scenarios = {
  async stream() {
    const runner = client.chat.completions.stream({ model, messages: hello, stream_options: { include_usage: true } });
    const deltas = [];
    runner.on("content", (delta) => deltas.push(delta));
    const final = await runner.finalChatCompletion();
    return { deltas, text: final.choices[0].message.content, usage: await runner.totalUsage() };
  },
  async tools() {
    const runner = client.chat.completions.runTools({ model, messages: hello, tools: [addTool], stream: true });
    const results = [];
    runner.on("functionToolCallResult", (result) => results.push(result));
    return { text: await runner.finalContent(), results };
  },
  async structured() {
    const Person = z.object({ name: z.string(), age: z.number() });
    const answer = await client.chat.completions.parse({
      model,
      messages: hello,
      response_format: zodResponseFormat(Person, "person"),
    });
    return answer.choices[0].message.parsed;
  },
  async error() {
    try {
      await client.chat.completions.create({ model, messages: hello });
      return {};
    } catch (error) {
      return { name: error.constructor.name, status: error.status, code: error.code, message: error.message };
    }
  },
  async models() {
    const listed = [];
    for await (const entry of client.models.list()) listed.push(entry.id);
    return { listed, one: (await client.models.retrieve(model)).id };
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
