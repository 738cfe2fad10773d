// What the server answers; the other side is view/answers/.

export type Verdict = "pass" | "warn" | "fail";
export type Kind = "output" | "grad_output" | "weight" | "grad" | "update";
export type Statistic =
  | "rms" | "mean" | "std" | "min" | "max" | "absmax" | "norm"
  | "zero_share" | "dead_share" | "nonfinite" | "update_ratio";

export interface RunEntry {
  run: string;
  verdict: Verdict | null;
  model: string | null;
  steps: number | null;
}

export interface Listing {
  directory: string;
  runs: RunEntry[];
}

export interface Overview {
  run: string;
  model: string | null;
  parameters: number | null;
  optimizers: string[];
  started: string | null;
  command: string[];
  torch: string | null;
  lampwork: string | null;
  every: number | null;
  finished: boolean;
  steps: number;
  recorded: number;
  seconds: number;
  tensors: number;
  final_loss: number | null;
}

export interface Finding {
  code: string;
  severity: "warn" | "fail";
  where: string | null;
  step: number;
  evidence: [string, string][];
  advice: string;
  fix: string;
}

export interface Findings {
  verdict: Verdict;
  findings: Finding[];
}

export interface Curve {
  steps: number[];
  mean: (number | null)[];
  low: (number | null)[];
  high: (number | null)[];
  broken: [number, string][];
}

export interface Scalar extends Curve {
  name: string;
}

export interface Timing {
  data_share: number | null;
  median_s: number | null;
  curve: Curve;
  share_curve: Curve;
  rate_curve: Curve;
  samples_per_s: number | null;
  rates: { dataset: string; samples_per_s: number | null }[];
}

export interface TensorEntry {
  id: number;
  name: string;
  label: string;
  kind: Kind;
  call: number;
  part: number;
  shape: number[];
  dtype: string;
  module: string;
}

export interface TensorCurves {
  id: number;
  label: string;
  facts: Record<string, string>;
  curves: Partial<Record<Statistic, Curve>>;
}

export interface Columns {
  starts: number[];
  ends: number[];
  shape: [number, number];
}

export interface HeatHeader extends Columns {
  ids: number[];
}

export interface HistogramHeader extends Columns {
  exponent_min: number;
  zeros?: (number | null)[];
  nonfinite?: (number | null)[];
}

export interface Matrix<Header extends Columns> {
  header: Header;
  values: Float32Array;
}

export interface PictureEntry {
  index: number;
  step: number;
  name: string;
  kind: string;
  /** Class of the module that it shows, "" where that is none. */
  module: string;
  /** Whether it is in RGB. */
  colours: boolean;
  images: number;
  height: number;
  width: number;
}

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

export interface LoaderEntry {
  dataset: string;
  stats: { [key: string]: Json };
}

export interface FirstSignal {
  name: string;
  module: string;
  output_rms: number | null;
  grad_rms: number | null;
  weight_std: number | null;
  weight_shape: number[] | null;
}

export interface Initialisation {
  plan: Json;
  check: Json;
  step: number | null;
  layers: FirstSignal[];
}
