// Pictures at one step: feature maps, kernels and their change, attention, what decides.

import { useMemo, useState } from "preact/hooks";

import type { Shown } from "../app";
import { ofRun } from "../data/api";
import { useJson } from "../data/query";
import type { PictureEntry } from "../data/types";
import { Empty, Failed } from "../parts/empty";
import { Gradient } from "../parts/legend";
import { Panel } from "../parts/panel";
import { MOST_TILES, Tiles } from "../parts/tiles";
import { known, useWords, type Say } from "../words/words";

const ORDER = ["input", "feature_maps", "kernels", "attention", "grad_cam", "saliency"];
const GREY = new Set(["input", "kernels"]);
const COLOURED = new Set(["grad_cam", "saliency"]);

interface Group {
  kind: string;
  name: string;
  pictures: PictureEntry[];
}

export function PicturesView({ run, version }: Shown) {
  const say = useWords();
  const pictures = useJson<PictureEntry[]>(ofRun(run, "pictures"), version, run);
  const steps = useMemo(
    () => [...new Set(pictures.data?.map((one) => one.step))].sort((a, b) => a - b),
    [pictures.data],
  );
  const groups = useMemo(() => grouped(pictures.data ?? []), [pictures.data]);
  const [chosen, choose] = useState<number | null>(null);
  const place = chosen === null ? steps.length - 1 : Math.min(chosen, steps.length - 1);
  const step = steps[place] ?? 0;
  if (pictures.error) return <Failed reason={pictures.error} />;
  if (!pictures.data) return <p class="quiet">{say("loading")}</p>;
  if (!steps.length) return <Empty><p>{say("no_pictures")}</p></Empty>;
  return (
    <>
      <div class="slider">
        <label for="picture-step">{say("picture_step")}</label>
        <input
          id="picture-step" type="range" min={0} max={steps.length - 1} value={place}
          aria-valuetext={`${say("step")} ${step}`} disabled={steps.length < 2}
          onInput={(event) => choose(Number(event.currentTarget.value))}
        />
        <output for="picture-step"><b>{step}</b> <span class="quiet">/ {steps.at(-1)}</span></output>
      </div>
      <div class="grid">
        {groups.map((group) => <GroupPanel key={group.kind + group.name} run={run} group={group} step={step} />)}
      </div>
    </>
  );
}

function GroupPanel({ run, group, step }: { run: string; group: Group; step: number }) {
  const say = useWords();
  const first = group.pictures[0];
  const now = group.pictures.filter((one) => one.step <= step).at(-1) ?? first;
  if (!first || !now) return null;
  const kind = titleOf(say, group.kind);
  const label = (picture: PictureEntry) => say("pic_label", { kind, name: picture.name, step: picture.step });
  const hue = COLOURED.has(group.kind) ? "rgb" : GREY.has(group.kind) ? "grey" : "viridis";
  const several = group.kind === "kernels" && now.step !== first.step;
  const shown = now.images > MOST_TILES
    ? ` · ${say("pic_shown", { shown: MOST_TILES, all: now.images })}`
    : now.images > 1 ? ` · ${say("pic_all", { all: now.images })}` : "";
  return (
    <Panel
      title={kind} wide={now.images > 4 || several}
      hint={`${known(say, `pic_${group.kind}_hint`, "")} ${group.name || "(model)"}${shown}`}
    >
      <div class={several ? "three" : ""}>
        {several && (
          <figure>
            <Tiles run={run} picture={first} hue={hue} label={label(first)} />
            <figcaption>{say("pic_now", { step: first.step })}</figcaption>
          </figure>
        )}
        <figure>
          <Tiles run={run} picture={now} hue={hue} label={label(now)} />
          <figcaption>{say("pic_now", { step: now.step })}</figcaption>
          {hue !== "rgb" && <Gradient kind={hue} text={say("pic_scale")} />}
        </figure>
        {several && (
          <figure>
            <Tiles run={run} picture={now} since={first} hue={hue} label={say("pic_change", { step: first.step })} />
            <figcaption>{say("pic_change", { step: first.step })}</figcaption>
            <Gradient kind="diverging" text={say("pic_change_scale")} />
          </figure>
        )}
      </div>
    </Panel>
  );
}

function titleOf(say: Say, kind: string): string {
  return known(say, `pic_${kind}`, kind.replaceAll("_", " "));
}

function grouped(pictures: PictureEntry[]): Group[] {
  const groups = new Map<string, Group>();
  for (const picture of pictures) {
    const key = `${picture.kind} ${picture.name}`;
    const group = groups.get(key) ?? { kind: picture.kind, name: picture.name, pictures: [] };
    group.pictures.push(picture);
    groups.set(key, group);
  }
  const rank = (kind: string) => (ORDER.indexOf(kind) + ORDER.length + 1) % (ORDER.length + 1);
  return [...groups.values()].sort((a, b) => rank(a.kind) - rank(b.kind));
}
