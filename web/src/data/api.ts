// Asking the server: JSON, and arrays behind a JSON header (view/api.py, `_array`).

import type { Columns, Matrix } from "./types";

export class ApiError extends Error {}

export interface Span {
  from: number;
  to: number;
}

/** The address of something of a run, with those parameters that have a value. */
export function ofRun(
  run: string,
  path: string,
  parameters: Record<string, string | number | undefined> = {},
): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined) query.set(name, String(value));
  }
  const text = query.toString();
  return `/api/runs/${encodeURIComponent(run)}/${path}${text ? `?${text}` : ""}`;
}

export async function json<T>(url: string, signal: AbortSignal): Promise<T> {
  return (await (await ask(url, signal)).json()) as T;
}

export async function matrix<Header extends Columns>(
  url: string,
  signal: AbortSignal,
): Promise<Matrix<Header>> {
  const body = await (await ask(url, signal)).arrayBuffer();
  const length = new DataView(body).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(body, 4, length))) as Header;
  return { header, values: new Float32Array(body, 4 + length) };
}

let asked = 0;
let since = 0;
let waited = 0;

/** For how many milliseconds the page has waited for answers so far, side by side or one by one. */
export function waitedMs(): number {
  return asked > 0 ? waited + performance.now() - since : waited;
}

async function ask(url: string, signal: AbortSignal): Promise<Response> {
  if (asked++ === 0) since = performance.now();
  try {
    const response = await fetch(url, { signal });
    if (!response.ok) throw new ApiError(await reason(response));
    return response;
  } finally {
    if (--asked === 0) waited += performance.now() - since;
  }
}

async function reason(response: Response): Promise<string> {
  const text = await response.text();
  try {
    return (JSON.parse(text) as { error: string }).error;
  } catch {
    return text || `${response.status} ${response.statusText}`;
  }
}
