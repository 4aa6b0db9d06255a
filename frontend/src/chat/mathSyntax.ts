/**
 * Formulas in Markdown, for micromark: single dollars by Pandoc's rule, and LaTeX's brackets `\(…\)` and `\[…\]`.
 *
 * remark-math takes any two dollars in a paragraph for a formula, which garbles prices and shell variables. Here an opening
 * dollar is not followed by a space, a closing one is neither preceded by a space nor followed by a digit, and the text
 * between them must not read like an amount in a sentence, or like shell variables. `$$…$$` is left to remark-math.
 */
/// <reference types="micromark-extension-math" />
/// <reference types="remark-parse" />
import { mathFromMarkdown } from "mdast-util-math";
import type {
  Code,
  Construct,
  Effects,
  Extension,
  Previous,
  State,
  TokenizeContext,
  Tokenizer,
} from "micromark-util-types";
import type { Processor } from "unified";

declare module "micromark-util-types" {
  interface TokenTypeMap {
    mathTextDisplay: "mathTextDisplay";
  }
}

const DOLLAR = 36;
const BACKSLASH = 92;
const SPACE = 32;
const ROUND = { open: 40, close: 41 };
const SQUARE = { open: 91, close: 93 };

const isEol = (code: Code): boolean => code !== null && code < -2;
const isBlank = (code: Code): boolean => code === null || code < 0 || code === SPACE;
const isDigit = (code: Code): boolean => code !== null && code >= 48 && code <= 57;
const textOf = (code: Code): string => (code === null || code < 0 ? " " : String.fromCharCode(code));

/**
 * Whether text between two dollars reads like something other than a formula.
 *
 * @param next the character behind the closing dollar.
 */
function isProse(content: string, next: string): boolean {
  const words = content.replace(/\\(?:text\w*|math\w+|operatorname)\*?\s*\{[^{}]*\}/g, "").replace(/\\[A-Za-z]+/g, "");
  // An amount, and a sentence that goes on: "5 and 10" in "$5 and 10$". A unit alone is fine: "9.81 m/s".
  if (/^[\d.,]*\d(?:[kKmMbB]n?|%|\+)?(?![\w.])/.test(words) && /[\s(/][A-Za-z]{2,}[\s.,;:!?)]/.test(words)) return true;
  if (/(?:^|\s)[A-Za-z]{2,}[,;:]?\s+[a-z]{2,}/.test(words)) return true;
  if (/[/:;|"([{]$/.test(content)) return true; // no formula ends like this; "$HOME/bin:$PATH" does
  // A closing dollar that begins a name: "$HOME/$USER", "$a:$b", "${A}${B}".
  if (!/[A-Za-z_{(]/.test(next)) return false;
  return /[^\p{L}\p{N})\]}'!*°]$/u.test(content) || /^(?:[A-Za-z_]\w+|\{\w+\}|\(.*\))$/.test(content);
}

interface Content {
  consume: (code: Code) => void;
  end: () => void;
  text: () => string;
}

/** Reads what is inside a formula: a data token for each line. */
function contentOf(effects: Effects): Content {
  let text = "";
  let isOpen = false;
  const end = () => {
    if (isOpen) effects.exit("mathTextData");
    isOpen = false;
  };
  const consume = (code: Code) => {
    text += textOf(code);
    if (isEol(code)) end();
    else if (!isOpen) effects.enter("mathTextData");
    if (isEol(code)) effects.enter("lineEnding");
    else isOpen = true;
    effects.consume(code);
    if (isEol(code)) effects.exit("lineEnding");
  };
  return { consume, end, text: () => text };
}

const previousOfDollar: Previous = function (code) {
  const isEscaped = this.events.at(-1)?.[1].type === "characterEscape";
  return isEscaped || !/[A-Za-z0-9$]/.test(textOf(code));
};

/** `$…$` */
const tokenizeDollars: Tokenizer = function (this: TokenizeContext, effects, ok, nok) {
  const content = contentOf(effects);
  const mayBegin = previousOfDollar.call(this, this.previous);

  const start: State = (code) => {
    if (!mayBegin) return nok(code); // micromark asks `previous` of one construct at a character, not of each
    effects.enter("mathText");
    effects.enter("mathTextSequence");
    effects.consume(code);
    effects.exit("mathTextSequence");
    return first;
  };
  const first: State = (code) => (isBlank(code) || code === DOLLAR ? nok(code) : inside(code));
  const inside: State = (code) => {
    if (code === null) return nok(code);
    if (code === DOLLAR) return /\s$/.test(content.text()) ? nok(code) : close(code);
    content.consume(code);
    return code === BACKSLASH ? escaped : inside;
  };
  const escaped: State = (code) => {
    if (code === null || isEol(code)) return inside(code);
    content.consume(code);
    return inside;
  };
  const close: State = (code) => {
    content.end();
    effects.enter("mathTextSequence");
    effects.consume(code);
    effects.exit("mathTextSequence");
    return after;
  };
  const after: State = (code) => {
    if (isDigit(code) || code === DOLLAR || isProse(content.text(), textOf(code))) return nok(code);
    effects.exit("mathText");
    return ok(code);
  };
  return start;
};

/** `\(…\)`, and `\[…\]` inside a paragraph */
function brackets(type: "mathText" | "mathTextDisplay", marks: { open: number; close: number }): Construct {
  const closing: Construct = { partial: true, tokenize: pair(marks.close) };
  const tokenize: Tokenizer = function (effects, ok, nok) {
    const content = contentOf(effects);

    const start: State = (code) => {
      effects.enter(type);
      return effects.attempt({ partial: true, tokenize: pair(marks.open) }, inside, nok)(code);
    };
    const inside: State = (code) => {
      if (code === null) return nok(code);
      if (code === BACKSLASH) return effects.check(closing, close, backslash)(code);
      content.consume(code);
      return inside;
    };
    const backslash: State = (code) => {
      content.consume(code);
      return escaped;
    };
    const escaped: State = (code) => {
      if (code === null || isEol(code)) return inside(code);
      content.consume(code);
      return inside;
    };
    const close: State = (code) => {
      content.end();
      return content.text().trim() ? effects.attempt(closing, end, nok)(code) : nok(code);
    };
    const end: State = (code) => {
      effects.exit(type);
      return ok(code);
    };
    return start;
  };
  return { name: type, tokenize };
}

/** A backslash and one bracket. */
function pair(bracket: number): Tokenizer {
  return function (effects, ok, nok) {
    return (code) => {
      effects.enter("mathTextSequence");
      effects.consume(code);
      return (next) => {
        if (next !== bracket) return nok(next);
        effects.consume(next);
        effects.exit("mathTextSequence");
        return ok;
      };
    };
  };
}

/** A line that is `\[` or `\]` and nothing else. */
function fence(effects: Effects, bracket: number, ok: State, nok: State): State {
  const start: State = (code) => {
    effects.enter("mathFlowFence");
    return indent(code);
  };
  const indent: State = (code) => {
    if (code !== null && (code === SPACE || (code < 0 && !isEol(code)))) {
      effects.enter("linePrefix");
      effects.consume(code);
      effects.exit("linePrefix");
      return indent;
    }
    if (code !== BACKSLASH) return nok(code);
    effects.enter("mathFlowFenceSequence");
    effects.consume(code);
    return second;
  };
  const second: State = (code) => {
    if (code !== bracket) return nok(code);
    effects.consume(code);
    effects.exit("mathFlowFenceSequence");
    return rest;
  };
  const rest: State = (code) => {
    if (code === null || isEol(code)) {
      effects.exit("mathFlowFence");
      return ok(code);
    }
    if (!isBlank(code)) return nok(code);
    effects.enter("whitespace");
    effects.consume(code);
    effects.exit("whitespace");
    return rest;
  };
  return start;
}

/** The next line, where it belongs to the same block. */
const nextLine: Construct = {
  partial: true,
  tokenize(effects, ok, nok) {
    const lineStart: State = (code) => (this.parser.lazy[this.now().line] ? nok(code) : ok(code));
    return (code) => {
      if (code === null) return ok(code);
      effects.enter("lineEnding");
      effects.consume(code);
      effects.exit("lineEnding");
      return lineStart;
    };
  },
};

/** `\[` and `\]` on lines of their own, and a formula between them. */
const tokenizeBlock: Tokenizer = function (this: TokenizeContext, effects, ok, nok) {
  const self = this;
  const start: State = (code) => {
    effects.enter("mathFlow");
    return fence(effects, SQUARE.open, opened, nok)(code);
  };
  const opened: State = (code) => (self.interrupt ? ok(code) : effects.attempt(nextLine, line, after)(code));
  const line: State = (code) =>
    effects.attempt(
      { partial: true, tokenize: (inner, found, missing) => fence(inner, SQUARE.close, found, missing) },
      after,
      lineContent,
    )(code);
  const lineContent: State = (code) => {
    if (code === null) return after(code);
    if (isEol(code)) return effects.attempt(nextLine, line, after)(code);
    effects.enter("mathFlowValue");
    return value(code);
  };
  const value: State = (code) => {
    if (code === null || isEol(code)) {
      effects.exit("mathFlowValue");
      return lineContent(code);
    }
    effects.consume(code);
    return value;
  };
  const after: State = (code) => {
    effects.exit("mathFlow");
    return ok(code);
  };
  return start;
};

const syntax: Extension = {
  flow: { [BACKSLASH]: { name: "mathFlow", tokenize: tokenizeBlock, concrete: true } },
  text: {
    [DOLLAR]: { name: "mathText", tokenize: tokenizeDollars, previous: previousOfDollar },
    [BACKSLASH]: [brackets("mathText", ROUND), brackets("mathTextDisplay", SQUARE)],
  },
};

/** A remark plugin, to be used behind remark-math with `singleDollarTextMath: false`. */
export function remarkFormulas(this: Processor): void {
  const data = this.data();
  const { enter, exit } = mathFromMarkdown();
  (data.micromarkExtensions ??= []).push(syntax);
  (data.fromMarkdownExtensions ??= []).push({
    enter: {
      mathTextDisplay(token) {
        enter?.mathText?.call(this, token);
        const node = this.stack.at(-1);
        if (node?.type === "inlineMath")
          node.data = { ...node.data, hProperties: { className: ["language-math", "math-display"] } };
      },
    },
    exit: { ...(exit?.mathText && { mathTextDisplay: exit.mathText }) },
  });
}
