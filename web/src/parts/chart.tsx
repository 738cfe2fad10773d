// Curves over steps: uPlot with our colours, a legend that tells values, and keys.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";

import type { Span } from "../data/api";
import type { Curve } from "../data/types";
import { colour } from "../theme";
import { tick } from "../words/numbers";
import { useWords } from "../words/words";
import { aligned, isFolded, spanOf, wantsLog } from "./curves";

export interface Line {
  label: string;
  curve: Curve;
  /** Name of a colour of the style sheet. */
  hue: string;
  dash?: boolean;
}

interface Props {
  name: string;
  lines: Line[];
  dark: boolean;
  height?: number;
  /** A value with its unit. */
  show?: (value: number) => string;
  zoom?: Span | null;
  onZoom?: (span: Span | null) => void;
  /** What the x axis counts. */
  across?: string;
  nameOf?: (x: number) => string;
}

export function Chart(props: Props) {
  const { lines, dark, height = 220, show = tick, onZoom, zoom } = props;
  const say = useWords();
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [at, setAt] = useState<number | null>(null);
  const log = wantsLog(lines.map((line) => line.curve));
  const data = useMemo(() => aligned(lines.map((line) => line.curve), log), [lines, log]);
  const banded = lines.map((line) => isFolded(line.curve)).join();
  const look = `${lines.map((line) => line.label + line.hue).join()}|${banded}|${dark}|${log}|${height}`;
  const latest = useRef({ props, data, setAt });
  latest.current = { props, data, setAt };

  useEffect(() => {
    const holder = box.current;
    if (!holder) return;
    const chart = new uPlot(options(holder, latest.current.props, log, latest), latest.current.data, holder);
    plot.current = chart;
    const sized = new ResizeObserver(() => {
      if (holder.clientWidth) chart.setSize({ width: holder.clientWidth, height });
    });
    sized.observe(holder);
    return () => {
      sized.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [look]);
  useLayoutEffect(() => plot.current?.setData(data), [data]);

  const x = data[0];
  const first = x[0] ?? 0;
  const last = x[x.length - 1] ?? 0;
  const place = at !== null && at < x.length ? at : x.length - 1;
  const move = (to: number) => {
    const next = Math.min(Math.max(to, 0), x.length - 1);
    const left = plot.current?.valToPos(x[next] ?? 0, "x") ?? 0;
    plot.current?.setCursor({ left, top: height / 3 });
    setAt(next);
  };
  const key = (event: KeyboardEvent) => {
    const here = at ?? x.length - 1;
    const jump = event.shiftKey ? Math.max(1, Math.round(x.length / 20)) : 1;
    const moves: Record<string, () => void> = {
      ArrowLeft: () => move(here - jump),
      ArrowRight: () => move(here + jump),
      Home: () => move(0),
      End: () => move(x.length - 1),
      "+": () => onZoom?.(spanOf(x, here, 0.25)),
      "-": () => onZoom?.(spanOf(x, here, 1)),
      Escape: () => onZoom?.(null),
    };
    const action = moves[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  };
  const label = say("chart", { name: props.name, points: x.length, first, last });
  return (
    <div class="chart">
      <div class="legend" aria-live="off">
        <span class="legend-x">
          {props.nameOf && x.length ? props.nameOf(x[place] ?? 0) : `${props.across ?? say("step")} ${x.length ? x[place] : "–"}`}
        </span>
        {lines.map((line, i) => (
          <span class="legend-item" key={line.label}>
            <i style={{ background: `var(--${line.hue})` }} class={line.dash ? "dash" : ""} />
            {line.label} <b>{value(data, i, at === null ? null : place, show)}</b>
          </span>
        ))}
        {log && <span class="legend-scale">{say("log_scale")}</span>}
        {zoom && onZoom && (
          <button type="button" class="small" onClick={() => onZoom(null)}>{say("reset_zoom")}</button>
        )}
      </div>
      <div
        ref={box} class="plot" role="img" tabIndex={0} aria-label={label} onKeyDown={key}
        style={{ height: `${height}px` }}
      />
    </div>
  );
}

/** Only whole powers of ten of a logarithmic axis have a grid line. */
function decades(_: uPlot, splits: number[]): (number | null)[] {
  return splits.map((at) => (Math.abs(Math.log10(at) - Math.round(Math.log10(at))) < 1e-6 ? at : null));
}

/** The value at a place; without a cursor the last one there is. */
function value(data: uPlot.AlignedData, line: number, place: number | null, show: (v: number) => string): string {
  const values = data[1 + 3 * line] ?? [];
  const known = Array.from(values).filter((one) => one !== null && one !== undefined);
  const found = place === null ? known.at(-1) : values[place];
  return found === null || found === undefined ? "–" : show(found);
}

type Latest = { current: { props: Props; data: uPlot.AlignedData; setAt: (at: number | null) => void } };

function options(holder: HTMLElement, props: Props, log: boolean, latest: Latest): uPlot.Options {
  const { lines, height = 220, show = tick } = props;
  const ink = colour("quiet");
  const axis: uPlot.Axis = {
    stroke: ink,
    font: `11px ${getComputedStyle(document.body).fontFamily}`,
    grid: { stroke: colour("line"), width: 1 },
    ticks: { show: false },
  };
  const hues = lines.map((line) => colour(line.hue));
  return {
    width: holder.clientWidth || 300,
    height,
    padding: [8, 16, 0, 0],
    legend: { show: false },
    cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 7 } },
    scales: { x: { time: false }, y: log ? { distr: 3 } : {} },
    axes: [
      { ...axis, ...(props.nameOf ? named(lines, props.nameOf) : {}), size: 26, gap: 4, values: (_, ticks) => ticks.map((at) => latest.current.props.nameOf?.(at) ?? tick(at)) },
      { ...axis, grid: { ...axis.grid, ...(log ? { filter: decades } : {}) }, size: 56, gap: 4, values: (_, ticks) => ticks.map((at) => (at === null ? "" : show(at))) },
    ],
    series: [{}, ...lines.flatMap((line, i) => seriesOf(line, hues[i] ?? ink))],
    bands: lines.map((_, i) => ({
      series: [3 + 3 * i, 2 + 3 * i] as uPlot.Band.Bounds,
      fill: `${hues[i] ?? ink}38`,
    })),
    hooks: {
      setCursor: [(chart) => latest.current.setAt(chart.cursor.idx ?? null)],
      setSelect: [(chart) => select(chart, latest)],
      draw: [(chart) => lines.forEach((_, i) => marks(chart, latest.current.props.lines[i]))],
    },
  };
}

/** An axis of names has ticks at whole places only, as far apart as its longest name is wide. */
function named(lines: Line[], nameOf: (x: number) => string): uPlot.Axis {
  const longest = Math.max(...lines.flatMap((line) => line.curve.steps.map((x) => nameOf(x).length)), 0);
  return { space: 7 * longest + 12, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] };
}

function seriesOf(line: Line, hue: string): uPlot.Series[] {
  const few = line.curve.steps.length <= 60;
  const edge: uPlot.Series = { stroke: "transparent", width: 0, points: { show: false } };
  return [
    { label: line.label, stroke: hue, width: 1.75, ...(line.dash ? { dash: [6, 4] } : {}), points: { show: few, size: 4, fill: hue } },
    edge,
    edge,
  ];
}

function select(chart: uPlot, latest: Latest): void {
  const { left, width } = chart.select;
  if (width < 4) return;
  const from = Math.max(0, Math.floor(chart.posToVal(left, "x")));
  const to = Math.ceil(chart.posToVal(left + width, "x"));
  chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  latest.current.props.onZoom?.({ from, to });
}

/** A mark at the upper edge where a value was NaN or infinite. */
function marks(chart: uPlot, line: Line | undefined): void {
  if (!line) return;
  const { ctx, bbox } = chart;
  const size = 4 * devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = colour("alarm");
  ctx.lineWidth = 1.5 * devicePixelRatio;
  for (const [step] of line.curve.broken) {
    const x = chart.valToPos(step, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    const y = bbox.top + size;
    ctx.beginPath();
    ctx.moveTo(x - size, y - size);
    ctx.lineTo(x + size, y + size);
    ctx.moveTo(x + size, y - size);
    ctx.lineTo(x - size, y + size);
    ctx.stroke();
  }
  ctx.restore();
}
