// The language of the page: strings from locale files, numbers as the language writes them.

const KNOWN = { en: 'English', zh: '简体中文' };
// What the page declares itself to be written in.
const TAGS = { en: 'en', zh: 'zh-CN' };
const PLACE = 'brillm.language';
let strings = {};
let fallback = {};
let current = 'en';

async function load(language) {
  const answer = await fetch(`locale/${language}.json`);
  if (!answer.ok) throw new Error(`locale/${language}.json: ${answer.status}`);
  return answer.json();
}

/** The language asked for in the address, else chosen earlier, else the browser's, else English. */
export function wanted(asked) {
  const listed = [asked, localStorage.getItem(PLACE), ...navigator.languages].filter(Boolean);
  for (const tag of listed) {
    if (tag in KNOWN) return tag;
    if (/^zh/i.test(tag)) return 'zh';
    if (/^en/i.test(tag)) return 'en';
  }
  return 'en';
}

/** Loads a language and marks the page with it. */
export async function speak(language) {
  if (!(language in KNOWN)) language = 'en';
  if (!Object.keys(fallback).length) fallback = await load('en');
  strings = language === 'en' ? fallback : await load(language);
  current = language;
  document.documentElement.lang = TAGS[language];
}

/** Keeps the choice for the next visit. */
export function keepLanguage(language) {
  localStorage.setItem(PLACE, language);
}

export const languages = () => KNOWN;
export const language = () => current;

/** The string of a key with `{name}` replaced; an unknown key shows itself, so that a test sees it. */
export function say(key, values = {}) {
  const text = strings[key] ?? fallback[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
}

const formats = new Map();
function format(options) {
  const key = current + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.NumberFormat(current, options));
  return formats.get(key);
}

/** A number with a fixed count of decimals. */
export const number = (value, digits = 2) =>
  Number.isFinite(value) ? format({ minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value) : '–';

/** A count with the language's separators. */
export const count = (value) => (Number.isFinite(value) ? format({ maximumFractionDigits: 0 }).format(value) : '–');

/** A probability in per cent: two decimals below one per cent, so that small ones do not read as nothing. */
export const percent = (value) => {
  if (!Number.isFinite(value)) return '–';
  const digits = value >= 0.1 ? 0 : value >= 0.01 ? 1 : 2;
  return value > 0 && value < 0.00005 ? '<0.01\u00a0%' : `${number(100 * value, digits)}\u00a0%`;
};
