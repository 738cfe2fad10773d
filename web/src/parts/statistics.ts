// What is known of each statistic: how it is scaled and written.

import type { Statistic } from "../data/types";
import { number, percent } from "../words/numbers";
import type { Scale } from "./colours";

export const STATISTICS: Record<Statistic, { scale: Scale["kind"]; share?: boolean }> = {
  rms: { scale: "log" },
  mean: { scale: "diverging" },
  std: { scale: "log" },
  min: { scale: "diverging" },
  max: { scale: "diverging" },
  absmax: { scale: "log" },
  norm: { scale: "log" },
  zero_share: { scale: "linear", share: true },
  dead_share: { scale: "linear", share: true },
  nonfinite: { scale: "linear" },
  update_ratio: { scale: "log" },
};

export function written(statistic: Statistic, value: number): string {
  return STATISTICS[statistic].share ? percent(value) : number(value);
}

export function isStatistic(text: string | null): text is Statistic {
  return text !== null && text in STATISTICS;
}
