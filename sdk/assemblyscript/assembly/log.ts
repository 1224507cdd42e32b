import { mark, putPairs, release } from "./abi";
import { logThreshold, logWrite } from "./contract";
import { utf8 } from "./text";

/** By the contract's numbers. */
export enum Level {
  Trace,
  Debug,
  Info,
  Warn,
  Error,
  Critical,
}

let partition = "";
let offset = "";

/** Says which message is run, for the lines that it logs; an empty partition is none. */
export function logsFor(ofPartition: string, atOffset: string): void {
  partition = ofPartition;
  offset = atOffset;
}

/** Lines of the log, with the partition and the offset of the message that is run. Not undone if it fails. */
export namespace log {
  export function write(level: Level, message: string, fields: Map<string, string> | null = null): void {
    if (<i32>level < logThreshold()) return;
    const since = mark();
    const names = partition.length == 0 ? new Array<string>() : ["partition", "offset"];
    const values = partition.length == 0 ? new Array<string>() : [partition, offset];
    const all = fields === null ? names : names.concat(fields.keys());
    const pairs = putPairs(all, fields === null ? values : values.concat(fields.values()));
    const words = utf8(message);
    logWrite(<i32>level, changetype<usize>(words), words.byteLength, pairs, all.length);
    release(since);
  }

  export function trace(message: string): void {
    write(Level.Trace, message);
  }

  export function debug(message: string): void {
    write(Level.Debug, message);
  }

  export function info(message: string): void {
    write(Level.Info, message);
  }

  export function warn(message: string): void {
    write(Level.Warn, message);
  }

  export function error(message: string): void {
    write(Level.Error, message);
  }

  export function critical(message: string): void {
    write(Level.Critical, message);
  }
}
