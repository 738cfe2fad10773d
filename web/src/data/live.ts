// Following a run: server-sent events raise numbers, and who shows something asks again.

import { useEffect, useState } from "preact/hooks";

import { waitedMs } from "./api";

/** Each number rises when there is more of its thing than before. */
export interface Live {
  /** Anything of the run. */
  change: number;
  steps: number;
  scalars: number;
  pictures: number;
  /** Runs in the folder. */
  runs: number;
  connected: boolean;
}

interface News {
  steps: number;
  scalars: number;
  pictures: number;
  finished: boolean;
}

const AT_MOST_EVERY_MS = 1000;
/** Answers may take this share of the time, so that the page never presses the training it shows. */
const SHARE = 0.1;
/** But whoever looks at a run sees it move, however slow the machine is. */
const AT_LEAST_EVERY_MS = 10_000;
const NOTHING: Live = { change: 0, steps: 0, scalars: 0, pictures: 0, runs: 0, connected: false };

export function useLive(run: string | null): Live {
  const [live, set] = useState<Live>(NOTHING);
  useEffect(() => {
    const query = run === null ? "" : `?run=${encodeURIComponent(run)}`;
    const source = new EventSource(`/api/events${query}`);
    let lost = false;
    let waiting = 0;
    let last = 0;
    let waitedThen = waitedMs();
    let more = { steps: 0, scalars: 0, pictures: 0 };
    const changed = (news: News) => {
      const all = news.finished ? 1 : 0;
      more = {
        steps: more.steps + news.steps + all,
        scalars: more.scalars + news.scalars + all,
        pictures: more.pictures + news.pictures + all,
      };
      if (waiting) return;
      const answersMs = waitedMs() - waitedThen;
      const pause = Math.min(Math.max(AT_MOST_EVERY_MS, answersMs / SHARE), AT_LEAST_EVERY_MS);
      waiting = window.setTimeout(() => {
        const { steps, scalars, pictures } = more;
        more = { steps: 0, scalars: 0, pictures: 0 };
        waiting = 0;
        last = performance.now();
        waitedThen = waitedMs();
        set((old) => ({
          ...old,
          change: old.change + 1,
          steps: old.steps + Math.min(steps, 1),
          scalars: old.scalars + Math.min(scalars, 1),
          pictures: old.pictures + Math.min(pictures, 1),
        }));
      }, Math.max(0, last + pause - performance.now()));
    };
    source.onopen = () => {
      set((old) => ({ ...old, connected: true }));
      // Whatever happened while the connection was lost is asked for now.
      if (lost) {
        set((old) => ({ ...old, runs: old.runs + 1 }));
        changed({ steps: 1, scalars: 1, pictures: 1, finished: false });
      }
      lost = false;
    };
    source.onerror = () => {
      lost = true;
      set((old) => ({ ...old, connected: false }));
    };
    source.addEventListener("change", (event) => changed(JSON.parse(event.data as string) as News));
    source.addEventListener("runs", () => set((old) => ({ ...old, runs: old.runs + 1 })));
    return () => {
      window.clearTimeout(waiting);
      source.close();
    };
  }, [run]);
  return live;
}
