// How the magnitudes of one tensor are spread, over time, and at one chosen step as bars.

import { useMemo, useState } from "preact/hooks";

import type { Span } from "../data/api";
import type { HistogramHeader, Matrix } from "../data/types";
import { number, percent, tick } from "../words/numbers";
import { useWords } from "../words/words";
import { paint, pixels, viridis, type Scale } from "./colours";
import { ScaleLegend } from "./legend";
import { Raster, type Cell } from "./raster";

interface Props {
  name: string;
  histogram: Matrix<HistogramHeader>;
  onZoom: (span: Span | null) => void;
  dark: boolean;
}

const ROW = 11;
const SHADES = pixels(viridis);

export function Histogram({ name, histogram, onZoom, dark }: Props) {
  const say = useWords();
  const [cursor, setCursor] = useState<Cell | null>(null);
  const { header, values } = histogram;
  const bins = header.shape[1];
  const used = useMemo(() => usedBins(values, bins), [values, bins]);
  const count = header.starts.length;
  const cells = useMemo(() => paintedBins(values, bins, used), [values, bins, used]);
  if (!count) return <p class="quiet">{say("nothing_at")}</p>;

  const rows = used.high - used.low + 1;
  const at = (row: number, column: number) => values[column * bins + used.high - row] ?? 0;
  const scale = scaleOf(used);
  const column = cursor?.column ?? count - 1;
  const step = header.starts[column] ?? 0;
  const magnitude = (row: number) => 2 ** (header.exponent_min + used.high - row);
  const label = say("histogram_label", { name, first: header.starts[0] ?? 0, last: header.ends.at(-1) ?? 0 });
  return (
    <div class="histogram">
      <div class="histogram-map">
        <ScaleLegend scale={scale} title={say("share_of_elements")} show={percent} />
        <Raster
          label={label} rows={rows} columns={header} rowHeight={ROW} nameWidth={64}
          cells={cells}
          name={(row) => ((used.high - row) % 3 === 0 ? tick(magnitude(row)) : "")}
          cursor={cursor} onCursor={setCursor} onZoom={onZoom}
          dark={dark} testId="histogram"
        />
        <output class="readout">
          {cursor
            ? `${say("step")} ${step} · ${tick(magnitude(cursor.row))} … ${tick(2 * magnitude(cursor.row))} · ${percent(at(cursor.row, cursor.column))}`
            : " "}
        </output>
      </div>
      <div class="bars" aria-label={`${say("share_of_elements")}, ${say("histogram_at", { step })}`} role="img">
        <p class="quiet">{say("histogram_at", { step })}</p>
        {Array.from({ length: rows }, (_, row) => (
          <div key={row} class={cursor?.row === row ? "bar-row here" : "bar-row"} style={{ height: `${ROW}px` }}>
            <i style={{ width: `${(100 * at(row, column)) / used.most}%` }} />
          </div>
        ))}
        <p class="quiet">
          {say("zeros")} <b>{percent(header.zeros?.[column])}</b>
          {(header.nonfinite?.[column] ?? 0) > 0 && (
            <> · <span class="alarm">{say("legend_broken")} {number(header.nonfinite?.[column])}</span></>
          )}
        </p>
      </div>
    </div>
  );
}

function scaleOf(used: Used): Scale {
  return { kind: "root", low: 0, high: used.most };
}

/** The used bins as pixels, the largest magnitude in the first row. */
function paintedBins(values: Float32Array, bins: number, used: Used): Uint32Array {
  const [rows, count] = [used.high - used.low + 1, values.length / bins];
  const shares = new Float32Array(rows * count);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < count; column++) {
      shares[row * count + column] = values[column * bins + used.high - row] || NaN;
    }
  }
  const cells = new Uint32Array(shares.length);
  paint(shares, scaleOf(used), SHADES, { broken: 0, zero: 0 }, cells);
  return cells;
}

interface Used {
  low: number;
  high: number;
  most: number;
}

/** The bins between the smallest and the largest that hold anything, and the fullest of all. */
function usedBins(values: Float32Array, bins: number): Used {
  let low = bins - 1;
  let high = 0;
  let most = 0;
  values.forEach((share, i) => {
    if (!(share > 0)) return;
    const bin = i % bins;
    low = Math.min(low, bin);
    high = Math.max(high, bin);
    most = Math.max(most, share);
  });
  return low > high ? { low: 0, high: 0, most: 1 } : { low, high, most };
}
