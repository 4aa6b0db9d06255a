/** Markdown with formulas. KaTeX is large, so this is loaded when the first formula comes. */
import ReactMarkdown from "react-markdown";
import rehypeKatex from "rehype-katex";
import remarkGfm from "remark-gfm";
import remarkMath from "remark-math";
import { math } from "./math";
import { components, safeUrl } from "./Markdown";

if (math.output !== "mathml") void import("katex/dist/katex.min.css");

export default function MathMarkdown({ text }: { text: string }) {
  return (
    <ReactMarkdown
      remarkPlugins={[remarkGfm, [remarkMath, { singleDollarTextMath: true }]]}
      rehypePlugins={[
        [rehypeKatex, { output: math.output, throwOnError: false, trust: false, strict: false, maxExpand: 200 }],
      ]}
      components={components}
      urlTransform={safeUrl}
    >
      {dollars(text)}
    </ReactMarkdown>
  );
}

/** Formulas in LaTeX's own brackets, which many models write, in the dollars that remark knows. Code is left alone. */
function dollars(text: string): string {
  return text
    .split(/(```[\s\S]*?(?:```|$)|`[^`\n]*`)/)
    .map((part, index) =>
      index % 2 === 1
        ? part
        : part
            .replace(/\\\[([\s\S]+?)\\\]/g, (_, formula: string) => `\n$$\n${formula.trim()}\n$$\n`)
            .replace(/\\\((.+?)\\\)/g, (_, formula: string) => `$${formula}$`),
    )
    .join("");
}
