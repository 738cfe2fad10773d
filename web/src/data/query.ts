// One answer of the server as state: what was shown stays until the next answer is there.

import { useLayoutEffect, useState } from "preact/hooks";

import type { Columns, Matrix } from "./types";
import { json, matrix } from "./api";

export interface Answer<T> {
  data: T | undefined;
  error: string | undefined;
  /** Whether `data` answers the latest question. */
  fresh: boolean;
}

/** The latest answers, so that zooming out or going back shows at once what was shown before. */
const KEPT = 16;
const kept = new Map<string, unknown>();

type Ask<T> = (url: string, signal: AbortSignal) => Promise<T>;

function useAnswer<T>(url: string | null, version: number, ask: Ask<T>, keep: string): Answer<T> {
  const [state, set] = useState<{ keep: string; answer: Answer<T> }>({ keep, answer: EMPTY });
  // Before the next paint, not after it: a question that waits for a frame comes a frame later.
  useLayoutEffect(() => {
    if (url === null) return;
    const question = `${version} ${url}`;
    const known = kept.get(question);
    if (known !== undefined) {
      set({ keep, answer: { data: known as T, error: undefined, fresh: true } });
      return;
    }
    const control = new AbortController();
    set((old) => ({
      keep,
      answer: old.keep === keep ? { ...old.answer, fresh: false } : (EMPTY as Answer<T>),
    }));
    ask(url, control.signal).then(
      (data) => {
        kept.set(question, data);
        for (const old of kept.keys()) if (kept.size > KEPT) kept.delete(old);
        set({ keep, answer: { data, error: undefined, fresh: true } });
      },
      (error: unknown) => {
        if (control.signal.aborted) return;
        const message = error instanceof Error ? error.message : String(error);
        set((old) => ({ keep, answer: { data: old.answer.data, error: message, fresh: true } }));
      },
    );
    return () => control.abort();
  }, [url, version, keep]);
  return state.keep === keep && url !== null ? state.answer : (EMPTY as Answer<T>);
}

const EMPTY = { data: undefined, error: undefined, fresh: false };

/** JSON from an address; `version` asks again. Another `keep` drops what was shown at once. */
export function useJson<T>(url: string | null, version = 0, keep = url ?? ""): Answer<T> {
  return useAnswer<T>(url, version, json, keep);
}

/** An array with its header from an address. */
export function useMatrix<H extends Columns>(
  url: string | null,
  version = 0,
  keep = url ?? "",
): Answer<Matrix<H>> {
  return useAnswer<Matrix<H>>(url, version, matrix<H>, keep);
}
