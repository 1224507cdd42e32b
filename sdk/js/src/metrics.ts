import { currentHost, type Host, type Kind, type Pairs } from "./host.js";

/** The same name with other labels is another series. */
export type Labels = Readonly<Record<string, string>>;

/** Registered with the host when it is first observed, so that it can be made where a module is loaded. */
class Metric {
  readonly #name: string;
  readonly #kind: Kind;
  readonly #labels: Pairs;
  #host: Host | null = null;
  #handle = 0;

  constructor(name: string, kind: Kind, labels: Labels) {
    this.#name = name;
    this.#kind = kind;
    this.#labels = Object.entries(labels);
  }

  observe(value: number): void {
    if (typeof value !== "number") throw new TypeError(`${this.#name} is observed by a number, not by ${typeof value}`);
    const host = currentHost();
    if (host === null) throw new Error(`${this.#name} is observed before the handler is opened`);
    if (host !== this.#host) {
      this.#handle = host.metrics.register(this.#name, this.#kind, this.#labels);
      this.#host = host;
    }
    host.metrics.observe(this.#handle, value);
  }
}

/** Not undone if the message fails. */
export interface Counter {
  add(value?: number): void;
}

/** Not undone if the message fails. */
export interface Gauge {
  set(value: number): void;
}

/** Not undone if the message fails. */
export interface Histogram {
  observe(value: number): void;
}

/** A sum that grows. A name has letters, digits and `_`. */
export function counter(name: string, labels: Labels = {}): Counter {
  const metric = new Metric(name, "counter", labels);
  return { add: (value = 1) => metric.observe(value) };
}

/** A value that rises and falls. */
export function gauge(name: string, labels: Labels = {}): Gauge {
  const metric = new Metric(name, "gauge", labels);
  return { set: (value) => metric.observe(value) };
}

/** How values are spread. */
export function histogram(name: string, labels: Labels = {}): Histogram {
  return new Metric(name, "histogram", labels);
}
