// The plan and its check where the run has them, and the signal by depth at the first step.

import { useMemo } from "preact/hooks";

import type { Shown } from "../app";
import { ofRun } from "../data/api";
import { useJson } from "../data/query";
import type { Curve, FirstSignal, Initialisation } from "../data/types";
import { Chart } from "../parts/chart";
import { Empty, Failed } from "../parts/empty";
import { Panel } from "../parts/panel";
import { Records, columnsOf, rowsIn } from "../parts/records";
import { number, shape } from "../words/numbers";
import { useWords } from "../words/words";

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
  const plan = rowsIn(answer.data.plan);
  const check = rowsIn(answer.data.check);
  return (
    <div class="grid">
      {check.length > 0 && (
        <Panel title={say("check")} wide><Records label={say("check")} rows={check} columns={columnsOf(check)} /></Panel>
      )}
      {plan.length > 0 ? (
        <Panel title={say("plan")} wide><Records label={say("plan")} rows={plan} columns={columnsOf(plan)} /></Panel>
      ) : (
        <Empty><p>{say("no_plan")}</p></Empty>
      )}
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

function byDepth(layers: FirstSignal[], key: "output_rms" | "grad_rms"): Curve {
  const values = layers.map((one) => one[key]);
  return { steps: layers.map((_, i) => i), mean: values, low: values, high: values, broken: [] };
}
