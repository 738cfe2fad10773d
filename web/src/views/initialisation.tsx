// The plan and its check where the run has them, and the signal by depth at the first step.

import { useMemo } from "preact/hooks";

import type { Shown } from "../app";
import { ofRun } from "../data/api";
import { useJson } from "../data/query";
import { href } from "../data/route";
import type { Curve, FirstSignal, Initialisation, Json } from "../data/types";
import { Chart } from "../parts/chart";
import { Empty, Failed } from "../parts/empty";
import { Panel } from "../parts/panel";
import { Records, rowsIn, type Row } from "../parts/records";
import { number, shape } from "../words/numbers";
import { known, useWords, type Say } from "../words/words";

export function InitialisationView({ run, versions, overview, dark }: Shown) {
  const say = useWords();
  // Nothing here changes after the first steps, so a run that goes on is not asked each time.
  const early = overview.recorded < 3 ? versions.steps : 0;
  const answer = useJson<Initialisation>(ofRun(run, "initialisation"), early, run);
  const layers = answer.data?.layers;
  const lines = useMemo(
    () => [
      { label: say("output_rms"), curve: byDepth(layers ?? [], "output_rms"), hue: "first" },
      { label: say("grad_rms"), curve: byDepth(layers ?? [], "grad_rms"), hue: "second" },
    ],
    [layers, say],
  );
  if (answer.error) return <Failed reason={answer.error} />;
  if (!answer.data || !layers) return <p class="quiet">{say("loading")}</p>;
  return (
    <div class="grid">
      <CheckPanel check={answer.data.check} run={run} />
      <PlanPanel plan={answer.data.plan} />
      <Panel title={say("first_signal", { step: answer.data.step ?? 0 })} hint={say("first_signal_hint")} wide>
        {layers.length ? (
          <>
            <Chart
              name={say("chart_depth", { points: layers.length })} lines={lines} dark={dark} height={220}
              show={number} across={say("depth")} nameOf={(x) => layers[Math.round(x)]?.name ?? ""}
            />
            <Records
              label={say("first_signal", { step: answer.data.step ?? 0 })}
              columns={[
                ["name", say("layer")], ["module", say("type")], ["output", say("output_rms")],
                ["grad", say("grad_rms")], ["std", say("weight_std")], ["shape", say("shape")],
              ]}
              rows={layers.map((one) => ({
                name: one.name, module: one.module, output: one.output_rms, grad: one.grad_rms,
                std: one.weight_std, shape: one.weight_shape ? shape(one.weight_shape) : null,
              }))}
            />
          </>
        ) : (
          <p class="quiet">{say("no_signal")}</p>
        )}
      </Panel>
    </div>
  );
}

function CheckPanel({ check, run }: { check: Json; run: string }) {
  const say = useWords();
  const rows = rowsIn(check);
  if (!rows.length) return null;
  const word = textOf(check, "verdict").toLowerCase();
  const found = rowsIn((check as Row).findings ?? null);
  return (
    <Panel title={say("check")} hint={say("check_hint")} wide>
      <p class={`checked ${word}`}>
        <b>{known(say, `verdict_${word}`, word)}</b>{" "}
        {found.length === 0 ? say("check_passed") : say("check_found", { count: found.length })}
      </p>
      {found.length > 0 && (
        <ul class="difference">
          {found.map((one, i) => (
            <li key={i} class={String(one.severity)}>
              <code>{String(one.code)}</code>{" "}
              {typeof one.where === "string" && (
                <a href={href(run, "layers", { layer: moduleOf(one.where) })}><code>{one.where}</code></a>
              )}{" "}
              <span class="quiet" lang="en">{String(one.advice ?? "").split("\n")[0]}</span>
            </li>
          ))}
        </ul>
      )}
      <Records label={say("check")} rows={rows} columns={columnsOf(say, rows, CHECKED)} />
    </Panel>
  );
}

function PlanPanel({ plan }: { plan: Json }) {
  const say = useWords();
  const rows = rowsIn(plan);
  if (!rows.length) return <Empty><p>{say("no_plan")}</p></Empty>;
  const seed = (plan as Row).seed;
  const hint = typeof seed === "number" ? say("plan_applied", { seed, count: rows.length }) : say("plan_kept", { count: rows.length });
  return (
    <Panel title={say("plan")} hint={hint} wide>
      <Records label={say("plan")} rows={rows} columns={columnsOf(say, rows, PLANNED)} />
    </Panel>
  );
}

const CHECKED = ["status", "name", "role", "planned", "measured", "output", "gradient", "notes"];
const PLANNED = ["name", "shape", "role", "scheme", "std", "fan_in", "fan_out", "nonlinearity", "residual", "tied", "reason"];

/** The columns of this order that any of the rows fills, with their headings. */
function columnsOf(say: Say, rows: Row[], order: string[]): [string, string][] {
  const filled = order.filter((name) => rows.some((row) => !isNothing(row[name])));
  return filled.map((name) => [name, known(say, `column_${name}`, name.replaceAll("_", " "))]);
}

function isNothing(value: Json | undefined): boolean {
  return value === null || value === undefined || value === false || value === "" || (Array.isArray(value) && !value.length);
}

function textOf(value: Json, key: string): string {
  const found = value && typeof value === "object" && !Array.isArray(value) ? value[key] : null;
  return typeof found === "string" ? found : "";
}

/** A parameter is shown with its module. */
function moduleOf(name: string): string {
  return name.replace(/\.(weight|bias)$/, "");
}

function byDepth(layers: FirstSignal[], key: "output_rms" | "grad_rms"): Curve {
  const values = layers.map((one) => one[key]);
  return { steps: layers.map((_, i) => i), mean: values, low: values, high: values, broken: [] };
}
