// Dark and light: as the system says, unless chosen; the choice is kept in this browser.

import { useEffect, useState } from "preact/hooks";

export const THEMES = ["auto", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

const DARK = window.matchMedia("(prefers-color-scheme: dark)");

export function chosen(): Theme {
  const stored = localStorage.getItem("lampwork.theme");
  return THEMES.find((theme) => theme === stored) ?? "auto";
}

/** The theme, whether it is dark at this moment, and how to choose another. */
export function useTheme(): { theme: Theme; dark: boolean; choose: (theme: Theme) => void } {
  const [theme, set] = useState(chosen);
  const [system, setSystem] = useState(DARK.matches);
  useEffect(() => {
    const changed = () => setSystem(DARK.matches);
    DARK.addEventListener("change", changed);
    return () => DARK.removeEventListener("change", changed);
  }, []);
  const dark = theme === "dark" || (theme === "auto" && system);
  // Before children draw: what is drawn on a canvas reads these colours.
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const choose = (next: Theme) => {
    localStorage.setItem("lampwork.theme", next);
    set(next);
  };
  return { theme, dark, choose };
}

/** A colour of the style sheet, for canvases. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
