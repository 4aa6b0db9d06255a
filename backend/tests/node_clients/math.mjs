// What is a formula in Markdown and what is not, run as it stands: Node 22 reads TypeScript.
// node --experimental-strip-types --test math.mjs
import assert from "node:assert/strict";
import test from "node:test";

const frontend = "../../../frontend/";
const packages = `${frontend}node_modules/`;
const { unified } = await import(`${packages}unified/index.js`);
const { default: remarkParse } = await import(`${packages}remark-parse/index.js`);
const { default: remarkGfm } = await import(`${packages}remark-gfm/index.js`);
const { default: remarkMath } = await import(`${packages}remark-math/index.js`);
const { remarkFormulas } = await import(`${frontend}src/chat/mathSyntax.ts`);

const parser = unified()
  .use(remarkParse)
  .use(remarkGfm)
  .use(remarkMath, { singleDollarTextMath: false })
  .use(remarkFormulas);

/** The formulas in a text, in order, and all of its text. */
function read(markdown) {
  const formulas = [];
  let text = "";
  const visit = (node) => {
    if (node.type === "inlineMath" || node.type === "math") formulas.push(node.value);
    else if ("value" in node) text += node.value;
    node.children?.forEach(visit);
  };
  visit(parser.parse(markdown));
  return { formulas, text };
}

const NO_FORMULA = [
  // money
  "A coffee is $3 and a tea is $2.",
  "It was $15.99 and is now $12.99.",
  "Between $1,000 and $2,000 a month.",
  "That is $1,000 to $2,000.",
  "Prices: $5-$10, $10–$20, $20/$30.",
  "It costs $5M–$10M, or 12$ a head.",
  "**$5** now, ~~$20~~ before, *$3* tomorrow.",
  "$20 (about 18€), or 20$.",
  "$5 and 10$",
  "5$ and 10$, or 5$-10$",
  "US$5 is not A$5, CA$7 or HK$40.",
  "From -$5 to -$10 ($15 in all).",
  "It costs $5. (That is $5 more.)",
  "Only $.99, or $1.50 for two.",
  "I paid $20.\nShe paid $30.",
  "Pay $5/month or $50/year (save $10).",
  "The $5 bill and the 10$ bill",
  "Budget: $3k now, $4k later; at most $10k.",
  "A $100 voucher!$",
  // shell, PHP and templates
  "$HOME and $PATH are variables.",
  "$HOME/bin:$PATH",
  "Set $FOO,$BAR and ${BAZ}/${QUX}.",
  "Run $(pwd)/$(date) or $1 $2 $@ $?.",
  "$this->$name = $value;",
  "`$HOME` and $USER, then `$PATH`",
  "\"$A\" \"$B\" ($C)/($D)",
  // escapes, code and other texts
  "\\$5 and \\$6 and \\$x$",
  "`$x$` and ``a ` $y$`` and `\\(z\\)`",
  "```sh\necho $x$ \\(y\\)\n```",
  "~~~\n$x$\n~~~",
  "    $indented$ code",
  "a$b$c is a key, and so is 5$x$",
  "$ x $ has spaces, and $x $ has one",
  "Only one $ here",
  "A regular expression ends in $, this one too: ^a$",
  // half an answer
  "The price is $5 and the formula is $x",
  "Half of it \\(x + 1",
  "Let $\\frac{1}{2",
];

test("what is no formula stays the text that it is", () => {
  for (const markdown of NO_FORMULA) {
    assert.deepEqual(read(markdown).formulas, [], markdown);
    if (!/[\\`*~>]/.test(markdown)) assert.equal(read(markdown).text, markdown.trim(), markdown);
  }
});

const FORMULAS = [
  ["Let $x$ be $y$.", ["x", "y"]],
  ["$e = mc^2$", ["e = mc^2"]],
  ["The answer is $5$, of $1$ to $10$.", ["5", "1", "10"]],
  ["$2x + 1$ and $2 + 2 = 4$ and $3 \\times 4$", ["2x + 1", "2 + 2 = 4", "3 \\times 4"]],
  ["The $n$th and the $k$-th, $n$'s", ["n", "k", "n"]],
  ["($a$), [$b$], \"$c$\"; $d$!", ["a", "b", "c", "d"]],
  ["设$x$为实数", ["x"]],
  ["$9.81 m/s^2$ and $10\\,\\text{km per hour}$", ["9.81 m/s^2", "10\\,\\text{km per hour}"]],
  ["$f(x) = \\text{what you see here}$", ["f(x) = \\text{what you see here}"]],
  ["$\\sin x + \\cos y$ is **$\\le 2$**", ["\\sin x + \\cos y", "\\le 2"]],
  ["$1, 2, 3, \\dots, n$", ["1, 2, 3, \\dots, n"]],
  ["$a\n= b$", ["a\n= b"]],
  ["$\\$5 \\cdot x$", ["\\$5 \\cdot x"]],
  ["It costs $5, and $x$ is unknown.", ["x"]],
  ["For $3 you get $x^2$ and for $4 $y^2$.", ["x^2", "y^2"]],
  ["`$HOME` is not $x_i$", ["x_i"]],
  ["- costs $5\n- is $x$\n- costs $6", ["x"]],
  ["| price | formula |\n|---|---|\n| $3 | $x$ |\n| $4 | $y$ |", ["x", "y"]],
  ["> a quote with $x$ for $5", ["x"]],
  ["# The size of $x$", ["x"]],
  ["Inline $$x + y$$ too", ["x + y"]],
  ["$$\n5 and 10\n$$", ["5 and 10"]],
  ["$$\na\n+ b\n$$", ["a\n+ b"]],
  ["In brackets \\(5 and 10\\) and \\( x \\).", ["5 and 10", " x "]],
  ["We get \\[x = 1\\] at once.", ["x = 1"]],
  ["\\[x = \\left[1\\right]\\]", ["x = \\left[1\\right]"]],
  ["We get\n\\[\na\n+ b\n- c\n\\]\nand more", ["a\n+ b\n- c"]],
  ["1. One:\n   \\[\n   a\n   \\]\n2. Two", ["a"]],
  ["A price of $5 \\(x\\) and $6", ["x"]],
];

test("what is a formula is one", () => {
  for (const [markdown, formulas] of FORMULAS) assert.deepEqual(read(markdown).formulas, formulas, markdown);
});

test("no prefix of an answer with prices has a formula", () => {
  const answer = "A coffee is $3, a tea is $2; from $1,000 to $2,000. Set $HOME/bin:$PATH for 5$.";
  for (let length = 1; length <= answer.length; length++)
    assert.deepEqual(read(answer.slice(0, length)).formulas, [], answer.slice(0, length));
});
