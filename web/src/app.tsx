// The frame around the views: which run, which view, which language, which colours.

import { useEffect, useMemo, useState } from "preact/hooks";

import { useLive, type Live } from "./data/live";
import { useJson } from "./data/query";
import { href, useRoute, type View } from "./data/route";
import type { Findings, Listing, Overview } from "./data/types";
import { ofRun } from "./data/api";
import { Bar } from "./parts/bar";
import { Empty, Failed } from "./parts/empty";
import { useTheme } from "./theme";
import { CompareView } from "./views/compare";
import { DataView_ } from "./views/data";
import { InitialisationView } from "./views/initialisation";
import { LayersView } from "./views/layers";
import { OverviewView } from "./views/overview";
import { PicturesView } from "./views/pictures";
import { Words, preferred, speak, type Language } from "./words/words";

export interface Shown {
  run: string;
  /** What rises when there is more to see. */
  versions: Live;
  overview: Overview;
  findings: Findings | undefined;
  dark: boolean;
  parameters: URLSearchParams;
  runs: Listing;
}

const PAGES: Record<View, (shown: Shown) => preact.JSX.Element> = {
  overview: OverviewView,
  layers: LayersView,
  pictures: PicturesView,
  data: DataView_,
  initialisation: InitialisationView,
  compare: CompareView,
};

export function App() {
  const [language, setLanguage] = useState<Language>(preferred);
  const { theme, dark, choose } = useTheme();
  const say = useMemo(() => speak(language), [language]);
  const route = useRoute();
  const live = useLive(route.run);
  const listing = useJson<Listing>("/api/runs", live.runs, "runs");
  const newest = listing.data?.runs[0]?.run;
  const url = (path: string) => (route.run === null ? null : ofRun(route.run, path));
  const overview = useJson<Overview>(url("overview"), live.change, route.run ?? "");
  const findings = useJson<Findings>(url("findings"), live.change, route.run ?? "");

  useEffect(() => {
    if (route.run === null && newest) location.replace(href(newest, route.view));
  }, [route.run, newest]);
  useEffect(() => {
    document.documentElement.lang = language;
    document.title = route.run ? `${route.run} · lampwork` : "lampwork";
  }, [language, route.run]);

  const speakIn = (next: Language) => {
    localStorage.setItem("lampwork.language", next);
    setLanguage(next);
  };
  const Page = PAGES[route.view];
  return (
    <Words.Provider value={say}>
      <a class="skip" href="#content" onClick={toContent}>{say("skip")}</a>
      <Bar
        route={route} listing={listing.data} overview={overview.data} connected={live.connected}
        language={language} speakIn={speakIn} theme={theme} chooseTheme={choose}
      />
      <main id="content" tabIndex={-1}>
        {route.run !== null && overview.data && listing.data ? (
          <Page
            key={route.run} run={route.run} versions={live} overview={overview.data}
            findings={findings.data} dark={dark} parameters={route.parameters} runs={listing.data}
          />
        ) : route.run !== null && overview.error ? (
          <Empty title={say("no_such_run", { run: route.run })}>
            <p>{say("no_such_run_hint")}</p>
            <Failed reason={overview.error} />
          </Empty>
        ) : listing.data?.runs.length === 0 ? (
          <Empty title={say("no_runs")}>
            <p>{say("no_runs_hint", { directory: listing.data.directory })}</p>
            <pre><code>lampwork run train.py</code></pre>
          </Empty>
        ) : listing.error ? (
          <Failed reason={listing.error} />
        ) : (
          <p class="quiet">{say("loading")}</p>
        )}
      </main>
    </Words.Provider>
  );
}

function toContent(event: Event) {
  // The hash is the route, so the link must not change it.
  event.preventDefault();
  document.getElementById("content")?.focus();
}
