/** A model's Markdown: untrusted text. HTML in it stays text, links go only where links may, pictures only come from this service. */
import { Check, Copy } from "lucide-react";
import { lazy, memo, Suspense, useState, type ReactNode } from "react";
import ReactMarkdown, { defaultUrlTransform, type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import { Picture } from "../app/Picture";
import { blocksOf } from "./blocks";

const MathMarkdown = lazy(() => import("./MathMarkdown"));
const HAS_MATH = /\$|\\\(|\\\[/;

export const Markdown = memo(function Markdown({ text }: { text: string }) {
  return (
    <div className="markdown">
      {blocksOf(text).map((block, index) => (
        <Block key={index} text={block} />
      ))}
    </div>
  );
});

const Block = memo(function Block({ text }: { text: string }) {
  const plain = (
    <ReactMarkdown remarkPlugins={[remarkGfm]} components={components} urlTransform={safeUrl}>
      {text}
    </ReactMarkdown>
  );
  if (!HAS_MATH.test(text)) return plain;
  return (
    <Suspense fallback={plain}>
      <MathMarkdown text={text} />
    </Suspense>
  );
});

/** Only addresses that cannot run anything. */
export function safeUrl(url: string): string {
  return url.startsWith("data:image/") ? url : defaultUrlTransform(url);
}

/** Whether a picture may be loaded: nothing that a model writes makes this page ask another host. */
function isOurs(url: string): boolean {
  return (url.startsWith("/") && !url.startsWith("//")) || /^data:image\/(png|jpeg|gif|webp);/.test(url);
}

export const components: Components = {
  a: ({ href, children }) =>
    href ? (
      <a href={href} target="_blank" rel="noopener noreferrer nofollow">
        {children}
      </a>
    ) : (
      <>{children}</>
    ),
  img: ({ src, alt }) => {
    if (typeof src === "string" && isOurs(src)) return <Picture url={src} alt={alt ?? ""} lazy />;
    return typeof src === "string" && src ? (
      <a href={src} target="_blank" rel="noopener noreferrer nofollow">
        {alt || src}
      </a>
    ) : (
      <>{alt}</>
    );
  },
  pre: ({ children }) => <>{children}</>,
  code: ({ className, children }) => {
    const text = textOf(children);
    const language = /language-(\S+)/.exec(className ?? "")?.[1];
    return language !== undefined || text.includes("\n") ? (
      <Code text={text.replace(/\n$/, "")} language={language ?? ""} />
    ) : (
      <code>{children}</code>
    );
  },
  table: ({ children }) => (
    <div className="table" tabIndex={0} role="region" aria-label="Table">
      <table>{children}</table>
    </div>
  ),
};

function textOf(children: ReactNode): string {
  if (typeof children === "string") return children;
  return Array.isArray(children) ? children.map(textOf).join("") : "";
}

/** Code with its language and a way to copy it. */
export function Code({ text, language }: { text: string; language: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <figure className="code">
      <figcaption>
        <span>{language || "text"}</span>
        <button className="icon" onClick={() => void copy()} aria-label={copied ? "Copied" : "Copy code"}>
          {copied ? <Check size={14} /> : <Copy size={14} />}
        </button>
      </figcaption>
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
    </figure>
  );
}
