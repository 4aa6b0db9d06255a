/** Markdown with formulas. KaTeX is large, so this is loaded when the first formula comes. */
import "katex/contrib/copy-tex"; // a selection is copied as its source
import ReactMarkdown from "react-markdown";
import rehypeKatex from "rehype-katex";
import remarkGfm from "remark-gfm";
import remarkMath from "remark-math";
import { math } from "./math";
import { remarkFormulas } from "./mathSyntax";
import { components, safeUrl } from "./Markdown";

if (math.output !== "mathml") void import("katex/dist/katex.min.css");

export default function MathMarkdown({ text }: { text: string }) {
  return (
    <ReactMarkdown
      remarkPlugins={[remarkGfm, [remarkMath, { singleDollarTextMath: false }], remarkFormulas]}
      rehypePlugins={[
        [rehypeKatex, { output: math.output, throwOnError: false, trust: false, strict: false, maxExpand: 200 }],
      ]}
      components={components}
      urlTransform={safeUrl}
    >
      {text}
    </ReactMarkdown>
  );
}
