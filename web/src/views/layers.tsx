// The model tree, the heat map of any statistic, and what one layer's tensors look like over time.

import type { ComponentProps } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";

import type { Shown } from "../app";
import { ofRun, type Span } from "../data/api";
import { useJson, useMatrix } from "../data/query";
import { href } from "../data/route";
import type { HeatHeader, Kind, Statistic, TensorEntry } from "../data/types";
import { Select } from "../parts/bar";
import { branches, tensorsOf } from "../parts/branches";
import { Detail } from "../parts/detail";
import { Empty, Failed } from "../parts/empty";
import { HeatMap } from "../parts/heat";
import { Panel } from "../parts/panel";
import { STATISTICS, isStatistic } from "../parts/statistics";
import { Tree } from "../parts/tree";
import { useWords } from "../words/words";

const KINDS: Kind[] = ["output", "grad_output", "weight", "grad", "update"];

export function LayersView({ run, versions, overview, findings, dark, parameters }: Shown) {
  const say = useWords();
  const [zoom, setZoom] = useState<Span | null>(null);
  const [filter, setFilter] = useState("");
  const tensors = useJson<TensorEntry[]>(ofRun(run, "tensors"), overview.tensors, run);
  const kind = KINDS.find((one) => one === parameters.get("kind")) ?? "output";
  const asked = parameters.get("statistic");
  const statistic: Statistic = isStatistic(asked) && allowed(kind).includes(asked) ? asked : "rms";
  const place = parameters.get("layer");
  const byId = useMemo(() => new Map(tensors.data?.map((one) => [one.id, one])), [tensors.data]);
  const roots = useMemo(() => branches(tensors.data ?? []), [tensors.data]);
  const flags = useMemo(
    () => new Map(findings?.findings.map((one) => [one.where ?? undefined, one.severity]).reverse() as []),
    [findings],
  ) as Map<string, "warn" | "fail">;
  const choices = useMemo(
    () => (place === null ? [] : tensorsOf(tensors.data ?? [], place)),
    [tensors.data, place],
  );
  const wanted = Number(parameters.get("tensor") ?? NaN);
  const tensor = choices.find((one) => one.id === wanted)
    ?? choices.find((one) => one.kind === kind) ?? choices[0];

  const go = (changed: Record<string, string | undefined>) => {
    const next = { ...Object.fromEntries(parameters), ...changed };
    const kept = Object.entries(next).filter((pair): pair is [string, string] => pair[1] !== undefined);
    location.hash = href(run, "layers", Object.fromEntries(kept));
  };
  useEffect(() => {
    if (place !== null && tensor) document.getElementById("detail")?.scrollIntoView({ block: "nearest" });
  }, [place, tensor === undefined]);

  // Drawn anew only when it changes: a zoom or a new step is none of its business.
  const tree = useMemo(
    () => (
      <Panel title={say("tree")}>
        <Tree
          label={say("tree")} roots={roots} selected={place} flag={(name) => flags.get(name)}
          onSelect={(name) => go({ layer: name, tensor: undefined })}
        />
      </Panel>
    ),
    [roots, place, flags, say, parameters],
  );

  if (tensors.error) return <Failed reason={tensors.error} />;
  if (tensors.data && !tensors.data.length) return <Empty><p>{say("no_steps")}</p></Empty>;
  return (
    <div class="layers">
      {tree}
      <div class="layers-main">
        <Panel
          title={say("heat")} hint={say("heat_hint")}
          tools={
            <>
              <Select
                label={say("kind")} value={kind} shown options={KINDS.map((one) => [one, say(`kind_${one}`)])}
                choose={(next) => go({ kind: next, tensor: undefined })}
              />
              <Select
                label={say("statistic")} value={statistic} shown
                options={allowed(kind).map((one) => [one, say(`stat_${one}`)])}
                choose={(next) => go({ statistic: next })}
              />
              <label class="select">
                <span class="quiet">{say("filter")}</span>
                <input
                  type="search" value={filter} size={14}
                  onInput={(event) => setFilter(event.currentTarget.value)}
                />
              </label>
              {zoom && (
                <button type="button" class="small" onClick={() => setZoom(null)}>{say("reset_zoom")}</button>
              )}
            </>
          }
        >
          <Map_
            run={run} version={versions.steps} tensors={tensors.data && byId} kind={kind} statistic={statistic}
            filter={filter} selected={tensor?.id ?? null} dark={dark} zoom={zoom} onZoom={setZoom}
            onPick={(id) => { const one = byId.get(id); if (one) go({ layer: placeOf(one), tensor: String(id) }); }}
          />
        </Panel>
        <div id="detail">
          {place !== null && tensor ? (
            <Detail
              run={run} version={versions.steps} place={place} choices={choices} tensor={tensor}
              statistic={statisticFor(tensor, statistic)} zoom={zoom} onZoom={setZoom} dark={dark}
              onChoose={(id) => go({ tensor: String(id) })}
            />
          ) : (
            <Empty><p>{say("choose_layer")}</p></Empty>
          )}
        </div>
      </div>
    </div>
  );
}

interface MapProps extends Omit<ComponentProps<typeof HeatMap>, "heat" | "tensors"> {
  run: string;
  version: number;
  tensors: Map<number, TensorEntry> | undefined;
  zoom: Span | null;
}

/** The map with its question, which so is asked before those of the detail that stands below it. */
function Map_({ run, version, tensors, zoom, ...shown }: MapProps) {
  const say = useWords();
  const { kind, statistic } = shown;
  const span = zoom ? { from: zoom.from, to: zoom.to } : {};
  const heat = useMatrix<HeatHeader>(
    ofRun(run, "heat", { kind, statistic, points: 400, ...span }), version, `${run}/${kind}/${statistic}`,
  );
  return (
    <>
      {heat.error && <Failed reason={heat.error} />}
      {heat.data && tensors && <HeatMap heat={heat.data} tensors={tensors} {...shown} />}
      {!heat.data && !heat.error && <p class="quiet">{say("loading")}</p>}
    </>
  );
}

/** An output belongs to its own module, a parameter to the module that holds it. */
function placeOf(tensor: TensorEntry): string {
  if (tensor.kind === "output" || tensor.kind === "grad_output") return tensor.name;
  return tensor.name.includes(".") ? tensor.name.slice(0, tensor.name.lastIndexOf(".")) : tensor.name;
}

function allowed(kind: Kind): Statistic[] {
  const all = Object.keys(STATISTICS) as Statistic[];
  return all.filter((one) =>
    one === "update_ratio" ? kind === "update" : one === "dead_share" ? kind === "output" : true,
  );
}

function statisticFor(tensor: TensorEntry, statistic: Statistic): Statistic {
  return allowed(tensor.kind).includes(statistic) ? statistic : "rms";
}
