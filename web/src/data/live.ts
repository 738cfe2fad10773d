// Following a run: server-sent events raise a number, and who shows something asks again.

import { useEffect, useState } from "preact/hooks";

export interface Live {
  /** Rises when the record of the run has grown. */
  change: number;
  /** Rises when runs came or went. */
  runs: number;
  connected: boolean;
}

const AT_MOST_EVERY_MS = 1000;

export function useLive(run: string | null): Live {
  const [live, set] = useState<Live>({ change: 0, runs: 0, connected: false });
  useEffect(() => {
    const query = run === null ? "" : `?run=${encodeURIComponent(run)}`;
    const source = new EventSource(`/api/events${query}`);
    let lost = false;
    let waiting = 0;
    let last = 0;
    const changed = () => {
      if (waiting) return;
      const wait = Math.max(0, last + AT_MOST_EVERY_MS - performance.now());
      waiting = window.setTimeout(() => {
        waiting = 0;
        last = performance.now();
        set((old) => ({ ...old, change: old.change + 1 }));
      }, wait);
    };
    source.onopen = () => {
      // Whatever happened while the connection was lost is asked for now.
      const more = lost ? 1 : 0;
      lost = false;
      set((old) => ({ change: old.change + more, runs: old.runs + more, connected: true }));
    };
    source.onerror = () => {
      lost = true;
      set((old) => ({ ...old, connected: false }));
    };
    source.addEventListener("change", changed);
    source.addEventListener("runs", () => set((old) => ({ ...old, runs: old.runs + 1 })));
    return () => {
      window.clearTimeout(waiting);
      source.close();
    };
  }, [run]);
  return live;
}
