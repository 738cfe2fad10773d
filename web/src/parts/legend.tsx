// The legend of a colour scale: a bar with numbers, and swatches for what has no place on it.

import { useWords } from "../words/words";
import { brokenColour, css, diverging, heated, middle, shade, viridis, type Rgb, type Scale } from "./colours";

interface Props {
  scale: Scale;
  show: (value: number) => string;
  title: string;
  broken?: boolean;
  zero?: boolean;
}

export function ScaleLegend({ scale, show, title, broken, zero }: Props) {
  const say = useWords();
  const stops = Array.from({ length: 9 }, (_, i) => css(shade(scale, i / 8))).join(", ");
  return (
    <div class="scale">
      <span class="quiet">{title}{scale.kind === "log" ? ` (${say("log_scale")})` : ""}</span>
      <span class="scale-bar">
        <span>{show(scale.low)}</span>
        <i style={{ background: `linear-gradient(to right, ${stops})` }}>
          <span>{show(middle(scale))}</span>
        </i>
        <span>{show(scale.high)}</span>
      </span>
      {broken && <span class="swatch"><i style={{ background: css(brokenColour()) }} />{say("legend_broken")}</span>}
      {zero && <span class="swatch"><i style={{ background: "var(--zero)" }} />{say("legend_zero")}</span>}
      <span class="swatch"><i class="absent" />{say("legend_absent")}</span>
    </div>
  );
}

const RAMPS = {
  viridis,
  diverging,
  heat: (share: number) => heated(share, [90, 90, 90]),
} satisfies Record<string, (share: number) => Rgb>;

export type Ramp = keyof typeof RAMPS;

/** What the colours of a picture mean, where they have no unit. */
export function Gradient({ kind, text }: { kind: Ramp; text: string }) {
  const stops = Array.from({ length: 7 }, (_, i) => css(RAMPS[kind](i / 6))).join(", ");
  return (
    <p class="gradient"><i style={{ background: `linear-gradient(to right, ${stops})` }} />{text}</p>
  );
}
