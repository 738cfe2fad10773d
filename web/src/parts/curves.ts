// Curves as uPlot wants them: one x axis, and per curve its mean, lowest and highest.

import uPlot from "uplot";

import type { Span } from "../data/api";
import type { Curve } from "../data/types";

type Values = (number | null)[];

/** x, then mean, low, high of each curve, over the steps of all of them. */
export function aligned(curves: Curve[], log: boolean): uPlot.AlignedData {
  const drawn = (values: Values) => (log ? values.map((v) => (v !== null && v > 0 ? v : null)) : values);
  const tables = curves.map(
    (curve): uPlot.AlignedData => [curve.steps, drawn(curve.mean), drawn(curve.low), drawn(curve.high)],
  );
  const [only] = tables;
  if (!only) return [[]];
  return tables.length === 1 ? only : uPlot.join(tables);
}

/** Whether several values were folded into one point, so that there is a band to draw. */
export function isFolded(curve: Curve): boolean {
  return curve.low.some((low, i) => low !== curve.high[i]);
}

/** Whether all values are positive and span more than two decades. */
export function wantsLog(curves: Curve[]): boolean {
  let low = Infinity;
  let high = 0;
  for (const curve of curves) {
    for (const value of curve.mean) {
      if (value === null) continue;
      if (value <= 0) return false;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  return high > 100 * low;
}

/** A stretch of `share` times what is shown, around a place; a share of 1 goes back out. */
export function spanOf(x: ArrayLike<number>, place: number, share: number): Span | null {
  if (share >= 1 || x.length < 3) return null;
  const half = Math.max(1, Math.round((x.length * share) / 2));
  const from = x[Math.max(0, place - half)] ?? 0;
  const to = x[Math.min(x.length - 1, place + half)] ?? 0;
  return { from, to };
}
