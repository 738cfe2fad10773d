// Who waits for whom: what each loader measured.

import type { Shown } from "../app";
import { ofRun } from "../data/api";
import { useJson } from "../data/query";
import type { Json, LoaderEntry } from "../data/types";
import { Empty, Failed } from "../parts/empty";
import { Facts, Panel } from "../parts/panel";
import { duration, number, percent } from "../words/numbers";
import { useWords } from "../words/words";

export function DataView_({ run, versions }: Shown) {
  const say = useWords();
  const loaders = useJson<LoaderEntry[]>(ofRun(run, "loaders"), versions.change, run);
  if (loaders.error) return <Failed reason={loaders.error} />;
  if (!loaders.data) return <p class="quiet">{say("loading")}</p>;
  if (!loaders.data.length) return <Empty><p>{say("no_loaders")}</p></Empty>;
  return (
    <div class="grid">
      {loaders.data.map((loader, i) => <LoaderPanel key={i} loader={loader} />)}
    </div>
  );
}

function LoaderPanel({ loader }: { loader: LoaderEntry }) {
  const say = useWords();
  const { stats } = loader;
  const of = (key: string) => (typeof stats[key] === "number" ? (stats[key] as number) : null);
  const share = of("wait_share") ?? 0;
  const rows: [string, string][] = [
    [say("batches"), number(of("batches"))],
    [say("samples"), number(of("samples"))],
    [say("samples_per_s"), number(Number((of("samples_per_s") ?? NaN).toPrecision(3)))],
    [say("epoch_s"), duration(of("epoch_s"))],
    [say("wait_s"), duration(of("wait_s"))],
    [say("ready_share"), percent(of("ready_share"))],
    [say("busy_share"), percent(of("busy_share"))],
    [say("engine"), typeof stats.engine === "string" ? stats.engine : "–"],
  ];
  const label = say("wait_label", {
    wait: duration(of("wait_s")), all: duration(of("epoch_s")), share: percent(share), name: loader.dataset,
  });
  return (
    <Panel title={loader.dataset} wide>
      {typeof stats.bottleneck === "string" && <p class="sentence" lang="en">{stats.bottleneck}</p>}
      <div class="share-bar tall" role="img" aria-label={label}>
        <i class="wait" style={{ width: `${100 * Math.min(share, 1)}%` }} />
        <i class="work" />
      </div>
      <p class="keys">
        <span class="swatch"><i class="wait" />{say("waits")} {percent(share)}</span>
        <span class="swatch"><i class="work" />{say("works")} {percent(1 - share)}</span>
      </p>
      <Facts rows={rows} />
      <Pairs title={say("slowest")} head={[say("index"), say("seconds")]} pairs={stats.slowest} seconds />
      <Pairs title={say("skipped")} head={[say("index"), say("error")]} pairs={stats.skipped} />
    </Panel>
  );
}

interface PairsProps {
  title: string;
  head: [string, string];
  pairs: Json | undefined;
  seconds?: boolean;
}

function Pairs({ title, head, pairs, seconds }: PairsProps) {
  if (!Array.isArray(pairs) || !pairs.length) return null;
  const text = (value: Json | undefined) =>
    typeof value === "number" ? (seconds ? duration(value) : number(value)) : String(value ?? "–");
  return (
    <>
      <h3>{title}</h3>
      <div class="scroll" tabIndex={0} role="region" aria-label={title}>
        <table>
          <thead><tr>{head.map((one) => <th key={one} scope="col">{one}</th>)}</tr></thead>
          <tbody>
            {pairs.slice(0, 100).map((pair, i) => Array.isArray(pair) && (
              <tr key={i}><td>{String(pair[0] ?? "–")}</td><td>{text(pair[1])}</td></tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}
