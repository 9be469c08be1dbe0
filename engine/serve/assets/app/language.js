// The language of the page: strings from the locale files, numbers in the format of the language.

const KNOWN = { en: 'English', zh: '简体中文' };
// The values of the page's lang attribute.
const TAGS = { en: 'en', zh: 'zh-CN' };
const STORAGE_KEY = 'brillm.language';
let strings = {};
let fallback = {};
let current = 'en';

async function load(language) {
  const answer = await fetch(`locale/${language}.json`);
  if (!answer.ok) throw new Error(`locale/${language}.json: ${answer.status}`);
  return answer.json();
}

/** The language of the address, else the one chosen earlier, else that of the browser, else English. */
export function preferredLanguage(requested) {
  const candidates = [requested, localStorage.getItem(STORAGE_KEY), ...navigator.languages].filter(Boolean);
  for (const tag of candidates) {
    if (tag in KNOWN) return tag;
    if (/^zh/i.test(tag)) return 'zh';
    if (/^en/i.test(tag)) return 'en';
  }
  return 'en';
}

/** Load a language and set the lang attribute of the page. */
export async function setLanguage(language) {
  if (!(language in KNOWN)) language = 'en';
  if (!Object.keys(fallback).length) fallback = await load('en');
  strings = language === 'en' ? fallback : await load(language);
  current = language;
  document.documentElement.lang = TAGS[language];
}

/** Save the choice for the next visit. */
export function saveLanguage(language) {
  localStorage.setItem(STORAGE_KEY, language);
}

export const languages = () => KNOWN;
export const language = () => current;

/** The string of a key, with each `{name}` replaced; an unknown key is returned as it is, so that a test finds it. */
export function t(key, values = {}) {
  const text = strings[key] ?? fallback[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
}

const formats = new Map();
function format(options) {
  const key = current + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.NumberFormat(current, options));
  return formats.get(key);
}

/** Format a number with a fixed number of decimals. */
export const number = (value, digits = 2) =>
  Number.isFinite(value) ? format({ minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value) : '–';

/** Format a count with the separators of the language. */
export const count = (value) => (Number.isFinite(value) ? format({ maximumFractionDigits: 0 }).format(value) : '–');

/** Format a probability in per cent, with two decimals below one per cent, so that small ones do not read as 0. */
export const percent = (value) => {
  if (!Number.isFinite(value)) return '–';
  const digits = value >= 0.1 ? 0 : value >= 0.01 ? 1 : 2;
  return value > 0 && value < 0.00005 ? '<0.01\u00a0%' : `${number(100 * value, digits)}\u00a0%`;
};
