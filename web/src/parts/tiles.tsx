// A picture of several images as tiles on a canvas, coloured by what it shows.

import { useEffect, useRef, useState } from "preact/hooks";

import { ofRun } from "../data/api";
import type { PictureEntry } from "../data/types";
import { diverging, heated, viridis, type Rgb } from "./colours";

/** How a byte becomes a colour: as it is, by size, around a zero of 128, or over an image. */
export type Hue = "plain" | "viridis" | "signed" | "heat";

interface Props {
  run: string;
  picture: PictureEntry;
  /** The images that a picture in `heat` lies over. */
  under?: PictureEntry | undefined;
  hue: Hue;
  label: string;
  testId: string;
}

export const MOST_TILES = 64;
/** An image is at most so many pixels high, so that a tall matrix of weights leaves room beside it. */
const HIGHEST = 280;

export function Tiles({ run, picture, under, hue, label, testId }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const now = usePixels(run, picture);
  const below = usePixels(run, under);
  useEffect(() => {
    const holder = box.current;
    if (!holder) return;
    const sized = new ResizeObserver(() => setWidth(holder.clientWidth));
    sized.observe(holder);
    return () => sized.disconnect();
  }, []);
  useEffect(() => {
    if (!canvas.current || !now || (under && !below) || !width) return;
    draw(canvas.current, picture, now, under ? below : undefined, hue, width);
  }, [now, below, width, hue]);
  return (
    <div ref={box} class="tiles">
      <canvas ref={canvas} role="img" aria-label={label} data-testid={testId} />
    </div>
  );
}

/** The pixels of a picture, images below each other, four bytes each. */
function usePixels(run: string, picture: PictureEntry | undefined): ImageData | undefined {
  const [pixels, set] = useState<{ url: string; data: ImageData }>();
  const url = picture && ofRun(run, `pictures/${picture.index}.png`);
  useEffect(() => {
    if (!url) return;
    const control = new AbortController();
    decoded(url, control.signal).then(
      (data) => set({ url, data }),
      () => undefined, // another picture was asked for, or the run is gone: the tiles stay
    );
    return () => control.abort();
  }, [url]);
  return url ? pixels?.data : undefined;
}

async function decoded(url: string, signal: AbortSignal): Promise<ImageData> {
  const response = await fetch(url, { signal });
  if (!response.ok) throw new Error(await response.text());
  const bitmap = await createImageBitmap(await response.blob(), { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("no canvas");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

function draw(
  canvas: HTMLCanvasElement, picture: PictureEntry, now: ImageData, below: ImageData | undefined,
  hue: Hue, width: number,
): void {
  const { width: w, height: h } = picture;
  const count = Math.min(MOST_TILES, picture.images);
  const gap = 3;
  const columns = bestColumns(count, w, h, width);
  const side = Math.floor((width - gap * (columns - 1)) / columns);
  const tileW = Math.max(1, Math.floor(Math.min(side / w, 24, HIGHEST / h) * w));
  const tileH = Math.max(1, Math.round((tileW * h) / w));
  const rows = Math.ceil(count / columns);
  const ratio = window.devicePixelRatio || 1;
  const fullW = columns * (tileW + gap) - gap;
  const fullH = rows * (tileH + gap) - gap;
  canvas.width = Math.round(fullW * ratio);
  canvas.height = Math.round(fullH * ratio);
  canvas.style.width = `${fullW}px`;
  canvas.style.height = `${fullH}px`;
  const context = canvas.getContext("2d");
  if (!context || now.height < h * count) return;
  context.scale(ratio, ratio);
  context.imageSmoothingEnabled = false;
  const sheet = new OffscreenCanvas(w, h * count);
  sheet.getContext("2d")?.putImageData(coloured(now, below, hue, w, h * count), 0, 0);
  for (let i = 0; i < count; i++) {
    const x = (i % columns) * (tileW + gap);
    const y = Math.floor(i / columns) * (tileH + gap);
    context.drawImage(sheet, 0, i * h, w, h, x, y, tileW, tileH);
  }
}

/** As many columns as make tiles of about 64 pixels, few images larger, in full rows if possible. */
function bestColumns(count: number, w: number, h: number, width: number): number {
  const wide = count === 1 ? Math.min(width, 220) : (count <= 4 ? 100 : count <= 16 ? 64 : 40) * Math.max(1, w / h);
  const wanted = Math.max(1, Math.min(count, Math.floor(width / wide)));
  for (let n = wanted; n > wanted / 1.7; n--) if (count % n === 0) return n;
  return wanted;
}

function coloured(
  now: ImageData, below: ImageData | undefined, hue: Hue, width: number, height: number,
): ImageData {
  const image = new ImageData(width, height);
  const at = (data: ImageData, i: number): Rgb => [data.data[i] ?? 0, data.data[i + 1] ?? 0, data.data[i + 2] ?? 0];
  const lies = below !== undefined && below.width === now.width && below.height === now.height;
  for (let i = 0; i < 4 * width * height; i += 4) {
    const [value, green, blue] = at(now, i);
    let rgb: Rgb = [value, green, blue];
    if (hue === "viridis") rgb = viridis(value / 255);
    else if (hue === "signed") rgb = diverging((value - 1) / 254);
    else if (hue === "heat") rgb = heated(value / 255, lies ? at(below, i) : [0, 0, 0]);
    image.data.set([rgb[0], rgb[1], rgb[2], 255], i);
  }
  return image;
}
