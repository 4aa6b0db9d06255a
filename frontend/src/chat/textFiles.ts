/** Text files in messages: which files are text, and how a stored message holds them. */

const TYPES =
  /^(text\/|application\/(json|.*\+json|xml|.*\+xml|yaml|x-yaml|toml|javascript|x-javascript|typescript|x-sh|sql|x-ndjson|graphql|x-httpd-php|x-python-code)$)/;

/** Names whose type browsers do not know, or take for another one (`.ts` is a film for them). */
const ENDINGS = new Set(
  (
    "txt md markdown rst adoc tex bib csv tsv log diff patch ini cfg conf config properties env toml yaml yml json json5 " +
    "jsonl ndjson ipynb xml xsd xsl html htm css scss sass less svg js mjs cjs jsx ts mts cts tsx vue svelte astro py pyi " +
    "pyx rb php pl pm lua r jl m mm c h cc cpp cxx hh hpp hxx cs fs fsx vb java kt kts scala groovy gradle clj cljs edn " +
    "ex exs erl hrl hs lhs ml mli elm nim zig rs go swift dart d v sv vhd asm s sh bash zsh fish ps1 bat cmd awk sed sql " +
    "graphql gql proto thrift tf hcl nix cmake mk make dockerfile gitignore gitattributes editorconfig lock sum mod " +
    "srt vtt ics eml po"
  ).split(" "),
);
const NAMES =
  /^(dockerfile|makefile|gnumakefile|cmakelists\.txt|readme|license|licence|copying|authors|notice|procfile|gemfile|rakefile|vagrantfile|jenkinsfile|brewfile|justfile)$/i;

export function isTextFile({ name, type }: { name: string; type: string }): boolean {
  const ending = /\.([^.]+)$/.exec(name)?.[1]?.toLowerCase();
  return NAMES.test(name) || (ending !== undefined && ENDINGS.has(ending)) || TYPES.test(type.split(";")[0] ?? "");
}

/** A text, or null where the bytes are none. */
export function decode(bytes: ArrayBuffer): string | null {
  const [first, second] = new Uint8Array(bytes, 0, Math.min(2, bytes.byteLength));
  const encoding =
    first === 0xff && second === 0xfe ? "utf-16le" : first === 0xfe && second === 0xff ? "utf-16be" : "utf-8";
  try {
    const text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
    return text.includes("\0") ? null : text;
  } catch {
    return null;
  }
}

export interface TextFile {
  name: string;
  text: string;
}

const STORED = /\n*<attachment name=("?)([^\n]*?)\1>\n([\s\S]*?)\n?<\/attachment>(?:\n+|$)/g;

/** What a stored message says, without the text files that are in it. */
export function splitAttachments(stored: string): { text: string; files: TextFile[] } {
  if (!stored.includes("<attachment name=")) return { text: stored, files: [] };
  const files: TextFile[] = [];
  const text = stored.replace(STORED, (_, __, name: string, content: string) => {
    files.push({ name: name.replaceAll("&quot;", '"'), text: content.replaceAll("<\\/attachment>", "</attachment>") });
    return "\n\n";
  });
  return files.length > 0 ? { text: text.trim(), files } : { text: stored, files };
}

/** A text file as the address of its content. */
export function addressOfText(text: string): string {
  const bytes = new TextEncoder().encode(text);
  let binary = "";
  for (let start = 0; start < bytes.length; start += 0x8000)
    binary += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  return `data:text/plain;charset=utf-8;base64,${btoa(binary)}`;
}
