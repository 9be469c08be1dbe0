// The desk: the paths that lie side by side, which one is looked at, and where in it.

import { Refusal, stream } from './connection.js';
import { body, ofTrace } from './request.js';
import { chosenOf, listed } from './trace.js';

let counter = 0;

/**
 * Lanes `{key, request, trace, state, error, fork}`; `state` is running, done, stopped or failed, `fork` tells the
 * lane and step it left. Events: `lanes` (one came or went), `grow` (a lane got a step), `select`, `marks`, `shown`.
 */
export class Desk extends EventTarget {
  lanes = [];
  at = 0;
  step = 0;
  row = 0;
  shown = 8;

  get lane() {
    return this.lanes[this.at];
  }

  /** The step that is looked at; nothing while there is none yet. */
  get current() {
    return this.lane?.trace?.steps[this.step];
  }

  get rows() {
    return this.current ? listed(this.current, this.shown) : [];
  }

  get candidate() {
    return this.rows[this.row];
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** Starts a path. `fork` puts it beside the others, else it takes the desk for itself. */
  run(request, { fork = null, keep = false } = {}) {
    const lane = { key: (counter += 1), request, trace: null, state: 'running', error: null, fork, controller: new AbortController(), began: performance.now(), took: null };
    if (!fork && !keep) this.clear();
    this.lanes.push(lane);
    if (!fork && !keep) Object.assign(this, { at: 0, step: 0, row: 0 });
    this.#tell('lanes');
    lane.finished = this.#follow(lane);
    return lane;
  }

  async #follow(lane) {
    try {
      for await (const { event, data } of stream('api/v1/trace', body(lane.request), lane.controller.signal)) {
        if (event === 'start') {
          lane.trace = data;
          this.#tell('lanes');
        } else if (event === 'step') {
          lane.trace.steps.push(data.step);
          lane.trace.tokens.push(data.token);
          lane.trace.text += data.text;
          if (lane === this.lane && data.step.index === this.step) this.row = this.#chosenRow();
          this.#tell('grow', lane);
        } else if (event === 'end') {
          Object.assign(lane.trace, { finish: data.finish, text: data.text, tokens: data.tokens });
          lane.state = 'done';
        } else if (event === 'error') {
          throw new Refusal(data.error.code, data.error.message, data.error.kind);
        }
      }
      if (lane.state === 'running') throw new Refusal(0, 'the stream ended early', 'io');
    } catch (error) {
      lane.state = lane.controller.signal.aborted ? 'stopped' : 'failed';
      lane.error = lane.state === 'failed' ? error.message : null;
    }
    lane.took = (performance.now() - lane.began) / 1000;
    this.#tell('lanes');
  }

  /** Lays a finished trace on the desk. */
  open(trace, { keep = false } = {}) {
    if (!keep) this.clear();
    const lane = { key: (counter += 1), request: ofTrace(trace), trace, state: 'done', error: null, fork: null, controller: new AbortController(), took: null, finished: Promise.resolve() };
    this.lanes.push(lane);
    if (!keep) Object.assign(this, { at: 0, step: 0 });
    this.row = this.#chosenRow();
    this.#tell('lanes');
    return lane;
  }

  stop() {
    this.lanes.forEach((lane) => lane.controller.abort());
  }

  clear() {
    this.stop();
    this.lanes = [];
  }

  /** Takes a lane away; the first stays. */
  drop(at) {
    if (at <= 0 || at >= this.lanes.length) return;
    this.lanes[at].controller.abort();
    this.lanes.splice(at, 1);
    this.at = Math.min(this.at, this.lanes.length - 1);
    this.#tell('lanes');
  }

  swap() {
    this.lanes.reverse();
    this.at = this.lanes.length - 1 - this.at;
    this.#tell('lanes');
  }

  #chosenRow() {
    if (!this.current) return 0;
    const chosen = chosenOf(this.current);
    return Math.max(0, this.rows.indexOf(chosen));
  }

  /** Looks at a lane, a step, a row; a step without a row looks at what was chosen there. */
  select({ at = this.at, step = this.step, row } = {}) {
    const lane = this.lanes[at];
    if (!lane?.trace) return;
    const last = Math.max(0, lane.trace.steps.length - 1);
    const moved = at !== this.at || step !== this.step;
    this.at = at;
    this.step = Math.min(Math.max(0, step), last);
    this.row = row === undefined ? (moved ? this.#chosenRow() : this.row) : Math.min(Math.max(0, row), Math.max(0, this.rows.length - 1));
    this.#tell('select');
  }

  /** How many candidates of a step are drawn. */
  show(rows) {
    this.shown = Math.min(64, Math.max(2, rows));
    this.row = Math.min(this.row, Math.max(0, this.rows.length - 1));
    this.#tell('shown');
  }

  /** Pins, groups or notes changed. */
  mark() {
    this.#tell('marks');
  }
}
