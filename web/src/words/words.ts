// The chosen language as a function from key to text.

import { createContext } from "preact";
import { useContext } from "preact/hooks";

import { en, type Dictionary, type Key } from "./en";
import { zh } from "./zh";

export const LANGUAGES = { en: "English", zh: "中文" } as const;
export type Language = keyof typeof LANGUAGES;
export type Say = (key: Key, fill?: Record<string, string | number>) => string;

const DICTIONARIES: Record<Language, Dictionary> = { en, zh };

export function speak(language: Language): Say {
  const dictionary = DICTIONARIES[language];
  return (key, fill = {}) =>
    dictionary[key].replace(/\{(\w+)\}/g, (all, name: string) => String(fill[name] ?? all));
}

/** The text of a key that is put together at run time, the plain word where there is none. */
export function known(say: Say, key: string, otherwise: string): string {
  return key in en ? say(key as Key) : otherwise;
}

export const Words = createContext<Say>(speak("en"));

export function useWords(): Say {
  return useContext(Words);
}

export function preferred(): Language {
  const stored = localStorage.getItem("lampwork.language");
  if (stored === "en" || stored === "zh") return stored;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}
