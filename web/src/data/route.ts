// Where one is, in the hash of the address: #/RUN/VIEW?key=value

import { useEffect, useState } from "preact/hooks";

export const VIEWS = ["overview", "layers", "pictures", "data", "initialisation", "compare"] as const;
export type View = (typeof VIEWS)[number];

export interface Route {
  run: string | null;
  view: View;
  parameters: URLSearchParams;
}

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [run = "", view = ""] = path.split("/");
  return {
    run: decoded(run) || null,
    view: VIEWS.find((known) => known === view) ?? "overview",
    parameters: new URLSearchParams(query),
  };
}

export function href(run: string | null, view: View, parameters: Record<string, string> = {}): string {
  const query = new URLSearchParams(parameters).toString();
  return `#/${encodeURIComponent(run ?? "")}/${view}${query ? `?${query}` : ""}`;
}

export function useRoute(): Route {
  const [route, set] = useState(() => parse(location.hash));
  useEffect(() => {
    const moved = () => set(parse(location.hash));
    window.addEventListener("hashchange", moved);
    return () => window.removeEventListener("hashchange", moved);
  }, []);
  return route;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}
