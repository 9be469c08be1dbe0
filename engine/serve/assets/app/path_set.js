// The model of a path set: paths shown together in panels, and the selected panel, step and candidate.

import { RequestError, stream } from './connection.js';
import { body, ofTrace } from './request.js';
import { chosenOf, listed } from './trace.js';

let counter = 0;

/**
 * Panels are `{key, request, trace, state, error, fork}`; `state` is running, done, stopped or failed; `fork` has the
 * panel and step that it left. Events: `panels` (added or removed), `grow` (a new step), `select`, `marks`, `shown`.
 */
export class PathSet extends EventTarget {
  panels = [];
  at = 0;
  step = 0;
  row = 0;
  shown = 8;

  get panel() {
    return this.panels[this.at];
  }

  /** The selected step; undefined while there is none. */
  get current() {
    return this.panel?.trace?.steps[this.step];
  }

  get rows() {
    return this.current ? listed(this.current, this.shown) : [];
  }

  get candidate() {
    return this.rows[this.row];
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** Start a path. It replaces the others unless it is a `fork` or `keep` is set. */
  run(request, { fork = null, keep = false } = {}) {
    const panel = { key: (counter += 1), request, trace: null, state: 'running', error: null, fork, controller: new AbortController(), began: performance.now(), took: null };
    if (!fork && !keep) this.clear();
    this.panels.push(panel);
    if (!fork && !keep) Object.assign(this, { at: 0, step: 0, row: 0 });
    this.#emit('panels');
    panel.finished = this.#follow(panel);
    return panel;
  }

  async #follow(panel) {
    try {
      for await (const { event, data } of stream('api/v1/trace', body(panel.request), panel.controller.signal)) {
        if (event === 'start') {
          panel.trace = data;
          this.#emit('panels');
        } else if (event === 'step') {
          panel.trace.steps.push(data.step);
          panel.trace.tokens.push(data.token);
          panel.trace.text += data.text;
          if (panel === this.panel && data.step.index === this.step) this.row = this.#chosenRow();
          this.#emit('grow', panel);
        } else if (event === 'end') {
          Object.assign(panel.trace, { finish: data.finish, text: data.text, tokens: data.tokens });
          panel.state = 'done';
        } else if (event === 'error') {
          throw new RequestError(data.error.code, data.error.message, data.error.kind);
        }
      }
      if (panel.state === 'running') throw new RequestError(0, 'the stream ended early', 'io');
    } catch (error) {
      panel.state = panel.controller.signal.aborted ? 'stopped' : 'failed';
      panel.error = panel.state === 'failed' ? error.message : null;
    }
    panel.took = (performance.now() - panel.began) / 1000;
    this.#emit('panels');
  }

  /** Add a finished trace. It replaces the others unless `keep` is set. */
  open(trace, { keep = false } = {}) {
    if (!keep) this.clear();
    const panel = { key: (counter += 1), request: ofTrace(trace), trace, state: 'done', error: null, fork: null, controller: new AbortController(), took: null, finished: Promise.resolve() };
    this.panels.push(panel);
    if (!keep) Object.assign(this, { at: 0, step: 0 });
    this.row = this.#chosenRow();
    this.#emit('panels');
    return panel;
  }

  stop() {
    this.panels.forEach((panel) => panel.controller.abort());
  }

  clear() {
    this.stop();
    this.panels = [];
  }

  /** Remove a panel; the first one cannot be removed. */
  drop(at) {
    if (at <= 0 || at >= this.panels.length) return;
    this.panels[at].controller.abort();
    this.panels.splice(at, 1);
    this.at = Math.min(this.at, this.panels.length - 1);
    this.#emit('panels');
  }

  swap() {
    this.panels.reverse();
    this.at = this.panels.length - 1 - this.at;
    this.#emit('panels');
  }

  #chosenRow() {
    if (!this.current) return 0;
    const chosen = chosenOf(this.current);
    return Math.max(0, this.rows.indexOf(chosen));
  }

  /** Select a panel, a step and a row; without a row, the chosen candidate of the step. */
  select({ at = this.at, step = this.step, row } = {}) {
    const panel = this.panels[at];
    if (!panel?.trace) return;
    const last = Math.max(0, panel.trace.steps.length - 1);
    const moved = at !== this.at || step !== this.step;
    this.at = at;
    this.step = Math.min(Math.max(0, step), last);
    this.row = row === undefined ? (moved ? this.#chosenRow() : this.row) : Math.min(Math.max(0, row), Math.max(0, this.rows.length - 1));
    this.#emit('select');
  }

  /** Set how many candidates of a step are drawn. */
  show(rows) {
    this.shown = Math.min(64, Math.max(2, rows));
    this.row = Math.min(this.row, Math.max(0, this.rows.length - 1));
    this.#emit('shown');
  }

  /** Report that pins, groups or notes changed. */
  mark() {
    this.#emit('marks');
  }
}
