// The bar at the top: the run and its state, the views, language and colours.

import type { Listing, Overview } from "../data/types";
import { VIEWS, href, type Route } from "../data/route";
import { THEMES, type Theme } from "../theme";
import { LANGUAGES, known, useWords, type Language } from "../words/words";

interface Props {
  route: Route;
  listing: Listing | undefined;
  overview: Overview | undefined;
  connected: boolean;
  language: Language;
  speakIn: (language: Language) => void;
  theme: Theme;
  chooseTheme: (theme: Theme) => void;
}

export function Bar(props: Props) {
  const say = useWords();
  const { route, listing } = props;
  return (
    <header class="bar">
      <div class="bar-top">
        <a class="brand" href={href(route.run, "overview")}>
          <img src="/flame.svg" alt="" width="20" height="20" />
          lampwork
        </a>
        <label class="pick">
          <span class="hidden">{say("run")}</span>
          <select
            value={route.run ?? ""}
            onChange={(event) => { location.hash = href(event.currentTarget.value, route.view); }}
          >
            {route.run !== null && !listing?.runs.some((one) => one.run === route.run) && (
              <option value={route.run}>{route.run}</option>
            )}
            {listing?.runs.map((one) => (
              <option key={one.run} value={one.run}>
                {one.run}{one.verdict ? ` · ${say(`verdict_${one.verdict}`)}` : ""}
              </option>
            ))}
          </select>
        </label>
        <State connected={props.connected} overview={props.overview} />
        <div class="bar-settings">
          <Select
            label={say("language")} value={props.language} choose={props.speakIn}
            options={Object.entries(LANGUAGES) as [Language, string][]}
          />
          <Select
            label={say("theme")} value={props.theme} choose={props.chooseTheme}
            options={THEMES.map((theme) => [theme, known(say, `theme_${theme}`, theme)])}
          />
        </div>
      </div>
      <nav aria-label={say("views")}>
        {VIEWS.map((view) => (
          <a
            key={view} href={href(route.run, view)}
            aria-current={view === route.view ? "page" : undefined}
          >
            {say(view)}
          </a>
        ))}
      </nav>
    </header>
  );
}

function State({ connected, overview }: { connected: boolean; overview: Overview | undefined }) {
  const say = useWords();
  const state = !connected ? "offline" : overview?.finished ? "ended" : overview ? "live" : null;
  if (state === null) return null;
  return (
    <span class={`state ${state}`} role="status" title={say(`${state}_hint`)}>{say(state)}</span>
  );
}

interface SelectProps<T extends string> {
  label: string;
  value: T;
  options: [T, string][];
  choose: (value: T) => void;
  shown?: boolean;
}

/** A labelled choice; the label is for screen readers unless `shown`. */
export function Select<T extends string>({ label, value, options, choose, shown }: SelectProps<T>) {
  return (
    <label class="select">
      <span class={shown ? "quiet" : "hidden"}>{label}</span>
      <select value={value} onChange={(event) => choose(event.currentTarget.value as T)}>
        {options.map(([key, text]) => <option key={key} value={key}>{text}</option>)}
      </select>
    </label>
  );
}
