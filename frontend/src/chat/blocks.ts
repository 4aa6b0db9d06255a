/**
 * Markdown cut into its top-level blocks, so that an answer that grows renders its last block again and not all of them.
 *
 * A block ends at an empty line, but not inside a code fence or a formula, and not before what may go on a list, a quote
 * or an indented part. Where the text defines references, which any block may use, it stays whole.
 */
export function blocksOf(text: string): string[] {
  if (/^ {0,3}\[[^\]]+\]:/m.test(text)) return [text];
  const blocks: string[] = [];
  let block: string[] = [];
  let fence: string | null = null;
  let wasEmpty = false;
  let inList = false;
  for (const line of text.split("\n")) {
    const isListItem = /^ {0,3}([-*+]|\d{1,9}[.)])(\s|$)/.test(line);
    const goesOn = /^\s/.test(line) || (inList && isListItem);
    if (wasEmpty && fence === null && line !== "" && !goesOn) {
      blocks.push(block.join("\n"));
      block = [];
      inList = false;
    }
    if (isListItem && fence === null) inList = true;
    block.push(line);
    const mark = /^ {0,3}(`{3,}|~{3,}|\$\$|\\\[\s*$|\\\]\s*$)/.exec(line)?.[1]?.trim();
    if (fence === null) {
      const opensAndCloses = mark === "$$" && line.trim().length > 4 && line.trim().endsWith("$$");
      if (mark !== undefined && mark !== "\\]" && !opensAndCloses) fence = mark;
    } else if (fence === "$$" || fence === "\\[") {
      if (mark === (fence === "$$" ? "$$" : "\\]")) fence = null;
    } else if (mark?.startsWith(fence) && line.trim() === mark) {
      fence = null;
    }
    wasEmpty = line === "";
  }
  if (block.length > 0) blocks.push(block.join("\n"));
  return blocks;
}
