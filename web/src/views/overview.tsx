// The verdict first, then the loss, the step time and what else was logged.

import { useMemo, useState } from "preact/hooks";

import type { Shown } from "../app";
import { ofRun, type Span } from "../data/api";
import { useJson } from "../data/query";
import type { Findings, Overview, Scalar, Timing } from "../data/types";
import { Chart, type Line } from "../parts/chart";
import { Failed } from "../parts/empty";
import { FindingCard } from "../parts/finding";
import { Facts, Panel } from "../parts/panel";
import { duration, number, percent, whole } from "../words/numbers";
import { useWords, type Say } from "../words/words";

const HUES = ["first", "second", "third", "fourth", "fifth", "sixth"];

export function OverviewView({ run, versions, overview, findings, dark }: Shown) {
  const say = useWords();
  const [zoom, setZoom] = useState<Span | null>(null);
  const span = zoom ? { from: zoom.from, to: zoom.to } : {};
  const scalars = useJson<Scalar[]>(ofRun(run, "scalars", { points: 600, ...span }), versions.scalars, run);
  const timing = useJson<Timing>(ofRun(run, "timing", { points: 400, ...span }), versions.steps, run);
  const losses = scalars.data?.filter((one) => one.name.toLowerCase().includes("loss")) ?? [];
  const others = scalars.data?.filter((one) => !losses.includes(one)) ?? [];
  const lossLines = useMemo(() => linesOf(losses), [scalars.data]);
  return (
    <>
      <VerdictHead findings={findings} overview={overview} />
      {findings && findings.findings.length > 0 && (
        <ol class="findings" aria-label={say("findings")}>
          {findings.findings.map((one) => <FindingCard key={one.code + one.where} finding={one} run={run} />)}
        </ol>
      )}
      <div class="grid">
        <Panel title={say("loss")} wide>
          {scalars.error && <Failed reason={scalars.error} />}
          {scalars.data && (losses.length
            ? <Chart name={say("loss")} lines={lossLines} dark={dark} height={260} show={number} zoom={zoom} onZoom={setZoom} />
            : <p class="quiet">{say("no_loss")}</p>)}
        </Panel>
        <TimingPanel timing={timing.data} error={timing.error} dark={dark} zoom={zoom} onZoom={setZoom} />
        {others.map((one) => (
          <ScalarPanel key={one.name} scalar={one} dark={dark} zoom={zoom} onZoom={setZoom} />
        ))}
        <Panel title={say("facts")}>
          <Facts rows={factsOf(say, overview)} />
        </Panel>
      </div>
    </>
  );
}

function VerdictHead({ findings, overview }: { findings: Findings | undefined; overview: Overview }) {
  const say = useWords();
  if (!findings) return <p class="quiet">{say("loading")}</p>;
  const count = findings.findings.length;
  const lead = !overview.steps && !count ? say("no_steps")
    : count === 0 ? say("nothing_wrong", { steps: whole(overview.steps) })
    : count === 1 ? say("one_finding") : say("many_findings", { count });
  return (
    <div class={`verdict ${findings.verdict}`} role="status">
      <Sign verdict={findings.verdict} />
      <h1>{say(`verdict_${findings.verdict}`)}</h1>
      <p>{lead}</p>
    </div>
  );
}

const SIGNS = {
  pass: "M4 12.5l5.500 5.500L20 6.500",
  warn: "M12 4v10M12 19.200v.6",
  fail: "M5.500 5.500l13 13M18.500 5.500l-13 13",
};

function Sign({ verdict }: { verdict: Findings["verdict"] }) {
  return (
    <svg viewBox="0 0 24 24" aria-hidden="true"><path d={SIGNS[verdict]} /></svg>
  );
}

interface ChartProps {
  dark: boolean;
  zoom: Span | null;
  onZoom: (span: Span | null) => void;
}

function ScalarPanel({ scalar, ...rest }: ChartProps & { scalar: Scalar }) {
  const lines = useMemo(() => [{ label: scalar.name, curve: scalar, hue: "third" }], [scalar]);
  return (
    <Panel title={scalar.name}>
      <Chart name={scalar.name} lines={lines} height={150} show={number} {...rest} />
    </Panel>
  );
}

function TimingPanel({ timing, error, ...rest }: ChartProps & { timing: Timing | undefined; error: string | undefined }) {
  const say = useWords();
  const lines = useMemo<Line[]>(
    () => (timing ? [{ label: say("step_time"), curve: timing.curve, hue: "second" }] : []),
    [timing, say],
  );
  const waits = useMemo<Line[]>(
    () => (timing ? [{ label: say("data_wait"), curve: timing.share_curve, hue: "fifth" }] : []),
    [timing, say],
  );
  const rate = useMemo<Line[]>(
    () => (timing ? [{ label: say("samples_per_s"), curve: timing.rate_curve, hue: "third" }] : []),
    [timing, say],
  );
  const share = timing?.data_share ?? null;
  const rates = timing?.samples_per_s != null ? [{ dataset: "", samples_per_s: timing.samples_per_s }] : timing?.rates ?? [];
  return (
    <Panel title={say("step_time")} tall={(timing?.share_curve.steps.length ?? 0) > 1}>
      {error && <Failed reason={error} />}
      {timing && (
        <div class="figures">
          <Figure value={timing.median_s === null ? "–" : duration(timing.median_s)} name={say("median_step")} />
          <Figure
            value={timing.median_s ? short(1 / timing.median_s) : "–"}
            name={say("steps_per_s")}
          />
          {rates.map((one) => one.samples_per_s !== null && (
            <Figure
              key={one.dataset} value={short(one.samples_per_s)}
              name={one.dataset ? `${say("samples_per_s")} · ${one.dataset}` : say("samples_per_s")}
            />
          ))}
          {share !== null && <Figure value={percent(share)} name={say("data_share")} />}
        </div>
      )}
      {share !== null && (
        <div class="share-bar" aria-hidden="true">
          <i class="wait" style={{ width: `${100 * share}%` }} />
        </div>
      )}
      {timing && share === null && <p class="hint">{say("no_share")}</p>}
      {timing && (timing.curve.steps.length
        ? <Chart name={say("step_time")} lines={lines} height={150} show={duration} {...rest} />
        : <p class="quiet">{say("no_timing")}</p>)}
      {timing && timing.share_curve.steps.length > 1 && (
        <>
          <Chart name={say("data_wait")} lines={waits} height={110} show={percent} {...rest} />
          <Chart name={say("samples_per_s")} lines={rate} height={110} show={short} {...rest} />
        </>
      )}
    </Panel>
  );
}

/** Three digits are enough of a rate. */
function short(value: number): string {
  return number(Number(value.toPrecision(3)));
}

function Figure({ value, name }: { value: string; name: string }) {
  return <div class="figure"><b>{value}</b><span>{name}</span></div>;
}

export function linesOf(scalars: Scalar[]): Line[] {
  return scalars.map((one, i) => ({
    label: one.name, curve: one, hue: HUES[i % HUES.length] ?? "first", dash: i >= HUES.length,
  }));
}

export function factsOf(say: Say, overview: Overview): [string, string][] {
  const rows: [string, string][] = [
    [say("model"), overview.model ?? "–"],
    [say("parameters"), overview.parameters === null ? "–" : whole(overview.parameters)],
    [say("optimizer"), overview.optimizers.join(", ") || "–"],
    [say("steps"), whole(overview.steps)],
    [say("recorded_steps"), whole(overview.recorded)],
    [say("tensors"), whole(overview.tensors)],
    [say("duration"), duration(overview.seconds)],
    [say("final_loss"), number(overview.final_loss)],
    [say("started"), (overview.started ?? "–").replace("T", " ").slice(0, 16)],
    ["torch", overview.torch ?? "–"],
    ["lampwork", overview.lampwork ?? "–"],
    [say("command"), overview.command.map((word) => word.split("/").at(-1)).join(" ") || "–"],
  ];
  return rows;
}
