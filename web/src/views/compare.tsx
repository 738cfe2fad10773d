// Two runs over each other: curves, findings, facts.

import { useMemo, useState } from "preact/hooks";

import type { Shown } from "../app";
import { ofRun, type Span } from "../data/api";
import { useJson } from "../data/query";
import { href } from "../data/route";
import type { Curve, Finding, Findings, Overview, Scalar, Timing } from "../data/types";
import { Select } from "../parts/bar";
import { Chart, type Line } from "../parts/chart";
import { Empty, Failed } from "../parts/empty";
import { Panel } from "../parts/panel";
import { duration, number } from "../words/numbers";
import { useWords } from "../words/words";
import { factsOf } from "./overview";

export function CompareView({ run, versions, overview, findings, dark, parameters, runs }: Shown) {
  const say = useWords();
  const others = runs.runs.filter((one) => one.run !== run);
  const asked = parameters.get("with");
  const other = others.find((one) => one.run === asked)?.run ?? others[0]?.run ?? null;
  if (other === null) return <Empty><p>{say("compare_none")}</p></Empty>;
  return (
    <>
      <div class="versus">
        <span class="key first">{run}</span>
        <Select
          label={say("compare_with")} value={other} shown
          options={others.map((one) => [one.run, one.run])}
          choose={(next) => { location.hash = href(run, "compare", { with: next }); }}
        />
        <span class="key second">{other}</span>
      </div>
      <Pair key={other} {...{ run, other, versions, overview, findings, dark }} />
    </>
  );
}

interface PairProps extends Pick<Shown, "run" | "versions" | "overview" | "findings" | "dark"> {
  other: string;
}

function Pair({ run, other, versions, overview, findings, dark }: PairProps) {
  const say = useWords();
  const [zoom, setZoom] = useState<Span | null>(null);
  const span = zoom ? { from: zoom.from, to: zoom.to } : {};
  const ask = { points: 500, ...span };
  const mine = useJson<Scalar[]>(ofRun(run, "scalars", ask), versions.scalars, run);
  const theirs = useJson<Scalar[]>(ofRun(other, "scalars", ask), 0, other);
  const myTime = useJson<Timing>(ofRun(run, "timing", ask), versions.steps, run);
  const theirTime = useJson<Timing>(ofRun(other, "timing", ask), 0, other);
  const theirOverview = useJson<Overview>(ofRun(other, "overview"));
  const theirFindings = useJson<Findings>(ofRun(other, "findings"));
  const common = mine.data?.filter((one) => theirs.data?.some((two) => two.name === one.name)) ?? [];
  const chart = { run, other, dark, zoom, onZoom: setZoom };
  return (
    <div class="grid">
      {theirs.error && <Failed reason={theirs.error} />}
      <Panel title={say("compare_findings")} wide>
        {findings && theirFindings.data && (
          <Difference mine={findings.findings} theirs={theirFindings.data.findings} run={run} other={other} />
        )}
      </Panel>
      {mine.data && theirs.data && !common.length && <Empty><p>{say("no_common")}</p></Empty>}
      {common.map((one) => (
        <Both
          key={one.name} title={one.name} mine={one} theirs={theirs.data?.find((two) => two.name === one.name)}
          show={number} wide={one.name.toLowerCase().includes("loss")} {...chart}
        />
      ))}
      <Both
        title={say("step_time")}
        mine={myTime.data?.curve} theirs={theirTime.data?.curve} show={duration} {...chart}
      />
      {theirOverview.data && (
        <Panel title={say("facts")}>
          <FactsOfBoth mine={factsOf(say, overview)} theirs={factsOf(say, theirOverview.data)} run={run} other={other} />
        </Panel>
      )}
    </div>
  );
}

interface BothProps {
  title: string;
  mine: Curve | undefined;
  theirs: Curve | undefined;
  show: (value: number) => string;
  run: string;
  other: string;
  dark: boolean;
  wide?: boolean;
  zoom: Span | null;
  onZoom: (span: Span | null) => void;
}

function Both({ title, mine, theirs, run, other, wide, ...rest }: BothProps) {
  const lines = useMemo<Line[]>(
    () => [
      ...(mine?.steps.length ? [{ label: run, curve: mine, hue: "first" }] : []),
      ...(theirs?.steps.length ? [{ label: other, curve: theirs, hue: "second" }] : []),
    ],
    [mine, theirs],
  );
  if (!lines.length) return null;
  return (
    <Panel title={title} wide={wide ?? false}>
      <Chart name={title} lines={lines} height={wide ? 240 : 160} {...rest} />
    </Panel>
  );
}

function Difference({ mine, theirs, run, other }: { mine: Finding[]; theirs: Finding[]; run: string; other: string }) {
  const say = useWords();
  const here = new Set(mine.map((one) => one.code));
  const there = new Set(theirs.map((one) => one.code));
  const groups: [string, Finding[], string][] = [
    [say("only_in", { run }), mine.filter((one) => !there.has(one.code)), "first"],
    [say("only_in", { run: other }), theirs.filter((one) => !here.has(one.code)), "second"],
    [say("in_both"), mine.filter((one) => there.has(one.code)), "both"],
  ];
  if (!mine.length && !theirs.length) return <p class="quiet">{say("no_difference")}</p>;
  return (
    <div class="difference">
      {groups.map(([title, findings, key]) => findings.length > 0 && (
        <div key={title}>
          <h3><span class={`key ${key}`}>{title}</span></h3>
          <ul>
            {findings.map((one) => (
              <li key={one.code} class={one.severity}>
                <code>{one.code}</code> {one.where !== null && <code class="quiet">{one.where}</code>}{" "}
                <span class="quiet">{say("since", { step: one.step })}</span>
              </li>
            ))}
          </ul>
        </div>
      ))}
    </div>
  );
}

interface FactsProps {
  mine: [string, string][];
  theirs: [string, string][];
  run: string;
  other: string;
}

function FactsOfBoth({ mine, theirs, run, other }: FactsProps) {
  const say = useWords();
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={say("facts")}>
      <table>
        <thead><tr><th scope="col">{say("fact")}</th><th scope="col">{run}</th><th scope="col">{other}</th></tr></thead>
        <tbody>
          {mine.map(([name, value], i) => (
            <tr key={name} class={value === theirs[i]?.[1] ? "same" : ""}>
              <th scope="row">{name}</th><td>{value}</td><td>{theirs[i]?.[1]}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
