// One place of the model: its tensors to choose from, the curve of a statistic, the histogram.

import { useMemo } from "preact/hooks";

import { ofRun, type Span } from "../data/api";
import { useJson, useMatrix } from "../data/query";
import type { HistogramHeader, Statistic, TensorCurves, TensorEntry } from "../data/types";
import { shape } from "../words/numbers";
import { useWords, type Say } from "../words/words";
import { Chart } from "./chart";
import { Failed } from "./empty";
import { Histogram } from "./histogram";
import { Panel } from "./panel";
import { isStatistic, written } from "./statistics";

interface Props {
  run: string;
  version: number;
  place: string;
  choices: TensorEntry[];
  tensor: TensorEntry;
  statistic: Statistic;
  onChoose: (id: number) => void;
  zoom: Span | null;
  onZoom: (span: Span | null) => void;
  dark: boolean;
}

export function Detail(props: Props) {
  const { run, version, tensor, choices, statistic, zoom, onZoom, dark } = props;
  const say = useWords();
  const path = `tensors/${tensor.id}`;
  const span = zoom ? { from: zoom.from, to: zoom.to } : {};
  const keep = `${run}/${tensor.id}`;
  const curves = useJson<TensorCurves>(ofRun(run, path, { ...span, points: 600, statistic }), version, keep);
  const histogram = useMatrix<HistogramHeader>(
    ofRun(run, `${path}/histogram`, { ...span, points: 300 }), version, keep,
  );
  // Of another statistic than the chosen one until the answer is there.
  const [asked, curve] = Object.entries(curves.data?.curves ?? {})[0] ?? [];
  const drawn = isStatistic(asked ?? null) ? (asked as Statistic) : statistic;
  const lines = useMemo(
    () => (curve ? [{ label: say(`stat_${drawn}`), curve, hue: "first" }] : []),
    [curve, drawn, say],
  );
  return (
    <Panel title={props.place || "(model)"} wide hint={`${tensor.module ? `${tensor.module} · ` : ""}${tensor.label} · ${shape(tensor.shape)} · ${tensor.dtype}`}>
      <div class="choices" role="group" aria-label={say("tensors")}>
        {choices.map((one) => (
          <button
            key={one.id} type="button" aria-pressed={one.id === tensor.id}
            onClick={() => props.onChoose(one.id)}
          >
            {choiceName(say, one, props.place)}
          </button>
        ))}
      </div>
      {curves.error && <Failed reason={curves.error} />}
      {lines.length > 0 && (
        <Chart
          name={`${tensor.label} ${say(`stat_${drawn}`)}`} lines={lines} dark={dark} height={170}
          show={(value) => written(drawn, value)} zoom={zoom} onZoom={onZoom}
        />
      )}
      <h3>{say("histogram")}</h3>
      <p class="hint">{say("histogram_hint")}</p>
      {histogram.error && <Failed reason={histogram.error} />}
      {histogram.data && (
        <Histogram name={tensor.label} histogram={histogram.data} onZoom={onZoom} dark={dark} />
      )}
    </Panel>
  );
}

function choiceName(say: Say, tensor: TensorEntry, place: string): string {
  const parameter = tensor.kind !== "output" && tensor.kind !== "grad_output";
  const own = parameter ? `${tensor.name.slice(tensor.name.startsWith(place) && tensor.name !== place && place ? place.length + 1 : 0).split(".").at(-1)} · ` : "";
  const call = tensor.call > 1 ? ` · ${say("call", { number: tensor.call })}` : "";
  const part = tensor.part > 0 ? ` · ${say("part", { number: tensor.part + 1 })}` : "";
  return own + say(`one_${tensor.kind}`) + part + call;
}
