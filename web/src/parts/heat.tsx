// One statistic of all tensors of a kind: depth from top to bottom, steps from left to right.

import { useMemo, useState } from "preact/hooks";

import type { Span } from "../data/api";
import type { HeatHeader, Kind, Matrix, Statistic, TensorEntry } from "../data/types";
import { useWords } from "../words/words";
import { brokenColour, paint, pixel, pixels, scaleFor, shade, type Rgb } from "./colours";
import { ScaleLegend } from "./legend";
import { Raster, type Cell } from "./raster";
import { STATISTICS, written } from "./statistics";

interface Props {
  heat: Matrix<HeatHeader>;
  tensors: Map<number, TensorEntry>;
  kind: Kind;
  statistic: Statistic;
  filter: string;
  selected: number | null;
  onPick: (id: number) => void;
  onZoom: (span: Span | null) => void;
  dark: boolean;
}

const TALLEST = 560;
const ZERO_DARK: Rgb = [74, 80, 90];
const ZERO_LIGHT: Rgb = [150, 155, 162];

export function HeatMap({ heat, tensors, kind, statistic, filter, selected, onPick, onZoom, dark }: Props) {
  const say = useWords();
  const [cursor, setCursor] = useState<Cell | null>(null);
  const { ids, starts, ends } = heat.header;
  const rows = useMemo(() => {
    const wanted = filter.trim().toLowerCase();
    const all = ids.map((id, row) => ({ id, row, label: tensors.get(id)?.label ?? String(id) }));
    return wanted ? all.filter((one) => one.label.toLowerCase().includes(wanted)) : all;
  }, [heat, tensors, filter]);
  const scale = useMemo(
    () => scaleFor(heat.values, STATISTICS[statistic].scale, STATISTICS[statistic].share ?? false),
    [heat, statistic],
  );
  const at = (row: number, column: number) =>
    heat.values[(rows[row]?.row ?? 0) * starts.length + column] ?? NaN;
  const cells = useMemo(() => {
    const count = starts.length;
    const shades = pixels((share) => shade(scale, share));
    const beside = { broken: pixel(brokenColour()), zero: pixel(dark ? ZERO_DARK : ZERO_LIGHT) };
    const painted = new Uint32Array(rows.length * count);
    rows.forEach(({ row }, i) => {
      const values = heat.values.subarray(row * count, (row + 1) * count);
      paint(values, scale, shades, beside, painted.subarray(i * count, (i + 1) * count));
    });
    return painted;
  }, [heat, rows, scale, dark]);
  const named = say(`stat_${statistic}`);
  const kinds = say(`kind_${kind}`);
  if (!rows.length || !starts.length) return <p class="quiet">{say("heat_empty", { kind: kinds })}</p>;
  const rowHeight = Math.min(18, Math.max(1, TALLEST / rows.length));
  const longest = Math.max(...rows.map((row) => row.label.length));
  const step = cursor && starts[cursor.column];
  const label = say("heat_label", {
    statistic: named, rows: rows.length, kind: kinds, first: starts[0] ?? 0, last: ends.at(-1) ?? 0,
  });
  return (
    <>
      <ScaleLegend
        scale={scale} title={named} show={(value) => written(statistic, value)}
        broken={statistic !== "nonfinite"} zero={scale.kind === "log"}
      />
      <div class="raster-box">
        <Raster
          label={label} rows={rows.length} columns={heat.header} cells={cells} rowHeight={rowHeight}
          name={(row) => rows[row]?.label ?? ""} nameWidth={Math.min(190, 7 * longest + 14)}
          selected={rows.findIndex((row) => row.id === selected)} cursor={cursor} onCursor={setCursor}
          onPick={(cell) => { const row = rows[cell.row]; if (row) onPick(row.id); }} onZoom={onZoom}
          dark={dark} testId="heat"
        />
      </div>
      <output class="readout">
        {cursor
          ? say("heat_cell", {
              name: rows[cursor.row]?.label ?? "", step: step ?? 0,
              value: valueText(statistic, at(cursor.row, cursor.column), say("legend_broken"), say("legend_absent")),
            })
          : " "}
      </output>
    </>
  );
}

function valueText(statistic: Statistic, value: number, broken: string, absent: string): string {
  if (Number.isNaN(value)) return absent;
  return Number.isFinite(value) ? written(statistic, value) : broken;
}
