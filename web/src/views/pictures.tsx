// Pictures at one step: where the model looks, feature maps, kernels and their change, attention.

import { useMemo, useState } from "preact/hooks";

import type { Shown } from "../app";
import { ofRun } from "../data/api";
import { useJson } from "../data/query";
import type { PictureEntry } from "../data/types";
import { Empty, Failed } from "../parts/empty";
import { Gradient, type Ramp } from "../parts/legend";
import { Panel } from "../parts/panel";
import { MOST_TILES, Tiles, type Hue } from "../parts/tiles";
import { known, useWords, type Say } from "../words/words";

const ORDER = ["feature_maps", "kernels", "attention", "weights", "image"];
const GAZE = ["grad_cam", "saliency"];
const HUES: Record<string, Hue> = { kernels: "signed", weights: "signed", image: "plain" };

interface Group {
  kind: string;
  name: string;
  module: string;
  pictures: PictureEntry[];
}

export function PicturesView({ run, versions }: Shown) {
  const say = useWords();
  const pictures = useJson<PictureEntry[]>(ofRun(run, "pictures"), versions.pictures, run);
  const steps = useMemo(
    () => [...new Set(pictures.data?.map((one) => one.step))].sort((a, b) => a - b),
    [pictures.data],
  );
  const groups = useMemo(() => grouped(pictures.data ?? []), [pictures.data]);
  const [chosen, choose] = useState<number | null>(null);
  // A chosen step stays chosen while new ones come in.
  const step = chosen !== null && steps.includes(chosen) ? chosen : steps.at(-1) ?? 0;
  if (pictures.error) return <Failed reason={pictures.error} />;
  if (!pictures.data) return <p class="quiet">{say("loading")}</p>;
  if (!steps.length) return <Empty><p>{say("no_pictures")}</p></Empty>;
  const shown = groups
    .filter((group) => !group.kind.endsWith("_change") && group.kind !== "input" && !GAZE.includes(group.kind))
    .sort((a, b) => rank(a.kind) - rank(b.kind));
  return (
    <>
      <div class="slider">
        <label for="picture-step">{say("picture_step")}</label>
        <input
          id="picture-step" type="range" min={0} max={steps.length - 1} value={steps.indexOf(step)}
          aria-valuetext={`${say("step")} ${step}`} disabled={steps.length < 2}
          onInput={(event) => choose(steps[Number(event.currentTarget.value)] ?? null)}
        />
        <output for="picture-step"><b>{step}</b> <span class="quiet">/ {steps.at(-1)}</span></output>
      </div>
      <div class="grid">
        <GazePanel run={run} groups={groups} step={step} />
        {shown.map((group) => (
          <GroupPanel
            key={group.kind + group.name} run={run} group={group} step={step}
            changes={groups.find((one) => one.kind === `${group.kind}_change` && one.name === group.name)}
          />
        ))}
      </div>
    </>
  );
}

/** The examples, and over them what speaks for the class. */
function GazePanel({ run, groups, step }: { run: string; groups: Group[]; step: number }) {
  const say = useWords();
  const input = groups.find((group) => group.kind === "input");
  const images = input && at(input, step);
  if (!images) return null;
  const maps = groups.filter((group) => GAZE.includes(group.kind));
  return (
    <Panel
      title={maps.length ? say("pic_gaze") : say("pic_input")} wide={maps.length > 0}
      hint={maps.length ? say("pic_gaze_hint") : say("pic_input_hint")}
    >
      <div class={maps.length ? "three" : ""}>
        <figure>
          <Tiles run={run} picture={images} hue="plain" testId="input" label={labelOf(say, images)} />
          <figcaption>{say("pic_input")}</figcaption>
        </figure>
        {maps.map((group) => {
          const map = at(group, step);
          return map && (
            <figure key={group.kind + group.name}>
              <Tiles run={run} picture={map} under={images} hue="heat" testId={group.kind} label={labelOf(say, map)} />
              <figcaption>
                <b>{titleOf(say, group.kind)}</b> {captionOf(say, map, group)} {known(say, `pic_${group.kind}_hint`, "")}
              </figcaption>
            </figure>
          );
        })}
      </div>
      {maps.length > 0 && <Gradient kind="heat" text={say("pic_heat_scale")} />}
    </Panel>
  );
}

function GroupPanel({ run, group, step, changes }: { run: string; group: Group; step: number; changes: Group | undefined }) {
  const say = useWords();
  const first = group.pictures[0];
  const now = at(group, step);
  if (!first || !now) return null;
  const hue: Hue = now.colours ? "plain" : HUES[group.kind] ?? "viridis";
  const change = now.step === first.step ? undefined : changes?.pictures.find((one) => one.step === now.step);
  const ramp: Ramp | null = hue === "signed" ? "diverging" : hue === "viridis" ? "viridis" : null;
  return (
    <Panel
      title={titleOf(say, group.kind)} wide={now.images > 4 || change !== undefined}
      hint={`${nameOf(group)} · ${known(say, `pic_${group.kind}_hint`, "")}`}
    >
      <div class={change ? "three" : ""}>
        {change && (
          <figure>
            <Tiles run={run} picture={first} hue={hue} testId="first" label={labelOf(say, first)} />
            <figcaption>{say("pic_now", { step: first.step })}</figcaption>
          </figure>
        )}
        <figure>
          <Tiles run={run} picture={now} hue={hue} testId="tiles" label={labelOf(say, now)} />
          <figcaption>{say("pic_now", { step: now.step })}{countOf(say, now)}</figcaption>
        </figure>
        {change && (
          <figure>
            <Tiles
              run={run} picture={change} hue={hue} testId="change"
              label={`${labelOf(say, now)}: ${say("pic_change", { step: first.step })}`}
            />
            <figcaption>{say("pic_change", { step: first.step })}</figcaption>
          </figure>
        )}
      </div>
      {ramp && <Gradient kind={ramp} text={say(scaleOf(group.kind, hue))} />}
      {hue === "plain" && group.kind !== "image" && <p class="hint">{say("pic_rgb_scale")}</p>}
    </Panel>
  );
}

function scaleOf(kind: string, hue: Hue): "pic_signed_scale" | "pic_attention_scale" | "pic_scale" {
  if (hue === "signed") return "pic_signed_scale";
  return kind === "attention" ? "pic_attention_scale" : "pic_scale";
}

/** The latest picture of a group up to a step. */
function at(group: Group, step: number): PictureEntry | undefined {
  return group.pictures.filter((one) => one.step <= step).at(-1) ?? group.pictures[0];
}

function rank(kind: string): number {
  return (ORDER.indexOf(kind) + ORDER.length + 1) % (ORDER.length + 1);
}

function titleOf(say: Say, kind: string): string {
  return known(say, `pic_${kind}`, kind.replaceAll("_", " "));
}

function nameOf(group: Group): string {
  return `${group.name || "(model)"}${group.module ? ` (${group.module})` : ""}`;
}

function captionOf(say: Say, picture: PictureEntry, group: Group): string {
  return `${say("pic_now", { step: picture.step })} · ${nameOf(group)}.`;
}

function countOf(say: Say, picture: PictureEntry): string {
  if (picture.images > MOST_TILES) return ` · ${say("pic_shown", { shown: MOST_TILES, all: picture.images })}`;
  return picture.images > 1 ? ` · ${say("pic_all", { all: picture.images })}` : "";
}

function labelOf(say: Say, picture: PictureEntry): string {
  return say("pic_label", { kind: titleOf(say, picture.kind), name: picture.name || "(model)", step: picture.step });
}

function grouped(pictures: PictureEntry[]): Group[] {
  const groups = new Map<string, Group>();
  for (const picture of pictures) {
    const { kind, name, module } = picture;
    const group = groups.get(`${kind} ${name}`) ?? { kind, name, module, pictures: [] };
    group.pictures.push(picture);
    groups.set(`${kind} ${name}`, group);
  }
  return [...groups.values()];
}
