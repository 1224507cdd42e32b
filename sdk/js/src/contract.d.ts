// The contract's imports as the engine hands them to a component: see wit/handler.wit.
declare module "keyrail:handler/context@0.1.0" {
  const context: import("./host.js").Host["context"];
  export default context;
}
declare module "keyrail:handler/emit@0.1.0" {
  const emit: import("./host.js").Host["emit"];
  export default emit;
}
declare module "keyrail:handler/state@0.1.0" {
  const state: import("./host.js").Host["state"];
  export default state;
}
declare module "keyrail:handler/timers@0.1.0" {
  const timers: import("./host.js").Host["timers"];
  export default timers;
}
declare module "keyrail:handler/http@0.1.0" {
  const http: import("./host.js").Host["http"];
  export default http;
}
declare module "keyrail:handler/log@0.1.0" {
  const log: import("./host.js").Host["log"];
  export default log;
}
declare module "keyrail:handler/metrics@0.1.0" {
  const metrics: import("./host.js").Host["metrics"];
  export default metrics;
}
