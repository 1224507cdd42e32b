import { mark, putPairs, release } from "./abi";
import { metricsObserve, metricsRegister } from "./contract";
import { utf8 } from "./text";

enum Kind {
  Counter,
  Gauge,
  Histogram,
}

/** Registered when it is first observed, so that it can be a variable of a module. */
class Metric {
  private handle: u32 = 0;
  private isKnown: bool = false;

  constructor(
    private readonly name: string,
    private readonly kind: Kind,
    private readonly labels: Map<string, string> | null,
  ) {}

  observe(value: f64): void {
    if (!this.isKnown) {
      const since = mark();
      const labels = this.labels;
      const names = labels === null ? new Array<string>() : labels.keys();
      const pairs = putPairs(names, labels === null ? new Array<string>() : labels.values());
      const asked = utf8(this.name);
      this.handle = metricsRegister(changetype<usize>(asked), asked.byteLength, this.kind, pairs, names.length);
      this.isKnown = true;
      release(since);
    }
    metricsObserve(this.handle, value);
  }
}

/** A sum that grows. A name has letters, digits and `_`; the same name with other labels is another series. Not undone if the message fails. */
export class Counter {
  private readonly metric: Metric;

  constructor(name: string, labels: Map<string, string> | null = null) {
    this.metric = new Metric(name, Kind.Counter, labels);
  }

  add(value: f64 = 1): void {
    this.metric.observe(value);
  }
}

/** A value that rises and falls. Not undone if the message fails. */
export class Gauge {
  private readonly metric: Metric;

  constructor(name: string, labels: Map<string, string> | null = null) {
    this.metric = new Metric(name, Kind.Gauge, labels);
  }

  set(value: f64): void {
    this.metric.observe(value);
  }
}

/** How values are spread. Not undone if the message fails. */
export class Histogram {
  private readonly metric: Metric;

  constructor(name: string, labels: Map<string, string> | null = null) {
    this.metric = new Metric(name, Kind.Histogram, labels);
  }

  observe(value: f64): void {
    this.metric.observe(value);
  }
}
