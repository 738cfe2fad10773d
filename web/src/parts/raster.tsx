// A matrix over steps on a canvas: heat map and histogram are both this.
//
// Two canvases lie on each other: the lower has the matrix and is drawn when that changes, the
// upper has the cursor and is drawn at every move.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import type { Span } from "../data/api";
import type { Columns } from "../data/types";
import { colour } from "../theme";
import { pixelOf } from "./colours";
import { tick } from "../words/numbers";

export interface Cell {
  row: number;
  column: number;
}

interface Props {
  label: string;
  rows: number;
  columns: Columns;
  /** The colours of the cells as pixels, row by row, 0 for none. */
  cells: Uint32Array;
  rowHeight: number;
  /** What stands left of a row; "" for nothing. */
  name: (row: number) => string;
  /** Names are cut to this width; 0 leaves no room for any. */
  nameWidth: number;
  selected?: number | null;
  /** The cell under the pointer or the keys. */
  cursor: Cell | null;
  onCursor: (cell: Cell | null) => void;
  onPick?: (cell: Cell) => void;
  onZoom?: (span: Span | null) => void;
  /** The theme, whose colours the axes have. */
  dark: boolean;
  testId: string;
}

const AXIS = 22;

export function Raster(props: Props) {
  const { rows, columns, rowHeight, cursor, onCursor, onPick, onZoom } = props;
  const box = useRef<HTMLDivElement>(null);
  const lower = useRef<HTMLCanvasElement>(null);
  const upper = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [drag, setDrag] = useState<[number, number] | null>(null);
  const gutter = Math.round(Math.min(props.nameWidth, width * 0.36));
  const height = Math.max(1, Math.round(rows * rowHeight));
  const edges = useMemo(() => columnEdges(columns, gutter, width), [columns, gutter, width]);

  useEffect(() => {
    const holder = box.current;
    if (!holder) return;
    const sized = new ResizeObserver(() => setWidth(holder.clientWidth));
    sized.observe(holder);
    setWidth(holder.clientWidth);
    return () => sized.disconnect();
  }, []);
  useLayoutEffect(() => {
    const context = prepared(lower.current, width, height + AXIS);
    if (!context) return;
    drawMatrix(context, props, edges, gutter, height);
    // For who waits until it is drawn: a benchmark, a test.
    context.canvas.dataset.steps = `${columns.starts[0]} ${columns.ends.at(-1)}`;
  }, [edges, height, props.cells, props.dark, rows]);
  useLayoutEffect(() => {
    const context = prepared(upper.current, width, height + AXIS);
    if (context) drawCursor(context, props, edges, gutter, height, drag);
  }, [edges, height, cursor?.row, cursor?.column, props.selected, drag, props.dark]);

  const cellAt = (event: PointerEvent): Cell | null => {
    const frame = upper.current?.getBoundingClientRect();
    if (!frame || !edges.length) return null;
    const row = Math.floor((event.clientY - frame.top) / rowHeight);
    const column = columnAt(edges, event.clientX - frame.left);
    return row >= 0 && row < rows ? { row, column } : null;
  };
  const xAt = (event: PointerEvent) => event.clientX - (upper.current?.getBoundingClientRect().left ?? 0);
  const released = (event: PointerEvent) => {
    const cell = cellAt(event);
    if (drag && onZoom && Math.abs(drag[1] - drag[0]) > 6) {
      const [a, b] = [Math.min(...drag), Math.max(...drag)].map((x) => columnAt(edges, x));
      onZoom({ from: columns.starts[a ?? 0] ?? 0, to: columns.ends[b ?? 0] ?? 0 });
    } else if (cell) onPick?.(cell);
    setDrag(null);
  };
  const key = (event: KeyboardEvent) => {
    const count = columns.starts.length;
    const here = cursor ?? { row: props.selected ?? 0, column: count - 1 };
    const jump = event.shiftKey ? 10 : 1;
    const to = (row: number, column: number) => () =>
      onCursor({ row: clamp(row, rows), column: clamp(column, count) });
    const actions: Record<string, () => void> = {
      ArrowUp: to(here.row - jump, here.column),
      ArrowDown: to(here.row + jump, here.column),
      ArrowLeft: to(here.row, here.column - jump),
      ArrowRight: to(here.row, here.column + jump),
      Home: to(here.row, 0),
      End: to(here.row, count - 1),
      Enter: () => onPick?.(here),
      " ": () => onPick?.(here),
      Escape: () => onZoom?.(null),
      "-": () => onZoom?.(null),
      "+": () => {
        const half = Math.max(1, Math.round(count / 8));
        const from = columns.starts[clamp(here.column - half, count)] ?? 0;
        onZoom?.({ from, to: columns.ends[clamp(here.column + half, count)] ?? 0 });
      },
    };
    const action = actions[event.key];
    if (!action || !rows || !count) return;
    event.preventDefault();
    action();
  };
  return (
    <div ref={box} class="raster" style={{ height: `${height + AXIS}px` }}>
      <canvas ref={lower} aria-hidden="true" data-testid={props.testId} />
      <canvas
        ref={upper} tabIndex={0} role="application" aria-label={props.label} class="over"
        onPointerMove={(event) => {
          onCursor(cellAt(event));
          if (drag) setDrag([drag[0], xAt(event)]);
        }}
        onPointerDown={(event) => {
          if (onZoom && event.pointerType === "mouse") setDrag([xAt(event), xAt(event)]);
        }}
        onPointerUp={released}
        onPointerLeave={() => { setDrag(null); onCursor(null); }}
        onKeyDown={key}
      />
    </div>
  );
}

function clamp(at: number, count: number): number {
  return Math.min(Math.max(at, 0), count - 1);
}

/** Where each column begins on the x axis, and where the last one ends; wide as its steps. */
function columnEdges({ starts, ends }: Columns, left: number, width: number): number[] {
  const first = starts[0];
  const last = ends[ends.length - 1];
  if (first === undefined || last === undefined || width <= left) return [];
  const before = starts[starts.length - 2];
  const final = starts[starts.length - 1] ?? last;
  // The last column is as wide as the one before it: nobody knows yet when its next step comes.
  const until = Math.max(last + 1, before === undefined ? last + 1 : 2 * final - before);
  const scale = (width - left) / (until - first);
  return [...starts.map((step) => left + (step - first) * scale), width];
}

function columnAt(edges: number[], x: number): number {
  let low = 0;
  let high = edges.length - 2;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((edges[middle] ?? 0) <= x) low = middle;
    else high = middle - 1;
  }
  return low;
}

function prepared(canvas: HTMLCanvasElement | null, width: number, height: number) {
  const context = canvas?.getContext("2d");
  if (!canvas || !context || !width) return null;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  context.scale(ratio, ratio);
  return context;
}

function drawMatrix(
  context: CanvasRenderingContext2D, props: Props, edges: number[], gutter: number, height: number,
): void {
  const { rows, columns, rowHeight } = props;
  const count = columns.starts.length;
  if (!rows || !count) return;
  const ratio = window.devicePixelRatio || 1;
  const places = edges.map((x) => Math.round((x - gutter) * ratio));
  const image = stretched(props.cells, rows, places, Math.round(height * ratio), colour("absent"));
  if (image) context.putImageData(image, Math.round(gutter * ratio), 0);
  context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  context.textBaseline = "middle";
  context.fillStyle = colour("quiet");
  context.textAlign = "right";
  const skip = Math.ceil(13 / rowHeight);
  for (let row = 0; row < rows; row += skip) {
    const text = props.name(row);
    if (text && gutter) context.fillText(fitted(context, text, gutter - 8), gutter - 6, (row + 0.5) * rowHeight);
  }
  stepAxis(context, columns, edges, gutter, height);
}

/** The cells in their size on the screen: one image to draw, not one for each column. */
function stretched(
  cells: Uint32Array, rows: number, places: number[], height: number, absent: string,
): ImageData | null {
  const count = places.length - 1;
  const width = places[count] ?? 0;
  if (width < 1 || height < 1) return null;
  // Which column a pixel shows; one narrower than a pixel has one all the same, if no later one does.
  const columns = new Uint16Array(width);
  for (let column = 0; column < count; column++) {
    const from = Math.min(places[column] as number, width - 1);
    columns.fill(column, from, Math.max(places[column + 1] as number, from + 1));
  }
  const image = new ImageData(width, height);
  const drawn = new Uint32Array(image.data.buffer);
  const none = pixelOf(absent);
  let line = 0;
  for (let row = 0; row < rows; row++) {
    const until = Math.round(((row + 1) * height) / rows);
    if (line >= until) continue;
    const start = line * width;
    for (let x = 0; x < width; x++) {
      drawn[start + x] = (cells[row * count + (columns[x] as number)] as number) || none;
    }
    while (++line < until) drawn.copyWithin(line * width, start, start + width);
  }
  return image;
}

function stepAxis(
  context: CanvasRenderingContext2D, columns: Columns, edges: number[], gutter: number, height: number,
): void {
  const width = (edges[edges.length - 1] ?? 0) - gutter;
  const wanted = Math.max(1, Math.floor(width / 80));
  const every = Math.max(1, Math.ceil(columns.starts.length / wanted));
  context.textAlign = "left";
  for (let column = 0; column < columns.starts.length; column += every) {
    const x = edges[column] ?? 0;
    context.fillRect(x, height, 1, 4);
    context.fillText(tick(columns.starts[column] ?? 0), x + 3, height + 12);
  }
}

/** The end of a name tells more than its beginning. */
function fitted(context: CanvasRenderingContext2D, text: string, width: number): string {
  if (context.measureText(text).width <= width) return text;
  let kept = text;
  while (kept.length > 1 && context.measureText(`…${kept}`).width > width) kept = kept.slice(1);
  return `…${kept}`;
}

function drawCursor(
  context: CanvasRenderingContext2D, props: Props, edges: number[], gutter: number, height: number,
  drag: [number, number] | null,
): void {
  const { rowHeight, cursor, selected } = props;
  const right = edges[edges.length - 1] ?? 0;
  const thick = Math.max(rowHeight, 2);
  if (selected !== null && selected !== undefined && selected >= 0) {
    context.strokeStyle = colour("ink");
    context.lineWidth = 2;
    context.strokeRect(gutter + 1, selected * rowHeight, right - gutter - 2, thick);
    context.fillStyle = colour("accent");
    context.fillRect(gutter - 4, selected * rowHeight, 4, thick);
  }
  if (cursor) {
    const x = edges[cursor.column] ?? 0;
    const w = Math.max((edges[cursor.column + 1] ?? x) - x, 2);
    context.strokeStyle = colour("cursor");
    context.lineWidth = 1.5;
    context.strokeRect(x, cursor.row * rowHeight, w, thick);
    context.globalAlpha = 0.35;
    context.strokeRect(gutter, cursor.row * rowHeight, right - gutter, thick);
    context.beginPath();
    context.moveTo(x + w / 2, 0);
    context.lineTo(x + w / 2, height);
    context.stroke();
    context.globalAlpha = 1;
  }
  if (drag) {
    context.fillStyle = `${colour("accent")}44`;
    context.fillRect(Math.min(...drag), 0, Math.abs(drag[1] - drag[0]), height);
  }
}
