/** How formulas are set: with KaTeX's fonts on our own page, as MathML where its styles cannot reach. */
export const math: { output: "htmlAndMathml" | "mathml" } = { output: "htmlAndMathml" };

/** Formulas are in a tree of styles of its own. */
export function inShadow(): void {
  math.output = "mathml";
}
