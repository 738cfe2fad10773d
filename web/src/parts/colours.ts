// From a number to a colour. Dark is little and bright is much on both themes, and the steps of
// the scale look equally far apart, also to colour-blind eyes (stops of matplotlib's viridis, CC0).

export type Rgb = readonly [number, number, number];

const VIRIDIS: Rgb[] = [
  [68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141],
  [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37],
];
const DIVERGING: Rgb[] = [
  [33, 102, 172], [103, 169, 207], [190, 215, 232], [240, 240, 238],
  [250, 210, 180], [227, 140, 90], [178, 70, 24],
];
const PLASMA: Rgb[] = [
  [75, 3, 161], [125, 3, 168], [168, 34, 150], [203, 70, 121], [229, 107, 93], [248, 148, 65],
  [253, 195, 40], [240, 249, 33],
];
const BROKEN: Rgb = [214, 39, 103];

export interface Scale {
  kind: "linear" | "log" | "diverging" | "root";
  low: number;
  high: number;
}

export function between(stops: Rgb[], share: number): Rgb {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const left = Math.min(Math.floor(at), stops.length - 2);
  const a = stops[left] ?? BROKEN;
  const b = stops[left + 1] ?? BROKEN;
  const part = at - left;
  return [a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1]), a[2] + part * (b[2] - a[2])];
}

export function viridis(share: number): Rgb {
  return between(VIRIDIS, share);
}

export function diverging(share: number): Rgb {
  return between(DIVERGING, share);
}

export function plasma(share: number): Rgb {
  return between(PLASMA, share);
}

/** Heat over an image: the warmer, the more of it is covered; cold places show the image, greyed. */
export function heated(share: number, [r, g, b]: Rgb): Rgb {
  const grey = (0.8 * (r + g + b)) / 3;
  const cover = 0.85 * share;
  const [x, y, z] = plasma(share);
  return [grey + cover * (x - grey), grey + cover * (y - grey), grey + cover * (z - grey)];
}

/** A colour as the four bytes of a pixel, which a Uint32Array over an image takes; 0 is none. */
export function pixel([r, g, b]: Rgb): number {
  return ((255 << 24) | (Math.round(b) << 16) | (Math.round(g) << 8) | Math.round(r)) >>> 0;
}

/** A colour in the style sheet's words as a pixel. */
export function pixelOf(colour: string): number {
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  if (!context) return 0;
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return new Uint32Array(context.getImageData(0, 0, 1, 1).data.buffer)[0] ?? 0;
}

/** 256 pixels from one end of a scale to the other: a map has many cells and few colours. */
export function pixels(colourOf: (share: number) => Rgb): Uint32Array {
  return Uint32Array.from({ length: 256 }, (_, i) => pixel(colourOf(i / 255)));
}

/** What has no place on a scale, as pixels. */
export interface Beside {
  /** NaN or infinite elements. */
  broken: number;
  /** Zero, on a logarithmic scale. */
  zero: number;
}

/** Values as pixels, into an array of as many; a NaN, which says that nothing is there, as 0. */
export function paint(
  values: Float32Array, scale: Scale, shades: Uint32Array, beside: Beside, into: Uint32Array,
): void {
  // `place` for each of them, with what they have in common taken out of the loop.
  const log = scale.kind === "log";
  const low = log ? Math.log(scale.low) : scale.low;
  const span = (log ? Math.log(scale.high) : scale.high) - low;
  const root = scale.kind === "root";
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (value - value !== 0) into[i] = value === value ? beside.broken : 0;
    else if (log && value <= 0) into[i] = beside.zero;
    else {
      let share = span > 0 ? ((log ? Math.log(value) : value) - low) / span : 0.5;
      if (root) share = share > 0 ? Math.sqrt(share) : 0;
      into[i] = shades[share <= 0 ? 0 : share >= 1 ? 255 : (share * 255 + 0.5) | 0] as number;
    }
  }
}

export function brokenColour(): Rgb {
  return BROKEN;
}

export function css([r, g, b]: Rgb): string {
  return `rgb(${Math.round(r)} ${Math.round(g)} ${Math.round(b)})`;
}

/** Where a value stands on the scale, from 0 to 1; null for zero on a logarithmic one. */
export function place(scale: Scale, value: number): number | null {
  if (scale.kind === "log") {
    if (value <= 0) return null;
    const span = Math.log(scale.high) - Math.log(scale.low);
    return span > 0 ? (Math.log(value) - Math.log(scale.low)) / span : 0.5;
  }
  const span = scale.high - scale.low;
  const share = span > 0 ? (value - scale.low) / span : 0.5;
  return scale.kind === "root" ? Math.sqrt(Math.max(share, 0)) : share;
}

/** The value in the middle of the scale. */
export function middle(scale: Scale): number {
  if (scale.kind === "log") return Math.sqrt(scale.low * scale.high);
  if (scale.kind === "root") return scale.low + (scale.high - scale.low) / 4;
  return (scale.low + scale.high) / 2;
}

export function shade(scale: Scale, share: number): Rgb {
  return scale.kind === "diverging" ? diverging(share) : viridis(share);
}

/** The scale that shows all finite values: shares from 0 to 1, signs around 0, sizes by decades. */
export function scaleFor(values: Float32Array, kind: Scale["kind"], share: boolean): Scale {
  if (share) return { kind: "linear", low: 0, high: 1 };
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (value - value !== 0 || (kind === "log" && value <= 0)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return { kind, low: kind === "log" ? 0.1 : 0, high: 1 };
  if (kind === "diverging") {
    const most = Math.max(Math.abs(low), Math.abs(high)) || 1;
    return { kind, low: -most, high: most };
  }
  if (kind === "log" && high < 10 * low) return { kind: "linear", low, high };
  return { kind, low: kind === "linear" ? Math.min(0, low) : low, high };
}
