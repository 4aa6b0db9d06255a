/** A workflow drawn as ComfyUI's canvas has it: boxes with their values, and links in the colours of their types. */
import type { Canvas } from "../app/api";

const COLORS: Record<string, string> = {
  MODEL: "#8f7ad1",
  CLIP: "#c9a227",
  CONDITIONING: "#c9772e",
  LATENT: "#c25d9c",
  VAE: "#c14b4b",
  IMAGE: "#3f86c9",
  MASK: "#5c8f4f",
};
const HEAD = 30;
const LINE = 20;
const MARGIN = 30;
const SHOWN = 26;

export function Drawing({ canvas }: { canvas: Canvas }) {
  const boxes = new Map(canvas.nodes.map((node) => [node.id, box(node)]));
  const all = [...boxes.values()];
  const left = Math.min(...all.map((one) => one.x)) - MARGIN;
  const top = Math.min(...all.map((one) => one.y)) - MARGIN;
  const width = Math.max(...all.map((one) => one.x + one.width)) + MARGIN - left;
  const height = Math.max(...all.map((one) => one.y + one.height)) + MARGIN - top;
  const names = canvas.nodes.map((node) => node.title ?? node.type).join(", ");
  return (
    <div className="drawing" tabIndex={0} role="region" aria-label="Drawing of the workflow">
      <svg
        viewBox={`${left} ${top} ${width} ${height}`}
        width={width}
        height={height}
        role="img"
        aria-label={`A workflow of ${names}`}
      >
        {canvas.links.map(([id, from, slot, to, place, kind]) => {
          const source = boxes.get(from);
          const target = boxes.get(to);
          if (!source || !target) return null;
          const [x1, y1] = [source.x + source.width, source.y + HEAD + LINE * (slot + 0.5)];
          const [x2, y2] = [target.x, target.y + HEAD + LINE * (target.place(place) + 0.5)];
          const bend = Math.max(40, Math.abs(x2 - x1) / 2);
          return (
            <path
              key={id}
              d={`M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`}
              fill="none"
              stroke={COLORS[kind] ?? "#8a8a8a"}
              strokeWidth={3}
            />
          );
        })}
        {canvas.nodes.map((node) => {
          const { x, y, width: wide, height: high, sockets, values } = box(node);
          return (
            <g key={node.id} transform={`translate(${x} ${y})`}>
              <rect width={wide} height={high} rx={8} className="box" />
              <text x={12} y={20} className="title">
                {node.title ?? node.type} <tspan className="number">{node.id}</tspan>
              </text>
              {sockets.map((one, place) => (
                <text key={one.name} x={10} y={HEAD + LINE * (place + 0.5) + 5}>
                  {one.name}
                </text>
              ))}
              {node.outputs.map((one, place) => (
                <text key={place} x={wide - 10} y={HEAD + LINE * (place + 0.5) + 5} textAnchor="end">
                  {one.name}
                </text>
              ))}
              {values.map(([name, value], place) => (
                <text key={name} x={10} y={high - LINE * (values.length - place - 0.5) - 2} className="value">
                  <tspan className="name">{name}</tspan> {value}
                </text>
              ))}
            </g>
          );
        })}
      </svg>
    </div>
  );
}

function box(node: Canvas["nodes"][number]) {
  // A widget is a row of its own below, unless something is linked to it: then it is drawn as a socket.
  const isSocket = (entry: { widget?: unknown; link: number | null }) => !entry.widget || entry.link !== null;
  const sockets = node.inputs.filter(isSocket);
  const values = valuesOf(node);
  const rows = Math.max(sockets.length, node.outputs.length);
  return {
    x: node.pos[0],
    y: node.pos[1],
    width: node.size[0],
    height: HEAD + LINE * (rows + values.length) + 14,
    sockets,
    values,
    place: (slot: number) => {
      const entry = node.inputs[slot];
      return entry ? sockets.indexOf(entry) : 0;
    },
  };
}

/** The values of widgets by name. What stands behind some on the canvas (what becomes of a seed, a button) is passed over. */
function valuesOf(node: Canvas["nodes"][number]): [string, string][] {
  const names = node.inputs.filter((entry) => entry.widget).map((entry) => entry.name);
  const values = node.widgets_values ?? [];
  const found: [string, string][] = [];
  let place = 0;
  for (const name of names) {
    const value = String(values[place] ?? "");
    found.push([name, value.length > SHOWN ? `${value.slice(0, SHOWN)}…` : value]);
    place += 1;
    if (
      /^(fixed|increment|decrement|randomize|image)$/.test(String(values[place])) &&
      values.length - place > names.length - found.length
    )
      place += 1;
  }
  return found;
}
